"""Is a canary as good as its baseline? Promote, roll back or wait, from live scores, however often it is looked at.

**Estimate.** All answers so far count: the loss is a regression's, on the release, on stretches of `STRETCH` answers in the order of
time (what moves both releases alike, an outage or a share of traffic that grows, stays inside a stretch), and on the columns that
differ between the releases or foretell the score (`balance.py`). Its error is robust to clusters (`stats/adjusted.py`).

**Verdict.** The evidence is looked at whenever the log has grown by a part of `GROWTH`, so that a longer log has the same looks at its
beginning. When the wealth staked on harm passes metrics / alpha, roll back; when that staked against "the loss is `tolerance` or more"
passes 1 / alpha, promote. The first of the two is the verdict and stays it. Each error has a chance of at most alpha over all looks.

**Guards** are further metrics with a limit. One that is proved to pass its limit rolls back; promoting waits until each is proved to
keep it. A wrong promote needs one wrong proof, so each may have all of alpha; wrong roll backs add up, so they share it.

**Promoting is withheld** where an unbalanced column cannot be adjusted for, where the split is not the one that was meant, and where a
segment is proved to lose though the whole does not.

**Answers without a score** count. Few of them are left out; when they are more than `FEW`, or lean to one release, a verdict must also
hold with every one of them at the value that speaks most against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.canary_looks import (
    FIRST,
    STRETCH,
    Answers,
    Bound,
    CanaryEvidence,
    CanaryFinding,
    CanaryPath,
    CanaryRule,
    Guard,
    GuardFinding,
    Kind,
    Look,
    Needed,
    Side,
    SliceLoss,
    Withheld,
    looks_of,
)
from bisect_ai.attribution.questions.canary_slices import SURE, slice_losses
from bisect_ai.attribution.stats.adjusted import Contrast, both_ends, contrast, least, log_evidence

# Looks that the history of the interval is told at.
POINTS = 24
# Part of a release's answers that must lie in the time that both answered in.
BESIDE = 0.1
# p-value below which the split is not the one that was meant.
MISMATCH = 0.001
# A score's standard deviation before there are any.
GUESSED = 0.35
# Further answers, the most, that a forecast names; beyond them it names none.
MOST_ANSWERS = 10**7


def find(answers: Answers, rule: CanaryRule, *, history: bool = True) -> CanaryFinding:
    """The verdict on the answers so far. More answers at the end change no look before them. `history`: with `looks`."""
    path = CanaryPath(rule, len(answers.guards) + 1)
    looks = list(looks_of(len(answers)))
    for number, n in enumerate(looks, 1):
        if path.is_settled:
            break
        path.take(CanaryEvidence(answers.upto(n), rule, number))
    now = CanaryEvidence(answers, rule, len(looks) + 1)
    return _Summary(answers, rule, path, now).finding(history=history)


class _Summary:
    """All that is told of the looks and of the answers so far."""

    def __init__(self, answers: Answers, rule: CanaryRule, path: CanaryPath, now: CanaryEvidence) -> None:
        self._answers, self._rule, self._path, self._now = answers, rule, path, now

    def finding(self, *, history: bool) -> CanaryFinding:
        """The finding."""
        path, now = self._path, self._now
        slices, split_p, apart = slice_losses(self._answers, self._now.frame), self._split(), _is_apart(self._answers)
        withheld = () if apart else tuple(self._withheld(slices, split_p))
        kind: Kind = "wait" if apart or (path.kind == "promote" and withheld) else path.kind
        saved, saved_by = self._saved()
        return CanaryFinding(
            kind,
            *(self._estimates() if not apart else _nothing("the releases did not answer at the same time")),
            harm=_told(path.most["roll_back"]),
            harm_bound=path.harm_bound,
            well=_told(path.most["promote"]),
            decided_after=path.after if kind != "wait" else None,
            sides=(self._side(0), self._side(1)),
            bounded=now.bounded,
            leans=now.leans,
            if_no_loss=Needed(None, None) if apart or withheld else self._needed("promote", 0.0),
            if_loss=Needed(None, None) if apart else self._needed("roll_back", 2 * self._rule.tolerance),
            apart=apart,
            balance=now.adjusted.columns,
            withheld=withheld,
            guards=tuple(self._guards()),
            by_guard=path.by_guard,
            slices=slices,
            saved=saved,
            saved_by=saved_by,
            split_p=split_p,
            safe_to_revert=kind == "roll_back" and self._is_sure and all(each.by == "segment" for each in withheld),
            looks=tuple(self._looks()) if history and not apart else (),
        )

    @property
    def _is_sure(self) -> bool:
        metrics = len(self._answers.guards) + 1
        strongest = max(self._path.most["roll_back"], *self._path.guards["roll_back"], self._now.wealth("roll_back"))
        return strongest >= math.log(metrics / SURE)

    def _estimates(self) -> tuple[Estimate, Estimate, Estimate]:
        found = self._now.told
        if found is None:
            return _nothing("the releases have no scored answers side by side yet")
        low, high = self._ends(self._now)
        if self._path.at is not None:
            before = self._ends(self._path.at)
            both = max(low, before[0]), min(high, before[1])
            low, high = both if both[0] < both[1] else (low, high)
        baseline, canary = (float(np.clip(each, 0, 1)) for each in found.sides)
        how = self._method()
        return (
            Estimate(-found.estimate, (low, high), found.n, f"loss, {how}"),
            Estimate(baseline, None, found.n, f"mean, {how}"),
            Estimate(canary, None, found.n, f"mean, {how}"),
        )

    def _ends(self, at: CanaryEvidence) -> tuple[float, float]:
        """The interval of the loss, whatever the missing scores are where they matter."""
        rule, harm, well = self._rule, at.contrasts("roll_back"), at.contrasts("promote")
        lows = [least(-c.estimate, c.error, c.spread, 1 / self._path.harm_bound) for c in harm if c is not None]
        highs = [-least(c.estimate, c.error, c.spread, rule.alpha) for c in well if c is not None]
        return max(min(lows, default=-1.0), -1.0), min(max(highs, default=1.0), 1.0)

    def _method(self) -> str:
        adjusted = self._now.adjusted
        parts = [f"all scored answers, in stretches of {STRETCH}"]
        if names := [each.name for each in adjusted.of_fate("adjusted")]:
            how = "post-stratified by" if adjusted.crossed or len(names) == 1 else "adjusted by regression for"
            parts.append(f"{how} {', '.join(names)}")
        if adjusted.sharpened_by:
            parts.append(f"sharpened by {', '.join(adjusted.sharpened_by)}")
        parts.append("errors robust to clusters" if self._answers.cluster is not None else "robust errors")
        parts.append(f"{100 * (1 - 2 * self._rule.alpha):g} % asymptotic confidence sequence")
        missing = ", whatever the missing scores are" if self._now.bounded else ""
        return ", ".join(parts) + missing

    def _side(self, side: int) -> Side:
        own = self._answers.is_canary == side
        return Side(int(own.sum()), int(np.isnan(self._answers.score[own]).sum()))

    def _split(self) -> float | None:
        """p-value of the split that was meant, by first answers of clusters."""
        if self._rule.share is None:
            return None
        from scipy.special import chdtrc

        first = self._answers.is_canary[self._answers.first == 1]
        n, meant = len(first), self._rule.share
        return float(chdtrc(1, (float(first.sum()) - n * meant) ** 2 / max(n * meant * (1 - meant), 1e-12)))

    def _withheld(self, slices: tuple[SliceLoss, ...], split_p: float | None) -> Iterator[Withheld]:
        for column in self._now.adjusted.of_fate("withheld"):
            yield Withheld("column", column.name, column.why)
        if split_p is not None and split_p < MISMATCH:
            found = float(self._answers.is_canary[self._answers.first == 1].mean())
            yield Withheld("split", f"{self._rule.share:g}", f"the canary got {found:.3g} (p = {split_p:.2g})")
        for part in slices:
            if part.proved and part.loss.value is not None and part.loss.value > self._rule.tolerance:
                yield Withheld("segment", " and ".join(map(" = ".join, part.where)), "")

    def _saved(self) -> tuple[float, tuple[str, ...]]:
        """The part of the answers that covariates that foretell the score made unneeded."""
        adjusted, found = self._now.adjusted, self._now.told
        without = contrast(replace(self._now.frame, covariates=adjusted.needed), self._answers.score)
        if not adjusted.sharpened_by or found is None or without is None:
            return 0.0, ()
        return max(1 - (found.error / without.error) ** 2, 0.0), adjusted.sharpened_by

    def _guards(self) -> Iterator[GuardFinding]:
        for i, (guard, found) in enumerate(zip(self._answers.guards, self._now.guards, strict=True)):
            violated = self._path.guards["roll_back"][i] >= math.log(self._path.harm_bound)
            kept = self._path.guards["promote"][i] >= math.log(self._rule.bound)
            kind: Literal["kept", "violated", "open"] = "violated" if violated else "kept" if kept else "open"
            base, own, rise = self._rise(guard, found)
            yield GuardFinding(guard.name, kind, guard.limit, guard.relative, base, own, rise)

    def _rise(self, guard: Guard, found: Contrast | None) -> tuple[float | None, float | None, Estimate]:
        if found is None:
            return None, None, Estimate(None, None, 0, "rise: nothing to compare")
        above, own = found.sides
        base = above / (1 + guard.limit) if guard.relative else above
        ends = both_ends(found, self._rule.alpha)
        moved = [own - base + end - found.estimate for end in (found.estimate, *ends)]
        if guard.relative and base:
            moved = [(1 + guard.limit) * (1 + end / above) - 1 for end in (found.estimate, *ends)]
        return base, own, Estimate(moved[0], (moved[1], moved[2]), found.n, "rise, adjusted as the loss is")

    def _looks(self) -> Iterator[Look]:
        """How the interval tightened, at looks that lie evenly; as scored."""
        looks = list(looks_of(len(self._answers)))
        if len(looks) < 2:
            return
        for at in np.unique(np.linspace(0, len(looks) - 1, POINTS).astype(int)).tolist():
            found = CanaryEvidence(self._answers.upto(looks[at]), self._rule, at + 1).told
            if found is not None:
                low, high = both_ends(found, self._rule.alpha)
                yield Look(looks[at], -found.estimate, max(-high, -1.0), min(-low, 1.0))

    def _needed(self, kind: Bound, loss: float) -> Needed:
        """Scored answers of each release until the verdict `kind` should the true loss be this."""
        if self._path.kind != "wait":
            return Needed(0, 0)
        forecasts = [self._more(kind, loss, found) for found in self._now.contrasts(kind)]
        if kind == "promote":
            forecasts += self._more_of_guards()
        more = max(forecasts, key=lambda n: math.inf if n is None else n)
        if more is None:
            return Needed(None, None)
        scored = max(len(self._answers), 1)
        share = float(self._answers.is_canary.sum()) / scored if len(self._answers) else 0.5
        return Needed(math.ceil(more * (1 - share)), math.ceil(more * share))

    def _more(self, kind: Bound, loss: float, found: Contrast | None) -> int | None:
        now, n = (0.0, 0) if found is None else (-found.estimate, found.n)
        told = self._now.told
        lost = 0.0 if found is None or told is None else told.estimate - found.estimate
        spread = GUESSED if found is None else found.spread
        unit = 4 * spread**2 if found is None else found.error**2 * found.n
        bound = math.log(self._path.harm_bound if kind == "roll_back" else self._rule.bound)
        sign, against = (1, 0.0) if kind == "roll_back" else (-1, -self._rule.tolerance)
        return _answers_until(_Sofar(sign * now, n, unit, spread), sign * (loss + lost), against, bound)

    def _more_of_guards(self) -> Iterator[int | None]:
        """Answers until each guard that is not yet known to keep its limit is, if nothing rises."""
        for i, (guard, found) in enumerate(zip(self._answers.guards, self._now.guards, strict=True)):
            if found is not None and self._path.guards["promote"][i] < math.log(self._rule.bound):
                above = found.sides[0]
                steady = above - above / (1 + guard.limit) if guard.relative else 0.0
                sofar = _Sofar(-found.estimate, found.n, found.error**2 * found.n, found.spread)
                yield _answers_until(sofar, steady, 0.0 if guard.relative else -guard.limit, math.log(self._rule.bound))


def _nothing(why: str) -> tuple[Estimate, Estimate, Estimate]:
    nothing = Estimate(None, None, 0, why)
    return nothing, nothing, nothing


def _told(log_wealth: float) -> float:
    return math.exp(min(log_wealth, 700.0))


def _is_apart(answers: Answers) -> bool:
    """Whether one of the releases hardly answered in the time that both did."""
    places = [np.flatnonzero(answers.is_canary == side) for side in (0, 1)]
    if min(map(len, places)) == 0 or len(answers) < FIRST:
        return False
    start, end = max(p[0] for p in places), min(p[-1] for p in places)
    return min(float(((p >= start) & (p <= end)).mean()) for p in places) < BESIDE


class _Sofar(NamedTuple):
    """A mean with its answers, their variance each, and a score's standard deviation."""

    mean: float
    answers: int
    unit: float
    spread: float


def _answers_until(sofar: _Sofar, further: float, against: float, bound: float) -> int | None:
    """Further answers, of this mean, until the wealth staked on a mean above `against` passes exp(`bound`)."""

    def reached(more: int) -> bool:
        n = sofar.answers + more
        mean = (sofar.answers * sofar.mean + more * further) / n
        return log_evidence(mean, math.sqrt(sofar.unit / n), sofar.spread, against) >= bound

    return _first_reached(reached)


def _first_reached(reached: Callable[[int], bool]) -> int | None:
    """The smallest number above 0 for which it is reached, by doubling and halving; None beyond `MOST_ANSWERS`."""
    high = 1
    while not reached(high):
        high *= 2
        if high > MOST_ANSWERS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
