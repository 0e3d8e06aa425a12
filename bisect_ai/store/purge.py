"""Removing a person's text: every trial of one query, its scores, and the examples of it in stored reports.

The index and everything that was made of it is deleted first; then each segment that mentions the query is written anew beside
itself and renamed into its place, one at a time. So at any moment every segment is whole, and purging again finishes what was
cut short. What calls cost stays on record: a purged trial keeps its identity (a digest), its cost and whether it failed. Lines
that were damaged are not copied; the gap in the sequence numbers still tells that they are missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from bisect_ai.canonical import canonical
from bisect_ai.errors import StoreError
from bisect_ai.provider.redaction import clear_id
from bisect_ai.store.index import drop_index
from bisect_ai.store.journal import open_folder, segment_paths, sync_folder
from bisect_ai.store.locks import Presence
from bisect_ai.store.record_lines import NEEDS, SCHEMA, Entry, decode, encode
from bisect_ai.store.recovery import Folder

_REWRITTEN = "rewritten-"
# Characters from which on a text is taken for the person's own: "yes" is anybody's.
_TELLING = 12
_STAYS = ("trial", "run", "failed", "usd", "tokens", "doubtful", "calls")


@dataclass
class Purged:
    """What was removed."""

    trials: int = 0
    scores: int = 0
    # Answers of a provider on the wire.
    exchanges: int = 0
    # In stored reports.
    examples: int = 0
    # In stored reports: those that quoted the query.
    warnings: int = 0
    segments: list[str] = field(default_factory=list)
    index_files: int = 0
    # Files of the store that still hold the query's id, or one of its texts (another query may have the same).
    left: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        """All that was removed from the journal."""
        return self.trials + self.scores + self.exchanges + self.examples + self.warnings


def purge_query(store: Path, query: str) -> Purged:
    """Remove a query from the store. Raises `StoreError` when a run has it open, or nothing could be written."""
    with contextlib.closing(Presence(store, alone=True)):
        done = Purged(index_files=drop_index(store))
        folder = open_folder(store)
        for left_over in folder.glob(f"{_REWRITTEN}*"):
            left_over.unlink()
        sought = _sought_identities(folder, clear_id(query))
        for path in segment_paths(folder):
            _purge_segment(path, sought, done)
        done.left = _still_there(store, sought)
        return done


def _sought_identities(folder: Path, query: str) -> _Sought:
    texts, identities = set(), set()
    for _, (_, head, payload) in Folder(folder).read():
        if head.get("type") == "trial" and head["query"] == query:
            identities.add(head["trial"])
            texts.add(json.loads(payload)["text"])
        if head.get("type") == "finished" and payload:
            for example in json.loads(payload).get("examples", ()):
                if example.get("query") == query:
                    texts |= {example.get("input"), *((example.get(side) or {}).get("text") for side in ("good", "bad"))}
    telling = frozenset(_text_inside(t) for t in texts if isinstance(t, str) and len(t) >= _TELLING)
    return _Sought(query, frozenset(identities), telling)


def _text_inside(text: str) -> str:
    return canonical(text)[1:-1]


@dataclass(frozen=True)
class _Sought:
    """What is to go: a query, the identities of its trials, and its texts as JSON writes them."""

    query: str
    identities: frozenset[str]
    texts: frozenset[str]


def _purge_segment(path: Path, sought: _Sought, done: Purged) -> None:
    before = done.records
    fresh = path.with_name(f"{_REWRITTEN}{secrets.token_hex(4)}")
    try:
        with path.open("rb") as old, _new_file(fresh) as new:
            damaged = _copy_without(old, new, sought, done)
            new.flush()
            os.fsync(new.fileno())
        if done.records > before or damaged:
            fresh.replace(path)
            sync_folder(path.parent)
            done.segments.append(path.name)
    except OSError as error:
        raise StoreError(
            f"cannot purge {path.name}: {error.strerror}; free space or mend the rights, then purge again"
        ) from error
    finally:
        fresh.unlink(missing_ok=True)


def _new_file(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _copy_without(old: BinaryIO, new: BinaryIO, sought: _Sought, done: Purged) -> bool:
    """Copy a segment without the query; gives whether damaged lines were left out, or a report no longer rests on all its answers."""
    damaged = False
    for line in old:
        record = decode(line)
        if record is None:
            damaged = True
            continue
        sequence, head, payload = record
        rested = "basis" in head
        changed = _entry_without(head, payload, sought, done)
        damaged |= rested and "basis" not in head
        new.write(line if changed is None else encode(sequence, changed))
    return damaged


def _entry_without(head: dict[str, Any], payload: bytes, sought: _Sought, done: Purged) -> Entry | None:
    """The record without the query; None: it stays as it is."""
    match head.get("type"):
        case "segment" if head["schema"] != SCHEMA:
            return {**head, "schema": SCHEMA, "needs": NEEDS}, None
        case "contents":  # places in a file that is about to change
            return {"type": "nothing"}, None
        case "end":
            return {"type": "end", "records": head["records"]}, None
        case "trial" if head["query"] == sought.query:
            done.trials += 1
            done.scores += len(head.get("scores", ()))
            return {"type": "purged", **{k: v for k, v in head.items() if k in _STAYS}}, None
        case "exchange" if head["query"] == sought.query:
            done.exchanges += 1
            return {"type": "nothing"}, None
        case "score" if head["trial"] in sought.identities:
            done.scores += 1
            return {"type": "nothing"}, None
        case "finished" if payload:
            return _report_without(head, json.loads(payload), sought, done)
    return None


def _report_without(head: dict[str, Any], report: dict[str, Any], sought: _Sought, done: Purged) -> Entry | None:
    examples = [e for e in report.get("examples", ()) if e.get("query") != sought.query]
    warnings = [w for w in report.get("warnings", ()) if not _quotes_query(w, sought)]
    gone = len(report.get("examples", ())) - len(examples), len(report.get("warnings", ())) - len(warnings)
    rested = sought.identities and head.pop("basis", None)  # the answers that it rests on are no longer all there
    if gone == (0, 0) and not rested:
        return None
    done.examples += gone[0]
    done.warnings += gone[1]
    return head, {**report, "examples": examples, "warnings": warnings}


def _quotes_query(warning: Any, sought: _Sought) -> bool:
    written = _text_inside(str(warning))
    return _text_inside(sought.query) in written or any(text in written for text in sought.texts)


def _still_there(store: Path, sought: _Sought) -> list[str]:
    """Files in which the query's id, as a whole JSON string, or a text of it is still to be read."""
    needles = [canonical(sought.query).encode("ascii"), *(text.encode("ascii") for text in sought.texts)]
    return [str(p.relative_to(store)) for p in _store_files(store) if any(needle in p.read_bytes() for needle in needles)]


def _store_files(store: Path) -> Iterator[Path]:
    return (path for path in sorted(store.rglob("*")) if path.is_file())
