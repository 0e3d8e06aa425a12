"""The drill-down: which changes inside the guilty axes break the queries, by an adaptive search over sets of changes.

**Bisect** (`drill_chain`). On a query that nothing known explains, a noisy bisection along a random order of the changes finds
one change it turns on, in about log2 m trials. The suspects found so far are held in the state in which the rest matters: good
when the rest breaks the query without them, bad when it needs their company, so pairs that only break together and pairs of which
either is enough come apart one change at a time. **Line up** (`drill_lineup`). The few suspects and `rest` are then axes: random cells
with known chances on further queries give the evidence, and show which queries the rest still breaks; those are bisected next.
No change is named but on the bets of randomised trials that came after it was suspected. **Stop** when rules over suspects whose
evidence is in explain the queries, and a further rule with `tolerance` of what breaks has become unlikely; or when it is unlikely that
any change in here breaks that much. What taking the named changes back restores is measured elsewhere (`drill_measure`), on queries
that this search never saw.

**Conflicts** (`drill_conflicts`). A set that the target refuses starts two bisections for the pair behind it; from then on no set has
the one change without the other. Refusals and failing calls pay every bet its worse side: they are never evidence.

**Why this evidence model.** Bisection alone finds one culprit in fewest calls, but a vote of pivots has no error rate and
takes many queries to tell several culprits apart. Group testing (random halves, Dorfman 1943; noisy and adaptive: Scarlett
2019) has one, but spends its trials evenly on all m changes: pairs and shared blame cost several times as much. Delta
debugging (ddmin, Zeller and Hildebrandt 2002; with chances, Wang et al. 2021) asks whether a *set* still fails, which needs a
repeated oracle and a threshold that three equal culprits do not have. So bisection suspects, and random cells over the few
suspects prove. Median calls at m = 128 and noise 5 % for one culprit, two, a pair that acts only jointly, and three, by
`bench_drill.py --rivals` (20 seeds here, 10 for the others, each at the cheapest size that is right 95 % as often; in
brackets the share right where none is): this search 88, 158, 152, 230, always right; bisection alone 36, 284, 294, 282 (.80);
random halves 64, 512, 512, 512 (.80); picire 120, 1,304 (.80), 376, never; ProbDD 376, 3,624 (.80), 904, never. Only this
search's calls include a proof with a bounded chance of error.

What it cannot do: a change whose effect on single answers drowns in their noise (numeric metrics with small effects) takes very
many trials; the shares come from the fitted rules. Bisection may repeat a set on a query (with another repeat number); where answers
repeat themselves it then believes too much, which costs calls: bets are made on sets that were not tried before. Up to `FEW_SETS`
changes have too few sets for that. There a set is bet on again, but the stakes on one coin of one query add up to one: an answer that
never varies says once what it has to say. Queries that failed by chance in the very corner then lean a little to every change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bisect_ai.attribution.drill_chain import Chain
from bisect_ai.attribution.drill_conflicts import Probe
from bisect_ai.attribution.drill_findings import Findings, found_causes, share_of, suspicion
from bisect_ai.attribution.drill_lineup import ALL, NONE, SOME, Bet, Coin, Lineup
from bisect_ai.attribution.drill_problem import DrillOutcome, DrillProblem, DrillResult, DrillTrial
from bisect_ai.attribution.drill_stock import Stock
from bisect_ai.attribution.drill_units import Units
from bisect_ai.attribution.problem import Floats, Ints

CHAINS = 2  # queries bisected at the same time
BATCH = 8  # randomised trials in one round
UNEXPLAINED = 0.6  # how sure the rest must break a query before it is bisected
DOUBT = -3.0  # log likelihood ratio at which a further cause counts as unlikely
DOUBT_MORE = -4.5  # the same once several rules are found: where there are two, a third is no surprise
SCARCE = 0.7  # part of it that does when further breaking queries would have to be recruited
MOST_SUSPECTS = 6
FIRST = 6  # queries with trials before the first judgement
HOPELESS = 3  # conflicts found when no mixture ran at all: there are none to be had
MOST_CONFLICTS = 40
FEW = 4  # changes; with fewer in the rest there is no half of it
FEW_SETS = 5  # changes; so few have so few sets that a query tries them again
AGAIN = 0.3  # what such a trial is worth beside the one before
LOST = 14  # suspects without any proof before giving up


class DrillSearch:
    """`ask` and `tell` until `ask` has nothing more; then `result`."""

    def __init__(self, problem: DrillProblem) -> None:
        self._problem = problem
        self._rng = np.random.default_rng([problem.seed, 5])
        self._units = Units(problem.changes, problem.needs)
        self._lineup = Lineup(problem.alpha, problem.noise)
        self._stock = Stock(problem)
        self._chains: list[Chain] = []
        self._bisected: dict[int, int] = {}
        self._turns: dict[DrillTrial, tuple[Chain, int]] = {}
        self._bets: dict[DrillTrial, list[Bet]] = {}
        self._heard: list[tuple[int, int, bool]] = []
        self._asked: dict[tuple[int, int], int] = {}
        self._cannot: set[int] = set()
        self._probe: Probe | None = None
        self._probed = 0
        self._conflicts: list[tuple[int, int]] = []
        self._mixed = False
        self._wants_fresh = False
        self._spent = 0
        self._tossed = Counter[Coin]()
        self._findings: Findings | None = None
        self._settled = ""
        if not self._few_sets:
            self._asked |= {(q, c): 1 for q in problem.breaking for c in (0, problem.full)}

    # -- the conversation --------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[DrillTrial]:
        """The next round, at most about `width` trials; empty when settled or spent."""
        width = min(width, self._problem.budget - self._spent)
        if width <= 0 or self._units.count < 2 or self._settled:
            return []
        self._fit()
        self._judge()
        trials = [] if self._settled else self._round(width)
        self._spent += len(trials)
        return trials

    def tell(self, outcomes: Sequence[DrillOutcome]) -> None:
        """What came back for trials that were asked for."""
        for o in outcomes:
            chain, place = self._turns.pop(o.trial, (None, 0))
            bets = self._bets.pop(o.trial, [])
            if o.score is None or o.status != "ok":
                self._stock.hear(o.trial, None)
                self._lineup.pay(bets, None)
                if chain is not None:
                    chain.skip(place, forever=o.status == "infeasible")
                if o.status == "infeasible":
                    self._cannot.add(o.trial.changes)
                self._look_for_conflict(o)
                continue
            self._mixed = self._mixed or 0 < o.trial.changes < self._problem.full
            self._look_for_conflict(o)
            failed = self._stock.failed(o.trial, o.score)
            self._heard += self._stock.hear(o.trial, failed)
            if chain is not None:
                chain.hear(place, failed, self._lineup.model.noise)
            self._lineup.pay(bets, not failed)
        self._learn()
        self._end_chains()

    # -- sets that cannot run ----------------------------------------------------------------------------------------
    def _look_for_conflict(self, o: DrillOutcome) -> None:
        """Starts or goes on with the search for what made a set impossible."""
        if self._probe is None:
            units = self._units.inside(o.trial.changes)
            if o.status == "infeasible" and 0 < len(units) < self._units.count and len(self._conflicts) < MOST_CONFLICTS:
                order = self._units.shuffled(np.arange(self._units.count), self._rng)
                self._probe, self._probed = Probe(units, order.tolist()), o.trial.query
        elif o.trial.query == self._probed and o.trial.changes == self._units.mask(self._probe.units()):
            if o.status == "error":
                self._probe = None
            else:
                self._probe.hear(ran=o.status == "ok")

    def _learn(self) -> None:
        """Takes a conflict that was found into account: from now on no set has the one change without the other."""
        if self._probe is None or self._probe.found is None:
            return
        needing, needed = (self._units.members[u][0] for u in self._probe.found)
        self._probe = None
        self._conflicts.append((needing, needed))
        if len(self._conflicts) >= HOPELESS and not self._mixed:
            self._settled = "unmixable"
        old, self._units = self._units, Units(self._problem.changes, [*self._problem.needs, *self._conflicts])
        kept = {u: self._units.of(group[0]) for u, group in enumerate(old.members) if group in self._units.members}
        self._lineup.rename(kept)
        self._chains.clear()
        self._turns.clear()

    def result(self) -> DrillResult:
        """What the evidence so far says."""
        if self._units.count == 1:
            return found_causes(self._problem, self._units, None, self._lineup, self._stock, self._spent, "only")
        self._fit()
        if self._findings is None or not self._settled:
            self._findings = self._look()
        reason = self._settled or "spent"
        return found_causes(self._problem, self._units, self._findings, self._lineup, self._stock, self._spent, reason)

    def suspicion(self) -> tuple[tuple[int, float], ...]:
        """Changes with the fitted share of the breaking queries that rules with them explain, largest first."""
        return suspicion(self._units, self._look(), self._lineup)

    # -- rounds ------------------------------------------------------------------------------------------------------
    def _round(self, width: int) -> list[DrillTrial]:
        if self._probe is not None:
            return [self._trial(self._probed, self._probe.units())]
        self._start_chains()
        trials = [t for c in self._chains[:width] if (t := self._next_of(c)) is not None]
        if self._end_chains():
            self._fit()
        if self._lineup.k:
            trials += self._random_trials(min(width - len(trials), BATCH))
        if not trials:
            trials = self._stock.recruit(width, self._asked)
            if not trials:
                self._settled = "spent"
        return trials

    def _next_of(self, chain: Chain) -> DrillTrial | None:
        """The chain's next trial; None when nothing is left that can be built and run."""
        while not chain.blocked:
            place = chain.place()
            units = chain.held | set(chain.order[:place].tolist())
            if self._units.mask(units) not in self._cannot:
                trial = self._trial(chain.query, units)
                self._turns[trial] = (chain, place)
                return trial
            chain.skip(place, forever=True)
        return None

    def _trial(self, query: int, units: frozenset[int] | set[int]) -> DrillTrial:
        changes = self._units.mask(units)
        again = self._asked.get((query, changes), 0)
        self._asked[query, changes] = again + 1
        return DrillTrial(query, changes, again)

    def _start_chains(self) -> None:
        """Bisections on queries that the rest seems to break: fresh ones as long as there is no suspect."""
        while len(self._chains) < CHAINS:
            chain = self._explainable() if self._lineup.k else self._fresh_chain()
            if chain is None:
                return
            self._chains.append(chain)
            self._bisected[chain.query] = self._bisected.get(chain.query, 0) + 1

    def _fresh_chain(self) -> Chain | None:
        query = self._stock.next_fresh()
        if query is None:
            return None
        passes = self._chance_of(np.array([query]))[0]
        return self._chain(query, frozenset(), float(1 - passes[NONE]), float(passes[ALL]))

    def _explainable(self) -> Chain | None:
        """A chain on the query that most surely fails with all of the rest bad and passes with all of it good."""
        busy = {c.query for c in self._chains}
        queries = [q for q in self._stock.tried if q not in busy and self._bisected.get(q, 0) < 2]
        if not queries:
            return None
        clear = self._chance_of(np.array(queries))
        half = 1 << self._lineup.k
        needed = clear[:, NONE * half : NONE * half + half] * (1 - clear[:, ALL * half : ALL * half + half])
        needed *= [self._holdable(cell) for cell in range(half)]
        row, cell = np.unravel_index(int(np.argmax(needed)), needed.shape)
        if needed[row, cell] < UNEXPLAINED:
            return None
        held = frozenset(self._lineup.suspects[i] for i in range(self._lineup.k) if cell >> i & 1)
        return self._chain(queries[row], held, float(1 - clear[row, cell]), float(clear[row, half + cell]))

    def _holdable(self, cell: int) -> bool:
        chosen = {u for i, u in enumerate(self._lineup.suspects) if cell >> i & 1}
        return all(not (self._units.needs[u] & set(self._lineup.suspects)) - chosen for u in chosen)

    def _chain(self, query: int, held: frozenset[int], starts: float, never: float) -> Chain | None:
        off = set(self._lineup.suspects) - held
        company = frozenset(held.union(*(self._units.needs[u] for u in held)) if held else held)
        blocked = off.union(*(self._units.needed_by[u] for u in off)) if off else off
        rest = np.array([u for u in range(self._units.count) if u not in company and u not in blocked], dtype=int)
        if not len(rest):
            return None
        return Chain(query, company, self._units.shuffled(rest, self._rng), starts=starts, never=never)

    def _end_chains(self) -> bool:
        """Lets go of the chains that are over; whether they brought suspects, of which the fitted model knows nothing."""
        before = list(self._lineup.suspects)
        for chain in [c for c in self._chains if c.over]:
            self._chains.remove(chain)
            if (pivot := chain.pivot) is not None and pivot not in self._lineup.suspects:
                self._suspect(pivot)
        return self._lineup.suspects != before

    def _suspect(self, unit: int) -> None:
        if self._lineup.k >= MOST_SUSPECTS:
            idle = [u for u in self._lineup.suspects if not self._lineup.proven(u)] or self._lineup.suspects
            self._lineup.drop(min(idle, key=self._lineup.log_wealth))
        self._lineup.suspect(unit)
        for chain in self._chains:
            chain.favour(unit, 0.3 * len(chain.order))

    # -- randomised trials -------------------------------------------------------------------------------------------
    def _random_trials(self, count: int) -> list[DrillTrial]:
        """Trials in cells drawn by known chances on the queries where they should tell most."""
        queries = [*self._stock.tried, *self._stock.fresh[:count]]
        if count <= 0 or not queries:
            return []
        rows = self._stock.rows(queries)
        posterior = self._posterior(rows)
        passes = self._lineup.model.predict(posterior)
        free = self._free_cells() * self._news(queries)
        chances, worth = self._lineup.chances(passes, posterior, free, again=0.0 if self._wants_fresh else 0.1)
        best = [int(i) for i in np.argsort(-worth, kind="stable")[:count] if worth[i] > 0.03]
        drawn = [self._draw(queries[i], passes[i], chances[i]) for i in best]
        return [t for t in drawn if t is not None]

    def _draw(self, query: int, passes: Floats, chances: Floats) -> DrillTrial | None:
        cell = int(self._rng.choice(len(chances), p=chances / chances.sum()))
        half = 1 << self._lineup.k
        rest = self._rest(cell // half)
        units = rest | {u for i, u in enumerate(self._lineup.suspects) if cell >> i & 1}
        own = self._units.mask(units)
        if not self._few_sets and (query, own) in self._asked:
            return None
        bets = []
        for i, fails, passed in self._lineup.bets(passes, chances, cell):
            unit = self._lineup.suspects[i]
            coin = query, frozenset((own, self._units.mask(units ^ {unit})))
            if weight := self._weight(coin):
                bets.append(Bet(unit, coin, weight, fails, passed))
        self._stock.touch(query)
        trial = self._trial(query, units)
        self._bets[trial] = bets
        return trial

    def _weight(self, coin: Coin) -> float:
        """What is staked on a coin: those of all its tosses add up to 1. Where there are sets enough each counts once, in full."""
        if not self._few_sets:
            query, sides = coin
            return 0.0 if any((query, side) in self._asked for side in sides) else 1.0
        self._tossed[coin] += 1
        return (1 - AGAIN) * AGAIN ** (self._tossed[coin] - 1)

    @property
    def _few_sets(self) -> bool:
        """Whether sets that ran on a query, the corners too, are tried on it again: there are not enough of them else."""
        return self._units.count <= FEW_SETS

    def _rest(self, state: int) -> set[int]:
        """The units of the rest that are bad; the same whatever the suspects' coins say."""
        suspects = set(self._lineup.suspects)
        kept = set[int]().union(*(self._units.needs[u] for u in suspects)) - suspects
        out = set[int]().union(*(self._units.needed_by[u] for u in suspects)) | suspects
        rest = [u for u in range(self._units.count) if u not in out and u not in kept]
        if state == NONE:
            return kept
        if state == ALL:
            return kept | set(rest)
        order = self._units.shuffled(np.array(rest, dtype=int), self._rng)
        return kept | set(order[: len(order) // 2].tolist())

    def _free_cells(self) -> Floats:
        """(cells,) 1 where a random trial may go: buildable, and not one of the corners, which have run."""
        half = 1 << self._lineup.k
        free = np.tile(np.array([float(self._holdable(cell)) for cell in range(half)]), 3)
        rest = self._units.count - self._lineup.k
        if rest < FEW:
            free[SOME * half :] = 0.0
        if rest == 0:
            free[ALL * half : SOME * half] = 0.0
        if not self._few_sets:
            free[[0, ALL * half + half - 1]] = 0.0
        if self._cannot:
            free[: SOME * half] *= [float(self._mask_of(cell) not in self._cannot) for cell in range(SOME * half)]
        return free

    def _news(self, queries: Sequence[int]) -> Floats:
        """(queries, cells) what a trial is worth beside the first of its set on the query."""
        news = np.ones((len(queries), 3 << self._lineup.k))
        if self._few_sets:
            masks = [self._mask_of(cell) for cell in range(SOME << self._lineup.k)]
            news[:, : len(masks)] = [[AGAIN ** self._asked.get((q, mask), 0) for mask in masks] for q in queries]
        return news

    def _mask_of(self, cell: int) -> int:
        """The changes of a cell with none or all of the rest bad."""
        half = 1 << self._lineup.k
        return self._units.mask(self._rest(cell // half) | {u for i, u in enumerate(self._lineup.suspects) if cell >> i & 1})

    # -- what the trials say -----------------------------------------------------------------------------------------
    def _posterior(self, rows: Ints) -> Floats:
        """(rows, classes) how likely each class is; a row number beyond the fitted ones is a fresh query."""
        known = rows < len(self._lineup.model.trials)
        found = np.tile(self._lineup.model.weights, (len(rows), 1))
        if known.any():
            found[known] = self._lineup.model.posterior(rows[known])
        return found

    def _chance_of(self, queries: Ints) -> Floats:
        """(queries, cells) chance that a query passes, noise apart."""
        return np.asarray(self._posterior(self._stock.rows(list(queries))) @ self._lineup.model.classes.state)

    def _fit(self) -> None:
        of = np.array([self._stock.row(q) for q, _, _ in self._heard], dtype=int)
        failed = np.array([f for _, _, f in self._heard], dtype=int)
        self._lineup.refit(self._stock.height, of, self._cells(), failed)

    def _cells(self) -> Ints:
        """(trials,) the cell of each heard trial, in terms of the present suspects."""
        masks = [c for _, c, _ in self._heard]
        inside = [self._units.mask([u]) for u in self._lineup.suspects]
        every = self._problem.full & ~sum(inside)
        half = 1 << self._lineup.k
        bits = [sum(1 << i for i, own in enumerate(inside) if c & own) for c in masks]
        rest = [ALL if c & every == every else NONE if not c & every else SOME for c in masks]
        return np.array([r * half + b for r, b in zip(rest, bits, strict=True)], dtype=int)

    def _look(self) -> Findings:
        rest = self._units.count > self._lineup.k
        rules, weights = self._lineup.explain(rest=rest)
        doubt = self._lineup.doubt(rules, weights, self._problem.tolerance) if rest else -np.inf
        return Findings(rules, weights, doubt)

    def _judge(self) -> None:
        """Settles the search when the evidence is in; the rules are looked for only when that is possible."""
        proven = any(map(self._lineup.proven, self._lineup.suspects))
        self._wants_fresh = False
        if self._stock.height < FIRST or (self._lineup.k and self._lineup.entered < LOST and self._undecided(proven)):
            return
        found = self._look()
        axes = found.axes(self._lineup)
        named = all(a < self._lineup.k and self._lineup.proven(self._lineup.suspects[a]) for a in axes)
        if named and found.doubt <= self._doubt_bound(len(found.rules)):
            self._findings, self._settled = found, "found" if axes else "nothing"
        elif self._lineup.entered >= LOST and not proven:
            self._findings, self._settled = found, "scattered"
        self._wants_fresh = named  # all is proven that the trials suggest: only other queries can show that there is more

    def _doubt_bound(self, rules: int) -> float:
        return (DOUBT if rules < 2 else DOUBT_MORE) * (1.0 if self._stock.fresh else SCARCE)

    def _undecided(self, proven: bool) -> bool:
        """Whether suspects without proof, or the rest, still seem to explain much: then a look would settle nothing."""
        if not proven:
            return share_of(self._lineup) > 0.1
        rules, weights = self._lineup.model.classes.rules, self._lineup.model.rule_weights()
        open_axes = {a for a in range(self._lineup.k) if not self._lineup.proven(self._lineup.suspects[a])} | {self._lineup.k}
        loose = sum(float(w) for r, w in zip(rules, weights, strict=True) if len(r.axes) == 1 and open_axes & set(r.axes))
        return loose > 0.15 * float(weights.sum()) + 0.02
