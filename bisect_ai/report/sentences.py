"""The verdict in one plain English sentence, and how every report writes its numbers.

All functions read the report's JSON form. A number never comes without its interval where it has one; what could not be
estimated says so, it is never a zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bisect_ai.report.clean import PLAIN, Quoting
from bisect_ai.report.tape import remedy, tape_phrase

Report = Mapping[str, Any]
Interval = Sequence[float] | None
UNKNOWN = "not estimated"
NOTHING = 1e-3
"""An end of an interval that is this much smaller than the other says no more than 0 does."""
LIKELY = 0.1
"""Degree of belief from which a candidate is worth naming beside the others."""
ADDS_UP = 1.2
"""Shares that sum to less than this are said to add up to the loss; more is what other changes win back."""
RESTORED = 0.8
"""The part of the loss from which on a cause, or a rollback, stands for all of it."""
DIFFERS = 0.005
"""Parts of the values by which their difference and the loss may differ in rounding."""
FULL = 0.995
"""A share from which on it is all of the loss."""
UNSETTLED = "how they act together is not settled"
UNITLESS = (None, "", "score", "share")


@dataclass(frozen=True)
class Scale:
    """How values of one metric are written: as percentages and points when they lie in [0, 1], else in its unit."""

    share: bool
    unit: str = ""
    decimals: int = 1
    level: float = 95
    """Per cent that intervals hold with."""

    def value(self, x: float | None) -> str:
        """One value: "87.0 %", "1,240 characters"."""
        if not _is_known(x):
            return UNKNOWN
        return self.number(x) + (" %" if self.share else self._suffix)

    def difference(self, x: float | None) -> str:
        """One difference: "18.0 points", "120 characters"."""
        if not _is_known(x):
            return UNKNOWN
        return f"{self.number(x)} points" if self.share else self.number(x) + self._suffix

    def number(self, x: float | None) -> str:
        """The bare number on this scale."""
        if x is None or not math.isfinite(x):
            return UNKNOWN
        return _unsigned_zero(f"{100 * x:.{self.decimals}f}") if self.share else plain_number(x)

    def between(self, interval: Interval) -> str:
        """An interval in words: "95 % interval 13.0 to 23.0"."""
        if interval is None:
            return f"{self.level:g} % interval {UNKNOWN}"
        low, high = self._ends(interval)
        return f"{self.level:g} % interval {low} to {high}"

    def bracket(self, x: float | None, interval: Interval, *, join: str = " ") -> str:
        """A number with its interval, for tables: "18.0 [13.0, 23.0]"."""
        if not _is_known(x):
            return UNKNOWN
        low_high = "[no interval]" if interval is None else f"[{', '.join(self._ends(interval))}]"
        return self.number(x) + join + low_high

    def _ends(self, interval: Sequence[float]) -> tuple[str, str]:
        """Both ends; one that is next to nothing beside the other is 0, not 8.69e-06."""
        reach = max(map(abs, interval)) * NOTHING
        low, high = (self.number(0.0 if not self.share and abs(end) < reach else end) for end in interval)
        return low, high

    @property
    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""


def scale_of(report: Report, *, quoting: Quoting = PLAIN) -> Scale:
    """The scale of the deciding metric: the report's own word for it (`percent`), else what its values look like."""
    if report.get("percent") is not None and not report.get("unit"):
        return Scale(share=bool(report["percent"]), level=report.get("level", 95))
    loss = report.get("loss") or {}
    values = [loss.get("good"), loss.get("bad"), *(cell.get("value") for cell in report.get("cells") or ())]
    return scale_for(report.get("unit"), values, quoting=quoting)


def scale_for(unit: str | None, values: Iterable[float | None], *, quoting: Quoting = PLAIN) -> Scale:
    """The scale of a metric with this unit and these values."""
    if unit in UNITLESS:
        return Scale(share=all(0 <= value <= 1 for value in values if value is not None))
    return Scale(share=False, unit=quoting.prose(unit))


def verdict_sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict in one sentence that names axes, mode, loss and rollback, each number with its interval."""
    kind = report["verdict"]["kind"]
    if report.get("canary"):
        from bisect_ai.report import canary  # it is made of the phrases below

        return canary.sentence(report, quoting=quoting)
    if report.get("compare"):
        from bisect_ai.report import comparison  # likewise

        return comparison.sentence(report, quoting=quoting)
    if report.get("audit") and kind != "cause":
        return _audit(report, quoting)
    if report.get("verify"):
        from bisect_ai.report.verified import verified_sentence  # it builds on this module

        return verified_sentence(report, quoting=quoting)
    tell = _SENTENCES.get(kind, _other)
    return tell(report, quoting) + trend_clause(report, quoting=quoting)


def trend_clause(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """A sentence on scores that moved in the run, when that is large beside the loss; else empty."""
    trend = report.get("trend") or {}
    if not trend.get("strong"):
        return ""
    moved, scale = trend["move"], _fine(report, quoting)
    way = "sank" if moved < 0 else "rose"
    return f" Beware: quality {way} by {scale.difference(abs(moved))} while the run went on, of both releases."


def _audit(report: Report, quoting: Quoting) -> str:
    """What an audit says that named no cause."""
    audit, loss = report["audit"], _loss_clause(report, quoting)
    if audit["kind"] == "healthy":
        return f"no regression: {loss}; a loss of {_fine(report, quoting).difference(audit['detect'])} would have shown."
    if audit["kind"] == "regression":
        kind = report["verdict"]["kind"]
        return f"regression: {loss}; what did it is open: {_SENTENCES.get(kind, _other)(report, quoting)}"
    if (tape := report.get("tape")) and tape["held"]:
        return f"undecided: {tape_phrase(tape, quoting=quoting)}; {remedy(tape, quoting=quoting)}; {loss}."
    return f"undecided: {loss}; the next audit of the same releases goes on from here."


def _cause(report: Report, quoting: Quoting) -> str:
    causes = report["verdict"].get("causes") or []
    if len(causes) == 1:
        head = f"{_one_cause(causes[0], quoting)}:"
        if causes[0].get("failing"):
            subject = cause_phrase(causes[0], quoting=quoting)
            head = f"{subject} {'make' if _is_plural(causes[0]) else 'makes'} answers fail: {failing_phrase(causes[0])};"
    else:
        parts = [
            f"{cause_phrase(cause, quoting=quoting)} ({share_phrase(cause)}"
            f"{'; makes answers fail: ' + failing_phrase(cause) if cause.get('failing') else ''})"
            for cause in causes
        ]
        adds = "add up to" if sum(cause.get("share") or 0.0 for cause in causes) < ADDS_UP else "of"
        head = f"{len(causes)} causes {adds} the drop: {listed(parts)};"
    down = _down_to(report, quoting)
    return f"{head} {_loss_clause(report, quoting)}; {rollback_phrase(report, quoting=quoting)}.{down and ' '}{down}"


def _one_cause(cause: Mapping[str, Any], quoting: Quoting) -> str:
    """What the only cause does: "prompt alone causes the drop", or a part of it where most of the loss is plainly not its own."""
    if cause["mode"] == "unsettled":
        names = listed([quoting.name(axis) for axis in cause["axes"]])
        return f"{names} {'each cost' if len(cause['axes']) > 1 else 'costs'} quality; {UNSETTLED}"
    subject, verb = cause_phrase(cause, quoting=quoting), "cause" if _is_plural(cause) else "causes"
    interval = cause.get("interval")
    if cause.get("share") is not None and interval and interval[1] is not None and interval[1] < RESTORED:
        return f"{subject} {verb} a part of the drop ({share_phrase(cause)})"
    return f"{subject} {verb} the drop"


def _down_to(report: Report, quoting: Quoting) -> str:
    """One sentence for the verdict: the named changes, or that there is no single one; empty without a drill-down."""
    drill, causes = report.get("drill") or {}, report["verdict"].get("causes") or ()
    named = [c for cause in causes for c in cause.get("changes") or ()]
    if drill.get("kind") == "found" and named:
        shown = [change_name(c, quoting) for c in named[:3]]
        more = [f"{len(named) - 3} more"] if len(named) > 3 else []
        return f"Down to the change: {listed([*shown, *more])}."
    if drill.get("kind") == "no_single_change":
        axes = listed([quoting.name(axis) for cause in causes for axis in cause["axes"]])
        return f"No single change inside {axes} is to blame."
    return ""


def change_name(change: Mapping[str, Any], quoting: Quoting) -> str:
    """Where a change is: "prompt system:11"; of an axis that is one value its name alone."""
    axis, path = change["axis"], change["path"]
    return quoting.name(axis) if axis == path else f"{quoting.name(axis)} {quoting.name(path)}"


def _no_regression(report: Report, quoting: Quoting) -> str:
    tolerance = report.get("tolerance")
    limit = "the tolerance" if tolerance is None else f"the tolerance of {_fine(report, quoting).difference(tolerance)}"
    return f"no regression: {_loss_clause(report, quoting)}, below {limit}{_slice_clause(report, quoting)}."


def _slice_clause(report: Report, quoting: Quoting) -> str:
    """The slice that a search found to lose most, for verdicts that would hide it."""
    found = [row for row in report.get("segments") or () if row["found_by"] == "search"]
    if not found:
        return ""
    worst, scale = max(found, key=lambda row: row["loss"] or 0.0), _fine(report, quoting)
    loss = loss_phrase({"estimate": worst["loss"], "interval": worst["interval"]}, scale)
    share = Scale(share=True, decimals=0).value(worst["share"])
    return f"; but the queries with {quoting.prose(worst['name'])} ({share} of all) show {loss}"


def _not_reproduced(report: Report, quoting: Quoting) -> str:
    shown = _logged_clause(report, quoting)
    return f"the drop does not show on replay: {shown}; replayed, {_loss_clause(report, quoting)}{_part(report, 'release', quoting)}."


def _drift(report: Report, quoting: Quoting) -> str:
    loss, scale, metric = report.get("loss") or {}, _fine(report, quoting), quoting.name(report["metric"])
    logged = (loss.get("logged") or {}).get("good")
    then = f"{metric} was {scale.value(logged)} in the log and is" if logged is not None else f"{metric} is"
    interval = loss.get("good_interval") or _cell(report, []).get("interval")
    now = f"{scale.value(loss.get('good'))} on replay, {scale.between(interval)}"
    since = f" ({loss_phrase(loss['drift'], scale)} against the log)" if loss.get("drift") else ""
    head = "the good release no longer scores what it did, so something outside the recorded axes moved"
    return f"drift: {head}: {then} {now}{since}."


def _traffic(report: Report, quoting: Quoting) -> str:
    return (
        f"the drop comes with the queries, not with the release: {_logged_clause(report, quoting)}"
        f"{_part(report, 'traffic', quoting)}; on the same queries {_loss_clause(report, quoting)}."
    )


_PARTS = {"traffic": "go with the queries, replayed under the good release", "release": "are reproduced"}


def _part(report: Report, name: str, quoting: Quoting) -> str:
    """Points of the logged drop: "; 14 of the 16 points go with the queries"; empty when they are not known."""
    parts, scale = (report.get("loss") or {}).get("parts") or {}, _fine(report, quoting)
    drop, part = parts.get("drop"), parts.get(name)
    if not drop or not part or drop.get("estimate") is None or part.get("estimate") is None:
        return ""
    unit = "points" if scale.share else scale.unit
    between = f", {scale.between(part['interval'])}," if name == "traffic" else ""
    numbers = f"{scale.number(part['estimate'])} of the {scale.number(drop['estimate'])} {unit}".rstrip()
    return f"; {numbers}{between} {_PARTS[name]}"


def _inconclusive(report: Report, quoting: Quoting) -> str:
    verdict = report["verdict"]
    parts = [stopped] if (stopped := verdict.get("stopped")) else []
    if (tape := report.get("tape")) and tape["held"]:
        told = f"{tape_phrase(tape, quoting=quoting)}; {remedy(tape, quoting=quoting)}"
        return f"inconclusive: {'; '.join([*parts, told, _loss_clause(report, quoting)])}."
    parts.append(_loss_clause(report, quoting))
    if proved := [e for e in report.get("effects") or () if e["kind"] == "net" and e.get("proved")]:
        parts.append(_proved_clause(proved, report, quoting))
    believed = [c for c in verdict.get("candidates") or () if c.get("belief") is None or c["belief"] >= LIKELY]
    if believed:
        parts.append(f"the cause may be {candidates_phrase(believed[:3], quoting=quoting)}")
    calls = verdict.get("calls_needed")
    parts.append("no number of calls can be named that would settle it" if calls is None else _calls_clause(calls))
    return f"inconclusive: {'; '.join(parts)}{_slice_clause(report, quoting)}."


def _proved_clause(proved: Sequence[Mapping[str, Any]], report: Report, quoting: Quoting) -> str:
    """Axes whose cost is proved though the release's loss is not there to explain."""
    scale = _fine(report, quoting)
    costs = [
        f"{listed([quoting.name(a) for a in e['axes']])} costs {scale.difference(e.get('estimate'))} on average, "
        f"{scale.between(e.get('interval'))}"
        for e in proved
    ]
    return f"{listed(costs)}, but no loss worth acting on is seen beside it"


def _other(report: Report, quoting: Quoting) -> str:
    return f"{quoting.name(report['verdict']['kind'])}: {_loss_clause(report, quoting)}."


_SENTENCES: dict[str, Callable[[Report, Quoting], str]] = {
    "cause": _cause,
    "no_regression": _no_regression,
    "not_reproduced": _not_reproduced,
    "drift": _drift,
    "traffic": _traffic,
    "inconclusive": _inconclusive,
}


def cause_phrase(cause: Mapping[str, Any], *, quoting: Quoting = PLAIN) -> str:
    """One cause: "prompt alone", "prompt and tools together", "either prompt or tools (each is enough)", or that it is unsettled."""
    names = [quoting.name(axis) for axis in cause["axes"]]
    if cause["mode"] == "either":
        return f"either {listed(names, last=' or ')} (each is enough)"
    if cause["mode"] == "unsettled":
        return f"{listed(names)} (each costs quality; {UNSETTLED})"
    return f"{listed(names)} {quoting.prose(cause['mode'])}"


def failing_phrase(cause: Mapping[str, Any]) -> str:
    """How often calls fail: "16 % of them, 0 % with it reverted"."""
    failing, shares = cause["failing"], Scale(share=True, decimals=0)
    return f"{shares.value(failing['with'])} of them, {shares.value(failing['without'])} with it reverted"


def share_phrase(cause: Mapping[str, Any]) -> str:
    """The share of the loss: "91 % of the loss, 95 % interval 70 to 100"; never less than nothing or more than all of it."""
    share, interval = cause.get("share"), cause.get("interval")
    if share is None:
        return f"share of the loss {UNKNOWN}"
    shares = Scale(share=True, decimals=0)
    if interval and interval[0] is not None and interval[0] >= 1:
        return "all of the loss" + (": other changes win part of it back" if interval[0] > 1 else "")
    part = "all" if share >= FULL else shares.value(max(share, 0.0))
    return f"{part} of the loss, {shares.between(_within_one(interval))}"


def _within_one(interval: Interval) -> Interval:
    """The interval of a share, cut to 0 to 1."""
    return None if interval is None else [min(max(end, 0.0), 1.0) for end in interval]


def rollback_phrase(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """What reverting brings back, with the value that was measured for it."""
    rollback = report["verdict"].get("rollback")
    if not rollback:
        return "no rollback that was run restores at least 80 % of it"
    names = listed([quoting.name(axis) for axis in rollback["axes"]])
    alone = " alone" if len(rollback["axes"]) == 1 else ""
    scale = _fine(report, quoting)
    measured = f"measured: {scale.value(rollback.get('value'))}, {scale.between(rollback.get('interval'))}"
    if is_whole_release(report):
        return f"only the whole release brings it back ({measured})"
    return f"reverting {names}{alone} brings back {restores_phrase(rollback)} of it{_restored_between(rollback)} ({measured})"


def is_whole_release(report: Report) -> bool:
    """Whether the rollback takes every axis back though fewer are named: no smaller set was measured to be enough."""
    verdict, axes = report["verdict"], set(report.get("axes") or ())
    named = {axis for cause in verdict.get("causes") or () for axis in cause["axes"]}
    return bool(axes) and set((verdict.get("rollback") or {}).get("axes") or ()) == axes and named < axes


def _restored_between(rollback: Mapping[str, Any]) -> str:
    """The interval of what a rollback restores: ", 95 % interval 80 to 100"; empty where it was not estimated."""
    interval = _within_one(rollback.get("restores_interval"))
    return "" if interval is None or interval[0] >= 1 else f", {Scale(share=True, decimals=0).between(interval)}"


def brings_back_phrase(rollback: Mapping[str, Any]) -> str:
    """What a rollback restores with its interval: "brings back 95 % of the loss, 95 % interval 80 to 100"."""
    return f"brings back {restores_phrase(rollback)} of the loss{_restored_between(rollback)}"


def restores_phrase(rollback: Mapping[str, Any]) -> str:
    """The share of the loss that a rollback brings back: "95 %", or "all" when the measured share is whole or more."""
    restores = rollback.get("restores")
    if restores is not None and restores >= FULL:
        return "all"
    return f"a share ({UNKNOWN})" if restores is None else Scale(share=True, decimals=0).value(restores)


def loss_phrase(loss: Mapping[str, Any], scale: Scale) -> str:
    """The loss with its interval: "a loss of 18 points, 95 % interval 13 to 23", or a gain."""
    estimate, interval = loss.get("estimate"), loss.get("interval")
    if estimate is None:
        return f"loss {UNKNOWN}"
    if estimate < 0:
        swapped = None if interval is None else (-interval[1], -interval[0])
        return f"a gain of {scale.difference(-estimate)}, {scale.between(swapped)}"
    return f"a loss of {scale.difference(estimate)}, {scale.between(interval)}"


def logged_phrase(logged: Mapping[str, Any], scale: Scale) -> str:
    """What the log says: "88 % to 70 % (a loss of 18 points, 95 % interval 15 to 21) over 4,180 queries"."""
    told = {**logged, "estimate": logged.get("loss")}
    ends = f"{scale.value(logged.get('good'))} to {scale.value(logged.get('bad'))}"
    # The log's own difference is a count of what was seen, so it may come without an interval.
    loss = loss_phrase(told, scale) if logged.get("interval") else f"a difference of {scale.difference(logged.get('loss'))}"
    return f"{ends} ({loss}){_over(logged.get('n'))}"


def candidates_phrase(candidates: Sequence[Mapping[str, Any]], *, quoting: Quoting = PLAIN) -> str:
    """Sets of axes that may be the cause, each with its degree of belief."""
    return listed([_candidate(candidate, quoting) for candidate in candidates], last=" or ")


def listed(parts: Sequence[str], *, last: str = " and ") -> str:
    """A list in English: "a", "a and b", "a, b and c"."""
    return last.join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), *parts[-1:]])


def plain_number(x: float) -> str:
    """A number outside [0, 1] scales, with as many decimals as its size deserves: 1,240 · 12.4 · 1.24 · 0.124."""
    size = abs(x)
    if size >= 1e9 or 0 < size < 1e-3:
        return f"{x:.2e}"
    decimals = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3
    return _unsigned_zero(f"{x:,.{decimals}f}")


def count(n: float | None, one: str = "", many: str = "") -> str:
    """A count with its noun: "1 call", "4,000 calls"."""
    if n is None:
        return f"{many} {UNKNOWN}".strip()
    return f"{n:,.0f} {one if n == 1 else many or one + 's'}".strip() if one else f"{n:,.0f}"


def money(usd: float | None) -> str:
    """An amount in USD: cents, or two significant digits below one cent."""
    if usd is None:
        return "cost unknown"
    return f"{usd:,.2f} USD" if usd >= 0.01 or usd == 0 else f"{usd:.2g} USD"


def duration(seconds: float | None) -> str:
    """A duration in its two largest units: "0.4 s", "1 min 1 s", "2 h 5 min"."""
    if seconds is None:
        return "time unknown"
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def usage_sentence(usage: Mapping[str, Any]) -> str:
    """What the run cost: calls, answers taken from the store, errors, tokens, money, time."""
    counted = {"calls": "call", "cached": "answer", "errors": "error", "tokens": "token"}
    parts = {key: count(usage[key], noun) for key, noun in counted.items() if usage.get(key) is not None}
    if "cached" in parts:
        parts["cached"] += " from the store"
    parts["usd"] = money(usage.get("usd"))
    if usage.get("unsettled_usd"):
        parts["usd"] += f" (and up to {money(usage['unsettled_usd'])} for requests whose answer never came whole)"
    told = _provider_phrase(usage.get("provider") or {})
    return ", ".join([*parts.values(), duration(usage.get("seconds"))]) + (f"; {told}" if told else "")


def _provider_phrase(provider: Mapping[str, Any]) -> str:
    """Who answered, and what did not go smoothly between target and provider; empty when neither is known."""
    faults, outcomes = (provider.get(key) or {} for key in ("faults", "outcomes"))
    parts = [f"answered by {', '.join(endpoints)}"] if (endpoints := list(provider.get("endpoints") or ())[:3]) else []
    if faults:
        parts.append(f"{count(provider.get('requests'), 'request')}, of which failed: {_tallied(faults)}")
    if (provider.get("waited_s") or 0) >= 1:
        parts.append(f"trials waited {duration(provider['waited_s'])} in all for limits and outages")
    if outcomes:
        parts.append(f"answers that are not whole: {_tallied(outcomes)}")
    return "; ".join(parts)


def _tallied(counts: Mapping[str, int]) -> str:
    """Kinds with their counts, most first. A service of the user names its own kinds: letters and digits of them are shown."""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    named = [(re.sub(r"[^A-Za-z0-9 ]", " ", str(kind).replace("_", " "))[:24].strip(), n) for kind, n in rows[:6]]
    return ", ".join(f"{kind or 'other'} ({n:,})" for kind, n in named)


def _fine(report: Report, quoting: Quoting) -> Scale:
    """The scale for sentences: whole points where the loss is large, one decimal where it is small."""
    scale, loss = scale_of(report, quoting=quoting), (report.get("loss") or {}).get("estimate")
    return replace(scale, decimals=0) if loss is not None and abs(loss) >= 0.1 else scale


def _loss_clause(report: Report, quoting: Quoting) -> str:
    loss, scale = report.get("loss") or {}, _fine(report, quoting)
    good, bad = loss.get("good"), loss.get("bad")
    metric = quoting.name(report["metric"])
    if good is None or bad is None:
        return f"{metric} could not be estimated on {'both releases' if good == bad else 'one of the releases'}"
    verb = "falls" if bad < good else "rises" if bad > good else "goes"
    moved = f"{metric} {verb} from {scale.value(good)} to {scale.value(bad)}"
    if _counts_missing(report):
        return f"{moved} among the answers that came; with those that are missing counted as wrong, {loss_phrase(loss, scale)}"
    return f"{moved} ({loss_phrase(loss, scale)})"


def _counts_missing(report: Report) -> bool:
    """Whether the loss is not the difference of the two values: it counts answers that the values do not have."""
    loss = report["loss"]
    if loss.get("estimate") is None or report.get("higher_is_better") is None:
        return False
    apart = (loss["good"] - loss["bad"]) * (1 if report["higher_is_better"] else -1)
    return bool(abs(apart - loss["estimate"]) > DIFFERS * max(abs(loss["good"]), abs(loss["bad"]), abs(loss["estimate"])))


def _logged_clause(report: Report, quoting: Quoting) -> str:
    logged, scale = (report.get("loss") or {}).get("logged"), _fine(report, quoting)
    if not logged:
        return "the log has no scores to compare with"
    return f"in the log {quoting.name(report['metric'])} went from {logged_phrase(logged, scale)}"


def _calls_clause(calls: int) -> str:
    return f"about {count(calls, 'more call', 'more calls')} would probably settle it"


def _candidate(candidate: Mapping[str, Any], quoting: Quoting) -> str:
    names = listed([quoting.name(axis) for axis in candidate["axes"]])
    together = " together" if len(candidate["axes"]) > 1 else ""
    belief = candidate.get("belief")
    return f"{names}{together}" + ("" if belief is None else f" (belief {belief:.2f})")


def _cell(report: Report, bad_axes: Sequence[str]) -> Mapping[str, Any]:
    cells = report.get("cells") or ()
    return next((cell for cell in cells if set(cell["bad_axes"]) == set(bad_axes)), {})


def _is_plural(cause: Mapping[str, Any]) -> bool:
    return len(cause["axes"]) > 1 and cause["mode"] != "either"


def _over(n: int | None) -> str:
    return "" if n is None else f" over {count(n, 'query', 'queries')}"


def _is_known(x: float | None) -> bool:
    return x is not None and math.isfinite(x)


def _unsigned_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.,") else text
