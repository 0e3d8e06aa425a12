"""What a run would do, before a call is spent: cells, calls, cost, the smallest effect that the sample can see; and what runs did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bisect_ai.report.accounting import capitalised, log_sentences, money
from bisect_ai.report.json_edge import read
from bisect_ai.report.phrases import UNKNOWN, Scale, count, listed, scale_for
from bisect_ai.report.planning_values import FirstQuestion, ForecastTape, HistoryRow, PlannedRun, VoidAnswers
from bisect_ai.report.tables import Table, suspect_line
from bisect_ai.report.tape_report import percent
from bisect_ai.report.terminal_page import Screen
from bisect_ai.report.untrusted_text import PLAIN, one_line, show

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
        content = message.content
        text = content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)
        calls = [one_line(call.function.name) for call in message.tool_calls]
        said = _shown(text) or (f"calls {listed(calls)}" if calls else "(empty)")
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
    if suspects := plan.suspects:
        screen.heading("Suspects of the static check (no evidence)")
        for suspect in suspects:
            screen.say(suspect_line(suspect, PLAIN), lead="  - ")
    if warnings := plan.warnings:
        screen.heading("Warnings")
        for warning in warnings:
            screen.say(one_line(warning), lead="  ! ")


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
        f"{scale.number(row.good_value)} → {scale.number(row.bad_value)}",
        scale.bracket(row.loss, interval, join=join),
        f"{kind}:{join}{axes}" if axes else kind,
    )
