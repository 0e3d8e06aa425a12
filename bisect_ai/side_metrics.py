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
from bisect_ai.attribution.problem import Floats, Ints
from bisect_ai.queries.query import Query
from bisect_ai.replay.answer import Answer
from bisect_ai.scoring.contents import Refusal, json_of

if TYPE_CHECKING:
    from bisect_ai.study import Outcomes

MOST_TOOLS = 8
MOST_TEXTS = 4000
"""Answers whose texts are read: of each cell's those to the first queries of the sample, which are a random part of it."""
MOST_OF_A_CELL = 500
FEWEST = 20
_NO_QUERY = Query({"id": "", "input": ""})
Column = Callable[[int], Floats]
"""(n,) of a cell: a value of each query's first trial in it; NaN: none."""


@dataclass(frozen=True)
class Metric:
    """A number of every trial, and what it means. `higher_is_better` None: neither."""

    name: str
    unit: str
    higher_is_better: bool | None
    column: Column


def side_metrics(outcomes: Outcomes) -> list[dict[str, Any]]:
    """The rows of the report, the user's own scorers first."""
    trials = _Trials(outcomes)
    rows = [_row(outcomes, metric, trials) for metric in _metrics(outcomes, trials)]
    kept = [row for row in rows if row is not None]
    failed = next((r for r in kept if r["name"] == "failed"), None)
    quiet = failed is None or (not failed["good"] and not failed["bad"])
    return [r for r in kept if not (quiet and (r["name"] == "failed" or r["name"].endswith("failures count as 0")))]


def _metrics(outcomes: Outcomes, trials: _Trials) -> Iterator[Metric]:
    prepared, table = outcomes.prepared, outcomes.ledger.observations
    for scorer in prepared.scorers.values():
        if scorer.name != prepared.metric.name:
            yield Metric(scorer.name, scorer.unit, scorer.higher_is_better, trials.of(table.scored(scorer.name)))
    for metric in _built_in(outcomes, trials):
        if metric.name not in prepared.scorers:
            yield metric
    failed = (table.erred & ~table.missed) | table.refused
    yield Metric("failed", "share", False, trials.of(failed.astype(float)))
    lost = 0.0 if prepared.metric.higher_is_better else np.nan
    with_failures = np.where(table.erred & ~table.missed, lost, table.scored(prepared.metric.name))
    yield Metric(f"{prepared.metric.name}, failures count as 0", "", True, trials.of(with_failures))


def _built_in(outcomes: Outcomes, trials: _Trials) -> Iterator[Metric]:
    texts, table = _Texts(outcomes, trials), outcomes.ledger.observations
    yield Metric("length", "characters", None, texts.of("length"))
    yield Metric("refusal", "share", False, texts.of("refusal"))
    if texts.mostly_json():
        yield Metric("valid JSON", "share", True, texts.of("json"))
    idle = table.erred | table.logged
    usd, tokens, requests = (
        np.array(table.usd),
        np.array(table.tokens_in) + np.array(table.tokens_out),
        np.array(table.attempts),
    )
    yield Metric("cost", "USD", False, trials.of(np.where(idle | (usd == 0), np.nan, usd)))
    yield Metric("latency", "seconds", False, trials.of(np.where(idle, np.nan, np.array(table.latencies))))
    yield Metric("tokens", "tokens", False, trials.of(np.where(idle | (tokens == 0), np.nan, tokens)))
    yield Metric("requests", "requests", False, trials.of(np.where(table.logged | (requests < 1), np.nan, requests)))
    for tool in texts.tools():
        yield Metric(f"calls of {tool}", "calls", None, texts.of(f"tool {tool}"))


class _Trials:
    """The first trials of every cell, sorted out once: many metrics are read from them."""

    def __init__(self, outcomes: Outcomes) -> None:
        table = outcomes.ledger.observations
        self.queries = len(outcomes.prepared.sample.queries)
        cells, first = np.array(table.cells, dtype=int), (np.array(table.repeats) == 0) & ~table.unanswerable
        self._rows = {int(cell): np.flatnonzero(first & (cells == cell)) for cell in np.unique(cells[first])}
        self._asked = np.array(table.queries, dtype=int)

    @property
    def cells(self) -> list[int]:
        """The cells that ran."""
        return sorted(self._rows)

    def rows(self, cell: int, *, most: int | None = None) -> Ints:
        """Rows of the ledger with the first trials of a cell; `most`: those to the first so many queries of the sample."""
        rows = self._rows.get(cell, np.array([], dtype=int))
        return rows if most is None else rows[self._asked[rows] < most]

    def of(self, values: Floats) -> Column:
        """Columns of a number that every row of the ledger has."""

        def column(cell: int) -> Floats:
            found, rows = np.full(self.queries, np.nan), self.rows(cell)
            found[self._asked[rows]] = values[rows]
            return found

        return column


class _Texts:
    """What the texts and tool calls of the answers say, each answer read once."""

    def __init__(self, outcomes: Outcomes, trials: _Trials) -> None:
        self._outcomes, self._trials = outcomes, trials
        self._facts: dict[int, dict[int, dict[str, float]]] = {}
        self._refuses = Refusal()

    def of(self, name: str) -> Column:
        """Columns of the named fact; of a tool that was not called 0."""
        absent = 0.0 if name.startswith("tool ") else np.nan

        def column(cell: int) -> Floats:
            found = np.full(self._trials.queries, np.nan)
            for query, facts in self._of_cell(cell).items():
                found[query] = facts.get(name, absent)
            return found

        return column

    def mostly_json(self) -> bool:
        """Whether the good release answers in JSON, but for a few."""
        known = [facts["json"] for facts in self._of_cell(0).values()]
        return bool(known) and float(np.mean(known)) > 0.8

    def tools(self) -> list[str]:
        """The tools that were called most under good and bad, by name."""
        corners = [facts for cell in (0, self._outcomes.prepared.problem.full) for facts in self._of_cell(cell).values()]
        counts = Counter(name[5:] for facts in corners for name in facts if name.startswith("tool "))
        return sorted(tool for tool, _ in counts.most_common(MOST_TOOLS))

    def _of_cell(self, cell: int) -> dict[int, dict[str, float]]:
        """The facts of a cell's answers by query."""
        if cell not in self._facts:
            most = min(MOST_OF_A_CELL, MOST_TEXTS // max(len(self._trials.cells), 1))
            observed = (self._outcomes.ledger.observations[int(row)] for row in self._trials.rows(cell, most=most))
            self._facts[cell] = {o.index: self._read(self._outcomes.answer_of(o)) for o in observed if not o.error}
        return self._facts[cell]

    def _read(self, answer: Answer) -> dict[str, float]:
        found = json_of(answer.text) if answer.text.lstrip()[:1] in ("{", "[", "`") else None
        facts = {"length": float(len(answer.text)), "json": float(isinstance(found, dict | list))}
        facts["refusal"] = float(bool(self._refuses(_NO_QUERY, answer)))
        if answer.tool_calls:
            facts |= {f"tool {name}": float(n) for name, n in Counter(c.name for c in answer.tool_calls).items()}
        return facts


def _row(outcomes: Outcomes, metric: Metric, trials: _Trials) -> dict[str, Any] | None:
    full = outcomes.prepared.problem.full
    good, bad = (metric.column(cell) for cell in (0, full))
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
        scores[:, cell] = metric.column(cell)
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
        found = compare(*(metric.column(c) for c in (before, after)))
        if found.n >= FEWEST:
            method = f"change when {how}, on the {found.n} queries that ran so; they were chosen by the search"
            yield _effect(problem.axes[axis], found.value, found.interval, None, found.n, method)


def _effect(axis: str, value: float | None, interval: Any, p: float | None, n: int, method: str) -> dict[str, Any]:
    return {"axis": axis, "estimate": value, "interval": interval, "p_adjusted": p, "n": n, "method": method}
