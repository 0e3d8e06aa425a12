"""Which changes to suspect, cheaply: breaking queries are bisected, and the changes they turn on are counted.

**Chain.** Noisy bisection, whatever the rule of the query. Some changes are held bad from the start, the others join one by one in
random order. Where the query starts to fail is its pivot; if two changes break it together the pivot is the later one, if either does
it is the earlier one. The posterior over positions is bisected at its median (Horstein 1963; Burnashev and Zigangirov 1974; Ben-Or
and Hassidim 2008): about log2 m / (1 - h(noise)) trials. The pivot of a random order is a draw from the query's Shapley shares
(Castro, Gomez and Tejada 2009).

**Stock.** The queries to bisect are those known to break, and recruits. A recruit is a query that had not run: it joins when it fails
with all changes bad and passes with all of them good. Recruits come from the end of the fresh queries, and none that was tried serves
as proof afterwards, whatever came of it.

Many queries that broke turn on a change that only shuffles, so this proves nothing. It is an adviser.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints
from bisect_ai.attribution.search.drill_problem import DrillProblem, DrillTrial, Units

CHAINS = 8  # queries bisected at the same time, the fewest
AT_FIRST = 16  # the same until the first changes are found: at least ten are needed, and some queries end at no change
TRIED = 4  # the same where some mixtures were refused and none ran yet
FEW_PIVOTS = 10  # a cause with a quarter of what breaks has none of them with a chance of 0.75^10 = 0.06
MANY_PIVOTS = 20  # the same where no few changes hold most of the pivots: shufflers take their part
CLEAR = 0.8  # part of the pivots on changes with three or more at which few are enough
MOST_CHAINS = 28  # then it ends, however unclear the suspects are: proof looks at the others too
MOST_SUSPECTS = 4  # each is put to the proof by itself, which takes calls
LEAST = 0.06  # part of the pivots that makes a suspect
SOME = 1 / 3  # part of the chains that end at a change where changes in here do break queries
STARTS, NEVER = 0.1, 0.15  # chances that a breaking query fails without any change, and that it passes with all: noise, mostly
FAVOUR = 0.3  # how much likelier than its due all known pivots together are made in the next chain


class Suspects:
    """`ask` and `hear` until `ask` has nothing more and nothing is `waiting`; then `found`.

    As many queries are bisected at once as are needed in any case, each with one trial under way; it may be asked for more before
    all of them came back.
    """

    def __init__(self, problem: DrillProblem, stock: Stock, *, budget: int) -> None:
        self._problem, self._stock = problem, stock
        self._rng = np.random.default_rng([problem.seed, 5])
        self._chains: list[Chain] = []
        self._turns: dict[DrillTrial, tuple[Chain, int]] = {}
        self._asked: dict[tuple[int, int], int] = {}
        self._cannot: set[int] = set()
        # Whether any mixture ran.
        self._runs = False
        self._left = budget
        self._over = 0
        # How many queries turned on each unit.
        self.pivots = Counter[int]()

    def ask(self, units: Units, width: int, *, recruits: bool = True) -> list[DrillTrial]:
        """The next trials; empty when the suspects are known, or nothing is left to look at, or all there is to ask is `waiting`.

        `recruits`: whether fresh queries are tried where those that broke are used up.
        """
        width = min(width, self._left)
        while width > 0 and not self._is_enough():
            while len(self._chains) < self._at_once and (query := self._stock.take()) is not None:
                self._chains.append(self._begin(query, units))
            trials = [t for c in self._idle()[:width] if (t := self._next(c, units)) is not None]
            if not trials and not self._end() and not self.waiting:
                trials = self._stock.recruit(width) if recruits else []
                if not trials:
                    return []
            if trials:
                self._left -= len(trials)
                return trials
            if self.waiting:
                return []
        return []

    @property
    def waiting(self) -> bool:
        """Whether the suspects may yet change with what is under way."""
        return not self._is_enough() and bool(self._turns or self._stock.recruiting)

    @property
    def _at_once(self) -> int:
        """Queries to bisect at the same time: each ends at one change at most, so that nearly all of them are needed in any case.

        With 12 at first and 6 then a drill-down takes 4 % fewer trials, and the bundled incident 6 s more of 44 with 64 workers at a
        second a call: who is not sure after the first ones bisects anew, each step after the last one's answer.
        """
        return max(CHAINS, AT_FIRST - self.pivots.total()) if self._runs or not self._cannot else TRIED

    def _idle(self) -> list[Chain]:
        """The bisections that have no trial under way."""
        busy = {id(chain) for chain, _ in self._turns.values()}
        return [c for c in self._chains if id(c) not in busy]

    def hear(self, trial: DrillTrial, failed: bool | None, *, infeasible: bool) -> None:
        """Takes in whether the trial failed; None: there was no score."""
        if infeasible:
            self._cannot.add(trial.changes)
        if self._stock.recruits(trial.query):
            self._stock.hear_recruit(trial, failed)
            return
        chain, place = self._turns.pop(trial, (None, 0))
        if chain is None:
            return
        if failed is None:
            chain.skip(place, forever=infeasible)
        else:
            self._runs = self._runs or 0 < trial.changes < self._problem.full
            chain.hear(place, failed, self._problem.noise)
        self._end()

    def rename(self, old: Units, new: Units) -> None:
        """Units have other numbers now; bisections under way begin anew."""
        self.pivots = Counter({new.of(old.members[u][0]): n for u, n in self.pivots.items()})
        self._stock.take_back([chain.query for chain in self._chains])
        self._chains.clear()
        self._turns.clear()

    def found(self) -> list[int]:
        """The suspected units, the most suspect first."""
        counts = [(u, n) for u, n in self.pivots.most_common(MOST_SUSPECTS) if n >= LEAST * self.pivots.total()]
        least = 1 if not self.looked else 2 if self.breaks_some else 4  # noise alone ends some chains at a change, seldom twice
        return [u for u, _ in counts] if counts and counts[0][1] >= least else []

    @property
    def looked(self) -> bool:
        """Whether queries enough were bisected to say that no few changes are behind them."""
        return self._over >= FEW_PIVOTS

    @property
    def breaks_some(self) -> bool:
        """Whether a part of the queries that matters turned on some change or other."""
        return self.pivots.total() > SOME * self._over

    def _is_enough(self) -> bool:
        total = self.pivots.total()
        if self._over >= MOST_CHAINS or total >= MANY_PIVOTS:
            return True
        clear = sum(n for n in self.pivots.values() if n >= 3)
        return total >= FEW_PIVOTS and clear >= CLEAR * total

    def _begin(self, query: int, units: Units) -> Chain:
        order = units.shuffled(np.arange(units.count), self._rng)
        chain = Chain(query, frozenset(), order, starts=STARTS, never=NEVER)
        for unit, n in self.pivots.items() if self.breaks_some else ():
            chain.favour(unit, FAVOUR * units.count * n / self.pivots.total())
        return chain

    def _next(self, chain: Chain, units: Units) -> DrillTrial | None:
        """The chain's next trial; None when nothing is left that can be built and run."""
        while not chain.blocked:
            place = chain.place()
            changes = units.mask(chain.order[:place].tolist())
            if changes not in self._cannot:
                again = self._asked.get((chain.query, changes), 0)
                self._asked[chain.query, changes] = again + 1
                trial = DrillTrial(chain.query, changes, again)
                self._turns[trial] = (chain, place)
                return trial
            chain.skip(place, forever=True)
        return None

    def _end(self) -> bool:
        """Lets go of the chains that are over; whether there were any."""
        over = [c for c in self._chains if c.over]
        for chain in over:
            self._chains.remove(chain)
            self._over += 1
            if (pivot := chain.pivot) is not None:
                self.pivots[pivot] += 1
        return bool(over)


SURE = 0.9  # belief at which a chain ends; a wrong end costs one of many pivots, so no more is paid for it
REPEATED = 0.03  # how much closer to the middle another trial at the same place must be


class Chain:
    """The search for the pivot of one query. `held`: units bad in every trial; `order`: the units that join."""

    def __init__(self, query: int, held: frozenset[int], order: Ints, *, starts: float, never: float) -> None:
        """`starts` and `never`: chances that the query fails with `held` alone, and that it passes with all of them."""
        self.query = query
        self.held = held
        self.order = order
        inner = max(1 - starts - never, 0.05)  # no place may be ruled out before it was asked
        prior = np.concatenate([[max(starts, 0.02)], np.full(len(order), inner / len(order)), [max(never, 0.02)]])
        self._log = np.log(prior)
        self._asked = np.zeros(len(order) + 1)
        self.trials = 0

    def place(self) -> int:
        """How many of the order join in the next trial."""
        failing = self.posterior.cumsum()[:-1]
        place = int(np.argmin(np.abs(failing - 0.5) + REPEATED * self._asked))
        self._asked[place] += 1
        return place

    def skip(self, place: int, *, forever: bool) -> None:
        """There was no answer at that place; `forever`: there never will be one."""
        self.trials += 1
        if forever:
            self._asked[place] = np.inf

    @property
    def blocked(self) -> bool:
        """Whether no place is left that can run."""
        return bool(np.isinf(self._asked).all())

    def hear(self, place: int, failed: bool, noise: float) -> None:
        """Takes in whether the query failed with the first `place` of the order bad."""
        agree, differ = math.log(1 - noise), math.log(noise)
        at_or_before, after = (agree, differ) if failed else (differ, agree)
        self._log[: place + 1] += at_or_before
        self._log[place + 1 :] += after
        self.trials += 1

    def favour(self, unit: int, factor: float) -> None:
        """Makes a unit likelier, by what other queries have shown."""
        self._log[1:-1][self.order == unit] += math.log(max(factor, 1.0))

    @property
    def posterior(self) -> Floats:
        """(len(order) + 2,) how likely the query starts to fail at each place; the last: never."""
        p = np.exp(self._log - self._log.max())
        return np.asarray(p / p.sum())

    @property
    def pivot(self) -> int | None:
        """The unit that the query turns on; None while it is not clear."""
        inner = self.posterior[1:-1]
        top = int(np.argmax(inner))
        return int(self.order[top]) if inner[top] >= SURE else None

    @property
    def over(self) -> bool:
        """Whether there is nothing more to learn here: a pivot, none, or too many trials."""
        p = self.posterior
        most = 24 + 4 * math.log2(len(self.order) + 1)
        return self.blocked or self.pivot is not None or p[0] >= SURE or p[-1] >= SURE or self.trials >= most


RECRUITS = 8  # untouched queries tried at once, good and bad, where those that broke are used up
PASSED_ON = 1  # the stage of a recruit that failed with all changes bad: it is to run with all of them good
TURNS = 2  # bisections of one query, each along an order of its own


class Stock:
    """Which breaking query is bisected next."""

    def __init__(self, problem: DrillProblem) -> None:
        self._problem = problem
        self._waiting = [q for _ in range(TURNS) for q in problem.breaking]
        own = problem.thresholds or (problem.threshold,) * len(problem.breaking)
        self._thresholds = dict(zip(problem.breaking, own, strict=True))
        self._recruiting: dict[int, int] = {}
        # Fresh queries that were not recruited.
        self.untouched = list(problem.fresh)

    def learn(self, problem: DrillProblem) -> None:
        """More queries ran by now: some of them broke, and none of them is untouched."""
        fresh, own = set(problem.fresh), problem.thresholds or (problem.threshold,) * len(problem.breaking)
        self.untouched = [q for q in self.untouched if q in fresh]
        more = {q: least for q, least in zip(problem.breaking, own, strict=True) if q not in self._thresholds}
        self._thresholds |= more
        self._waiting = [*more, *self._waiting, *more]

    def take(self) -> int | None:
        """The next query to bisect; None when there is none."""
        return self._waiting.pop(0) if self._waiting else None

    def take_back(self, queries: Sequence[int]) -> None:
        """These were taken, and are to be bisected anew."""
        self._waiting = [*queries, *self._waiting]

    def failed(self, trial: DrillTrial, score: float) -> bool:
        """Whether the score is a failure of that query."""
        return score < self._thresholds.get(trial.query, self._problem.threshold)

    def recruits(self, query: int) -> bool:
        """Whether the query is on trial as a recruit."""
        return query in self._recruiting

    @property
    def recruiting(self) -> bool:
        """Whether a trial of a recruit is under way."""
        return any(stage != PASSED_ON for stage in self._recruiting.values())

    def recruit(self, width: int) -> list[DrillTrial]:
        """Trials of untouched queries with all changes bad; of those that failed there, with all good."""
        trials = [DrillTrial(q, 0) for q, stage in self._recruiting.items() if stage == PASSED_ON][:width]
        for t in trials:
            self._recruiting[t.query] = 2
        count = max(min(RECRUITS, width - len(trials), len(self.untouched)), 0)
        new = [self.untouched.pop() for _ in range(count)]
        self._recruiting |= dict.fromkeys(new, 0)
        return trials + [DrillTrial(q, self._problem.full) for q in new]

    def hear_recruit(self, trial: DrillTrial, failed: bool | None) -> None:
        """Takes in how a recruit did. None: there was no score."""
        if failed is None or (trial.changes and not failed):
            del self._recruiting[trial.query]
        elif trial.changes:
            self._recruiting[trial.query] = PASSED_ON
        else:
            del self._recruiting[trial.query]
            if not failed:
                self._waiting += [trial.query] * TURNS
