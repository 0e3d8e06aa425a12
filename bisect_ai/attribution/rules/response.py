"""What kinds of query there may be: response classes, and how likely each is for each query.

A class says in which cells a query passes: always, never, half of the time; unless ALL of a set of axes are bad; unless ANY of
them is. A broken query fails always, or half of the time. Around that, answers flip at one noise rate. Class weights and
noise are fitted to all queries at once by a few EM steps with a Dirichlet prior (Dempster, Laird and Rubin 1977); a
query's own trials then give its posterior. The model chooses queries and cells and sets the stakes of bets; no claim rests on it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints, Mode

PLAIN = 3  # the classes without axes come first: passes, fails, flaky


@dataclass(frozen=True)
class ResponseRule:
    """Queries that break when all, or any (`either`), of `axes` are bad."""

    axes: tuple[int, ...]
    mode: Mode

    def breaks(self, cell: int) -> bool:
        """Whether the cell sets the rule off."""
        hits = [bool(cell >> a & 1) for a in self.axes]
        return any(hits) if self.mode == "either" else all(hits)


@dataclass(frozen=True)
class Classes:
    """The response classes of k axes: PLAIN ones, then one per rule, then one per rule that breaks half of the time."""

    rules: tuple[ResponseRule, ...]
    hits: Floats
    """(rules, cells) 1 where the rule breaks its queries."""
    state: Floats
    """(classes, cells) 1 passes, 0 fails, 0.5 either."""
    decided: Floats
    """(classes, cells) 1 where the class leaves nothing but noise open, 0 where it leaves all open."""
    prior: Floats
    """(classes,) pseudo-counts of the Dirichlet prior."""


@lru_cache(maxsize=8)
def rules_of(k: int) -> tuple[ResponseRule, ...]:
    """Every rule worth considering: sets of up to three axes, of up to two when there are more than eight."""
    sizes = range(1, min(k, 3 if k <= 8 else 2) + 1)
    sets = [s for size in sizes for s in itertools.combinations(range(k), size)]
    together = [ResponseRule(s, "alone" if len(s) == 1 else "together") for s in sets]
    return (*together, *(ResponseRule(s, "either") for s in sets if len(s) > 1))


def hits_of(rules: tuple[ResponseRule, ...], k: int) -> Floats:
    """(rules, cells) 1 where a rule breaks its queries."""
    cells = np.arange(1 << k)
    masks = np.array([sum(1 << a for a in r.axes) for r in rules])[:, None]
    inside = cells[None] & masks
    either = np.array([r.mode == "either" for r in rules])[:, None]
    return np.asarray(np.where(either, inside > 0, inside == masks), dtype=float)


@lru_cache(maxsize=8)
def classes_of(k: int) -> Classes:
    """The classes of k axes."""
    rules = rules_of(k)
    hits = hits_of(rules, k)
    ones = np.ones((1, 1 << k))
    state = np.vstack([ones, 0 * ones, 0.5 * ones, 1 - hits, 1 - 0.5 * hits])
    share = {1: 0.7, 2: 0.4, 3: 0.1}
    number = {s: sum(len(r.axes) == s for r in rules) for s in share}
    full = np.array([share[len(r.axes)] / number[len(r.axes)] for r in rules])
    return Classes(rules, hits, state, np.abs(2 * state - 1), np.concatenate([[0.6, 0.1, 0.1], full, 0.15 * full]))


class Responses:
    """The posterior of every watched query's class. Queries get rows as they come."""

    def __init__(self, k: int) -> None:
        self.classes = classes_of(k)
        size = len(self.classes.state)
        self.noise = 0.05
        self.weights = self.classes.prior / self.classes.prior.sum()
        self._match = np.zeros((0, size))
        self._miss = np.zeros((0, size))
        self.trials = np.zeros(0, int)

    def watch(self, count: int) -> None:
        """Adds `count` rows."""
        more = np.zeros((count, self._match.shape[1]))
        self._match, self._miss = np.vstack([self._match, more]), np.vstack([self._miss, more])
        self.trials = np.concatenate([self.trials, np.zeros(count, int)])

    def hear(self, rows: Ints, cells: Ints, passed: Ints) -> None:
        """Adds the trials (t,) of queries `rows` in `cells`."""
        states = self.classes.state[:, cells].T
        np.add.at(self._match, rows, (states == passed[:, None]).astype(float))
        np.add.at(self._miss, rows, (states == 1 - passed[:, None]).astype(float))
        np.add.at(self.trials, rows, 1)

    def refit(self, steps: int = 6) -> None:
        """Some EM steps on class weights and noise rate, from where they are."""
        seen = self.trials > 0
        if not seen.any():
            return
        match, miss = self._match[seen], self._miss[seen]
        clear = match + miss
        even = (self.trials[seen, None] - clear) * math.log(0.5)
        like, part = np.empty_like(match), np.empty_like(match)  # each round has many steps: they share their tables
        for _ in range(steps):
            np.multiply(match, math.log(1 - self.noise), out=like)
            like += np.multiply(miss, math.log(self.noise), out=part)
            like += even
            like += np.log(self.weights)
            post = _normalised(like)
            counts = post.sum(0) + self.classes.prior
            self.weights = counts / counts.sum()
            wrong = float(np.multiply(post, miss, out=part).sum())
            decided = float(np.multiply(post, clear, out=part).sum())
            self.noise = min(max((wrong + 0.5) / (decided + 12), 0.01), 0.35)

    def log_like(self) -> Floats:
        """(rows, classes) log likelihood of each query's trials under each class."""
        return _log_like(self._match, self._miss, self.trials, self.noise)

    def posterior(self, rows: Ints) -> Floats:
        """(len(rows), classes) how likely each class is for each query."""
        like = _log_like(self._match[rows], self._miss[rows], self.trials[rows], self.noise)
        return _normalised(like + np.log(self.weights))

    def predict(self, posterior: Floats) -> Floats:
        """(rows, cells) chance that a next trial passes."""
        clear = posterior @ self.classes.state
        return np.asarray(self.noise + (1 - 2 * self.noise) * clear)

    def unexplained(self, posterior: Floats) -> Floats:
        """(rows, cells) entropy in nats that a next trial would keep if the query's class were known."""
        sure = -self.noise * math.log(self.noise) - (1 - self.noise) * math.log1p(-self.noise)
        return np.asarray(math.log(2.0) - (math.log(2.0) - sure) * (posterior @ self.classes.decided))

    @property
    def halfway(self) -> float:
        """Fitted share of those that follow a rule which break only half of the time."""
        number = len(self.classes.rules)
        half, full = self.weights[PLAIN + number :].sum(), self.weights[PLAIN : PLAIN + number].sum()
        return float(np.clip(half / (half + full), 0.1, 0.9))

    def rule_weights(self) -> Floats:
        """(rules,) fitted share of the watched queries that follow each rule."""
        number = len(self.classes.rules)
        return np.asarray(self.weights[PLAIN : PLAIN + number] + self.weights[PLAIN + number :])


def _log_like(match: Floats, miss: Floats, trials: Ints, noise: float) -> Floats:
    half = trials[:, None] - match - miss
    return np.asarray(match * math.log(1 - noise) + miss * math.log(noise) + half * math.log(0.5))


def _normalised(log: Floats) -> Floats:
    """The chances whose logarithms are given up to a constant a row; written over them."""
    log -= log.max(1, keepdims=True)
    np.exp(log, out=log)
    log /= log.sum(1, keepdims=True)
    return log
