"""Cells as folders: each combination of files made once, by hard links, with what `setup` brought; the checkout stays as it is."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
import sys
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from bisect_ai.canonical import canonical, digest, plain
from bisect_ai.errors import ConfigError
from bisect_ai.release.checkout import SYMLINK, Checkout, FileEntry, FileSplit, blob_name, file_value
from bisect_ai.targets.programs import ProgramEnded, run_once
from bisect_ai.targets.workplace import Cell, Workplace, alone

# Files that say what a setup installs, unless `setup_files` names others. It depends on what it was seen to read as well:
# one that builds or copies the program runs for each content of the source. Where files keep no times of access, only
# `setup_files` can say so.
LOCKS = (
    *("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements*.txt", "package-lock.json", "npm-shrinkwrap.json"),
    *("yarn.lock", "pnpm-lock.yaml", "bun.lock", "go.sum", "Cargo.lock", "Gemfile.lock", "composer.lock"),
)
# Folders that are kept at once; an older one is made anew when it is needed again.
MOST_CELLS = 64
# Bytes up to which what a setup made is searched for its own path, which is another in every cell.
_SMALL = 1 << 20
# Path to (mode, name of the content, content or where git has it).
Placed = Mapping[str, tuple[str, str, bytes | tuple[Checkout, str]]]


class CellFolders:
    """Makes the folders of a run's cells. `setup`: commands run once for each distinct content of `setup_files`."""

    def __init__(
        self,
        files: FileSplit,
        releases: Mapping[str, Mapping[str, Any]],
        *,
        include: Sequence[str] = (),
        setup: Sequence[Sequence[str] | str] = (),
        setup_files: Sequence[str] = LOCKS,
        setup_seconds: float = 1800.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._files, self._shared = files, files.shared()
        self._prefix = files.bad.prefix
        self._include = dict(_included(files.bad.top / self._prefix, include))
        self._setup, self._setup_files, self._setup_seconds = list(setup), tuple(setup_files), setup_seconds
        self._environment = dict(environment or {})
        self._sides = {digest(dict(axes)): side for side, axes in releases.items()}
        self._special = dict(self._specials(releases))
        self._keys: OrderedDict[int, tuple[Mapping[str, Any], str]] = OrderedDict()
        self._cells: OrderedDict[str, Cell] = OrderedDict()
        self._guard, self._making = threading.Lock(), threading.Lock()
        self._workplace: Workplace | None = None
        self._blobs: dict[str, tuple[int, int]] = {}

    @property
    def digest(self) -> str:
        """What every cell has besides its axes."""
        same = {path: [entry.blob, entry.mode] for path, (_, entry) in self._shared.items()}
        return digest({"files": same, "home": self._prefix, "include": sorted(self._include)})

    @property
    def environment(self) -> dict[str, str]:
        """What programs in the cells get besides the caller's environment."""
        return {"PYTHONUNBUFFERED": "1", **self._environment, **self.workplace.environment}

    @property
    def workplace(self) -> Workplace:
        """Where the folders are; what killed runs left is cleared when it is first asked for."""
        with self._guard:
            if self._workplace is None:
                self._workplace = Workplace()
            return self._workplace

    @contextmanager
    def using(self, release: Mapping[str, Any]) -> Iterator[Cell]:
        """The cell of a composed release, made if need be, and there as long. Raises as `Cell.check` does when its setup fails."""
        cell = self._cell(self._key(release))
        try:
            cell.check()
            with cell.guard:
                if not cell.is_made and cell.failure is None:
                    self._make(cell, release)
            cell.check()
            yield cell
        finally:
            self.count(cell, -1)

    def count(self, cell: Cell, more: int) -> None:
        """So many more (or fewer) are at work in a cell."""
        with self._guard:
            cell.users += more

    def close(self) -> None:
        """Remove every folder."""
        with self._guard:
            workplace, self._workplace = self._workplace, None
            self._cells.clear()
            self._blobs.clear()
        if workplace is not None:
            workplace.close()

    # -- which -------------------------------------------------------------------------------------------------------
    def _key(self, release: Mapping[str, Any]) -> str:
        with self._guard:
            held, key = self._keys.get(id(release), (None, ""))
        if held is not release:
            key = digest(dict(release))
            with self._guard:
                self._keys[id(release)] = (release, key)
                while len(self._keys) > MOST_CELLS:
                    self._keys.popitem(last=False)
        return key

    def _cell(self, key: str) -> Cell:
        base = self.workplace.folder / "cells"
        with self._guard:
            found = self._cells.pop(key, None)
            if found is None:
                folder = base / key[:20]
                found = Cell(key, self._sides.get(key), folder, folder / self._prefix)
            self._cells[key] = found
            found.users += 1
            idle = [c for c in self._cells.values() if c.is_made and not c.users and c is not found]
            for cell in idle[: max(len(self._cells) - MOST_CELLS, 0)]:
                cell.is_made = False
                shutil.rmtree(cell.folder, ignore_errors=True)
            return found

    # -- making ------------------------------------------------------------------------------------------------------
    def _make(self, cell: Cell, release: Mapping[str, Any]) -> None:
        shutil.rmtree(cell.folder, ignore_errors=True)
        placed = self._placed(release)
        if (clash := _file_and_folder(placed)) is not None:
            cell.failure = f"{clash} is a file in one release and a folder in the other: no combination of them holds both"
            return
        with self._making:  # one at a time: they share blobs
            self._write_blobs(placed)
            for path, (mode, blob, _) in placed.items():
                self._place(cell.folder / path, mode, blob, copy=False)
        cell.home.mkdir(parents=True, exist_ok=True)
        for path, source in self._include.items():
            (cell.home / path).parent.mkdir(parents=True, exist_ok=True)
            (cell.home / path).unlink(missing_ok=True)  # a tracked one is a link that other cells share
            shutil.copyfile(source, cell.home / path)
        if self._setup:
            self._set_up(cell, placed)
        cell.is_made = True

    def _placed(self, release: Mapping[str, Any]) -> Placed:
        placed: dict[str, tuple[str, str, bytes | tuple[Checkout, str]]] = {
            path: (entry.mode, entry.blob, (side, path)) for path, (side, entry) in self._shared.items()
        }
        for value in release.values():
            for name, content in value.items():
                path = self._prefix + name
                if isinstance(content, str):
                    data = content.encode("utf-8")
                    entry = self._files.bad.entries.get(path) or self._files.good.entries.get(path)
                    mode = "100644" if entry is None or entry.mode == SYMLINK else entry.mode
                    placed[path] = (mode, blob_name(data), data)
                else:
                    side, entry, origin = self._special[canonical(plain(content))]
                    placed[path] = (entry.mode, entry.blob, (side, origin))
        return placed

    def _specials(self, releases: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, tuple[Checkout, FileEntry, str]]]:
        """What names a content that is no text, to where that is."""
        for side in (self._files.good, self._files.bad):
            for axes in releases.values():
                for value in axes.values():
                    for name, content in value.items():
                        path = self._prefix + name
                        if not isinstance(content, str) and path in side.entries:
                            entry = side.entries[path]
                            is_binary = "binary" in content
                            if content["binary"] == entry.blob if is_binary else self._is_content(side, path, content):
                                yield canonical(plain(content)), (side, entry, path)

    @staticmethod
    def _is_content(side: Checkout, path: str, content: Mapping[str, Any]) -> bool:
        ((_, data),) = side.read([path])
        return bool(file_value(side.entries[path], data) == content)

    def _write_blobs(self, placed: Placed) -> None:
        """Every content once, read-only; one that a program wrote into is written anew."""
        wanted: dict[int, tuple[Checkout, dict[str, str]]] = {}
        for mode, blob, content in placed.values():
            name = _file_name(blob, mode)
            if self._is_sound(name):
                continue
            if isinstance(content, bytes):
                self._write_blob(name, mode, content)
            else:
                wanted.setdefault(id(content[0]), (content[0], {}))[1][content[1]] = name
        for side, names in wanted.values():
            for path, data in side.read(list(names)):
                self._write_blob(names[path], side.entries[path].mode, data)

    def _is_sound(self, name: str) -> bool:
        known = self._blobs.get(name)
        if known is None:
            return False
        with contextlib.suppress(OSError):
            now = (self._blob(name)).lstat()
            return known == (now.st_mtime_ns, now.st_size)
        return False

    def _blob(self, name: str) -> Path:
        return self.workplace.folder / "blobs" / name[:2] / name

    def _write_blob(self, name: str, mode: str, data: bytes) -> None:
        path = self._blob(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(0o555 if mode == "100755" else 0o444)  # a cell is shared by trials: none may write in it
        now = path.lstat()
        self._blobs[name] = (now.st_mtime_ns, now.st_size)

    def _place(self, path: Path, mode: str, blob: str, *, copy: bool) -> None:
        source = self._blob(_file_name(blob, mode))
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == SYMLINK:
            path.symlink_to(os.fsdecode(source.read_bytes()))
        elif copy:
            shutil.copyfile(source, path)
            path.chmod(0o755 if mode == "100755" else 0o644)
        else:
            _link(source, path)

    # -- setup -------------------------------------------------------------------------------------------------------
    def _set_up(self, cell: Cell, placed: Placed) -> None:
        """What the setup makes, linked into the cell: made once for each content of the files that it depends on."""
        from pathspec import GitIgnoreSpec

        spec = GitIgnoreSpec.from_lines(self._setup_files)
        below = {path: blob for path, (_, blob, _) in placed.items() if path.startswith(self._prefix)}
        locks = {path: blob for path, blob in below.items() if spec.match_file(path.removeprefix(self._prefix))}
        commands = [command if isinstance(command, str) else list(command) for command in self._setup]
        key = digest({"setup": commands, "files": locks, "on": [sys.platform, platform.machine()], "form": 2})[:20]
        with alone(self.workplace.setups / f"{key}.lock"):
            try:
                base = self._done(key, placed) or self._run_setup(key, placed)
            except ProgramEnded as failure:
                cell.failure = f"its setup failed: {failure}"
                return
            (base / "done.json").touch()
            made = json.loads((base / "done.json").read_text())["made"]
        _bring(base / "work", cell.folder, made)

    def _done(self, key: str, placed: Placed) -> Path | None:
        """The result of a setup that read what it would read here."""
        for done in sorted(self.workplace.setups.glob(f"{key}-*/done.json")):
            read = json.loads(done.read_text())["read"]
            if read == _contents(read, placed):
                return done.parent
        return None

    def _run_setup(self, key: str, placed: Placed) -> Path:
        base = self.workplace.setups / f"{key}-{secrets.token_hex(4)}"
        work = base / "work"
        for path, (mode, blob, _) in placed.items():
            self._place(work / path, mode, blob, copy=True)
        home = work / self._prefix
        home.mkdir(parents=True, exist_ok=True)
        names = (
            []
            if self._setup_files != LOCKS
            else [*placed, *{p.as_posix() for path in placed for p in PurePosixPath(path).parents}]
        )
        watched = [name for name in names if not (work / name).is_symlink()]
        for name in watched:
            os.utime(work / name, ns=(0, (work / name).stat().st_mtime_ns))
        try:
            for command in self._setup:
                run_once(command, folder=home, environment=self.environment, seconds=self._setup_seconds)
        except ProgramEnded:
            shutil.rmtree(base, ignore_errors=True)
            raise
        read = [name for name in watched if (work / name).exists() and (work / name).stat().st_atime_ns]
        made = list(_made(work, set(placed)))
        (base / "done.json").write_text(json.dumps({"made": made, "read": _contents(read, placed)}))
        return base


def _contents(names: Collection[str], placed: Placed) -> dict[str, Any]:
    """What each file is, and which names each folder has; None: there is none."""
    inside: dict[str, set[str]] = {name: set() for name in names if name not in placed}
    for path in placed:
        for part in (PurePosixPath(path), *PurePosixPath(path).parents):
            if (parent := part.parent.as_posix()) in inside and part.name:
                inside[parent].add(part.name)
    return {name: placed[name][1] if name in placed else sorted(inside[name]) or None for name in names}


def _file_and_folder(paths: Collection[str]) -> str | None:
    """A path that other paths lie below; None: there is none."""
    parents = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    return min(parents.intersection(paths), default=None)


def _made(work: Path, placed: set[str]) -> Iterator[tuple[str, bool]]:
    """(path, whether it holds the folder's own path) of all that a setup made."""
    own = os.fsencode(work)
    for folder, folders, names in os.walk(work):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            file = Path(folder) / name
            path = file.relative_to(work).as_posix()
            if path in placed or not (file.is_symlink() or file.is_file()):
                continue
            if file.is_symlink():
                yield path, own in os.fsencode(file.readlink())
            else:
                yield path, file.stat().st_size <= _SMALL and own in file.read_bytes()


def _bring(work: Path, cell: Path, made: Sequence[tuple[str, bool]]) -> None:
    """Link what a setup made; what holds the folder's path (scripts, editable installs) is written anew with the cell's."""
    old, new = os.fsencode(work), os.fsencode(cell)
    for path, is_placed in made:
        source, to = work / path, cell / path
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target = os.fsencode(source.readlink())
            to.symlink_to(os.fsdecode(target.replace(old, new) if is_placed else target))
        elif is_placed:
            to.write_bytes(source.read_bytes().replace(old, new))
            to.chmod(source.stat().st_mode & 0o777)
        else:
            _link(source, to)


def _link(source: Path, to: Path) -> None:
    """A hard link, or a copy where there can be none."""
    try:
        to.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        shutil.copy2(source, to)


def _included(home: Path, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    base = home.resolve()
    for name in names:
        source = (base / name).resolve()
        if not source.is_relative_to(base) or not source.is_file():
            raise ConfigError(f"target.include: {name!r} is no file below `repo`; name untracked files that the program needs")
        yield PurePosixPath(name).as_posix(), source


def _file_name(blob: str, mode: str) -> str:
    return f"{blob}-x" if mode == "100755" else f"{blob}-l" if mode == SYMLINK else blob
