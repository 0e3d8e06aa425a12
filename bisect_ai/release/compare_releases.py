"""`bisect-ai diff`: what changed between two releases, with the static check across axes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bisect_ai.release.check import static_check
from bisect_ai.release.diff import diff
from bisect_ai.release.load import Release, check_pair, load_release


def diff_releases(good: str | Path | Release, bad: str | Path | Release) -> dict[str, Any]:
    """The tree of changes as plain JSON: {good, bad, axes: [{axis, owner, same, changes}], suspects}."""
    first, second = load_release(good, root=_reference_root(good)), load_release(bad, root=_reference_root(bad))
    check_pair(first, second)
    return tree_of(first, second)


def tree_of(good: Release, bad: Release) -> dict[str, Any]:
    """The same for two loaded releases."""
    rows = [change.to_dict() for change in diff(good, bad).changes]
    axes = []
    for axis in dict.fromkeys((*good.axes, *bad.axes)):
        changes = [row for row in rows if row["axis"] == axis]
        owner = bad.provenance.get(axis, {}).get("owner")
        axes.append({"axis": axis, "owner": owner, "same": not changes, "changes": changes})
    suspects = [asdict(s) for s in static_check(good, bad)]
    return {"good": good.name, "bad": bad.name, "axes": axes, "suspects": suspects}


def _reference_root(release: str | Path | Release) -> Path | None:
    """The folder that references may reach: where bisect.yaml lies, in the release's folder or one above it."""
    if isinstance(release, Release):
        return None
    folder = Path(release).resolve().parent
    return next((place for place in (folder, folder.parent) if (place / "bisect.yaml").is_file()), None)
