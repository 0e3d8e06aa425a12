"""The two releases that the settings name: files, mappings, or revisions of a git repository.

A text that is an existing file is a release file, else a revision (`WORKTREE`: the working tree); `{file: …}` and `{git: …}` say
which. A revision is a release when the settings say how: `release`, a release file that is read there with all its references, or
`axes`, patterns of the files that make each axis. A file belongs to the first axis, in the order written, whose gitignore patterns
match its path below `repo`. Changed files below `repo` that match none are the axis `rest`, but for those that `pin` takes to one
side; changed files elsewhere are as in bad.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

from bisect_ai.canonical import Json, digest
from bisect_ai.errors import ConfigError, ReleaseError
from bisect_ai.provider.redaction import shown
from bisect_ai.release.checkout import (
    LARGEST_TEXT,
    SUBMODULE,
    SYMLINK,
    WORKTREE,
    Checkout,
    FileSplit,
    file_value,
    leads_outside,
    open_checkout,
    owner_of_files,
    untracked,
)
from bisect_ai.release.composition import freeze
from bisect_ai.release.load import Release, check_axis_name, load_release, load_release_at
from bisect_ai.release.references import Keys, ReleaseSource
from bisect_ai.release.source_files import MAX_FOLDER_BYTES, RepositoryRules, repository_of

_ENDINGS = (".yaml", ".yml", ".json")


class ReleasePair(NamedTuple):
    """Good and bad; `files`: what becomes of each file of the repository, when the axes are paths."""

    good: Release
    bad: Release
    files: FileSplit | None = None


def load_pair(good: Any, bad: Any, *, folder: Path, rules: RepositoryRules) -> ReleasePair:
    """The releases that the settings name. Raises `ReleaseError` or `ConfigError` naming whatever is wrong."""
    sides = {"good": good, "bad": bad}
    revisions = {side: revision_of(value, folder=folder) for side, value in sides.items()}
    if not rules.axes:
        loaded = {side: load_side(value, folder=folder, rules=rules) for side, value in sides.items()}
        loaded = _named_by_revision(loaded, revisions)
        return ReleasePair(loaded["good"], loaded["bad"])
    for side, revision in revisions.items():
        if revision is None:
            raise ConfigError(f"axes: patterns are for git revisions, and {side} is none; name a revision, or leave `axes` out")
    repo = folder / rules.repo
    opened = {side: _opened(repo, str(revision), side) for side, revision in revisions.items()}
    split = split_files(opened["good"], opened["bad"], rules)
    return ReleasePair(*releases_of(split, rules), split)


def load_side(source: Any, *, folder: Path, rules: RepositoryRules) -> Release:
    """One release that does not depend on another: all but revisions whose axes are paths. Raises as `load_pair` does."""
    revision = revision_of(source, folder=folder)
    if revision is None:
        named = source["file"] if _is_explicit(source, "file") else source
        return load_release(folder / named if isinstance(named, str | Path) else named, root=folder)
    if rules.axes:
        raise ConfigError(f"cannot use the git revision {shown(revision)} here, where axes are paths: name a release file")
    if rules.release is None:
        _check_repository(folder / rules.repo, revision)
        raise ConfigError(
            f"{shown(revision)} is a git revision: say in bisect.yaml what its axes are, by paths (axes: {{prompt: prompts/**, model: "
            "config/model.yaml}) or by a release file in it (release: release.yaml)"
        )
    repo = folder / rules.repo
    if revision == WORKTREE:
        return load_release(repo / rules.release, root=repo)
    return load_release_at(repo, revision, rules.release)


def load_beside(source: Any, *, good: Any, bad: Any, folder: Path, rules: RepositoryRules) -> Release:
    """A third release beside good and bad; of a revision whose axes are paths, its files are divided as theirs are.

    Raises as `load_pair` does.
    """
    revision = revision_of(source, folder=folder)
    if revision is None or not rules.axes:
        return load_side(source, folder=folder, rules=rules)
    pair = load_pair(good, bad, folder=folder, rules=rules)
    assert pair.files is not None
    third = _opened(folder / rules.repo, revision, "third")
    return release_beside(pair.files, third, rules)


def revision_of(source: Any, *, folder: Path) -> str | None:
    """The git revision that `source` is; None when it is a file, a mapping or a release."""
    if _is_explicit(source, "git"):
        return str(source["git"])
    if not isinstance(source, str) or not source or (folder / source).exists() or source.endswith(_ENDINGS):
        return None
    return source


def _is_explicit(source: Any, kind: str) -> bool:
    return isinstance(source, Mapping) and set(source) == {kind} and isinstance(source[kind], str)


def _opened(repo: Path, revision: str, side: str) -> Any:
    _check_repository(repo, revision)
    try:
        return open_checkout(repo, revision)
    except ReleaseError as bad:
        raise ReleaseError(f"cannot read the {side} release: {bad}") from bad


def _check_repository(repo: Path, revision: str) -> None:
    """Raises `ReleaseError` when there is no repository that could have the revision: then a file was meant, perhaps."""
    if not repo.is_dir():
        raise ConfigError(f"repo: {shown(repo)} is no folder; it is a path from the folder of bisect.yaml")
    try:
        repository_of(repo)
    except ReleaseError as bad:
        raise ReleaseError(f"cannot load the release {shown(revision)}: no such file, and as a git revision: {bad}") from bad


def _named_by_revision(loaded: dict[str, Release], revisions: Mapping[str, str | None]) -> dict[str, Release]:
    """The two, by their revisions where the release file has the same name at both."""
    if loaded["good"].name != loaded["bad"].name or not all(revisions.values()):
        return loaded
    return {side: replace(release, name=str(revisions[side])) for side, release in loaded.items()}


REST = "rest"
_SHOWN = 3  # more are counted


def split_files(good: Checkout, bad: Checkout, rules: RepositoryRules) -> FileSplit:
    """What is an axis, pinned or alike in both. Raises `ConfigError` for patterns that match nothing, `ReleaseError`."""
    notes = _Notes()
    axis_of, pinned = dict[str, str](), dict[str, str]()
    choose, pin = _chooser(rules.axes, "axes"), _chooser(rules.pin, "pin")
    prefix = bad.prefix
    for path in sorted({*good.entries, *bad.entries}):
        is_changed = _changed_content(good, path) != _changed_content(bad, path)
        below = path.removeprefix(prefix) if path.startswith(prefix) else None
        axis = None if below is None else choose(below)
        if not notes.is_usable(path, good, bad, is_wanted=is_changed or axis is not None):
            continue
        side = pin(below) if below is not None and axis is None and is_changed else None
        if axis is not None:
            axis_of[path] = axis
        elif is_changed and side is None and below is not None:
            axis_of[path] = REST
        elif is_changed:
            pinned[path] = side or "bad"
    _check_matched(rules, axis_of)
    if bad.commit is None and (new := [path for path in untracked(bad) if choose(path.removeprefix(prefix)) is not None]):
        notes.add("not tracked by git, so not part of WORKTREE; `git add` makes it one", new)
    if unreadable := sorted(good.unreadable | bad.unreadable):
        notes.add("a file name that is no UTF-8 or has control characters: in no cell; rename it", unreadable)
    outside = [path for path in pinned if not path.startswith(prefix)]
    if outside:
        notes.add(f"changed outside {prefix.rstrip('/')}, the same in every cell (as in bad)", outside)
    return FileSplit(good, bad, axis_of, pinned, notes.lines())


def releases_of(split: FileSplit, rules: RepositoryRules) -> tuple[Release, Release]:
    """The two revisions as releases: axis to {path below `repo`: text, or what names the content}."""
    axes = [axis for axis in (*rules.axes, REST) if axis in set(split.axis_of.values())]
    return _release_of_files(split, split.good, axes), _release_of_files(split, split.bad, axes)


def release_beside(split: FileSplit, side: Checkout, rules: RepositoryRules) -> Release:
    """A further revision as a release, beside the two that were split; a file that only it changes is in its axis, or `rest`.

    Raises `ReleaseError` for a change of it that no cell can hold: a shared file that is gone, or a content that is no text.
    """
    shared, choose = split.shared(), _chooser(rules.axes, "axes")
    axis_of = dict(split.axis_of)
    for path, entry in side.entries.items():
        below = path.removeprefix(side.prefix) if path.startswith(side.prefix) else None
        is_new = path not in shared or shared[path][1].blob != entry.blob
        if path not in axis_of and path not in split.pinned and below is not None and is_new and entry.mode != SUBMODULE:
            axis_of[path] = choose(below) or REST
    gone = [path for path in shared if path.startswith(side.prefix) and path not in side.entries and path not in split.pinned]
    if gone:
        raise ReleaseError(
            f"{shown(side.name)} lacks {_listed_paths(gone)}, which every cell has; name a revision that keeps it"
        )
    whole = replace(split, axis_of=axis_of)
    release = _release_of_files(whole, side, [axis for axis in (*rules.axes, REST) if axis in set(axis_of.values())])
    values: Mapping[str, Any] = release.axes
    for axis, value in values.items():
        for name, content in value.items():
            if not isinstance(content, str) and not _is_held(split, side, side.prefix + name):
                raise ReleaseError(
                    f"{shown(side.name)} changes {shown(name)} in {axis}, which is no text: cells only hold what good or bad has"
                )
    return release


def _is_held(split: FileSplit, side: Checkout, path: str) -> bool:
    """Whether good or bad has the file with this content."""
    return any(other.entries.get(path) == side.entries[path] for other in (split.good, split.bad))


def _release_of_files(split: FileSplit, side: Checkout, axes: Iterable[str]) -> Release:
    values: dict[str, dict[str, Json]] = {axis: {} for axis in dict.fromkeys(axes)}
    paths = [path for path in sorted(split.axis_of) if path in side.entries]
    if (size := sum(side.entries[path].size for path in paths)) > MAX_FOLDER_BYTES:
        raise ReleaseError(
            f"the axes hold {size >> 20} MiB at {shown(side.name)}, more than {MAX_FOLDER_BYTES >> 20}; name less"
        )
    for path, value in _file_values(side, paths):
        values[split.axis_of[path]][path.removeprefix(side.prefix)] = value
    sources: dict[Keys, ReleaseSource] = {
        (axis,): ReleaseSource(side.top, side.prefix.rstrip("/"), side.commit, whole=True) for axis in values
    }
    provenance = {axis: MappingProxyType(_files_provenance(split, side, axis)) for axis in values}
    return Release(
        name=side.name,
        axes=MappingProxyType({axis: freeze(value) for axis, value in values.items()}),
        provenance=MappingProxyType(provenance),
        digest=digest(values),
        sources=MappingProxyType(sources),
        checkout=side,
    )


def _files_provenance(split: FileSplit, side: Checkout, axis: str) -> dict[str, Json]:
    changed = [
        path
        for path, its in split.axis_of.items()
        if its == axis and _changed_content(split.good, path) != _changed_content(split.bad, path)
    ]
    owner = owner_of_files(side, changed)
    return {**({"owner": owner} if owner else {}), "source": f"git:{side.commit}" if side.commit else side.name}


def _file_values(side: Checkout, paths: Sequence[str]) -> Iterator[tuple[str, Json]]:
    """(path, value) in the order of the paths; what is too large to be compared is not read."""
    large = {path for path in paths if side.entries[path].size > LARGEST_TEXT}
    found: dict[str, Json] = {
        path: file_value(side.entries[path], content) for path, content in side.read([p for p in paths if p not in large])
    }
    for path in paths:
        entry = side.entries[path]
        yield path, {"binary": entry.blob, "bytes": entry.size} if path in large else found[path]


def _changed_content(side: Checkout, path: str) -> tuple[str, bool] | None:
    """What of a file counts as changed: its content, and whether it is a link. Whether it may be run does not."""
    entry = side.entries.get(path)
    return None if entry is None else (entry.blob, entry.mode == SYMLINK)


def _chooser(rules: Mapping[str, Sequence[str]], key: str) -> Any:
    """A function from a path to the first name whose patterns match it, or None."""
    from pathspec import GitIgnoreSpec

    specs = []
    for name, patterns in rules.items():
        if key == "axes":
            check_axis_name(name)
        try:
            specs.append((name, GitIgnoreSpec.from_lines(patterns)))
        except ValueError as bad:
            raise ConfigError(f"{key}.{name}: {shown(list(patterns))} is no gitignore pattern: {bad}") from bad
    return lambda path: next((name for name, spec in specs if spec.match_file(path)), None)


def _check_matched(rules: RepositoryRules, axis_of: Mapping[str, str]) -> None:
    there = set(axis_of.values())
    for name, patterns in rules.axes.items():
        if name not in there:
            if any(pattern.lstrip("!/").startswith("../") for pattern in patterns):
                raise ConfigError(
                    f"axes.{name}: {', '.join(map(shown, patterns))} leads out of `repo`, whose files alone make up axes; write as "
                    "`repo` the folder that holds both, and paths from there, in `target.run` too"
                )
            raise ConfigError(
                f"axes.{name}: no tracked file of either revision matches {', '.join(map(shown, patterns))} (gitignore patterns, "
                "relative to `repo`, the first axis that matches has the file)"
            )


class _Notes:
    """One clear line for each kind of file that a cell cannot hold as it is."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {}

    def add(self, what: str, paths: Iterable[str]) -> None:
        self._paths.setdefault(what, []).extend(paths)

    def is_usable(self, path: str, good: Checkout, bad: Checkout, *, is_wanted: bool) -> bool:
        """Whether a file can be part of an axis; what cannot, and is wanted there, is noted."""
        sides = [side for side in (good, bad) if path in side.entries]
        if any(side.entries[path].mode == SUBMODULE for side in sides):
            if is_wanted:
                self.add("a submodule: cells do not hold its files, and a change of it is not tried", [path])
            return False
        links = [side for side in sides if side.entries[path].mode == SYMLINK]
        if any(leads_outside(path, content.decode("utf-8", "replace")) for s in links for _, content in s.read([path])):
            self.add("a symbolic link that leads outside the repository: left out", [path])
            return False
        return True

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{_listed_paths(paths)}: {what}" for what, paths in self._paths.items())


def _listed_paths(paths: Sequence[str]) -> str:
    more = len(paths) - _SHOWN
    first = ", ".join(PurePosixPath(path).as_posix() for path in paths[:_SHOWN])
    return f"{first} and {more} more" if more > 0 else first
