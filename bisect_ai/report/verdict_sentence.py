"""The verdict in one sentence, and which parts follow it in a report on scores alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bisect_ai.report import canary_report, comparison, watch_report
from bisect_ai.report.accounting import remedy, tape_phrase
from bisect_ai.report.blocks import WHOLE, ReportPart, clipped, count, listed, plain_number
from bisect_ai.report.measured_values import LossParts, ReportedEffect
from bisect_ai.report.phrases import (
    ADDS_UP,
    DIFFERS,
    LIKELY,
    RESTORED,
    UNSETTLED,
    UNSETTLED_ALONE,
    calls_to_settle,
    candidates_phrase,
    cannot_run,
    cause_phrase,
    change_name,
    failing_phrase,
    is_cut_short,
    is_inseparable,
    logged_phrase,
    loss_phrase,
    open_axes,
    part_of_drop,
    rollback_phrase,
    share_phrase,
)
from bisect_ai.report.report_values import UNMEASURED, NamedCause, Report, fine_scale, is_of_watching, scale_of
from bisect_ai.report.run_blocks import AuditBlock, GateBlock, VerifiedOthers, VerifyBlock
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.value_types import ReportedEstimate


def verdict_sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict in one sentence that names axes, mode, loss and rollback, each number with its interval."""
    kind = report.verdict.kind
    if report.canary:
        return canary_report.canary_sentence(report, quoting=quoting)
    if is_of_watching(report):
        return watch_report.watch_sentence(report, quoting=quoting)
    if report.compare:
        return comparison.comparison_sentence(report, quoting=quoting)
    if report.gate:
        return _gate_sentence(report, report.gate, quoting)
    if report.audit and kind != "cause":
        return _audit_told(report, report.audit, quoting)
    if report.verify:
        return verified_sentence(report, report.verify, quoting=quoting)
    tell = _SENTENCES.get(kind, _other_sentence)
    return tell(report, quoting) + trend_clause(report, quoting=quoting)


def score_parts(report: Report) -> Callable[..., list[ReportPart]] | None:
    """What builds the parts of a report without combinations: of watching, a canary or a comparison; None for all others."""
    if is_of_watching(report):
        return watch_report.parts
    return canary_report.parts if report.canary else comparison.parts if report.compare else None


def trend_clause(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """A sentence on scores that moved in the run, when that is large beside the loss; else empty."""
    trend = report.trend
    if trend is None or not trend.strong:
        return ""
    moved, scale = trend.move, fine_scale(report, quoting)
    way = "sank" if moved < 0 else "rose"
    return f" Beware: quality {way} by {scale.difference(abs(moved))} while the run went on, of both releases."


def _gate_sentence(report: Report, gate: GateBlock, quoting: Quoting) -> str:
    """What is said of a change: first whether it may pass, then what moved."""
    base, head, reason = quoting.name(gate.base), quoting.name(gate.head), quoting.prose(gate.reason)
    if gate.outcome == "failed":
        return f"no verdict on {head}, which is neither worse nor fine: {reason}"
    if report.audit is None:
        return f"not worse than {base}: {reason}."
    if gate.outcome == "not_worse":
        loss, detect = _loss_clause(report, quoting), fine_scale(report, quoting).difference(report.audit.detect)
        return f"not worse than {base}: {loss}; a loss of {detect} would have shown."
    if gate.outcome == "worse":
        kind = report.verdict.kind
        if kind == "cause":
            return f"worse than {base}: {_cause_sentence(report, quoting)}"
        open_ = reason or _SENTENCES.get(kind, _other_sentence)(report, quoting)
        return f"worse than {base}: {_loss_clause(report, quoting)}; what did it is open: {open_}"
    return (
        f"could not tell whether {head} is worse than {base}: {_loss_clause(report, quoting)}; more queries or calls may tell."
    )


def _audit_told(report: Report, audit: AuditBlock, quoting: Quoting) -> str:
    """What an audit says that named no cause."""
    loss = _loss_clause(report, quoting)
    if audit.kind == "healthy":
        return f"no regression: {loss}; a loss of {fine_scale(report, quoting).difference(audit.detect)} would have shown."
    if audit.kind == "regression":
        kind = report.verdict.kind
        return f"regression: {loss}; what did it is open: {_SENTENCES.get(kind, _other_sentence)(report, quoting)}"
    if (tape := report.tape) and tape.held:
        return f"undecided: {tape_phrase(tape, quoting=quoting)}; {remedy(tape, quoting=quoting)}; {loss}."
    return f"undecided: {loss}; the next audit of the same releases goes on from here."


def _cause_sentence(report: Report, quoting: Quoting) -> str:
    causes = report.verdict.causes
    if len(causes) == 1:
        head = f"{_one_cause(report, causes[0], quoting)}:"
        if causes[0].failing:
            subject = _subject_of(causes[0], quoting)
            head = (
                f"{subject} {'make' if _is_plural(causes[0]) else 'makes'} answers fail: {failing_phrase(causes[0].failing)};"
            )
    else:
        parts = [
            f"{cause_phrase(cause, quoting=quoting)} ({share_phrase(cause)}"
            f"{'; makes answers fail: ' + failing_phrase(cause.failing) if cause.failing else ''})"
            for cause in causes
        ]
        adds = "add up to" if RESTORED <= sum(cause.share or 0.0 for cause in causes) < ADDS_UP else "of"
        head = f"{len(causes)} causes {adds} the drop: {listed(parts)};"
    down = _down_to(report, quoting)
    rest = [f"Whether {others} costs quality too is open."] if (others := open_axes(report, quoting=quoting)) else []
    first = f"{head} {_loss_clause(report, quoting)}; {rollback_phrase(report, quoting=quoting)}."
    return " ".join([first, *([down] if down else []), *rest])


def _one_cause(report: Report, cause: NamedCause, quoting: Quoting) -> str:
    """What the only cause does: "prompt alone causes the drop", or a part of it."""
    if cause.mode == "unsettled" and not cause.beside:
        names = listed([quoting.name(axis) for axis in cause.axes])
        return f"{names} each cost quality; {UNSETTLED}" if len(cause.axes) > 1 else f"{names} costs quality; {UNSETTLED_ALONE}"
    subject, verb = _subject_of(cause, quoting), "cause" if _is_plural(cause) else "causes"
    part = part_of_drop(report, cause)
    return f"{subject} {verb} {part} ({share_phrase(cause)})" if part.startswith("a part") else f"{subject} {verb} {part}"


def _subject_of(cause: NamedCause, quoting: Quoting) -> str:
    """The cause before its verb."""
    return cause_phrase(cause, quoting=quoting) + ("," if cause.beside or cause.mode == "either" else "")


def _down_to(report: Report, quoting: Quoting) -> str:
    """One sentence for the verdict: the named changes, or that there is no single one; empty without a drill-down."""
    drill, causes = report.drill, report.verdict.causes
    named = [c for cause in causes for c in cause.changes]
    if drill is None:
        return ""
    if drill.kind == "found" and named:
        shown = [change_name(c, quoting) for c in named[:3]]
        more = [f"{len(named) - 3} more"] if len(named) > 3 else []
        joined = ", which only run together" if len(named) > 1 and all(map(is_inseparable, named)) else ""
        return f"Down to the change{'s' if len(named) > 1 else ''}: {listed([*shown, *more])}{joined}."
    if drill.kind == "no_single_change":
        axes = listed([quoting.name(axis) for cause in causes for axis in cause.axes])
        return f"No single change inside {axes} is to blame."
    return ""


def _no_regression(report: Report, quoting: Quoting) -> str:
    tolerance = report.tolerance
    limit = "the tolerance" if tolerance is None else f"the tolerance of {fine_scale(report, quoting).difference(tolerance)}"
    return f"no regression: {_loss_clause(report, quoting)}, below {limit}{slice_clause(report, quoting)}."


def slice_clause(report: Report, quoting: Quoting) -> str:
    """The slice that a search found to lose most, for verdicts that would hide it."""
    found = [row for row in report.segments if row.found_by == "search"]
    if not found:
        return ""
    worst, scale = max(found, key=lambda row: row.loss or 0.0), fine_scale(report, quoting)
    loss = loss_phrase(ReportedEstimate(estimate=worst.loss, interval=worst.interval), scale)
    share = WHOLE.value(worst.share)
    return f"; but the queries with {quoting.prose(worst.name)} ({share} of all) show {loss}"


def _not_reproduced(report: Report, quoting: Quoting) -> str:
    shown = _logged_clause(report, quoting)
    gone = _points_of(report, "release", quoting)
    return f"the drop does not show on replay: {shown}; replayed, {_loss_clause(report, quoting)}{gone}."


def _drift(report: Report, quoting: Quoting) -> str:
    loss, scale, metric = report.loss, fine_scale(report, quoting), quoting.name(report.metric)
    logged = None if loss.logged is None else loss.logged.good
    then = f"{metric} was {scale.value(logged)} in the log and is" if logged is not None else f"{metric} is"
    interval = loss.good_interval or _good_cell_interval(report)
    now = f"{scale.value(loss.good)} on replay, {scale.between(interval)}"
    since = f" ({loss_phrase(loss.drift, scale)} against the log)" if loss.drift else ""
    head = "the good release no longer scores what it did, so something outside the recorded axes moved"
    return f"drift: {head}: {then} {now}{since}."


def _traffic_sentence(report: Report, quoting: Quoting) -> str:
    return (
        f"the drop comes with the queries, not with the release: {_logged_clause(report, quoting)}"
        f"{_points_of(report, 'traffic', quoting)}; on the same queries {_loss_clause(report, quoting)}."
    )


_PARTS = {"traffic": "go with the queries, replayed under the good release", "release": "are reproduced"}


def _points_of(report: Report, name: str, quoting: Quoting) -> str:
    """Points of the logged drop: "; 14 of the 16 points go with the queries"; empty when they are not known."""
    parts, scale = report.loss.parts or LossParts(), fine_scale(report, quoting)
    drop, part = parts.drop, parts.release if name == "release" else parts.traffic
    if not drop or not part or drop.estimate is None or part.estimate is None:
        return ""
    unit = "points" if scale.share else scale.unit
    between = f", {scale.between(part.interval)}," if name == "traffic" else ""
    numbers = f"{scale.number(part.estimate)} of the {scale.number(drop.estimate)} {unit}".rstrip()
    return f"; {numbers}{between} {_PARTS[name]}"


def _inconclusive_sentence(report: Report, quoting: Quoting) -> str:
    verdict = report.verdict
    parts = [stopped] if (stopped := verdict.stopped) else []
    if (tape := report.tape) and tape.held:
        told = f"{tape_phrase(tape, quoting=quoting)}; {remedy(tape, quoting=quoting)}"
        return f"inconclusive: {'; '.join([*parts, told, _loss_clause(report, quoting)])}."
    if told := cannot_run(report, quoting):
        return f"inconclusive: {'; '.join([*parts, told])}."
    parts.append(_loss_clause(report, quoting))
    if proved := [e for e in report.effects if e.kind == "net" and e.proved]:
        parts.append(_proved_clause(proved, report, quoting))
    believed = [c for c in verdict.candidates if c.belief is None or c.belief >= LIKELY]
    if believed:
        parts.append(f"the cause may be {candidates_phrase(believed[:3], quoting=quoting)}")
    calls = verdict.calls_needed
    if calls is None and is_cut_short(report):
        parts.append("the design names its cause only once all of its combinations have run")
    else:
        parts.append("no number of calls can be named that would settle it" if calls is None else calls_to_settle(calls))
    return f"inconclusive: {'; '.join(parts)}{slice_clause(report, quoting)}."


def _proved_clause(proved: Sequence[ReportedEffect], report: Report, quoting: Quoting) -> str:
    """Axes whose cost is proved though the release's loss is not there to explain."""
    scale = fine_scale(report, quoting)
    costs = [
        f"{listed([quoting.name(a) for a in e.axes])} costs {scale.difference(e.estimate)} on average, "
        f"{scale.between(e.interval)}"
        for e in proved
    ]
    return listed(costs) if is_cut_short(report) else f"{listed(costs)}, but no loss worth acting on is seen beside it"


def _unmeasured_sentence(report: Report, quoting: Quoting) -> str:
    return f"no verdict: {quoting.prose(report.verdict.reason)}"


def _other_sentence(report: Report, quoting: Quoting) -> str:
    return f"{quoting.name(report.verdict.kind)}: {_loss_clause(report, quoting)}."


_SENTENCES: dict[str, Callable[[Report, Quoting], str]] = {
    "cause": _cause_sentence,
    "no_regression": _no_regression,
    "not_reproduced": _not_reproduced,
    "drift": _drift,
    "traffic": _traffic_sentence,
    "inconclusive": _inconclusive_sentence,
    **dict.fromkeys(UNMEASURED, _unmeasured_sentence),
}


def _loss_clause(report: Report, quoting: Quoting) -> str:
    loss, scale = report.loss, fine_scale(report, quoting)
    good, bad = loss.good, loss.bad
    metric = quoting.name(report.metric)
    if good is None or bad is None:
        return f"{metric} could not be estimated on {'both releases' if good == bad else 'one of the releases'}"
    verb = "falls" if bad < good else "rises" if bad > good else "goes"
    moved = f"{metric} {verb} from {scale.value(good)} to {scale.value(bad)}"
    if _counts_missing(report):
        return f"{moved} among the answers that came; with those that are missing counted as wrong, {loss_phrase(loss, scale)}"
    return f"{moved} ({loss_phrase(loss, scale)})"


def _counts_missing(report: Report) -> bool:
    """Whether the loss is not the difference of the two values: it counts answers that the values do not have."""
    loss = report.loss
    if loss.estimate is None or loss.good is None or loss.bad is None or report.higher_is_better is None:
        return False
    apart = (loss.good - loss.bad) * report.sign
    return bool(abs(apart - loss.estimate) > DIFFERS * max(abs(loss.good), abs(loss.bad), abs(loss.estimate)))


def _logged_clause(report: Report, quoting: Quoting) -> str:
    logged, scale = report.loss.logged, fine_scale(report, quoting)
    if not logged:
        return "the log has no scores to compare with"
    return f"in the log {quoting.name(report.metric)} went from {logged_phrase(logged, scale)}"


def _good_cell_interval(report: Report) -> Sequence[float] | None:
    return next((cell.interval for cell in report.cells if not cell.bad_axes), None)


def _is_plural(cause: NamedCause) -> bool:
    return len(cause.axes) > 1


def verified_sentence(report: Report, told: VerifyBlock, *, quoting: Quoting) -> str:
    """The verdict: fixed, not fixed, fixed with collateral or undecided, and by what numbers."""
    again, others = _asked_again(told), _other_causes_sentence(report, told.others, quoting)
    fix = quoting.name(told.fix)
    if told.kind == "fixed":
        return f"fixed: {fix} {again}; {others}."
    if told.kind == "not_fixed":
        return f"not fixed: {fix} {again}; {others}; a fix must recover {WHOLE.value(told.restore)}."
    if told.kind == "fixed_with_collateral":
        return f"fixed with collateral: {fix} mends the queries that broke, but {again}; {others}."
    stopped = [stopped] if (stopped := report.verdict.stopped) else []
    calls = report.verdict.calls_needed
    more = [calls_to_settle(calls)] if calls else []
    return f"undecided: {'; '.join([*stopped, f'{fix} {again}', others, quoting.prose(report.verdict.reason), *more])}."


def _asked_again(told: VerifyBlock) -> str:
    restored, queries = told.again.restored, count(told.again.queries, "query", "queries")
    if restored.estimate is None:
        return f"was tried on {queries} (how much of the loss it recovers could not be estimated)"
    return f"recovers {_restored_words(restored)} of the net loss"


def _restored_words(restored: ReportedEstimate) -> str:
    """ "98 % (95 % interval 90 to 100)": never more than all or less than nothing."""
    part, ends = clipped(restored.estimate, restored.interval)
    between = f" ({WHOLE.between(ends)})" if ends else ""
    return f"{WHOLE.value(part)}{between}"


def _other_causes_sentence(report: Report, others: VerifiedOthers, quoting: Quoting) -> str:
    scale = scale_of(report)
    if not others.queries:
        return "no query was tried"
    queries, metric = count(others.queries, "query", "queries"), quoting.name(report.metric)
    ends = f"{scale.value(others.good.estimate)} to {scale.value(others.fix.estimate)}"
    loss = loss_phrase(others.loss, scale)
    return f"on {queries} drawn at random {metric} goes from {ends} ({loss})"


def verified_lines(report: Report, *, quoting: Quoting) -> Iterator[str]:
    """The numbers behind the verdict, for a list; none where nothing was verified."""
    told, scale = report.verify, scale_of(report)
    if told is None:
        return
    again, others = told.again, told.others
    yield f"Run {quoting.name(told.run)} found what broke: {quoting.name(report.good)} → {quoting.name(told.bad)}"
    yield f"{count(again.queries, 'query', 'queries')} of {others.population} drawn at random, all three releases anew:"
    for value, words in ((again.good, "good"), (again.bad, "bad"), (again.fix, "candidate fix")):
        yield f"  {words} {scale.value(value.estimate)}, {scale.between(value.interval)}"
    bound, evidence = plain_number(told.bound), again.evidence
    share, limit = WHOLE.value(told.restore), scale.difference(told.tolerance)
    yield (
        f"Evidence that {share} of the net loss, or all but {limit}, is back: {_big_number(evidence.fixed)}; that it is not: "
        f"{_big_number(evidence.not_fixed)} (to pass: {bound})"
    )
    if again.passes:
        broke, passes = count(again.broke, "query", "queries"), count(again.passes, "pass", "passes")
        yield f"Of {broke} that broke in the run some were answered anew, {passes}, to tell whether they are mended"
    loss = loss_phrase(others.loss, scale)
    yield f"Shortfall against good: {loss}"
    clean, collateral = _big_number(others.evidence.clean), _big_number(others.evidence.collateral)
    yield (f"Evidence that it is below {limit}: {clean}; that it is above: {collateral} (to pass: {bound})")


def _big_number(evidence: float) -> str:
    return "over a million" if evidence > 1e6 else plain_number(evidence)
