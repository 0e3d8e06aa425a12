"""What to type or do now, for each verdict: the command ready to paste, and what it was measured to bring back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bisect_ai.report.accounting import remedy
from bisect_ai.report.blocks import Scale, count, listed, money
from bisect_ai.report.canary_report import still_needed
from bisect_ai.report.comparison import flipped, power
from bisect_ai.report.phrases import (
    along_phrase,
    calls_to_settle,
    cannot_run,
    is_cut_short,
    is_more,
    restored_phrase,
    rolled_back_changes,
)
from bisect_ai.report.report_values import WIDE, Report, fine_scale, is_of_watching
from bisect_ai.report.run_blocks import GateBlock
from bisect_ai.report.standpoint import Standpoint
from bisect_ai.report.untrusted_text import Quoting, release_name
from bisect_ai.report.watch_report import watch_todo
from bisect_ai.report.watch_values import CanaryBlock, WithheldReason

# Queries below which no test of a search can reach its bound, whatever their answers are (`calls_needed`).
FEW_QUERIES = 24
# How a run says that it stopped because nothing answers.
OUT_OF_TIME, OUT_OF_MONEY = "stopped at the time cap", "stopped at the money cap"
SILENCE = "nearly every answer is empty"


def what_now(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    """The command to type, and what it does or, without one, what to do."""
    verdict = report.verdict
    if report.canary:
        return _about_canary(report, report.canary, quoting, at)
    if is_of_watching(report):
        return watch_todo(report, quoting, at)
    if report.compare:
        return "", [_about_comparison(report, quoting)]
    if verified := report.verify:
        return _about_fix(report, verified.kind, quoting, at)
    if verdict.kind == "cause":
        return _roll_back(report, quoting, at)
    if report.gate:
        return _about_change(report.gate, at)
    if report.audit and report.audit.kind == "healthy":
        return "", [f"nothing: keep {release_name(report.bad, quoting)}"]
    if report.tape and report.tape.held and report.tape.missing:
        return at.again("run"), [f"after this: {remedy(report.tape, quoting=quoting)}"]
    if report.audit and report.audit.kind == "undecided":
        return at.again("audit"), ["at the next date of the schedule: it goes on from here; nothing else is to be done now"]
    return _elsewhere(report, quoting, at)


def _elsewhere(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    """What to do when no axis is named."""
    told = {
        "no_regression": f"nothing: {release_name(report.bad, quoting)} can stay{_if_swapped(report, quoting)}",
        "not_reproduced": "rolling back would not help: see what the replay does not have (live data, state, the log's own scoring)",
        "drift": "rolling back would not help; pin what can be pinned",
        "traffic": "rolling back would not help: see which queries are new, and whether they are meant to be answered",
    }
    kind = report.verdict.kind
    if kind != "inconclusive":
        return "", [told.get(kind, "")]
    command, words = _to_settle(report, quoting, at)
    meanwhile = _meanwhile(report, quoting)
    return command, [*words, *meanwhile] if command else [*meanwhile, *words]


def _meanwhile(report: Report, quoting: Quoting) -> list[str]:
    """What to do before it is known what did it: go back, where all of the interval is a loss that counts."""
    loss, scale = report.loss, fine_scale(report, quoting)
    if loss.interval is None or loss.good is None or loss.interval[0] <= (report.tolerance or 0.0):
        return []
    return [f"for now go back to {release_name(report.good, quoting)}: it scored {scale.value(loss.good)} on the same queries"]


def _to_settle(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    """What would probably end an inconclusive run in a verdict."""
    needed = report.verdict.calls_needed
    if cannot_run(report, quoting):
        return at.again("run"), ["once what answers is mended and `target.version` is set: what it said before is kept"]
    if needed is None and (report.verdict.stopped or "").startswith(SILENCE):
        return replace(at, store=".bisect-ai-2").again("run"), [
            "once you have seen why nothing is answered; a new store asks anew"
        ]
    if report.loss.estimate is None and (report.verdict.stopped or "").startswith(OUT_OF_TIME):
        return at.again("run", "--max-minutes 10"), ["too few answers came in before the time was up: allow more minutes"]
    if needed is None and report.log and 0 < (report.log.sampled or 0) < FEW_QUERIES:
        return "", [f"the log has {count(report.log.sampled, 'query', 'queries')} to ask: log more, or sample more of it"]
    if needed is None and report.loss.estimate is None:
        if failed := next((told for told in report.warnings if told.startswith(f"scorer {report.metric} failed on ")), ""):
            return at.again("run"), [f"once the scorer is mended: answers are not paid twice; {quoting.prose(failed)}"]
        # Chosen: enough for a first estimate with four axes.
        return _with_room(report, at, 600), ["too few answers for any estimate: allow more calls, or sample more queries"]
    made = (report.usage.calls or 0) + (report.usage.cached or 0)
    sampled, asked = report.log.sampled if report.log else None, report.loss.n
    if needed is None and sampled and asked and sampled >= 2 * asked:
        few = f"{asked:,} of {sampled:,} queries were asked: too few to say how many calls it takes"
        return _with_room(report, at, 3 * made), [f"{few}; answers are not paid twice"]
    if needed is None and sampled and asked and sampled > asked and is_cut_short(report):
        left = f"{sampled - asked:,} of {count(sampled, 'query', 'queries')} have not run in all combinations of the design"
        return _with_room(report, at, made * sampled // asked + 1), [f"{left}; answers are not paid twice"]
    if needed is None:
        return "", [_longer_log(report)]
    return _with_room(
        report, at, (made + needed) * 6 // 5
    ), [  # a fifth more than the estimate, which holds in four of five cases
        f"goes on with this run: about {count(needed, 'more call', 'more calls')}{_price(report, needed)} would probably settle it"
    ]


def _with_room(report: Report, at: Standpoint, calls: int) -> str:
    """The run once more with room for so many calls, under the cap that ended it."""
    stopped, usage = report.verdict.stopped or "", report.usage
    if stopped.startswith(OUT_OF_TIME):  # the minutes are counted anew
        return at.again("run")
    if stopped.startswith(OUT_OF_MONEY) and usage.usd and usage.calls:
        return at.with_usd(1.1 * usage.usd / usage.calls * calls)  # dearer answers may follow
    return at.with_calls(calls)


def _price(report: Report, calls: int) -> str:
    """What so many more calls would cost at the price of those so far; empty where that is not known."""
    usage = report.usage
    return f" (about {money(usage.usd / usage.calls * calls)})" if usage.usd and usage.calls else ""


def _longer_log(report: Report) -> str:
    """What is left to do when no number of calls can be named."""
    log, asked = report.log, report.loss.n
    if log and log.kept and asked and asked >= log.kept:
        return f"all {count(asked, 'query', 'queries')} of the log were asked: log more, or accept a larger tolerance"
    return "no number of calls can be named that would settle it: sample more queries, or accept a larger tolerance"


def _if_swapped(report: Report, quoting: Quoting) -> str:
    """What a proved gain may mean: that good and bad were named the wrong way round."""
    ends = report.loss.interval
    if ends is None or ends[1] >= 0:
        return ""
    return f"; if {release_name(report.bad, quoting)} is the older one, good and bad are swapped: name them the other way round"


def _roll_back(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    rollback, scale = report.verdict.rollback, fine_scale(report, quoting)
    if rollback is None:
        return "", [f"go back to {release_name(report.good, quoting)}: no smaller rollback that was run brings back enough"]
    written = 'result.write_rollback("rollback.yaml")' if at.in_python else None
    command = at.in_git(rollback.command) or written or at.report(report.run, "--write-rollback rollback.yaml")
    whole = set(rollback.axes) == set(report.axes) and len(report.axes) > 1
    along = f" ({along_phrase(rollback, quoting)})" if rollback.along else ""
    what = (
        f"takes all axes back{along}"
        if whole
        else f"takes {listed([quoting.name(axis) for axis in rollback.axes])} back{along}"
    )
    back = restored_phrase(rollback.restores, rollback.restores_interval, more=is_more(report, rollback))
    written = "" if at.in_git(rollback.command) else "writes a file to deploy that "
    lines = [f"{written}{what}: {_measured(rollback.value, rollback.interval, scale)}, {back}"]
    return command, [*lines, _only(report, quoting, scale)]


def _only(report: Report, quoting: Quoting, scale: Scale) -> str:
    """The measured rollback of single changes, keeping all else; empty without one."""
    rollback = report.verdict.rollback
    if rollback is None or rollback.finer is None or not rollback.changes:
        return ""
    names, finer = rolled_back_changes(report, quoting), rollback.finer
    back = restored_phrase(finer.restores, finer.restores_interval, more=is_more(report, finer))
    return f"or by hand only {names}: {_measured(finer.value, finer.interval, scale)}, {back}"


def _measured(value: float | None, interval: Sequence[float] | None, scale: Scale) -> str:
    if interval is None:
        return f"measured {scale.value(value)}"
    if interval[1] - interval[0] >= 2 * WIDE:
        scale = replace(scale, decimals=0)
    return f"measured {scale.value(value)} ({scale.ends(interval)})"


def _about_fix(report: Report, kind: str, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    told = report.verify
    assert told is not None, "only a verification's report comes here"
    fix = quoting.name(told.fix)
    if kind == "fixed":
        return "", [f"release {fix}"]
    if kind == "undecided":
        needed = report.verdict.calls_needed
        more = f": {calls_to_settle(needed)}" if needed else ""
        return at.typed, [f"with a larger {at.option('--max-calls')}: answers are not paid twice{more}"]
    command = "" if at.in_python else at.report(told.run, "--write-rollback rollback.yaml")
    return command, [f"do not release {fix}; this is what was measured to help when the cause was found"]


def _about_canary(report: Report, canary: CanaryBlock, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    if canary.kind != "wait":
        told = [f"send all traffic to release {quoting.name(report.bad if canary.kind == 'promote' else report.good)}"]
        is_safe = canary.kind == "roll_back" and canary.safe_to_revert
        return "", [
            *told,
            *([f"it may be automated ({at.option('--on-rollback')}): at most 1 in 100 to be wrong"] if is_safe else []),
        ]
    again = "this again when the log has grown" if at.typed else at.same() + " when the log has grown"
    if canary.apart:
        return at.typed, [f"let both answer at the same time, then {again}"]
    if canary.withheld:
        return at.typed, [_before_promoting(canary.withheld[0], quoting, at), f"then {again}"]
    return at.typed, [f"{again}: {still_needed(canary, fine_scale(report, quoting))}"]


def _before_promoting(withheld: WithheldReason, quoting: Quoting, at: Standpoint) -> str:
    """What to see to where promoting is withheld."""
    name = quoting.name(withheld.name)
    if withheld.by == "split":
        return f"see why the canary did not get {name} of the traffic"
    if withheld.by == "segment":
        return f"see what the canary does to {name}"
    return f"see why {name} differs; name it with {at.option('--ignore')} if it does not say who asked or what"


def _about_change(gate: GateBlock, at: Standpoint) -> tuple[str, list[str]]:
    again = at.again("gate", f"--base {gate.base} --head {gate.head}")
    told = {
        "not_worse": ("", "nothing: it may be merged"),
        "worse": ("", "do not merge; run the two revisions with a larger budget to see which change did it"),
        "failed": (again, "see why calls fail, then this again: answers are not paid twice"),
    }
    command, what = told.get(
        gate.outcome, (again, f"with more queries or a larger {at.option('--max-calls')}: answers are not paid twice")
    )
    return command, [what]


def _about_comparison(report: Report, quoting: Quoting) -> str:
    block = report.compare
    assert block is not None and block.pairs, "only a comparison's report comes here"
    pair, good = block.pairs[block.lead], release_name(report.good, quoting)
    if pair.kind == "regression":
        return f"keep {good}: {flipped(pair)}"
    if pair.kind == "undecided":
        return f"evaluate more queries{power(pair, block, fine_scale(report, quoting))}"
    return f"{quoting.name(pair.bad)} can take the place of {good}"
