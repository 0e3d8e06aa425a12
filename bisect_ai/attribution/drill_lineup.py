"""The suspected changes side by side: which sets of them to try on which query, what the answers say, and the evidence on each.

Every suspect is an axis of its own; all other changes form one more axis, `rest`, which is good, bad, or bad in a random half. The
response classes of `response` are fitted to every trial so far and advise; the state of each suspect in a trial is then
drawn from a known distribution that may depend on all that was seen before, and on the other changes. So given the others it
is a coin of known bias, and "this change has no effect" is tested by betting on it (see `betting`): whatever the model, the noise,
the queries, the way the suspect was found and the time to stop, its wealth ever passes e with a chance of at most 1/e (Ville 1939).
The j-th suspect must pass j (j + 1) / alpha; bets start when it is suspected, so all suspects together share alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bisect_ai.attribution.betting import STAKES
from bisect_ai.attribution.naming import Mixture, likelihoods, prices
from bisect_ai.attribution.problem import Floats, Ints
from bisect_ai.attribution.response import PLAIN, Classes, Responses, classes_of

UNIFORM = 0.15  # part of every cell distribution that is spread evenly
NONE, ALL, SOME = range(3)  # states of the rest
MOST_RULES = 5


def drill_classes(k: int) -> Classes:
    """The classes of k suspects and the rest; cells are (state of the rest) * 2^k + suspects."""
    classes = classes_of(k + 1)
    state = classes.state
    half = 1 << k
    some = (state[:, :half] + state[:, half:]) / 2
    state = np.hstack([state, some])
    hits = np.hstack([classes.hits, (classes.hits[:, :half] + classes.hits[:, half:]) / 2])
    return replace(classes, hits=hits, state=state, decided=np.abs(2 * state - 1))


Coin = tuple[int, frozenset[int]]
"""A query, and the two sets of changes (masks) between which one change decides."""


class Bet(NamedTuple):
    """A stake on one suspect's coin in one trial; the e-values should the trial fail, or pass.

    Where the same coin is tossed again on the same query the weights of its tosses add up to 1 at most: an answer that repeats itself
    says once what it has to say, however often it is asked for.
    """

    unit: int
    coin: Coin
    weight: float
    fails: float
    passes: float


class Lineup:
    """The fitted model over the suspects (units), and the wealth of the bets on each."""

    def __init__(self, alpha: float, noise: float) -> None:
        self.suspects: list[int] = []
        self._alpha, self._noise = alpha, noise
        self._logs: dict[int, Floats] = {}
        self._price: dict[int, float] = {}
        self._lost = 0
        self._won: dict[Coin, Floats] = {}
        self.model = self._fresh_model(0)

    @property
    def k(self) -> int:
        """How many suspects there are."""
        return len(self.suspects)

    def suspect(self, unit: int) -> None:
        """The unit joins; its place in the line of all suspects there ever were prices its evidence."""
        self.suspects.append(unit)
        if unit not in self._logs:
            place = self.entered + 1
            self._logs[unit] = np.zeros(len(STAKES))
            self._price[unit] = float(np.log(place * (place + 1) / self._alpha))

    def rename(self, kept: dict[int, int]) -> None:
        """Units have other numbers now; those that are not in `kept` are no units any more, but count among the suspects."""
        self._lost += sum(u not in kept for u in self._logs)
        self.suspects = [kept[u] for u in self.suspects if u in kept]
        self._logs = {kept[u]: logs for u, logs in self._logs.items() if u in kept}
        self._price = {kept[u]: price for u, price in self._price.items() if u in kept}

    def drop(self, unit: int) -> None:
        """The unit goes back to the rest; its evidence is kept."""
        self.suspects.remove(unit)

    @property
    def entered(self) -> int:
        """How many suspects there ever were."""
        return len(self._logs) + self._lost

    def _fresh_model(self, rows: int) -> Responses:
        model = Responses(self.k + 1)
        model.classes = drill_classes(self.k)
        model.noise = self._noise
        model.watch(rows)
        return model

    def refit(self, rows: int, of: Ints, cells: Ints, failed: Ints) -> None:
        """Fits the model to all trials (t,): query rows `of`, `cells`, and whether they `failed`."""
        self._noise = self.model.noise
        kept = self.model.weights if len(self.model.weights) == len(drill_classes(self.k).state) else None
        self.model = self._fresh_model(rows)
        if kept is not None:
            self.model.weights = kept
        if len(of):
            self.model.hear(of, cells, 1 - failed)
        self.model.refit(4)

    # -- cells -------------------------------------------------------------------------------------------------------
    def chances(self, passes: Floats, posterior: Floats, free: Floats, *, again: float) -> tuple[Floats, Floats]:
        """The distribution over cells for each row, and the nats that a trial drawn from it should add.

        `again`: what a nat of evidence on a suspect that is proven already is worth.
        """
        score = np.maximum(_entropy(passes) - self.model.unexplained(posterior), 0.0)
        cells = np.arange(passes.shape[1])
        for i, unit in enumerate(self.suspects):
            other = cells ^ (1 << i)
            step, middle = (passes - passes[:, other]) / 2, (passes + passes[:, other]) / 2
            gain = step**2 / (2 * middle * (1 - middle)) * free[:, other]
            score += (again if self.proven(unit) else 1.0) * gain
        score = score * free
        total = score.sum(1, keepdims=True)
        even = free / np.maximum(free.sum(1, keepdims=True), 1.0)
        chances = np.where(total > 1e-9, (1 - UNIFORM) * score / np.maximum(total, 1e-9) + UNIFORM * even, even)
        return chances, (chances * score).sum(1)

    def bets(self, passes: Floats, chances: Floats, cell: int) -> list[tuple[int, float, float]]:
        """For each suspect whose coin had two sides: its place, and the e-values should the trial in `cell` fail, or pass."""
        found = []
        for i in range(self.k):
            other = cell ^ (1 << i)
            if chances[other] <= 0:
                continue
            here, there = chances[cell], chances[other]
            sides = []
            for p in (1.0 - passes, passes):
                sides.append(float(p[cell] * (here + there) / (here * p[cell] + there * p[other])))
            found.append((i, sides[0], sides[1]))
        return found

    def pay(self, bets: Sequence[Bet], passed: bool | None) -> None:
        """Settles the bets of one trial. Without an outcome (None) each loses as much as it could have.

        Whether an answer comes at all may depend on the coin (a change that makes calls time out). Paid the smaller of both
        sides, a bet on a change without effect on scores still gains nothing on average: no failing call is evidence.
        """
        for bet in bets:
            ratio = max(min(bet.fails, bet.passes) if passed is None else bet.passes if passed else bet.fails, 1e-5)
            had = self._won.get(bet.coin, np.ones(len(STAKES)))
            has = np.maximum(had + bet.weight * STAKES * (ratio - 1.0), 1e-9)
            self._won[bet.coin] = has
            self._logs[bet.unit] = self._logs[bet.unit] + np.log(has / had)

    def log_wealth(self, unit: int) -> float:
        """The log wealth of the average gambler on the unit."""
        logs = self._logs[unit]
        return float(logs.max() + np.log(np.exp(logs - logs.max()).mean()))

    def p_adjusted(self, unit: int) -> float:
        """The unit's part of the error budget that its evidence would have needed, as a chance for the whole family."""
        return float(np.exp(min(self._price[unit] + np.log(self._alpha) - self.log_wealth(unit), 0.0)))

    def proven(self, unit: int) -> bool:
        """Whether the unit is shown to have an effect, within the shared error budget."""
        return self.log_wealth(unit) >= self._price[unit]

    # -- explanation -------------------------------------------------------------------------------------------------
    def mixture(self) -> tuple[Mixture, Floats, Floats]:
        """The scores of sets of rules; and the likelihoods (rows, 3) of plain classes and (rows, rules) of rules."""
        rules = self.model.classes.rules
        like = self.model.log_like()[self.model.trials > 0]
        full, half = like[:, PLAIN : PLAIN + len(rules)], like[:, PLAIN + len(rules) :]
        part = self.model.halfway
        merged = np.logaddexp(full + np.log(1 - part), half + np.log(part))
        simple = np.array([len(r.axes) <= 2 for r in rules])
        price = prices(rules, max(len(like), 2))
        return Mixture(like[:, :PLAIN], merged, price, simple), like[:, :PLAIN], merged

    def explain(self, *, rest: bool) -> tuple[tuple[int, ...], Floats]:
        """The best set of rules (numbers), and the weights (3 + rules,) of the plain classes and of them.

        Without a `rest`, when every change is a suspect, no rule has a part in it.
        """
        mixture, _, _ = self.mixture()
        usable = [i for i, rule in enumerate(self.model.classes.rules) if rest or self.k not in rule.axes]
        best: tuple[int, ...] = ()
        top, weights, _ = _best_of(mixture, [best])
        while True:
            score, fitted, found = _best_of(mixture, _neighbours(best, usable))
            if score <= top + 1e-9:
                return best, weights
            top, weights, best = score, fitted, found

    def doubt(self, best: tuple[int, ...], weights: Floats, share: float) -> float:
        """Log likelihood ratio of "`share` of what breaks is the rest's doing": negative speaks against it."""
        _, plain, merged = self.mixture()
        of_plain, of_rules = likelihoods(plain, merged)
        harm = of_rules[:, list(best)] @ weights[PLAIN:]
        now = of_plain @ weights[:PLAIN] + harm
        size = share * (float(weights[PLAIN:].sum()) if best else 0.75)
        worst = -np.inf
        for number, rule in enumerate(self.model.classes.rules):
            if self.k not in rule.axes or len(rule.axes) > 2 or number in best:
                continue
            other = of_rules[:, number]
            moved = now + size * (other - harm / max(weights[PLAIN:].sum(), 1e-9)) if best else (1 - size) * now + size * other
            worst = max(worst, float(np.log(np.maximum(moved, 1e-300) / now).sum()))
        return worst


def _best_of(mixture: Mixture, sets: list[tuple[int, ...]]) -> tuple[float, Floats, tuple[int, ...]]:
    """The best of some sets of rules: its score, its weights and itself."""
    best: tuple[float, Floats, tuple[int, ...]] = (-np.inf, np.zeros(0), ())
    for size in sorted({len(s) for s in sets}):
        alike = [s for s in sets if len(s) == size]
        scores, weights = mixture.scores(np.array(alike, dtype=int).reshape(len(alike), size))
        top = int(np.argmax(scores))
        if scores[top] > best[0]:
            best = float(scores[top]), weights[top], alike[top]
    return best


def _neighbours(chosen: tuple[int, ...], usable: Sequence[int]) -> list[tuple[int, ...]]:
    others = [i for i in usable if i not in chosen]
    sets = [(*chosen, i) for i in others] if len(chosen) < MOST_RULES else []
    for gone in chosen:
        rest = tuple(i for i in chosen if i != gone)
        sets += [rest, *((*rest, i) for i in others)]
    return sets


def _entropy(p: Floats) -> Floats:
    return np.asarray(-p * np.log(p) - (1 - p) * np.log1p(-p))
