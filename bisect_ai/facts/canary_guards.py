"""Guards of a canary as users write them: `cost:+10%`, `refusal:+1p`, `latency:+0.5`, `helpful:-2p`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Floats
from bisect_ai.errors import ConfigError
from bisect_ai.queries.query import Query
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
