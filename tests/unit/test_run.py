"""`bisect_ai.run` from Python: the whole way, on small made-up applications."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bisect_ai
from bisect_ai.errors import ConfigError, InputError, QueryError, ReleaseError, TargetFailure

GOOD = {"model": "m1", "prompt": "be exact", "tools": "t1"}
BAD = {"model": "m2", "prompt": "be brief", "tools": "t2"}
QUERIES = [{"id": f"q{i}", "input": f"question {i}", "reference": "yes", "plan": i % 2} for i in range(120)]
CALLS: list[str] = []


def application(query: Any, release: Mapping[str, Any]) -> str:
    """Brief prompts break every third query."""
    CALLS.append(query.id)
    broken = release["prompt"] == "be brief" and int(query.id[1:]) % 3 == 0
    return "no" if broken else "yes"


def correct(query: Any, answer: bisect_ai.Answer) -> bool:
    return answer.text == query.reference


def run(**more: Any) -> bisect_ai.Result:
    CALLS.clear()
    settings = {
        "good": GOOD,
        "bad": BAD,
        "queries": QUERIES,
        "target": application,
        "scorers": {"correct": correct},
        "metric": "correct",
        "design": "full",
        "budget": {"calls": 960},
    }
    return bisect_ai.run(**{**settings, **more})


def test_the_verdict_and_its_tables() -> None:
    result = run()
    assert result.verdict.kind == "cause"
    assert [(c.axes, c.mode) for c in result.verdict.causes] == [(("prompt",), "alone")]
    assert result.verdict.rollback is not None
    assert result.verdict.rollback.axes == ("prompt",)
    assert result.verdict.rollback.value == 1.0
    assert result.verdict.keep == ("model", "tools")
    assert result.usage.calls == len(CALLS) == 960
    loss = result.to_dict()["loss"]
    assert loss["estimate"] == pytest.approx(1 / 3)
    assert (loss["good"], loss["n"]) == (1.0, 120)
    assert isinstance(result.effects, pd.DataFrame)
    shapley = result.effects[result.effects["kind"] == "shapley"].set_index("axes")
    assert shapley.loc[[("prompt",)], "estimate"].iloc[0] == pytest.approx(1 / 3)
    assert len(result.cells) == 8
    assert len(result.observations) == 960
    assert set(result.observations["correct"]) == {0.0, 1.0}
    assert result.to_dict()["schema"] == "bisect-ai/report@1"


def test_lower_is_better_is_turned_round_and_back() -> None:
    scorers = [
        {"kind": "python", "name": "mistakes", "function": lambda q, a: float(a.text != "yes"), "higher_is_better": False}
    ]
    result = run(scorers=scorers, metric="mistakes")
    assert [(c.axes, c.mode) for c in result.verdict.causes] == [(("prompt",), "alone")]
    loss = result.to_dict()["loss"]
    assert loss["estimate"] == pytest.approx(1 / 3)
    assert loss["good"] == pytest.approx(0.0)
    assert loss["bad"] == pytest.approx(1 / 3)


def test_a_repeated_run_makes_no_calls_and_the_same_bytes(tmp_path: Path) -> None:
    first = run(store=tmp_path / "store")
    second = run(store=tmp_path / "store")
    assert CALLS == []
    assert second.usage.calls == 0
    assert second.usage.cached == 960
    assert second.to_json() == first.to_json()
    assert first.to_dict()["usage"]["calls"] == 960


def test_an_interrupted_run_pays_only_for_the_rest_and_what_failed_counts_for_ever(tmp_path: Path) -> None:
    limit, asked = 300, list[str]()

    def stops(query: Any, release: Mapping[str, Any]) -> str:
        asked.append(query.id)
        if len(CALLS) >= limit:
            raise KeyboardInterrupt
        return application(query, release)

    stops.version = "1"  # type: ignore[attr-defined]
    with pytest.raises(TargetFailure):
        run(target=stops, store=tmp_path / "store")
    assert len(CALLS) == 300
    limit = 10**9
    result = run(target=stops, store=tmp_path / "store")
    assert len(asked) == result.to_dict()["usage"]["calls"] == 960
    assert "stopped at the call cap" in result.verdict.sentence
    more = run(target=stops, store=tmp_path / "store", budget={"calls": 1200})
    assert more.verdict.kind == "cause" and len(asked) == 960 + more.usage.calls


def test_another_tolerance_is_another_run_that_pays_nothing(tmp_path: Path) -> None:
    first = run(store=tmp_path / "store")
    other = run(store=tmp_path / "store", tolerance=0.05)
    assert CALLS == []
    assert other.report["run"] != first.report["run"]
    assert other.verdict.kind == "cause"


def test_a_tolerance_refused_in_mid_run_keeps_what_is_under_way(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def target(query: Any, release: Mapping[str, Any]) -> str:
        asked.append((query.id, str(release)))
        time.sleep(0.05 + 0.02 * (int(query.id[1:]) % 3))
        return "x" * (int(query.id[1:]) % 7)

    def length(query: Any, answer: bisect_ai.Answer) -> float:
        return len(answer.text) / 7

    own = {"target": {"kind": "python", "function": target, "version": "1", "concurrency": 8}, "scorers": {"length": length}}
    with pytest.raises(ConfigError, match="The answers so far are kept"):
        run(**own, metric="length", store=tmp_path / "store", tolerance=2.0, design="adaptive")
    assert 8 <= len(asked) < 120
    run(**own, metric="length", store=tmp_path / "store", tolerance=0.05, design="adaptive", budget={"calls": 200})
    assert len(set(asked)) == len(asked)


def test_a_frame_of_queries_and_a_running_loop() -> None:
    async def notebook() -> bisect_ai.Result:
        return run(queries=pd.DataFrame(QUERIES))

    assert asyncio.run(notebook()).verdict.kind == "cause"


def test_an_async_target() -> None:
    async def target(query: Any, release: Mapping[str, Any]) -> str:
        await asyncio.sleep(0)
        return application(query, release)

    assert run(target=target).verdict.kind == "cause"


def test_recorded_answers(tmp_path: Path) -> None:
    live = run()
    text = {1.0: "yes", 0.0: "no"}
    records = [{"query": o.query, "bad_axes": list(o.bad_axes), "text": text[o.scores["correct"] or 0.0]} for o in live.trials]
    replayed = run(target={"kind": "recorded", "records": records})
    assert CALLS == []
    assert replayed.verdict.causes == live.verdict.causes
    missing = [r for r in records if r["bad_axes"] != ["model"]]
    partial = run(target={"kind": "recorded", "records": missing})
    assert "infeasible" in {cell["status"] for cell in partial.to_dict()["cells"]}
    assert [c.axes for c in partial.verdict.causes] == [("prompt",)]


def test_log_columns_reach_target_and_scorer() -> None:
    seen = set()

    def target(query: Any, release: Mapping[str, Any]) -> str:
        seen.add(query["plan"])
        return application(query, release)

    run(target=target, scorers={"correct": lambda q, a: correct(q, a) and q["plan"] in (0, 1)})
    assert seen == {0, 1}


def test_failures_are_shown_and_warned_about_when_they_lean() -> None:
    def target(query: Any, release: Mapping[str, Any]) -> str:
        if release["tools"] == "t2" and int(query.id[1:]) % 10 == 0:
            raise TimeoutError("slow")
        return application(query, release)

    report = run(target=target).to_dict()
    assert any("lean to one side of tools" in w for w in report["warnings"])
    assert sum(c["errors"] for c in report["cells"]) == 48
    names = {m["name"]: m for m in report["side_metrics"]}
    assert names["failed"]["good"] == 0.0
    assert names["failed"]["bad"] == pytest.approx(0.1)
    assert names["correct, failures count as 0"]["bad"] == report["loss"]["bad"] == pytest.approx(0.6)  # the loss counts them


def test_drift_of_the_good_release_is_not_the_releases_fault() -> None:
    logged = [{**q, "release": "good", "scores": {"correct": 1.0}} for q in QUERIES]
    result = run(queries=logged, target=always("no"))
    assert result.verdict.kind == "drift"
    assert result.verdict.causes == ()
    assert 0 < result.usage.calls <= 240  # good and bad alone, until it is plain that nothing is lost between them
    assert {o.trial.cell for o in result.trials} == {0, 7}


def test_a_drop_that_replay_does_not_show() -> None:
    logged = [
        {**q, "release": "good" if i % 2 else "bad", "scores": {"correct": float(i % 2 or i % 4 == 0)}}
        for i, q in enumerate(QUERIES)
    ]
    result = run(queries=logged, target=always("yes"))
    assert result.verdict.kind == "not_reproduced"
    assert result.report["loss"]["logged"]["loss"] == pytest.approx(0.5)


def test_logged_scores_can_stand_in_for_trials_of_good_and_bad() -> None:
    def score(i: int) -> float:
        return float(not (i % 2 and i % 3 == 0))

    logged = [{**q, "release": "bad" if i % 2 else "good", "scores": {"correct": score(i)}} for i, q in enumerate(QUERIES)]
    free = run(queries=logged, log={"sample": None, "reuse": True})
    taken = [o for o in free.trials if o.logged]
    assert 70 <= len(taken) <= 120
    assert {o.trial.cell for o in taken} == {0, 7}
    assert free.usage.calls == len(CALLS) == 960 - len(taken)
    assert [(c.axes, c.mode) for c in free.verdict.causes] == [(("prompt",), "alone")]
    paid = run(queries=logged)
    assert paid.usage.calls == 960
    assert paid.report["loss"]["interval"] == free.report["loss"]["interval"]


def always(text: str) -> Any:
    def target(query: Any, release: Mapping[str, Any]) -> str:
        return text

    return target


def test_a_broken_scorer_is_named_and_scores_nothing() -> None:
    def broken(query: Any, answer: Any) -> float:
        raise ValueError("no such field")

    report = run(scorers={"correct": correct, "side": broken}).to_dict()
    assert any("scorer side failed on 960 answers" in w and "no such field" in w for w in report["warnings"])
    assert report["verdict"]["kind"] == "cause"


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"good": GOOD, "bad": GOOD}, ReleaseError, "identical"),
        ({"metric": "corect"}, ConfigError, "correct"),
        ({"budget": {"call": 3}}, ConfigError, "calls"),
        ({"tolerance": -1}, ConfigError, "tolerance"),
        ({"queries": []}, QueryError, "no records"),
        ({"target": {"kind": "telepathy"}}, ConfigError, "telepathy"),
        ({"target": 3}, ConfigError, "target"),
        ({"design": "clever"}, ConfigError, "design"),
    ],
)
def test_wrong_input_is_one_line_that_names_the_key(wrong: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        run(**wrong)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_the_figure_has_a_row_for_each_axis() -> None:
    import matplotlib

    matplotlib.use("Agg")
    axes = run().plot_effects()
    names = [text.get_text() for text in axes.texts]
    assert names[0] == "prompt"
    assert {"prompt", "model"} <= set(names)
    axes.figure.clf()


def test_the_report_is_json_without_nan(tmp_path: Path) -> None:
    text = run().to_json()
    assert json.loads(text, parse_constant=pytest.fail)["run"]


def test_a_time_cap_that_allows_no_call_is_inconclusive() -> None:
    result = run(budget={"minutes": 1e-9})
    assert result.verdict.kind == "inconclusive"
    assert "time cap" in result.verdict.sentence
    assert result.usage.calls == 0


@pytest.mark.parametrize("kind", ["contains", "exact", "numeric", "rouge_l", "tool_call", "json_fields", "retrieval_hit"])
def test_a_metric_that_compares_with_a_column_nobody_has_is_refused_before_the_first_call(kind: str) -> None:
    with pytest.raises(
        ConfigError, match=r"column 'answer', which no sampled query has.* the log has id, input, plan, reference"
    ):
        run(scorers=[{"kind": kind, "name": "correct", "expected": "answer"}])
    assert not CALLS


def test_a_column_that_some_queries_have_is_enough() -> None:
    sparse = [{**query, "reference": query["reference"] if number % 2 else None} for number, query in enumerate(QUERIES)]
    assert run(queries=sparse, scorers=[{"kind": "contains", "name": "correct"}]).usage.calls


def test_a_notebook_is_offered_the_public_names() -> None:
    assert set(bisect_ai.__all__) <= set(dir(bisect_ai))
    assert all(hasattr(bisect_ai, name) for name in dir(bisect_ai))


def test_a_metric_with_a_unit_is_told_in_it_though_its_values_lie_below_one() -> None:
    def slow(query: Any, release: Mapping[str, Any]) -> bisect_ai.Answer:
        return bisect_ai.Answer(
            text="yes", latency_s=0.2 + 0.4 * (release["prompt"] == "be brief") + int(query.id[1:]) % 7 / 100
        )

    result = run(target=slow, scorers=[{"kind": "latency"}], metric="latency")
    assert result.to_dict()["unit"] == "seconds"
    assert not result.to_dict()["percent"]
    assert "latency rises from 0.230 seconds to 0.630 seconds (a loss of 0.400 seconds," in result.verdict.sentence


def test_progress_of_a_graded_metric_is_in_the_units_of_its_card() -> None:
    """Scores between 0 and 1 that nobody declared a share: the card says points, and the progress said 0.170."""
    seen: list[bool] = []

    def watch() -> Any:
        return nullcontext(lambda progress: seen.append(progress.is_share))

    result = bisect_ai.run(
        good={"prompt": 0.9},
        bad={"prompt": 0.6},
        queries=[{"id": str(i), "input": f"q{i}"} for i in range(40)],
        target=lambda query, release: str(release["prompt"] * (1 - int(query.id) / 100)),
        scorers={"quality": lambda query, answer: float(answer.text)},
        budget={"calls": 200},
        progress=watch,
    )
    assert result.report["percent"] is True
    assert seen[1:] and all(seen[1:])
