"""The adaptive search: few calls to a verdict whose validity rests on chance that the search itself tossed.

**Base sample.** A growing random prefix of the queries runs under good and under bad. It gives the loss and both values as
population means, and it shows where to look: on pass/fail metrics nearly all information sits in the queries that *flip*
(pass under good, fail under bad); on numeric metrics any query will do.

**Localise, pass/fail** (`flips`, `response`, `betting`). A model of response classes (stable, flaky, breaks when all or any of a
set of axes are bad, always or half of the time) is refitted each round and says which flipped queries and cells would tell
most. It is only an adviser: the cell of each trial is drawn from a known distribution, so for each axis, given the other
axes, a coin of known bias decided whether it was bad. "Axis a has no effect whatever" is tested by betting on that coin
(conditional randomisation: Candes, Fan, Janson and Lv 2018; testing by betting: Shafer 2021; Waudby-Smith and Ramdas 2024; safe
testing: Grunwald, de Heide and Koolen 2024). The wealth is a nonnegative martingale under that null, whatever the model, the
noise, the choice of queries and cells and the time to stop; an axis is named when it passes k / alpha (Ville 1939), the next
ones by Holm's steps (1979). One error budget, looks are free. The bets are on harm only, so a helpful axis loses its stake. No
query is tried twice in one cell: answers that repeat themselves would pose as evidence.

**Localise, numeric** (`pairs`, `looks`). Fresh queries (or the hardest hit ones, when few carry the loss) run in two random cells
and their complements. The signed differences are symmetric under the null; their self-normalised sum (Efron 1969) is compared with
a group-sequential boundary that spends a quarter of alpha at looks on the way and the rest at the end of the call budget, counted
jointly (Lan and DeMets 1983). Once an axis is named, queries that ran get more of their cells, up to all of them: what two axes do
jointly shows only within a query's own cells, so that is how two causes are told from a joint one.

**Localise, two axes** (`squares`). No coin is left once good and bad have run, so every query runs in all four cells.

**Explain** (`naming`, `demands`). Which few rules (alone, together, either) explain the trials is a matter of likelihood and
description length, not of proof. The search goes on until the belief in the rules is high, all their axes are named, and a
further rule with a quarter (numeric: a third) of the loss has become unlikely; these demands relax as the budget runs out, the
evidence for naming never does.

**Measure** (`estimate`, `settle`). The smallest rollback that should restore 80 % runs in its own cell on a random part of
every stratum of the base sample, by a lot drawn before the first trial (double sampling for stratification: Neyman 1938;
Cochran 1977, ch. 12). Its interval, like those of the loss, holds for the queries of the log. A rollback that measurably
restores less is not accepted. Where calls are spent on a numeric metric and chance has filled every cell of up to four axes,
their table says what the rollback restores; when the rules are in doubt to the end, all axes that they hold are reverted.
`no_regression` needs the loss below the tolerance at a group-sequential look; its interval is a repeated one.

Of several causes each has its own reversion measured on the same queries, when calls are left. Numeric metrics of up to four axes, and
two axes, have run in every cell by chance or by design: all effects are then estimated from that table (`table`).

**What it cannot do.** Effects and cells that were not sampled by known chances have no population value here (None, with the reason).
Where a query gives the same answer to the same cell, a flip that chance made once stays: it then is a property of the query, and
counts as such.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from bisect_ai.attribution.base import Base
from bisect_ai.attribution.demands import OF_FLIPS, OF_SCORES
from bisect_ai.attribution.estimate import Sample
from bisect_ai.attribution.flips import Flips
from bisect_ai.attribution.inference import ScoreTable
from bisect_ai.attribution.measurement import Measurement
from bisect_ai.attribution.naming import Structure, smallest_rollback
from bisect_ai.attribution.outlook import calls_to_settle, is_futile
from bisect_ai.attribution.pairs import Pairs
from bisect_ai.attribution.problem import Attribution, Belief, Floats, Ints, Outcome, Problem, Trial
from bisect_ai.attribution.response import Rule
from bisect_ai.attribution.settle import attribution, loss_boundary, loss_sequence
from bisect_ai.attribution.squares import Squares
from bisect_ai.attribution.table import FEWEST, random_table

START = 24  # base queries before anything else
START_NUMERIC = 12
CORNERS = 1 / 9  # numeric metrics: the part of the trials that should be in good and bad
LAST = 150  # calls kept back for measuring a rollback, pass/fail
LAST_NUMERIC = 40
MOST_AXES_TABLE = 4
Localiser = Flips | Pairs | Squares
Kind = Literal["base", "inner", "rollback"]
"""What a trial is for."""
SURE = 0.8  # belief in rules over several axes below which all of these are reverted, numeric metrics
LATE = 0.6  # of the budget: from here on the search asks itself whether going on is worth it


class AdaptiveSearch:
    """`ask` and `tell` until `ask` has nothing more; then `result`."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._rng = np.random.default_rng([problem.seed, 3])
        self._base = Base(problem)
        self._localiser: Localiser | None = None
        self._watched = 0
        self._asked: dict[Kind, int] = {"base": 0, "inner": 0, "rollback": 0}
        self._kind: dict[Trial, Kind] = {}
        self._scores: dict[tuple[int, int], float] = {}
        self._infeasible = set(problem.infeasible)
        self._errors: dict[int, int] = {}
        self._runs: dict[int, int] = {}
        self._settled: str | None = None
        self._structure: Structure | None = None
        self._measured: Measurement | None = None
        self._shares: dict[Rule, Measurement] | None = None
        self._to_measure: list[Trial] = []
        self._failed: dict[int, int] = {}
        self._alpha = problem.alpha
        self._all_in = False
        self._base_first = False
        self._deepen = False

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round, at most about `width` trials; empty when settled or spent."""
        left = self._problem.budget - sum(self._asked.values())
        trials: dict[Trial, Kind] = {}
        if self._settled is None:
            trials = self._round(min(max(width, 2), left), left)
            if not trials and self._settled is None and not self._kind:
                self._settled = "spent" if left < 2 else "exhausted"
        self._kind |= trials
        for kind, count in Counter(trials.values()).items():
            self._asked[kind] += count
        return list(trials)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back for trials that were asked for."""
        for cell in {o.trial.cell for o in outcomes if o.status == "infeasible"}:
            self._forbid(cell)
        inner: list[tuple[Trial, float]] = []
        for outcome in outcomes:
            trial, score, status, verdict, _ = outcome
            if verdict is not None:
                self._base.verdicts.hear(outcome)
            kind = self._kind.pop(trial, None)
            if kind is None:
                continue
            query, cell, repeat = trial
            self._runs[cell] = self._runs.get(cell, 0) + 1
            if score is None or status != "ok" or math.isnan(score):
                score = math.nan
                self._errors[cell] = self._errors.get(cell, 0) + 1
            elif repeat == 0:
                self._scores[query, cell] = score
            if kind == "base":
                self._base.hear(trial, score)
            elif kind == "inner":
                inner.append((trial, score))
                self._base.note(score)
                self._base.hear_aside(trial, score)
        self._hear_inner(inner)

    def belief(self) -> Belief:
        """What the search believes now; the loss interval holds at every look."""
        stage = "reproduce" if self._localiser is None else "localise"
        stage = "confirm" if self._measured is not None or self._to_measure else stage
        harm, costs = {}, {}
        if self._localiser is not None:
            costs = dict(zip(self._problem.axes, self._localiser.costs.estimates(), strict=True))
            goal = math.log(self._problem.k / self._problem.alpha)
            log = self._localiser.log_evidence
            harm = {name: float(np.clip(log[i] / goal, 0, 1)) for i, name in enumerate(self._problem.axes)}
        return Belief(stage, loss_sequence(self._base.sample()), harm, costs)

    def result(self) -> Attribution:
        """The attribution as of now."""
        return attribution(
            self._problem,
            self._sample(),
            settled=self._settled or "stopped",
            structure=self._structure,
            measured=self._measured,
            shares=self._shares or {},
            table=self._table(),
            suspicion=self._localiser.suspicion() if self._localiser else [],
            needed=self._calls_needed(),
            cells=(self._runs, self._errors, frozenset(self._infeasible)),
        )

    # -- rounds ----------------------------------------------------------------------------------------------------
    def _round(self, width: int, left: int) -> dict[Trial, Kind]:
        """The next trials, each with what it is for."""
        if {0, self._problem.full} & self._infeasible:
            self._settled = "corner"
            return {}
        if self._base.asked < self._start:
            return self._ask_base(width)
        if self._out("rollback") and not self._to_measure:
            return {}
        self._recruit()
        if self._structure is None and self._no_loss():
            self._settled = "no_regression"
            return {}
        if self._structure is None and self._is_futile():
            self._settled = "futile"
            return {}
        if self._structure is not None and not self._to_measure:
            self._judge_measured(left)
        if self._structure is None and self._settled is None:
            self._confirm(left)
            if self._structure is not None and not self._to_measure:  # all of it ran before
                self._judge_measured(left)
        if self._settled is not None:
            return {}
        if self._to_measure:
            now, self._to_measure = self._to_measure[:width], self._to_measure[width:]
            return dict.fromkeys(now, "rollback")
        return self._localise(width, left)

    @property
    def _start(self) -> int:
        """Base queries before anything else."""
        return min(START if self._base.binary else START_NUMERIC, max(4, self._problem.budget // 4), self._problem.queries)

    def _out(self, *kinds: str) -> bool:
        """Whether trials of such kinds were asked for and have not been heard of."""
        return any(kind in kinds for kind in self._kind.values())

    def _localise(self, width: int, left: int) -> dict[Trial, Kind]:
        kept = 0 if isinstance(self._localiser, Flips) and not self._named() else self._reserve
        rest = left - kept if left > kept + 1 else left
        width = min(width, max(rest, 0))
        trials: dict[Trial, Kind] = {}
        if self._localiser is not None and self._problem.k > 1:
            allowed = self._inner_allowed(width)
            if isinstance(self._localiser, Pairs) and self._localiser.waiting < allowed:
                self._supply(self._localiser, allowed)
            trials = dict.fromkeys(self._localiser.plan(allowed, self._rng), "inner")
        trials |= self._ask_base(width - len(trials))
        if not trials and self._localiser is not None and self._problem.k > 1:
            trials = dict.fromkeys(self._localiser.plan(width, self._rng), "inner")
        return trials

    def _inner_allowed(self, width: int) -> int:
        """How many of the next trials may go to inner cells, the base sample having its share."""
        if self._base.exhausted or isinstance(self._localiser, Squares):
            return width
        short = self._inner_per_base() * self._asked["base"] - self._asked["inner"]
        return 0 if self._base_first else min(width, max(0, round(short)))

    def _supply(self, pairs: Pairs, trials: int) -> None:
        """Queries that have not been run; when there are none left, all those that have, in every cell."""
        if self._deepen:
            pairs.again(math.ceil((trials - pairs.waiting) / 2))
        fresh = self._base.set_aside(math.ceil((trials - pairs.waiting) / 2))
        if len(fresh):
            pairs.watch(fresh, pairs=min(2, self._problem.k - 1), ran=False)
        elif not self._all_in and pairs.waiting < trials:
            self._all_in = True
            pairs.watch(self._base.aside, pairs=1 << self._problem.k, ran=False)
            pairs.watch(self._base.complete(0)[0], pairs=1 << self._problem.k, ran=True)

    def _inner_per_base(self) -> float:
        """Trials in inner cells for each of the base sample; one pair in 2^(k-1) is a base pair by itself."""
        if isinstance(self._localiser, Pairs):
            base = max(CORNERS - 2.0 ** (1 - self._problem.k), 0.0)
            return (1 - base) / base if base else 1e9
        return 1.2

    def _ask_base(self, width: int) -> dict[Trial, Kind]:
        return dict.fromkeys(self._base.ask(width // 2), "base")

    def _recruit(self) -> None:
        """New base queries join the localiser; the localiser is chosen by what the scores look like."""
        if self._base.heard < self._start:
            return
        sample_queries, good, bad = self._base.complete(self._watched)
        if self._localiser is None or (isinstance(self._localiser, Flips) and not self._base.binary):
            self._alpha = self._problem.alpha if self._localiser is None else self._problem.alpha / 2
            self._localiser = self._choose()
            sample_queries, good, bad = self._base.complete(0)
        if isinstance(self._localiser, Flips):
            self._localiser.watch(sample_queries[(good > bad)])
        elif isinstance(self._localiser, Squares):
            self._localiser.watch(sample_queries, good, bad)
        else:
            self._localiser.watch(_hardest_hit(sample_queries, good - bad), pairs=3, ran=True, chosen=True)
        self._watched = self._base.heard

    def _choose(self) -> Localiser:
        infeasible = frozenset(self._infeasible)
        if self._problem.k == 2:
            return Squares(infeasible, affordable=self._problem.budget)
        if self._base.binary:
            return Flips(self._problem.k, infeasible)
        return Pairs(self._problem.k, infeasible, affordable=self._problem.budget)

    def _forbid(self, cell: int) -> None:
        self._infeasible.add(cell)
        if self._localiser is not None:
            self._localiser.forbid(cell)

    def _hear_inner(self, heard: list[tuple[Trial, float]]) -> None:
        if not heard or self._localiser is None:
            return
        trials, scores = [t for t, _ in heard], np.array([s for _, s in heard])
        if isinstance(self._localiser, Flips):
            known = np.where(np.isnan(scores), -1, scores > self._base.lowest).astype(int)
            self._localiser.hear(trials, known)
        else:
            self._localiser.hear(trials, scores)

    def _table_fills(self, pairs: Pairs) -> bool:
        """Whether every cell has queries enough that chance put there, so that nothing needs to be kept for a rollback's cell."""
        return self._problem.k <= MOST_AXES_TABLE and pairs.fewest >= FEWEST

    def _table(self) -> ScoreTable | None:
        """Scores of queries that chance put into cells, when there are enough in every cell; None: cells ran on chosen queries."""
        if self._problem.k > MOST_AXES_TABLE or not isinstance(self._localiser, Pairs | Squares):
            return None
        return random_table(self._problem, self._scores, self._localiser.chosen, self._base.verdicts)

    # -- decisions -------------------------------------------------------------------------------------------------
    def _sample(self) -> Sample:
        """The base sample; the noise that it needs to know errs upwards: gains count as noise."""
        bare = self._base.sample()
        bare = replace(bare, judge=self._base.verdicts.noise(bare.queries, np.array([0, self._problem.full])))
        if not isinstance(self._localiser, Flips) or not bare.n:
            return bare
        gained = float(bare.share[bare.strata == 1].sum()) / max(1 - float(bare.share[bare.strata == 2].sum()), 0.1)
        fitted = self._localiser.noise * (1 - self._localiser.noise)
        return replace(bare, noise=bare.reach**2 * max(fitted, gained))

    def _named(self) -> frozenset[int]:
        if self._problem.k == 1:
            return self._only_axis()
        return self._localiser.named(self._alpha) if self._localiser is not None else frozenset()

    def _only_axis(self) -> frozenset[int]:
        """With one axis the loss itself is the evidence."""
        z = self._base.sample().z(0.0)
        return frozenset({0}) if z > loss_boundary(self._problem) else frozenset()

    def _no_loss(self) -> bool:
        return self._base.look() and -self._base.sample().z(self._problem.tolerance) > loss_boundary(self._problem)

    def _confirm(self, left: int) -> None:
        """When the evidence is in, fixes the structure and what to measure."""
        last = left <= self._reserve + 2
        if last and self._out("base", "inner"):
            return
        if self._localiser is not None and last:
            self._localiser.last_look()
        named = self._named()
        if not named:
            return
        self._deepen = True
        spent = 1 - left / self._problem.budget
        structure = self._explained(self._strongest(named), named if last else None)
        demands = OF_SCORES if isinstance(self._localiser, Pairs) else OF_FLIPS
        if not (demands.explains_enough(structure, named) if last else demands.explains_all(structure, named, spent)):
            return
        self._base_first = not self._loss_likely(structure, 0.9 if spent < 0.5 else 0.7 if spent < 0.8 else 0.5)
        if not self._base_first:
            self._set_rollback(structure.only(named), left)

    def _loss_likely(self, structure: Structure, chance: float) -> bool:
        """Whether the loss is above the tolerance with this chance.

        On numeric metrics the trials in other cells say as much about it: the base sample must not speak clearly against it, and must
        speak for it where other axes clearly win something back.
        """
        z = self._base.sample().z(self._problem.tolerance)
        if self._base.binary:
            return NormalDist().cdf(z) >= chance
        gained = self._localiser.gained() if isinstance(self._localiser, Pairs) else 0.0
        net = sum(structure.weights) - gained
        return net > self._problem.tolerance and z > (0.5 if gained else -1.0)

    @property
    def _reserve(self) -> int:
        """Calls kept back for measuring a rollback."""
        budget = self._problem.budget
        if isinstance(self._localiser, Squares):
            return 0  # it ran on every query
        if isinstance(self._localiser, Pairs):
            return 0 if self._table_fills(self._localiser) else min(max(budget // 25, 8), LAST_NUMERIC)
        return min(max(budget // 8, 8), LAST)

    def _strongest(self, named: frozenset[int]) -> frozenset[int]:
        """The one of the named axes with most evidence: the rules must hold it; the others must earn their place in them."""
        log = np.zeros(self._problem.k) if self._localiser is None else self._localiser.log_evidence
        return frozenset({max(named, key=lambda a: float(log[a]))})

    def _explained(self, held: frozenset[int], among: frozenset[int] | None) -> Structure:
        if self._problem.k == 1 or self._localiser is None:
            return Structure((Rule((0,), "alone"),), (1.0,), 1.0)
        if isinstance(self._localiser, Flips):
            return self._localiser.structure()
        return self._localiser.structure(held, among)

    def _set_rollback(self, structure: Structure, left: int) -> None:
        full = self._problem.full
        flips = self._localiser.watched if isinstance(self._localiser, Flips) else 100
        margin = min(0.4 / math.sqrt(max(flips, 1)), 0.19)
        forbidden = frozenset(full ^ c for c in self._infeasible)
        back = smallest_rollback(structure, self._problem.k, forbidden=forbidden, margin=margin)
        if (
            isinstance(self._localiser, Pairs)
            and structure.belief < SURE
            and sum(1 << a for a in structure.axes) not in forbidden
        ):
            back = structure.axes  # whichever rules over them hold
        self._base_first = self._base.heard < 1.2 * self._failed.get(sum(1 << a for a in back), 0)
        if not back or self._base_first:
            return
        self._structure = structure
        cell = full ^ sum(1 << a for a in back)
        again = 1 + (full ^ cell in self._failed)
        whole = isinstance(self._localiser, Squares)
        queries = self._base.sample().queries if whole else self._base.subsample(left, again)
        self._measured = Measurement(back, cell, queries)
        if left < FEWEST and isinstance(self._localiser, Pairs) and self._table_fills(self._localiser):
            self._measured = Measurement(back, cell, queries[:0], table=self._table())
        elif cell:
            wanted = [Trial(int(q), cell) for q in self._measured.queries]
            self._to_measure = [] if whole else [t for t in wanted if (t.query, t.cell) not in self._scores][:left]

    def _judge_measured(self, left: int) -> None:
        """Settled when the rollback restores enough and shares are measured; else another rollback, or back to searching."""
        assert self._measured is not None
        assert self._structure is not None
        if self._shares is None:
            self._measured = self._measured.with_scores(self._scores)
            if not self._measured.restores_enough(self._sample()):
                self._failed[self._problem.full ^ self._measured.cell] = self._base.heard
                self._structure, self._measured = None, None
                return
            self._shares = {} if self._table() else self._share_measurements(self._structure, self._measured, left)
            found = [Trial(int(q), m.cell) for m in self._shares.values() for q in m.queries]
            self._to_measure = [t for t in dict.fromkeys(found) if (t.query, t.cell) not in self._scores and t.cell]
        if not self._to_measure:
            self._shares = {rule: m.with_scores(self._scores) for rule, m in self._shares.items()}
            self._settled = "cause"

    def _share_measurements(self, structure: Structure, measured: Measurement, left: int) -> dict[Rule, Measurement]:
        """Where to measure what each of several causes costs: its own reversion, on the queries of the rollback."""
        full, queries = self._problem.full, measured.queries
        chosen = {}
        for rule in structure.rules if len(structure.rules) > 1 else ():
            back = structure.undone(rule, measured.back)
            cell = full ^ sum(1 << a for a in back)
            left -= len(queries)
            if cell not in self._infeasible and left >= 0:
                chosen[rule] = Measurement(back, cell, queries)
        return chosen

    def _evidence(self) -> float:
        """Log evidence of the strongest suspect."""
        if self._localiser is None or self._problem.k == 1:
            return 0.0
        return float(self._localiser.log_evidence.max())

    def _calls_in_all(self) -> int | None:
        goal, below = math.log(self._problem.k / self._problem.alpha), -self._base.sample().z(self._problem.tolerance)
        spent, bound = sum(self._asked.values()), loss_boundary(self._problem)
        return calls_to_settle(spent, evidence=self._evidence(), goal=goal, z_below=below, z_bound=bound)

    def _calls_needed(self) -> int | None:
        whole = self._calls_in_all()
        return None if whole is None else max(8, whole - sum(self._asked.values()))

    def _is_futile(self) -> bool:
        if sum(self._asked.values()) < LATE * self._problem.budget or self._named():
            return False
        below = -self._base.sample().z(self._problem.tolerance)
        return is_futile(self._problem.budget, needed=self._calls_in_all(), evidence=self._evidence(), z_below=below)


def _hardest_hit(queries: Ints, drops: Floats) -> Ints:
    """The half of the queries with the largest drops, largest first, when few queries carry the loss; else none."""
    if not len(drops) or abs(np.median(drops)) > 0.35 * abs(drops.mean()):
        return queries[:0]
    order = np.argsort(-drops, kind="stable")
    return queries[order[: math.ceil(len(order) / 2)]]
