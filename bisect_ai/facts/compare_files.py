"""`compare`: two or more result files in, a verdict out. Calls nothing.

Rows become configurations by the files' own metadata (`queries.result_files`), are paired by question (`queries.pairing`) and tested
(`attribution.questions.equivalence`). Where the configurations are cells of a design over their settings, the loss is attributed to
them as `attribute` does with any table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.questions.equivalence import EquivalenceRule, PairedTests, PairedVerdict, verdicts_on
from bisect_ai.attribution.stats.smallest_loss import DEFAULT, is_open, objection, relative, relative_note
from bisect_ai.canonical import digest
from bisect_ai.config import checked_part
from bisect_ai.errors import InputError
from bisect_ai.facts.attribute_table import attribute
from bisect_ai.facts.paired_scores import MissingScores, PairOfSides, ScoreReader, side_value
from bisect_ai.facts.report_view import NO_CALLS, SCHEMA, reported_segment, told_report, with_all_fields
from bisect_ai.facts.score_rows import ScoresStudy
from bisect_ai.queries.pairing import Configuration, Pairs, differing_settings, grid_of, grid_rows, pair_up
from bisect_ai.queries.result_files import LOWER_IS_BETTER, UNITS, ResultFiles, read_results, result_paths
from bisect_ai.report import tables
from bisect_ai.report.json_edge import read
from bisect_ai.report.measured_values import (
    CompareBlock,
    ComparedAxes,
    ComparedConfiguration,
    EquivalenceTest,
    MeasuredLoss,
    RecordedDifference,
    ReportedPair,
    ScoredFlip,
)
from bisect_ai.report.planning_values import FlippedQuery, LogBlock, ShownAnswer
from bisect_ai.report.report_values import Report, Verdict
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Spending
from bisect_ai.scoring.metric import Metric, finite

# The verdicts by what is worst to overlook: the first that any comparison has is that of all.
ORDER = ("regression", "undecided", "no_worse", "equivalent", "improvement")
# Part of the paired questions asked in other words that is worth a warning.
MOVED = 0.2


def compare(
    *sources: Any,
    good: str | None = None,
    bad: str | None = None,
    metric: str | None = None,
    tolerance: float | None = None,
    alpha: float = 0.05,
    higher_is_better: bool | None = None,
    by: str | Sequence[str] = (),
    pair: str | None = None,
    segment: str | None = None,
    missing: MissingScores = "unscored",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Result:
    """Which configuration in result files is worse, better or as good as the first, by the scores that the files hold. Calls nothing.

    `sources`: two or more files (or patterns, DataFrames, lists of mappings), or one with several configurations (promptfoo's providers
    and prompts, a column that `by` names). The first configuration, or `good`, is what all others, or `bad` alone, are compared with;
    both may be patterns of files (`good="runs/a*.json"`), whose rows are then one configuration, and name the sources by themselves.
    `metric` is the score that decides; `tolerance`, in its units, the smallest loss worth acting on (default: 0.02 for scores between
    0 and 1, else 5 % of the first one's mean); `alpha` the chance of a wrong claim. `pair` names the column that pairs questions,
    `segment` one whose values are compared apart. `missing`: what a row without a score is, "unscored" (its pair is left out, and a
    verdict must hold whatever it was) or "failed" (where the row says that the call failed it counts as the worst score). `settings`:
    what bisect.yaml's `log` takes (columns, cluster, where, since, …).

    The report has a `compare` block; its verdict's `kind` is regression, improvement, equivalent, no_worse or undecided, and where the
    files' own settings make a design, it names causes among them. Raises `InputError` for what is wrong.
    """
    keywords = {"alpha": alpha, "tolerance": tolerance, "higher_is_better": higher_is_better, "missing": missing, "seed": seed}
    logged = {"sample": None, **settings} if isinstance(settings, Mapping) else settings or {"sample": None}
    said = checked_part(ScoresStudy, {**keywords, "log": logged}, where="compare")
    alpha, tolerance, higher_is_better, seed = said.alpha, said.tolerance, said.higher_is_better, said.seed
    if tolerance == 0:
        raise InputError("cannot compare: the tolerance must be above 0; equivalence is always within something")
    log = said.log.settings(0)
    columns = (by,) if isinstance(by, str) else tuple(by)
    sources = sources or tuple(side for side in (good, bad) if side is not None)
    if not sources:
        raise InputError("cannot compare: no file is named; name two result files, or patterns as good and bad")
    if len(sources) == 1:
        sources = tuple(result_paths(sources[0])) or sources
    found = read_results(sources, settings=log, by=columns, pair=pair, metric=metric, folder=Path.cwd())
    chosen = found.chosen(good, bad)
    pairs = pair_up(chosen)
    name = found.deciding(metric, chosen)
    higher = name not in LOWER_IS_BETTER if higher_is_better is None else higher_is_better
    reader = ScoreReader.of(chosen, name, Metric(higher_is_better=higher, unit=UNITS.get(name, "")), missing)
    return _Compared(found, chosen, pairs, reader, segment, seed).result(tolerance, alpha, given_good=good is not None)


class _Compared:
    """Everything read, on its way to a report."""

    def __init__(
        self,
        found: ResultFiles,
        chosen: Sequence[Configuration],
        pairs: Pairs,
        reader: ScoreReader,
        segment: str | None,
        seed: int,
    ) -> None:
        self._found, self._chosen, self._pairs, self._reader = found, chosen, pairs, reader
        self._segment, self._seed = segment, seed
        self._sides = [PairOfSides.of(pairs, 0, i, reader) for i in range(1, len(chosen))]

    def result(self, tolerance: float | None, alpha: float, *, given_good: bool) -> Result:
        """Test, tell, report."""
        limit, notes = self._tolerance(tolerance)
        rule = EquivalenceRule(limit, alpha)
        tests = [side.tests(rule) for side in self._sides]
        verdicts = verdicts_on(tests, rule)
        kind = next(kind for kind in ORDER if any(v.kind == kind for v in verdicts))
        losses = [-math.inf if t.loss.value is None else t.loss.value for t in tests]
        lead = max((i for i, v in enumerate(verdicts) if v.kind == kind), key=losses.__getitem__)
        pairs = [
            self._reported_pair(i, t, v, rule, told=i == lead) for i, (t, v) in enumerate(zip(tests, verdicts, strict=True))
        ]
        report = self._report(rule, kind, pairs, lead, warnings=[*notes, *self._warnings(pairs, given_good)])
        return Result(told_report(report), Spending())

    def _report(
        self, rule: EquivalenceRule, kind: str, pairs: Sequence[ReportedPair], lead: int, *, warnings: Sequence[str]
    ) -> Report:
        """The schema of a run's report, with a `compare` block: `good` is the first configuration, `bad` that of the leading pair."""
        told, found = pairs[lead], self._attributed_report(rule)
        by_axes = found or Report(metric=self._reader.name, verdict=Verdict(kind=""))
        verdict = by_axes.verdict
        axes = None if found is None else ComparedAxes(sentence=verdict.sentence, kind=verdict.kind, bad=found.bad)
        report = Report(
            schema_=SCHEMA,
            run=self._digest_of_rule(rule),
            good=self._chosen[0].name,
            bad=told.bad,
            metric=self._reader.name,
            higher_is_better=self._reader.metric.higher_is_better,
            percent=self._reader.metric.is_share,
            unit=self._reader.metric.own_unit,
            tolerance=rule.tolerance,
            axes=by_axes.axes,
            design=by_axes.design,
            compare=CompareBlock(
                kind=kind,
                tolerance=rule.tolerance,
                alpha=rule.alpha,
                paired_by=self._pairs.way,
                configurations=tuple(map(self._configuration, range(len(self._chosen)))),
                pairs=tuple(pairs),
                lead=lead,
                attribution=axes,
            ),
            verdict=with_all_fields(
                Verdict(kind=kind, causes=verdict.causes, rollback=verdict.rollback, keep=verdict.keep, reason=told.reason)
            ),
            loss=told.loss,
            log=self._log_block(),
            effects=by_axes.effects,
            cells=by_axes.cells,
            segments=told.segments,
            side_metrics=told.side_metrics,
            examples=tuple(_flip_example(flip) for flip in told.flips[: tables.MOST_EXAMPLES] if flip.change < 0),
            warnings=(*warnings, *by_axes.warnings),
            decision=self._decision(rule),
            usage=NO_CALLS,
        )
        return with_all_fields(report)

    def _tolerance(self, given: float | None) -> tuple[float, list[str]]:
        if given is not None:
            wrong = objection(given, self._reader.name, lowest=0.0, highest=1.0) if self._reader.metric.is_share else None
            if wrong is not None:
                raise InputError(f"cannot compare: {wrong}")
            return given, []
        scores = self._sides[0].scores[0]
        known = scores[~np.isnan(scores)]
        if self._reader.metric.is_share and not is_open(known, None):
            return DEFAULT, []
        value = relative(known)
        return value, [relative_note(value, self._reader.metric.own_unit)]

    def _reported_pair(
        self, i: int, tests: PairedTests, verdict: PairedVerdict, rule: EquivalenceRule, *, told: bool
    ) -> ReportedPair:
        side, metric = self._sides[i], self._reader.metric
        names = [name for name in self._found.score_names() if name != self._reader.name]
        segments = side.segments(self._segment, rule, self._seed) if told or self._segment else []
        missing = side.missing()
        return ReportedPair(
            bad=self._chosen[i + 1].name,
            kind=verdict.kind,
            reason=verdict.reason,
            p_adjusted=verdict.p_adjusted,
            loss=_pair_loss(tests, metric),
            equivalence=EquivalenceTest(interval=tests.narrow, p_no_worse=tests.p_no_worse, p_no_better=tests.p_no_better),
            sees=tests.sees,
            queries_needed=tests.queries_to_see(rule.tolerance),
            lost=tests.lost,
            gained=tests.gained,
            only_good=side.only_good,
            only_bad=side.only_bad,
            missing_good=missing[0],
            missing_bad=missing[1],
            differs=tuple(read(RecordedDifference, each) for each in differing_settings(self._chosen[0], self._chosen[i + 1])),
            flips=tuple(side.flips()),
            side_metrics=tuple(side.side_metrics(names)),
            segments=tuple(reported_segment(s, metric) for s in segments),
        )

    def _attributed_report(self, rule: EquivalenceRule) -> Report | None:
        """The report of `attribute` on the scores by configuration; None when the settings make no design."""
        grid, reader = grid_of(self._chosen), self._reader
        if grid is None or len(grid.levels) < 2:
            return None
        found = attribute(
            list(grid_rows(grid, self._chosen, self._pairs, lambda row: row.scores.get(reader.name))),
            axes=grid.levels,
            cluster="cluster",
            metric=reader.name,
            higher_is_better=reader.metric.higher_is_better,
            tolerance=rule.tolerance,
            alpha=rule.alpha,
            incomplete="keep",
            missing=reader.missing,
            good=self._chosen[0].name,
            bad=self._chosen[grid.bad].name,
        )
        return read(Report, found.report)

    def _configuration(self, number: int) -> ComparedConfiguration:
        """A configuration; its value is over all its own questions, in the metric's units."""
        c, groups = self._chosen[number], self._pairs.groups[number]
        value = side_value(groups, self._reader)
        return ComparedConfiguration(
            name=c.name,
            file=c.source,
            settings=dict(c.settings),
            rows=len(c.rows),
            queries=len(groups),
            failed=sum(row.failed for row in c.rows),
            unscored=len(groups) - value.n,
            value=value.value,
            interval=finite(value.interval),
        )

    def _log_block(self) -> LogBlock:
        kept = sum(len(c.rows) for c in self._found.configurations)
        return LogBlock(
            format=", ".join(self._found.formats), read=self._found.read, kept=kept, dropped=dict(self._found.dropped)
        )

    def _decision(self, rule: EquivalenceRule) -> str:
        several = f"; claims adjusted over {len(self._sides)} comparisons (Holm)" if len(self._sides) > 1 else ""
        return (
            f"Paired by {self._pairs.way}. Equivalent: two one-sided tests at {rule.alpha:g} exclude a loss and a gain of "
            f"{rule.tolerance:g} or more. Regression: a loss beyond chance (two-sided, {rule.alpha:g}) and estimated above "
            f"{rule.tolerance:g}{several}. No call was made."
        )

    def _digest_of_rule(self, rule: EquivalenceRule) -> str:
        scores = [[None if np.isnan(x) else float(x) for side in pair.scores for x in side] for pair in self._sides]
        names = [c.name for c in self._chosen]
        return digest(
            {"metric": self._reader.name, "tolerance": rule.tolerance, "alpha": rule.alpha, "names": names, "scores": scores}
        )[:16]

    # -- warnings ------------------------------------------------------------------------------------------------------
    def _warnings(self, pairs: Sequence[ReportedPair], given_good: bool) -> Iterator[str]:
        yield from self._found.notices
        if not given_good and len({c.source for c in self._chosen}) == 1:
            yield f"the others are compared with {self._chosen[0].name}, which comes first in the file; --good names another"
        yield from self._sides[0].clusters[1]
        for pair in pairs:
            yield from _pair_warnings(self._chosen[0].name, pair)
        asked, shared = self._pairs.differently_asked, len(self._sides[0].keys)
        if asked > MOVED * shared and self._pairs.way not in ("test variables",):
            yield f"{asked} of {shared} questions paired by {self._pairs.way} are asked in other words: --pair names another column"
        yield from self._repeat_warnings()

    def _repeat_warnings(self) -> Iterable[str]:
        several = [sum(len(rows) > 1 for rows in groups.values()) for groups in self._pairs.groups]
        if any(several):
            yield f"{max(several)} questions were answered several times by one configuration: their mean counts"


def _pair_loss(tests: PairedTests, metric: Metric) -> MeasuredLoss:
    return MeasuredLoss(
        estimate=tests.loss.value,
        interval=tests.loss.interval,
        n=tests.loss.n,
        method=tests.loss.method,
        bounds=None if tests.bounds is None else tests.bounds.interval,
        good=metric.value(tests.good),
        good_interval=None,
        bad=metric.value(tests.bad),
        bad_interval=None,
    )


def _flip_example(flip: ScoredFlip) -> FlippedQuery:
    good, bad = (ShownAnswer(text=str(side.text), score=side.score, tool_calls=()) for side in (flip.good, flip.bad))
    return FlippedQuery(query=flip.query, input=flip.input, reference=flip.reference, good=good, bad=bad)


def _pair_warnings(first: str, pair: ReportedPair) -> Iterator[str]:
    if pair.only_good or pair.only_bad:
        yield (
            f"{pair.only_good} questions are only in {first} and {pair.only_bad} only in {pair.bad}: they cannot be compared and "
            "are left out"
        )
    if pair.missing_good or pair.missing_bad:
        how = "their pairs are left out"
        if pair.loss.bounds is not None:
            how += ", and since they are many or lean to one side, a verdict must hold whatever their scores would have been"
        yield f"paired questions without a score: {pair.missing_good} of {first}, {pair.missing_bad} of {pair.bad}; {how}"
