"""From a finished run to the report's facts: side metrics, flipped examples, warnings, and the changes of each axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bisect_ai.attribution.invariants import ANY, consistent
from bisect_ai.attribution.problem import Attribution
from bisect_ai.attribution.questions.audit import AuditRule
from bisect_ai.attribution.questions.verify import RESTORE
from bisect_ai.attribution.search.coupled import design_search
from bisect_ai.attribution.stats.change_points import Trend, with_trend
from bisect_ai.attribution.stats.missing import bounds_warning, with_bounds, with_failing
from bisect_ai.canonical import plain
from bisect_ai.facts.change_facts import ChangeRows, git_command, told
from bisect_ai.facts.missing_answers import bounds_of, empty_warnings, held_back, outcomes_by_cell, tape_block, without_silence
from bisect_ai.facts.report_view import Facts, build, told_report
from bisect_ai.facts.run_warnings import (
    configuration_warnings,
    damage_warnings,
    environment_warnings,
    most_frequent_errors,
    provider_block,
    scorer_warnings,
    trend_block,
    trend_of,
    trend_warning,
)
from bisect_ai.facts.saved_runs import shown_answer
from bisect_ai.facts.segment_facts import segments_of_run
from bisect_ai.facts.side_metrics import side_metrics
from bisect_ai.provider.redaction import redact
from bisect_ai.queries.record_accounting import log_block
from bisect_ai.release.check import static_check
from bisect_ai.report.accounting import warnings as tape_warnings
from bisect_ai.report.blocks import count
from bisect_ai.report.json_edge import read
from bisect_ai.report.measured_values import LoggedLoss
from bisect_ai.report.planning_values import FlippedQuery, LogBlock, ReportedSuspect
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.report.run_blocks import AuditBlock, JudgeBlock, TapeBlock, VerifyBlock
from bisect_ai.runs.judging import judge_facts
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.outcomes import Outcomes
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.question import AuditQuestion, VerifyQuestion
from bisect_ai.runs.tape_misses import tape_of
from bisect_ai.store.recovery import Damage

# Flipped queries that a report shows.
EXAMPLES = 5
# Characters of a question or an answer that it keeps.
TEXT_LIMIT = 2000
# Difference of failure rates on the two sides of an axis from which on it is told.
ERRORS_WORTH_A_WARNING = 0.02


@dataclass(frozen=True)
class _Settled:
    """What may be claimed of a run, and what a reader must be warned of."""

    found: Attribution
    # Nothing is claimed, for the tape's sake or because both releases answer with nothing.
    is_held: bool
    silence: str | None
    trend: Trend | None
    tape: TapeBlock
    judges: list[JudgeBlock]
    warnings: list[str]


def _settled_facts(outcomes: Outcomes, damage: Damage, *, verify: bool, judged: bool) -> _Settled:
    """What was found, less what missing and moving answers forbid to say. `judged`: the verdict is the attribution's."""
    prepared, found = outcomes.prepared, _as_far_as_it_came(outcomes)
    warnings = [
        *outcomes.warnings,
        *_error_warnings(outcomes),
        *empty_warnings(outcomes),
        *configuration_warnings(outcomes.ledger.observations, prepared.axes),
        *scorer_warnings(outcomes),
        *damage_warnings(damage),
    ]
    warnings += environment_warnings(outcomes)
    judges, lines = _judge_blocks(outcomes)
    warnings += lines
    trend = trend_of(outcomes)
    if trend is not None:
        found = with_trend(found, trend, prepared.axes)
        warnings.append(trend_warning(outcomes, trend))
    if (gaps := bounds_of(outcomes)) is not None:
        found = with_bounds(found, gaps[0], failed=gaps[1], tolerance=prepared.config.tolerance)
        warnings.append(bounds_warning(gaps[0]))
    found = with_failing(found, outcomes_by_cell(outcomes), prepared.axes, prepared.problem.bounds)
    tape = tape_of(outcomes.ledger.observations, len(prepared.axes), outcomes.ledger.inside, chosen=outcomes.attribution.chosen)
    found, held = held_back(found, outcomes, tape, verify=verify)
    found, silence = without_silence(found, outcomes)
    held = held or silence is not None
    tolerance, within = prepared.config.tolerance, outcomes.metric.oriented_ends or ANY
    found = consistent(found, axes=prepared.axes, tolerance=tolerance, within=within, judges=judged)
    tape_told = tape_block(tape, prepared, held=held)
    warnings += tape_warnings(tape_told)
    return _Settled(found, held, silence, trend, tape_told, judges, warnings)


def summarise(
    outcomes: Outcomes,
    *,
    damage: Damage,
    audit: AuditBlock | None = None,
    verify: VerifyBlock | None = None,
) -> dict[str, Any]:
    """The report of a finished run as plain JSON; `audit`: what the audit found that it is, or follows; `verify` likewise."""
    prepared, environment = outcomes.prepared, outcomes.environment
    settled = _settled_facts(outcomes, damage, verify=verify is not None, judged=audit is None and verify is None)
    found, held = settled.found, settled.is_held
    if held and audit is not None and audit.kind == "healthy":
        audit = audit.model_copy(update={"kind": "undecided"})
    if held and verify is not None:
        verify = verify.model_copy(update={"kind": "undecided"})
    withdrawn = held or (outcomes.attribution.kind == "cause" and found.kind != "cause")
    shown = replace(outcomes, attribution=found, drill=None if withdrawn else outcomes.drill)
    changes = told(shown, example=lambda query, good, bad: _flipped_query(outcomes, query, good, bad))
    facts = Facts(
        _report_around(outcomes, settled, changes, audit=audit, verify=verify),
        found,
        outside=None if held else environment.kind if verify is None or verify.kind == "undecided" else verify.kind,
        drift=environment.drift,
        logged=_logged_loss(outcomes),
        parts=environment.parts,
        named=changes.named,
        drill=changes.block,
        refused=_refused_cells(found, outcomes),
        segments=segments_of_run(outcomes, outcomes_by_cell(outcomes) if _is_failing(shown) else None),
        stopped=settled.silence or outcomes.stopped,
        command=None if found.rollback is None else git_command(prepared, found.rollback.axes),
    )
    return told_report(build(facts))


def _report_around(
    outcomes: Outcomes, settled: _Settled, changes: ChangeRows, *, audit: AuditBlock | None, verify: VerifyBlock | None
) -> Report:
    """The report but for what is told from the attribution: what was asked, how it is measured, what surrounds it."""
    prepared, found = outcomes.prepared, settled.found
    return Report(
        run=prepared.run_id,
        good=prepared.good.name,
        bad=prepared.bad.name,
        metric=prepared.metric.name,
        higher_is_better=prepared.metric.higher_is_better,
        percent=outcomes.metric.is_share,
        unit=prepared.metric.own_unit,
        tolerance=prepared.config.tolerance,
        alpha=prepared.config.alpha,
        axes=prepared.axes,
        design=prepared.config.design,
        audit=audit,
        verify=verify,
        verdict=Verdict(kind=found.kind),
        log=read(LogBlock, log_block(prepared.sample)),
        tape=settled.tape,
        trend=None if settled.trend is None else trend_block(settled.trend, found),
        side_metrics=tuple(side_metrics(outcomes)),
        judges=tuple(settled.judges),
        examples=tuple(_flipped_queries(outcomes)),
        warnings=tuple(settled.warnings),
        suspects=tuple(
            read(ReportedSuspect, asdict(s)) for s in static_check(prepared.good, prepared.bad, columns=prepared.columns)
        ),
        changes=changes.rows,
        owners=owners(prepared),
        decision=decision(prepared),
        usage=RunUsage(**asdict(outcomes.ledger.paid), provider=provider_block(outcomes.ledger.observations)),
    )


def _as_far_as_it_came(outcomes: Outcomes) -> Attribution:
    """What was found. A fixed design that a cap cut short claims nothing: its rule was made for all of its cells."""
    found = outcomes.attribution
    if outcomes.stopped is None or outcomes.prepared.config.design == "adaptive":
        return found
    return replace(found, kind="inconclusive", causes=(), rollback=None, keep=())


def _judge_blocks(outcomes: Outcomes) -> tuple[list[JudgeBlock], list[str]]:
    """A block for each judge, and what a reader must be warned of."""
    desks = [desk for desk in outcomes.desks.values() if desk.scorer.judge is not None]
    metric, loss = outcomes.prepared.metric.name, outcomes.attribution.loss
    told = [
        judge_facts(
            desk,
            outcomes.prepared.problem.full,
            outcomes.ledger,
            outcomes.answer_of,
            loss=loss if desk.scorer.name == metric else None,
        )
        for desk in desks
    ]
    return [read(JudgeBlock, block) for block, _ in told], [line for _, lines in told for line in lines]


def decision(prepared: Prepared) -> str:
    """The rule that was fixed before the first call, in a sentence."""
    c = prepared.config
    question = prepared.question
    if isinstance(question, AuditQuestion):
        return _audit_decision(question.rule)
    if isinstance(question, VerifyQuestion):
        return _verify_decision(prepared)
    how = _adaptive_rule(prepared) if c.design == "adaptive" else _factorial_rule(prepared)
    inside = (
        f"; a change inside a guilty axis is named only by a test on trials made after it was suspected, at "
        f"{c.alpha - prepared.alpha:g} over all that are suspected: axes and changes share alpha = {c.alpha:g}"
    )
    return f"Fixed before the first call: {how}{inside if prepared.drills else ''}."


def _adaptive_rule(prepared: Prepared) -> str:
    """How the adaptive search names an axis."""
    parts = getattr(design_search("adaptive", prepared.problem), "error_budget", None)
    divided = f"{prepared.alpha:g} in all" if parts is None else parts.describe()
    return (
        f"an axis is named only when a one-sided group-sequential test over randomly ordered queries rejects that its net cost (the "
        f"mean paired difference between without and with it) is nothing ({divided}; within each by Holm's steps over "
        f"{len(prepared.axes)} axes), and the cost is estimated at the tolerance of {prepared.config.tolerance:g} or more, beside a "
        "loss estimated above it"
    )


def _factorial_rule(prepared: Prepared) -> str:
    """How a fixed design names an axis."""
    return (
        f"an axis is named when its net cost, averaged over the settings of the others, is above 0 at p < {prepared.alpha:g} "
        f"(one-sided, Holm-adjusted over {len(prepared.axes)} axes) and reaches the tolerance of {prepared.config.tolerance:g} "
        "somewhere, beside a loss estimated above it whose interval excludes a gain"
    )


def _audit_decision(rule: AuditRule) -> str:
    return (
        f"Fixed before the first call: an alarm needs evidence above {rule.bound:g} = {rule.per_year} audits a year / "
        f"{rule.alpha:g}, so that a year of audits raises one about nothing with a chance of at most {rule.alpha:g}; all is well "
        f"when the evidence against a loss of {rule.detect:g} passes {1 / rule.miss:g}."
    )


def _verify_decision(prepared: Prepared) -> str:
    c = prepared.config
    return (
        f"Fixed before the first call: every claim needs evidence above {2 / c.alpha:g} = 2 / {c.alpha:g}, so that any wrong one has "
        f"a chance of at most {c.alpha:g}; a fix must bring back {RESTORE:.0%} of the net loss, or all of it but "
        f"{c.tolerance:g}, on queries drawn at random. All answers are new: those that broke may also do so by chance."
    )


def owners(prepared: Prepared) -> dict[str, str | None]:
    """The owner of each changed axis, as the bad release's provenance has it; None: nobody owns it."""
    return {a: _text_or_none(prepared.bad.provenance.get(a, {}).get("owner")) for a in prepared.axes}


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _logged_loss(outcomes: Outcomes) -> LoggedLoss | None:
    seen, loss = outcomes.environment, outcomes.environment.logged
    if loss is None:
        return None
    return LoggedLoss(good=seen.logged_good, bad=seen.logged_bad, loss=loss.value, interval=loss.interval, n=loss.n)


def _refused_cells(found: Attribution, outcomes: Outcomes) -> dict[int, str]:
    """Why the cells that cannot run do not, as the target says."""
    if all(cell.status != "infeasible" for cell in found.cells):
        return {}
    return {o.trial.cell: o.infeasible for o in outcomes.ledger.observations if o.infeasible}


def _is_failing(outcomes: Outcomes) -> bool:
    """Whether a cause is that calls fail."""
    return any(cause.failing for cause in outcomes.attribution.causes)


# -- examples --------------------------------------------------------------------------------------------------------
def _flipped_queries(outcomes: Outcomes) -> list[FlippedQuery]:
    """Queries that lost most from good to bad, in the order of the sample; where calls that fail are the cause, such first."""
    metric, seen, corners = outcomes.prepared.metric, outcomes.ledger.observations, (0, outcomes.prepared.problem.full)
    pairs = seen.paired_scores(corners[1], metric.name, metric)
    lost = [(bad - good, q) for q, (good, bad) in pairs.items() if good > bad]
    if _is_failing(outcomes):
        good_ones = seen.first_scores(corners[0], metric.name)
        lost += [(-np.inf, o.index) for o in seen.first(corners[1]) if o.error and o.index in good_ones]
    shown = [query for _, query in sorted(lost)[:EXAMPLES]]
    trials = [{o.index: o for o in seen.first(cell, of=shown)} for cell in corners]
    return [_flipped_query(outcomes, query, *(side[query] for side in trials)) for query in shown]


def _flipped_query(outcomes: Outcomes, index: int, good: Observation, bad: Observation) -> FlippedQuery:
    prepared = outcomes.prepared
    query = prepared.sample.queries[index]
    segments = prepared.sample.segments
    return FlippedQuery(
        query=query.id,
        segment=None if segments is None else segments[index],
        input=redact(query.input)[:TEXT_LIMIT],
        reference=plain(query.reference),
        good=shown_answer(outcomes.answer_of(good), good.score(prepared.metric.name), most=TEXT_LIMIT),
        bad=shown_answer(outcomes.answer_of(bad), bad.score(prepared.metric.name), most=TEXT_LIMIT),
    )


# -- warnings --------------------------------------------------------------------------------------------------------
def _error_warnings(outcomes: Outcomes) -> list[str]:
    cells = [c for c in outcomes.attribution.cells if c.trials]
    trials, errors = sum(c.trials for c in cells), sum(c.errors for c in cells)
    missing = Counter(o.trial.cell for o in outcomes.ledger.observations if o.missing)
    errors -= missing.total()  # told by the tape
    if errors < 1:
        return []
    found = most_frequent_errors(o.error for o in outcomes.ledger.observations if o.error and not o.missing)
    most = f"; most often “{found[0].error}” ({count(found[0].calls, 'call')})" if found else ""
    lines = [
        f"{errors} of {trials} trials have no score (the call failed or was refused, or no score was given): they are counted per cell"
        + most
    ]
    chosen = [
        o for o in outcomes.ledger.observations if (o.index, o.trial.cell) in outcomes.attribution.chosen and not o.missing
    ]
    apart = Counter(o.trial.cell for o in chosen), Counter(o.trial.cell for o in chosen if o.error)
    tallies = [
        (c.cell, c.trials - apart[0][c.cell], max(0, c.errors - missing[c.cell] - apart[1][c.cell]))
        for c in outcomes.attribution.cells
    ]
    return lines + [w for a, name in enumerate(outcomes.prepared.axes) if (w := _leaning_warning(a, name, tallies))]


def _leaning_warning(axis: int, name: str, tallies: Iterable[tuple[int, int, int]]) -> str | None:
    """A warning when failures lean to one side of an axis, of (cell, trials, failures).

    Only cells that differ in this axis alone are compared (the test of Mantel and Haenszel over such pairs): which cells ran how often
    is the search's choice, and good and bad run most.
    """
    from statsmodels.stats.contingency_tables import StratifiedTable  # a second of its own

    counts = {cell: (errors, trials - errors) for cell, trials, errors in tallies if trials > 0}
    pairs = [(own, counts[cell ^ 1 << axis]) for cell, own in counts.items() if cell >> axis & 1 and cell ^ 1 << axis in counts]
    telling = [pair for pair in pairs if pair[0][0] + pair[1][0] and pair[0][1] + pair[1][1]]
    if not telling:
        return None
    rates = [sum(pair[side][0] for pair in pairs) / sum(sum(pair[side]) for pair in pairs) for side in (0, 1)]
    p = StratifiedTable([np.array(pair, float) for pair in telling]).test_null_odds(correction=True).pvalue
    # 1 %: a warning is not held at alpha, so it must be rare.
    if not p <= 0.01 or abs(rates[0] - rates[1]) < ERRORS_WORTH_A_WARNING:
        return None
    return (
        f"failures lean to one side of {name}: {rates[0]:.1%} with it bad, {rates[1]:.1%} with it good; "
        "failed trials count as the worst score"
    )
