"""The first sentence of a verdict, what did it or what is known instead, and how sure that is in words that numbers define."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bisect_ai.report.accounting import tape_phrase
from bisect_ai.report.blocks import Scale, in_ten, listed
from bisect_ai.report.canary_report import apart_phrase, guard_phrase, waiting_phrase, withheld_phrase
from bisect_ai.report.comparison import leading
from bisect_ai.report.phrases import (
    REASON_CHARS,
    cannot_run,
    cause_phrase,
    failing_phrase,
    is_cut_short,
    part_of_drop,
    restored_phrase,
    shortened_end,
)
from bisect_ai.report.report_values import UNMEASURED, CandidateCause, NamedCause, Report, fine_scale, is_of_watching
from bisect_ai.report.run_blocks import GateBlock, VerifyBlock
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.vocabulary import LIKELY, LIKELY_FROM, PROVED, UNKNOWN, odds, proved
from bisect_ai.report.watch_report import watch_headline, watch_sureness
from bisect_ai.report.watch_values import CanaryBlock

# Of what a program said last before nothing could be measured; the report has all of it.
LAST_WORDS = 200


def headline(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """One plain sentence of at most a few lines."""
    if report.canary:
        return _about_canary(report, report.canary, quoting)
    if is_of_watching(report):
        return watch_headline(report, quoting)
    if report.compare:
        return _about_comparison(report, quoting)
    if report.verify:
        return _about_fix(report.verify, quoting)
    if report.gate:
        return _about_change(report, report.gate, quoting)
    if report.audit and report.verdict.kind != "cause":
        return _about_audit(report, report.audit.kind, quoting)
    return _HEADLINES.get(report.verdict.kind, _other)(report, quoting)


def moved(report: Report, quoting: Quoting) -> str:
    """What the metric did: "correct falls from 95 % to 84 %"."""
    loss = leading(report).loss if report.compare and report.compare.pairs else report.loss
    return _from_to(quoting.name(report.metric), loss.good, loss.bad, fine_scale(report, quoting))


def _from_to(metric: str, good: float | None, bad: float | None, scale: Scale) -> str:
    if good is None or bad is None:
        return f"{metric} could not be estimated on {'both releases' if good == bad else 'one of the releases'}"
    if scale.value(good) == scale.value(bad):
        return f"{metric} stays at {scale.value(good)}"
    return f"{metric} {'falls' if bad < good else 'rises'} from {scale.value(good)} to {scale.value(bad)}"


def _caused(report: Report, quoting: Quoting) -> str:
    causes = report.verdict.causes
    failing = [cause.failing for cause in causes if cause.failing]
    told = f", as calls fail ({failing_phrase(failing[0])})" if failing else ""
    if len(causes) > 1:
        each = "; ".join(_subject(cause, quoting) for cause in causes)
        return f"{len(causes)} causes of the drop ({each}){told}: {moved(report, quoting)}."
    named = listed([_subject(cause, quoting) + ("," if cause.beside or cause.mode == "either" else "") for cause in causes])
    many = len(causes[0].axes) > 1 if causes else False
    verb, what = "cause" if many else "causes", part_of_drop(report, causes[0]) if len(causes) == 1 else "the drop"
    if len(causes) == 1 and _is_unsettled(causes[0]):
        verb, what = "each cost" if len(causes[0].axes) > 1 else "costs", "quality"
    return f"{named} {verb} {what}{told}: {moved(report, quoting)}."


def _subject(cause: NamedCause, quoting: Quoting) -> str:
    if _is_unsettled(cause):
        return listed([quoting.name(axis) for axis in cause.axes])
    return cause_phrase(cause, quoting=quoting, why=False)


def _is_unsettled(cause: NamedCause) -> bool:
    return cause.mode == "unsettled" and not cause.beside


def _fine_release(report: Report, quoting: Quoting) -> str:
    """That nothing is wrong; what fell by less than counts is not told as a fall."""
    loss, scale, metric = report.loss, fine_scale(report, quoting), quoting.name(report.metric)
    limit = report.audit.detect if report.audit else report.tolerance
    if not loss.estimate or loss.estimate < 0 or limit is None or scale.value(loss.good) == scale.value(loss.bad):
        return f"no regression: {moved(report, quoting)}."
    ends = f"{metric} is {scale.value(loss.bad)} where it was {scale.value(loss.good)}"
    said = (
        f"a loss of {scale.difference(limit)} would have shown"
        if report.audit
        else f"below the tolerance of {scale.difference(limit)}"
    )
    return f"no regression: {ends}, {said}."


def _not_shown(report: Report, quoting: Quoting) -> str:
    logged, scale = report.loss.logged, fine_scale(report, quoting)
    then = f"in the log {_from_to(quoting.name(report.metric), logged.good, logged.bad, scale)}; " if logged else ""
    return f"the drop does not show on replay: {then}replayed, {moved(report, quoting)}."


def _drifted(report: Report, quoting: Quoting) -> str:
    logged, scale = report.loss.logged, fine_scale(report, quoting)
    then = f"{scale.value(logged.good)} in the log, " if logged else ""
    values = f"{quoting.name(report.metric)} was {then}and is {scale.value(report.loss.good)} now"
    return f"drift: something outside both releases moved: under {quoting.name(report.good)} {values}."


def _other_queries(report: Report, quoting: Quoting) -> str:
    return f"the drop comes with the queries, not with the release: on the same queries {moved(report, quoting)}."


def _open(report: Report, quoting: Quoting) -> str:
    stopped = (f"{report.verdict.stopped}; " if report.verdict.stopped else "") + _unanswered(report, quoting)
    if told := cannot_run(report, quoting):
        return f"inconclusive: {stopped}{told}."
    if report.loss.estimate is None:
        return f"inconclusive: {stopped}{moved(report, quoting)}."
    ends = report.loss.interval
    is_chance = ends is not None and ends[0] <= 0 <= ends[1]
    what = "whether that is more than chance" if is_chance else "what did it"
    return f"inconclusive: {stopped}{moved(report, quoting)}; {what} is not known yet."


def _unmeasured(report: Report, quoting: Quoting) -> str:
    return f"no verdict: {quoting.prose(failure_told(report.verdict.reason)[0])}"


def _unanswered(report: Report, quoting: Quoting) -> str:
    """That the tape is why nothing is claimed: which tool calls it could not answer."""
    return f"{tape_phrase(tape, quoting=quoting)}; " if (tape := report.tape) and tape.held and tape.missing else ""


def _other(report: Report, quoting: Quoting) -> str:
    return f"{quoting.name(report.verdict.kind)}: {moved(report, quoting)}."


_HEADLINES: dict[str, Callable[[Report, Quoting], str]] = {
    "cause": _caused,
    "no_regression": _fine_release,
    "not_reproduced": _not_shown,
    "drift": _drifted,
    "traffic": _other_queries,
    "inconclusive": _open,
    **dict.fromkeys(UNMEASURED, _unmeasured),
}


def _about_change(report: Report, gate: GateBlock, quoting: Quoting) -> str:
    base, head = quoting.name(gate.base), quoting.name(gate.head)
    if gate.outcome == "failed":
        return f"no verdict on {head}, neither worse nor fine: {quoting.prose(failure_told(gate.reason)[0])}"
    if gate.outcome == "not_worse":
        return f"not worse than {base}: {quoting.prose(gate.reason) or moved(report, quoting)}."
    if gate.outcome == "worse":
        told = _caused if report.verdict.kind == "cause" else _left_open
        return f"worse than {base}: {told(report, quoting)}"
    return f"could not tell whether {head} is worse than {base}: {_unanswered(report, quoting)}{moved(report, quoting)}."


def failure_told(reason: str) -> tuple[str, str]:
    """Why nothing was measured: what a headline says, and what the last words of it are, empty where the headline has all."""
    head, _, rest = reason.partition(": ")
    if len(reason) <= REASON_CHARS or not rest:
        return shortened_end(reason, REASON_CHARS), ""
    said = rest.rpartition(" | ")[2]
    return f"{head[:REASON_CHARS]}.", said if len(said) <= LAST_WORDS else f"{said[: LAST_WORDS - 1]}…"


def _about_audit(report: Report, kind: str, quoting: Quoting) -> str:
    if kind == "healthy":
        return _fine_release(report, quoting)
    if kind == "regression":
        return f"regression: {_left_open(report, quoting)}"
    return f"undecided: {_unanswered(report, quoting)}{moved(report, quoting)}."


def _left_open(report: Report, quoting: Quoting) -> str:
    return f"{moved(report, quoting)}; what did it is open."


def _about_fix(told: VerifyBlock, quoting: Quoting) -> str:
    fix, back = quoting.name(told.fix), restored_phrase(told.again.restored.estimate, told.again.restored.interval)
    said = {
        "fixed": f"fixed: {fix} {back}",
        "not_fixed": f"not fixed: {fix} {back}",
        "fixed_with_collateral": f"fixed with collateral: {fix} mends what broke and breaks other queries",
    }
    return said.get(told.kind, f"undecided: {fix} {back}") + "."


def _about_canary(report: Report, canary: CanaryBlock, quoting: Quoting) -> str:
    name = quoting.name(report.bad)
    if canary.apart:
        return f"wait: {apart_phrase(report, quoting)}."
    if report.loss.good is None or report.loss.bad is None:
        return f"wait: no answers of {quoting.name(report.good)} and {name} stand side by side yet."
    said = {"promote": f"promote {name}", "roll_back": f"roll back {name}"}
    waiting = withheld_phrase if canary.withheld else waiting_phrase
    why = (waiting if canary.kind == "wait" else guard_phrase)(canary, quoting)
    return f"{said.get(canary.kind, 'wait')}: {why}{'; ' if why else ''}{moved(report, quoting)}."


def _about_comparison(report: Report, quoting: Quoting) -> str:
    block = report.compare
    assert block is not None, "only a comparison's report comes here"
    if not block.pairs:
        return f"{block.kind.replace('_', ' ')}."
    pair, same = leading(report), sum(pair.kind == block.kind for pair in block.pairs)
    among = f" in {same} of {len(block.pairs)} ({quoting.name(pair.bad)})" if len(block.pairs) > 1 else ""
    return f"{block.kind.replace('_', ' ')}{among}: {moved(report, quoting)}."


# -- how sure ------------------------------------------------------------------------------------------------------------
def sureness(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """One line: "proved: less than 1 in 20 to be wrong", "likely: …", "not known: …"."""
    if report.canary:
        return _decided(report.canary.kind != "wait", report.canary.alpha or _chance(report))
    if is_of_watching(report):
        return watch_sureness(report, _chance(report))
    if report.compare:
        return _decided(report.compare.kind != "undecided", report.compare.alpha)
    if report.verify:
        return _decided(report.verify.kind != "undecided", 2 / report.verify.bound)
    if report.gate and report.gate.outcome == "failed":
        return f"{UNKNOWN}: calls that fail are neither right nor wrong"
    if report.gate and report.audit is None:
        return "certain: nothing that answers differs"
    if report.audit and report.verdict.kind != "cause":
        return _audited(report, quoting)
    return _bisected(report, quoting)


def _decided(is_decided: bool, chance: float) -> str:
    return proved(chance) if is_decided else f"{UNKNOWN} yet: neither verdict is proved"


def _chance(report: Report) -> float:
    """The chance of a wrong verdict that was accepted: the run's, else what its intervals miss."""
    return report.alpha or 1 - report.level / 100


def _audited(report: Report, quoting: Quoting) -> str:
    audit, scale = report.audit, fine_scale(report, quoting)
    assert audit is not None, "only an audit's report comes here"
    if audit.kind == "regression":
        chance = (audit.per_year or 1) / audit.bound if audit.bound else _chance(report)
        over = "" if report.gate else " in a year of audits"
        return f"{PROVED} that it is worse: less than {odds(chance)}{over} to be wrong"
    if audit.kind == "healthy":
        return f"{LIKELY}: a loss of {scale.difference(audit.detect)} would probably have shown"
    return (
        f"{UNKNOWN} yet: more queries or calls may tell" if report.gate else f"{UNKNOWN} yet: the next audit goes on from here"
    )


_PROVED_THAT = {
    "drift": "what both releases use moved",
    "traffic": "the loss comes with the queries",
    "not_reproduced": "the replay loses less than the log did",
}


def _bisected(report: Report, quoting: Quoting) -> str:
    kind, loss, chance = report.verdict.kind, report.loss, _chance(report)
    if kind == "cause":
        return _named(report, chance)
    if kind in UNMEASURED:
        return f"{UNKNOWN}: nothing was measured"
    if kind == "inconclusive":
        return _openly(report, quoting)
    parts, high = loss.parts, loss.interval[1] if loss.interval else None
    certain = {
        "no_regression": report.tolerance is None or (high is not None and high <= report.tolerance),
        "drift": _is_above(loss.drift.interval if loss.drift else None),
        "traffic": _is_above(parts.traffic.interval if parts and parts.traffic else None),
        "not_reproduced": high is not None and bool(loss.logged and loss.logged.interval and high < loss.logged.interval[0]),
    }
    small = "" if report.tolerance is None else f"any loss is below {fine_scale(report, quoting).difference(report.tolerance)}"
    that = {"no_regression": small, **_PROVED_THAT}.get(kind, "")
    return proved(chance, that) if certain.get(kind) else f"{LIKELY}, not {PROVED}"


def _is_above(interval: Sequence[float] | None) -> bool:
    return interval is not None and interval[0] > 0


def _named(report: Report, chance: float) -> str:
    unsettled = [cause for cause in report.verdict.causes if _is_unsettled(cause)]
    if unsettled and all(len(cause.axes) == 1 for cause in unsettled):
        return f"{PROVED} that it costs quality (less than {odds(chance)} to be wrong); whether it acts alone: {UNKNOWN}"
    if unsettled:
        return f"{PROVED} that each costs quality (less than {odds(chance)} to be wrong); how they act together: {UNKNOWN}"
    return proved(chance)


def _openly(report: Report, quoting: Quoting) -> str:
    """What an inconclusive run has: proved costs, a likely cause, or nothing yet."""
    found = [e for e in report.effects if e.kind == "net" and e.proved]
    if found:
        names = listed([quoting.name(axis) for e in found for axis in e.axes])
        verb = "costs" if sum(len(e.axes) for e in found) == 1 else "cost"
        rest = "all of the design tells the cause" if is_cut_short(report) else f"{UNKNOWN} whether the release is worse for it"
        return f"{PROVED} that {names} {verb} quality on average; {rest}"
    best = max(report.verdict.candidates, key=lambda c: c.belief or 0.0, default=None)
    if best is not None and (best.belief or 0.0) >= LIKELY_FROM:
        return f"{LIKELY}: {_set_of(best, quoting)} ({in_ten(best.belief or 0.0)} by the answers so far), not {PROVED}"
    if _is_above(report.loss.interval):
        return f"{LIKELY} that it is worse, as the whole interval is a loss; what did it: {UNKNOWN} yet"
    return f"{UNKNOWN} yet"


def _set_of(candidate: CandidateCause, quoting: Quoting) -> str:
    names = listed([quoting.name(axis) for axis in candidate.axes])
    return names + (" together" if len(candidate.axes) > 1 else "")
