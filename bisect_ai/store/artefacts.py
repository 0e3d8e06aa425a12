"""The one writer of files for people and programs: reports, rollbacks, lists, histories. All of a file, or what was there before.

Text passes the gate of `redaction` on its way. A whole file is written beside its place, made durable, and renamed over what was
there: no reader ever sees a part. A line is appended under a lock; when it does not fit on the disk the file is cut back to what it
was, and what a crash left of an earlier line is cut off first, so that every line of the file can be read.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from bisect_ai.errors import BisectError, InputError
from bisect_ai.provider.redaction import redact

_PROBE = 4096  # bytes, a block: a full disk refuses it though it may take an empty file
_LONGEST_LINE = 1 << 20  # bytes of a file that are looked at for its last line
# Before the umask.
_MODE = 0o666


def check_place(path: str | Path) -> None:
    """Raises `BisectError` when `path` cannot be written now, by trying: no folder, no right to, a full disk. Changes nothing."""
    with _write_failures(path, then="nothing was done: make room, or name another file"):
        place = _real_place(path)
        if _is_special(place):
            os.close(os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK))
            return
        if place.exists():
            os.close(os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        beside = _place_beside(place)
        try:
            _write(beside, b"\0" * _PROBE)
        finally:
            _remove_file(beside)


def write_text(path: str | Path, text: str, *, what: str = "the file", then: str = "") -> None:
    """Replace the file by `text`, atomically and durably. Raises `BisectError`, the old file kept; `then` says what to do."""
    with writing(path, what=what, then=then) as beside:
        _fill_file(beside, redact(text).encode("utf-8", "backslashreplace"))


def write_new_files(
    folder: Path, files: Mapping[str, str], *, what: str = "the file", then: str = "name another folder"
) -> None:
    """Writes files by their place in a folder, made where it is missing: all of them, or none.

    Raises `InputError` when any is there already, `BisectError` when one cannot be written; `then` says what to do.
    """
    present = [name for name in files if (folder / name).exists()]
    if present:
        raise InputError(f"cannot write {folder / present[0]}: it is there already; name another folder, or move it away")
    with contextlib.ExitStack() as undone:
        for name, text in files.items():
            undone.enter_context(making_folder((folder / name).parent, what=what, then=then))
            undone.enter_context(_removed_if_raised(folder / name))
            write_text(folder / name, text, what=what, then=then)


@contextlib.contextmanager
def making_folder(folder: Path, *, what: str = "the file", then: str = "name another folder") -> Iterator[None]:
    """Inside, the folder is there; when something is raised, what was made of it goes away again. Raises `BisectError`."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with _write_failures(folder, what, then):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in missing:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


@contextlib.contextmanager
def _removed_if_raised(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _remove_file(path)
        raise


@contextlib.contextmanager
def writing(path: str | Path, *, what: str = "the file", then: str = "") -> Iterator[Path]:
    """A new file to fill with `fill` and to look at, which takes the place of `path` at the end, unless something is raised."""
    with _write_failures(path, what, then):
        place = _real_place(path)
        if _is_special(place):  # a pipe, a device: there is nothing to replace
            yield place
            return
        beside = _place_beside(place)
        try:
            yield beside
            if place.exists():
                beside.chmod(stat.S_IMODE(place.stat().st_mode))
            beside.replace(place)
            _sync_names(place.parent)
        finally:
            _remove_file(beside)


def _fill_file(beside: Path, data: bytes) -> None:
    if _is_special(beside):
        _put(os.open(beside, os.O_WRONLY | os.O_CLOEXEC), data, sync=False)
    else:
        _write(beside, data)


def fill(beside: Path, text: str) -> None:
    """Write the text as it is into what `writing` gave, and make it durable. No gate: for files that must load as what they are."""
    _fill_file(beside, text.encode("utf-8"))


def append_line(path: str | Path, line: str, *, what: str = "the file", then: str = "") -> str | None:
    """Add a line to a file of JSON lines; gives what is to be said of the file (None: nothing). Raises `BisectError`, the file kept."""
    data = redact(line).encode("utf-8", "backslashreplace") + b"\n"
    torn = b""
    with _write_failures(path, what, then):
        place = _real_place(path)
        is_new = not place.exists()
        with _appending(place, data) as file:
            if file is None:
                return None
            size, last = os.fstat(file).st_size, _unended(file)
            torn = last if _is_torn(last) else b""
            _append_at(file, size - len(torn), (b"\n" if last and not torn else b"") + data)
        if is_new:
            _sync_names(place.parent)
    return f"{path} ended in a torn line of {len(torn)} bytes, which was cut off" if torn else None


def append_text(path: str | Path, text: str) -> None:
    """Add text to a log or a page that others add to as well: all of it or nothing. Raises `BisectError`, the file kept."""
    data = redact(text).encode("utf-8", "backslashreplace")
    with _write_failures(path), _appending(Path(path).absolute(), data) as file:
        if file is not None:
            _append_at(file, os.fstat(file).st_size, data)


@contextlib.contextmanager
def _appending(place: Path, data: bytes) -> Iterator[int | None]:
    """The file at a place, open and locked; None: a pipe or a device, which has got the data by now."""
    if _is_special(place):
        _put(os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), data, sync=False)
        yield None
        return
    file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed
        yield file
    finally:
        os.close(file)


def _append_at(file: int, end: int, data: bytes) -> None:
    """Cut the file there and add the data, durably; where that fails, it ends there."""
    try:
        os.ftruncate(file, end)
        _write_out(file, data)
        os.fsync(file)
    except OSError:
        os.ftruncate(file, end)
        raise


def _unended(file: int) -> bytes:
    """The last line, where no line break ends it (of a very long one only the end)."""
    size = os.fstat(file).st_size
    back = min(size, _LONGEST_LINE)
    return os.pread(file, back, size - back).rpartition(b"\n")[2]


def _is_torn(line: bytes) -> bool:
    """Whether a line is the beginning of JSON and no more, or the zeros that a power cut leaves; anything else is not ours to cut."""
    if not line.startswith(b"{"):
        return line != b"" and not line.strip(b"\0")
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


# -- files --------------------------------------------------------------------------------------------------------------------
def _real_place(path: str | Path) -> Path:
    """Where the file is; a link leads to what it points at, and stays."""
    place = Path(path).absolute()
    if _is_device(place):
        return place
    place = place.resolve() if place.is_symlink() else place
    if not place.parent.is_dir():
        raise FileNotFoundError(2, f"there is no folder {Path(path).parent}; make it, or name another file")
    if place.is_dir():
        raise IsADirectoryError(21, "it is a folder; name a file in it")
    return place


def _is_device(place: Path) -> bool:
    return place.is_relative_to("/dev") or place.is_relative_to("/proc")


def _is_special(place: Path) -> bool:
    """Whether a place is written to, and not replaced: pipes, devices, `/dev/stdout` whatever it leads to."""
    return _is_device(place) or (place.exists() and not place.is_file())


def _place_beside(place: Path) -> Path:
    return place.with_name(f".{place.stem[:40]}.{os.getpid()}-{secrets.token_hex(4)}.new{place.suffix}")


def _write(path: Path, data: bytes) -> None:
    _put(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), data, sync=True)


def _put(file: int, data: bytes, *, sync: bool) -> None:
    try:
        _write_out(file, data)
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


def _write_out(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _sync_names(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems have no such thing
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_file(beside: Path) -> None:
    with contextlib.suppress(OSError):
        beside.unlink()


@contextlib.contextmanager
def _write_failures(path: str | Path, what: str = "", then: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_advised = isinstance(error, FileNotFoundError | IsADirectoryError) and "; " in (error.strerror or "")
        after = f"; {then.partition(': make room')[0] if is_advised else then}" if then else ""
        raise BisectError(f"cannot write {what}{' ' if what else ''}to {path}: {error.strerror or error}{after}") from error
