"""`bisect-ai plan`: what a run would do, cost and be able to see. Spends nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bisect_ai.attribution.stats.power import Size, sizes
from bisect_ai.queries.funnel import log_block
from bisect_ai.release.check import static_check
from bisect_ai.release.compose import compose
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
        **({} if tape is None else {"tape": tape}),
        "suspects": [asdict(s) for s in static_check(prepared.good, prepared.bad, columns=prepared.columns)],
        "warnings": [*prepared.notices, *_plan_warnings(prepared, usd)],
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
