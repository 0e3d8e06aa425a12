r"""The journal's line: how a record becomes bytes, and how bytes become a record or are refused.

A line of `bisect-ai/journal@2` is `<sequence> <length> <crc32> <head>[\t<payload>]\n`: decimal sequence number within the
segment, length of what follows in bytes, CRC-32 as eight hex digits over sequence, length and all that follows, then the head
(canonical ASCII JSON: what a reader needs to know of the record) and, after a tab, the payload (canonical ASCII JSON: an answer;
or a report, its keys in their order). JSON in ASCII holds no raw tab or line break, so a reader skips the payloads that it does
not want, and damage never runs over the end of a line. Lone surrogates, NUL and ten megabytes pass as they are.

`bisect-ai/journal@1`, the first release's, had one JSON text with the answer inside and a CRC-32 over that alone. Its lines are
still read, and the first line of every segment is still written so: the first release reads it and says that it is too old.

A long segment ends in its contents (`Contents`): what opening a store needs of its trials, in columns, so that their lines need not be
read. Trials that were answered and scored (or are not to be: null) are columns; every other record is there by its place and is read as
ever. The record has a checksum like any other; when it is missing or damaged (the run was killed), the segment is read line by line.
What is damaged in a line that was not read is noticed when its answer is asked for, or by `runs --verify`, which reads every line.
"""

from __future__ import annotations

import json
import math
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from bisect_ai.canonical import canonical
from bisect_ai.errors import StoreError

_PRICE = (float, int, NoneType)
_FIELDS: dict[str, tuple[tuple[str, Any], ...]] = {
    "segment": (("schema", str),),
    "run": (("run", str), ("settings", dict)),
    "trial": (
        *(("trial", str), ("run", str), ("query", str), ("bad_axes", list), ("repeat", int), ("failed", bool)),
        *(("usd", _PRICE), ("tokens", int)),
    ),
    "purged": (("trial", str), ("run", str), ("failed", bool), ("usd", _PRICE), ("tokens", int)),
    "score": (("trial", str), ("scorer", str), ("value", _PRICE), ("error", (str, NoneType))),
    "attempt": (("trial", str), ("run", str), ("usd", _PRICE), ("tokens", int)),
    "charge": (("trial", str), ("run", str), ("usd", _PRICE), ("tokens", int), ("calls", int)),
    "finished": (("run", str),),
    "exchange": (("exchange", str), ("run", str), ("query", str)),
    "requests": (("run", str), ("sent", int)),
}

SCHEMA = "bisect-ai/journal@2"
READABLE = ("bisect-ai/journal@1", SCHEMA)
# The first version of bisect-ai that reads SCHEMA.
NEEDS = "0.1"

# `json.loads` without what it does around the text: a journal is opened as fast as this is.
_scan = json.JSONDecoder().raw_decode

# A USD in the units that sums are made of.
NANO = 1_000_000_000

# A record to write: its head, and its payload or None.
Entry = tuple[Mapping[str, Any], Any]
# A record that was read: sequence number, head, payload (empty: none).
Record = tuple[int, dict[str, Any], bytes]


def encode(sequence: int, entry: Entry) -> bytes:
    """The line of a record. Raises `InputError` for what JSON cannot hold."""
    head, payload = entry
    text = canonical(head)
    if payload is not None:
        text += f"\t{canonical(payload, as_given=head.get('type') == 'finished')}"
    body = text.encode("ascii")
    place = b"%d %d " % (sequence, len(body))
    checked = zlib.crc32(body) if sequence == 1 else zlib.crc32(body, zlib.crc32(place))
    return b"%s%08x %s\n" % (place, checked, body)


def decode(line: bytes) -> Record | None:
    """The record of a line; None when any byte of it is not what was written."""
    try:
        sequence, length, crc, body = line.split(b" ", 3)
        if int(length) != len(body) - 1 or body[-1:] != b"\n" or not sequence.isdigit():
            return None
        body = body[:-1]
        if crc == b"%08x" % zlib.crc32(body, zlib.crc32(b"%s %s " % (sequence, length))):
            text, _, payload = body.partition(b"\t")
            head = _scan(text.decode("ascii"))[0]
            return (int(sequence), head, payload) if isinstance(head, dict) else None
        return _decode_plain(int(sequence), body) if crc == b"%08x" % zlib.crc32(body) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, StopIteration):
        return None


def _decode_plain(sequence: int, body: bytes) -> Record | None:
    """A line whose checksum covers its JSON alone: a segment's first, and all of the first release."""
    record = json.loads(body)
    if (record["type"] == "segment") != (sequence == 1):
        return None
    payload = record.pop("answer" if record["type"] == "trial" else "report", None)
    if record["type"] == "trial":
        usage = payload["usage"]
        record |= {
            "failed": payload["error"] is not None,
            "usd": usage["usd"],
            "tokens": usage["input_tokens"] + usage["output_tokens"],
        }
    return sequence, record, b"" if payload is None else canonical(payload).encode("ascii")


def check_schema(name: str, head: Mapping[str, Any]) -> None:
    """Raises `StoreError` when a segment's first record says that it is of a later schema."""
    schema = head.get("schema")
    if schema not in READABLE:
        needs = head.get("needs") or "a later version"
        raise StoreError(
            f"cannot read the journal segment {name}: it is of schema {schema!r}, this version reads up to {SCHEMA}; "
            f"upgrade bisect-ai to {needs}"
        )


def is_sound(head: Mapping[str, Any]) -> bool:
    """Whether a record holds what its type needs. A checksum is no signature: a store may come from anyone."""
    kind = head.get("type")
    if not isinstance(kind, str):
        return False
    for name, form in _FIELDS.get(kind, ()):
        if not isinstance(head.get(name), form):
            return False
    if kind == "trial" and "scores" in head:
        return isinstance(head["scores"], list) and all(map(_is_score, head["scores"]))
    if kind == "finished":
        return isinstance(head.get("seconds", 0.0), float | int)
    if type(head.get("calls", 1)) is not int or head.get("calls", 1) < 0:
        return False
    return "doubtful" not in head or _is_doubt(head["doubtful"])


def _is_score(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and isinstance(row[1], _PRICE)
        and isinstance(row[2], str | NoneType)
    )


def _is_doubt(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], float | int) and isinstance(pair[1], int)


# Trials below which reading every line is quick enough.
FEWEST = 1000
# Trials of which one record tells: its text and what is read from it take about 25 MiB.
MOST = 1 << 16
_KEY = 32  # bytes of a SHA-256


@dataclass(frozen=True)
class Contents:
    """Trials in columns: `keys` (32 bytes each), `offsets`, `scores` (scorer to rows and values; NaN: it does not apply, null in JSON).

    `sums`: run to its calls, nano-USD and tokens, and the most nano-USD and tokens of one call. `others`: the places of all other
    records.
    """

    keys: bytes
    offsets: array[int]
    scores: dict[str, tuple[array[int], array[float]]]
    sums: dict[str, tuple[int, int, int, int, int]]
    others: list[int]

    def key(self, row: int) -> bytes:
        """The key of a row's trial."""
        return self.keys[_KEY * row : _KEY * row + _KEY]

    @classmethod
    def from_payload(cls, payload: bytes) -> Contents:
        """What `Collector.entries` wrote. Raises `ValueError`, `TypeError`, `KeyError` or `OverflowError` for something else."""
        read = json.loads(payload)
        keys, offsets, others = bytes.fromhex(read["keys"]), array("Q", read["offsets"]), read["others"]
        scores = {
            scorer: (array("Q", rows), array("d", [math.nan if value is None else value for value in values]))
            for scorer, (rows, values) in read["scores"].items()
        }
        sums = {run: _run_sums(*map(int, numbers)) for run, numbers in read["sums"].items()}
        if len(keys) != _KEY * len(offsets):
            raise ValueError("these are no contents")
        if any(len(rows) != len(values) or max(rows, default=-1) >= len(offsets) for rows, values in scores.values()):
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
            values.append(math.nan if value is None else value)
        sums, nano, tokens = self.sums.setdefault(head["run"], [0] * 5), round((head["usd"] or 0.0) * NANO), head["tokens"]
        sums[:] = sums[0] + 1, sums[1] + nano, sums[2] + tokens, max(sums[3], nano), max(sums[4], tokens)

    def entries(self) -> Iterator[Entry]:
        """The records of it, each of at most `MOST` trials, so that memory holds the text of one; none: the segment is short."""
        count = len(self.offsets)
        if count < FEWEST:
            return
        others = sorted([*self.others, *(place for places in self.attempts.values() for place in places)])
        for begin in range(0, count, MOST):
            end = min(begin + MOST, count)
            payload = {
                "keys": self.keys[_KEY * begin : _KEY * end].hex(),
                "offsets": self.offsets[begin:end].tolist(),
                "scores": {scorer: _scores_between(*columns, begin, end) for scorer, columns in self.scores.items()},
                "sums": {} if begin else self.sums,
                "others": [] if begin else others,
            }
            yield {"type": "contents"}, payload


def _scores_between(rows: array[int], values: array[float], begin: int, end: int) -> list[list[Any]]:
    """The scores of the rows from `begin` to `end`, which are counted from `begin`."""
    first, last = bisect_left(rows, begin), bisect_left(rows, end)
    return [[row - begin for row in rows[first:last]], [None if math.isnan(value) else value for value in values[first:last]]]


def _run_sums(calls: int, nano: int, tokens: int, *most: int) -> tuple[int, int, int, int, int]:
    """A run's sums; older stores did not note the most that a trial cost: then it is no less than the mean."""
    most_nano, most_tokens = most or (-(-nano // max(calls, 1)), -(-tokens // max(calls, 1)))
    return calls, nano, tokens, most_nano, most_tokens


def _is_plain_head(head: Mapping[str, Any]) -> bool:
    """Whether columns of numbers can hold all that opening a store needs of a trial."""
    return (
        not head["failed"]
        and not {"doubtful", "calls"} & head.keys()
        and all(error is None for *_, error in head.get("scores", ()))
    )
