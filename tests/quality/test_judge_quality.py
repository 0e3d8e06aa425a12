"""A judge that does not always say the same: intervals that cover what another round of judging would say, over seeds.

The whole log is in the sample, and the application repeats itself: all that is left to chance is the judge. One axis changes
answers and costs quality, one rewords them, one does nothing: there, cells share their answers and so their verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from bisect_ai.attribution.designs.factorial import FactorialSearch
from bisect_ai.attribution.problem import Attribution, Outcome, Problem, Search, Trial
from bisect_ai.attribution.search.net_search import NetSearch
from bisect_ai.attribution.stats import contrasts

AXES = ("prompt", "context", "model")  # costs, rewords, does nothing
RUNS = 400
Make = Callable[[Problem], Search]


@dataclass
class Judged:
    """A log whose answers a noisy judge scores: pass or fail with a chance of being wrong, or a grade with a spread."""

    seed: int
    queries: int = 150
    loss: float = 0.12
    wrong: float = 0.15
    spread: float | None = None
    twice: float = 0.15
    told: bool = True
    """Whether the search hears which verdicts it has."""
    said: dict[tuple[int, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 77])
        good = self.rng.random(self.queries) < 0.85
        self.good, self.broken = good, self.rng.random(self.queries) < self.loss

    def expected(self, cell: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """(n,) what the judge says of a cell's answers on average."""
        right = self.good & ~(self.broken & bool(cell & 1))
        return np.where(right, 1 - self.wrong, self.wrong)

    def verdict(self, query: int, cell: int) -> float:
        level = float(self.expected(cell)[query])
        return (
            float(self.rng.random() < level) if self.spread is None else level + self.spread * float(self.rng.standard_normal())
        )

    def outcome(self, trial: Trial) -> Outcome:
        text = trial.cell & 3  # the third axis changes no answer
        score = self.said.setdefault((trial.query, text), self.verdict(trial.query, trial.cell))
        if not self.told:
            return Outcome(trial, score)
        again = self.verdict(trial.query, trial.cell) if self.rng.random() < self.twice else None
        return Outcome(trial, score, "ok", f"{trial.query} {text}", again)

    def solve(self, make: Make) -> Attribution:
        problem = Problem(AXES, self.queries, budget=8 * self.queries, seed=self.seed, population=self.queries)
        search = make(problem)
        while trials := search.ask(64):
            search.tell([self.outcome(t) for t in trials])
        return search.result()

    @property
    def values(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([self.expected(cell).mean() for cell in range(8)])


def covered(make: Make, *, runs: int = RUNS, **settings: object) -> dict[str, float]:
    """How often the intervals of the loss, of values and of effects hold what the judge says on average."""
    hits: dict[str, list[bool]] = {}

    def note(name: str, interval: tuple[float, float] | None, truth: float) -> None:
        if interval is not None:
            hits.setdefault(name, []).append(interval[0] - 1e-9 <= truth <= interval[1] + 1e-9)

    for seed in range(runs):
        world = Judged(seed, **settings)  # type: ignore[arg-type]  # its own fields
        found, values = world.solve(make), world.values
        note("loss", found.loss.interval, values[0] - values[-1])
        note("good", found.good.interval, values[0])
        note("bad", found.bad.interval, values[-1])
        for effect in found.effects:
            if effect.kind == "introduced" and len(effect.axes) == 1:
                truth = contrasts.introduced(3, AXES.index(effect.axes[0])) @ values
                note(f"introduced {effect.axes[0]}", effect.estimate.interval, float(truth))
    return {name: float(np.mean(some)) for name, some in hits.items()}


@pytest.mark.parametrize(("spread", "runs", "least"), [(None, RUNS, 0.917), (0.2, RUNS // 4, 0.9)])
def test_intervals_of_a_fixed_design_hold_the_judges_noise(spread: float | None, runs: int, least: float) -> None:
    found = covered(FactorialSearch, runs=runs, spread=spread)
    assert found.pop("introduced model") == 1.0  # the same answers, the same verdicts: no effect, and no doubt
    assert all(least <= share <= 0.99 for share in found.values()), found  # 0.95 less three standard errors of 400 runs


def test_without_the_verdicts_they_would_not() -> None:
    found = covered(FactorialSearch, runs=100, told=False)
    assert found["loss"] < 0.5 and found["good"] < 0.5 and found["introduced context"] < 0.5


def test_intervals_of_the_adaptive_search_hold_it_too() -> None:
    found = covered(NetSearch, runs=RUNS // 3)
    assert found["loss"] >= 0.92 and found["good"] >= 0.92, found


def test_a_noisy_judge_blames_nobody() -> None:
    def solved(seed: int, *, told: bool) -> Attribution:
        return Judged(seed, loss=0.0, queries=100, told=told).solve(FactorialSearch)

    def moves(found: Attribution) -> bool:
        effect = next(e for e in found.effects if e.kind == "introduced" and e.axes == ("context",))
        return effect.p_adjusted is not None and effect.p_adjusted < 0.05

    heard = [solved(seed, told=True) for seed in range(150)]
    assert sum(found.kind == "cause" for found in heard) <= 8
    assert sum(map(moves, heard)) <= 8
    assert sum(moves(solved(seed, told=False)) for seed in range(20)) >= 10  # as if the rewording had an effect
