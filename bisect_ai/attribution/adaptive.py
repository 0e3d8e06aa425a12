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

**Measure** (`confirming`, `estimate`). The smallest rollback that should restore 80 % runs in its own cell on a random part of
every stratum of the base sample, by a lot drawn before the first trial (double sampling for stratification: Neyman 1938;
Cochran 1977, ch. 12). Its interval, like those of the loss, holds for the queries of the log. A rollback that measurably
restores less is not accepted. Where calls are spent on a numeric metric and chance has filled every cell of up to four axes,
their table says what the rollback restores. The belief in all rules that a rollback would undo is its trust: with too little at the
end of the budget nothing is said; with little more, all axes of the rules or even all that are named are reverted.
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

import numpy as np

from bisect_ai.attribution.confirming import Confirmation
from bisect_ai.attribution.evidence import Evidence, Kind
from bisect_ai.attribution.flips import Flips
from bisect_ai.attribution.outlook import calls_to_settle, is_futile
from bisect_ai.attribution.pairs import Pairs
from bisect_ai.attribution.problem import Attribution, Belief, Outcome, Problem, Trial
from bisect_ai.attribution.settle import attribution, loss_boundary, loss_sequence
from bisect_ai.attribution.squares import Squares

CORNERS = 1 / 9  # numeric metrics: the part of the trials that should be in good and bad
LATE = 0.6  # of the budget: from here on the search asks itself whether going on is worth it


class AdaptiveSearch:
    """`ask` and `tell` until `ask` has nothing more; then `result`."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._rng = np.random.default_rng([problem.seed, 3])
        self._evidence = Evidence(problem)
        self._confirmation = Confirmation(self._evidence)
        self._asked: dict[Kind, int] = {"base": 0, "inner": 0, "rollback": 0}
        self._out: dict[Trial, Kind] = {}
        self._settled: str | None = None
        self._all_in = False
        self._base_first = False
        self._deepen = False

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round, at most about `width` trials; empty when settled or spent."""
        left = self._problem.budget - self._spent
        trials: dict[Trial, Kind] = {}
        if self._settled is None:
            trials = self._round(min(max(width, 2), left), left)
            if not trials and self._settled is None and not self._out:
                self._settled = "spent" if left < 2 else "exhausted"
        self._out |= trials
        for kind, count in Counter(trials.values()).items():
            self._asked[kind] += count
        return list(trials)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back for trials that were asked for."""
        self._evidence.hear(outcomes, self._out)

    def belief(self) -> Belief:
        """What the search believes now; the loss interval holds at every look."""
        localiser = self._evidence.localiser
        stage = "reproduce" if localiser is None else "localise"
        stage = "confirm" if self._confirmation.measured is not None or self._confirmation.waits else stage
        harm, costs = {}, {}
        if localiser is not None:
            costs = dict(zip(self._problem.axes, localiser.costs.estimates(), strict=True))
            log = localiser.log_evidence
            harm = {name: float(np.clip(log[i] / self._goal, 0, 1)) for i, name in enumerate(self._problem.axes)}
        return Belief(stage, loss_sequence(self._evidence.base.sample()), harm, costs)

    def result(self) -> Attribution:
        """The attribution as of now."""
        evidence, confirmation = self._evidence, self._confirmation
        return attribution(
            self._problem,
            evidence.sample(),
            settled=self._settled or "stopped",
            structure=confirmation.structure,
            measured=confirmation.measured,
            shares=confirmation.shares or {},
            table=evidence.table(),
            suspicion=evidence.localiser.suspicion() if evidence.localiser else [],
            needed=self._calls_needed(),
            cells=(evidence.runs, evidence.errors, frozenset(evidence.infeasible)),
        )

    # -- rounds ----------------------------------------------------------------------------------------------------
    def _round(self, width: int, left: int) -> dict[Trial, Kind]:
        """The next trials, each with what it is for."""
        evidence, confirmation = self._evidence, self._confirmation
        if {0, self._problem.full} & evidence.infeasible:
            self._settled = "corner"
            return {}
        if evidence.base.asked < evidence.start:
            return self._ask_base(width)
        if self._is_out("rollback") and not confirmation.waits:
            return {}
        evidence.recruit()
        if confirmation.structure is None:
            self._settled = "no_regression" if evidence.shows_no_loss() else "futile" if self._is_futile() else None
        if confirmation.structure is not None and not confirmation.waits:
            self._judge_measured(left)
        if confirmation.structure is None and self._settled is None:
            self._confirm(left)
            if confirmation.structure is not None and not confirmation.waits:  # all of it ran before
                self._judge_measured(left)
        if self._settled is not None:
            return {}
        if confirmation.waits:
            return dict.fromkeys(confirmation.take(width), "rollback")
        return self._localise(width, left)

    def _is_out(self, *kinds: Kind) -> bool:
        """Whether trials of such kinds were asked for and have not been heard of."""
        return any(kind in kinds for kind in self._out.values())

    def _localise(self, width: int, left: int) -> dict[Trial, Kind]:
        localiser = self._evidence.localiser
        kept = 0 if isinstance(localiser, Flips) and not self._evidence.named() else self._confirmation.reserve
        rest = left - kept if left > kept + 1 else left
        width = min(width, max(rest, 0))
        trials: dict[Trial, Kind] = {}
        if localiser is not None and self._problem.k > 1:
            allowed = self._inner_allowed(width)
            if isinstance(localiser, Pairs) and localiser.waiting < allowed:
                self._supply(localiser, allowed)
            trials = dict.fromkeys(localiser.plan(allowed, self._rng), "inner")
        trials |= self._ask_base(width - len(trials))
        if not trials and localiser is not None and self._problem.k > 1:
            trials = dict.fromkeys(localiser.plan(width, self._rng), "inner")
        return trials

    def _inner_allowed(self, width: int) -> int:
        """How many of the next trials may go to inner cells, the base sample having its share."""
        if self._evidence.base.exhausted or isinstance(self._evidence.localiser, Squares):
            return width
        short = self._inner_per_base() * self._asked["base"] - self._asked["inner"]
        return 0 if self._base_first else min(width, max(0, round(short)))

    def _supply(self, pairs: Pairs, trials: int) -> None:
        """Queries that have not been run; when there are none left, all those that have, in every cell."""
        base = self._evidence.base
        if self._deepen:
            pairs.again(math.ceil((trials - pairs.waiting) / 2))
        fresh = base.set_aside(math.ceil((trials - pairs.waiting) / 2))
        if len(fresh):
            pairs.watch(fresh, pairs=min(2, self._problem.k - 1), ran=False)
        elif not self._all_in and pairs.waiting < trials:
            self._all_in = True
            pairs.watch(base.aside, pairs=1 << self._problem.k, ran=False)
            pairs.watch(base.complete(0)[0], pairs=1 << self._problem.k, ran=True)

    def _inner_per_base(self) -> float:
        """Trials in inner cells for each of the base sample; one pair in 2^(k-1) is a base pair by itself."""
        if isinstance(self._evidence.localiser, Pairs):
            base = max(CORNERS - 2.0 ** (1 - self._problem.k), 0.0)
            return (1 - base) / base if base else 1e9
        return 1.2

    def _ask_base(self, width: int) -> dict[Trial, Kind]:
        return dict.fromkeys(self._evidence.base.ask(width // 2), "base")

    # -- decisions -------------------------------------------------------------------------------------------------
    def _confirm(self, left: int) -> None:
        """When the evidence is in, fixes the structure and what to measure."""
        evidence = self._evidence
        last = left <= self._confirmation.reserve + 2
        if last and self._is_out("base", "inner"):
            return
        if evidence.localiser is not None and last:
            evidence.localiser.last_look()
        named = evidence.named()
        if not named:
            return
        self._deepen = True
        spent = 1 - left / self._problem.budget
        structure = evidence.explained(named)
        if last and isinstance(evidence.localiser, Pairs):
            structure = structure.among(named)
        demands = evidence.demands
        if not (demands.explains_enough(structure, named) if last else demands.explains_all(structure, named, spent)):
            return
        self._base_first = not evidence.is_loss_likely(structure, 0.9 if spent < 0.5 else 0.7 if spent < 0.8 else 0.5)
        if not self._base_first:
            self._base_first = self._confirmation.choose(structure.only(named), left)

    def _judge_measured(self, left: int) -> None:
        """Settled when the rollback restores enough and shares are measured; else more is measured, or the search goes on."""
        if self._confirmation.judge(left):
            self._settled = "cause"

    @property
    def _spent(self) -> int:
        """Trials asked for."""
        return sum(self._asked.values())

    @property
    def _goal(self) -> float:
        """Log evidence that names the first axis."""
        return math.log(self._problem.k / self._problem.alpha)

    def _calls_in_all(self) -> int | None:
        evidence, bound = float(self._evidence.log().max()), loss_boundary(self._problem)
        return calls_to_settle(self._spent, evidence=evidence, goal=self._goal, z_below=self._evidence.below(), z_bound=bound)

    def _calls_needed(self) -> int | None:
        whole = self._calls_in_all()
        return None if whole is None else max(8, whole - self._spent)

    def _is_futile(self) -> bool:
        evidence = self._evidence
        if self._spent < LATE * self._problem.budget or evidence.named():
            return False
        strongest = float(evidence.log().max())
        return is_futile(self._problem.budget, needed=self._calls_in_all(), evidence=strongest, z_below=evidence.below())
