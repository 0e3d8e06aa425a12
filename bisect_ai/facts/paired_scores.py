"""Scores of configurations as arrays paired by question, and what is told of a pair besides its test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Ints, cluster_numbers, score_ends
from bisect_ai.attribution.questions.equivalence import EquivalenceRule, PairedTests, losses_by_size, paired_tests
from bisect_ai.attribution.questions.segments import Paired, Segment, find_slices, given_segments
from bisect_ai.attribution.stats.inference import ScoreTable, estimate, paired_table
from bisect_ai.attribution.stats.missing import bound_loss
from bisect_ai.errors import QueryError
from bisect_ai.facts.segment_facts import conditions
from bisect_ai.queries.pairing import QUESTION, SAMPLE, TASK, VARS, Configuration, Pairs, ResultRow
from bisect_ai.queries.query import Query
from bisect_ai.queries.record_accounting import clusters_of
from bisect_ai.queries.result_files import LOWER_IS_BETTER, UNITS
from bisect_ai.report.measured_values import FlippedSide, ScoredFlip, SideMetric
from bisect_ai.scoring.metric import Metric

MissingScores = Literal["unscored", "failed"]
# The part of the pairs in which a column must agree to be a fact about the question, not about the answer.
SAME = 0.99
OF_A_TEST = ("vars", "metadata", "testCase.vars", "testCase.metadata")
NO_FACTS = ("epoch", "testIdx", "promptIdx", "failureReason", "at", "run_at", "run_id", "file", "run_name")


@dataclass(frozen=True)
class ScoreReader:
    """How the score that decides is read: its name, what it means, and what a row without one counts as."""

    name: str
    metric: Metric
    missing: MissingScores
    # The lowest and the highest oriented score there can be.
    ends: tuple[float, float]

    @classmethod
    def of(cls, chosen: Sequence[Configuration], name: str, metric: Metric, missing: MissingScores) -> ScoreReader:
        """The reader of a score that some rows of the configurations have."""
        seen = np.array([row.scores[name] for c in chosen for row in c.rows if name in row.scores], float)
        oriented = metric.sign * seen
        return cls(name, metric.as_seen(seen), missing, score_ends(None, float(oriented.min()), float(oriented.max())))

    def value(self, rows: Sequence[ResultRow]) -> float:
        """The oriented mean over a question's rows; NaN: none has a score."""
        known = [self.metric.sign * row.scores[self.name] for row in rows if self.name in row.scores]
        if self.missing == "failed":
            known += [self.ends[0] for row in rows if row.failed and self.name not in row.scores]
        return float(np.mean(known)) if known else np.nan


@dataclass(frozen=True)
class PairOfSides:
    """The questions that two configurations share, in the order of the first, with the rows of both."""

    way: str
    keys: tuple[str, ...]
    good: tuple[tuple[ResultRow, ...], ...]
    bad: tuple[tuple[ResultRow, ...], ...]
    only_good: int
    only_bad: int
    reader: ScoreReader

    @classmethod
    def of(cls, pairs: Pairs, first: int, second: int, reader: ScoreReader) -> PairOfSides:
        """The pair of two configurations by their numbers."""
        good, bad = pairs.groups[first], pairs.groups[second]
        keys = tuple(key for key in good if key in bad)
        rows = [tuple(side[key] for key in keys) for side in (good, bad)]
        return cls(pairs.way, keys, rows[0], rows[1], len(good) - len(keys), len(bad) - len(keys), reader)

    @cached_property
    def scores(self) -> tuple[Floats, Floats]:
        """(n,) oriented scores of either side; NaN: none."""
        good, bad = (np.array([self.reader.value(rows) for rows in side], float) for side in (self.good, self.bad))
        return good, bad

    @cached_property
    def both(self) -> Ints:
        """The numbers of the questions that have both scores."""
        good, bad = self.scores
        return np.flatnonzero(~np.isnan(good) & ~np.isnan(bad))

    @cached_property
    def queries(self) -> list[Query]:
        """Each question as a query: its text, and the columns that say the same on both sides."""
        facts = [(_short_name(column), column) for column in self._constant_columns()]
        found = []
        for key, rows in zip(self.keys, self.good, strict=True):
            own = {name: rows[0].columns[column] for name, column in reversed(facts) if column in rows[0].columns}
            found.append(Query({**own, "id": key, "input": rows[0].question, **_declared_settings(rows[0])}))
        return found

    def _constant_columns(self) -> list[str]:
        """Columns that hold the same on both sides of nearly every pair, and are no score."""
        seen = sorted({column for rows in self.good for column in rows[0].columns})
        scores = {name for rows in self.good for name in rows[0].scores}
        return [c for c in seen if not _is_of_answer(c, scores) and self._agrees_on(c)]

    def _agrees_on(self, column: str) -> bool:
        both = zip(self.good, self.bad, strict=True)
        same = sum(bool(good[0].columns.get(column) == bad[0].columns.get(column)) for good, bad in both)
        return same >= SAME * len(self.keys)

    @cached_property
    def clusters(self) -> tuple[Ints, tuple[str, ...]]:
        """(n,) cluster numbers, and what is to be told of them."""
        names, notices, _ = clusters_of(self.queries, independent=False)
        return cluster_numbers(names, range(len(self.keys))), notices

    @cached_property
    def paired(self) -> Paired:
        """The questions that have both scores."""
        good, bad = self.scores
        clusters = cluster_numbers(self.clusters[0], self.both)
        return Paired(good[self.both], bad[self.both], np.ones(len(self.both)), clusters)

    def tests(self, rule: EquivalenceRule) -> PairedTests:
        """What the pairs say, with the bounds that missing scores need."""
        (low, high), (good, bad), n = self.reader.ends, self.scores, len(self.keys)
        none = np.zeros(n, bool)
        bounds = bound_loss(
            good,
            bad,
            lowest=low,
            highest=high,
            weights=np.ones(n),
            clusters=self.clusters[0],
            population=float("inf"),
            failed=(none, none),
        )
        return paired_tests(self.paired, rule, reach=high - low, bounds=bounds)

    def missing(self) -> tuple[int, int]:
        """Paired questions without a score on either side."""
        good, bad = self.scores
        return int(np.isnan(good).sum()), int(np.isnan(bad).sum())

    # -- what is told besides ------------------------------------------------------------------------------------------
    def flips(self) -> list[ScoredFlip]:
        """The questions that score differently: those that lose most first, then those that gain."""
        lost, gained = losses_by_size(self.paired.losses, 0.0)
        return [self._flip_of(int(self.both[i])) for i in (*lost, *gained)]

    def _flip_of(self, i: int) -> ScoredFlip:
        good, bad = (side[i] for side in self.scores)
        first, metric = self.good[i][0], self.reader.metric
        return ScoredFlip(
            query=_query_name(self.way, self.keys[i], first),
            input=first.question,
            reference=first.reference,
            change=round(float(bad - good), 10),
            good=FlippedSide(score=metric.value(float(good)), text=first.output),
            bad=FlippedSide(score=metric.value(float(bad)), text=self.bad[i][0].output),
        )

    def segments(self, column: str | None, rule: EquivalenceRule, seed: int) -> list[Segment]:
        """The segments of `column`, then the slices that a search confirmed; both worst first."""
        if len(self.both) < 2:
            return []
        queries = [self.queries[i] for i in self.both]
        labels = [] if column is None else [_segment_label(q, column) for q in queries]
        if column is not None and not any(labels):
            raise QueryError(
                f"no question of the results has a column {column!r} to compare within; they have {_columns_of(queries)}"
            )
        given = [] if column is None else given_segments(column, labels, self.paired)
        found = find_slices(conditions(queries), self.paired, tolerance=rule.tolerance, alpha=rule.alpha, seed=seed)
        return [*given, *found]

    def side_metrics(self, names: Sequence[str]) -> Iterator[SideMetric]:
        """A row for every other score that both sides have."""
        for name in names:
            good, bad = (np.array([_mean_score(rows, name) for rows in side], float) for side in (self.good, self.bad))
            table = paired_table(good, bad, clusters=self.clusters[0])
            if len(table.scores) >= 2:
                yield _metric_row(name, table)


def side_value(rows: Mapping[str, Sequence[ResultRow]], reader: ScoreReader) -> Estimate:
    """The mean over a configuration's own questions, in the metric's units, with its interval."""
    values = np.array([reader.value(each) for each in rows.values()], float)
    known = reader.metric.sign * values[~np.isnan(values)]
    if len(known) < 2:
        return Estimate(float(known[0]) if len(known) else None, None, len(known), "mean: too few scores for an interval")
    table = ScoreTable(known[:, None], np.ones(len(known)), np.arange(len(known)), float("inf"))
    return estimate(table, np.array([1.0]), what="mean score")


def _metric_row(name: str, table: ScoreTable) -> SideMetric:
    change = estimate(table, np.array([-1.0, 1.0]), what="bad minus good")
    good, bad = map(float, table.means)
    return SideMetric(
        name=name,
        unit=UNITS.get(name, ""),
        higher_is_better=name not in LOWER_IS_BETTER,
        good=good,
        bad=bad,
        change=change.value,
        interval=change.interval,
        n=change.n,
        method=change.method,
        effects=(),
    )


def _mean_score(rows: Sequence[ResultRow], name: str) -> float:
    known = [row.scores[name] for row in rows if name in row.scores]
    return float(np.mean(known)) if known else np.nan


def _short_name(column: str) -> str:
    """A column's own name, without the part of the record that tools keep variables and metadata in."""
    head, _, name = column.rpartition(".")
    return name if head in OF_A_TEST else column


def _declared_settings(row: ResultRow) -> dict[str, Any]:
    return {} if row.cluster is None else {"cluster": row.cluster}


def _is_of_answer(column: str, scores: set[str]) -> bool:
    """Whether a column says what came of the question."""
    head = column.split(".")[0]
    return head in (*NO_FACTS, "scores", "usage", "output", "gradingResult", "versions", "params") or column in scores


def _columns_of(queries: Sequence[Query]) -> str:
    return ", ".join(sorted({" ".join(str(name).split())[:40] for query in queries for name in query})[:12])


def _segment_label(query: Query, column: str) -> str:
    """The segment of a query: the column by its name, or by the end of a nested one."""
    nested = (value for name, value in query.items() if name.endswith(f".{column}") or column.endswith(f".{name}"))
    return str(query.get(column, next(nested, "")))


def _query_name(way: str, key: str, row: ResultRow) -> str:
    """What a query is called: its sample id or id where that is what pairs it, else its question."""
    if way in (TASK, SAMPLE):
        return row.keys[SAMPLE].replace("\0", " ").strip()
    readable = way not in (VARS, QUESTION)
    key = key.replace("\0", " ").strip()
    return key if readable else row.question or key
