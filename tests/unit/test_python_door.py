"""What an analyst does with the Python door: wrong uses get one line, results can be copied and sent to another process."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bisect_ai
from bisect_ai.errors import BisectError
from bisect_ai.report import terminal

QUERIES = [{"id": f"q{i}", "input": f"{i}+{i}", "reference": str(2 * i)} for i in range(60)]
TABLE = pd.DataFrame(
    [
        {"query": f"q{i}", "prompt": prompt, "model": model, "score": float(not (prompt and i % 2))}
        for i in range(60)
        for prompt in (0, 1)
        for model in (0, 1)
    ]
)

FRAME = pd.DataFrame(QUERIES)


def _answer(query: Any, release: Any) -> dict[str, Any]:
    text = "no" if release["prompt"] == "B" and int(query.id[1:]) % 2 else query.reference
    return {"text": text, "usage": {"tokens": 12, "usd": 0.001}, "steps": ["retrieve", "answer"]}


RESULTS = [{"id": f"q{i}", "input": f"{i}+{i}", "plan": "ab"[i % 2], "correct": float(i % 3 > 0)} for i in range(60)]
LIVE = [{**row, "id": f"{row['id']} {side}", "release": side} for side in "xy" for row in RESULTS]
WITHOUT = [{**row, "correct": None} for row in RESULTS]
TIMED = TABLE.assign(score=pd.to_timedelta(TABLE["score"], unit="s"))


def _attribute(**given: Any) -> bisect_ai.Result:
    return bisect_ai.attribute(TABLE, **{"axes": ["prompt", "model"], **given})


def _compare(**given: Any) -> bisect_ai.Result:
    return bisect_ai.compare(RESULTS, [{**row, "correct": 0.0} for row in RESULTS], metric="correct", **given)


def _canary(**given: Any) -> bisect_ai.Result:
    return bisect_ai.canary(
        LIVE, baseline="x", canary="y", metric="correct", settings={"columns": {"scores": "correct"}}, **given
    )


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


@pytest.mark.parametrize("column", ["plan", "row.plan"])
def test_results_are_compared_within_a_column(column: str) -> None:
    assert _compare(segment=column).segments["name"].tolist()[:2] == [f"{column} = a", f"{column} = b"]


def test_paths_may_come_as_a_list(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, scores in zip(paths, (1.0, 0.0), strict=True):
        pd.DataFrame(RESULTS).assign(correct=scores).to_csv(path, index=False)
    told = bisect_ai.compare(list(map(str, paths)), metric="correct")
    assert told.to_json() == bisect_ai.compare(*map(str, paths), metric="correct").to_json()


def test_a_release_may_hold_numbers_of_numpy() -> None:
    found = _run(good={"prompt": "A", "k": np.float64(0.5)}, bad={"prompt": "B", "k": np.float64(0.7)})
    assert found.verdict.causes[0].axes == ("prompt",)
    assert found.changes.set_index("axis").loc["k", "before"] == 0.5


def test_bins_months_and_arrays_inside_cells_are_read() -> None:
    """What pandas makes of columns: `pd.cut` for segments, `pd.period_range` for months, arrays in mappings."""
    bins = pd.cut(range(len(FRAME)), 2, labels=None)
    months = pd.period_range("2026-01", periods=len(FRAME), freq="M")
    found = _run(
        queries=FRAME.assign(bin=bins, month=months, meta=[{"v": np.array([1, 2])}] * len(FRAME)), log={"segment": "bin"}
    )
    assert set(found.segments["name"]) == {f"bin = {each}" for each in bins.categories}


def test_where_the_scorer_gave_no_scores_the_card_says_to_mend_it() -> None:
    """It is finite for a few answers of the bad release alone, so that it does not fail ten times in a row."""
    scores = {"correct": lambda query, answer: float("inf") if answer.text == query.reference else 0.0}
    card = " ".join(terminal.card(_run(scorers=scores).report).split())
    assert "once the scorer is mended: answers are not paid twice; scorer correct failed on" in card
    assert "allow more calls" not in card


def test_a_fix_may_be_verified_of_a_result(tmp_path: Path) -> None:
    settings = {"store": tmp_path / "store", "budget": {"calls": 400}}
    found = _run(**settings)
    told = bisect_ai.verify(
        found,
        {"prompt": "A, mended", "model": "m2"},
        good={"prompt": "A", "model": "m1"},
        bad={"prompt": "B", "model": "m2"},
        queries=QUERIES,
        target=_answer,
        scorers={"correct": lambda query, answer: query.reference in answer.text},
        **settings,
    )
    assert told.to_dict()["verify"]["run"] == found.report["run"]


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda result: _run(progress="yes"), "progress is 'yes'; it takes True or False"),
        (lambda result: _run(couplings=["prompt"]), r"couplings.*takes a list.*write couplings: \[\[prompt, tools\]\]"),
        (lambda result: bisect_ai.attribute(5), "cannot read a table from 5: give a DataFrame"),
        (lambda result: result.plot_effects("introduce"), "cannot plot the effects of kind 'introduce': use one of introduced"),
        (lambda result: bisect_ai.load(5), "cannot load run 5: give its id"),  # type: ignore[arg-type]
        (lambda result: _attribute(alpha="x"), "attribute: key 'alpha': it takes a number"),
        (lambda result: _attribute(alpha=95), "did you mean 0.05"),
        (lambda result: _attribute(tolerance="2%"), "did you mean 0.02"),
        (lambda result: _attribute(tolerance=float("nan")), "a finite number"),
        (lambda result: _attribute(incomplete="dorp"), "did you mean 'drop'"),
        (lambda result: _attribute(higher_is_better="lower"), "it takes true or false"),
        (lambda result: _attribute(axes=["prompt", "prompt"]), "name each axis' column once"),
        (lambda result: _attribute(axes=5), "name each axis' column once"),
        (lambda result: bisect_ai.attribute(TABLE.to_dict("list"), axes=["prompt"]), "cannot read a table from"),
        (lambda result: _compare(alpha="x"), "compare: key 'alpha': it takes a number"),
        (lambda result: _compare(settings={"colums": {}}), "unknown key 'log.colums'; did you mean 'columns'"),
        (lambda result: _compare(settings=5), "key 'log': it takes keys with values"),
        (lambda result: _compare(segment="plann"), "no question of the results has a column 'plann'"),
        (lambda result: bisect_ai.onset(RESULTS, alpha="x"), "onset: key 'alpha'"),  # type: ignore[arg-type]
        (lambda result: bisect_ai.onset(RESULTS, settings={"whre": "x"}), "unknown key 'log.whre'; did you mean 'where'"),
        (lambda result: bisect_ai.verify(5, {"prompt": "C"}), "cannot verify a fix of run 5"),  # type: ignore[arg-type]
        (lambda result: _canary(guards="cost:+10"), "guard.*cost"),
        (
            lambda result: bisect_ai.compare(RESULTS, WITHOUT, metric="correct"),
            "'correct' in every configuration: 'table 2' has none",
        ),
        (
            lambda result: bisect_ai.attribute(TIMED, axes=["prompt", "model"]),
            "'score' must hold numbers: it holds timedelta64",
        ),
        (lambda result: _run(queries=FRAME[[*FRAME.columns, "input"]]), "queries has two columns named 'input'"),
    ],
)
def test_a_wrong_use_is_told_in_one_line(result: bisect_ai.Result, use: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(bisect_ai.InputError, match=told) as caught:
        use(result)
    assert "\n" not in str(caught.value)


def test_the_history_of_no_store_makes_none(tmp_path: Path) -> None:
    with pytest.raises(BisectError, match="there is no store"):
        bisect_ai.history(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_packages_that_the_readme_lets_out_are_not_needed_by_a_run() -> None:
    code = """
import sys
left_out = dict.fromkeys(["litellm", "openai", "matplotlib", "statsmodels", "patsy", "sklearn"])
sys.modules.update(left_out)  # importing them raises
import bisect_ai
answer = lambda query, release: "no" if release["prompt"] == "bad" and int(query.id[1:]) % 3 else "yes"
axes = ("prompt", "model")
queries = [{"id": f"q{i}", "input": "?", "reference": "yes"} for i in range(200)]
scorers = [{"kind": "exact", "name": "correct"}]
given = {"good": dict.fromkeys(axes, "good"), "bad": dict.fromkeys(axes, "bad"), "queries": queries, "scorers": scorers}
for design in ("adaptive", "full"):
    result = bisect_ai.run(**given, target=answer, metric="correct", budget={"calls": 600}, design=design)
    assert result.verdict.kind == "cause", result.verdict
    result.to_markdown(), result.to_dict(), print(result)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
