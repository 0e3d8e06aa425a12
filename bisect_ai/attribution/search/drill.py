"""The drill-down: which changes inside the guilty axes cost quality, by the same search as over axes, one level down.

**Suspect** (`drill_suspects`). A few breaking queries are bisected along random orders of the changes, which takes about log2 m trials
each, and the changes that most of them turn on are suspects. With `FEW` changes or less all are.
**Prove** (`drill_proof`). The suspects, and the rest of the changes as one, are the axes of a net search: random queries, paired
differences, group-sequential tests. A change that shuffles answers, breaking some and mending others, is suspected often and named
never. The same search says how the named changes act, what share of the loss they have and what taking them back restores.

**Conflicts** (`drill_problem`). A set that the target refuses starts two bisections for the pair behind it; from then on no set has
the one change without the other. Refusals and failing calls never make a suspect.

**Why an adviser.** Proving m changes side by side takes a call a change and query; bisection finds the few to prove in calls that
grow with log m. By itself it has no error rate: where every change shuffles 2 % of the answers, half of what breaks turns on
innocents. Group testing (random halves, Dorfman 1943; noisy and adaptive: Scarlett 2019) has one, but spends its trials evenly on all
m changes; delta debugging (ddmin, Zeller and Hildebrandt 2002) needs a repeated oracle and a threshold that three equal culprits do
not have (`bench_drill.py --rivals`).

What it cannot do: a change is missed whose part of the breaking queries is small, or whose effect on single answers drowns in their
noise (numeric metrics with small effects), unless there are few changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.search.drill_problem import (
    DrillCause,
    DrillOutcome,
    DrillProblem,
    DrillResult,
    DrillTrial,
    Probe,
    Units,
)
from bisect_ai.attribution.search.drill_proof import Proof
from bisect_ai.attribution.search.drill_suspects import Stock, Suspects

FEW = 8  # changes (units) of which each is proved without being suspected first
ADVICE = 1 / 3  # of the budget: what the search for suspects may take
HOPELESS = 3  # conflicts found when no mixture ran at all: there are none to be had
MOST_CONFLICTS = 40  # each is found by bisection (`Probe`): chosen so that they take a small part of a usual budget


class DrillSearch:
    """`ask` and `tell` until `ask` has nothing more; then `result`."""

    def __init__(self, problem: DrillProblem, *, proves: bool = True) -> None:
        """`proves`: whether suspects are put to the proof once they are found, or only after `go_on`."""
        self._problem, self._proves = problem, proves
        self._rng = np.random.default_rng([problem.seed, 6])
        self._units = Units(problem.changes, problem.needs)
        self._stock = Stock(problem)
        self._suspects = Suspects(problem, self._stock, budget=int(ADVICE * problem.budget))
        self._proof: Proof | None = None
        self._begun: list[int] = []
        self._probe: Probe | None = None
        self._probed = 0
        # Whether a trial of the probe is under way.
        self._is_probing = False
        self._conflicts: list[tuple[int, int]] = []
        self._mixed = False
        self._spent = 0
        self._settled = ""

    # -- the conversation --------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[DrillTrial]:
        """The next trials, at most `width`; empty when settled or spent, or when what comes next rests on what is under way."""
        width = min(width, self._problem.budget - self._spent)
        if width <= 0 or self._units.count < 2 or self._settled:
            return []
        trials = self._round(width)
        self._spent += len(trials)
        return trials

    @property
    def decided(self) -> int:
        """Trials that were decided on and not asked for yet."""
        return 0 if self._proof is None else self._proof.decided

    def tell(self, outcomes: Sequence[DrillOutcome]) -> None:
        """What came back for trials that were asked for."""
        for o in outcomes:
            self._mixed = self._mixed or (o.status == "ok" and 0 < o.trial.changes < self._problem.full)
            self._look_for_conflict(o)
            if self._proof is None:
                failed = None if o.score is None or o.status != "ok" else self._stock.failed(o.trial, o.score)
                self._suspects.hear(o.trial, failed, infeasible=o.status == "infeasible")
        if self._proof is not None:
            self._proof.tell(outcomes)
        self._learn()

    def go_on(self, problem: DrillProblem) -> None:
        """Put the suspects to the proof, with what is known of the same changes by now; until then they are only looked for."""
        self._problem, self._proves = problem, True
        self._stock.learn(problem)

    def result(self) -> DrillResult:
        """What the evidence so far says."""
        if self._units.count == 1:
            alone = self._problem.changes == 1
            method = "the only change in the guilty axes" if alone else "all changes of the guilty axes, not told apart"
            reason = "the guilty axes have this change only" if alone else "no part of these changes runs without the others"
            cause = DrillCause(
                tuple(range(self._problem.changes)), "alone", Estimate(1.0, None, 0, method), 0.0, self._problem.breaking[:3]
            )
            return DrillResult("found", (cause,), reason, self._spent)
        if self._settled:
            kind, reason = REASONS[self._settled]
            is_spread = self._settled == "scattered"
            return DrillResult(kind, (), reason, self._spent, is_spread=is_spread)  # type: ignore[arg-type]  # one of the three
        if self._proof is None:
            reason = "the budget or the queries were spent before any change was proved"
            return DrillResult("inconclusive", (), reason, self._spent)
        return self._proof.result(self._spent)

    # -- rounds ------------------------------------------------------------------------------------------------------
    def _round(self, width: int) -> list[DrillTrial]:
        if self._is_probing:
            return []
        if self._probe is not None:
            self._is_probing = True
            return [DrillTrial(self._probed, self._units.mask(self._probe.units()))]
        if self._proof is None:
            suspects = list(range(self._units.count))
            if self._units.count > FEW:
                # Until they are proved the axes find more that broke.
                trials = self._suspects.ask(self._units, width, recruits=self._proves)
                if trials or self._suspects.waiting:
                    return trials
                suspects = self._suspects.found()
            if not self._proves:
                return []
            if not suspects:
                self._settled = self._why_none()
                return []
            self._proof = self._proof_of(suspects)
        return self._proof.ask(width)

    def _proof_of(self, suspects: Sequence[int]) -> Proof:
        """A proof on the queries that no earlier one has begun."""
        begun = set(self._begun)
        fresh, used = ([q for q in queries if q not in begun] for queries in (self._stock.untouched, self._problem.used))
        left = self._problem.budget - self._spent
        return Proof(self._problem, self._units, suspects, fresh=fresh, used=used, budget=left)

    def _why_none(self) -> str:
        if not self._suspects.looked:
            return "spent"
        return "scattered" if self._suspects.breaks_some else "nothing"

    # -- sets that cannot run ----------------------------------------------------------------------------------------
    def _look_for_conflict(self, o: DrillOutcome) -> None:
        """Starts or goes on with the search for what made a set impossible."""
        if self._probe is None:
            units = self._units.inside(o.trial.changes)
            worth = self._proof is None or self._proof.reverts_one(o.trial.changes)
            mixed = 0 < len(units) < self._units.count and self._units.mask(units) == o.trial.changes
            mixed = mixed and self._units.closed(set(units))  # a conflict found since it was asked for says why it cannot run
            if o.status == "infeasible" and worth and mixed and len(self._conflicts) < MOST_CONFLICTS:
                order = self._units.shuffled(np.arange(self._units.count), self._rng)
                self._probe, self._probed = Probe(units, order.tolist()), o.trial.query
        elif o.trial.query == self._probed and o.trial.changes == self._units.mask(self._probe.units()):
            self._is_probing = False
            if o.status == "error":
                self._probe = None
            else:
                self._probe.hear(ran=o.status != "infeasible")

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
        self._suspects.rename(old, self._units)
        if self._proof is not None:
            self._begun += self._proof.begun
            self._proof = None


# Why a drill-down ended before anything was put to the proof.
REASONS = {
    "nothing": ("no_single_change", "no change in the guilty axes breaks a share of the queries that matters"),
    "scattered": ("no_single_change", "different queries turn on different changes; none breaks a share that matters"),
    "unmixable": (
        "inconclusive",
        "mixtures of the two releases inside the guilty axes cannot run, so nothing can be told apart there",
    ),
    "spent": ("inconclusive", "the budget or the queries were spent before any change was suspected"),
}
