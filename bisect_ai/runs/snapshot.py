"""A release as it is now, frozen in a file: every reference resolved, with digests, the git commit and the time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.release.git import git_output
from bisect_ai.release.load import Release, load_release
from bisect_ai.release.quoting import shown
from bisect_ai.runs.mcp_tools import list_tools
from bisect_ai.runs.prepare import check_no_key
from bisect_ai.runs.release_files import write_release

FOLDER = "snapshots"
_STAMP = "%Y-%m-%dT%H%M%SZ"
_NAMED = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{6}Z)")
_WHEN = re.compile(r"@(now|yesterday|\d{4}-\d{2}-\d{2})")


def take_snapshot(source: Path, to: Path, *, now: datetime | None = None) -> tuple[Release, Path]:
    """The frozen release and the file that it was written to (`to`, or in a folder `to` one named by the time).

    MCP servers are asked for their tools (`{mcp: "command or URL"}`). Raises `ReleaseError`.
    """
    taken = (now or datetime.now(UTC)).replace(microsecond=0)
    release = load_release(source, mcp=list_tools)
    check_no_key(release)
    commit = _commit(source)
    provenance = {
        axis: MappingProxyType(
            {
                **({"source": f"git:{commit}"} if commit else {}),
                **release.provenance.get(axis, {}),
                "digest": digest(value),
                "taken": taken.isoformat(),
            }
        )
        for axis, value in release.axes.items()
    }
    frozen = replace(release, provenance=MappingProxyType(provenance))
    path = to / f"{taken.strftime(_STAMP)}.yaml" if to.is_dir() or not to.suffix else to
    path.parent.mkdir(parents=True, exist_ok=True)
    write_release(frozen, path)
    return frozen, path


def snapshot_named(text: str, folder: Path, *, today: date | None = None) -> Path | None:
    """The snapshot in `folder` that `@now` (the newest), `@yesterday` or `@2026-11-20` (the newest of then or before) means.

    None: the text means something else. Raises `InputError` when there is no such snapshot.
    """
    found = _WHEN.fullmatch(text)
    if found is None:
        return None
    today = today or datetime.now(UTC).date()
    until = today if found[1] == "now" else today - timedelta(days=1) if found[1] == "yesterday" else _day(found[1])
    taken = sorted((_taken(path), path) for path in folder.glob("*.yaml")) if folder.is_dir() else []
    fitting = [path for at, path in taken if found[1] == "now" or at.date() <= until]
    if not fitting:
        oldest = f": the oldest is @{taken[0][0].date()}" if taken else ""
        what = f"no snapshot for {text} in {shown(folder)}{oldest}"
        raise InputError(f"{what}; `bisect-ai snapshot release.yaml -o {FOLDER}/` takes one")
    return fitting[-1]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as bad:
        raise InputError(f"cannot look up the snapshot @{text}: {bad}") from bad


def _taken(path: Path) -> datetime:
    named = _NAMED.search(path.name)
    if named is not None:
        return datetime.strptime(named[1], _STAMP).replace(tzinfo=UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _commit(source: Path) -> str | None:
    """The commit that the release file's folder is at; with `-dirty` when something there is not committed; None: no repository."""
    folder = source.resolve().parent
    try:
        commit = git_output(folder, "rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
        changed = git_output(folder, "status", "--porcelain", "--", ".").strip()
    except ReleaseError:
        return None
    return f"{commit}-dirty" if changed else commit


def summary_of(release: Release, path: Path) -> Mapping[str, Any]:
    """What is told of a snapshot: `file`, `release`, `digest`, and the axes with theirs."""
    axes = {axis: record["digest"] for axis, record in release.provenance.items()}
    return {"file": str(path), "release": release.name, "digest": release.digest, "axes": axes}
