"""The report's block on the tape, and what may not be claimed because of it."""

from __future__ import annotations

from dataclasses import replace

from bisect_ai.attribution.problem import Attribution
from bisect_ai.attribution.stats.missing import FEW
from bisect_ai.report.run_blocks import TapeBlock, TapeCell, TapeInside, TapeLean, UnansweredCall
from bisect_ai.report.tape_report import tape_phrase
from bisect_ai.runs.observations import Observations
from bisect_ai.runs.outcomes import Outcomes
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.tape_misses import MOST_CALLS, Count, Lean, Tape, is_held, is_hopeless


def held_back(found: Attribution, outcomes: Outcomes, tape: Tape, *, verify: bool = False) -> tuple[Attribution, bool]:
    """The attribution without what misses may have made, and whether they are why nothing is claimed.

    `verify`: the run compares a candidate fix, also on the queries that broke, whose trials are not in cells of axes.
    """
    prepared, rates = outcomes.prepared, [tape.cells.get(cell, Count()).rate for cell in (0, outcomes.prepared.problem.full)]
    unsettled = found.kind == "inconclusive" and (max(rates) > FEW or tape.whole.rate > FEW)
    hopeless = is_hopeless(outcomes.ledger.observations, prepared.problem.full)
    doubtful = verify and _share(outcomes.ledger.observations, outcomes.ledger.inside) > FEW
    if not (is_held(found, tape, prepared.axes) or unsettled or hopeless or doubtful):
        return found, False
    reason = tape_phrase(tape_block(tape, prepared, held=True))
    return replace(
        found, kind="inconclusive", causes=(), rollback=None, keep=(), candidates=(), reason=reason, calls_needed=None
    ), True


def _share(*tables: Observations) -> float:
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
                bad_axes=tuple(a for i, a in enumerate(axes) if cell >> i & 1),
                trials=count.trials,
                missing=count.missing,
                rate=count.rate,
            )
            for cell, count in tape.cells.items()
        ),
        leans=None if lean is None else _lean(lean, axes),
        calls=tuple(UnansweredCall(tool=c.tool, call=c.signature, queries=c.queries) for c in tape.calls[:MOST_CALLS]),
        more_calls=max(0, len(tape.calls) - MOST_CALLS),
        rules=dict(tape.rules),
        guessed=tuple(tape.guessed[:MOST_CALLS]),
        held=held,
    )


def _lean(lean: Lean, axes: tuple[str, ...]) -> TapeLean:
    return TapeLean(
        axes=tuple(axes[i] for i in lean.axes),
        side=lean.side,
        every=lean.every,
        told_apart=lean.told_apart,
        rate=lean.rates[0],
        elsewhere=lean.rates[1],
    )
