"""What a canary is compared by: guards as users write them (`cost:+10%`, `refusal:+1p`), and the columns of a live log as arrays.

Columns say what both releases were asked, for their balance and for sharper estimates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisect_ai.attribution.problem import Floats
from bisect_ai.attribution.questions.balance import MOST_LEVELS, LoggedColumn
from bisect_ai.errors import ConfigError
from bisect_ai.queries.live_scores import ScoredAnswer
from bisect_ai.queries.query import Query
from bisect_ai.queries.shape_facts import Told
from bisect_ai.targets.answer import Answer

_WRITTEN = re.compile(r"(?P<name>.+):(?P<sign>[+-])(?P<size>\d+(\.\d+)?)(?P<unit>%|p|)\s*")


@dataclass(frozen=True)
class GuardRule:
    """A metric and what it may rise by (`falls`: fall by), in its own units, or as a part of the baseline's mean."""

    name: str
    limit: float
    relative: bool
    falls: bool
    points: bool = False
    """Whether it was written in points of 100."""

    def turned(self, values: Sequence[float | None]) -> Floats:
        """(n,) the values with more for worse, NaN for none."""
        found = np.array([np.nan if value is None else value for value in values], float)
        return np.asarray(-found if self.falls else found)

    @property
    def turned_limit(self) -> float:
        """The limit on values that are turned: a part of a mean below zero is a fall of the mean itself."""
        return -self.limit if self.falls and self.relative else self.limit


def refuses(text: str) -> float | None:
    """1 where an answer refuses, 0 else: what the guard `refusal` reads where a log has no such score."""
    from bisect_ai.scoring.scorers import build_scorers, score_answer

    scorer = build_scorers([{"kind": "refusal", "name": "refusal"}])["refusal"]
    return score_answer(scorer, Query({"id": ""}), Answer(text=text)).value


DERIVED = {"refusal": refuses}


def guard_of(text: str) -> GuardRule:
    """The guard that a text spells. Raises `ConfigError` when it spells none."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or not 0 <= float(found["size"]) < 1e6:
        raise ConfigError(
            f"cannot use the guard {text[:60]!r}: write METRIC:+10% (of the baseline's mean), METRIC:+1p (points of 100) or "
            "METRIC:+0.5 (its own units) for what may rise by that much, and - for what may fall"
        )
    scale = 1.0 if found["unit"] == "" else 0.01
    return GuardRule(
        found["name"].strip(), float(found["size"]) * scale, found["unit"] == "%", found["sign"] == "-", found["unit"] == "p"
    )


SHAPES = ("hour", "language", "length", "tool", "turns")
HISTORY = "earlier scores of the question"
OWN = 0.5
"""Values of a column for each of its answers, from which on it is text, or names single answers."""
ASKED_BEFORE = 0.2
"""Part of the answers whose question was asked before, from which on its history is worth a column."""


def columns_of(answers: Sequence[ScoredAnswer], *, segment: str | None, cluster: str | None = None) -> tuple[LoggedColumn, ...]:
    """Every column that says something of more than a few answers, by name; the named segment is always adjusted for."""
    names = sorted({name for answer in answers for name in answer.facts})
    found = [_column(name, [answer.facts.get(name) for answer in answers]) for name in names]
    history = _history(answers)
    own = [] if history is None else [LoggedColumn(HISTORY, history)]
    named = [] if segment is None else [_coded(segment, [answer.segment or None for answer in answers], always=True)]
    return (*named, *(each for each in found if each is not None), *own, *_units(answers, cluster or "cluster"))


def _units(answers: Sequence[ScoredAnswer], name: str) -> Iterator[LoggedColumn]:
    """Users or sessions, where answers are clustered by them."""
    names = [answer.cluster for answer in answers]
    if any(names):
        yield replace(_coded(name, names), is_unit=True)


def _column(name: str, values: Sequence[Told | None]) -> LoggedColumn | None:
    known = [value for value in values if value is not None]
    distinct = len(set(known))
    if distinct < 2:
        return None
    if all(isinstance(value, float) for value in known):
        numbers = np.array([np.nan if value is None else value for value in values], float)
        if name not in SHAPES and _looks_scored(numbers):
            return None
        if distinct > MOST_LEVELS or name in SHAPES:
            return LoggedColumn(name, numbers)
    if distinct > OWN * len(known):
        return None
    return _coded(name, [value if value is None or isinstance(value, str) else f"{value:g}" for value in values])


def _looks_scored(numbers: Floats) -> bool:
    """Whether numbers lie between 0 and 1 without being a flag: what an unnamed score would look like."""
    known = numbers[~np.isnan(numbers)]
    return bool(known.min() >= 0 and known.max() <= 1 and (known != np.round(known)).any())


def _coded(name: str, values: Sequence[str | None], *, always: bool = False) -> LoggedColumn:
    names = tuple(dict.fromkeys(value for value in values if value is not None))
    numbers = {value: number for number, value in enumerate(names)}
    codes = np.array([-1 if value is None else numbers[value] for value in values], int)
    return LoggedColumn(name, codes=codes, names=names, always=always)


def _history(answers: Sequence[ScoredAnswer]) -> Floats | None:
    """(n,) the mean score that the baseline gave the same question before; NaN where it did not."""
    told: dict[str, tuple[float, int]] = {}
    found = np.full(len(answers), np.nan)
    for i, answer in enumerate(answers):
        if answer.asked is None:
            continue
        total, n = told.get(answer.asked, (0.0, 0))
        if n:
            found[i] = total / n
        if not answer.is_canary and answer.score is not None:
            told[answer.asked] = total + answer.score, n + 1
    return found if (~np.isnan(found)).mean() >= ASKED_BEFORE else None
