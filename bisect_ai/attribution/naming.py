"""Which few rules explain the queries, how sure that is, and which smallest rollback would undo them.

Rules are added and exchanged one at a time while the likelihood of the mixture pays for their description length (a BIC with a
prior that favours fewer axes). The belief in the result is its posterior share among all its neighbours: one rule
more, one less, one exchanged. The belief only says when to stop looking; an axis is named on the evidence of its own bets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.problem import RESTORED, Floats, Ints
from bisect_ai.attribution.response import PLAIN, Responses, Rule

MOST_RULES = 3
UNSEEN = 0.25
UNLIKELY = 1e-3
EM_STEPS = 10
LEAST = -500.0


@dataclass(frozen=True)
class Structure:
    """Rules with their weights (shares of the examined queries), and the belief that it is these rules and no others."""

    rules: tuple[Rule, ...]
    weights: tuple[float, ...]
    belief: float
    doubt: float = -np.inf
    """Log likelihood ratio for a further rule with a share of UNSEEN of the loss: negative speaks against any such."""
    rivals: tuple[Structure, ...] = ()
    """These rules and others that explain the scores nearly as well, each with its belief."""

    @property
    def axes(self) -> frozenset[int]:
        """The axes of all rules."""
        return frozenset(a for rule in self.rules for a in rule.axes)

    def left(self, back: tuple[int, ...]) -> float:
        """The share of what the rules cost that stays when the axes `back` are reverted."""
        cell = sum(1 << a for a in self.axes if a not in back)
        lost = sum(w for r, w in zip(self.rules, self.weights, strict=True) if r.breaks(cell))
        return lost / (sum(self.weights) or 1.0)

    def undone(self, rule: Rule, back: frozenset[int]) -> frozenset[int]:
        """Axes whose reversion undoes `rule`: all of an `either`, else one, of `back` or in no other rule where there is such."""
        if rule.mode == "either":
            return frozenset(rule.axes)
        others = frozenset(a for r in self.rules if r != rule for a in r.axes)
        return frozenset({min(rule.axes, key=lambda a: (a in others, a not in back, a))})

    def only(self, axes: frozenset[int]) -> Structure:
        """The rules all of whose axes are among `axes`."""
        kept = [(r, w) for r, w in zip(self.rules, self.weights, strict=True) if axes.issuperset(r.axes)]
        return replace(self, rules=tuple(r for r, _ in kept), weights=tuple(w for _, w in kept))

    def among(self, axes: frozenset[int]) -> Structure:
        """The most believed of these rules and their rivals that are about no other axes; no rules when there is none."""
        known = [r for r in self.rivals if axes.issuperset(r.axes)]
        best = max(known, key=lambda r: r.belief, default=Structure((), (), 0.0))
        return replace(best, doubt=self.doubt, rivals=self.rivals)

    def trust(self, back: frozenset[int]) -> float:
        """The belief that reverting the axes `back` undoes what a rollback must, whichever of the rivals holds."""
        return sum(r.belief for r in self.rivals if r.rules and r.left(tuple(back)) <= 1 - RESTORED + 1e-9)


def prices(rules: tuple[Rule, ...], queries: int) -> Floats:
    """(rules,) what a rule must gain in log likelihood: half a log n for its weight, and the choice among its like."""
    size = np.array([len(r.axes) for r in rules])
    alike = np.array([(size == s).sum() for s in range(size.max() + 1)])
    return np.asarray(0.5 * np.log(max(queries, 2)) + np.log(alike[size]) + 0.7 * (size - 1) + 1.7)


def likelihoods(plain: Floats, rules: Floats) -> tuple[Floats, Floats]:
    """Both log likelihoods (rows, …) as parts of the largest in their row.

    None is so small that a mixture of a few is 0: an answer that never varies can speak a thousand nats against a rule.
    """
    top = np.maximum(plain.max(1), rules.max(1))[:, None]
    return np.exp(np.maximum(plain - top, LEAST)), np.exp(np.maximum(rules - top, LEAST))


class RuleScores(Protocol):
    """How well sets of rules explain what was seen."""

    def scores(self, sets: Ints) -> tuple[Floats, Floats]:
        """Scores (m,) of m sets of s rules each, and weights whose last s columns are those of the rules."""

    def doubt(self, chosen: tuple[int, ...], weights: Floats) -> float:
        """Log likelihood ratio for a further rule with a share of UNSEEN of the loss."""


class Mixture:
    """The score of sets of rules: log likelihood of the queries under a mixture of plain classes and rules, less prices."""

    def __init__(self, plain: Floats, rules: Floats, price: Floats, simple: NDArray[np.bool_]) -> None:
        self._plain, self._rules = likelihoods(plain, rules)
        self._price, self._simple = price, simple

    def scores(self, sets: Ints) -> tuple[Floats, Floats]:
        """Scores (m,) of m sets of s rules each, and the weights (m, 3 + s) of the plain classes and the rules."""
        m = len(sets)
        plain = np.broadcast_to(self._plain, (m, *self._plain.shape))
        parts = np.concatenate([plain, self._rules[:, sets].transpose(1, 0, 2)], axis=2)
        turned = parts.transpose(0, 2, 1) / parts.shape[1]
        weights = np.full((m, parts.shape[2], 1), 1.0 / parts.shape[2])
        for _ in range(EM_STEPS):
            weights = weights * (turned @ (1.0 / (parts @ weights))) + 1e-4
            weights /= weights.sum(1, keepdims=True)
        like = np.log(parts @ weights).sum((1, 2))
        return like - self._price[sets].sum(1), weights[:, :, 0]

    def doubt(self, chosen: tuple[int, ...], weights: Floats) -> float:
        """The largest log likelihood ratio of "UNSEEN of what the chosen rules explain is another simple rule's doing"."""
        harm = self._rules[:, list(chosen)] @ weights[len(weights) - len(chosen) :]
        now = self._plain @ weights[: len(weights) - len(chosen)] + harm
        others = self._simple & ~np.isin(np.arange(len(self._simple)), chosen)
        other = self._rules[:, others] * weights[len(weights) - len(chosen) :].sum()
        moved = now[:, None] + UNSEEN * (other - harm[:, None])
        return float(np.log(moved / now[:, None]).sum(0).max(initial=-np.inf))


def explain(evidence: RuleScores, rules: tuple[Rule, ...], start: tuple[Rule, ...] = ()) -> Structure:
    """The best set of rules found from `start` by steps up, down and sideways, and the belief in it."""
    best = tuple(rules.index(r) for r in start)
    while True:
        sets = list(_neighbours(best, rules))
        scores, weights = _scored(evidence, [best, *sets])
        top = int(np.argmax(scores))
        if top == 0 or scores[top] <= scores[0] + 1e-9:
            break
        best = sets[top - 1]
    beliefs = np.exp(np.minimum(scores - scores[0], 50))
    beliefs /= beliefs.sum()
    every = [best, *sets]

    def structure(i: int) -> Structure:
        parts = weights[i][len(weights[i]) - len(every[i]) :]
        return Structure(tuple(rules[j] for j in every[i]), tuple(parts.tolist()), float(beliefs[i]))

    rivals = tuple(structure(i) for i in np.flatnonzero(beliefs > UNLIKELY).tolist())
    return replace(structure(0), doubt=evidence.doubt(best, weights[0]) if best else np.inf, rivals=rivals)


def explain_responses(model: Responses, start: tuple[Rule, ...] = ()) -> Structure:
    """The rules that explain the queries tried so far; those that break always and half of the time count as one."""
    rules = model.classes.rules
    like = model.log_like()[model.trials > 0]
    full, half = like[:, PLAIN : PLAIN + len(rules)], like[:, PLAIN + len(rules) :]
    merged = np.logaddexp(full + np.log(1 - model.halfway), half + np.log(model.halfway))
    most = 1 if model.classes.state.shape[1] == 4 else 2  # of two axes, both rules of two are the neighbours that belief counts
    simple = np.array([len(r.axes) <= most for r in rules])
    return explain(Mixture(like[:, :PLAIN], merged, prices(rules, len(like)), simple), rules, start)


def smallest_rollback(
    structure: Structure, k: int, *, forbidden: frozenset[int] = frozenset(), margin: float = 0.0
) -> frozenset[int]:
    """The fewest axes whose reversion undoes at least 80 % of what the rules cost, none of `forbidden` (sets as masks).

    A set that leaves anything undone must clear the 80 % by `margin`, the uncertainty of the shares. An innocent axis goes
    along only when no set of guilty ones is allowed.
    """
    guilty = sorted(structure.axes)
    innocent = [a for a in range(k) if a not in structure.axes]
    for extra in range(len(innocent) + 1):
        for size in range(1, len(guilty) + 1):
            found = [
                (structure.left(back), back + more)
                for back in itertools.combinations(guilty, size)
                for more in itertools.combinations(innocent, extra)
                if sum(1 << a for a in back + more) not in forbidden
            ]
            enough = [(left, back) for left, back in found if left <= max(1 - RESTORED - margin, 1e-12)]
            if enough:
                return frozenset(min(enough)[1])
    return frozenset()


def _neighbours(chosen: tuple[int, ...], rules: tuple[Rule, ...]) -> Iterable[tuple[int, ...]]:
    """Sets with one rule more, less or exchanged; and both rules of two axes exchanged for these alone, which can mean the same."""
    others = [i for i in range(len(rules)) if i not in chosen]
    for one, two in itertools.combinations(chosen, 2):
        if rules[one].axes == rules[two].axes and len(rules[one].axes) == 2:
            alone = [rules.index(Rule((a,), "alone")) for a in rules[one].axes]
            yield tuple(dict.fromkeys([*(i for i in chosen if i not in (one, two)), *alone]))
    if len(chosen) < MOST_RULES:
        yield from ((*chosen, i) for i in others)
    for gone in chosen:
        rest = tuple(i for i in chosen if i != gone)
        yield rest
        yield from ((*rest, i) for i in others)


def _scored(evidence: RuleScores, sets: list[tuple[int, ...]]) -> tuple[Floats, list[Floats]]:
    scores, weights = np.zeros(len(sets)), [np.zeros(0)] * len(sets)
    for size in {len(s) for s in sets}:
        where = [i for i, s in enumerate(sets) if len(s) == size]
        found, fitted = evidence.scores(np.array([sets[i] for i in where], dtype=int).reshape(len(where), size))
        scores[where] = found
        for i, w in zip(where, fitted, strict=True):
            weights[i] = w
    return scores, weights


def names(chosen: Iterable[int], axes: tuple[str, ...]) -> tuple[str, ...]:
    """The names of axes given by number, in the order of the problem."""
    return tuple(axes[i] for i in sorted(chosen))
