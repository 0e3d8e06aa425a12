"""Where calls that fail are the cause: the error is on the card, among examples and answers, and segments count it as the loss does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai import Query
from bisect_ai.facts.run_warnings import most_frequent_errors
from bisect_ai.report import html, terminal
from bisect_ai.result import Result


def answer(query: Query, release: Mapping[str, Any]) -> str:
    """Every third call fails under the new corpus; the error differs in a number alone."""
    number = int(query.id[1:])
    if release["corpus"] == "new" and number % 3 == 0:
        raise RuntimeError(f"502 from search.internal: connection {number} \x1b[31mrefused")
    return "yes"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    queries = [
        {"id": f"q{i}", "input": f"question {i}?", "reference": "yes", "part": "ab"[i % 6 == 3 or i % 2]} for i in range(120)
    ]
    store: Path = tmp_path_factory.mktemp("run") / "store"
    releases = [{"corpus": word, "prompt": word} for word in ("old", "new")]
    scorers = [{"kind": "exact", "name": "correct", "expected": "reference"}]
    return bisect_ai.run(
        good=releases[0],
        bad=releases[1],
        queries=queries,
        target=answer,
        scorers=scorers,
        metric="correct",
        store=store,
        log={"segment": "part"},
    )


def test_the_card_says_what_calls_fail_with(result: Result) -> None:
    card = " ".join(terminal.card(result.report).split())
    assert card.startswith("corpus alone causes the drop, as calls fail (")
    assert "calls fail with: RuntimeError: 502 from search.internal: connection " in card
    failed = result.report["usage"]["errors"]
    assert f"refused ({failed} calls)" in card and "\x1b" not in card


def test_examples_and_answers_show_the_error(result: Result) -> None:
    assert all(example["bad"]["failed"] and "502 from" in example["bad"]["text"] for example in result.report["examples"])
    page = html.pages(result.report, result.answered())[0]
    assert 'data-outcome="failed"' in page and "not scored" not in page
    failed = result.answers[result.answers["answer"].str.contains("502 from")]
    assert len(failed) and failed["score"].isna().all()


def test_segments_count_failed_calls_as_the_loss_does(result: Result) -> None:
    losses = [part["loss"] for part in result.report["segments"] if part["found_by"] == "given"]
    assert len(losses) == 2 and max(losses) > 0.2, result.report["segments"]
    shares = [part["share"] for part in result.report["segments"] if part["found_by"] == "given"]
    whole = sum(loss * share for loss, share in zip(losses, shares, strict=True))
    assert whole == pytest.approx(result.report["loss"]["estimate"], abs=0.05)


def test_errors_that_differ_in_digits_are_one() -> None:
    told = most_frequent_errors(["timeout after 3 s", "refused", "timeout after 41 s"])
    assert [(each.error, each.calls) for each in told] == [("timeout after 3 s", 2), ("refused", 1)]
