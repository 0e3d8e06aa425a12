"""What every run tells besides the metric that decides: length, cost, latency, tokens, tools, refusals, format, failures.

Each with good, bad and the paired change, and by axis where the cells that ran allow it. Shown apart; they decide nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bisect_ai.attribution.compare import compare
from bisect_ai.attribution.contrasts import bits
from bisect_ai.attribution.factorial import table_of
from bisect_ai.attribution.findings import factorial_contrast
from bisect_ai.attribution.inference import estimate, holm
from bisect_ai.attribution.problem import Floats
from bisect_ai.ledger import Observation
from bisect_ai.queries.query import Query
from bisect_ai.scoring.contents import Refusal, json_of

if TYPE_CHECKING:
    from bisect_ai.study import Outcomes, Prepared

MOST_TOOLS = 8
MOST_TEXTS = 500
"""Queries whose texts are read: the first ones of the sample, which are a random part of it."""
FEWEST = 20
_NO_QUERY = Query({"id": "", "input": ""})
Value = Callable[[Observation], float | None]


@dataclass(frozen=True)
class Metric:
    """A number of every trial, and what it means. `higher_is_better` None: neither."""

    name: str
    unit: str
    higher_is_better: bool | None
    value: Value


def side_metrics(outcomes: Outcomes) -> list[dict[str, Any]]:
    """The rows of the report, the user's own scorers first."""
    trials = _Trials(outcomes)
    rows = [_row(outcomes, metric, trials) for metric in _metrics(outcomes, trials)]
    kept = [row for row in rows if row is not None]
    failed = next((r for r in kept if r["name"] == "failed"), None)
    quiet = failed is None or (not failed["good"] and not failed["bad"])
    return [r for r in kept if not (quiet and (r["name"] == "failed" or r["name"].endswith("failures count as 0")))]


def _metrics(outcomes: Outcomes, trials: _Trials) -> Iterator[Metric]:
    prepared = outcomes.prepared
    named = set(prepared.scorers)
    for scorer in prepared.scorers.values():
        if scorer.name != prepared.metric.name:
            yield Metric(scorer.name, scorer.unit, scorer.higher_is_better, lambda o, n=scorer.name: o.score(n))  # type: ignore[misc]  # mypy does not see the default
    for metric in _built_in(outcomes, trials):
        if metric.name not in named:
            yield metric
    yield Metric("failed", "share", False, lambda o: float(o.error is not None or o.failed is not None))
    yield Metric(f"{prepared.metric.name}, failures count as 0", "", True, lambda o: _with_failures(o, prepared))


def _built_in(outcomes: Outcomes, trials: _Trials) -> Iterator[Metric]:
    texts = _Texts(outcomes, trials)
    yield Metric("length", "characters", None, texts.of("length"))
    yield Metric("refusal", "share", False, texts.of("refusal"))
    if texts.mostly_json():
        yield Metric("valid JSON", "share", True, texts.of("json"))
    yield Metric("cost", "USD", False, lambda o: None if o.error or o.logged else o.usd or None)
    yield Metric("latency", "seconds", False, lambda o: None if o.error or o.logged else o.latency_s)
    yield Metric("tokens", "tokens", False, lambda o: None if o.error or o.logged else float(o.tokens) or None)
    yield Metric("requests", "requests", False, lambda o: None if o.logged or o.attempts < 1 else float(o.attempts))
    for tool in texts.tools():
        yield Metric(f"calls of {tool}", "calls", None, texts.of(f"tool {tool}"))


def _with_failures(o: Observation, prepared: Prepared) -> float | None:
    if o.error is not None:
        return 0.0 if prepared.metric.higher_is_better else None
    return o.score(prepared.metric.name)


class _Trials:
    """The first trials of every cell, sorted out once: many metrics are read from them."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.queries = len(outcomes.prepared.sample.queries)
        self._first: dict[int, list[tuple[int, Observation]]] = {}
        for o in outcomes.ledger.observations:
            trial = o.trial
            if not trial.repeat and not o.infeasible:
                self._first.setdefault(trial.cell, []).append((trial.query, o))

    @property
    def cells(self) -> list[int]:
        """The cells that ran."""
        return sorted(self._first)

    def first(self, cell: int) -> list[tuple[int, Observation]]:
        """(query, trial) of a cell."""
        return self._first.get(cell, [])

    def column(self, cell: int, value: Value) -> Floats:
        """(n,) a value of each query's first trial in a cell; NaN: none."""
        column = np.full(self.queries, np.nan)
        for query, o in self.first(cell):
            found = value(o)
            column[query] = np.nan if found is None else found
        return column


class _Texts:
    """What the texts and tool calls of the answers say, each answer read once."""

    def __init__(self, outcomes: Outcomes, trials: _Trials) -> None:
        self._outcomes, self._trials = outcomes, trials
        self._facts: dict[int, dict[str, float]] = {}
        self._refuses = Refusal()
        for cell in (0, outcomes.prepared.problem.full):
            for _, o in trials.first(cell):
                self._read(o)

    def of(self, name: str) -> Value:
        """The named fact of a trial; of a tool that was not called 0."""
        absent = 0.0 if name.startswith("tool ") else None

        def value(o: Observation) -> float | None:
            facts = self._read(o)
            return None if facts is None else facts.get(name, absent)

        return value

    def mostly_json(self) -> bool:
        """Whether the good release answers in JSON, but for a few."""
        good = [self._read(o) for _, o in self._trials.first(0)]
        known = [facts["json"] for facts in good if facts is not None]
        return bool(known) and float(np.mean(known)) > 0.8

    def tools(self) -> list[str]:
        """The tools that were called most, by name."""
        counts = Counter(name[5:] for facts in self._facts.values() for name in facts if name.startswith("tool "))
        return sorted(tool for tool, _ in counts.most_common(MOST_TOOLS))

    def _read(self, o: Observation) -> dict[str, float] | None:
        if o.error or o.infeasible or o.trial.query >= MOST_TEXTS:
            return None
        if o.row not in self._facts:
            answer = self._outcomes.answer_of(o)
            found = json_of(answer.text) if answer.text.lstrip()[:1] in ("{", "[", "`") else None
            facts = {"length": float(len(answer.text)), "json": float(isinstance(found, dict | list))}
            facts["refusal"] = float(bool(self._refuses(_NO_QUERY, answer)))
            facts |= {f"tool {name}": float(n) for name, n in Counter(c.name for c in answer.tool_calls).items()}
            self._facts[o.row] = facts
        return self._facts[o.row]


def _row(outcomes: Outcomes, metric: Metric, trials: _Trials) -> dict[str, Any] | None:
    full = outcomes.prepared.problem.full
    good, bad = (trials.column(cell, metric.value) for cell in (0, full))
    if np.isnan(good).all() or np.isnan(bad).all():
        return None
    change = compare(good, bad)
    return {
        "name": metric.name,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "good": float(np.nanmean(good)),
        "bad": float(np.nanmean(bad)),
        "change": change.value,
        "interval": change.interval,
        "n": change.n,
        "method": change.method,
        "effects": _effects(outcomes, metric, trials) if change.value else [],
    }


def _effects(outcomes: Outcomes, metric: Metric, trials: _Trials) -> list[dict[str, Any]]:
    """The change that goes with each axis; empty where the cells that ran do not tell."""
    problem, design = outcomes.prepared.problem, outcomes.prepared.config.design
    ran = trials.cells
    if design == "adaptive":
        return list(_single_effects(outcomes, metric, trials))
    scores = np.full((problem.queries, problem.full + 1), np.nan)
    for cell in ran:
        scores[:, cell] = trials.column(cell, metric.value)
    scorer = outcomes.prepared.scorers.get(metric.name)
    judged = scorer is not None and scorer.judge is not None
    # Verdicts vary though the whole log was asked: no finite population correction.
    table = table_of(replace(problem, population=None) if judged else problem, scores)
    contrasts = [factorial_contrast(problem.k, (a,), table.mass > 0) for a in range(problem.k)]
    fits = [None if c is None else table.fit(c) for c in contrasts]
    adjusted = iter(holm([f.p for f in fits if f is not None]))
    rows = []
    for axis, contrast, fit in zip(problem.axes, contrasts, fits, strict=True):
        if contrast is not None and fit is not None:
            found = estimate(table, -contrast, what="change by this axis, averaged over the others")
            rows.append(_effect(axis, found.value, found.interval, next(adjusted), found.n, found.method))
    return rows


def _single_effects(outcomes: Outcomes, metric: Metric, trials: _Trials) -> Iterator[dict[str, Any]]:
    """Axes whose own cell (alone bad, or alone reverted) ran beside a corner on enough queries."""
    problem = outcomes.prepared.problem
    for cell in trials.cells:
        alone, rest = bits(cell), bits(problem.full & ~cell)
        if len(alone) == 1 and problem.k > 1:
            before, after, axis, how = 0, cell, alone[0], "introduced"
        elif len(rest) == 1 and problem.k > 2:
            before, after, axis, how = cell, problem.full, rest[0], "not reverted"
        else:
            continue
        found = compare(*(trials.column(c, metric.value) for c in (before, after)))
        if found.n >= FEWEST:
            method = f"change when {how}, on the {found.n} queries that ran so; they were chosen by the search"
            yield _effect(problem.axes[axis], found.value, found.interval, None, found.n, method)


def _effect(axis: str, value: float | None, interval: Any, p: float | None, n: int, method: str) -> dict[str, Any]:
    return {"axis": axis, "estimate": value, "interval": interval, "p_adjusted": p, "n": n, "method": method}
