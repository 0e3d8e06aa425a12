"""What to type or do now, for each verdict: the command ready to paste, and what it was measured to bring back."""

from __future__ import annotations

from collections.abc import Sequence

from bisect_ai.report.canary_report import still_needed
from bisect_ai.report.comparison import flipped, power
from bisect_ai.report.phrases import Scale, change_name, count, fine_scale, listed, restored_phrase
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import Standpoint
from bisect_ai.report.tape_report import remedy
from bisect_ai.report.untrusted_text import Quoting


def what_now(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    """The command to type, and what it does or, without one, what to do."""
    name, verdict = quoting.name, report.verdict
    if report.canary:
        return "", [_about_canary(report, quoting)]
    if report.compare:
        return "", [_about_comparison(report, quoting)]
    if verified := report.verify:
        return _about_fix(report, verified.kind, quoting, at)
    if verdict.kind == "cause":
        return _roll_back(report, quoting, at)
    if report.audit and report.audit.kind == "healthy":
        return "", [f"nothing: keep {name(report.bad)}"]
    if report.tape and report.tape.held:
        return at.again("run"), [f"after this: {remedy(report.tape, quoting=quoting)}"]
    if report.audit and report.audit.kind == "undecided":
        return at.again("audit"), ["again at the next date: it goes on from here"]
    return _elsewhere(report, quoting, at)


def _elsewhere(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    """What to do when no axis is named."""
    name = quoting.name
    told = {
        "no_regression": f"nothing: {name(report.bad)} can stay",
        "not_reproduced": "no rollback helps: look for what the replay does not have (live data, state, the log's own scoring)",
        "drift": f"no rollback helps: ask who runs what {name(report.good)} calls; pin what can be pinned",
        "traffic": "no rollback helps: see which queries are new, and whether they are meant to be answered",
    }
    kind = report.verdict.kind
    if kind != "inconclusive":
        return ("" if kind == "no_regression" or at.in_python else at.report(report.run)), [told.get(kind, "")]
    needed = report.verdict.calls_needed
    if needed is None:
        return "", ["no number of calls can be named that would settle it: sample more queries, or accept a larger tolerance"]
    most = (report.usage.calls or 0) + (report.usage.cached or 0) + needed
    command = at.again("run", f"--max-calls {most * 6 // 5}")
    return command, [f"about {count(needed, 'more call', 'more calls')} would probably settle it; answers are not paid twice"]


def _roll_back(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    rollback, scale = report.verdict.rollback, fine_scale(report, quoting)
    if rollback is None:
        return "", [f"go back to {quoting.name(report.good)}: no smaller rollback that was run brings back enough"]
    written = 'result.write_rollback("rollback.yaml")' if at.in_python else None
    command = at.in_git(rollback.command) or written or at.report(report.run, "--write-rollback rollback.yaml")
    whole = set(rollback.axes) == set(report.axes) and len(report.axes) > 1
    what = "takes all axes back" if whole else f"takes {listed([quoting.name(axis) for axis in rollback.axes])} back"
    back = restored_phrase(rollback.restores, rollback.restores_interval)
    lines = [f"{what}: {_measured(rollback.value, rollback.interval, scale)}, {back}"]
    return command, [*lines, _only(report, quoting, scale)]


def _only(report: Report, quoting: Quoting, scale: Scale) -> str:
    """The measured rollback of single changes, keeping all else; empty without one."""
    rollback = report.verdict.rollback
    if rollback is None or rollback.finer is None or not rollback.changes:
        return ""
    names, finer = listed([change_name(change, quoting) for change in rollback.changes]), rollback.finer
    back = restored_phrase(finer.restores, finer.restores_interval)
    return f"or by hand only {names}: {_measured(finer.value, finer.interval, scale)}, {back}"


def _measured(value: float | None, interval: Sequence[float] | None, scale: Scale) -> str:
    return f"measured {scale.value(value)}" + (f" ({scale.ends(interval)})" if interval is not None else "")


def _about_fix(report: Report, kind: str, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    told = report.verify
    assert told is not None, "only a verification's report comes here"
    fix = quoting.name(told.fix)
    if kind == "fixed":
        return "", [f"release {fix}"]
    if kind == "undecided":
        needed = report.verdict.calls_needed
        more = f": about {count(needed, 'more call', 'more calls')} would probably settle it" if needed else ""
        return "", [f"the same command again with a larger --max-calls{more}"]
    command = "" if at.in_python else at.report(told.run, "--write-rollback rollback.yaml")
    return command, [f"do not release {fix}; this is what was measured to help when the cause was found"]


def _about_canary(report: Report, quoting: Quoting) -> str:
    canary = report.canary
    assert canary is not None, "only a canary's report comes here"
    if canary.kind == "wait":
        return f"the same command again when the log has grown: {still_needed(canary, fine_scale(report, quoting))}"
    side = report.bad if canary.kind == "promote" else report.good
    return f"send all traffic to {quoting.name(side)}"


def _about_comparison(report: Report, quoting: Quoting) -> str:
    block = report.compare
    assert block is not None and block.pairs, "only a comparison's report comes here"
    pair, good = block.pairs[block.lead], quoting.name(report.good)
    if pair.kind == "regression":
        return f"keep {good}: {flipped(pair)}"
    if pair.kind == "undecided":
        return f"evaluate more queries{power(pair, block, fine_scale(report, quoting))}"
    return f"{quoting.name(pair.bad)} can take the place of {good}"
