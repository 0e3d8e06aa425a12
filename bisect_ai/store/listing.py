"""What runs a store holds, asked of its index."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bisect_ai.store.index import Index, ask
from bisect_ai.store.journal import SUFFIX
from bisect_ai.store.locks import is_locked
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
    alive = [p.name for p in (store / "journal").glob(f"*{SUFFIX}") if is_locked(p)]
    return ask(store, lambda index: _runs(index, alive))


def _runs(index: Index, alive: list[str]) -> list[RunRow]:
    return [_row(found) for found in index.rows(_RUNS, {"alive": alive})]


def _row(found: tuple[Any, ...]) -> RunRow:
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
  SELECT run, CAST(sum(calls) AS BIGINT) AS calls, count(*) FILTER (failed) AS errors FROM trials GROUP BY run
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
