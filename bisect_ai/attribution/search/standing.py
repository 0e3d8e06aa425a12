"""How the axes stand, by estimates: which question promises most, of which axes, and what named axes seem to leave.

All that is known counts here, the queries that were chosen for having broken too (`search/broken_queries`). It guides where calls
go and when to stop, costs power where it is wrong, and enters no claim (`search/net_tests`).
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Limit, Problem, what_counts
from bisect_ai.attribution.search.back_sets import ENOUGH, OPEN, BackSets
from bisect_ai.attribution.search.broken_queries import BEHIND, BROKEN, HALF, SWITCH, Advice, combined
from bisect_ai.attribution.search.modes import OwnCost
from bisect_ai.attribution.search.net_tests import KNOWN, NetTest, NetTests
from bisect_ai.attribution.search.query_rows import NOTHING, Mean, QueryRows

START = 16  # queries before any axis pauses, alpha is weighted, or the race changes its question
SHARPNESS = 1.5  # log weight of an axis for each standard error that it costs on the first queries
LEAST_WEIGHT = 0.04  # of alpha: an axis that looks innocent at first can still be proved guilty
DEAD = 2.0  # log likelihood ratio of "brings nothing" against "brings HALF of the loss": pauses
NOTHING_ELSE = 3.0  # log likelihood ratio at which a further cause worth OPEN of the loss counts as unlikely
# Of the way to its bound, at which the axes that are still in the race are mostly those that will be named: 219 of 240 planted losses
# (5 families, churn 2 and 5 %, noise 0 and 5 %), at .38 of the trials for the axes; 14 of the others are the larger of two causes.
HALFWAY = 0.5
FORESEEN = 1.0  # as NOTHING_ELSE, where that only says what may begin meanwhile
OPEN_IN_TABLE = 0.2  # as OPEN, where the whole table can be had
NOBODY_ELSE = 2.0  # as NOTHING_ELSE, where no other axis looks as if it were one
LEFT_OVER = (
    1.0  # standard errors of what named axes leave from which on the other axes are tested (0 to 1 alike, seeds 30000 to 30039)
)
SINGLE = ("reverted", "introduced")  # the questions that are asked of one axis
WATCH = 0.5  # standard errors of loss below which good and bad run alone, when no axis stands out either
CLEAR = 2.5  # standard errors from which on the loss, or what is left of it, is taken as there: the good release rests
SEEN = 1.3  # standard errors from which on a proved cost is a cause of a loss, at the end of the budget
PLENTY = 300  # queries under good and bad after which that ends the search too
LEANS = 1.0  # log likelihood ratio of "costs what counts" from which on an axis is not innocent, whatever else is known
# Log likelihood ratio of "does as much as one of several named" from which on it is open how these act. Of 64 runs with a pair beside a
# larger cause 3 say that one of the pair acts alone; of two that do act alone 11 of 12 runs say so (with 0: 2 and 9; with 1: 4 and 11).
JOINS = 0.5
# Standard errors below what counts at which an axis is innocent (one-sided 95 %). Of 93 guilty axes that were not named 7 pass, of 713
# innocent ones 441 (780 planted and random incidents, churn 0 to 5 %, noise 0 to 10 %, 400 to 4,000 calls).
EXCLUDED = 1.645
SIGN = 0.5  # the same from which on there is a sign of it: of 56 open axes without one none cost what counts (as for EXCLUDED)
TO_CLEAR = 0.05  # of the calls made, the part that may show at the end that axes are innocent
CLOSER = 8, 16  # broken queries more on which an axis is looked at then
FEW = 8  # queries below which an axis says nothing about how a named one acts
THIN = 6  # axes from which on only the most suspect half runs on each query


class Standing:
    """What is thought of the loss and of the axes, as of what has been heard."""

    def __init__(self, rows: QueryRows, tests: NetTests, *, looks_around: bool) -> None:
        self._rows, self._tests, self._looks_around = rows, tests, looks_around
        p = rows.problem
        self._axes = range(p.k)
        self._rng = np.random.default_rng([p.seed, 3])
        explores = looks_around and p.k > 2 and not tests.is_short and not any(p.needs)
        self.advice = Advice(rows, explores=explores)
        # Calls made to clear axes.
        self._to_clear = 0
        self.own = OwnCost(rows, tests.proved_by, tests.pairs)
        self.sets = BackSets(rows, partial(self.single, "reverted"), self.own.pair_acts)

    # -- the loss ----------------------------------------------------------------------------------------------------
    @property
    def loss(self) -> Mean:
        """What is lost from good to bad."""
        return self._rows.mean(0, self._problem.full)

    def is_loss(self, errors: float) -> bool:
        """Whether a loss worth the tolerance is estimated, so many standard errors from nothing."""
        return self.loss.value >= self._problem.tolerance and self.loss.z > errors

    def shows_loss(self) -> bool:
        """Whether a loss worth the tolerance is seen, so that the search may end: it is looked at often, so beyond CLEAR."""
        return self.is_loss(CLEAR) or (self.loss.n >= PLENTY and self.is_loss(SEEN))

    def looks_void(self) -> bool:
        """Whether good and bad hardly differ and no axis stands out: then only these two run until a loss shows."""
        loss = self.loss
        return loss.n >= 2 * START and loss.z < WATCH and all(self.single("reverted", a).z < 1.5 for a in self._axes)

    def is_futile(self, named: frozenset[int]) -> bool:
        """Whether the rest of the budget could hardly settle it: no axis is suspect, and the loss looks small."""
        loss, p, rows, tests = self.loss, self._problem, self._rows, self._tests
        if tests.fits or loss.n < 64 or loss.z > 2 or rows.spent < 0.5 * p.budget or named:
            return False
        most = min(p.queries, loss.n + rows.left / 2)
        if rows.left >= 2 * (p.queries - rows.asked):
            return False  # the log ends before the budget does: then the whole of it says what is left
        error = loss.error * math.sqrt(loss.n / most)
        if loss.value + 1.3 * error - p.tolerance <= -2.2 * error or loss.value + 1.5 * loss.error >= 2 * error:
            return False
        return all(tests.mean(n, a).z <= 1.5 for n in tests.families for a in self._axes)

    # -- before anything is named ------------------------------------------------------------------------------------
    def single(self, family: str, axis: int) -> Mean:
        """All that is known of a family's difference, with the queries that no test hears."""
        return self._rows.once(("single", family, axis), lambda: self._single(family, axis))

    def _single(self, family: str, axis: int) -> Mean:
        fresh = self._fresh(family, axis)
        return combined(fresh, self.advice.of(family, axis)) if family in SINGLE else fresh

    def weights(self, family: str) -> Floats:
        """A part of a family's alpha for each axis: most for those that seem to cost most."""
        z = np.array([self.single(family, a).z for a in self._axes])
        raw = np.exp(SHARPNESS * np.clip(z - z.max(), -6, 0))
        return np.asarray(np.round(LEAST_WEIGHT + (1 - LEAST_WEIGHT * len(raw)) * raw / raw.sum(), 3))

    def live(self, family: str) -> list[int]:
        """The axes that a further query is run for, worked out anew before every query."""
        live, means = self._running(family)
        if len(self._axes) >= THIN and len(live) > 3 and self.loss.n >= 8:
            draws = {a: self._rng.normal(means[a].value, min(means[a].error, 1.0)) for a in live}
            live = sorted(sorted(live, key=lambda a: -draws[a])[: max(2, (len(live) + 1) // 2)])
        return live

    def _running(self, family: str) -> tuple[list[int], dict[int, Mean]]:
        """The axes that are neither proved nor paused, and what each did."""
        means = {a: self.single(family, a) for a in self._axes if self._tests.can_run(family, a)}
        tried = [m for m in means.values() if m.n >= START // 2]
        lead = max(tried, key=lambda m: m.value, default=NOTHING)
        proved = self._tests.families[family].named()
        return [a for a, m in means.items() if a not in proved and not self._is_paused(m, lead)], means

    def _is_paused(self, mean: Mean, lead: Mean) -> bool:
        if mean.n < (BROKEN // 2 if self._rows.explored else START):
            return False
        if mean is not lead and lead.value - mean.value > BEHIND * mean.error and mean.value < 0.5 * lead.value:
            return True
        loss = self.loss  # one standard error less: it stopped being measured because it was high
        return mean.favours_nothing(HALF * max(loss.value - loss.error, 2 * self._problem.tolerance)) > DEAD

    def in_front(self) -> frozenset[int]:
        """The axes in the race, once one of them is `HALFWAY` to its bound; before none. Nothing is sure of them."""
        if max(self._tests.progress(a) for a in self._axes) < HALFWAY:
            return frozenset()
        live, _ = self._running("introduced" if self.favours_introducing else "reverted")
        return self._tests.named().union(live)

    @property
    def favours_introducing(self) -> bool:
        """Whether "introduced" is the question to ask now: the loss is there, and it promises more than "reverted"."""
        introduced = self._lead("introduced")
        if self._rows.explored and not any(self._tests.planned.get(("introduced", a)) for a in self._axes):
            if self.advice.favours_introducing():
                return True
            reverted = self._lead("reverted")
            if not reverted.n or (
                introduced.value <= SWITCH * reverted.value and reverted.n < PLENTY and self._running("reverted")[0]
            ):
                return False
            return self._explains_little()
        if introduced.n >= START:
            stronger = introduced.value > SWITCH * self._lead("reverted").value
            return stronger or (self._explains_little() and not self._running("reverted")[0])
        return introduced.n > 0 or self._explains_little()

    def _explains_little(self) -> bool:
        """Whether the loss is there, and reverting any single axis brings back less than half of it."""
        loss = self.loss
        if loss.z <= 2:
            return False
        reverted = self._lead("reverted")
        return reverted.n >= START and reverted.value < HALF * (loss.value - loss.error)

    def _lead(self, family: str) -> Mean:
        return max((m for a in self._axes if (m := self.single(family, a)).n), key=lambda m: m.value, default=NOTHING)

    # -- beside what is named ----------------------------------------------------------------------------------------
    def settles_small(self, named: frozenset[int]) -> bool:
        """Of two axes: whether the other is unlikely to cost a part of the loss that matters, and the rollback is clear."""
        size = OPEN_IN_TABLE * self.loss.value
        others = (self._tests.mean("net", a) for a in self._axes if a not in named)
        return all(m.favours_nothing(size) >= NOBODY_ELSE for m in others) and self.sets.is_settled(named)

    def worth_looking(self, named: frozenset[int]) -> float:
        """What a further cause must cost to be looked for."""
        loss, whole = self.loss, self.sets.left(named)
        most = loss.value if loss.z >= CLEAR else loss.value + loss.error  # else what is left is asked of a loss too small
        brought = self._rows.mean(self.sets.cell(named), self._problem.full)
        if min(whole.n, brought.n) >= START:
            most = min(most, whole.value + brought.value)  # the loss was first seen where many queries broke
        return (OPEN_IN_TABLE if self._tests.is_short else OPEN) * max(most, self._problem.tolerance)

    def seem_all(self, named: frozenset[int]) -> bool:
        """Whether named axes seem to leave nothing, and no other seems to do as much as one of them: what is left is to measure."""
        if self.loss.value < self._problem.tolerance or self.partners(named):
            return False
        size = self.worth_looking(named)
        rest = self.rest(named, size)
        return rest.n >= START // 2 and rest.favours_nothing(size) > FORESEEN

    def rest(self, named: frozenset[int], size: float) -> Mean:
        """What is left of the loss when named axes are reverted: of the sets that ran, the one that leaves least."""
        sets = [b for n in range(1, len(named) + 1) for b in itertools.combinations(sorted(named), n)]
        left = [self.sets.left(b) for b in sets] or [NOTHING]
        return max(left, key=lambda m: m.favours_nothing(size) if m.n else -math.inf)

    def likes_another(self, named: frozenset[int], size: float) -> bool:
        """Whether some axis that is not named may do as much as `size`."""
        return any(self.may_do("reverted", a, size) for a in self._axes if a not in named)

    def may_do(self, family: str, axis: int, size: float) -> bool:
        """Whether an axis may do as much as `size`: not excluded by what is known of it.

        Without looking around many are not known at all: then by the queries that were run for the test of it alone.
        """
        if not self._looks_around:
            own = self._tests.mean(family, axis)
            return own.n >= START and own.favours_nothing(size) < ENOUGH
        known = self._rows.mean(*self._tests.pairs(family, axis)[0])
        known = known if known.n >= KNOWN else self.single(family, axis)
        return known.n > 0 and known.favours_nothing(size) < (ENOUGH if len(self._tests.named()) < 2 else 0)

    def partners(self, named: frozenset[int]) -> list[NetTest]:
        """Tests of axes that seem to do as much as a named one: they may act only together with it, or be enough like it."""
        found: list[NetTest] = []
        acting = self.own.acting(named)
        for family in ("reverted", "introduced"):
            proved = self._tests.families[family].named() & named - acting.settled
            joint = proved & acting.partial
            means = [*(self._tests.mean(family, a) for a in joint or proved), *([] if joint else [self.loss])]
            size = 0.8 * max(self._problem.tolerance, *(m.value - m.error for m in means))
            if proved:
                found += [(family, a) for a in self._axes if a not in named and self.may_do(family, a, size)]
        return found

    def may_join(self, named: frozenset[int]) -> dict[int, Limit]:
        """Axes not named of which it is not excluded that they do as much as one of the named, and what each costs at most.

        How that one acts rests on them. Beside several named axes, some of which cost little, it is hardly ever excluded: there those
        count that look more like it than like nothing.
        """
        found: dict[int, float] = {}
        acting = self.own.acting(named)
        if named <= acting.settled:
            return {}
        several = len(named) > 1 and not acting.partial
        for family, tests in self._tests.families.items():
            means = [self._tests.mean(family, a) for a in tests.named() & named]
            size = 0.8 * max(self._problem.tolerance, min((m.value - m.error for m in means), default=0.0))
            known = {a: self._known(family, a) for a in self._axes if means and a not in named}
            joins = {a: m for a, m in known.items() if m.n >= FEW and _end(m) >= size}
            found |= {
                a: max(_end(m), found.get(a, 0.0)) for a, m in joins.items() if not several or m.favours_nothing(size) < -JOINS
            }
        return {a: Limit(most) for a, most in found.items()}

    def likely_tests(self, named: frozenset[int], size: float) -> list[NetTest]:
        """Tests of the axes that brought back what the named ones leave, on the queries where that was looked at."""
        tests = []
        for a in self.advice.next_axes(named):
            self._tests.base_on(a, self._problem.reverting(named))
            families = [f for f in ("reverted", "further") if self.single(f, a).favours_nothing(size) < NOTHING_ELSE]
            tests += [(f, a) for f in families[:1]]
        return tests

    def other_tests(self, named: frozenset[int], size: float) -> list[NetTest] | None:
        """Tests of the axes that are not named; None while what the named ones leave is cheaper to know."""
        whole, waits = self.sets.left(named), False
        if self.favours_introducing:
            tests = [("introduced", a) for a in self.live("introduced") if a not in named]
        else:
            others = self._live_beside(named, "reverted", size)
            waits = bool(others) and whole.n >= START and whole.z < LEFT_OVER and not self._rows.exhausted
            tests = [("reverted", a) for a in others if not waits or self.single("reverted", a).favours_nothing(size) < 0]
        if not tests and whole.n >= START and whole.z > LEFT_OVER:
            for a in self._axes:
                if a not in named:
                    self._tests.base_on(a, self._problem.reverting(named))
            tests = [("further", a) for a in self._live_beside(named, "further", size)]
        return None if waits and not tests else tests

    def _live_beside(self, named: frozenset[int], family: str, size: float) -> list[int]:
        """Axes not named that may still cost `size`, by a family's differences."""
        can = [a for a in self._axes if a not in named and self._tests.can_run(family, a)]
        return [a for a in can if self.single(family, a).favours_nothing(size) < NOTHING_ELSE]

    def suspected(self, named: frozenset[int]) -> frozenset[int]:
        """The axes that are not named and look more like costing a part of the loss than like nothing; advice counts."""
        size = OPEN * max(self.loss.value, self._problem.tolerance)
        others = {a: [self.single(f, a) for f in SINGLE] for a in self._axes if a not in named}
        return frozenset(
            a
            for a, means in others.items()
            if not any(m.n for m in means) or any(m.n and m.favours_nothing(size) < 0 for m in means)
        )

    def open_beside(self, named: frozenset[int]) -> dict[int, Limit]:
        """The axes not named that are not shown to cost less than what counts, and what each costs at most: none is called innocent.

        Shown is it by the question that tells most of the axis, or by what is left of the loss when the named ones are reverted.
        """
        size, rest = self._beside(named)
        limits = {a: self._limit(a, rest, size) for a in self._axes if a not in named}
        return {a: limit for a, limit in limits.items() if limit.most >= size}

    def clear(self, named: frozenset[int]) -> bool:
        """Queue, for a few calls in all, open axes on broken queries: those that would be cleared if they did on them as so far."""
        if any(self._problem.needs) or not self._looks_around:
            return False
        room, queued, (size, rest) = int(TO_CLEAR * self._rows.spent) - self._to_clear, 0, self._beside(named)
        for axis in sorted(self.open_beside(named)):
            more = next((n for n in CLOSER if n <= room - queued and self._limit(axis, rest, size, more=n).most < size), 0)
            queued += more if more and self.advice.look_closer(axis, more) else 0
        self._to_clear += queued
        return queued > 0

    def _beside(self, named: frozenset[int]) -> tuple[float, Mean]:
        """What counts beside the named axes, and what is left of the loss when they are reverted."""
        size = what_counts(self.loss.value, self._problem.tolerance)
        left = self.sets.left(named)
        return size, left if left.n >= FEW else self.rest(named, size)

    def _limit(self, axis: int, rest: Mean, size: float, *, more: int = 0) -> Limit:
        """What an axis costs at most, by its own differences, by the `rest` beside the named ones, or by both.

        What leans to it that the axis costs `size` goes before what does not: where two axes are enough each, reverting one of them
        brings nothing back; where another helps, little is left beside the named ones. So the rest alone clears an axis only where
        its own differences rather say that it costs nothing. `more`: as if it had done the same on so many more broken queries.
        """
        fresh = {f: self._fresh(f, axis) for f in (*SINGLE, *self._tests.families)}
        leaning = [_end(m) for m in (rest, *fresh.values()) if m.n >= FEW and m.favours_nothing(size) < -LEANS / 2]
        if leaning and max(leaning) >= size:
            return Limit(max(leaning))
        known = [m for f in fresh if (m := self._known(f, axis, more=more)).n]
        own = min(known, key=lambda m: m.error, default=NOTHING)
        ends = [_end(m) for m in (own, combined(own, rest, doubt=1.0)) if m.n >= FEW]
        ends += [_end(rest)] if rest.n >= FEW and own.favours_nothing(size) >= 0 else []
        signs = [m.favours_nothing(size) for m in (rest, *known) if m.n >= FEW]
        return Limit(min(ends, default=math.inf), min(signs, default=-math.inf) < -SIGN)

    def _known(self, family: str, axis: int, *, more: int = 0) -> Mean:
        """What an axis did in a question, on queries that were chosen for having broken too (`more` of them: on these as so far)."""
        fresh = self._fresh(family, axis)
        if family not in SINGLE:
            return fresh
        advice = self.advice.share_of(family, axis)
        if more and family == "reverted":
            n = advice.n + more
            advice = _prolonged(advice, more) if advice.n else Mean(0.0, self.loss.value / n, n)
        return combined(fresh, advice, doubt=1.0)

    def _fresh(self, family: str, axis: int) -> Mean:
        """What an axis did on queries that were not chosen for having broken."""
        if family not in SINGLE:
            return self._tests.mean(family, axis)
        return self._rows.mean(*(self._problem.reverted_pair if family == "reverted" else self._problem.introduced_pair)(axis))

    @property
    def _problem(self) -> Problem:
        return self._rows.problem


def _prolonged(mean: Mean, more: int) -> Mean:
    """The mean as it would be if as many queries `more` said the same."""
    return Mean(mean.value, mean.error * math.sqrt(mean.n / (mean.n + more)), mean.n + more)


def _end(mean: Mean) -> float:
    """What the mean is at most, one-sided 95 %."""
    return mean.value + EXCLUDED * mean.error


def running_estimate(mean: Mean, what: str = "reverted alone") -> Estimate:
    """A running mean for a live view, with an interval wide enough for many looks."""
    if mean.n < 8:
        return Estimate(None, None, mean.n, f"{what}: fewer than eight queries")
    tuning = 32 / mean.n
    half = mean.error * math.sqrt((1 + tuning) * math.log((1 + 1 / tuning) / 0.05**2))
    return Estimate(
        mean.value, (mean.value - half, mean.value + half), mean.n, f"{what}, paired by query, 95 % confidence sequence"
    )
