"""`bisect-ai plan`: what a run would do, cost and be able to see. Spends nothing.

How many queries of each combination will ask for tool calls that the log does not have is estimated. What a release will ask is not
known, but the log says what it asked: with which arguments it calls a tool (of a release that the log names, else those recorded for
the query itself), and how often. What no release was seen to ask is only bounded: a tool that is new may be called never or in every
query. Stored answers that a changed release makes void are told too: a run of the same two names before the edit paid for them.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bisect_ai.attribution.designs.fractions import MOST_AXES_ADAPTIVE
from bisect_ai.attribution.stats.smallest_loss import Size, sizes
from bisect_ai.canonical import canonical, digest, plain
from bisect_ai.errors import InputError
from bisect_ai.queries.query import Query
from bisect_ai.queries.record_accounting import log_block
from bisect_ai.queries.records import ORIGIN
from bisect_ai.release.check import static_check
from bisect_ai.release.load import compose
from bisect_ai.release.tools import read_tools
from bisect_ai.replay.trial_jobs import identity_of
from bisect_ai.runs.prepared import Digests, Prepared
from bisect_ai.store.index import open_index
from bisect_ai.store.journal import SUFFIX
from bisect_ai.targets.answer import MISSING
from bisect_ai.targets.tool_results import RecordedTools, recorded_calls, signature

# Queries whose calls are priced, under good and under bad.
PROBES = 20


def plan_of(prepared: Prepared) -> dict[str, Any]:
    """The plan of a prepared study."""
    tokens, usd = _per_call(prepared)
    options, tape = sizes(prepared.outline), tape_ahead(prepared)
    chosen, unit = _chosen_size(prepared, options), prepared.metric.own_unit
    return {
        "good": prepared.good.name,
        "bad": prepared.bad.name,
        "axes": list(prepared.axes),
        "design": prepared.config.design,
        **({} if unit is None else {"unit": unit}),
        "queries": chosen.queries,
        "population": prepared.sample.population,
        "cells": chosen.cells,
        "calls": chosen.calls,
        "tokens_estimated": None if tokens is None else tokens * chosen.calls,
        "usd_estimated": _money_for(usd, chosen),
        "smallest_effect": chosen.smallest_effect,
        "alternatives": [_design_option(name, size, usd) for name, size in options.items()],
        "log": log_block(prepared.sample),
        **_first_question(prepared),
        **({} if tape is None else {"tape": tape}),
        "suspects": [asdict(s) for s in static_check(prepared.good, prepared.bad, columns=prepared.columns)],
        "warnings": [*prepared.notices, *_plan_warnings(prepared, usd)],
    }


def _chosen_size(prepared: Prepared, options: Mapping[str, Size]) -> Size:
    """The size of the chosen design; the others are told beside it where they can run. Raises `InputError` as the run would."""
    design, problem = prepared.config.design, prepared.outline
    if design not in options or problem.k > MOST_AXES_ADAPTIVE:
        from bisect_ai.attribution.search.coupled import design_search

        design_search(design, problem)
    if design not in options:
        raise InputError(f"cannot plan design {design} for {problem.k} axes; use design adaptive, or leave axes out")
    return options[design]


def _first_question(prepared: Prepared) -> dict[str, Any]:
    """The first question as the good release would be asked it, and what of its record a replay uses; nothing for no queries."""
    if not prepared.sample.queries:
        return {}
    query, preview = prepared.sample.queries[0], getattr(prepared.target, "preview", None)
    good = compose(prepared.good, prepared.bad, ())
    sent = query.messages if preview is None else preview(query, good)
    return {
        "first": {
            "query": query.id,
            "messages": sent,
            "sent_to": "target" if preview is None else "model",
            "used": _used_fields(query, {**prepared.sample.guessed, **prepared.config.log.columns}),
        }
    }


def _used_fields(query: Query, columns: Mapping[str, Any]) -> dict[str, Any]:
    """What the record holds of all that targets and scorers read: texts by their length, lists by their number."""
    counted = {name: len(getattr(query, name)) for name in ("history", "documents", "tool_results")}
    texts = {name: len(str(query[name])) for name in ("input", "output", "reference") if query.get(name) is not None}
    named = {name: str(query[name]) for name in ("release", "cluster", *ORIGIN) if query.get(name) is not None}
    asked = "input" if query.get("input") is not None else "messages"
    return {
        "question from": columns.get(asked, asked),
        **texts,
        **{name: n for name, n in counted.items() if n},
        "scores": dict(query.scores),
        **named,
    }


def _design_option(name: str, size: Size, usd: float | None) -> dict[str, Any]:
    return {
        "design": name,
        "calls": size.calls,
        "usual_calls": size.usual_calls,
        "queries": size.queries,
        "usd": _money_for(usd, size),
        "smallest_effect": size.smallest_effect,
    }


def _money_for(usd: float | None, size: Size) -> float | None:
    return None if usd is None else round(usd * size.calls, 4)


def price_of_calls(prepared: Prepared, calls: int) -> float | None:
    """USD of that many average calls; None: not known."""
    usd = _per_call(prepared)[1]
    return None if usd is None else round(usd * calls, 4)


def _per_call(prepared: Prepared) -> tuple[int | None, float | None]:
    """(tokens, USD) of an average call, from what the target says of a few queries under both releases."""
    estimate = getattr(prepared.target, "estimate", None)
    if estimate is None:
        return None, None
    releases = [compose(prepared.good, prepared.bad, side) for side in ((), prepared.axes)]
    usages = [estimate(query, release) for query in prepared.sample.queries[:PROBES] for release in releases]
    tokens = math.ceil(sum(u.input_tokens + u.output_tokens for u in usages) / len(usages))
    priced = [u.usd for u in usages if u.usd is not None]
    return tokens, sum(priced) / len(priced) if len(priced) == len(usages) else None


def _plan_warnings(prepared: Prepared, usd: float | None) -> list[str]:
    lines = []
    if prepared.config.budget.usd is not None and usd is None:
        lines.append(
            "the price of a call is not known beforehand: the cap in USD holds as far as answers say what they cost; "
            f"{prepared.config.budget.calls:,} calls are the most"
        )
    if len(prepared.sample) < 50:  # fewer see only losses of 20 points and more
        lines.append(f"only {len(prepared.sample)} queries to replay: only large losses can be seen")
    return lines


# Queries of a release with recorded calls from which on the log says how that release calls tools.
FEWEST = 5
# Sampled queries that the forecast of misses reads.
MOST_QUERIES = 1000
# Why a cell will miss: the most frequent reasons.
MOST_REASONS = 5


@dataclass
class _Habits:
    """How one release calls its tools, by the log."""

    queries: int = 0
    # Tool to the queries that call it.
    uses: Counter[str] = field(default_factory=Counter)
    names: defaultdict[str, Counter[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    values: defaultdict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, Any] = field(default_factory=dict)

    def add(self, query: Query) -> None:
        """Take in what was recorded of a query."""
        calls = _calls_with_arguments(query)
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


def _calls_with_arguments(query: Query) -> list[tuple[str, Mapping[str, Any]]]:
    """The recorded calls whose arguments are named."""
    return [(tool, given) for tool, given in recorded_calls(query.tool_results) if isinstance(given, Mapping)]


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
    ahead: dict[tuple[str, str], _Ahead] = {}
    cells = [_cell_forecast(prepared, side, habits, queries, answered, ahead) for side in sides]
    return {"queries": len(queries), "cells": cells} if any(cell["tools"] for cell in cells) else None


class _Ahead(NamedTuple):
    """Of queries: how many will miss, how many may, and why."""

    missing: float
    most: int
    why: list[str]


def _cell_forecast(
    prepared: Prepared,
    side: Sequence[str],
    habits: Mapping[str, _Habits],
    queries: Sequence[Query],
    answered: frozenset[str],
    ahead: dict[tuple[str, str], _Ahead],
) -> dict[str, Any]:
    """The forecast of a cell; cells that offer the same tools and write calls alike are looked at once, and stand in `ahead`."""
    tools = read_tools(compose(prepared.good, prepared.bad, side).get("tools"))
    speaks = prepared.bad if _speaks_new(prepared.axes, side) else prepared.good
    key = canonical(plain(tools)), speaks.name
    if key not in ahead:
        offered = {tool["name"]: tool["parameters"] for tool in tools if tool["name"] not in answered}
        ahead[key] = _look_ahead(offered, habits[speaks.name], queries)
    n, found = max(len(queries), 1), ahead[key]
    shares = {"missing": found.missing / n, "most": found.most / n}
    return {"bad_axes": list(side), "tools": len(tools), **shares, "why": found.why}


def _look_ahead(offered: Mapping[str, Mapping[str, Any]], own: _Habits, queries: Sequence[Query]) -> _Ahead:
    seen = {tool for query in queries for tool, _ in recorded_calls(query.tool_results)}
    unseen = [name for name in offered if name not in seen]
    why: Counter[str] = Counter({f"{name} is offered, and no recorded call is of it": len(queries) for name in unseen})
    certain, possible = 0.0, 0
    for query in queries:
        chance, reasons = _chance_of_asking(query, offered, own)
        why.update(reasons)
        certain += chance
        possible += bool(chance or unseen or (offered and not query.tool_results))
    if offered and (bare := sum(not query.tool_results for query in queries)):
        why["no tool results were recorded"] = bare
    return _Ahead(certain, possible, [reason for reason, _ in why.most_common(MOST_REASONS)])


def _speaks_new(axes: Sequence[str], side: Sequence[str]) -> bool:
    """Whether calls are written as the bad release writes them: that is the prompt's doing where it changed, else the tools'."""
    decides = next((axis for axis in ("prompt", "tools") if axis in axes), None)
    return decides in side if decides is not None else bool(side)


def _chance_of_asking(query: Query, offered: Mapping[str, Mapping[str, Any]], own: _Habits) -> tuple[float, list[str]]:
    """How likely the query's replay asks for what was not recorded for it, and why."""
    calls = _calls_with_arguments(query)
    reasons = list(_missing_results(query, calls, offered, own))
    if reasons:
        return 1.0, reasons
    known, hit = {tool for tool, _ in calls}, 1.0
    for tool in offered.keys() - known if calls else ():
        hit *= 1.0 - (own.share(tool) or 0.0)
    return 1.0 - hit, []


def _missing_results(
    query: Query, calls: Sequence[tuple[str, Any]], offered: Mapping[str, Mapping[str, Any]], own: _Habits
) -> Iterator[str]:
    tape = RecordedTools(query.tool_results)
    for tool, recorded in calls:
        if tool not in offered:
            continue
        schema, asked = offered[tool], own.asked(tool, recorded)
        asked, unknown = _filled_call(asked, schema)
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


def _filled_call(asked: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
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


_RUNS = "SELECT run, settings FROM runs WHERE good = ? AND bad = ? AND run <> ? ORDER BY segment DESC, place DESC"
_TRIALS = "SELECT trial, query, bad_axes, repeat, usd FROM trials WHERE run = ? AND NOT failed AND NOT purged"


def void_answers(prepared: Prepared, *, folder: Path) -> dict[str, Any] | None:
    """{run, void, kept, usd} of the last run of releases with these names and axes; None: there was none with other content.

    `void`: its answers in combinations of whole axes, on sampled queries, that this run would have to ask for again; `usd` is what
    they cost.
    """
    store = prepared.config.store
    if store is None or not (folder / store / "journal").is_dir():
        return None
    if all(path.name.startswith(f"{prepared.run_id}-") for path in (folder / store / "journal").glob(f"*{SUFFIX}")):
        return None  # no other content was ever run; known without the index, which takes as long to open as the rest of a plan
    index = open_index(folder / store)
    try:
        names = (prepared.good.name, prepared.bad.name, prepared.run_id)
        changed = set(prepared.axes)
        runs = (run for run, settings in index.rows(_RUNS, names) if set(json.loads(settings).get("axes") or ()) == changed)
        run = next(runs, None)
        return None if run is None else _void_of_run(prepared, str(run), index.rows(_TRIALS, (run,)))
    finally:
        index.close()


def _void_of_run(prepared: Prepared, run: str, trials: Iterable[tuple[Any, ...]]) -> dict[str, Any] | None:
    target, digests = digest(dict(prepared.target.identity)), Digests()
    queries = {query.id: query.digest for query in prepared.sample.queries}
    cells: dict[frozenset[str], str] = {}
    void, kept, usd = 0, 0, 0.0
    for trial, query, bad_axes, repeat, cost in trials:
        bad = frozenset(bad_axes)
        if query not in queries or not bad <= set(prepared.axes):
            continue
        if bad not in cells:
            cells[bad] = digests.of(compose(prepared.good, prepared.bad, bad))
        if identity_of(cells[bad], queries[query], target, int(repeat)) == trial:
            kept += 1
        else:
            void, usd = void + 1, usd + _known_cost(cost)
    return {"run": run, "void": void, "kept": kept, "usd": round(usd, 4)} if void else None


def _known_cost(usd: Any) -> float:
    """A cost, or nothing where none was told (null in the table)."""
    return 0.0 if usd is None or math.isnan(usd) else float(usd)
