"""What every run tells besides the metric that decides: length, cost, latency, tokens, tools, refusals, format, failures.

Each with good, bad and the paired change, and attributed to every axis from the trials that the design made, with the same weights and
clusters. Shown apart; they decide nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bisect_ai.attribution.designs.factorial import table_of
from bisect_ai.attribution.problem import Estimate, Floats, Ints, Problem
from bisect_ai.attribution.stats.contrasts import factorial_contrast
from bisect_ai.attribution.stats.inference import Fit, estimate, holm, paired_table
from bisect_ai.queries.query import Query
from bisect_ai.report.measured_values import SideEffect, SideMetric
from bisect_ai.runs.outcomes import Outcomes
from bisect_ai.scoring.answer_scorers import Refusal, json_of
from bisect_ai.targets.answer import Answer

# Tools with a row of their own, those called most.
MOST_TOOLS = 8
# Answers whose texts are read: of each cell's those to the first queries of the sample, which are a random part of it.
MOST_TEXTS = 4000
# Answers of one cell whose texts are read.
MOST_OF_A_CELL = 500
# Queries that an axis's part is told from, the fewest.
FEWEST = 8
# Queries with both values that a change is estimated from: one shows no spread.
FEWEST_PAIRS = 2
_AT_OTHER_TIMES = "the search ran its combinations at different times"
_NO_QUERY = Query({"id": "", "input": ""})
# (n,) of a cell: a value of each query's first trial in it; NaN: none.
Column = Callable[[int], Floats]


@dataclass(frozen=True)
class TrialValues:
    """A number of every trial, and what it means. `higher_is_better` None: neither."""

    name: str
    unit: str
    higher_is_better: bool | None
    column: Column
    # Whether it hangs on when a trial ran, as the load of a service does, and the design ran its combinations one after the other.
    when: bool = False


def side_metrics(outcomes: Outcomes) -> list[SideMetric]:
    """The rows of the report, the user's own scorers first; under `effects` what goes with each axis."""
    trials = _Trials(outcomes)
    found = [(metric, row) for metric in _side_metrics_of(outcomes, trials) if (row := _row(outcomes, metric)) is not None]
    failed = next((row for _, row in found if row.name == "failed"), None)
    quiet = failed is None or (not failed.good and not failed.bad)
    kept = [(m, r) for m, r in found if not (quiet and (r.name == "failed" or r.name.endswith("failures count as 0")))]
    effects = _attributed_rows(outcomes, [metric for metric, _ in kept], trials)
    return [row.model_copy(update={"effects": parts}) for (_, row), parts in zip(kept, effects, strict=True)]


def _side_metrics_of(outcomes: Outcomes, trials: _Trials) -> Iterator[TrialValues]:
    prepared, table = outcomes.prepared, outcomes.ledger.observations
    for scorer in prepared.scorers.values():
        if scorer.name != prepared.metric.name:
            yield TrialValues(scorer.name, scorer.unit, scorer.higher_is_better, trials.of(table.scored(scorer.name)))
    for metric in _built_in(outcomes, trials):
        if metric.name not in prepared.scorers:
            yield metric
    failed = (table.erred & ~table.missed) | table.refused
    yield TrialValues("failed", "share", False, trials.of(failed.astype(float)))
    lost = 0.0 if prepared.metric.higher_is_better else np.nan
    with_failures = np.where(table.erred & ~table.missed, lost, table.scored(prepared.metric.name))
    yield TrialValues(f"{prepared.metric.name}, failures count as 0", "", True, trials.of(with_failures))


def _built_in(outcomes: Outcomes, trials: _Trials) -> Iterator[TrialValues]:
    texts, table = _Texts(outcomes, trials), outcomes.ledger.observations
    yield TrialValues("length", "characters", None, texts.of("length"))
    yield TrialValues("refusal", "share", False, texts.of("refusal"))
    if texts.mostly_json():
        yield TrialValues("valid JSON", "share", True, texts.of("json"))
    idle = table.erred | table.logged
    usd, tokens, requests = (
        np.array(table.usd),
        np.array(table.tokens_in) + np.array(table.tokens_out),
        np.array(table.attempts),
    )
    yield TrialValues("cost", "USD", False, trials.of(np.where(idle | (usd == 0), np.nan, usd)))
    latency = trials.of(np.where(idle, np.nan, np.array(table.latencies)))
    yield TrialValues("latency", "seconds", False, latency, when=outcomes.prepared.config.design == "adaptive")
    yield TrialValues("tokens", "tokens", False, trials.of(np.where(idle | (tokens == 0), np.nan, tokens)))
    yield TrialValues("requests", "requests", False, trials.of(np.where(table.logged | (requests < 1), np.nan, requests)))
    for tool in texts.tools():
        yield TrialValues(f"calls of {tool}", "calls", None, texts.of(f"tool {tool}"))


class _Trials:
    """The first trials of every cell, sorted out once: many metrics are read from them."""

    def __init__(self, outcomes: Outcomes) -> None:
        table = outcomes.ledger.observations
        self.queries = len(outcomes.prepared.sample.queries)
        cells, first = np.array(table.cells, dtype=int), (np.array(table.repeats) == 0) & ~table.unanswerable
        self._asked = np.array(table.queries, dtype=int)
        for query, cell in outcomes.attribution.chosen:  # the search made these because the query had failed
            first &= (self._asked != query) | (cells != cell)
        self._rows = {int(cell): np.flatnonzero(first & (cells == cell)) for cell in np.unique(cells[first])}

    @property
    def cells(self) -> list[int]:
        """The cells that ran."""
        return sorted(self._rows)

    def are_complete(self, full: int) -> bool:
        """Whether every combination ran on every query that ran under good: a table."""
        return len(self._rows) == full + 1 and min(map(len, self._rows.values())) >= len(self._rows[0])

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
        return bool(known) and float(np.mean(known)) > 0.8  # most answers say it: the others may have failed before they could

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


@dataclass(frozen=True)
class Part:
    """An axis's part of a metric's change, in the metric's units: bad less good, paired by query."""

    axis: str
    # None: the runs that it needs were not made.
    fit: Fit | None
    estimate: Estimate
    # The mean with the axis good, on the same queries.
    good: float | None
    bad: float | None
    # Whether any query differs.
    moved: bool


def _row(outcomes: Outcomes, metric: TrialValues) -> SideMetric | None:
    problem = outcomes.prepared.problem
    good, bad = (metric.column(cell) for cell in (0, problem.full))
    if np.isnan(good).all() or np.isnan(bad).all():
        return None
    table = paired_table(good, bad, weights=problem.weights, clusters=problem.clusters)
    n = len(table.scores)
    if metric.when:
        change = _missing_estimate(_AT_OTHER_TIMES, n)
    elif n < FEWEST_PAIRS:
        change = Estimate(None, None, n, "bad minus good: not estimated, fewer than two queries have both")
    else:
        change = estimate(table, _BAD_LESS_GOOD, what="bad minus good")
    return SideMetric(
        name=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        good=_mean_of_column(problem, good),
        bad=_mean_of_column(problem, bad),
        change=change.value,
        interval=change.interval,
        n=change.n,
        method=change.method,
    )


# -- by axis -----------------------------------------------------------------------------------------------------------
def _attributed_rows(outcomes: Outcomes, metrics: Sequence[TrialValues], trials: _Trials) -> Iterator[tuple[SideEffect, ...]]:
    """For each metric a row for each axis, with p-values adjusted over all axes and metrics (Holm 1979).

    A part in which no query differs could not have been rejected, so it takes no share of the error (Tarone 1990).
    """
    parts = [_parts_of_change(outcomes, metric, trials) for metric in metrics]
    tested = [part for row in parts for part in row if part.fit is not None and part.moved]
    adjusted = dict(zip(map(id, tested), holm([part.fit.p for part in tested if part.fit is not None]), strict=True))
    for row in parts:
        yield tuple(_side_effect(part, adjusted.get(id(part), 1.0 if part.fit is not None else None)) for part in row)


def _parts_of_change(outcomes: Outcomes, metric: TrialValues, trials: _Trials) -> list[Part]:
    problem, fixed = outcomes.prepared.problem, outcomes.prepared.config.design != "adaptive"
    if problem.k == 1:
        return []
    if metric.when:
        return [Part(name, None, _missing_estimate(_AT_OTHER_TIMES), None, None, False) for name in problem.axes]
    if fixed or trials.are_complete(problem.full):
        return _averaged_parts(outcomes, metric, trials)
    return [_in_context(problem, metric, axis) for axis in range(problem.k)]


def _averaged_parts(outcomes: Outcomes, metric: TrialValues, trials: _Trials) -> list[Part]:
    """By a factorial: the change by each axis, averaged over the settings of the others."""
    problem = outcomes.prepared.problem
    scores = np.full((problem.queries, problem.full + 1), np.nan)
    for cell in trials.cells:
        scores[:, cell] = metric.column(cell)
    scorer = outcomes.prepared.scorers.get(metric.name)
    judged = scorer is not None and scorer.judge is not None
    # Verdicts vary though the whole log was asked: no finite population correction.
    table = table_of(replace(problem, population=None) if judged else problem, scores)
    parts = []
    for a, name in enumerate(problem.axes):
        contrast = factorial_contrast(problem.k, (a,), table.mass > 0)
        fit = None if contrast is None else table.fit(-contrast)
        if contrast is None or fit is None:
            parts.append(
                Part(name, None, _missing_estimate("aliased, or a combination that it needs did not run"), None, None, False)
            )
            continue
        value = estimate(table, -contrast, what="change by this axis, averaged over the others")
        good, bad = (float(np.nanmean(table.means[[c >> a & 1 == side for c in range(problem.full + 1)]])) for side in (0, 1))
        parts.append(Part(name, fit, value, good, bad, fit.value != 0 or fit.error > 0))
    return parts


def _in_context(problem: Problem, metric: TrialValues, axis: int) -> Part:
    """By the search's own trials: the axis reverted against the bad release, or introduced against the good one.

    Of the two contexts the one with more queries, which does not depend on what the metric said. The queries that ran in both
    cells are a part of the sample that was drawn before them, so the mean speaks of the log.
    """
    one, full = 1 << axis, problem.full
    contexts = {"not reverted": (full & ~one, full), "introduced alone": (0, one)}
    pair = partial(paired_table, weights=problem.weights, clusters=problem.clusters)
    tables = {how: pair(metric.column(one), metric.column(other)) for how, (one, other) in contexts.items()}
    how = max(tables, key=lambda context: len(tables[context].scores))
    table, name = tables[how], problem.axes[axis]
    n = len(table.scores)
    if n < FEWEST:
        return Part(name, None, _missing_estimate(f"fewer than {FEWEST} queries ran with and without it", n), None, None, False)
    value = estimate(table, _BAD_LESS_GOOD, what=f"change when {how}")
    good, bad = map(float, table.means)
    return Part(name, table.fit(_BAD_LESS_GOOD), value, good, bad, bool((table.scores[:, 0] != table.scores[:, 1]).any()))


_BAD_LESS_GOOD = np.array([-1.0, 1.0])  # a side metric has no good direction: what rises is told as a rise


def _mean_of_column(problem: Problem, column: Floats) -> float:
    known = ~np.isnan(column)
    return float(np.average(column[known], weights=None if problem.weights is None else problem.weights[known]))


def _missing_estimate(why: str, n: int = 0) -> Estimate:
    return Estimate(None, None, n, f"not estimated: {why}")


def _side_effect(part: Part, p: float | None) -> SideEffect:
    found = part.estimate
    return SideEffect(
        axis=part.axis,
        estimate=found.value,
        interval=found.interval,
        good=part.good,
        bad=part.bad,
        p_adjusted=p,
        n=found.n,
        method=found.method,
    )
