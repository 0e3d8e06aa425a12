"""What `bisect-ai runs` says about a store: its runs, whether it is whole, what was purged. Lines are safe to print."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bisect_ai.report.untrusted_text import one_line
from bisect_ai.store.integrity import Checked, RunRow, Verified, list_runs, verify_store
from bisect_ai.store.purge import purge_query


@dataclass(frozen=True)
class Said:
    """Lines to print, the same as plain JSON, notices for standard error, and what is wrong (None: nothing)."""

    lines: tuple[str, ...]
    plain: Any
    notices: tuple[str, ...] = ()
    wrong: str | None = None


def runs_of(store: Path) -> Said:
    """The runs in a store, oldest first."""
    rows, notices = list_runs(store)
    lines = tuple(one_line(_run_line(row)) for row in rows) or ("no runs yet",)
    return Said(lines, [row.to_dict() for row in rows], tuple(map(one_line, notices)))


def _run_line(row: RunRow) -> str:
    outcome = {
        "finished": row.sentence or "",
        "running": "running now",
        "interrupted": "interrupted: run the same command again to go on",
    }[row.status]
    money = f"  {row.usd:.4g} USD" if row.usd else ""
    line = f"{row.run}  {row.good} -> {row.bad}  {row.metric}  {row.calls} calls{money}  {outcome}"
    open_ = row.unsettled
    if row.status == "running" or not open_.calls:
        return line
    return f"{line} ({open_.told()})"


def checked(store: Path) -> Said:
    """Whether a store is whole; everything in it is read."""
    found = verify_store(store)
    lines = [_segment_line(c) for c in found.segments]
    lines += [f"index: {_INDEX.get(found.index, found.index)}", *(f"may be read by others: {path}" for path in found.looser)]
    return Said(tuple(map(one_line, lines)), found.to_dict(), wrong=None if found.is_whole else _wrong(store, found))


_INDEX = {
    "absent": "not there; made when it is asked",
    "behind": "behind the journal; brought up to date when it is asked",
    "agrees": "agrees with the journal",
}
_STATES = {
    "closed": "whole",
    "open": "being written",
    "killed": "not closed: its run was killed, or still starts",
    "cut": "damaged: cut short after it was closed",
    "missing": "damaged: the file is gone",
}


def _segment_line(c: Checked) -> str:
    state = f"damaged: {c.lost} records lost" if c.lost and c.state in ("closed", "killed", "open") else _STATES[c.state]
    lost = f", {c.lost} records lost" if c.state in ("cut", "missing") else ""
    torn = f", ends in {c.torn_bytes} bytes of a record that was never acknowledged" if c.torn_bytes else ""
    return f"{c.segment}  {c.records} records  {state}{lost}{torn}"


def _wrong(store: Path, found: Verified) -> str:
    bad = [c for c in found.segments if c.is_damaged]
    if not bad:
        return f"the index of {store} is not what the journal says ({found.index}): delete index.duckdb, it is made anew"
    return (
        f"the store {store} is damaged: {found.lost} records lost in {len(bad)} of {len(found.segments)} segments; "
        "what was lost is asked again when the run goes on, all else is kept"
    )


def purged(store: Path, query: str) -> Said:
    """What was removed of a query, for good."""
    done = purge_query(store, query)
    wired = f" ({done.exchanges} of a provider on the wire)" if done.exchanges else ""
    lines = [
        f"query {query}: removed {done.trials + done.exchanges} answers{wired}, {done.scores} scores, {done.examples} examples and "
        f"{done.warnings} warnings in reports, from {len(done.segments)} segments; what its calls cost stays on record",
    ]
    if done.index_files:
        lines.append("the index was deleted; it is made anew when it is asked")
    if done.left:
        lines.append(f"still to be read, perhaps of other queries that say the same: {', '.join(done.left)}")
    elif not done.records:
        lines.append("nothing of it was in the store")
    else:
        lines.append("no byte of its id or its texts is left in the store; logs and reports elsewhere are not touched")
    return Said(tuple(map(one_line, lines)), asdict(done))
