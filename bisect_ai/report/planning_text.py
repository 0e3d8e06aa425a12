"""What spends nothing, as text: a plan before a call is spent, the history of runs, and the diff of two releases as a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

from rich.cells import cell_len

from bisect_ai.report.accounting import SUSPECTS, capitalised, log_sentences, suspect_line
from bisect_ai.report.blocks import UNKNOWN, Scale, Table, count, listed, money, percent, scale_for
from bisect_ai.report.json_edge import read
from bisect_ai.report.planning_values import (
    DiffAxis,
    FirstQuestion,
    ForecastTape,
    HistoryRow,
    NamedChange,
    PlannedRun,
    ReleaseDiff,
    ReportedSuspect,
    VoidAnswers,
)
from bisect_ai.report.terminal_page import Screen, fit
from bisect_ai.report.untrusted_text import PLAIN, as_text, one_line, show

# Characters of a message that are shown; the JSON plan has all.
MOST_SHOWN = 2_000
TEXTS = ("input", "output", "reference")


def render_plan(plan: PlannedRun | Mapping[str, object], *, width: int = 80, colour: bool = False) -> str:
    """The plan as text of `width` columns (at least 60), the calls and the cost in its first line.

    `smallest_effect` is in score points, as the tolerance is: 0.02 on a metric in [0, 1] is shown as 2.0 points.
    """
    plan = read(PlannedRun, plan, what="the plan")
    screen = Screen(width=width, colour=colour)
    axes = [one_line(axis) for axis in plan.axes]
    screen.say(
        f"{one_line(plan.design)} design over {count(len(axes), 'changed axis', 'changed axes')}: "
        f"{_at_most(plan.calls)}, {_about_money(plan.usd_estimated)}",
        style="bold",
    )
    screen.heading("Plan")
    facts = _facts(plan, axes)
    for label, text in facts.items():
        screen.say(text, lead=f"  {label:<{max(map(len, facts))}}  ")
    if log := log_sentences(plan.log):
        screen.heading("Log")
        screen.say(". ".join(map(capitalised, log)) + ".", lead="  ")
    _first(screen, plan.first)
    _tape(screen, plan.tape)
    _alternatives(screen, plan)
    _lists(screen, plan)
    return screen.page()


def _facts(plan: PlannedRun, axes: list[str]) -> dict[str, str]:
    population = plan.population
    of_log = "" if population is None else f" of {count(population)} in the log"
    return {
        "axes": listed(axes) or "none changed",
        "queries": count(plan.queries) + of_log,
        "cells": count(plan.cells),
        "calls": _at_most(plan.calls),
        "tokens": _about(plan.tokens_estimated),
        "cost": _about_money(plan.usd_estimated).removeprefix("cost "),
        **_void(plan.void),
        "smallest effect": _smallest(plan.smallest_effect, plan) + " seen in 80 of 100 runs (80 % power)",
    }


def _first(screen: Screen, first: FirstQuestion | None) -> None:
    """The first question, message by message, and what its record holds."""
    if first is None:
        return
    receiver = "the model" if first.sent_to == "model" else "the target"
    screen.heading(f"First question, as {receiver} would get it ({one_line(first.query, limit=60)})")
    for message in first.messages:
        calls = [one_line(call.function.name) for call in message.tool_calls]
        said = _shown(as_text(message.content)) or (f"calls {listed(calls)}" if calls else "(empty)")
        screen.say(said, lead=f"  {one_line(message.role)}: ")
    told = [f"{one_line(name)} {_value(name, value)}" for name, value in first.used.items() if value not in ({}, None)]
    if told:
        screen.say(", ".join(told), lead="  of its record: ")


def _shown(text: str) -> str:
    """A message's text; of a very long one the beginning and the end."""
    if len(text) <= MOST_SHOWN:
        return show(text)
    half = MOST_SHOWN // 2
    return f"{show(text[:half])} … ({count(len(text) - 2 * half)} characters between) … {show(text[-half:])}"


def _value(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return listed([f"{one_line(key)} {each:g}" for key, each in value.items()])
    if isinstance(value, int):
        return count(value, "character", "characters") if name in TEXTS else count(value)
    return one_line(value, limit=60)


def _void(void: VoidAnswers | None) -> dict[str, str]:
    """What of an earlier run's answers an edit of the releases left of use."""
    if void is None:
        return {}
    cost = f", which cost {money(void.usd)}" if void.usd else ""
    return {
        "edited since": f"{count(void.void, 'stored answer')} of run {one_line(void.run)} void{cost}; {count(void.kept)} still count"
    }


def _tape(screen: Screen, tape: ForecastTape | None) -> None:
    """Shares of queries whose tool calls the log cannot answer, and why."""
    if tape is None:
        return
    screen.heading("Tool calls that the log cannot answer (estimated from the log)")
    for cell in tape.cells:
        named = listed([one_line(axis) for axis in cell.bad_axes])
        name = "good" if not named else "bad" if cell is tape.cells[1] else f"{named} alone"
        low, high = percent(cell.missing), percent(cell.most)
        screen.say(f"{name}: {low if low == high else f'{low} to {high}'} of queries", lead="  ")
    for reason in dict.fromkeys(reason for cell in tape.cells for reason in cell.why):
        screen.say(one_line(reason), lead="  - ")


def _alternatives(screen: Screen, plan: PlannedRun) -> None:
    rows = tuple(
        (
            one_line(other.design),
            count(other.queries),
            count(other.calls),
            count(other.usual_calls),
            money(other.usd),
            _smallest(other.smallest_effect, plan),
        )
        for other in plan.alternatives
    )
    if rows:
        screen.heading("Designs to choose from")
        screen.say("usual calls: for one axis that costs 10 points", lead="  ")
        screen.table(lambda _: Table(("design", "queries", "most calls", "usual calls", "most cost", "smallest effect"), rows))


def _lists(screen: Screen, plan: PlannedRun) -> None:
    _suspects(screen, plan.suspects)
    if warnings := plan.warnings:
        screen.heading("Warnings")
        for warning in warnings:
            screen.say(one_line(warning), lead="  ! ")


def _suspects(screen: Screen, suspects: Sequence[ReportedSuspect]) -> None:
    if suspects:
        screen.heading(SUSPECTS)
    for suspect in suspects:
        screen.say(suspect_line(suspect, PLAIN), lead="  - ")


def _smallest(effect: float | None, plan: PlannedRun) -> str:
    return scale_for(plan.unit, [effect]).difference(effect)


def _at_most(calls: float | None) -> str:
    return f"calls {UNKNOWN}" if calls is None else f"at most {count(calls, 'call')}"


def _about(tokens: float | None) -> str:
    """A rough count to three significant digits."""
    return UNKNOWN if tokens is None else f"about {count(float(f'{tokens:.3g}'))}"


def _about_money(usd: float | None) -> str:
    return money(usd) if usd is None else f"about {money(usd)}"


# -- what runs did -------------------------------------------------------------------------------------------------------
COLUMNS = ("date", "asked", "releases", "metric", "good → bad", "loss", "verdict")


def render_history(rows: Sequence[HistoryRow | Mapping[str, object]], *, width: int = 80, colour: bool = False) -> str:
    """Rows of the history as a table of `width` columns (at least 60), oldest first; losses with 95 % intervals."""
    screen = Screen(width=width, colour=colour)
    if not rows:
        screen.say("no finished runs yet")
        return screen.page()
    screen.say(f"{count(len(rows), 'question', 'questions')}, oldest first", style="bold")
    screen.table(lambda join: Table(COLUMNS, tuple(_row(read(HistoryRow, row, what="the history"), join) for row in rows)))
    return screen.page()


def _row(row: HistoryRow, join: str) -> tuple[str, ...]:
    values = [row.good_value, row.bad_value]
    scale: Scale = scale_for(None, values)
    interval = None if row.loss_low is None or row.loss_high is None else (row.loss_low, row.loss_high)
    axes = ", ".join(one_line(axis) for axis in row.axes)
    kind = one_line(row.kind).replace("_", " ") + (", with earlier audits" if row.carried and row.kind == "regression" else "")
    return (
        "" if row.at is None else row.at[:10],
        one_line(row.question),
        f"{one_line(row.good)} →{join}{one_line(row.bad)}",
        one_line(row.metric),
        f"{scale.number(row.good_value)} →{join}{scale.number(row.bad_value)}",
        scale.bracket(row.loss, interval, join=join),
        f"{kind}:{join}{axes}" if axes else kind,
    )


MOST_PER_GROUP = 12  # changes of a group on a screen; the JSON diff has all
# Keys of what stands for a file that is no text.
_NO_TEXT = frozenset({"binary", "lfs", "symlink"})
# Characters that stay before the first difference when a line is too long to show whole.
_LEAD = 16


def render_diff(tree: ReleaseDiff | Mapping[str, object], *, width: int = 80, colour: bool = False) -> str:
    """The tree as text of `width` columns (at least 60): counts and owner per axis, each change on one line with - and +."""
    tree = read(ReleaseDiff, tree, what="the diff")
    screen = Screen(width=width, colour=colour)
    screen.say(_summary_line(tree), style="bold")
    for axis in tree.axes:
        if not axis.same:
            _draw_axis(screen, axis)
    if same := [one_line(axis.axis) for axis in tree.axes if axis.same]:
        screen.heading(f"Same in both: {', '.join(same)}")
    _suspects(screen, tree.suspects)
    return screen.page()


def _summary_line(tree: ReleaseDiff) -> str:
    changed = [axis for axis in tree.axes if not axis.same]
    changes = sum(len(axis.changes) for axis in tree.axes)
    return (
        f"{one_line(tree.good)} → {one_line(tree.bad)}: "
        f"{len(changed)} of {count(len(tree.axes), 'axis', 'axes')} changed, {count(changes, 'change')}"
    )


def _draw_axis(screen: Screen, axis: DiffAxis) -> None:
    changes = axis.changes
    owner = f"owner {one_line(axis.owner)}" if axis.owner else "no owner"
    screen.heading(f"{one_line(axis.axis)}: {count(len(changes), 'change')}, {owner}")
    groups = _groups_of_changes(changes)
    for i, (kind, group) in enumerate(groups):
        if kind:
            _draw_limb(screen, "", last=i == len(groups) - 1, text=f"{kind}: {count(len(group), 'change')}")
        trunk = "" if not kind else "   " if i == len(groups) - 1 else "│  "
        _draw_changes(screen, group, trunk=trunk)


def _groups_of_changes(changes: Sequence[NamedChange]) -> list[tuple[str, Sequence[NamedChange]]]:
    """The changes of an axis, by kind when they are too many to read as one list."""
    kinds = list(dict.fromkeys(one_line(change.kind or "other") for change in changes))
    if len(changes) <= MOST_PER_GROUP or len(kinds) < 2:
        return [("", changes)] if changes else []
    return [(kind, [c for c in changes if one_line(c.kind or "other") == kind]) for kind in kinds]


def _draw_changes(screen: Screen, changes: Sequence[NamedChange], *, trunk: str) -> None:
    shown, rest = changes[:MOST_PER_GROUP], len(changes) - MOST_PER_GROUP
    for i, change in enumerate(shown):
        last = i == len(shown) - 1 and rest <= 0
        headline, whole = _change_headline(change, room=screen.width - len(trunk) - 5)
        _draw_limb(screen, trunk, last=last, text=headline)
        if not (whole and _says_all(change)):
            _draw_sides(screen, change, trunk=trunk + ("   " if last else "│  "))
    if rest > 0:
        _draw_limb(screen, trunk, last=True, text=f"and {count(rest, 'more change', 'more changes')}")


def render_named(screen: Screen, changes: Sequence[NamedChange], *, depth: int = 0, trunk: str = "") -> None:
    """Named changes as a tree under their groups, every leaf open: before and after, then what is known of it."""
    groups: dict[str, list[NamedChange]] = {}
    leaves = []
    for change in changes:
        if len(change.group) > depth:
            groups.setdefault(change.group[depth], []).append(change)
        else:
            leaves.append(change)
    parts = len(groups) + len(leaves)
    for i, members in enumerate(groups.values(), 1):
        shared = _shared_groups(members)
        _draw_limb(screen, trunk, last=i == parts, text=", ".join(shared[depth:]))
        render_named(screen, members, depth=len(shared), trunk=trunk + ("   " if i == parts else "│  "))
    for i, change in enumerate(leaves, len(groups) + 1):
        _draw_leaf(screen, change, trunk=trunk, last=i == parts)


def _shared_groups(changes: Sequence[NamedChange]) -> list[str]:
    """The groups, outermost first, that all these changes are in."""
    around = zip(*(change.group for change in changes), strict=False)
    return [level[0] for level in takewhile(lambda level: len(set(level)) == 1, around)]


def _draw_leaf(screen: Screen, change: NamedChange, *, trunk: str, last: bool) -> None:
    from bisect_ai.report.change_report import facts  # loads the types of whole reports, which a plan has no need of

    headline, whole = _change_headline(change, room=screen.width - len(trunk) - 5)
    _draw_limb(screen, trunk, last=last, text=headline)
    below = trunk + ("   " if last else "│  ")
    if not (whole and _says_all(change)):
        _draw_sides(screen, change, trunk=below)
    for line in facts(change, PLAIN):
        screen.say(line, lead=f"  {below}", hang=f"  {below}  ")


def _draw_limb(screen: Screen, trunk: str, *, last: bool, text: str) -> None:
    lead = f"  {trunk}{'└─' if last else '├─'} "
    screen.say(fit(text, screen.width - len(lead)), lead=lead)


def _change_headline(change: NamedChange, *, room: int) -> tuple[str, bool]:
    """Path and summary, and whether they fit; else the path alone where before and after tell more."""
    path, summary = one_line(change.path), one_line(change.summary)
    whole = f"{path}  {summary}".strip()
    if cell_len(whole) <= room:
        return whole, True
    return (path if path and any(_both_sides(change)) else whole), False


def _says_all(change: NamedChange) -> bool:
    """Whether the summary quotes before and after in full, or says what they are where no text shows it."""
    return _is_described(change) or all(text in one_line(change.summary) for text in _both_sides(change))


def _is_described(change: NamedChange) -> bool:
    """Whether a file moved, only white space differs, or it is no text (a link, a binary file, one that Git LFS keeps)."""
    marks = (side for side in (change.before, change.after) if isinstance(side, Mapping))
    return change.kind == "moved" or change.is_white_space or any(_NO_TEXT & set(mark) for mark in marks)


def _draw_sides(screen: Screen, change: NamedChange, *, trunk: str) -> None:
    room = screen.width - len(trunk) - 4
    if _is_described(change):
        screen.say(one_line(change.summary), lead=f"  {trunk}  ", hang=f"  {trunk}  ")
        return
    before, after = _both_sides(change)
    start = _start_of_difference(before, after, room)
    for sign, text, style in (("-", before, "red"), ("+", after, "green")):
        if text:
            screen.say(fit(_text_from(text, start), room), lead=f"  {trunk}{sign} ", style=style)


def _both_sides(change: NamedChange) -> tuple[str, str]:
    """Before and after on one line each; line breaks that end both are left out."""
    before, after = change.before, change.after
    if all(side is None or (isinstance(side, str) and side.endswith("\n")) for side in (before, after)):
        before, after = (side.rstrip("\n") if isinstance(side, str) else side for side in (before, after))
    return one_line(as_text(before)), one_line(as_text(after))


def _start_of_difference(before: str, after: str, room: int) -> int:
    """Where to begin to show two lines so that their first difference is in sight."""
    beyond = max(len(before), len(after)) - room
    if beyond <= 0 or not before or not after:
        return 0
    same = next((i for i, (x, y) in enumerate(zip(before, after, strict=False)) if x != y), 0)
    return min(same - _LEAD, beyond + 1)


def _text_from(text: str, start: int) -> str:
    return text if start <= 0 else "…" + text[start:]
