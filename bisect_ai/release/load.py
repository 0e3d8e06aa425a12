"""Releases: read, resolved, frozen and hashed.

A release file (YAML or JSON) holds `release` (its name), `axes`, `provenance` and `pinned`, nothing else but, when it was written
frozen, the `digest` of its content: then no reference in it is resolved, and a changed content is refused. From Python a release is
a path, a `Release`, the same envelope as a mapping, or simply a mapping of axis to value. References are resolved in
files and envelopes; in a simple mapping every value stands for itself, for what Python gives is already a value.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bisect_ai.canonical import Json, digest, plain
from bisect_ai.errors import InputError, ReleaseError, Unchanged, nearest
from bisect_ai.provider.redaction import did_you_mean, shown
from bisect_ai.release.checkout import Checkout
from bisect_ai.release.composition import MISSING, FrozenDict, freeze, same
from bisect_ai.release.references import Committed, Keys, McpTools, ReleaseSource, Resolver, read_mapping
from bisect_ai.release.source_files import commit_of, decode_utf8, read_blob, repository_of
from bisect_ai.release.strict import parse_strict_json, parse_yaml

_ENVELOPE = ("release", "axes", "provenance", "digest", "pinned")
_WHOSE = ("owner", "author", "at", "why", "source")  # of an axis's provenance
_AXIS = re.compile(r"\w[\w.-]{0,63}")  # a name that is safe as a file, a column and an option


@dataclass(frozen=True)
class Release:
    """A named bundle of axes, all plain JSON and read-only. Two releases are equal when name and content are."""

    name: str
    axes: Mapping[str, Json] = field(compare=False)
    # Axis to who, when and why, as far as the release file or git says.
    provenance: Mapping[str, Mapping[str, Json]] = field(compare=False)
    # SHA-256 of the canonical JSON of `axes`.
    digest: str
    # The file it was read from; None: from Python.
    source: Path | None = field(default=None, compare=False)
    # Where the value of each reference came from, by the keys that lead to it (the axis first).
    sources: Mapping[Keys, ReleaseSource] = field(default_factory=dict, compare=False, repr=False)
    # The revision whose files the axes are; None: the axes were written in a release.
    checkout: Checkout | None = field(default=None, compare=False, repr=False)
    # Axis to a value that stays what it is, like a dated model or another provider's: what a drift is told apart by.
    pinned: Mapping[str, Json] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a copy is made of, in another process too; it is as read-only."""
        plain = (dict(self.axes), {axis: dict(record) for axis, record in self.provenance.items()}, dict(self.pinned))
        return _same_release, (*plain, self.name, self.digest, self.source, dict(self.sources), self.checkout)


def _read_only(axes: Mapping[str, Any]) -> Mapping[str, Json]:
    return MappingProxyType({axis: freeze(value) for axis, value in axes.items()})


def _same_release(
    axes: dict[str, Any],
    provenance: dict[str, dict[str, Any]],
    pinned: dict[str, Any],
    name: str,
    digest: str,
    source: Path | None,
    sources: dict[Keys, ReleaseSource],
    checkout: Checkout | None,
) -> Release:
    records = MappingProxyType({axis: MappingProxyType(record) for axis, record in provenance.items()})
    return Release(name, _read_only(axes), records, digest, source, sources, checkout, _read_only(pinned))


_TABLES = frozenset({".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"})


def load_release(
    source: str | Path | Release | Mapping[str, Any],
    *,
    root: str | Path | None = None,
    allow_env: Collection[str] = (),
    mcp: McpTools | None = None,
) -> Release:
    """The release that `source` names or is. Raises `ReleaseError` naming the file and the key of whatever is wrong.

    Paths in references start at the release file's folder and may not leave `root` (the folder of bisect.yaml; by
    default, or when the file lies elsewhere, its own folder). `allow_env`: variables that only look like credentials.
    `mcp` asks MCP servers for their tools; without it a release that names one is refused.
    """
    if isinstance(source, Release):
        return source
    if isinstance(source, Mapping):
        return _from_python(source, Path(root or "."), allow_env)
    if not isinstance(source, str | Path):
        raise ReleaseError(f"a release is a path or a mapping of axis to value, not {type(source).__name__}")
    return _from_file(Path(source), root, allow_env, mcp)


def load_release_at(repo: Path, revision: str, path: str) -> Release:
    """The release file `path` (from `repo`, a folder of a git repository) at a revision, all its references resolved there.

    Raises `ReleaseError` naming the revision and the file.
    """
    try:
        top, prefix = repository_of(repo)
        commit = commit_of(repo, revision)
        whole = Committed(top, commit, prefix.rstrip("/")).path(path)
        at = Committed(top, commit, posixpath.dirname(whole))
        text = decode_utf8(read_blob(top, commit, whole), whole)
        envelope = (parse_strict_json if whole.lower().endswith(".json") else parse_yaml)(text, whole)
        if not isinstance(envelope, dict):
            raise ReleaseError(f"{shown(whole)} is not a mapping of keys to values")
        release = _release_of(envelope, Resolver(top, repo, at=at), None)
    except ReleaseError as bad:
        raise ReleaseError(f"cannot load the release {shown(path)} at {shown(revision)}: {bad}") from bad
    name = release.name if "release" in envelope else revision
    provenance = {axis: {"source": f"git:{commit}:{whole}", **release.provenance.get(axis, {})} for axis in release.axes}
    sources = {(): ReleaseSource(top, whole, commit), **release.sources}
    frozen = {axis: MappingProxyType(record) for axis, record in provenance.items()}
    return replace(release, name=name, provenance=MappingProxyType(frozen), sources=MappingProxyType(sources))


def check_pair(good: Release, bad: Release) -> None:
    """None. Raises `Unchanged` when nothing differs between the two releases."""
    if not changed_axes(good, bad):
        raise Unchanged(
            f"the two releases {shown(good.name)} and {shown(bad.name)} are identical in every axis: nothing to bisect;"
            " check that good and bad are different files, and that references point at what each release used;"
            " to see whether one release still scores as its log says: bisect-ai drift"
        )


def changed_axes(good: Release, bad: Release) -> tuple[str, ...]:
    """Axes whose values differ, in good's order, then bad's. An axis that only one release has is changed: the other
    side counts as having no value, which `compose` leaves out and a change shows as None.
    """
    axes = dict.fromkeys((*good.axes, *bad.axes))
    return tuple(a for a in axes if not same(good.axes.get(a, MISSING), bad.axes.get(a, MISSING)))


def _from_file(path: Path, root: str | Path | None, allow_env: Collection[str], mcp: McpTools | None) -> Release:
    if path.is_dir():
        raise ReleaseError(
            f"cannot load the release {shown(path)}: it is a folder; name a release file in it, or a git revision"
        )
    if path.suffix in _TABLES:
        raise ReleaseError(
            f"cannot load the release {shown(path)}: {path.suffix} files hold records, as a log does; name a YAML or JSON file "
            "with `axes:`"
        )
    envelope = read_mapping(path)
    folder = path.resolve().parent
    top = Path(root).resolve() if root is not None else folder
    resolver = Resolver(top if folder.is_relative_to(top) else folder, folder, allow_env, mcp=mcp)
    try:
        return _release_of(envelope, resolver, path)
    except ReleaseError as bad:
        raise ReleaseError(f"cannot load the release {shown(path)}: {bad}") from bad


def _from_python(source: Mapping[str, Any], root: Path, allow_env: Collection[str]) -> Release:
    try:
        if isinstance(source.get("axes"), Mapping) and set(source) <= set(_ENVELOPE):
            return _release_of(source, Resolver(root, root, allow_env), None)
        return _frozen_release(None, {str(name): value for name, value in _axes(source).items()}, {}, None)
    except InputError as bad:
        raise ReleaseError(f"cannot load a release given as a mapping: {bad}") from bad


def _release_of(envelope: Mapping[str, Any], resolver: Resolver, path: Path | None) -> Release:
    for key in envelope:
        if key not in _ENVELOPE:
            below = "; parts of a release stand below `axes:`" if "axes" not in envelope else ""
            raise ReleaseError(f"unknown key {shown(key)}{did_you_mean(str(key), _ENVELOPE)}{below}")
    axes = _axes(envelope.get("axes"))
    if "digest" in envelope:
        _check_digest(envelope["digest"], axes)
    else:
        axes = {name: resolver.axis(name, value) for name, value in axes.items()}
    provenance = _checked_provenance(envelope.get("provenance"), axes)
    for axis, sources in resolver.sources.items():
        provenance[axis] = {"source": ", ".join(dict.fromkeys(sources))} | provenance.get(axis, {})
    release = _frozen_release(_release_name(envelope.get("release"), path), axes, provenance, path)
    return replace(release, sources=MappingProxyType(resolver.found), pinned=_checked_pinned(envelope.get("pinned"), axes))


def _check_digest(given: Any, axes: dict[str, Json]) -> None:
    if given != digest(axes):
        raise ReleaseError(
            "its content is not what its digest says: it was changed after it was written; write it again, or remove the key "
            "'digest' to load it as an ordinary release"
        )


def _axes(axes: Any) -> dict[str, Json]:
    """Plain JSON by axis, the names checked."""
    if not isinstance(axes, Mapping):
        raise ReleaseError("the key 'axes' must be a mapping of axis to value, such as prompt, model, tools")
    if not axes:
        raise ReleaseError("it has no axes; give at least one, such as prompt, model, tools")
    for name in axes:
        check_axis_name(name)
    return {name: plain(value, where=f"axes.{name}", depth=1) for name, value in axes.items()}


def check_axis_name(name: Any) -> None:
    """None. Raises `ReleaseError` when it is no name for an axis."""
    if not isinstance(name, str) or not _AXIS.fullmatch(name):
        raise ReleaseError(f"the axis name {shown(name)} is odd; use up to 64 letters, digits, _, - and .")


def _checked_provenance(given: Any, axes: Collection[str]) -> dict[str, dict[str, Any]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ReleaseError("the key 'provenance' must be a mapping of axis to owner, author, at, why, source")
    for axis, record in given.items():
        if axis not in axes:
            raise ReleaseError(f"provenance names the unknown axis {shown(axis)}{did_you_mean(str(axis), axes)}")
        if not isinstance(record, Mapping):
            raise ReleaseError(f"provenance.{axis} must be a mapping of owner, author, at, why, source")
        for key in sorted(map(str, record.keys() - set(_WHOSE))):
            if near := nearest(key, _WHOSE, cutoff=0.75):  # else a word of the user's own
                raise ReleaseError(f"provenance.{axis} has the unknown key {shown(key)}; did you mean {shown(near)}?")
    return {axis: dict(plain(record, where=f"provenance.{axis}")) for axis, record in given.items()}  # type: ignore[arg-type]  # mappings, as checked above


def _checked_pinned(given: Any, axes: Collection[str]) -> Mapping[str, Json]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not given:
        raise ReleaseError(
            "the key 'pinned' must be a mapping of axis to a value that does not move, like model: {model: …-2025-04-14}"
        )
    for axis in given:
        if axis not in axes:
            raise ReleaseError(f"pinned names the unknown axis {shown(axis)}{did_you_mean(str(axis), axes)}")
    return MappingProxyType({axis: freeze(plain(value, where=f"pinned.{axis}", depth=1)) for axis, value in given.items()})


def _release_name(given: Any, path: Path | None) -> str | None:
    if given is None:
        return path.stem if path else None
    if isinstance(given, bool) or not isinstance(given, str | int | float) or not str(given).strip():
        raise ReleaseError(f"the key 'release' must be the release's name, not {shown(given)}; quote it")
    return str(given)


def _frozen_release(name: str | None, axes: dict[str, Json], provenance: dict[str, Any], path: Path | None) -> Release:
    content = digest(axes)
    return Release(
        name=name or f"release-{content[:8]}",
        axes=_read_only(axes),
        provenance=MappingProxyType({axis: MappingProxyType(record) for axis, record in provenance.items()}),
        digest=content,
        source=path,
    )


def compose(good: Release, bad: Release, axes_from_bad: Collection[str]) -> Mapping[str, Json]:
    """Axis to value, read-only and without copies. An axis that the chosen side does not have is left out."""
    known = dict.fromkeys((*good.axes, *bad.axes))
    for axis in axes_from_bad:
        if axis not in known:
            raise ReleaseError(f"cannot compose a cell: neither release has an axis {shown(axis)}{did_you_mean(axis, known)}")
    sides = ((axis, bad.axes if axis in axes_from_bad else good.axes) for axis in known)
    return MappingProxyType(FrozenDict({axis: side[axis] for axis, side in sides if axis in side}))
