"""Where pass/fail metrics lose: the queries that passed under good and failed under bad, tried in chosen cells.

Which query and which distribution over cells may depend on everything seen so far; the cell itself is then drawn by chance
from that known distribution, which is what the bets of `betting` need. Cells are weighted by how much a trial there should
add: to the evidence on the axes (the information between the coin of each axis and the answer), and to the knowledge of
the query's class. No query is tried in the same cell twice, so answers that repeat themselves cannot pose as evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.betting import Wealth, holm, ratios
from bisect_ai.attribution.costs import Costs, coin_terms
from bisect_ai.attribution.levels import Bools
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
        self._other = [np.arange(1 << k) ^ (1 << a) for a in range(k)]
        self._pending: dict[Trial, tuple[Floats, Floats]] = {}
        """Trials under way, with the pass rates and the chances of all cells when theirs was drawn."""
        self._fresh = False
        self._structure: tuple[int, Structure] | None = None

    def watch(self, queries: Ints) -> None:
        """Queries that flipped join."""
        if not len(queries):
            return
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
        if count <= 0:
            return []
        rows = self._candidates(count)
        if not len(rows):
            return []
        outlook, trials = self._look_ahead(rows), list[Trial]()
        for again in range(AGAIN):
            found = self._plan_each(outlook, count - len(trials), WORTH * (1 + again), rng)
            trials += found
            if not found or len(trials) >= count:
                break
        return trials

    def _plan_each(self, outlook: _Outlook, count: int, worthwhile: float, rng: np.random.Generator) -> list[Trial]:
        """At most one trial per query."""
        rows, passes = outlook.rows, outlook.passes
        free = self._open[rows] & self._runs
        chances, worth = self._cell_chances(outlook, free.astype(float))
        able = free.any(1)
        good = able & (worth > worthwhile) & ~(outlook.new & (np.cumsum(able & outlook.new) > count))
        found = np.flatnonzero(good)
        if not len(found):
            return []
        best = found[np.argsort(-worth[found], kind="stable")[:count]]
        cells = _draw(chances[best], rng)
        trials = [Trial(q, c) for q, c in zip(self._queries[rows[best]].tolist(), cells.tolist(), strict=True)]
        self._open[rows[best], cells] = False
        self._pending |= {t: (passes[row], chances[row]) for t, row in zip(trials, best, strict=True)}
        return trials

    def hear(self, trials: list[Trial], passed: Ints) -> None:
        """What came of planned trials; `passed` holds 0 or 1, -1 where there is no score."""
        foreseen = [self._pending.pop(t) for t in trials]
        known = np.flatnonzero(passed >= 0)
        if not len(known):
            return
        cells, outcome = np.array([trials[i].cell for i in known]), passed[known]
        rows = np.array([self._row[trials[i].query] for i in known])
        passes, chances = (np.array([foreseen[i][part] for i in known]) for part in (0, 1))
        self._model.hear(rows, cells, outcome)
        tossed = self._runs[cells[:, None] ^ (1 << np.arange(self._k))]
        self._wealth.bet(cells, np.where(tossed, ratios(passes, chances, cells, outcome), 1.0))
        terms, weights = coin_terms(passes, chances, cells, outcome)
        self.costs.add(np.where(tossed, terms, 0.0), np.where(tossed, weights, 0.0))
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

    def _look_ahead(self, rows: Ints) -> _Outlook:
        """What the model expects of `rows`, and what their trials would tell it."""
        posterior = self._model.posterior(rows)
        passes = self._model.predict(posterior)
        insight = np.maximum(_entropy(passes) - self._model.unexplained(posterior), 0.0)
        shown = self.log_evidence >= math.log(20.0 * self._k) + 2
        gains = [(0.3 if shown[a] else 1.0) * _coin_gain(passes, a) for a in range(self._k)]
        return _Outlook(rows, self._model.trials[rows] == 0, passes, insight, gains)

    def _cell_chances(self, outlook: _Outlook, free: Floats) -> tuple[Floats, Floats]:
        """The distribution over cells for each row, and the nats that a trial drawn from it should add."""
        score = outlook.insight.copy()
        for a, gain in enumerate(outlook.gains):
            score += gain * free[:, self._other[a]]
        score *= free
        total = score.sum(1, keepdims=True)
        even = free / np.maximum(free.sum(1, keepdims=True), 1.0)
        chances = np.where(total > 1e-9, (1 - UNIFORM) * score / np.maximum(total, 1e-9) + UNIFORM * even, even)
        return chances, (chances * score).sum(1)


@dataclass(frozen=True)
class _Outlook:
    """What is expected of the queries in `rows`, before it is known which of their cells are free."""

    rows: Ints
    new: Bools
    """(rows,) whether a query was never tried."""
    passes: Floats
    """(rows, cells) chance that a trial passes."""
    insight: Floats
    """(rows, cells) nats that a trial should add about the query's class."""
    gains: list[Floats]
    """For each axis (rows, cells): nats that a trial should add about it, if the cell on the other side is free."""


def _coin_gain(passes: Floats, axis: int) -> Floats:
    """(rows, cells) information between the answer and a fair coin that puts `axis` on its good or its bad side."""
    sides = passes.reshape(len(passes), -1, 2, 1 << axis)
    good, bad = sides[:, :, 0], sides[:, :, 1]
    step, middle = (good - bad) / 2, (good + bad) / 2
    gain = step**2 / (2 * middle * (1 - middle))
    return np.repeat(gain[:, :, None], 2, axis=2).reshape(passes.shape)


def _entropy(p: Floats) -> Floats:
    return np.asarray(-p * np.log(p) - (1 - p) * np.log1p(-p))


def _draw(chances: Floats, rng: np.random.Generator) -> Ints:
    """(rows,) one cell per row."""
    ladder = chances.cumsum(1)
    u = rng.random(len(chances))[:, None] * ladder[:, -1:]
    return np.asarray((ladder <= u).sum(1))
