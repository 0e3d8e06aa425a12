"""Incidents whose cause lies outside the release, inside it, or both, solved through `bisect_ai.run`.

Queries are easy (95 % right) or hard (50 %). What is planted moves chances; the answer of a query in a world is settled by a
hash, with 5 % noise of its own for every release and every time it is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bisect_ai

WINDOW = 300
GOOD = {"prompt": "Be brief.", "model": "m-1", "corpus": "2026-10"}
BAD = {"prompt": "Be kind.", "model": "m-2", "corpus": "2026-11"}


@dataclass(frozen=True)
class World:
    """What is planted: points that the answers lose, or a share of hard queries."""

    release: float = 0.0
    """Lost with the bad prompt, then and now."""
    drift: float = 0.0
    """Lost by every release between the good window and now."""
    late: bool = False
    """The drift came after the bad window, not between the two."""
    hard_later: float = 0.2
    """Share of hard queries in the bad window; it is 0.2 in the good one."""
    production: float = 0.0
    """Lost in production with the bad release, but not on replay."""
    cluster: int = 1
    """Queries a user, all easy or all hard."""


def chance(*parts: Any) -> float:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


def right(seed: int, row: Mapping[str, Any], *, lost: float, asked: str) -> bool:
    """Whether the answer is right: the query's own luck against its level less what is lost, and noise."""
    if chance(seed, row["id"], asked, "noise") < 0.05:
        return chance(seed, row["id"], asked, "coin") < 0.5
    level = 0.5 if row["hard"] else 0.95
    return chance(seed, row["id"], "luck") < level * (1 - lost / 0.86)


def rows(world: World, seed: int) -> list[dict[str, Any]]:
    made = []
    for number in range(2 * WINDOW):
        late = number >= WINDOW
        user = number // world.cluster
        hard = chance(seed, user, "hard") < (world.hard_later if late else 0.2)
        row = {"id": f"q{number:03}", "input": f"question {number}", "hard": hard, "user": f"u{user}"}
        lost = (world.release + world.production if late else 0.0) + (world.drift if late and not world.late else 0.0)
        score = float(right(seed, row, lost=lost, asked="production"))
        made.append(
            {**row, "release": "bad" if late else "good", "at": f"2026-11-{20 if late else 10}", "scores": {"correct": score}}
        )
    return made


def target(world: World, seed: int) -> Callable[[Any, Any], str]:
    def answer(query: Any, release: Any) -> str:
        lost = world.drift + (world.release if release["prompt"] == BAD["prompt"] else 0.0)
        return "right" if right(seed, query, lost=lost, asked=repr(sorted(release.items()))) else "wrong"

    return answer


def solved(world: World, seed: int, **settings: Any) -> bisect_ai.Result:
    return bisect_ai.run(
        keep_going=True,
        good=GOOD,
        bad=BAD,
        target=target(world, seed),
        scorers={"correct": lambda query, answer: answer.text == "right"},
        seed=seed,
        log={"sample": None, "cluster": "user"} if world.cluster > 1 else None,
        concurrency=8,
        **{"queries": rows(world, seed), "budget": {"calls": 2400}, "tolerance": 0.03, "drill": False, **settings},
    )
