"""Everything that comes back is an outcome: failures, gaps, scores that move in a run, copies of a query, open scales."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import bisect_ai
from bisect_ai.attribution.problem import Outcome, Problem
from bisect_ai.attribution.search.net_search import NetSearch
from bisect_ai.attribution.stats.change_points import find_trend
from bisect_ai.errors import ConfigError, InputError

AXES = ("model", "prompt", "corpus", "tools")


def one_of(axes: Any, word: str) -> dict[str, str]:
    return dict.fromkeys(axes, word)


def ask(answer: Any, *, axes: Any = AXES, n: int = 400, calls: int = 1600, **how: Any) -> Any:
    queries = [{"id": f"q{i}", "input": f"question {i}"} for i in range(n)]
    given = {"scorers": {"s": lambda q, a: float(a.text)}, "metric": "s", "drill": False, **how}
    return bisect_ai.run(
        good=one_of(axes, "good"), bad=one_of(axes, "bad"), queries=queries, target=answer, budget={"calls": calls}, **given
    )


@pytest.mark.parametrize("design", ["adaptive", "full"])
def test_an_axis_that_makes_answers_fail_is_named_with_that_word(design: str) -> None:
    rnd = random.Random(1)
    hit, base = [rnd.random() < 0.2 for _ in range(400)], [rnd.random() < 0.85 for _ in range(400)]

    def answer(query: Any, release: Any) -> str:
        i = int(query.id[1:])
        if release["tools"] == "bad" and hit[i]:
            raise TimeoutError("tool call timed out")
        return str(float(base[i]))

    result = ask(answer, axes=("model", "tools"), design=design)
    cause = result.report["verdict"]["causes"][0]
    assert cause["axes"] == ["tools"] and cause["failing"]["without"] == 0 and cause["failing"]["with"] > 0.1
    assert "tools alone makes answers fail" in result.verdict.sentence


def test_failures_lean_to_the_axis_that_makes_them_and_to_no_other() -> None:
    """Good and bad run most: over all cells failures would seem to come with every axis."""
    rnd = random.Random(1)
    hit, base = [rnd.random() < 0.18 for _ in range(1200)], [rnd.random() < 0.85 for _ in range(1200)]

    def answer(query: Any, release: Any) -> str:
        i = int(query.id[1:])
        if release["tools"] == "bad" and hit[i] and base[i] and rnd.random() < 0.9:
            raise TimeoutError("tool call timed out")
        return str(float(base[i] != (rnd.random() < 0.03)))

    result = ask(answer, n=1200, calls=2400, concurrency=1)
    leaning = [line.partition(":")[0] for line in result.report["warnings"] if line.startswith("failures lean")]
    assert leaning == ["failures lean to one side of tools"]


@pytest.mark.parametrize("missing", ["failed", "unscored"])
def test_values_and_loss_are_of_the_same_queries(missing: Any) -> None:
    """The good release lacks scores on the failing half; every pair that is complete is equal."""
    rows = [
        {"query": f"q{q}", "prompt": p, "score": None if p == 0 and q % 2 else float(q % 2 == 0)}
        for q in range(100)
        for p in (0, 1)
    ]
    report = bisect_ai.attribute(rows, axes=["prompt"], missing=missing).report
    assert report["loss"]["estimate"] == 0 and report["loss"]["good"] == report["loss"]["bad"]
    assert report["loss"]["bounds"][1] > 0.4 and report["verdict"]["kind"] == "inconclusive"


def test_a_tape_miss_is_censored_and_a_failure_is_not() -> None:
    def talk(status: Any) -> Any:
        search = NetSearch(Problem(AXES, 300, 900, seed=1))
        while trials := search.ask(32):
            lost = [t.cell >> 3 & 1 and t.query % 4 == 0 for t in trials]
            search.tell([Outcome(t, None, status) if x else Outcome(t, 1.0) for t, x in zip(trials, lost, strict=True)])
        return search.result()

    assert [c.axes for c in talk("error").causes] == [("tools",)]
    assert not talk("missing").causes and talk("missing").loss.value == 0


@pytest.mark.parametrize(("sinks", "most", "least"), [(0.15, 20, 14), (0.0, 2, 0)])
def test_scores_that_sink_in_the_run_are_found(sinks: float, most: int, least: int) -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 3])
        rates = np.where(np.arange(700) < 350, 0.85, 0.85 - sinks)
        scores, cells = (rng.random(700) < rates).astype(float), rng.choice([0, 15], 700)
        trend = find_trend(cells, scores, np.arange(700), corners=(0, 15), seed=seed)
        found += trend is not None and (sinks == 0 or trend.move < 0)
    assert least <= found <= most


def test_queries_that_answer_alike_under_both_releases_are_no_trend() -> None:
    """Most queries pass or fail under both; taken as independent, a tenth of steady runs told of scores that moved."""
    found = 0
    for seed in range(100):
        passes = (np.random.default_rng([seed, 4]).random(150) < 0.85).astype(float)
        trend = find_trend(
            np.tile([0, 15], 150), np.repeat(passes, 2), np.repeat(np.arange(150), 2), corners=(0, 15), seed=seed
        )
        found += trend is not None
    assert found <= 4


def test_a_move_that_is_large_beside_the_loss_is_in_the_sentence() -> None:
    rnd, calls = random.Random(4), [0]

    def answer(query: Any, release: Any) -> str:
        calls[0] += 1
        return str(float(rnd.random() < (0.9 if calls[0] < 400 else 0.6)))

    result = ask(answer, calls=900, concurrency=4)
    assert result.report["trend"]["move"] < -0.1
    assert "while the run went on" in result.verdict.sentence and any("permutation" in w for w in result.report["warnings"])


@pytest.mark.parametrize(("log", "detected"), [({}, True), ({"independent": True}, False)])
def test_copies_of_one_text_are_clusters(log: dict[str, Any], detected: bool) -> None:
    queries = [{"id": f"q{i}", "input": f"Ask  {i % 60} me"} for i in range(240)]
    result = bisect_ai.run(
        good={"a": "good"},
        bad={"a": "bad"},
        queries=queries,
        target=lambda query, release: str(float(release["a"] == "good" or int(query.input.split()[1]) % 4 > 0)),
        scorers={"s": lambda q, a: float(a.text)},
        budget={"calls": 480},
        log={"sample": None, **log},
        design="full",
    )
    low, high = result.report["loss"]["interval"]
    assert ("cluster-robust" in result.report["loss"]["method"]) == detected
    assert any("word for word" in w for w in result.report["warnings"]) == detected
    assert result.report["loss"]["estimate"] == pytest.approx(0.25) and low < 0.25 < high


@pytest.mark.parametrize("work", [bisect_ai.run, bisect_ai.audit])
@pytest.mark.parametrize(
    "scorers", [[{"kind": "contains", "name": "s", "expected": "id"}], {"s": lambda q, a: len(a.text) < 3}]
)
def test_a_tolerance_as_large_as_the_scale_is_refused(work: Any, scorers: Any) -> None:
    given = {"good": {"a": "x"}, "bad": {"a": "yyyy"}, "target": lambda q, r: r["a"], "scorers": scorers, "tolerance": 5}
    with pytest.raises(ConfigError, match=r"did you mean 0\.05\?"):
        work(queries=[{"id": f"q{i}", "input": str(i)} for i in range(40)], **given)


def test_a_table_knows_its_scale_too() -> None:
    rows = [{"query": q, "a": a, "score": float(a and q % 3 == 0)} for q in range(30) for a in (0, 1)]
    with pytest.raises(InputError, match=r"did you mean 0\.05"):
        bisect_ai.attribute(rows, axes=["a"], tolerance=5)
    seconds = [{**row, "score": 10 + row["score"]} for row in rows]
    assert "losses below 0.5" in bisect_ai.attribute(seconds, axes=["a"]).report["warnings"][0]


def test_the_default_tolerance_of_an_open_scale_is_told_and_repeats(tmp_path: Any) -> None:
    def answer(query: Any, release: Any) -> str:
        return "x" * (100 if release["model"] == "good" else 103)

    given: dict[str, Any] = {"scorers": [{"kind": "length", "name": "len"}], "metric": "len", "store": tmp_path, "calls": 400}
    first, again = ask(answer, **given), ask(answer, **given)
    assert first.verdict.kind == "no_regression" and any("below 5 characters" in w for w in first.report["warnings"])
    assert again.usage.calls == 0 and again.report["verdict"] == first.report["verdict"]


@pytest.mark.parametrize("tail", ["lognormal", "pareto"])
@pytest.mark.parametrize("budget", [600, 2400])
def test_heavy_tails_raise_no_false_alarm(tail: str, budget: int) -> None:
    """Costs of four axes that change nothing; 40 seeds: at most 5 % name a cause, plus two standard errors."""
    alarms = sum(null_of_costs(tail, seed, budget) == "cause" for seed in range(40))
    assert alarms <= 4


def null_of_costs(tail: str, seed: int, budget: int) -> str:
    rng = np.random.default_rng([seed, 77])
    n = 1200
    level = np.exp(rng.normal(0, 0.6, n)) if tail == "lognormal" else np.ones(n)
    search, good = NetSearch(Problem(AXES, n, budget, seed=seed)), list[float]()
    known = False
    while trials := search.ask(32):
        noise = np.exp(rng.normal(0, 0.8, len(trials))) if tail == "lognormal" else rng.pareto(1.5, len(trials)) + 1
        costs = -level[[t.query for t in trials]] * noise
        search.tell([Outcome(t, float(y)) for t, y in zip(trials, costs, strict=True)])
        good += [float(-y) for t, y in zip(trials, costs, strict=True) if t.cell == 0]
        if not known and len(good) >= 12:
            known = True
            search.set_tolerance(0.05 * float(np.mean(good)))
    return search.result().kind
