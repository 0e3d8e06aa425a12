"""A long segment ends in its contents: what opening a store needs of its trials, in columns, so that their lines need not be read.

Trials that were answered and scored with numbers are columns; every other record is there by its place and is read as ever. The
record has a checksum like any other; when it is missing or damaged (the run was killed), the segment is read line by line. What is
damaged in a line that was not read is noticed when its answer is asked for, or by `runs --verify`, which reads every line.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.store.record_lines import NANO, Entry

# Trials below which reading every line is quick enough.
FEWEST = 1000
_KEY = 32  # bytes of a SHA-256


@dataclass(frozen=True)
class Contents:
    """Trials in columns: `keys` (32 bytes each), `offsets`, `scores` (scorer to rows and values).

    `sums`: run to its calls, nano-USD and tokens, and the most nano-USD and tokens of one call. `others`: the places of all other
    records.
    """

    keys: bytes
    offsets: list[int]
    scores: dict[str, tuple[list[int], list[float]]]
    sums: dict[str, tuple[int, int, int, int, int]]
    others: list[int]

    def key(self, row: int) -> bytes:
        """The key of a row's trial."""
        return self.keys[_KEY * row : _KEY * row + _KEY]

    @classmethod
    def from_payload(cls, payload: bytes) -> Contents:
        """What `Collector.entry` wrote. Raises `ValueError`, `TypeError` or `KeyError` when it is something else."""
        read = json.loads(payload)
        keys, offsets, others = bytes.fromhex(read["keys"]), read["offsets"], read["others"]
        scores = {scorer: (rows, values) for scorer, (rows, values) in read["scores"].items()}
        sums = {run: _run_sums(*map(int, numbers)) for run, numbers in read["sums"].items()}
        rows = [row for some, _ in scores.values() for row in some]
        values = [value for _, some in scores.values() for value in some]
        sound = (
            len(keys) == _KEY * len(offsets)
            and len(rows) == len(values)
            and (not rows or 0 <= min(rows) <= max(rows) < len(offsets))
        )
        if not sound or not all(map(int.__instancecheck__, offsets)) or not {*map(type, values)} <= {int, float}:
            raise ValueError("these are no contents")
        return cls(keys, offsets, scores, sums, others)


@dataclass
class Collector:
    """Gathers the contents of the segment that this process writes."""

    keys: bytearray = field(default_factory=bytearray)
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    scores: dict[str, tuple[array[int], array[float]]] = field(default_factory=dict)
    sums: dict[str, list[int]] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)
    attempts: dict[str, list[int]] = field(default_factory=dict)

    def take(self, place: int, key: bytes, head: Mapping[str, Any]) -> None:
        """Note a record that was written; `key` is its trial's, or empty."""
        kind = head["type"]
        if kind == "attempt":
            self.attempts.setdefault(head["trial"], []).append(place)
            return
        if kind in ("trial", "charge"):
            self.attempts.pop(head["trial"], None)
        if kind == "trial" and len(key) == _KEY and _is_plain_head(head):
            self._add(place, key, head)
        else:
            self.others.append(place)

    def _add(self, place: int, key: bytes, head: Mapping[str, Any]) -> None:
        row = len(self.offsets)
        self.keys += key
        self.offsets.append(place)
        for scorer, value, _ in head.get("scores", ()):
            rows, values = self.scores.setdefault(scorer, (array("Q"), array("d")))
            rows.append(row)
            values.append(value)
        sums, nano, tokens = self.sums.setdefault(head["run"], [0] * 5), round((head["usd"] or 0.0) * NANO), head["tokens"]
        sums[:] = sums[0] + 1, sums[1] + nano, sums[2] + tokens, max(sums[3], nano), max(sums[4], tokens)

    def entry(self) -> Entry | None:
        """The record of it; None: the segment is short."""
        if len(self.offsets) < FEWEST:
            return None
        others = sorted([*self.others, *(place for places in self.attempts.values() for place in places)])
        payload = {
            "keys": self.keys.hex(),
            "offsets": self.offsets.tolist(),
            "scores": {scorer: [rows.tolist(), values.tolist()] for scorer, (rows, values) in self.scores.items()},
            "sums": self.sums,
            "others": others,
        }
        return {"type": "contents"}, payload


def _run_sums(calls: int, nano: int, tokens: int, *most: int) -> tuple[int, int, int, int, int]:
    """A run's sums; older stores did not note the most that a trial cost: then it is no less than the mean."""
    most_nano, most_tokens = most or (-(-nano // max(calls, 1)), -(-tokens // max(calls, 1)))
    return calls, nano, tokens, most_nano, most_tokens


def _is_plain_head(head: Mapping[str, Any]) -> bool:
    """Whether columns of numbers can hold all that opening a store needs of a trial."""
    return (
        not head["failed"]
        and not {"doubtful", "calls"} & head.keys()
        and all(value is not None for _, value, _ in head.get("scores", ()))
    )
