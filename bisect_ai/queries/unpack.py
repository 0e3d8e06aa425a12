"""Compressed logs (gzip, zstd, zip) unpacked into a private folder for as long as they are read; nothing is run, no name is trusted."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import shutil
import tempfile
import time
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from bisect_ai.errors import QueryError
from bisect_ai.queries.values import file_names

GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".zip")
# Zip's number for members that are compressed with zstd, as Inspect writes them; Python's zipfile knows it from 3.14 on.
ZSTD_METHOD = 93
MAX_RATIO = 1_000  # deflate's limit is 1,032: only a bomb comes near it
# Bytes that may come out whatever went in: below it a ratio says nothing.
FREE = 256 * 2**20
MAX_MEMBERS = 10_000  # files are listed and looked at one by one
# What lies beside the data in an archive; where there is nothing else, it is looked at.
BESIDE = (".md", ".txt", ".html", ".pdf", ".png", ".jpg", ".yaml", ".yml")
CHUNK = 2**20  # bytes read at once: a bomb is noticed before it fills the disk
PREFIX = "bisect-ai-log-"
# Seconds in which a folder may not be locked yet by who made it.
YOUNG = 60.0
# What the unpackers raise for a file that is damaged, or packed in a way that they do not know.
BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError, ValueError)


class LogFiles(list[Path]):
    """The files of a log; what was unpacked for it is deleted with the list, or when the process ends."""

    def made_folder(self) -> Path:
        """A new folder for what is unpacked for this log."""
        _drop_orphans(Path(tempfile.gettempdir()))
        folder = tempfile.mkdtemp(prefix=PREFIX)
        self.own(folder)
        return Path(folder)

    def own(self, folder: str) -> None:
        """Delete this folder with the list; until then nobody takes it for one that was left behind."""
        if (handle := try_lock(folder)) is not None:
            weakref.finalize(self, os.close, handle)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def unpacked(paths: Iterable[Path]) -> LogFiles:
    """The files, those that are compressed replaced by what they hold; the names stay what they were.

    Raises `QueryError` for an archive that is damaged, unpacks to more than a log holds, or needs a package that is not there.
    """
    files = LogFiles(paths)
    kinds = [_packed_kind(path) for path in files]
    if not any(kinds):
        return files
    found = LogFiles()
    folder = found.made_folder()
    for path, name, kind in zip(files, file_names(files), kinds, strict=True):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        found += _unpacked_paths(path, place, kind)
    return found


def _drop_orphans(base: Path) -> None:
    """Remove this user's folders of processes that were killed: nobody holds their locks."""
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            is_ours = not folder.is_symlink() and folder.lstat().st_uid == os.getuid()
            if is_ours and time.time() - folder.lstat().st_mtime > YOUNG and (handle := try_lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def try_lock(path: str | Path, flags: int = os.O_RDONLY) -> int | None:
    """The handle of a lock on a folder or file, which ends with the process; None: somebody has it. `flags`: how it is opened."""
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _packed_kind(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(4)
    if head.startswith(GZIP):
        return "gzip"
    if head == ZSTD:
        return "zstd"
    return "zip" if head == ZIP and not _is_inspect(path) else ""


def _is_inspect(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except BROKEN:
        return path.suffix.lower() == ".eval"
    return "header.json" in names or any(name.startswith("_journal/") for name in names)


def _unpacked_paths(path: Path, place: Path, kind: str) -> list[Path]:
    if not kind:
        place.symlink_to(path)
        return [place]
    if kind == "zip":
        return _from_zip(path, place)
    with path.open("rb") as packed, damage(path):
        stream: Any = gzip.GzipFile(fileobj=packed) if kind == "gzip" else zstd_reader(packed, path)
        _copy_part(stream, place, packed=path.stat().st_size, name=str(path))
    return [place]


def _from_zip(path: Path, folder: Path) -> list[Path]:
    found = []
    with damage(path), zipfile.ZipFile(path) as archive:
        named = [info for info in archive.infolist() if not info.is_dir() and _counts(info.filename)]
        members = [info for info in named if Path(info.filename).suffix.lower() not in BESIDE] or named
        if any(info.filename.startswith("xl/") for info in members):
            raise QueryError(f"cannot read {path}: it is a spreadsheet; save the sheet as CSV (UTF-8) and name that")
        if not members or len(members) > MAX_MEMBERS:
            raise QueryError(
                f"cannot read {path}: the archive holds {len(members):,} files; unpack the log's files and name them"
            )
        for number, info in enumerate(members):
            place = (
                folder
                if len(members) == 1
                else folder.with_name(f"{folder.name}.d") / f"{number}-{Path(info.filename).name[-80:]}"
            )
            place.parent.mkdir(parents=True, exist_ok=True)
            with member_stream(archive, info, path) as stream:
                _copy_part(stream, place, packed=info.compress_size, name=f"{path}: {info.filename[:60]}")
            found.append(place)
    return found


def _counts(name: str) -> bool:
    last = name.rpartition("/")[2]
    return not name.startswith("__MACOSX/") and not last.startswith(".") and bool(last)


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Say of what goes wrong inside that the archive is damaged; zipfile quotes logged text, so only its beginning is told."""
    try:
        yield
    except BROKEN as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise QueryError(f"cannot read {path}: {told}; the archive is damaged, write it again") from None
    except Exception as error:  # zstandard is optional, so its error has no name here
        if type(error).__name__ != "ZstdError":
            raise
        raise QueryError(f"cannot read {path}: {str(error)[:80]}; the archive is damaged, write it again") from None


def _copy_part(stream: IO[bytes], place: Path, *, packed: int, name: str) -> None:
    most = max(FREE, MAX_RATIO * packed)
    written = 0
    with place.open("xb") as target:
        while data := stream.read(CHUNK):
            written += len(data)
            if written > most:
                raise QueryError(f"cannot read {name}: it unpacks to more than {most:,} bytes, more than a log holds")
            target.write(data)


def member_stream(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> IO[bytes]:
    """The bytes of a member, whatever it is compressed with."""
    if info.compress_type != ZSTD_METHOD:
        return archive.open(info)
    with path.open("rb") as header:
        header.seek(info.header_offset + 26)
        lengths = header.read(4)
    if len(lengths) < 4:
        raise zipfile.BadZipFile("it breaks off")
    stored = path.open("rb")
    stored.seek(info.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2)))
    return zstd_reader(stored, path, most=info.compress_size)


def zstd_reader(stream: IO[bytes], path: Path, *, most: int | None = None) -> IO[bytes]:
    """What a zstd stream holds. Raises `QueryError` that names the package which is not there."""
    try:
        import zstandard
    except ImportError:
        stream.close()
        raise QueryError(
            f"cannot read {path}: it is compressed with zstd, and the package zstandard is not installed; pip install zstandard"
        ) from None
    return cast("IO[bytes]", io.BufferedReader(_Zstd(stream, zstandard.ZstdDecompressor(), most), CHUNK))


class _Zstd(io.RawIOBase):
    """What at most `most` bytes of a zstd stream hold; `EOFError` for a stream that breaks off, which the library lets pass."""

    PIECE = 2_048  # one piece unpacks to 64 MiB at most: a block of 128 KiB takes 4 bytes

    def __init__(self, stream: IO[bytes], library: Any, most: int | None) -> None:
        self._stream, self._library, self._left = stream, library, most
        self._frame: Any = None
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._waiting:
            piece = self._piece()
            if not piece and self._frame is not None:
                raise EOFError("it breaks off")
            if not piece:
                return 0
            self._waiting = memoryview(self._unpacked(piece))
        number = min(len(target), len(self._waiting))
        target[:number] = self._waiting[:number]
        self._waiting = self._waiting[number:]
        return number

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _piece(self) -> bytes:
        piece = self._stream.read(self.PIECE if self._left is None else min(self.PIECE, self._left))
        self._left = None if self._left is None else self._left - len(piece)
        return piece

    def _unpacked(self, piece: bytes) -> bytes:
        found = b""
        while piece:
            self._frame = self._frame or self._library.decompressobj()
            found += self._frame.decompress(piece)
            piece = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        return found


def plain_suffix(path: Path) -> str:
    """The suffix of a file's name in lower case, without that of its compression."""
    named = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return named.suffix.lower()
