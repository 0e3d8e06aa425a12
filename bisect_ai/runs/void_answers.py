"""Stored answers that a changed release makes void: a run of the same two names before the edit paid for them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.release.load import compose
from bisect_ai.runs.ground import Digests
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.trials import identity_of
from bisect_ai.store.index import open_index

_RUNS = "SELECT run, settings FROM runs WHERE good = ? AND bad = ? AND run <> ? ORDER BY segment DESC, place DESC"
_TRIALS = "SELECT trial, query, bad_axes, repeat, usd FROM trials WHERE run = ? AND NOT failed AND NOT purged"


def void_answers(prepared: Prepared, *, folder: Path) -> dict[str, Any] | None:
    """{run, void, kept, usd} of the last run of releases with these names and axes; None: there was none with other content.

    `void`: its answers in combinations of whole axes, on sampled queries, that this run would have to ask for again; `usd` is what
    they cost.
    """
    store = prepared.config.store
    if store is None or not (folder / store / "journal").is_dir():
        return None
    index = open_index(folder / store)
    try:
        names = (prepared.good.name, prepared.bad.name, prepared.run_id)
        rows = index.frame(_RUNS, names).itertuples(index=False)
        run = next(
            (row.run for row in rows if set(json.loads(str(row.settings)).get("axes") or ()) == set(prepared.axes)), None
        )
        return None if run is None else _compared(prepared, str(run), index.frame(_TRIALS, (run,)))
    finally:
        index.close()


def _compared(prepared: Prepared, run: str, trials: Any) -> dict[str, Any] | None:
    target, digests = digest(dict(prepared.target.identity)), Digests()
    queries = {query.id: query.digest for query in prepared.sample.queries}
    cells: dict[frozenset[str], str] = {}
    void, kept, usd = 0, 0, 0.0
    for row in trials.itertuples(index=False):
        bad = frozenset(row.bad_axes)
        if row.query not in queries or not bad <= set(prepared.axes):
            continue
        if bad not in cells:
            cells[bad] = digests.of(compose(prepared.good, prepared.bad, bad))
        if identity_of(cells[bad], queries[row.query], target, int(row.repeat)) == row.trial:
            kept += 1
        else:
            void, usd = void + 1, usd + _known(row.usd)
    return {"run": run, "void": void, "kept": kept, "usd": round(usd, 4)} if void else None


def _known(usd: Any) -> float:
    """A cost, or nothing where none was told (null in the table)."""
    return 0.0 if usd is None or math.isnan(usd) else float(usd)
