"""Facts first: from what a run found to the report, one plain JSON value (DESIGN.md section 9) that every renderer arranges.

No wall clock, sorted, finite numbers only: the same store and seed give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.attribution.problem import Attribution, Cause, CellValue, Effect, Estimate, Failing, Rollback
from bisect_ai.attribution.questions.elsewhere import Parts
from bisect_ai.attribution.questions.segments import Segment
from bisect_ai.report.verdict_sentence import verdict_sentence

SCHEMA = "bisect-ai/report@1"
DIGITS = 10


@dataclass(frozen=True)
class Facts:
    """Everything a report is made of. Estimates are oriented (higher is better); `sign` turns cell values back to the metric."""

    run: str
    good: str
    bad: str
    metric: str
    axes: tuple[str, ...]
    design: str
    sign: float
    bounded: bool
    attribution: Attribution
    outside: str | None = None
    """drift, not_reproduced or traffic, when the verdict lies outside the release."""
    drift: Estimate | None = None
    logged: Mapping[str, Any] | None = None
    parts: Parts | None = None
    """How many points of the logged drop went where."""
    changes: Sequence[Mapping[str, Any]] = ()
    named: Sequence[Mapping[str, Any]] = ()
    """Changes that the drill-down named, in full."""
    drill: Mapping[str, Any] | None = None
    refused: Mapping[int, str] = field(default_factory=dict)
    """Why each cell that cannot run does not."""
    owners: Mapping[str, str | None] = field(default_factory=dict)
    suspects: Sequence[Mapping[str, Any]] = ()
    segments: Sequence[Segment] = ()
    side_metrics: Sequence[Mapping[str, Any]] = ()
    judges: Sequence[Mapping[str, Any]] = ()
    examples: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    usage: Mapping[str, Any] = field(default_factory=dict)
    stopped: str | None = None
    """The cap at which the run stopped."""
    decision: str = ""
    audit: Mapping[str, Any] | None = None
    """What a scheduled audit found; None: the run was none."""
    verify: Mapping[str, Any] | None = None
    """What a verification of a candidate fix (`bad`) found; None: the run was none."""
    log: Mapping[str, Any] | None = None
    """What became of the log's records; None: not known."""
    unit: str | None = None
    """What one point of the metric is; None: nothing but a score."""
    tolerance: float | None = None
    """The smallest loss worth acting on, in the metric's units."""
    tape: Mapping[str, Any] | None = None
    """What the tool calls of the replay were answered by, and how many by nothing; None: not known."""
    trend: Mapping[str, Any] | None = None
    """How scores of the good and the bad release moved while the run went on; None: not beyond chance."""


def build(facts: Facts) -> dict[str, Any]:
    """The report as plain JSON."""
    found = facts.attribution
    missing = {tuple(row["bad_axes"]): row["missing"] for row in (facts.tape or {}).get("cells") or ()}
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "run": facts.run,
        "good": facts.good,
        "bad": facts.bad,
        "metric": facts.metric,
        "higher_is_better": facts.sign > 0,
        "percent": facts.bounded,
        **({} if facts.unit is None else {"unit": facts.unit}),
        **({} if facts.tolerance is None else {"tolerance": _number(facts.tolerance)}),
        "axes": list(facts.axes),
        "design": facts.design,
        **({} if facts.audit is None else {"audit": _plain(facts.audit)}),
        **({} if facts.verify is None else {"verify": _plain(facts.verify)}),
        "verdict": _verdict(facts),
        "loss": _loss(facts),
        "log": None if facts.log is None else _plain(facts.log),
        "effects": [_effect(e) for e in found.effects],
        "cells": [_cell(c, facts, missing) for c in found.cells],
        **({} if facts.tape is None else {"tape": _plain(facts.tape)}),
        **({} if facts.trend is None else {"trend": _plain(facts.trend)}),
        "segments": [_segment(s, facts) for s in facts.segments],
        "side_metrics": [_plain(m) for m in facts.side_metrics],
        **({"judges": [_plain(j) for j in facts.judges]} if facts.judges else {}),
        "examples": [_plain(e) for e in facts.examples],
        "warnings": [*found.notes, *facts.warnings],
        "suspects": [_plain(s) for s in facts.suspects],
        "changes": [_plain(c) for c in facts.changes],
        "drill": None if facts.drill is None else _plain({**facts.drill, "rollback": _finer(facts)}),
        "owners": dict(facts.owners),
        "decision": facts.decision,
        "usage": _plain(facts.usage),
    }
    report["verdict"]["sentence"] = verdict_sentence(report)
    return report


def _verdict(facts: Facts) -> dict[str, Any]:
    found = facts.attribution
    named = facts.outside is None
    rollback = found.rollback if named else None
    return {
        "kind": facts.outside or found.kind,
        "sentence": "",
        "causes": [_cause(c, facts) for c in found.causes] if named else [],
        "rollback": _rollback(rollback, facts) if rollback else None,
        "keep": list(found.keep) if named else [],
        "reason": _reason(facts),
        "stopped": facts.stopped,
        "calls_needed": found.calls_needed if named else None,
        "candidates": [{"axes": list(a), "belief": _number(b)} for a, b in found.candidates] if named else [],
    }


def _reason(facts: Facts) -> str:
    if facts.outside == "drift":
        return "the good release, replayed now, no longer scores what the log says it scored"
    if facts.outside == "not_reproduced":
        return "the log shows a drop between its two releases, replay of the same queries does not"
    if facts.outside == "traffic":
        return "the good release, replayed now, scores lower on the queries of the bad release's time than on those of its own"
    return facts.attribution.reason


def _cause(cause: Cause, facts: Facts) -> dict[str, Any]:
    return {
        "axes": list(cause.axes),
        "mode": cause.mode,
        "share": _number(cause.share.value),
        "interval": _pair(cause.share.interval),
        "method": cause.share.method,
        **({} if cause.failing is None else {"failing": _failing(cause.failing)}),
        "changes": [_plain(c) for c in _changes(cause, facts)],
    }


def _failing(failing: Failing) -> dict[str, Any]:
    """Shares of calls that fail with the cause and with it reverted, and the part of its cost that they are."""
    return {
        "with": _number(failing.with_it),
        "without": _number(failing.without),
        "share": _number(failing.share),
        "n": failing.n,
    }


def _changes(cause: Cause, facts: Facts) -> Sequence[Mapping[str, Any]]:
    """The named changes of a cause; without a drill-down those that are the only ones of their axes."""
    if facts.drill is None:
        return list(_only_changes(cause.axes, facts.changes))
    axes = [c.axes for c in facts.attribution.causes]
    return [c for c in facts.named if _home(c, axes) == cause.axes]


def _home(change: Mapping[str, Any], causes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first cause that has all the axes that the change acts in, else the first that has its own."""
    span = {change["axis"], *(other["axis"] for other in change["with"])}
    whole = (axes for axes in causes if span <= set(axes))
    return next(whole, None) or next((axes for axes in causes if change["axis"] in axes), ())


def _rollback(rollback: Rollback, facts: Facts) -> dict[str, Any]:
    """The axes to revert, and under `changes` and `finer` a finer rollback when one was measured and restores enough."""
    finer = _finer(facts) or {}
    enough = bool(finer.get("enough"))
    kept = ("value", "interval", "restores", "restores_interval", "n", "method")
    return {
        "axes": list(rollback.axes),
        "value": _number(rollback.value.value, facts.sign),
        "interval": _values(rollback.value.interval, facts),
        "restores": _number(rollback.restores),
        "restores_interval": _pair(rollback.interval),
        "changes": [_plain(c) for c in finer["changes"]] if enough else [],
        "finer": _plain({key: finer[key] for key in kept}) if enough else None,
    }


def _finer(facts: Facts) -> Mapping[str, Any] | None:
    """The measured rollback of changes; a share has no values outside 0 and 1."""
    found: Mapping[str, Any] | None = (facts.drill or {}).get("rollback")
    if not found or found["interval"] is None or not facts.bounded:
        return found
    return {**found, "interval": [min(max(end, 0.0), 1.0) for end in found["interval"]]}


def _only_changes(axes: Iterable[str], changes: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """The change of a guilty axis that has just one: there is nothing left to tell apart in it."""
    for axis in axes:
        inside = [c for c in changes if c["axis"] == axis]
        if len(inside) == 1:
            yield _plain(inside[0])


def _loss(facts: Facts) -> dict[str, Any]:
    found = facts.attribution
    return {
        **_estimate(found.loss),
        "interval": _difference(found.loss.interval, facts),
        **({} if found.loss.bounds is None else {"bounds": _difference(found.loss.bounds, facts)}),
        "good": _number(found.good.value, facts.sign),
        "good_interval": _values(found.good.interval, facts),
        "bad": _number(found.bad.value, facts.sign),
        "bad_interval": _values(found.bad.interval, facts),
        "logged": None if facts.logged is None else _plain(facts.logged),
        "drift": None if facts.drift is None else _estimate(facts.drift),
        "parts": None if facts.parts is None else _parts(facts.parts),
    }


def _parts(parts: Parts) -> dict[str, Any]:
    """Points of the logged drop by where they went; None: not known."""
    named = {
        "drop": parts.drop,
        "drift": parts.drift,
        "traffic": parts.traffic,
        "release": parts.release,
        "not_reproduced": parts.rest,
    }
    return {name: None if part is None else _estimate(part) for name, part in named.items()}


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "axes": list(effect.axes),
        "kind": effect.kind,
        **_estimate(effect.estimate),
        "p_adjusted": _number(effect.p_adjusted),
        **(_churn(effect) if effect.kind == "net" else {}),
    }


def _churn(effect: Effect) -> dict[str, Any]:
    """What a net effect is made of, and whether its cost is proved."""
    return {"breaks": _number(effect.breaks), "mends": _number(effect.mends), "proved": effect.proved}


def _segment(segment: Segment, facts: Facts) -> dict[str, Any]:
    return {
        "name": segment.name,
        "found_by": segment.found_by,
        "where": {column: _plain(value) for column, value in segment.where.items()},
        "share": _number(segment.share),
        "good": _number(segment.good, facts.sign),
        "bad": _number(segment.bad, facts.sign),
        "loss": _number(segment.loss.value),
        "interval": _difference(segment.loss.interval, facts),
        "n": segment.loss.n,
        "p_adjusted": _number(segment.p_adjusted),
        "method": segment.loss.method,
    }


def _cell(cell: CellValue, facts: Facts, misses: Mapping[tuple[str, ...], int]) -> dict[str, Any]:
    bad = [a for i, a in enumerate(facts.axes) if cell.cell >> i & 1]
    missing = misses.get(tuple(bad), 0)
    return {
        "bad_axes": bad,
        "value": _number(cell.estimate.value, facts.sign),
        "interval": _values(cell.estimate.interval, facts),
        "n": cell.estimate.n,
        "method": cell.estimate.method,
        "trials": cell.trials,
        "errors": max(0, cell.errors - missing),
        "missing": missing,
        "status": cell.status,
        **({"reason": facts.refused[cell.cell]} if cell.status == "infeasible" and cell.cell in facts.refused else {}),
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "estimate": _number(estimate.value),
        "interval": _pair(estimate.interval),
        "n": estimate.n,
        "method": estimate.method,
    }


def _number(value: float | None, sign: float = 1.0) -> float | None:
    """Rounded so that the last bits of arithmetic on another machine don't show; None when undefined."""
    if value is None or not math.isfinite(value):
        return None
    return round(sign * float(value), DIGITS) + 0.0


def _pair(interval: tuple[float, float] | None, sign: float = 1.0) -> list[float | None] | None:
    if interval is None:
        return None
    ends = [_number(end, sign) for end in interval]
    return ends if sign > 0 else ends[::-1]


def _values(interval: tuple[float, float] | None, facts: Facts) -> list[float | None] | None:
    """The interval of a mean score in the metric's units; a share has no values outside 0 and 1."""
    return _inside(_pair(interval, facts.sign), 0.0, facts)


def _difference(interval: tuple[float, float] | None, facts: Facts) -> list[float | None] | None:
    """The interval of a loss; two shares differ by 1 at most."""
    return _inside(_pair(interval), -1.0, facts)


def _inside(ends: list[float | None] | None, lowest: float, facts: Facts) -> list[float | None] | None:
    if ends is None or not facts.bounded:
        return ends
    return [None if end is None else min(max(end, lowest), 1.0) for end in ends]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "item") or isinstance(value, float):
        return _number(float(value))
    return str(value)
