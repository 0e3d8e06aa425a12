"""Facts first: from what a run found to the report, the frozen values (DESIGN.md section 9) that every renderer arranges.

No wall clock, sorted, finite numbers only: the same store and seed give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from bisect_ai.attribution.problem import Attribution, Cause, CellValue, Effect, Estimate, Failing, Limit, Rollback, names_of
from bisect_ai.attribution.questions.elsewhere import Parts
from bisect_ai.attribution.questions.segments import Segment
from bisect_ai.provider.redaction import redact_all
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.measured_values import (
    LoggedLoss,
    LossParts,
    MeasuredLoss,
    ReportedCell,
    ReportedEffect,
    ReportedSegment,
)
from bisect_ai.report.planning_values import NamedChange
from bisect_ai.report.report_values import (
    CandidateCause,
    DrillBlock,
    FailingShares,
    FinerRollback,
    MeasuredBeside,
    MeasuredRollback,
    NamedCause,
    OpenAxis,
    Report,
    RunUsage,
    Verdict,
)
from bisect_ai.report.value_types import ReportedEstimate, Value
from bisect_ai.report.verdict_sentence import verdict_sentence
from bisect_ai.runs.run_accounts import Unfinished
from bisect_ai.scoring.metric import Metric, finite

SCHEMA = "bisect-ai/report@1"
# What a command costs that reads files only.
NO_CALLS = RunUsage(calls=0, cached=0, errors=0, usd=0.0, tokens=0, seconds=0.0)
V = TypeVar("V", bound=Value)


@dataclass(frozen=True)
class Facts:
    """What a run found, told into `report`, which has all else: what was asked, how it is measured, what surrounds it.

    Estimates are oriented (higher is better).
    """

    report: Report
    attribution: Attribution
    # drift, not_reproduced or traffic, when the verdict lies outside the release.
    outside: str | None = None
    drift: Estimate | None = None
    logged: LoggedLoss | None = None
    # How many points of the logged drop went where.
    parts: Parts | None = None
    # Changes that the drill-down named, in full.
    named: Sequence[NamedChange] = ()
    drill: DrillBlock | None = None
    # Why each cell that cannot run does not.
    refused: Mapping[int, str] = field(default_factory=dict)
    segments: Sequence[Segment] = ()
    # The cap at which the run stopped.
    stopped: str | None = None
    # What takes the rollback's files back in git.
    command: str | None = None

    @cached_property
    def metric(self) -> Metric:
        """What the values mean."""
        return metric_of_report(self.report)


def metric_of_report(report: Report) -> Metric:
    """What the values of a report mean."""
    up = report.higher_is_better is not False
    return Metric(higher_is_better=up, unit=report.unit or "", seen_as_share=bool(report.percent))


def build(facts: Facts) -> Report:
    """The report but for its sentence."""
    found, report = facts.attribution, facts.report
    missing = {cell.bad_axes: cell.missing for cell in report.tape.cells} if report.tape else {}
    told = {
        "schema_": SCHEMA,
        "verdict": _run_verdict(facts),
        "loss": _measured_loss(facts),
        "effects": tuple(map(_reported_effect, found.effects)),
        "cells": tuple(_reported_cell(c, facts, missing) for c in found.cells),
        "segments": tuple(reported_segment(s, facts.metric) for s in facts.segments),
        "warnings": (*found.notes, *report.warnings),
        "drill": facts.drill,
    }
    return with_all_fields(report).model_copy(update=told)


def told_report(report: Report, sentence: Callable[[Report], str] = verdict_sentence) -> dict[str, Any]:
    """The report as plain JSON: numbers rounded, the sentence of its verdict written from them, credentials hidden."""
    whole = read(Report, _plain_mapping(as_mapping(report)))
    verdict = whole.verdict.model_copy(update={"sentence": sentence(whole)})
    told: dict[str, Any] = redact_all(as_mapping(whole.model_copy(update={"verdict": verdict})))
    return told


def with_all_fields(value: V) -> V:
    """The value with every field given, so that those which say nothing are written too; but for the `level` of usual intervals."""
    fields = set(type(value).model_fields) - {"level"}
    return value.model_copy(update={name: getattr(value, name) for name in fields})


def ended_report(kind: str, reason: str, *, of: Unfinished | None = None, paid_nothing: bool = False) -> dict[str, Any]:
    """The report of what ended without a verdict: `kind` (failed, interrupted) and why, and of a run that had begun what it cost."""
    report = Report(schema_=SCHEMA, metric="", verdict=Verdict(kind=kind, reason=reason))
    told: dict[str, Any] = {"usage": NO_CALLS} if paid_nothing else {}
    if of is not None:
        names = {"run": of.run, "good": of.good, "bad": of.bad, "metric": of.metric}
        told = {**{name: value for name, value in names.items() if value}, "usage": RunUsage(**asdict(of.spent))}
    return told_report(report.model_copy(update=told))


def _run_verdict(facts: Facts) -> Verdict:
    found = facts.attribution
    named = facts.outside is None
    told = Verdict(
        kind=facts.outside or found.kind,
        causes=tuple(_named_cause(c, facts) for c in found.causes) if named else (),
        rollback=_measured_rollback(found.rollback, facts) if found.rollback and named else None,
        keep=found.keep if named else (),
        open=tuple(_open_axes(found, facts)) if named and found.kind == "cause" else (),
        reason=_verdict_reason(facts),
        stopped=facts.stopped,
        calls_needed=found.calls_needed if named else None,
        candidates=tuple(CandidateCause(axes=a, belief=b) for a, b in found.candidates) if named else (),
    )
    return with_all_fields(told)


def _open_axes(found: Attribution, facts: Facts) -> Iterator[OpenAxis]:
    """The changed axes that are neither named nor kept nor reverted, with what each costs at most."""
    known = {*found.keep, *(found.rollback.axes if found.rollback else ()), *(a for c in found.causes for a in c.axes)}
    limits = dict(found.limits)
    for axis in facts.report.axes:
        if axis not in known:
            limit = limits.get(axis, Limit(math.inf))
            yield OpenAxis(axis=axis, at_most=limit.most if math.isfinite(limit.most) else None, leans=limit.leans)


def _verdict_reason(facts: Facts) -> str:
    if facts.outside == "drift":
        return "the good release, replayed now, no longer scores what the log says it scored"
    if facts.outside == "not_reproduced":
        return "the log shows a drop between its two releases, replay of the same queries does not"
    if facts.outside == "traffic":
        return "the good release, replayed now, scores lower on the queries of the bad release's time than on those of its own"
    return facts.attribution.reason


def _named_cause(cause: Cause, facts: Facts) -> NamedCause:
    return NamedCause(
        axes=cause.axes,
        mode=cause.mode,
        share=cause.share.value,
        interval=finite(cause.share.interval),
        method=cause.share.method,
        failing=None if cause.failing is None else _failing_shares(cause.failing),
        beside=tuple(_measured_beside(cause, facts)),
        changes=tuple(_changes_of_cause(cause, facts)),
    )


def _measured_beside(cause: Cause, facts: Facts) -> Iterator[MeasuredBeside]:
    """The axes beside which a cause was measured, and why the mixtures that tear them apart cannot run."""
    if cause.is_unit:
        yield MeasuredBeside(axes=cause.axes, version="both", reason=_torn_reason(cause.axes, cause.axes, facts))
    for version, others in (("new", cause.beside_new), ("old", cause.beside_old)):
        apart: dict[str | None, list[str]] = {}
        for other in others:
            needing, needed = (cause.axes, [other]) if version == "new" else ([other], cause.axes)
            apart.setdefault(_torn_reason(needing, needed, facts), []).append(other)
        for reason, axes in apart.items():
            yield MeasuredBeside(axes=tuple(axes), version=version, reason=reason)


def _torn_reason(needing: Sequence[str], needed: Sequence[str], facts: Facts) -> str | None:
    """Why a mixture with the one axis bad and the other good cannot run, as the target says: of those that were tried, the one that
    lacks least of the bad release, which runs, so that nothing but the other is lacking.
    """
    for cell in sorted(facts.refused, key=int.bit_count, reverse=True):
        bad = set(names_of(cell, facts.report.axes))
        if bad & set(needing) and set(needed) - bad:
            return facts.refused[cell]
    return None


def _failing_shares(failing: Failing) -> FailingShares:
    """Shares of calls that fail with the cause and with it reverted, and the part of its cost that they are."""
    return FailingShares(with_=failing.with_it, without=failing.without, share=failing.share, n=failing.n)


def _changes_of_cause(cause: Cause, facts: Facts) -> Sequence[NamedChange]:
    """The named changes of a cause; without a drill-down those that are the only ones of their axes."""
    if facts.drill is None:
        return list(_only_changes(cause.axes, facts.report.changes))
    axes = [c.axes for c in facts.attribution.causes]
    return [c for c in facts.named if _home_cause(c, axes) == cause.axes]


def _home_cause(change: NamedChange, causes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first cause that has all the axes that the change acts in, else the first that has its own."""
    span = {change.axis, *(other.axis for other in change.with_)}
    whole = (axes for axes in causes if span <= set(axes))
    return next(whole, None) or next((axes for axes in causes if change.axis in axes), ())


def _measured_rollback(rollback: Rollback, facts: Facts) -> MeasuredRollback:
    """The axes to revert, and under `changes` and `finer` a finer rollback when one was measured and restores enough."""
    finer = None if facts.drill is None else facts.drill.rollback
    if finer is not None and not finer.enough:
        finer = None
    return MeasuredRollback(
        axes=rollback.axes,
        value=facts.metric.value(rollback.value.value),
        interval=facts.metric.mean_ends(rollback.value.interval),
        restores=rollback.restores,
        restores_interval=finite(rollback.interval),
        along=rollback.along,
        changes=() if finer is None else finer.changes,
        finer=None if finer is None else _without_changes(finer),
        command=facts.command,
    )


def _without_changes(finer: FinerRollback) -> FinerRollback:
    """What was measured alone: the verdict names the changes beside it."""
    return FinerRollback(
        value=finer.value,
        interval=finer.interval,
        restores=finer.restores,
        restores_interval=finer.restores_interval,
        n=finer.n,
        method=finer.method,
    )


def _only_changes(axes: Iterable[str], changes: Sequence[NamedChange]) -> Iterator[NamedChange]:
    """The change of a guilty axis that has just one: there is nothing left to tell apart in it."""
    for axis in axes:
        inside = [c for c in changes if c.axis == axis]
        if len(inside) == 1:
            yield inside[0]


def _measured_loss(facts: Facts) -> MeasuredLoss:
    found, loss, metric = facts.attribution, facts.attribution.loss, facts.metric
    return MeasuredLoss(
        **estimate_fields(loss, metric),
        bounds=metric.loss_ends(loss.bounds),
        good=metric.value(found.good.value),
        good_interval=metric.mean_ends(found.good.interval),
        bad=metric.value(found.bad.value),
        bad_interval=metric.mean_ends(found.bad.interval),
        logged=facts.logged,
        drift=_estimate_if_known(facts.drift),
        parts=None if facts.parts is None else _loss_parts(facts.parts),
    )


def _loss_parts(parts: Parts) -> LossParts:
    """Points of the logged drop by where they went; None: not known."""
    return LossParts(
        drop=_estimate_if_known(parts.drop),
        drift=_estimate_if_known(parts.drift),
        traffic=_estimate_if_known(parts.traffic),
        release=_estimate_if_known(parts.release),
        not_reproduced=_estimate_if_known(parts.rest),
    )


def _reported_effect(effect: Effect) -> ReportedEffect:
    """An effect; of a net one also what it is made of, and whether its cost is proved."""
    is_net = effect.kind == "net"
    return ReportedEffect(
        axes=effect.axes,
        kind=effect.kind,
        **estimate_fields(effect.estimate),
        p_adjusted=effect.p_adjusted,
        breaks=effect.breaks if is_net else None,
        mends=effect.mends if is_net else None,
        proved=effect.proved if is_net else None,
    )


def reported_segment(segment: Segment, metric: Metric) -> ReportedSegment:
    """A segment with its values in the metric's units and its loss in points."""
    return ReportedSegment(
        name=segment.name,
        found_by=segment.found_by,
        where=dict(segment.where),
        share=segment.share,
        good=metric.value(segment.good),
        bad=metric.value(segment.bad),
        loss=segment.loss.value,
        interval=metric.loss_ends(segment.loss.interval),
        n=segment.loss.n,
        p_adjusted=segment.p_adjusted,
        method=segment.loss.method,
    )


def _reported_cell(cell: CellValue, facts: Facts, misses: Mapping[tuple[str, ...], int]) -> ReportedCell:
    bad = names_of(cell.cell, facts.report.axes)
    missing = misses.get(bad, 0)
    return ReportedCell(
        bad_axes=bad,
        value=facts.metric.value(cell.estimate.value),
        interval=facts.metric.mean_ends(cell.estimate.interval),
        n=cell.estimate.n,
        method=cell.estimate.method,
        trials=cell.trials,
        errors=max(0, cell.errors - missing),
        missing=missing,
        status=cell.status,
        reason=facts.refused.get(cell.cell) if cell.status == "infeasible" else None,
    )


def estimate_fields(difference: Estimate, metric: Metric | None = None) -> dict[str, Any]:
    """A difference of scores as the fields of what reports it: estimate, interval, n, method; two shares differ by 1 at most."""
    ends = finite(difference.interval) if metric is None else metric.loss_ends(difference.interval)
    return {"estimate": difference.value, "interval": ends, "n": difference.n, "method": difference.method}


def reported_estimate(estimate: Estimate) -> ReportedEstimate:
    """An estimate in oriented points."""
    return ReportedEstimate(**estimate_fields(estimate))


def _estimate_if_known(estimate: Estimate | None) -> ReportedEstimate | None:
    return None if estimate is None else reported_estimate(estimate)


# -- numbers as they are written -------------------------------------------------------------------------------------
# Behind the point: doubles of the size of scores hold 15, and the last bits of arithmetic on another machine don't show.
DIGITS = 10


def _plain_mapping(values: Mapping[str, object]) -> dict[str, object]:
    return {str(k): _plain_value(v) for k, v in values.items()}


def _plain_value(value: object) -> object:
    """A value as plain JSON: numbers rounded, undefined ones None, what JSON cannot hold as text."""
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, list | tuple):
        return [_plain_value(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float) or hasattr(value, "item"):
        number = float(value)  # type: ignore[arg-type]  # numpy's
        return round(number, DIGITS) + 0.0 if math.isfinite(number) else None
    return str(value)
