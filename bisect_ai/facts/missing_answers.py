"""What a report says of answers that are missing: failed or without a score (bounds on the loss), empty, or not on the tape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bisect_ai.attribution.problem import Attribution, cluster_numbers, names_of, score_ends
from bisect_ai.attribution.stats.missing import FEW, Bounds, bound_loss
from bisect_ai.report.accounting import tape_phrase
from bisect_ai.report.run_blocks import TapeBlock, TapeCell, TapeInside, TapeLean, UnansweredCall
from bisect_ai.runs.ledger import EmptyCell, empty_cells, is_silent
from bisect_ai.runs.observations import Observation, Observations
from bisect_ai.runs.outcomes import Outcomes
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.tape_misses import MOST_CALLS, Count, Lean, Tape, is_held, is_hopeless


def bounds_of(outcomes: Outcomes) -> tuple[Bounds, bool] | None:
    """Bounds of the loss, with whether calls failed (else a scorer or the tape gave nothing); None: nothing worth telling is missing.

    A query that neither release's answer got a score for is one that the scorer does not apply to.
    """
    prepared, sample, seen = outcomes.prepared, outcomes.prepared.sample, outcomes.ledger.observations
    metric, sign = prepared.metric, prepared.metric.sign
    if not np.isnan(seen.scored(metric.name)).any():
        return None
    sides = [{o.index: o for o in seen.first(cell) if not o.infeasible} for cell in (0, prepared.problem.full)]
    rows = [
        q
        for q in sorted(sides[0].keys() & sides[1].keys())
        if metric.judge is not None or _scorer_applies(sides, q, metric.name)
    ]
    if len(rows) < 2:
        return None
    good, bad = (np.array([np.nan if (s := side[q].score(metric.name)) is None else sign * s for q in rows]) for side in sides)
    failed = [np.array([_is_failed(side[q]) for q in rows]) for side in sides]
    known = np.concatenate([good, bad])
    if np.isnan(known).all():
        return None
    ends = score_ends(prepared.problem.bounds, float(np.nanmin(known)), float(np.nanmax(known)))
    found = bound_loss(
        good,
        bad,
        lowest=ends[0],
        highest=ends[1],
        weights=np.array([sample.weights[q] for q in rows], float),
        clusters=cluster_numbers(sample.clusters, rows),
        population=float("inf"),
        failed=(failed[0], failed[1]),
    )
    return None if found is None else (found, bool(failed[0].any() or failed[1].any()))


def outcomes_by_cell(outcomes: Outcomes) -> dict[int, dict[int, float]]:
    """Cell to its queries' oriented scores; NaN: the call failed. What is censored, or ran because the query broke, is left out."""
    metric, seen, chosen = outcomes.prepared.metric, outcomes.ledger.observations, outcomes.attribution.chosen
    sign = metric.sign
    found: dict[int, dict[int, float]] = {}
    if not seen.errors:
        return found
    for cell in set(seen.cells):
        rows = found[cell] = {}
        for o in seen.first(cell):
            score = o.score(metric.name)
            if (o.index, cell) in chosen:
                continue
            if _is_failed(o):
                rows[o.index] = float("nan")
            elif score is not None and not o.infeasible:
                rows[o.index] = sign * score
    return found


def _is_failed(seen: Observation) -> bool:
    """Whether the call failed; a trial that rests on a tool call which the log does not have is censored."""
    return seen.error is not None and not seen.missing


def _scorer_applies(sides: list[dict[int, Observation]], query: int, name: str) -> bool:
    """Whether the scorer applies to the query: some answer to it failed, was censored, or got a score."""
    return any(o.error or o.score(name) is not None for o in (side[query] for side in sides))


# Cells with empty answers that a warning names.
MOST_NAMED = 3
SILENT = (
    "nearly every answer is empty (no text, no tool call) under both releases, so that their scores say nothing of the releases: "
    "see why the target or its provider says nothing, mend that, and run again with another `store`, for these answers are kept"
)


def without_silence(found: Attribution, outcomes: Outcomes) -> tuple[Attribution, str | None]:
    """The attribution, which claims nothing where both releases answer with nothing, and that fact; None: they answer."""
    if not is_silent(outcomes.ledger.observations, outcomes.prepared.problem.full):
        return found, None
    return replace(found.withdrawn(), candidates=()), SILENT


def empty_warnings(outcomes: Outcomes) -> list[str]:
    """A line on the cells whose answers are nearly all empty."""
    cells, full = empty_cells(outcomes.ledger.observations), outcomes.prepared.problem.full
    if not cells:
        return []
    told = [f"{cell.empty:,} of {cell.answers:,} of {_empty_cell_name(cell, full)}" for cell in cells[:MOST_NAMED]]
    more = f" and {len(cells) - MOST_NAMED} more combinations" if len(cells) > MOST_NAMED else ""
    return [f"nearly every answer is empty (no text, no tool call): {', '.join(told)}{more}; see whether the target works"]


def _empty_cell_name(cell: EmptyCell, full: int) -> str:
    if cell.cell in (0, full):
        return "the bad release" if cell.cell else "the good release"
    return f"the bad {' and '.join(cell.bad_axes)} with the rest good"


def held_back(found: Attribution, outcomes: Outcomes, tape: Tape, *, verify: bool = False) -> tuple[Attribution, bool]:
    """The attribution without what misses may have made, and whether they are why nothing is claimed.

    `verify`: the run compares a candidate fix, also on the queries that broke, whose trials are not in cells of axes.
    """
    prepared, rates = outcomes.prepared, [tape.cells.get(cell, Count()).rate for cell in (0, outcomes.prepared.problem.full)]
    unsettled = found.kind == "inconclusive" and (max(rates) > FEW or tape.whole.rate > FEW)
    hopeless = is_hopeless(outcomes.ledger.observations, prepared.problem.full)
    doubtful = verify and _share_missed(outcomes.ledger.observations, outcomes.ledger.inside) > FEW
    if not (is_held(found, tape, prepared.axes) or unsettled or hopeless or doubtful):
        return found, False
    reason = tape_phrase(tape_block(tape, prepared, held=True))
    return replace(found.withdrawn(reason), candidates=()), True


def _share_missed(*tables: Observations) -> float:
    """The share of all trials that rest on a miss."""
    called = sum(len(table.called) for table in tables)
    return sum(int(table.missed.sum()) for table in tables) / called if called else 0.0


# -- for the report ----------------------------------------------------------------------------------------------------------
def tape_block(tape: Tape, prepared: Prepared, *, held: bool) -> TapeBlock:
    """The report's block on the tape. Rates are shares of trials."""
    axes, lean = prepared.axes, tape.lean
    return TapeBlock(
        axes=axes,
        trials=tape.whole.trials,
        missing=tape.whole.missing,
        inside=TapeInside(trials=tape.inside.trials, missing=tape.inside.missing),
        cells=tuple(
            TapeCell(
                bad_axes=names_of(cell, axes),
                trials=count.trials,
                missing=count.missing,
                rate=count.rate,
            )
            for cell, count in tape.cells.items()
        ),
        leans=None if lean is None else _reported_lean(lean, axes),
        calls=tuple(UnansweredCall(tool=c.tool, call=c.signature, queries=c.queries) for c in tape.calls[:MOST_CALLS]),
        more_calls=max(0, len(tape.calls) - MOST_CALLS),
        rules=dict(tape.rules),
        guessed=tuple(tape.guessed[:MOST_CALLS]),
        held=held,
    )


def _reported_lean(lean: Lean, axes: tuple[str, ...]) -> TapeLean:
    return TapeLean(
        axes=tuple(axes[i] for i in lean.axes),
        side=lean.side,
        every=lean.every,
        told_apart=lean.told_apart,
        rate=lean.rates[0],
        elsewhere=lean.rates[1],
    )
