"""`bisect-ai plan`: what a run would do, cost and be able to see. Spends nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bisect_ai.attribution.stats.power import Size, sizes
from bisect_ai.queries.query import Query
from bisect_ai.queries.record_accounting import log_block
from bisect_ai.queries.records import ORIGIN
from bisect_ai.release.check import static_check
from bisect_ai.release.load import compose
from bisect_ai.runs.prepare import prepare, settle
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.tape_forecast import tape_ahead
from bisect_ai.runs.void_answers import void_answers

PROBES = 20
UNITLESS = ("", "score", "share")
"""Units that say no more than that the metric is a score: a plan of any other tells its smallest effect in it."""


def make_plan(config: str | Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as plain JSON: calls, tokens and USD (None: not known), smallest visible effect, and the other designs'."""
    settings, folder = settle(overrides, config=config)
    prepared = prepare(settings, folder=folder)
    void = void_answers(prepared, folder=folder)
    return {**plan_of(prepared), **({} if void is None else {"void": void})}


def plan_of(prepared: Prepared) -> dict[str, Any]:
    """The plan of a prepared study."""
    tokens, usd = _per_call(prepared)
    options, tape = sizes(prepared.problem), tape_ahead(prepared)
    chosen = options[prepared.config.design]
    return {
        "good": prepared.good.name,
        "bad": prepared.bad.name,
        "axes": list(prepared.axes),
        "design": prepared.config.design,
        **({} if prepared.metric.unit in UNITLESS else {"unit": prepared.metric.unit}),
        "queries": chosen.queries,
        "population": prepared.sample.population,
        "cells": chosen.cells,
        "calls": chosen.calls,
        "tokens_estimated": None if tokens is None else tokens * chosen.calls,
        "usd_estimated": _money(usd, chosen),
        "smallest_effect": chosen.smallest_effect,
        "alternatives": [_option(name, size, usd) for name, size in options.items()],
        "log": log_block(prepared.sample),
        **_first(prepared),
        **({} if tape is None else {"tape": tape}),
        "suspects": [asdict(s) for s in static_check(prepared.good, prepared.bad, columns=prepared.columns)],
        "warnings": [*prepared.notices, *_plan_warnings(prepared, usd)],
    }


def _first(prepared: Prepared) -> dict[str, Any]:
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
            "used": _used(query, prepared.config.log.columns),
        }
    }


def _used(query: Query, columns: Mapping[str, Any]) -> dict[str, Any]:
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


def _option(name: str, size: Size, usd: float | None) -> dict[str, Any]:
    return {
        "design": name,
        "calls": size.calls,
        "usual_calls": size.usual_calls,
        "queries": size.queries,
        "usd": _money(usd, size),
        "smallest_effect": size.smallest_effect,
    }


def _money(usd: float | None, size: Size) -> float | None:
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
        lines.append("the budget has a cap in USD, but the price of a call is not known beforehand: cap calls as well")
    if len(prepared.sample) < 50:
        lines.append(f"only {len(prepared.sample)} queries to replay: only large losses can be seen")
    return lines
