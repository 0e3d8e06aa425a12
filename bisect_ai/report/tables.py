"""The tables and blocks of a report as plain strings, the same for every format; renderers only arrange them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from bisect_ai.report.blocks import UNKNOWN, Fact, Scale, Table, count, joined, listed, negated, scale_for, short_value
from bisect_ai.report.report_values import scale_of
from bisect_ai.report.untrusted_text import PLAIN, Quoting, as_text
from bisect_ai.report.vocabulary import ALONE, AXIS, COMBINATION, FAIR_SHARE, TAKEN_BACK, odds

if TYPE_CHECKING:
    from bisect_ai.report.measured_values import (
        MeasuredLoss,
        ReportedCell,
        ReportedEffect,
        ReportedSegment,
        SideEffect,
        SideMetric,
    )
    from bisect_ai.report.planning_values import NamedChange, ShownCall
    from bisect_ai.report.report_values import NamedCause, Report

# Kinds of effects with their columns: one in which nothing was measured is not shown.
_EFFECTS = (("introduced", ALONE), ("reverted", TAKEN_BACK), ("shapley", FAIR_SHARE))
# Adjusted p-value below which an interaction is worth a row.
MATTERS = 0.05
MOST_INTERACTIONS = 8  # a table of more is not read; the JSON report has all, as of the next ones
MOST_EXAMPLES = 3
MOST_SEGMENTS = 12
MOST_SIDE_EFFECTS = 12
_MOVED = ("up", "down")
MOST_CHANGES = 6  # of an axis that was not drilled into
MOST_NAMES = 6  # owners, or queries, in a sentence


def effects_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """Per axis what changing it alone costs, taking it back alone brings back, and its fair share, with intervals."""
    effects, scale = report.effects, scale_of(report, quoting=quoting)
    single = {(effect.axes[0], effect.kind): effect for effect in effects if len(effect.axes) == 1}
    known = {kind for (_, kind), effect in single.items() if effect.estimate is not None}
    kinds = [(kind, title) for kind, title in _EFFECTS if kind in known]
    rows = tuple(
        (quoting.name(axis), *(_estimate_cell(single.get((axis, kind)), scale, join) for kind, _ in kinds))
        for axis in report.axes
        if any((axis, kind) in single for kind, _ in kinds)
    )
    net = {e.axes[0]: _estimate_cell(e, scale, join) for e in effects if e.kind == "net"}
    if len(kinds) == 1 and [net.get(axis) for axis in report.axes] == [row[1] for row in rows]:
        rows = ()  # the net costs, once more
    columns = (AXIS, *(title for _, title in kinds))
    return Table(columns, rows, _notes_told(_unit_note(scale), _reasons_told(single.values(), quoting)) if rows else ())


def net_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """What each axis breaks and mends, and the net of both with its interval: what an axis is named for, or not."""
    scale, rows = scale_of(report, quoting=quoting), [e for e in report.effects if e.kind == "net"]
    told = tuple(
        (
            joined(row.axes, quoting),
            *(scale.number(part) for part in (row.breaks, row.mends)),
            _estimate_cell(row, scale, join),
            "yes" if row.proved else "no",
        )
        for row in rows
    )
    return Table(("axis", "breaks", "mends", "net cost", "proved"), told, _notes_told(_unit_note(scale) if told else ""))


def interactions_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """The interactions that matter, largest first: those whose adjusted p-value (else their interval) excludes 0."""
    scale, found = scale_of(report, quoting=quoting), interactions_that_matter(report)
    rows = tuple(
        (joined(effect.axes, quoting), _estimate_cell(effect, scale, join), by_luck(effect.p_adjusted))
        for effect in found[:MOST_INTERACTIONS]
    )
    return Table(("interaction", "effect", "by luck"), rows, _notes_told(_and_more(len(found) - len(rows), "interaction")))


def interactions_that_matter(report: Report) -> list[ReportedEffect]:
    """The interactions whose adjusted p-value (else their interval) excludes 0, largest first."""
    found = [e for e in report.effects if e.kind == "interaction" and _effect_matters(e)]
    return sorted(found, key=lambda effect: -abs(effect.estimate or 0.0))


def cells_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """The informative cells: good, bad, one axis bad, one axis reverted, the cause alone, the rollback."""
    scale, shown = scale_of(report, quoting=quoting), [] if report.verify else informative_cells(report)
    missed = any(cell.missing for cell in report.cells)
    rows = tuple(
        (
            cell_name(cell.bad_axes, report.axes, quoting=quoting),
            scale.bracket(cell.value, cell.interval, join=join),
            count(cell.trials),
            count(cell.errors),
            *((count(cell.missing),) if missed else ()),
        )
        for cell in shown
    )
    column = f"value in {'%' if scale.share else scale.unit}".removesuffix(" in ")
    rest = _count_of_run(report) - len(shown)
    return Table(
        ("from the bad release", column, "trials", "errors", *(("missing",) if missed else ())),
        rows,
        _notes_told(_and_more(rest, COMBINATION), _infeasible_cell(report, quoting)),
    )


def side_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """The metrics that do not decide: good, bad, the change with its interval, and whether it is for the worse."""
    rows = tuple(_side_row(metric, quoting, join) for metric in report.side_metrics)
    return Table(("side metric", "good", second(report), "change", "n", "direction"), rows)


def side_effects_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """Where the side metrics' changes come from: the axes whose part of a change is beyond doubt."""
    metrics = report.side_metrics
    shown = [
        (m, e)
        for m in metrics
        for e in m.effects
        if _direction_of(e.estimate, e.interval, None) in _MOVED and (e.p_adjusted is None or e.p_adjusted < MATTERS)
    ]
    rows = tuple(_side_effect_row(metric, effect, quoting, join) for metric, effect in shown[:MOST_SIDE_EFFECTS])
    how = "Paired by query, from the trials of the run. By luck: p-values, adjusted by Holm's steps over all axes and side metrics."
    return Table(
        ("side metric, by axis", "change", "n", "direction", "by luck"),
        rows,
        _notes_told(how, _and_more(len(shown) - len(rows), "effect")),
    )


def loss_fact(loss: MeasuredLoss, scale: Scale, tone: str, *, what: str = "Loss", gain: str = "Gain") -> Fact:
    """The loss, or the gain, as a big number."""
    size, is_gain = loss.estimate, loss.estimate is not None and loss.estimate < 0
    ends = negated(loss.interval) if is_gain else loss.interval
    value = UNKNOWN if size is None else scale.difference(abs(size))
    return Fact(gain if is_gain else what, value, "" if ends is None else scale.between(ends), tone)


def second(report: Report) -> str:
    """What the report's second release is: bad, or a candidate fix."""
    return "fix" if report.verify else "bad"


def segments_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """The loss inside each segment of the queries, the largest first: those declared in the log, and those that were found."""
    scale = scale_of(report, quoting=quoting)
    found = segments_told(report)
    rows = tuple(_segment_row(row, scale, quoting, join) for row in found[:MOST_SEGMENTS])
    columns = (
        "segment",
        "of queries",
        "good",
        second(report),
        f"loss in {'points' if scale.share else scale.unit or 'units'}",
        "by luck",
    )
    return Table(columns, rows, _notes_told(_and_more(len(found) - len(rows), "segment")))


def segments_told(report: Report) -> list[ReportedSegment]:
    """The segments, the largest loss first; one that was both given and found by a search is told once, as given."""
    rows = list(report.segments)
    given = [row.where or row.name for row in rows if row.found_by != "search"]
    told = [row for row in rows if row.found_by != "search" or (row.where or row.name) not in given]
    return sorted(told, key=lambda row: -(row.loss or 0.0))


def segment_name(row: ReportedSegment) -> str:
    """The segment's name; of one that nobody named beforehand it says so."""
    return f"{row.name} (found by search)" if row.found_by == "search" else row.name


def _segment_row(row: ReportedSegment, scale: Scale, quoting: Quoting, join: str) -> tuple[str, ...]:
    share = UNKNOWN if row.share is None else f"{100 * row.share:.0f} %"
    return (
        quoting.name(segment_name(row)),
        share,
        *(scale.value(side) for side in (row.good, row.bad)),
        scale.bracket(row.loss, row.interval, join=join),
        by_luck(row.p_adjusted),
    )


def informative_cells(report: Report) -> list[ReportedCell]:
    """The cells that were run and say something by themselves, from the good release to the bad one."""
    axes = list(report.axes)
    verdict = report.verdict
    told = [set(cause.axes) for cause in verdict.causes]
    if rollback := verdict.rollback:
        told.append(set(axes) - set(rollback.axes))
    return [cell for cell in valued_cells(report) if _tells(set(cell.bad_axes), axes, told)]


def valued_cells(report: Report) -> list[ReportedCell]:
    """The cells that were run and have a population value, from the good release to the bad one."""
    ran = [cell for cell in report.cells if cell.status == "run"]
    valued = [cell for cell in ran if cell.value is not None]
    order = {axis: place for place, axis in enumerate(report.axes)}
    last = len(order)
    return sorted(valued, key=lambda c: (len(c.bad_axes), sorted(order.get(axis, last) for axis in c.bad_axes)))


def side_interval(report: Report, side: str) -> Sequence[float] | None:
    """The interval of the good or bad release's value: the loss's own, else its cell's."""
    own = report.loss.good_interval if side == "good" else report.loss.bad_interval
    wanted: set[str] = set() if side == "good" else set(report.axes)
    of_cell = next((cell.interval for cell in valued_cells(report) if set(cell.bad_axes) == wanted), None)
    return own if own is not None else of_cell


def cell_name(bad_axes: Sequence[str], axes: Sequence[str], *, quoting: Quoting = PLAIN) -> str:
    """A cell by what it takes from the bad release: "nothing (good)", "all but tools", "prompt + tools"."""
    if not bad_axes:
        return "nothing (good)"
    left_out = [axis for axis in axes if axis not in bad_axes]
    if not left_out:
        return "everything (bad)"
    if len(left_out) < len(bad_axes) and len(left_out) <= 2:
        return f"all but {listed([quoting.name(axis) for axis in left_out])}"
    return joined(bad_axes, quoting)


def change_line(change: NamedChange, quoting: Quoting) -> str:
    """One change: axis, path and summary, and who made it where that is known."""
    who = change.origin.owner or change.origin.author
    by = f" (by {quoting.prose(who)})" if who else ""
    path = f" {quoting.name(change.path)}" if change.path else ""
    return f"{quoting.name(change.axis)}{path}: {short_value(change.summary, quoting)}{by}"


def changes_of(report: Report, cause: NamedCause) -> list[tuple[str, list[NamedChange]]]:
    """The changes inside a cause with a title each: those named for it, and those of its axes where none was named."""
    named = list(cause.changes)
    open_axes = set(cause.axes) - {change.axis for change in named}
    others = [change for change in report.changes if change.axis in open_axes]
    titled = [("Changes to look at:", named), ("Not narrowed down, any of:", others)]
    return [(title, changes) for title, changes in titled if changes]


def owned(axes: Iterable[str], report: Report, quoting: Quoting) -> str:
    """Axes with their owners: "tools (owner platform), prompt (no owner)"."""
    return listed([f"{quoting.name(axis)} ({_owner_cell(report.owners.get(axis), quoting)})" for axis in axes])


def tool_call(call: ShownCall) -> str:
    """One tool call as it reads: name, arguments, and how it failed. Not cleaned."""
    error = f" failed: {as_text(call.error)}" if call.error else ""
    return f"{call.name}({as_text(call.arguments or '')}){error}"


def by_luck(p: float | None) -> str:
    """An adjusted p-value as people say it: how often luck alone shows as much in any row of the table."""
    return UNKNOWN if p is None else "< 1 in 1,000" if p < 0.001 else odds(p)


def _owner_cell(owner: str | None, quoting: Quoting) -> str:
    return f"owner {quoting.prose(owner)}" if owner else "no owner"


def _estimate_cell(effect: ReportedEffect | None, scale: Scale, join: str) -> str:
    return UNKNOWN if effect is None else scale.bracket(effect.estimate, effect.interval, join=join)


def _effect_matters(effect: ReportedEffect) -> bool:
    if effect.estimate is None:
        return False
    if effect.p_adjusted is not None:
        return bool(effect.p_adjusted < MATTERS)
    interval = effect.interval
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _tells(bad: set[str], axes: Sequence[str], told: Sequence[set[str]]) -> bool:
    return len(bad) <= 1 or len(bad) >= len(axes) - 1 or bad in told


def _count_of_run(report: Report) -> int:
    return sum(cell.status == "run" for cell in report.cells)


def _infeasible_cell(report: Report, quoting: Quoting) -> str:
    cells = [cell for cell in report.cells if cell.status == "infeasible"]
    if not cells:
        return ""
    axes = report.axes
    names = "; ".join(
        cell_name(cell.bad_axes, axes, quoting=quoting) + (f" ({quoting.prose(cell.reason)})" if cell.reason else "")
        for cell in cells[:MOST_NAMES]
    )
    rest = f" and {len(cells) - MOST_NAMES} more" if len(cells) > MOST_NAMES else ""
    return f"Cannot run, left out: {names}{rest}."


def _and_more(rest: int, noun: str) -> str:
    return f"{count(rest, f'more {noun}', f'more {noun}s')} in the JSON report." if rest > 0 else ""


def _unit_note(scale: Scale) -> str:
    unit = "points" if scale.share else scale.unit or "units of the metric"
    return f"In {unit} [95 % interval]; positive: the change costs quality."


def _reasons_told(effects: Iterable[ReportedEffect], quoting: Quoting) -> str:
    missing = sorted({e.method for e in effects if e.estimate is None and e.method})
    reasons = "; ".join(quoting.prose(method) for method in missing)
    return f"{UNKNOWN.capitalize()}: {reasons}." if missing else ""


def _notes_told(*notes: str) -> tuple[str, ...]:
    return tuple(note for note in notes if note)


def _side_row(metric: SideMetric, quoting: Quoting, join: str) -> tuple[str, ...]:
    good, bad, change, interval = metric.good, metric.bad, metric.change, metric.interval
    scale = scale_for(metric.unit, (good, bad), quoting=quoting)
    unit = ", %" if scale.share else _unit_after(metric.name, scale)
    moved = scale.bracket(change, interval, join=join)
    worse = _direction_of(change, interval, metric.higher_is_better)
    values = (*("-" if x is None else scale.number(x) for x in (good, bad)), moved, count(metric.n))
    return (quoting.name(metric.name) + unit, *values, worse)


def _side_effect_row(metric: SideMetric, effect: SideEffect, quoting: Quoting, join: str) -> tuple[str, ...]:
    change, interval = effect.estimate, effect.interval
    scale = scale_for(metric.unit, (metric.good, metric.bad), quoting=quoting)
    unit = ", points" if scale.share else _unit_after(metric.name, scale)
    worse = _direction_of(change, interval, metric.higher_is_better)
    name = f"{quoting.name(metric.name)}{unit}: {quoting.name(effect.axis)}"
    return name, scale.bracket(change, interval, join=join), count(effect.n), worse, by_luck(effect.p_adjusted)


def _unit_after(name: str, scale: Scale) -> str:
    """The unit, unless the name tells it: "latency, seconds", but "tokens" and "calls of search"."""
    return f", {scale.unit}" if scale.unit and scale.unit not in name.split() else ""


def _direction_of(change: float | None, interval: Sequence[float] | None, higher_is_better: bool | None) -> str:
    if change is None or interval is None:
        return ""
    if interval[0] <= 0 <= interval[1]:
        return "unclear"
    if higher_is_better is None:
        return "up" if change > 0 else "down"
    return "better" if (change > 0) == higher_is_better else "worse"


# The tables of a report in reading order, by title.
TABLES: dict[str, Callable[..., Table]] = {
    "Net effects by axis": net_table,
    "Effects by axis": effects_table,
    "Interactions that matter": interactions_table,
    "Combinations": cells_table,
    "Segments": segments_table,
    "Side metrics": side_table,
    "Side metrics by axis": side_effects_table,
}
