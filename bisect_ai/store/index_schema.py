"""The index's tables, and a journal record as their rows. Times are whole microseconds since 1970 (UTC), money is USD.

Texts are the journal's but for lone surrogates, which a database of Unicode text cannot hold: they are replaced here, the journal
keeps the exact bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.canonical import as_mapping, json_object
from bisect_ai.store.trial_records import scores_in

SCHEMA = 2  # an index of another is made anew from the journal
_PLACED = "segment VARCHAR, place UBIGINT, "  # `place` is the record's offset in its segment
# As DuckDB would be told to make them; `costs` holds attempts and charges.
_COLUMNS = {
    "segments": "segment VARCHAR, inode UBIGINT, bytes UBIGINT, sequence UBIGINT, records UBIGINT, lost UBIGINT, closed BOOLEAN, "
    "run VARCHAR, started_us BIGINT",
    "runs": _PLACED + "run VARCHAR, good VARCHAR, bad VARCHAR, metric VARCHAR, settings VARCHAR",
    "trials": _PLACED + "trial VARCHAR, run VARCHAR, query VARCHAR, bad_axes VARCHAR[], repeat INTEGER, text VARCHAR, "
    "outcome VARCHAR, error VARCHAR, infeasible VARCHAR, failed BOOLEAN, purged BOOLEAN, usd DOUBLE, tokens BIGINT, calls BIGINT, "
    "seconds DOUBLE, steps INTEGER, model VARCHAR, answer VARCHAR, crc UBIGINT",
    "scores": _PLACED + "trial VARCHAR, scorer VARCHAR, value DOUBLE, error VARCHAR",
    "costs": _PLACED + "kind VARCHAR, trial VARCHAR, run VARCHAR, calls BIGINT, usd DOUBLE, tokens BIGINT",
    "reports": _PLACED + "run VARCHAR, seconds DOUBLE, verdict VARCHAR, sentence VARCHAR, report VARCHAR",
}
# Table to columns to DuckDB types.
TABLES = {table: dict(column.split(" ") for column in columns.split(", ")) for table, columns in _COLUMNS.items()}

Row = Sequence[Any]


def rows(segment: str, place: int, head: Mapping[str, Any], payload: bytes) -> Iterator[tuple[str, Row]]:
    """(table, row) for each row that a record makes."""
    make = _MAKERS.get(head["type"])
    for table, row in make(head, payload) if make is not None else ():
        yield table, (segment, place, *map(plain_text, row))


def plain_text(value: Any) -> Any:
    """A value whose text, if it is one, can be written as UTF-8."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _trial_rows(head: Mapping[str, Any], payload: bytes) -> Iterator[tuple[str, Row]]:
    answer = json_object(payload) or {}  # a checksum is no signature
    yield (
        "trials",
        (
            head["trial"],
            head["run"],
            head["query"],
            json.dumps([plain_text(str(a)) for a in head["bad_axes"]]),
            head["repeat"],
            _text_column(answer.get("text")),
            _text_column(answer.get("outcome", "ok")),
            _text_column(answer.get("error")),
            _text_column(head.get("infeasible")),
            head["failed"],
            False,
            head["usd"],
            head["tokens"],
            head.get("calls", 1),
            _number_column(answer.get("latency_s")),
            _number_column(answer.get("steps", 1)),
            _text_column(answer.get("model_returned")),
            payload.decode("ascii"),
            zlib.crc32(payload),
        ),
    )
    yield from _score_rows_of(head, payload)


def _text_column(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number_column(value: Any) -> float | None:
    return value if isinstance(value, float | int) else None


def _purged_rows(head: Mapping[str, Any], _: bytes) -> Iterator[tuple[str, Row]]:
    told = (head["failed"], True, head["usd"], head["tokens"], head.get("calls", 1))
    yield "trials", (head["trial"], head["run"], None, "[]", None, *(None,) * 4, *told, *(None,) * 4, 0)


def _score_rows_of(head: Mapping[str, Any], _: bytes) -> Iterator[tuple[str, Row]]:
    for scored in scores_in(head):
        yield "scores", (scored.trial, scored.scorer, scored.value, scored.error)


def _cost_rows(head: Mapping[str, Any], _: bytes) -> Iterator[tuple[str, Row]]:
    yield "costs", (head["type"], head["trial"], head["run"], head.get("calls", 1), head["usd"], head["tokens"])


def _run_rows(head: Mapping[str, Any], _: bytes) -> Iterator[tuple[str, Row]]:
    settings = head["settings"]
    names = (_text_column(as_mapping(settings.get(side)).get("name")) for side in ("good", "bad"))
    yield "runs", (head["run"], *names, _text_column(settings.get("metric")), json.dumps(settings))


def _finished_rows(head: Mapping[str, Any], payload: bytes) -> Iterator[tuple[str, Row]]:
    verdict = as_mapping((json_object(payload) or {}).get("verdict"))
    told = (_text_column(verdict.get(key)) for key in ("kind", "sentence"))
    yield "reports", (head["run"], float(head.get("seconds", 0.0)), *told, payload.decode("ascii") or None)


_MAKERS: dict[str, Callable[[Mapping[str, Any], bytes], Iterable[tuple[str, Row]]]] = {
    "trial": _trial_rows,
    "purged": _purged_rows,
    "score": _score_rows_of,
    "attempt": _cost_rows,
    "charge": _cost_rows,
    "run": _run_rows,
    "finished": _finished_rows,
}
