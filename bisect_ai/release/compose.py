"""The release of a cell: some axes from bad, the rest from good."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from bisect_ai.canonical import Json
from bisect_ai.errors import ReleaseError
from bisect_ai.release.load import Release
from bisect_ai.release.quoting import did_you_mean, shown


def compose(good: Release, bad: Release, axes_from_bad: Collection[str]) -> Mapping[str, Json]:
    """Axis to value, read-only and without copies. An axis that the chosen side does not have is left out."""
    known = dict.fromkeys((*good.axes, *bad.axes))
    for axis in axes_from_bad:
        if axis not in known:
            raise ReleaseError(f"cannot compose a cell: neither release has an axis {shown(axis)}{did_you_mean(axis, known)}")
    sides = ((axis, bad.axes if axis in axes_from_bad else good.axes) for axis in known)
    return MappingProxyType({axis: side[axis] for axis, side in sides if axis in side})
