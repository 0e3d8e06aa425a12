"""The two releases that the settings name: files, mappings, or revisions of a git repository.

A text that is an existing file is a release file, else a revision (`WORKTREE`: the working tree); `{file: …}` and `{git: …}` say
which. A revision is a release when the settings say how: `release`, a release file that is read there with all its references, or
`axes`, patterns of the files that make each axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bisect_ai.errors import ConfigError, ReleaseError
from bisect_ai.release.checkout import WORKTREE, FileSplit, open_checkout
from bisect_ai.release.file_axes import PathRules, release_beside, releases_of, split_files
from bisect_ai.release.file_text import shown
from bisect_ai.release.git import RepositoryRules, repository_of
from bisect_ai.release.load import Release, load_release, load_release_at

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
    repo, paths = folder / rules.repo, PathRules(rules.axes, rules.pin)
    opened = {side: _opened(repo, str(revision), side) for side, revision in revisions.items()}
    split = split_files(opened["good"], opened["bad"], paths)
    return ReleasePair(*releases_of(split, paths), split)


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
    return release_beside(pair.files, third, PathRules(rules.axes, rules.pin))


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
