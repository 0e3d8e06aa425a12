"""The tracked files of a git revision, or of the working tree with what is not committed yet (`WORKTREE`).

Who owns them is what the `CODEOWNERS` of that revision says.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from bisect_ai.canonical import Json
from bisect_ai.errors import ReleaseError
from bisect_ai.provider.redaction import shown
from bisect_ai.release.source_files import commit_of, git_contents, git_output, read_bytes, repository_of

# The revision that stands for the working tree: tracked files as they lie there, committed or not.
WORKTREE = "WORKTREE"
# Bytes from which on a file is one thing that changes as a whole.
LARGEST_TEXT = 8 << 20
# Bytes of blobs that are asked of git at once.
_BATCH = 64 << 20
# What git keeps of a file that is stored by LFS.
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n"
)
_NO_CONTENT = {hashlib.new(name, b"blob 0\0", usedforsecurity=False).hexdigest() for name in ("sha1", "sha256")}
SUBMODULE, SYMLINK = "160000", "120000"


@dataclass(frozen=True)
class FileEntry:
    """A tracked file: `mode` as git writes it (100644, 100755, 120000 for a link, 160000 for a submodule)."""

    mode: str
    # Git's name of the content.
    blob: str
    size: int
    # The content is in the working tree only.
    is_local: bool = False
    # Git knows of the file and not of its content (`git add --intent-to-add`).
    is_announced: bool = False


@dataclass(frozen=True)
class Checkout:
    """What one revision holds. Paths are from the top of the repository, with `/`."""

    top: Path
    # The folder that the settings call `repo`, from the top: empty, or ending in `/`.
    prefix: str
    name: str
    # In full; None: the working tree.
    commit: str | None
    entries: Mapping[str, FileEntry] = field(repr=False)
    # Names, as they are shown, of files that are in no cell: no UTF-8, or with control characters.
    unreadable: frozenset[str] = frozenset()

    def read(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """(path, content) of each file; of a symbolic link, where it leads. Raises `ReleaseError`."""
        here = [path for path in paths if self.entries[path].is_local]
        for path in here:
            yield path, _on_disk(self.top, path, self.entries[path].mode)
        for batch in _batches([path for path in paths if not self.entries[path].is_local], self.entries):
            yield from git_contents(self.top, [(self.entries[path].blob, path) for path in batch], self.name)


def open_checkout(folder: Path, revision: str) -> Checkout:
    """The files of `revision` in the repository around `folder`. Raises `ReleaseError` naming what is wrong."""
    top, prefix = repository_of(folder)
    if revision == WORKTREE:
        return Checkout(top, prefix, WORKTREE, None, *_worktree(top))
    commit = commit_of(folder, revision)
    return Checkout(top, prefix, revision, commit, *_tree(top, commit))


def file_value(entry: FileEntry, content: bytes) -> Json:
    """A file as a release holds it: its text, else a mapping that names the content: `symlink`, `lfs` or `binary`."""
    if entry.mode == SYMLINK:
        return {"symlink": os.fsdecode(content)}
    if (pointer := _POINTER.fullmatch(content[:1024])) is not None:
        return {"lfs": pointer[1].decode(), "bytes": int(pointer[2])}
    if b"\0" in content or len(content) > LARGEST_TEXT:
        return {"binary": entry.blob, "bytes": len(content)}
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return {"binary": entry.blob, "bytes": len(content)}


def untracked(side: Checkout) -> list[str]:
    """Files below `repo` that git neither tracks nor ignores."""
    said = git_output(side.top, "ls-files", "-z", "--others", "--exclude-standard", "--", side.prefix or ".")
    return [path for name in said.split(b"\0") if name and (path := _path(name)) is not None]


def leads_outside(path: str, target: str) -> bool:
    """Whether the symbolic link at `path` (from the top) ends outside the repository."""
    if target.startswith(("/", "~")) or "\\" in target:
        return True
    depth = 0
    for part in (*PurePosixPath(path).parent.parts, *PurePosixPath(target).parts):
        depth += -1 if part == ".." else part != "."
        if depth < 0:
            return True
    return False


def _tree(top: Path, commit: str) -> tuple[dict[str, FileEntry], frozenset[str]]:
    entries, unreadable = dict[str, FileEntry](), set[str]()
    for line in filter(None, git_output(top, "ls-tree", "-r", "-z", "-l", "--full-tree", commit).split(b"\0")):
        meta, _, name = line.partition(b"\t")
        mode, _, blob, size = meta.decode().split()
        if (path := _path(name)) is None:
            unreadable.add(shown(os.fsdecode(name)))
        else:
            entries[path] = FileEntry(mode, blob, 0 if size == "-" else int(size))
    return entries, frozenset(unreadable)


def _worktree(top: Path) -> tuple[dict[str, FileEntry], frozenset[str]]:
    """What git tracks, as it lies in the working tree now."""
    moved = {_path(name) for name in git_output(top, "ls-files", "-z", "-m", "-d").split(b"\0") if name}
    entries, unreadable = dict[str, FileEntry](), set[str]()
    for line in filter(None, git_output(top, "ls-files", "-z", "--stage").split(b"\0")):
        meta, _, name = line.partition(b"\t")
        mode, blob, stage = meta.decode().split()
        if (path := _path(name)) is None:
            unreadable.add(shown(os.fsdecode(name)))
            continue
        if stage != "0":
            raise ReleaseError(
                f"{shown(path)} is in the middle of a merge; finish it, or name a revision instead of {WORKTREE}"
            )
        if path not in moved or mode == SUBMODULE:
            entries[path] = FileEntry(mode, blob, 0)
        elif (top / path).is_symlink() or (top / path).is_file():
            entries[path] = replace(_local(top, path), is_announced=blob in _NO_CONTENT)
    return entries, frozenset(unreadable)


def _local(top: Path, path: str) -> FileEntry:
    file = top / path
    mode = SYMLINK if file.is_symlink() else "100755" if os.access(file, os.X_OK) else "100644"
    content = _on_disk(top, path, mode)
    return FileEntry(mode, blob_name(content), len(content), is_local=True)


def blob_name(content: bytes) -> str:
    """As git names a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _on_disk(top: Path, path: str, mode: str) -> bytes:
    file = top / path
    if mode == SYMLINK:
        return os.fsencode(file.readlink())
    if Path(os.path.realpath(file.parent)) != Path(os.path.realpath(top)) / PurePosixPath(path).parent:
        raise ReleaseError(f"{shown(path)} lies behind a symbolic link in the working tree; put the folder itself there")
    return read_bytes(file)


def _batches(paths: list[str], entries: Mapping[str, FileEntry]) -> Iterator[list[str]]:
    batch, size = list[str](), 0
    for path in paths:
        batch.append(path)
        size += entries[path].size or 1 << 16
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _path(name: bytes) -> str | None:
    """A name as text; None for one that is no UTF-8 or has control characters (a line end, an escape): no report could show it."""
    try:
        path = name.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return path if path.isprintable() else None


CODEOWNERS = ("CODEOWNERS", ".github/CODEOWNERS", ".gitlab/CODEOWNERS", "docs/CODEOWNERS")
_MOST_LINES = 5_000  # lines of CODEOWNERS; GitHub reads 3 MB, and a match costs each of them
_LONGEST_PATTERN = 500  # longer ones, and those with many stars, may take exponential time to match
_MOST_FILES = 200  # an axis of more files has no one owner worth naming


def code_owner(rules: str, path: str) -> str | None:
    """The owners of a path (from the top of the repository), as the rules name them; None: nobody."""
    from pathspec import GitIgnoreSpec

    for line in reversed(rules.split("\n")[:_MOST_LINES]):
        pattern, *owners = line.split("#")[0].split()[:20] or ("",)
        if not pattern or len(pattern) > _LONGEST_PATTERN or pattern.count("*") > 8 or pattern.startswith("!"):
            continue
        try:
            fits = GitIgnoreSpec.from_lines([pattern]).match_file(PurePosixPath(path).as_posix())
        except ValueError:
            continue
        if fits:
            return " ".join(owners) or None
    return None


def owner_of_files(side: Checkout, paths: Collection[str]) -> str | None:
    """Who owns all of these files, when that is one owner."""
    name = next((name for name in CODEOWNERS if name in side.entries), None)
    if name is None or not paths or len(paths) > _MOST_FILES:
        return None
    ((_, content),) = side.read([name])
    rules = content.decode("utf-8", "replace")
    owners = {code_owner(rules, path) for path in paths}
    return owners.pop() if len(owners) == 1 else None


@dataclass(frozen=True)
class FileSplit:
    """Two revisions of one repository and what becomes of each of their files. Paths are from the top of the repository."""

    good: Checkout
    bad: Checkout
    axis_of: Mapping[str, str] = field(repr=False)
    # Changed files that no cell varies: path to the side that all cells have.
    pinned: Mapping[str, str] = field(repr=False)
    notes: tuple[str, ...] = ()

    def entry(self, path: str) -> FileEntry:
        """The file as bad has it, else as good has it."""
        return self.bad.entries.get(path) or self.good.entries[path]

    def shared(self) -> dict[str, tuple[Checkout, FileEntry]]:
        """The files that are alike in every cell: path to where it is from."""
        found = {}
        for path in dict.fromkeys((*self.bad.entries, *self.good.entries)):
            side = self.good if self.pinned.get(path) == "good" else self.bad
            if path not in self.axis_of and path in side.entries and side.entries[path].mode != SUBMODULE:
                found[path] = (side, side.entries[path])
        return found
