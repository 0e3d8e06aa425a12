"""Where pass/fail metrics lose: the queries that passed under good and failed under bad, tried in chosen cells.

Which query and which distribution over cells may depend on everything seen so far; the cell itself is then drawn by chance
from that known distribution, which is what the bets of `betting` need. Cells are weighted by how much a trial there should
add: to the evidence on the axes (the information between the coin of each axis and the answer), and to the knowledge of
the query's class. No query is tried in the same cell twice, so answers that repeat themselves cannot pose as evidence.
"""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.betting import Wealth, holm, ratios
from bisect_ai.attribution.costs import Costs, coin_terms
from bisect_ai.attribution.naming import Structure, explain_responses
from bisect_ai.attribution.problem import Floats, Ints, Trial
from bisect_ai.attribution.response import Responses

UNIFORM = 0.15  # part of every cell distribution that is spread evenly, so that surprises can show
AGAIN = 3  # trials of one query in one round, the most
WORTH = 0.02  # nats; a trial expected to add less is not asked for


class Flips:
    """The evidence from queries that flip. `watch` queries, then `plan` trials and let it `hear` the outcomes."""

    def __init__(self, k: int, infeasible: frozenset[int]) -> None:
        self._k = k
        self._model = Responses(k)
        self._wealth = Wealth(k)
        self.costs = Costs(k)
        """What each axis costs on the queries that flipped."""
        self._row: dict[int, int] = {}
        self._queries = np.zeros(0, int)
        self._open = np.zeros((0, 1 << k), bool)
        self._runs = np.ones(1 << k, bool)
        self._runs[list(infeasible)] = False
        self._pending: dict[Trial, tuple[Floats, Floats, Floats]] = {}
        self._fresh = False
        self._structure: tuple[int, Structure] | None = None

    def watch(self, queries: Ints) -> None:
        """Queries that flipped join."""
        self._row |= {int(q): len(self._queries) + i for i, q in enumerate(queries)}
        self._queries = np.concatenate([self._queries, queries])
        cells = np.ones((len(queries), 1 << self._k), bool)
        cells[:, [0, -1]] = False
        self._open = np.vstack([self._open, cells])
        self._model.watch(len(queries))

    def forbid(self, cell: int) -> None:
        """The cell cannot run: never ask for it, and count no bet against it."""
        if self._runs[cell]:
            self._runs[cell] = False
            self._wealth.exclude(cell)
            self.costs = Costs(self._k)

    def plan(self, count: int, rng: np.random.Generator) -> list[Trial]:
        """At most `count` trials that are worth their call, cells drawn from known distributions; few queries get several."""
        if self._fresh:
            self._model.refit()
            self._fresh = False
        trials: list[Trial] = []
        for again in range(AGAIN):
            found = self._plan_each(count - len(trials), WORTH * (1 + again), rng)
            trials += found
            if not found or len(trials) >= count:
                break
        return trials

    def _plan_each(self, count: int, worthwhile: float, rng: np.random.Generator) -> list[Trial]:
        """At most one trial per query."""
        rows = self._candidates(count)
        if count <= 0 or not len(rows):
            return []
        posterior = self._model.posterior(rows)
        passes = self._model.predict(posterior)
        chances, worth = self._cell_chances(posterior, passes, (self._open[rows] & self._runs).astype(float))
        best = np.argsort(-worth, kind="stable")[:count]
        best = best[worth[best] > worthwhile]
        cells = _draw(chances[best], rng)
        evidence = ratios(passes[best], chances[best], cells)
        trials = [Trial(q, c) for q, c in zip(self._queries[rows[best]].tolist(), cells.tolist(), strict=True)]
        self._open[rows[best], cells] = False
        terms, weights = coin_terms(passes[best], chances[best], cells)
        self._pending |= {t: (evidence[:, i], terms[:, i], weights[i]) for i, t in enumerate(trials)}
        return trials

    def hear(self, trials: list[Trial], passed: Ints) -> None:
        """What came of planned trials; `passed` holds 0 or 1, -1 where there is no score."""
        evidence = [self._pending.pop(t) for t in trials]
        known = np.flatnonzero(passed >= 0)
        if not len(known):
            return
        cells = np.array([trials[i].cell for i in known])
        rows = np.array([self._row[trials[i].query] for i in known])
        self._model.hear(rows, cells, passed[known])
        values, terms = (np.stack([evidence[i][part][passed[i]] for i in known]) for part in (0, 1))
        tossed = self._runs[cells[:, None] ^ (1 << np.arange(self._k))]
        self._wealth.bet(cells, np.where(tossed, values, 1.0))
        self.costs.add(np.where(tossed, terms, 0.0), np.where(tossed, np.stack([evidence[i][2] for i in known]), 0.0))
        self._fresh = True

    @property
    def log_evidence(self) -> Floats:
        """(k,) log wealth of the bets that each axis costs quality."""
        return self._wealth.log

    def named(self, alpha: float) -> frozenset[int]:
        """Axes shown to cost quality, with a chance of at most alpha that any of them has no effect."""
        return holm(self._wealth.log, alpha)

    def last_look(self) -> None:
        """Nothing: bets are looked at all the time."""

    @property
    def trials(self) -> int:
        """Trials heard."""
        return int(self._model.trials.sum())

    @property
    def watched(self) -> int:
        """Queries that have been tried."""
        return int((self._model.trials > 0).sum())

    @property
    def noise(self) -> float:
        """Fitted chance that an answer is not what the query's class says."""
        return self._model.noise

    def structure(self) -> Structure:
        """The rules that explain the flips."""
        if self._structure is None or 1.08 * self._structure[0] < self.trials:
            start = self._structure[1].rules if self._structure else ()
            self._structure = (self.trials, explain_responses(self._model, start))
        return self._structure[1]

    def suspicion(self) -> list[tuple[frozenset[int], float]]:
        """Sets of axes with the fitted share of the flips that each explains, largest first."""
        weights: dict[frozenset[int], float] = {}
        for rule, w in zip(self._model.classes.rules, self._model.rule_weights(), strict=True):
            weights[frozenset(rule.axes)] = weights.get(frozenset(rule.axes), 0.0) + float(w)
        return sorted(weights.items(), key=lambda item: -item[1])[:5]

    def _candidates(self, count: int) -> Ints:
        """Rows worth a look: those tried before, and as many new ones as could be planned."""
        able = (self._open & self._runs).any(1)
        tried = np.flatnonzero(able & (self._model.trials > 0))
        new = np.flatnonzero(able & (self._model.trials == 0))[:count]
        return np.concatenate([tried[-400:], new])

    def _cell_chances(self, posterior: Floats, passes: Floats, free: Floats) -> tuple[Floats, Floats]:
        """The distribution over cells for each row, and the nats that a trial drawn from it should add."""
        score = np.maximum(_entropy(passes) - self._model.unexplained(posterior), 0.0)
        log = self.log_evidence
        for a in range(self._k):
            other = np.arange(1 << self._k) ^ (1 << a)
            step, middle = (passes - passes[:, other]) / 2, (passes + passes[:, other]) / 2
            gain = step**2 / (2 * middle * (1 - middle)) * free[:, other]
            score += (1.0 if log[a] < np.log(20.0 * self._k) + 2 else 0.3) * gain
        score = score * free
        total = score.sum(1, keepdims=True)
        even = free / free.sum(1, keepdims=True)
        chances = np.where(total > 1e-9, (1 - UNIFORM) * score / np.maximum(total, 1e-9) + UNIFORM * even, even)
        return chances, (chances * score).sum(1)


def _entropy(p: Floats) -> Floats:
    return np.asarray(-p * np.log(p) - (1 - p) * np.log1p(-p))


def _draw(chances: Floats, rng: np.random.Generator) -> Ints:
    """(rows,) one cell per row."""
    ladder = chances.cumsum(1)
    u = rng.random(len(chances))[:, None] * ladder[:, -1:]
    return np.asarray((ladder <= u).sum(1))
