"""How sure a verdict is, in the words that numbers define: proved (with the chance to be wrong), likely, not known."""

from __future__ import annotations

from collections.abc import Sequence

from bisect_ai.report.phrases import fine_scale, in_ten, listed
from bisect_ai.report.report_values import CandidateCause, Report, is_of_watching
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.vocabulary import LIKELY, LIKELY_FROM, PROVED, UNKNOWN, odds, proved
from bisect_ai.report.watch_card import watch_sureness


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


def _bisected(report: Report, quoting: Quoting) -> str:
    kind, loss, chance = report.verdict.kind, report.loss, _chance(report)
    if kind == "cause":
        return _named(report, chance)
    if kind == "inconclusive":
        return _open(report, quoting)
    parts, high = loss.parts, loss.interval[1] if loss.interval else None
    certain = {
        "no_regression": report.tolerance is None or (high is not None and high <= report.tolerance),
        "drift": _is_above(loss.drift.interval if loss.drift else None),
        "traffic": _is_above(parts.traffic.interval if parts and parts.traffic else None),
        "not_reproduced": high is not None and bool(loss.logged and loss.logged.interval and high < loss.logged.interval[0]),
    }
    return proved(chance) if certain.get(kind) else f"{LIKELY}, not {PROVED}"


def _is_above(interval: Sequence[float] | None) -> bool:
    return interval is not None and interval[0] > 0


def _named(report: Report, chance: float) -> str:
    if any(cause.mode == "unsettled" and not cause.beside for cause in report.verdict.causes):
        return f"{PROVED} that each costs quality (less than {odds(chance)} to be wrong); how they act together: {UNKNOWN}"
    return proved(chance)


def _open(report: Report, quoting: Quoting) -> str:
    """What an inconclusive run has: proved costs, a likely cause, or nothing yet."""
    found = [e for e in report.effects if e.kind == "net" and e.proved]
    if found:
        names = listed([quoting.name(axis) for e in found for axis in e.axes])
        verb = "costs" if sum(len(e.axes) for e in found) == 1 else "cost"
        return f"{PROVED} that {names} {verb} quality on average; {UNKNOWN} whether the release is worse for it"
    best = max(report.verdict.candidates, key=lambda c: c.belief or 0.0, default=None)
    if best is not None and (best.belief or 0.0) >= LIKELY_FROM:
        return f"{LIKELY}: {_set_of(best, quoting)} ({in_ten(best.belief or 0.0)} by the answers so far), not {PROVED}"
    if _is_above(report.loss.interval):
        return f"{LIKELY} that it is worse, as the whole interval is a loss; what did it: {UNKNOWN} yet"
    return f"{UNKNOWN} yet"


def _set_of(candidate: CandidateCause, quoting: Quoting) -> str:
    names = listed([quoting.name(axis) for axis in candidate.axes])
    return names + (" together" if len(candidate.axes) > 1 else "")
