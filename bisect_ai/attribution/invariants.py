"""What must hold before a sentence is printed, in one place: `consistent` gives an attribution of which all of it does.

Whatever a search or a design concludes passes through here last. Nothing is estimated: a claim that its own numbers contradict is
taken back, with a plain reason, never reworded.

1. Every estimate is finite and lies inside its interval; values lie in the metric's range, a loss within its width.
2. A cause stands beside a loss that is estimated at the tolerance or more, never beside a gain; `no_regression` beside less.
3. No named axis has a net effect that is estimated as a gain.
4. An axis is in one cause only; one axis acts alone or is unsettled, several together, either or unsettled.
5. Shares and what a rollback restores lie in 0 to 1.
6. A rollback takes back named axes only, with what cannot run without their bad side, and restores more than nothing; else it is
   the whole release, or none.
7. What is kept is neither named, nor proved to cost quality, nor rolled back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bisect_ai.attribution.problem import Attribution, Cause, CellValue, Effect, Estimate, Rollback

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)
SHARE: Range = (0.0, 1.0)  # no cause brings less than nothing or more than all of the loss
# Parts of a value below which two numbers of different sums are the same.
ROUNDING = 1e-9


def consistent(
    found: Attribution, *, axes: Sequence[str], tolerance: float, within: Range = ANY, judges: bool = True
) -> Attribution:
    """The attribution with all invariants; `within`: the range of the (oriented) metric.

    Without `judges` the attribution is the frame of another question (an audit, a verification), whose `no_regression` and
    `inconclusive` mean what that question says: only a cause is held to the loss.
    """
    found = _in_range(found, axes, within)
    if found.kind == "cause":
        return _checked_cause(found, axes, tolerance)
    found = replace(found, causes=(), rollback=None)
    loss = found.loss.value
    if judges and found.kind == "no_regression" and loss is not None and loss >= tolerance * (1 + ROUNDING):
        return found.withdrawn(f"the loss is estimated at {loss:.3g}, which is not below the tolerance of {tolerance:g}")
    proved = {a for e in found.effects if e.proved for a in e.axes}
    keep = tuple(a for a in found.keep if a not in proved) if found.kind == "no_regression" else ()
    return replace(found, keep=keep)


# -- numbers -----------------------------------------------------------------------------------------------------------
def bounded(estimate: Estimate, within: Range = ANY) -> Estimate:
    """The estimate cut to a range, with an interval that it lies in; undefined where it is not a finite number."""
    value, (lowest, highest) = estimate.value, within
    if value is None or not math.isfinite(value):
        return replace(estimate, value=None, interval=None)
    value = min(max(value, lowest), highest)
    if estimate.interval is None or not all(map(math.isfinite, estimate.interval)):
        return replace(estimate, value=value, interval=None)
    low, high = (min(max(end, lowest), highest) for end in estimate.interval)
    return replace(estimate, value=value, interval=(min(low, high, value), max(low, high, value)))


def _in_range(found: Attribution, axes: Sequence[str], within: Range) -> Attribution:
    width = within[1] - within[0]
    apart = (-width, width)
    known = set(axes)
    beliefs = ((tuple(dict.fromkeys(a for a in names if a in known)), belief) for names, belief in found.candidates)
    calls = found.calls_needed
    return replace(
        found,
        loss=bounded(found.loss, apart),
        good=bounded(found.good, within),
        bad=bounded(found.bad, within),
        effects=tuple(_effect_in_range(e, apart) for e in found.effects),
        cells=tuple(_cell_in_range(c, within) for c in found.cells),
        causes=tuple(replace(c, share=bounded(c.share, SHARE)) for c in found.causes),
        rollback=None if found.rollback is None else _rollback_in_range(found.rollback, within),
        candidates=tuple((names, min(max(b, 0.0), 1.0)) for names, b in beliefs if names and not math.isnan(b)),
        calls_needed=calls if calls is None or calls > 0 else None,
    )


def _effect_in_range(effect: Effect, apart: Range) -> Effect:
    """The effect in range. An interaction sums four or more values, so it has no such range."""
    p = effect.p_adjusted
    return replace(
        effect,
        estimate=bounded(effect.estimate, ANY if effect.kind == "interaction" else apart),
        p_adjusted=None if p is None or math.isnan(p) else min(max(p, 0.0), 1.0),
    )


def _cell_in_range(cell: CellValue, within: Range) -> CellValue:
    return replace(cell, estimate=bounded(cell.estimate, within))


def _rollback_in_range(rollback: Rollback, within: Range) -> Rollback:
    share = bounded(Estimate(rollback.restores, rollback.interval, 0, ""), SHARE)
    # A rollback below nothing is not one that restores nothing: `_measured` must see it.
    restores = rollback.restores if share.value is not None and (rollback.restores or 0.0) <= 0 else share.value
    return replace(rollback, value=bounded(rollback.value, within), restores=restores, interval=share.interval)


# -- causes ------------------------------------------------------------------------------------------------------------
def _checked_cause(found: Attribution, axes: Sequence[str], tolerance: float) -> Attribution:
    """The cause verdict where its numbers bear it out; else inconclusive."""
    helps = {e.axes[0] for e in found.effects if e.kind == "net" and e.axes and (e.estimate.value or 0.0) < 0}
    causes = _untangled_causes(found.causes, [a for a in axes if a not in helps])
    named = [a for cause in causes for a in cause.axes]
    if not causes:
        return found.withdrawn("no axis that was suspected is estimated to cost quality on average")
    loss = found.loss.value
    if loss is None or loss < tolerance * (1 - ROUNDING) or loss <= 0:
        what = "no loss could be estimated" if loss is None else _short_of(loss, tolerance)
        return found.withdrawn(f"{_listed_names(named)} {'cost' if len(named) > 1 else 'costs'} quality on average, but {what}")
    rollback = _restoring_rollback(found, axes, named)
    back = set() if rollback is None else set(rollback.axes)
    proved = {a for e in found.effects if e.proved and e.kind == "net" for a in e.axes} - helps
    keep = tuple(a for a in found.keep if a in axes and a not in back | proved | set(named))
    return replace(found, causes=causes, rollback=rollback, keep=keep, candidates=(), calls_needed=None)


def _untangled_causes(causes: Iterable[Cause], axes: Sequence[str]) -> tuple[Cause, ...]:
    """The causes with axes of `axes`, each in one cause: those that share an axis become one whose mode is not settled."""
    apart: list[Cause] = []
    for cause in causes:
        names = tuple(dict.fromkeys(a for a in cause.axes if a in axes))
        if not names:
            continue
        new = cause if names == cause.axes else replace(cause, axes=names)
        shared = [other for other in apart if set(other.axes) & set(new.axes)]
        if shared:
            both = {a for each in (*shared, new) for a in each.axes}
            unknown = Estimate(None, None, 0, "share: not estimated, the causes it was measured for contradict one another")
            new = Cause(tuple(a for a in axes if a in both), "unsettled", unknown)
        apart = [other for other in apart if other not in shared] + [new]
    return tuple(replace(c, mode=_mode_of(c)) for c in apart)  # type: ignore[arg-type]  # one of the four modes


def _mode_of(cause: Cause) -> str:
    if len(cause.axes) == 1:
        return "unsettled" if cause.mode == "unsettled" else "alone"
    return "unsettled" if cause.mode == "alone" else cause.mode


def _restoring_rollback(found: Attribution, axes: Sequence[str], named: Sequence[str]) -> Rollback | None:
    """The rollback where it is measured to restore something and takes back only what is named; else the whole release."""
    whole = tuple(axes)
    rollback, bad = found.rollback, found.bad.value
    if rollback is None:
        return None
    back = tuple(a for a in axes if a in rollback.axes)
    value, restores = rollback.value.value, rollback.restores
    # Value and `bad` may rest on different queries; what it restores is paired, so that decides where it is known.
    highest = value if restores is None or rollback.value.interval is None else rollback.value.interval[1]
    worse = (restores is not None and restores <= ROUNDING) or (highest is not None and bad is not None and highest <= bad)
    if set(back) == set(rollback.axes) and not worse and (back == whole or (back and set(back) <= {*named, *rollback.along})):
        # The whole release is back by definition, so what it restores needs no interval.
        return replace(rollback, axes=back, restores=1.0, interval=None) if back == whole else replace(rollback, axes=back)
    if found.good.value is None or bad is None or found.good.value <= bad:
        return None
    return Rollback(whole, 0, found.good, 1.0)


def _short_of(loss: float, tolerance: float) -> str:
    if loss < 0:
        return f"the release gains {-loss:.3g} in all"
    return f"the loss beside it is estimated at {loss:.3g}, below the tolerance of {tolerance:g}"


def _listed_names(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])
