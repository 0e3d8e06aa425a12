"""Any combination of changes as a release: what a trial below the level of axes runs on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bisect_ai.canonical import Json
from bisect_ai.release.changes import Change
from bisect_ai.release.diff import diff
from bisect_ai.release.load import Release


def apply_changes(good: Release, bad: Release, changes: Iterable[Change]) -> Mapping[str, Json]:
    """Axis to value, read-only: `good` with these changes of `diff(good, bad)`. For many combinations keep the tree and
    call its `apply`. Raises `Infeasible` for changes that cannot be put together, `ReleaseError` for those of another diff.
    """
    return diff(good, bad).apply(changes)
