"""The bundled incident: what it holds, and that its loss comes out of the replay of what its files say."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.queries.query import Query
from bisect_ai.release.load import Release, changed_axes, compose, load_release
from bisect_ai.release.references import read_mapping
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.litellm_target import LitellmTarget

HELPDESK = Path(__file__).parents[2] / "fixtures" / "helpdesk"
AXES = ("model", "prompt", "corpus", "tools", "context")
RECORDS = [json.loads(line) for line in (HELPDESK / "logs/queries.jsonl").read_text(encoding="utf-8").splitlines()]
SOME = [Query(record) for record in RECORDS[::6]]
ORDERS = [query for query in SOME if query["intent"] == "order_status"]
PARCEL = next(query for query in SOME if query["intent"] == "parcel")
BASIL = Query({"id": "basil", "input": "Above how many degrees does basil stand outside?", "reference": "12 degrees"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to edit, with a stand-in that never errs by chance."""
    copy = tmp_path / "helpdesk"
    shutil.copytree(HELPDESK, copy, ignore=shutil.ignore_patterns("__pycache__", "logs"))
    edit(copy, "stand_in.py", "NOISE = 0.03", "NOISE = 0.0")
    return copy


def edit(folder: Path, name: str, before: str, after: str) -> None:
    file = folder / name
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def releases(folder: Path) -> tuple[Release, Release]:
    return load_release(folder / "releases/2026-11-13.yaml"), load_release(folder / "releases/2026-11-20.yaml")


def target_of(folder: Path) -> LitellmTarget:
    return LitellmTarget(read_mapping(folder / "bisect.yaml")["target"], folder=folder)


def replay(folder: Path, queries: list[Query], *bad_axes: str, target: LitellmTarget | None = None) -> list[Answer]:
    release = compose(*releases(folder), bad_axes)
    answering = target or target_of(folder)

    async def run() -> list[Answer]:
        return [await answering(query, release, 0) for query in queries]

    answers = asyncio.run(run())
    assert [answer.error for answer in answers] == [None] * len(answers)
    return answers


def value(folder: Path, *bad_axes: str, queries: list[Query] = SOME) -> float:
    answers = replay(folder, queries, *bad_axes)
    right = [str(q.reference).lower() in a.text.lower() for q, a in zip(queries, answers, strict=True)]
    return sum(right) / len(right)


def test_the_folder_holds_an_incident_of_the_promised_size() -> None:
    good, bad = releases(HELPDESK)
    assert set(changed_axes(good, bad)) == set(AXES)
    assert set(good.provenance) == set(bad.provenance) == set(AXES)
    documents, newer = (release.axes["corpus"]["documents"] for release in (good, bad))  # type: ignore[index,call-overload]
    assert len(documents) >= 60 and set(documents) == set(newer)
    assert 0.5 < sum(newer[name] == text for name, text in documents.items()) / len(documents) < 0.9
    assert len(good.axes["tools"]) >= 3  # type: ignore[arg-type]
    assert len(RECORDS) >= 400 and len({record["id"] for record in RECORDS}) == len(RECORDS)
    assert len({record["intent"] for record in RECORDS}) >= 6
    assert Counter(record["release"] for record in RECORDS) == {good.name: 300, bad.name: 300}
    assert all(record["reference"] and record["output"] and "correct" in record["scores"] for record in RECORDS)
    assert any(record.get("history") for record in RECORDS)


def test_the_logged_scores_show_the_drop() -> None:
    weeks = [[r["scores"]["correct"] for r in RECORDS if r["release"] == name] for name in ("2026-11-13", "2026-11-20")]
    before, after = (sum(week) / len(week) for week in weeks)
    assert 0.12 < before - after < 0.24


def test_only_prompt_and_tools_together_lose(folder: Path) -> None:
    good = value(folder)
    assert good > 0.95
    for axes in [("prompt",), ("tools",), ("corpus",), ("context",), ("corpus", "context", "tools")]:
        assert value(folder, *axes) == good, axes
    orders = len(ORDERS) / len(SOME)
    assert 0.16 < orders < 0.24
    assert value(folder, "prompt", "tools") == pytest.approx(good - orders)
    assert value(folder, *AXES) >= good - orders


def test_the_new_model_is_a_little_better_and_the_new_corpus_is_longer(folder: Path) -> None:
    queries = [Query(record) for record in RECORDS if record["intent"] in ("account", "returns", "plans")]
    assert value(folder, "model", queries=queries) > value(folder, queries=queries)
    short, long = (sum(len(a.text) for a in replay(folder, SOME, *axes)) for axes in ((), ("corpus",)))
    assert 1.15 < long / short < 1.5


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("prompts/system-2026-11-20.md", '{"customer_id": "FH-10001"}', '{"customerId": "FH-10001"}'),
        (
            "prompts/system-2026-11-20.md",
            'Copy the format of this call: get_orders {"customer_id": "FH-10001"}',
            "Fill in the fields that the tool's schema names, and only those.",
        ),
        ("tools-2026-11-20.json", '"customerId"', '"customer_id"'),
    ],
)
def test_mending_one_line_of_the_bad_release_mends_it(folder: Path, name: str, before: str, after: str) -> None:
    assert value(folder, *AXES, queries=ORDERS) == 0.0
    edit(folder, f"releases/{name}", before, after)
    assert value(folder, *AXES, queries=ORDERS) == 1.0


def test_a_refused_call_names_the_field_that_was_renamed(folder: Path) -> None:
    answer = replay(folder, ORDERS[:1], "prompt", "tools")[0]
    assert [call.error for call in answer.tool_calls] == [
        "invalid arguments: missing field 'customerId'; unknown field 'customer_id'"
    ]


def test_an_edited_article_or_instruction_changes_the_answer(folder: Path) -> None:
    text = replay(folder, [BASIL])[0].text
    assert "12 degrees" in text and text.endswith("Kind regards, Fernhollow")
    edit(folder, "releases/corpus-2026-11-13/plants/basil.md", "12 degrees", "9 degrees")
    edit(folder, "releases/prompts/system-2026-11-13.md", "at most two sentences", "at most one sentence")
    edit(folder, "releases/prompts/system-2026-11-13.md", "Kind regards, Fernhollow", "Bye")
    assert replay(folder, [BASIL])[0].text == "Basil stands outside only above 9 degrees. Bye"


def test_what_it_cannot_know_it_passes_on_when_told_so_and_guesses_otherwise(folder: Path) -> None:
    question = Query({"id": "odd", "input": "Does the moon sing opera at night?"})
    assert "colleague" in replay(folder, [question])[0].text
    edit(folder, "releases/prompts/system-2026-11-13.md", "- If you are not sure, say so and pass", "- Never pass")
    assert "colleague" not in replay(folder, [question])[0].text


def test_a_tool_is_filled_by_the_names_in_its_schema(folder: Path) -> None:
    edit(folder, "releases/tools-2026-11-13.json", '"tracking_code"', '"code"')
    call = replay(folder, [PARCEL])[0].tool_calls[0]
    assert list(call.arguments) == ["code"] and call.error is None
    assert PARCEL.reference in replay(folder, [PARCEL])[0].text


def test_a_run_repeats_itself_and_an_immediate_repeat_may_differ() -> None:
    first, second = (target_of(HELPDESK) for _ in range(2))
    texts = [[a.text for a in replay(HELPDESK, SOME, "model", target=target)] for target in (first, second)]
    assert texts[0] == texts[1]
    again = [a.text for a in replay(HELPDESK, SOME, "model", target=first)]
    differing = sum(a != b for a, b in zip(texts[0], again, strict=True)) / len(SOME)
    assert 0 < differing < 0.15


def test_the_script_beside_it_writes_the_shipped_articles_and_questions(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("helpdesk_make_log", folder / "make_log.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    articles = read_mapping(folder / "help_articles.yaml")
    script.write_corpora(articles)
    for written in sorted((folder / "releases").rglob("*.md")):
        assert written.read_bytes() == (HELPDESK / written.relative_to(folder)).read_bytes()
    made: list[dict[str, Any]] = script.make_queries(articles, random.Random(script.SEED))
    kept = [{key: item for key, item in record.items() if key not in ("output", "scores")} for record in RECORDS]
    assert made == kept
