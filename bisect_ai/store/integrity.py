"""What a store holds, asked of its index, and whether it is whole: every segment read line by line, and the index compared with it.

Neither changes anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bisect_ai.errors import StoreError
from bisect_ai.store.index import Index, ask, indexed_segments, open_existing
from bisect_ai.store.index_schema import Row, rows
from bisect_ai.store.journal import closed_segments, segment_paths
from bisect_ai.store.locks import is_locked, looser
from bisect_ai.store.recovery import Folder, Reader
from bisect_ai.store.trial_records import Unsettled


@dataclass(frozen=True)
class RunRow:
    """One run. `status` is finished, running or interrupted; `unsettled` are calls of which no outcome is known."""

    run: str
    status: str
    good: str | None
    bad: str | None
    metric: str | None
    calls: int
    errors: int
    usd: float
    tokens: int
    seconds: float
    verdict: str | None
    sentence: str | None
    started_us: int | None
    unsettled: Unsettled

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        told = asdict(self)
        del told["unsettled"]["counted"]  # what the cap makes of it
        return told


def list_runs(store: Path) -> tuple[list[RunRow], tuple[str, ...]]:
    """Every run of a store, oldest first, and notices about the index. Raises `StoreError` when the journal cannot be read."""
    alive = [p.name for p in segment_paths(store / "journal") if is_locked(p)]
    return ask(store, lambda index: _runs_seen(index, alive))


def _runs_seen(index: Index, alive: list[str]) -> list[RunRow]:
    return [_run_row(found) for found in index.rows(_RUNS, {"alive": alive})]


def _run_row(found: tuple[Any, ...]) -> RunRow:
    told, (calls, usd, tokens, unpriced) = found[:-4], found[-4:]
    return RunRow(*told, Unsettled(calls, round(usd, 9), tokens, unpriced))  # type: ignore[call-arg]  # of 17 columns, 13 are left


# Money is summed in whole nano-USD, so that the order of rows does not matter. A reservation is open unless a trial or a charge
# of the same identity follows it in the same segment.
_RUNS = """
WITH begun AS (
  SELECT run, arg_min(struct_pack(good := good, bad := bad, metric := metric), (segment, place)) AS said
  FROM runs GROUP BY run
), started AS (
  SELECT run, min(started_us) AS started_us, coalesce(bool_or(list_contains($alive, segment)), false) AS alive
  FROM segments GROUP BY run
), paid AS (
  SELECT run, CAST(sum(calls) AS BIGINT) AS calls, count(*) FILTER (failed AND calls > 0) AS errors FROM trials GROUP BY run
), money AS (
  SELECT run, sum(CAST(round(coalesce(usd, 0) * 1e9) AS BIGINT)) / 1e9 AS usd, sum(tokens) AS tokens
  FROM (SELECT run, usd, tokens FROM trials UNION ALL SELECT run, usd, tokens FROM costs WHERE kind = 'charge')
  GROUP BY run
), settled AS (
  SELECT segment, trial, max(place) AS place
  FROM (SELECT segment, trial, place FROM trials UNION ALL SELECT segment, trial, place FROM costs WHERE kind = 'charge')
  GROUP BY segment, trial
), open AS (
  SELECT costs.run, count(*) AS calls, coalesce(sum(costs.usd), 0) AS usd, sum(costs.tokens) AS tokens,
    count(*) FILTER (costs.usd IS NULL) AS unpriced
  FROM costs LEFT JOIN settled USING (segment, trial)
  WHERE costs.kind = 'attempt' AND (costs.usd IS NULL OR costs.usd > 0 OR costs.tokens > 0)
    AND (settled.place IS NULL OR settled.place < costs.place)
  GROUP BY costs.run
), ended AS (
  SELECT run, sum(seconds) AS seconds, arg_max(verdict, (segment, place)) FILTER (verdict IS NOT NULL) AS verdict,
    arg_max(sentence, (segment, place)) FILTER (verdict IS NOT NULL) AS sentence
  FROM reports GROUP BY run
)
SELECT begun.run,
  CASE WHEN coalesce(started.alive, false) THEN 'running' WHEN ended.verdict IS NOT NULL THEN 'finished' ELSE 'interrupted' END,
  said.good, said.bad, said.metric, coalesce(paid.calls, 0), coalesce(paid.errors, 0), coalesce(money.usd, 0),
  CAST(coalesce(money.tokens, 0) AS BIGINT), round(coalesce(ended.seconds, 0), 3), ended.verdict, ended.sentence, started.started_us,
  coalesce(open.calls, 0), coalesce(open.usd, 0), CAST(coalesce(open.tokens, 0) AS BIGINT), coalesce(open.unpriced, 0)
FROM begun LEFT JOIN started USING (run) LEFT JOIN paid USING (run) LEFT JOIN money USING (run) LEFT JOIN open USING (run)
  LEFT JOIN ended USING (run)
ORDER BY started.started_us NULLS FIRST, begun.run
"""


@dataclass(frozen=True)
class Checked:
    """One segment. `state`: closed (in order), open (its writer lives), killed (its writer is gone), cut, missing."""

    segment: str
    state: str
    records: int
    lost: int
    torn_bytes: int
    bytes: int

    @property
    def is_damaged(self) -> bool:
        """Whether something that was acknowledged may be gone."""
        return self.lost > 0 or self.state in ("cut", "missing")


@dataclass(frozen=True)
class Verified:
    """What was found. `index`: absent, behind (what was added since is read when it is asked), agrees, or what is wrong."""

    segments: tuple[Checked, ...]
    index: str
    # Files and folders that others may read, with their mode.
    looser: tuple[str, ...] = field(default=())

    @property
    def lost(self) -> int:
        """Records lost, as far as they can be counted."""
        return sum(c.lost for c in self.segments)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged: a torn line that a kill left is no damage."""
        return not any(c.is_damaged for c in self.segments) and self.index in ("absent", "behind", "agrees")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"whole": self.is_whole, "lost": self.lost, **asdict(self)}


def verify_store(store: Path) -> Verified:
    """Read everything and compare. Raises `StoreError` when a segment is of a later schema or cannot be read."""
    journal = Folder(store / "journal")
    counted: dict[str, Counter[tuple[str, int]]] = {}
    held = _held_by_index(store)
    for reader, (place, head, payload) in journal.read():
        inside = isinstance(held, dict) and place < held.get(reader.path.name, (0, 0))[1]
        if inside:
            made = rows(reader.path.name, place, head, payload)
            _count_rows(counted.setdefault(reader.path.name, Counter()), place, made)
    closed = closed_segments(journal.path)
    checked = [_checked_segment(reader, closed) for reader in journal.readers.values()]
    checked += [_missing_segment(name, n) for name, n in closed.items() if name not in journal.readers]
    index = held if isinstance(held, str) else _compare_segments(store, journal, held, counted)
    return Verified(tuple(sorted(checked, key=lambda c: c.segment)), index, tuple(_loose_files(store)))


def _checked_segment(reader: Reader, closed: dict[str, int]) -> Checked:
    name, lost = reader.path.name, reader.lost
    if reader.closed:
        state = "closed"
    elif name in closed:
        state, lost = "cut", max(lost, closed[name] - reader.records, 1)
    else:
        state = "open" if is_locked(reader.path) else "killed"
    return Checked(name, state, reader.records, lost, 0 if state == "open" else reader.pending, reader.size + reader.pending)


def _missing_segment(name: str, records: int) -> Checked:
    return Checked(name, "missing", 0, records, 0, 0)


def _loose_files(store: Path) -> list[str]:
    return [f"{path} ({mode})" for path in (store, *sorted(store.rglob("*"))) if (mode := looser(path)) is not None]


# -- the index -----------------------------------------------------------------------------------------------------------
def _held_by_index(store: Path) -> dict[str, tuple[int, int]] | str:
    """What the index holds of each segment; `absent`, or why it cannot be read."""
    try:
        index = open_existing(store)
        if index is None:
            return "absent"
        with index:
            return indexed_segments(index)
    except Exception as error:  # whatever DuckDB makes of damaged bytes
        return f"damaged: {(str(error).splitlines() or [''])[0][:200]}"


def _count_rows(sums: Counter[tuple[str, int]], place: int, made: Iterable[tuple[str, Row]]) -> None:
    """Rows, places and checksums by table, as `_index_agrees` asks them of the index."""
    for table, row in made:
        sums[table, 0] += 1
        sums[table, 1] += place
        sums[table, 2] += row[-1] if table == "trials" else 0


def _compare_segments(
    store: Path, journal: Folder, held: dict[str, tuple[int, int]], counted: dict[str, Counter[tuple[str, int]]]
) -> str:
    behind = False
    for name, reader in journal.readers.items():
        inode, size = held.get(name, (0, 0))
        behind = behind or inode != reader.path.stat().st_ino or size < reader.size
    if behind or set(held) - set(journal.readers):
        return "behind"
    try:
        with open_existing(store) or _gone_index() as index:
            wrong = [
                table for table in ("runs", "trials", "scores", "costs", "reports") if not _index_agrees(index, table, counted)
            ]
    except Exception as error:  # as above
        return f"damaged: {(str(error).splitlines() or [''])[0][:200]}"
    return f"disagrees with the journal on {', '.join(wrong)}" if wrong else "agrees"


def _gone_index() -> Index:
    raise StoreError("it was deleted while it was checked")


def _index_agrees(index: Index, table: str, counted: dict[str, Counter[tuple[str, int]]]) -> bool:
    crc = "sum(crc)" if table == "trials" else "0"
    sql = f"SELECT segment, count(*), sum(place), {crc}, count(COLUMNS(*)) FROM {table} GROUP BY segment"  # noqa: S608 - names of ours
    found = {row[0]: tuple(map(int, row[1:4])) for row in index.rows(sql)}
    told = {name: (sums[table, 0], sums[table, 1], sums[table, 2]) for name, sums in counted.items() if sums[table, 0]}
    return found == told
