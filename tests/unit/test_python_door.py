"""What an analyst does with the Python door: wrong uses get one line, results can be copied and sent to another process."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bisect_ai
from bisect_ai.errors import BisectError

QUERIES = [{"id": f"q{i}", "input": f"{i}+{i}", "reference": str(2 * i)} for i in range(60)]
TABLE = pd.DataFrame(
    [
        {"query": f"q{i}", "prompt": prompt, "model": model, "score": float(not (prompt and i % 2))}
        for i in range(60)
        for prompt in (0, 1)
        for model in (0, 1)
    ]
)


def _answer(query: Any, release: Any) -> dict[str, Any]:
    text = "no" if release["prompt"] == "B" and int(query.id[1:]) % 2 else query.reference
    return {"text": text, "usage": {"tokens": 12, "usd": 0.001}, "steps": ["retrieve", "answer"]}


def _run(**given: Any) -> bisect_ai.Result:
    settings: dict[str, Any] = {
        "good": {"prompt": "A", "model": "m1"},
        "bad": {"prompt": "B", "model": "m2"},
        "queries": QUERIES,
        "target": _answer,
        "scorers": {
            "correct": lambda query, answer: query.reference in answer.text,
            "steps": lambda query, answer: answer.steps,
        },
        "metric": "correct",
        "budget": {"calls": 240},
        "drill": False,
    }
    return bisect_ai.run(**{**settings, **given})


@pytest.fixture(scope="module")
def result() -> bisect_ai.Result:
    return _run()


def test_tokens_in_one_number_and_steps_as_a_list_are_counted(result: bisect_ai.Result) -> None:
    assert result.usage.tokens == 12 * result.usage.calls
    assert result.observations["tokens"].unique().tolist() == [12]
    assert result.observations["steps"].unique().tolist() == [2.0]


def test_the_usage_of_a_result_has_its_seconds(result: bisect_ai.Result) -> None:
    assert result.usage.seconds == result.to_dict()["usage"]["seconds"] > 0


def test_every_effect_has_every_field(result: bisect_ai.Result) -> None:
    effects = result.to_dict()["effects"]
    assert {effect["kind"] for effect in effects} > {"net"}
    for effect in effects:
        assert {"breaks", "mends", "proved"} <= set(effect)
        assert (effect["proved"] is None) == (effect["kind"] != "net")


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))], ids=["deepcopy", "pickle"]
)
def test_a_result_can_be_copied(result: bisect_ai.Result, copied: Callable[[Any], bisect_ai.Result]) -> None:
    twin = copied(result)
    assert twin.to_json() == result.to_json()
    assert twin.verdict == result.verdict
    assert twin.usage == result.usage
    pd.testing.assert_frame_equal(twin.answers, result.answers)
    pd.testing.assert_frame_equal(twin.observations, result.observations)


def test_a_release_that_was_copied_is_read_only_too(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("Be brief.\n", encoding="utf-8")
    (tmp_path / "r.yaml").write_text(
        "axes: {prompt: {system: {file: p.md}}}\nprovenance: {prompt: {owner: jo}}\n", encoding="utf-8"
    )
    release = bisect_ai.load_release(tmp_path / "r.yaml")
    twin = pickle.loads(pickle.dumps(release))
    assert (twin, dict(twin.axes), dict(twin.sources)) == (release, dict(release.axes), dict(release.sources))
    assert twin.provenance["prompt"] == {"owner": "jo"}
    with pytest.raises(TypeError):
        twin.axes["prompt"]["system"] = "changed"


def test_an_attributed_table_can_be_copied() -> None:
    found = bisect_ai.attribute(TABLE, axes=["prompt", "model"])
    twin = pickle.loads(pickle.dumps(found))
    assert twin.verdict == found.verdict
    with pytest.raises(bisect_ai.InputError, match="made now, not loaded"):
        _ = twin.model


def test_one_axis_may_be_named_as_text() -> None:
    narrow = TABLE[TABLE["model"] == 0]
    assert bisect_ai.attribute(narrow, axes="prompt").verdict.causes[0].axes == ("prompt",)


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda result: _run(progress="yes"), "progress is 'yes'; it takes True or False"),
        (lambda result: _run(couplings=["prompt"]), r"couplings.*takes a list.*write couplings: \[\[prompt, tools\]\]"),
        (lambda result: bisect_ai.attribute(5), "cannot read a table from 5: give a DataFrame"),
        (lambda result: result.plot_effects("introduce"), "cannot plot the effects of kind 'introduce': use one of introduced"),
        (lambda result: bisect_ai.load(5), "cannot load run 5: give its id"),  # type: ignore[arg-type]
    ],
    ids=["progress", "couplings", "table", "plot", "load"],
)
def test_a_wrong_use_is_told_in_one_line(result: bisect_ai.Result, use: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(bisect_ai.InputError, match=told) as caught:
        use(result)
    assert "\n" not in str(caught.value)


def test_the_history_of_no_store_makes_none(tmp_path: Path) -> None:
    with pytest.raises(BisectError, match="there is no store"):
        bisect_ai.history(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
