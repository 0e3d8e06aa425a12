"""A canary's report: its verdict in one sentence, and the parts that every format arranges."""

from __future__ import annotations

from collections.abc import Iterator

from bisect_ai.report.accounting import with_closing
from bisect_ai.report.blocks import UNKNOWN, ReportPart, Scale, Table, count, listed, negated, rough
from bisect_ai.report.phrases import fall_phrase, moved_phrase, onset_phrase
from bisect_ai.report.report_values import Report, scale_of
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.watch_values import (
    AnswerTally,
    CanaryBlock,
    FurtherAnswers,
    GuardedMetric,
    SegmentLoss,
)

MOST_SEGMENTS = 12  # rows of the table; the JSON report has all
# Guards, and segments, on the card; all are in their tables.
MOST_PLACES = 3
# Evidence is told up to this: beyond it its digits say nothing.
MOST_EVIDENCE = 1e12


def block_of(report: Report) -> CanaryBlock:
    """The block that makes a report a canary's."""
    assert report.canary is not None, "only a canary's report comes here"
    return report.canary


def canary_sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict in one sentence: promote, roll back or wait, the loss with its interval, and what is still needed."""
    canary, name, scale = block_of(report), quoting.name(report.bad), scale_of(report, quoting=quoting)
    after = "" if canary.decided_after is None else f"; decided after {count(canary.decided_after, 'answer')}"
    if canary.apart:
        return f"wait: {apart_phrase(report, quoting)}, so that they cannot be compared; let both answer at the same time."
    if canary.kind == "promote":
        limit, kept = scale.difference(canary.tolerance), _kept_phrase(canary, quoting)
        return f"promote {name}: {_change(report, scale, quoting)}; a loss of {limit} or more is excluded{kept}{after}."
    if canary.kind == "roll_back":
        why = guard_phrase(canary, quoting) or "that it loses nothing is excluded"
        return f"roll back {name}: {_change(report, scale, quoting)}; {why}{after}."
    if canary.withheld:
        return f"wait: {withheld_phrase(canary, quoting)}; {_change(report, scale, quoting)}."
    waits = waiting_phrase(canary, quoting)
    return f"wait: {waits}{'; ' if waits else ''}{_change(report, scale, quoting)}; {still_needed(canary, scale)}."


def apart_phrase(report: Report, quoting: Quoting) -> str:
    """That the releases hardly answered at the same time, and when each did."""
    tallies = block_of(report).answers
    sides = ((report.good, tallies.baseline), (report.bad, tallies.canary))
    spans = [f"{quoting.name(name)}{_span(tally, quoting)}" for name, tally in sides]
    return f"the answers of {spans[0]} and {spans[1]} do not overlap in time"


def _span(tally: AnswerTally, quoting: Quoting) -> str:
    return "" if tally.since is None else f" ({quoting.prose(tally.since)} to {quoting.prose(tally.until)})"


def _kept_phrase(canary: CanaryBlock, quoting: Quoting) -> str:
    return f", and {listed([quoting.name(g.name) for g in canary.guards])} kept" if canary.guards else ""


def guard_phrase(canary: CanaryBlock, quoting: Quoting) -> str:
    """The guard that rolls it back, with its move and limit; empty where none does."""
    guard = next((g for g in canary.guards if g.name == canary.by_guard), None)
    if guard is None:
        return ""
    moved = "falls" if guard.falls else "rises"
    return f"{quoting.name(guard.name)} {moved} by {_moved(guard)}, more than the {_limit(guard)} allowed"


def waiting_phrase(canary: CanaryBlock, quoting: Quoting) -> str:
    """The guards that are not yet known to keep their limits; empty where there are none."""
    waiting = [f"{quoting.name(g.name)} ({_limit(g)} allowed)" for g in canary.guards if g.kind == "open"]
    return f"not yet known to keep {'its limit' if len(waiting) == 1 else 'their limits'}: {listed(waiting)}" if waiting else ""


def withheld_phrase(canary: CanaryBlock, quoting: Quoting) -> str:
    """Why promoting is withheld."""
    first = canary.withheld[0]
    name, why = quoting.name(first.name), quoting.prose(first.why)
    if first.by == "split":
        return (
            f"promoting is withheld because the canary was to get {name} of the traffic and {why.removeprefix('the canary ')}"
        )
    if first.by == "segment":
        return f"promoting is withheld because the segment {name} is proved to lose"
    return f"promoting is withheld because {name} differs between the releases and cannot be adjusted for: {why}"


def canary_places(report: Report, quoting: Quoting) -> Iterator[str]:
    """For the card: guards that did not decide, segments that are proved to lose more than the whole does, and since when."""
    canary, scale = block_of(report), scale_of(report, quoting=quoting)
    for guard in [g for g in canary.guards if g.rise is not None and g.name != canary.by_guard][:MOST_PLACES]:
        yield f"{quoting.name(guard.name)}: {_moved_phrase(guard)} allowed: {guard.kind}"
    whole = report.loss.estimate or 0.0
    standing_out = [part for part in canary.segments if part.proved and part.interval is not None and part.interval[0] > whole]
    for part in standing_out[:MOST_PLACES]:
        ends = "" if part.interval is None else f" ({scale.between(part.interval)})"
        yield f"{segment_phrase(part, quoting)} loses {scale.difference(part.loss)}{ends}"
    if report.onset is not None and report.onset.kind == "onset":
        yield onset_phrase(report.onset, quoting)


def _limit(guard: GuardedMetric) -> str:
    if guard.points:
        return f"{100 * guard.limit:g} point{'' if guard.limit == 0.01 else 's'}"
    return f"{100 * guard.limit:g} %" if guard.relative else f"{guard.limit:g}"


def _moved(guard: GuardedMetric) -> str:
    unit = " points" if guard.points else ""
    ends = "" if guard.interval is None else f" [{', '.join(_amount(guard, end) for end in guard.interval)}]"
    return f"{_amount(guard, guard.rise)}{unit}{ends}"


def _moved_phrase(guard: GuardedMetric) -> str:
    """How a guard moved and may: "rise of 1.6 % [-3.0 %, 6.0 %], 10 %", or "fall of 0.3 % [-6.3 %, 6.9 %], a rise of 10 %"."""
    watched, other = ("fall", "rise") if guard.falls else ("rise", "fall")
    if guard.rise is None or guard.rise >= 0:
        return f"{watched} of {_moved(guard)}, {_limit(guard)}"
    turned = guard.model_copy(update={"rise": -guard.rise, "interval": negated(guard.interval)})
    return f"{other} of {_moved(turned)}, a {watched} of {_limit(guard)}"


def _amount(guard: GuardedMetric, x: float | None) -> str:
    return UNKNOWN if x is None else f"{100 * x:.1f} %" if guard.relative else f"{100 * x:.1f}" if guard.points else f"{x:.3g}"


def _change(report: Report, scale: Scale, quoting: Quoting) -> str:
    none = f"no answers of {quoting.name(report.good)} and {quoting.name(report.bad)} stand side by side yet"
    return moved_phrase(report.loss, quoting.name(report.metric), scale) or none


def still_needed(canary: CanaryBlock, scale: Scale) -> str:
    """How many more answers would settle it, if it loses nothing and if it loses twice the tolerance."""
    promote, back = canary.needed.promote, canary.needed.roll_back
    return (
        f"promoting it takes {_answers(promote)} if it loses nothing; "
        f"rolling it back takes {_answers(back)} if it loses {scale.difference(back.if_loss)}"
    )


def _answers(needed: FurtherAnswers) -> str:
    if needed.canary is None or needed.baseline is None:
        return "more answers than can be named"
    more = count(rough(needed.canary), "more scored answer")
    return f"about {more} of the canary and {count(rough(needed.baseline))} of the baseline"


def parts(report: Report, *, quoting: Quoting = PLAIN) -> list[ReportPart]:
    """The report in reading order, after its sentence; parts that say nothing are left out."""
    decided = (report.verdict.reason, report.decision, f"run {report.run}")
    found = (
        ReportPart("Loss", tuple(_loss_lines(report, quoting))),
        ReportPart("Evidence", build=evidence_table),
        ReportPart("Answers", build=answers_table),
        ReportPart("Since when", tuple(_onset_lines(report, quoting))),
        ReportPart("Guards", build=guards_table),
        ReportPart("Segments", build=segments_table),
        ReportPart("Were both asked the same?", build=balance_table),
        ReportPart("How the interval tightened", build=looks_table),
    )
    return with_closing(report, found, decided, quoting)


def _loss_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    canary, loss, scale = block_of(report), report.loss, scale_of(report, quoting=quoting)
    yield f"{quoting.name(report.good)} (baseline) → {quoting.name(report.bad)} (canary)"
    yield f"{_change(report, scale, quoting)}; {count(loss.n, 'answer')}"
    yield f"method: {quoting.prose(loss.method)}"
    if canary.saved is not None and canary.saved.share >= 0.01:
        by = listed([quoting.name(name) for name in canary.saved.by])
        yield f"adjusting for {by} made {100 * canary.saved.share:.0f} % of the answers unneeded"
    if canary.kind == "roll_back":
        yield "safe to revert by machine: " + ("yes, wrong in 1 of 100 at most" if canary.safe_to_revert else "not yet")


def _onset_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    if report.onset is not None:
        fall = fall_phrase(report.onset, scale_of(report, quoting=quoting))
        yield f"the canary's {quoting.name(report.metric)}, beside the baseline's, {fall}"
        yield onset_phrase(report.onset, quoting)


def evidence_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """For each verdict the wealth staked on it, what it must pass, and what would probably do it."""
    canary, scale = block_of(report), scale_of(report, quoting=quoting)
    told = canary.evidence
    rows: tuple[tuple[str, ...], ...] = (
        ("promote", _wealth(told.promote), _wealth(told.promote_bound)),
        ("roll back", _wealth(told.roll_back), _wealth(told.roll_back_bound)),
    )
    columns: tuple[str, ...] = ("verdict", "evidence", "must pass")
    if canary.kind == "wait":
        columns += ("if it loses", "more of the canary", "more of the baseline")
        needed = (canary.needed.promote, canary.needed.roll_back)
        rows = tuple((*row, *_outlook(each, scale)) for row, each in zip(rows, needed, strict=True))
    return Table(columns, rows)


def _outlook(needed: FurtherAnswers, scale: Scale) -> tuple[str, ...]:
    more = ("none would do" if n is None else count(rough(n)) for n in (needed.canary, needed.baseline))
    return scale.difference(needed.if_loss), *more


def _wealth(x: float | None) -> str:
    return "–" if x is None else f"{x:,.0f}" if 100 <= x < 1e6 else f"{x:.3g}"


def answers_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """The answers of each release: all, those without a score, and when."""
    canary = block_of(report)
    sides = (("baseline", report.good, canary.answers.baseline), ("canary", report.bad, canary.answers.canary))
    rows = tuple(
        (
            f"{which}: {quoting.name(name)}",
            count(tally.answers),
            count(tally.unscored),
            *(quoting.prose(at or UNKNOWN) for at in (tally.since, tally.until)),
        )
        for which, name, tally in sides
    )
    return Table(("release", "answers", "without score", "first", "last"), rows)


def guards_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """What each guard may move by, how it moved, and what that comes to."""
    rows = tuple(
        (
            quoting.name(guard.name),
            *("–" if x is None else f"{x:.4g}" for x in (guard.baseline, guard.canary)),
            _moved(guard),
            f"{'-' if guard.falls else '+'}{_limit(guard)}",
            guard.kind,
        )
        for guard in block_of(report).guards
    )
    return Table(("guard", "baseline", "canary", "moved by", "limit", "verdict"), rows)


def segment_phrase(part: SegmentLoss, quoting: Quoting) -> str:
    """A segment by its column and value, or by two or three of them."""
    further = [value for value in (part.beside, part.also) if value is not None]
    values = [(part.column, part.level), *((value.column, value.level) for value in further)]
    return " and ".join(f"{quoting.name(column)} = {quoting.name(level)}" for column, level in values)


def segments_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """Segments that are proved to lose, and those of the named column."""
    canary, scale = block_of(report), scale_of(report, quoting=quoting)
    shown = [part for part in canary.segments if part.proved or part.column == canary.segment]
    rows = tuple(
        (
            segment_phrase(part, quoting),
            count(part.answers),
            scale.bracket(part.loss, part.interval, join=join),
            "loses" if part.proved else "not known",
        )
        for part in shown[:MOST_SEGMENTS]
    )
    rest = len(shown) - len(rows)
    notes = ("All intervals hold together, at every look, but for a chance of 1 %.",) if rows else ()
    more = (f"{count(rest, 'more segment')} in the JSON report.",) if rest > 0 else ()
    return Table(
        ("segment", "answers", f"loss in {'points' if scale.share else scale.unit or 'units'}", "verdict"), rows, notes + more
    )


def balance_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """Columns that differ between the releases, with the value that differs most, and what was done about it."""
    canary = block_of(report)
    shown = [column for column in canary.balance if column.fate != "balanced"]
    rows = tuple(
        (
            quoting.name(column.name),
            quoting.name(column.level or "(none)"),
            f"{100 * column.baseline:.1f} %",
            f"{100 * column.canary:.1f} %",
            _FATES.get(column.fate, column.fate),
        )
        for column in shown[:MOST_SEGMENTS]
    )
    even = [quoting.name(column.name) for column in canary.balance if column.fate == "balanced"]
    notes = (f"Balanced: {listed(even)}.",) if even else ()
    return Table(("column", "value", "of the baseline", "of the canary", "what was done"), rows, notes)


_FATES = {"adjusted": "adjusted for", "withheld": "withheld: cannot be adjusted for", "assigned": "what traffic was split by"}


def looks_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """A few looks from the first to the last."""
    canary, scale = block_of(report), scale_of(report, quoting=quoting)
    chosen = canary.looks[-1::-4][::-1]
    rows = tuple((count(k.answers, "answer"), scale.bracket(k.loss, k.interval, join=join)) for k in chosen)
    unit = "points" if scale.share else scale.unit or "units"
    notes = ("Answers without a score left out; the verdict's own interval holds for every value of theirs.",)
    return Table(("after", f"loss in {unit}"), rows, notes if canary.missing_bounded else ())
