"""How many queries of each combination will ask for tool calls that the log does not have: estimated before a call is paid.

What a release will ask is not known, but the log says what it asked: with which arguments it calls a tool (of a release that the log
names, else those recorded for the query itself), and how often. What no release was seen to ask is only bounded: a tool that is new may
be called never or in every query.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.canonical import canonical, plain
from bisect_ai.errors import InputError
from bisect_ai.queries.query import Query
from bisect_ai.release.load import compose
from bisect_ai.release.tools import read_tools
from bisect_ai.runs.prepared import Prepared
from bisect_ai.targets.answer import MISSING
from bisect_ai.targets.tool_results import RecordedTools, recorded_calls, signature

FEWEST = 5
"""Queries of a release with recorded calls from which on the log says how that release calls tools."""
MOST_QUERIES = 1000
MOST_REASONS = 5


@dataclass
class _Habits:
    """How one release calls its tools, by the log."""

    queries: int = 0
    uses: Counter[str] = field(default_factory=Counter)
    """Tool to the queries that call it."""
    names: defaultdict[str, Counter[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    values: defaultdict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, Any] = field(default_factory=dict)

    def add(self, query: Query) -> None:
        """Take in what was recorded of a query."""
        calls = [(tool, given) for tool, given in recorded_calls(query.tool_results) if isinstance(given, Mapping)]
        self.queries += 1
        self.uses.update({tool for tool, _ in calls})
        for tool, given in calls:
            self.names[tool][tuple(sorted(given))] += 1
            for name, value in given.items():
                text = canonical(plain(value))
                self.examples.setdefault(text, value)
                self.values[tool, name][text] += 1

    def asked(self, tool: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """The recorded call as this release would write it."""
        usual = self.names[tool].most_common(1)
        if self.queries < FEWEST or not usual:
            return dict(recorded)
        found = {}
        for name in usual[0][0]:
            if name in recorded:
                found[name] = recorded[name]
            else:
                found[name] = self.examples[self.values[tool, name].most_common(1)[0][0]]
        return found

    def share(self, tool: str) -> float | None:
        """The share of this release's queries that call the tool; None: not known."""
        return self.uses[tool] / self.queries if self.queries >= FEWEST else None


def tape_ahead(prepared: Prepared) -> dict[str, Any] | None:
    """The plan's block: for good, bad and each axis alone the share of queries that will miss (`missing`), at most (`most`), and why.

    None: no tools are offered, or the target asks for its tool results itself.
    """
    answered = getattr(prepared.target, "answers_itself", None)
    if answered is None:
        return None
    queries = prepared.sample.queries[:MOST_QUERIES]
    habits = {release.name: _Habits() for release in (prepared.good, prepared.bad)}
    for query in queries:
        if query.release in habits and query.tool_results:
            habits[query.release].add(query)
    sides = [(), tuple(prepared.axes), *((axis,) for axis in prepared.axes if len(prepared.axes) > 1)]
    cells = [_cell_forecast(prepared, side, habits, queries, answered) for side in sides]
    return {"queries": len(queries), "cells": cells} if any(cell["tools"] for cell in cells) else None


def _cell_forecast(
    prepared: Prepared, side: Sequence[str], habits: Mapping[str, _Habits], queries: Sequence[Query], answered: frozenset[str]
) -> dict[str, Any]:
    tools = read_tools(compose(prepared.good, prepared.bad, side).get("tools"))
    offered = {tool["name"]: tool["parameters"] for tool in tools if tool["name"] not in answered}
    speaks = prepared.bad if _speaks_new(prepared.axes, side) else prepared.good
    own, seen = habits[speaks.name], {tool for query in queries for tool, _ in recorded_calls(query.tool_results)}
    unseen = [name for name in offered if name not in seen]
    why: Counter[str] = Counter({f"{name} is offered, and no recorded call is of it": len(queries) for name in unseen})
    certain, possible = 0.0, 0
    for query in queries:
        chance, reasons = _chance(query, offered, own)
        why.update(reasons)
        certain += chance
        possible += bool(chance or unseen or (offered and not query.tool_results))
    if offered and (bare := sum(not query.tool_results for query in queries)):
        why["no tool results were recorded"] = bare
    n = max(len(queries), 1)
    told = [reason for reason, _ in why.most_common(MOST_REASONS)]
    return {"bad_axes": list(side), "tools": len(tools), "missing": certain / n, "most": possible / n, "why": told}


def _speaks_new(axes: Sequence[str], side: Sequence[str]) -> bool:
    """Whether calls are written as the bad release writes them: that is the prompt's doing where it changed, else the tools'."""
    decides = next((axis for axis in ("prompt", "tools") if axis in axes), None)
    return decides in side if decides is not None else bool(side)


def _chance(query: Query, offered: Mapping[str, Mapping[str, Any]], own: _Habits) -> tuple[float, list[str]]:
    """How likely the query's replay asks for what was not recorded for it, and why."""
    calls = [(tool, given) for tool, given in recorded_calls(query.tool_results) if isinstance(given, Mapping)]
    reasons = list(_misses(query, calls, offered, own))
    if reasons:
        return 1.0, reasons
    known, hit = {tool for tool, _ in calls}, 1.0
    for tool in offered.keys() - known if calls else ():
        hit *= 1.0 - (own.share(tool) or 0.0)
    return 1.0 - hit, []


def _misses(
    query: Query, calls: Sequence[tuple[str, Any]], offered: Mapping[str, Mapping[str, Any]], own: _Habits
) -> Iterator[str]:
    tape = RecordedTools(query.tool_results)
    for tool, recorded in calls:
        if tool not in offered:
            continue
        schema, asked = offered[tool], own.asked(tool, recorded)
        asked, unknown = _filled(asked, schema)
        if unknown:
            yield f"{tool} now requires {', '.join(unknown)}, which no recorded call has"
            continue
        try:
            missed = tape.call(tool, asked, schema).answered == MISSING
        except InputError:
            continue
        if missed:
            was = ", ".join(sorted(recorded)) or "nothing"
            yield f"{signature(tool, asked)} was not recorded where it was called with {was}"


def _filled(asked: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The call with what the schema requires: under the new name of a field that is gone, else at its default; and what is left."""
    fields = schema.get("properties") or {}
    given = dict(asked)
    gone = [name for name in given if fields and name not in fields]
    unknown = []
    for name in schema.get("required") or ():
        if name in given:
            continue
        if isinstance(fields.get(name), Mapping) and "default" in fields[name]:
            given[name] = fields[name]["default"]
        elif gone:
            given[name] = given.pop(gone.pop(0))
        else:
            unknown.append(str(name))
    return given, unknown
