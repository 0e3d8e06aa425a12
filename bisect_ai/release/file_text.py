"""Text of files: read exactly, and quoted safely in messages (`shown`, `excerpt`, `turn`: redacted, one line, cut).

Files are regular ones inside one folder, opened once, of bounded size, as exact UTF-8 text.

A path inside a release may come from others (a snapshot, a download), so it never leaves the release's root, whatever
it is written as; the path of the release file itself is the user's own and is only read carefully.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.provider.redaction import redact, redact_all

# The largest file that is read: 64 MiB.
MAX_BYTES = 64 << 20
# The most text that one folder or table may hold: 512 MiB.
MAX_FOLDER_BYTES = 512 << 20
MAX_FOLDER_FILES = 200_000  # a corpus has fewer; more is a home or a dependency folder named by mistake
LONGEST = 80  # characters of a name in an error
LONGEST_PATH = 240  # of a path, which is of no use when it is cut
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOREIGN = re.compile(r"[a-zA-Z]:|[a-zA-Z][a-zA-Z0-9+.-]*://")  # a drive of Windows, or an address


def read_text(path: Path, *, error: type[InputError] = ReleaseError) -> str:
    """The exact text of a regular UTF-8 file of at most 64 MiB (line ends and byte order mark kept). Raises `error`."""
    return decode_utf8(read_bytes(path, error=error), path, error=error)


def read_bytes(path: Path, *, error: type[InputError] = ReleaseError) -> bytes:
    """The bytes of a regular file of at most 64 MiB. Raises `error` for anything else, never blocks on it."""
    try:
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError) as failure:
        raise error(f"cannot read {shown(path)}: {_failure_reason(failure)}; check the path") from failure
    try:
        _check_regular(handle, path, error)
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise error(f"cannot read {shown(path)}: it is larger than {MAX_BYTES >> 20} MiB; split it or keep texts in files")
    return data


def path_inside(root: Path, folder: Path, written: str) -> Path:
    """The real path of `written`, relative to `folder`, symbolic links followed. Raises `ReleaseError` outside `root`."""
    check_spelling(written)
    return _real(root.resolve(), folder / written, written)


def _real(base: Path, path: Path, written: str) -> Path:
    try:
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(base):
            raise ReleaseError(f"the path {shown(written)} leads outside {shown(base)}; move the file inside that folder")
        real.lstat()
    except (OSError, ValueError) as failure:
        raise ReleaseError(f"the path {shown(written)} cannot be read: {_failure_reason(failure)}; check the path") from failure
    return real


def read_inside(root: Path, real: Path) -> bytes:
    """The bytes of a file that `path_inside` found. What was opened is checked again: it may have been swapped meanwhile."""
    data = read_bytes(real)
    if Path(os.path.realpath(real)) != real or not real.is_relative_to(root.resolve()):
        raise ReleaseError(f"cannot read {shown(real)}: it was replaced while it was read; try again")
    return data


def read_folder(root: Path, real: Path) -> dict[str, str]:
    """The texts of all files below a folder by relative path, sorted. Names that begin with a dot are skipped."""
    if not real.is_dir():
        raise ReleaseError(f"{shown(real)} is no folder; name a folder, or use 'file'")
    texts: dict[str, str] = {}
    size = 0
    for name, path in sorted(_walked_files(root, real)):
        data = read_inside(root, path)
        size += len(data)
        if size > MAX_FOLDER_BYTES:
            raise ReleaseError(f"the folder {shown(real)} holds more than {MAX_FOLDER_BYTES >> 20} MiB; split it")
        texts[name] = decode_utf8(data, name)
    if not texts:
        raise ReleaseError(f"the folder {shown(real)} holds no files; check the path")
    return texts


def _walked_files(root: Path, top: Path) -> Iterator[tuple[str, Path]]:
    count, base = 0, root.resolve()
    for folder, folders, names in os.walk(top, onerror=_walk_failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise ReleaseError(f"{shown(Path(folder) / name)} is a symbolic link to a folder; put the folder itself there")
        for name in names:
            if name.startswith("."):
                continue
            count += 1
            if count > MAX_FOLDER_FILES:
                raise ReleaseError(f"the folder {shown(top)} holds more than {MAX_FOLDER_FILES} files; split it")
            relative = _clean_name((Path(folder) / name).relative_to(top))
            yield relative, _real(base, top / relative, relative)


def _walk_failed(failure: OSError) -> None:
    raise ReleaseError(f"cannot read the folder {shown(failure.filename)}: {_failure_reason(failure)}") from failure


def _clean_name(relative: Path) -> str:
    name = PurePosixPath(relative).as_posix()
    if not name.isprintable():
        raise ReleaseError(f"the file name {shown(name)} has control characters or is not UTF-8; rename the file")
    return name


def check_spelling(written: str) -> None:
    """Refuse what could mean another place on some system, even where this one would read it harmlessly."""
    reason = ""
    if not written.strip() or not written.isprintable():
        reason = "is empty or has control characters"
    elif _FOREIGN.match(written) or "\\" in written:
        reason = "is a URL or a Windows path"
    elif written.startswith(("/", "~")):
        reason = "is absolute"
    if reason:
        raise ReleaseError(f"the path {shown(written)} {reason}; write it relative to the release file, with /")


def _check_regular(handle: int, path: Path, error: type[InputError]) -> None:
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise error(f"cannot read {shown(path)}: it is {kind}; name a file")


def _failure_reason(failure: Exception) -> str:
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror.lower()
    return str(failure)


def shown(value: object) -> str:
    """`value` quoted on one line, control characters escaped, cut when long (a path at its front): fit for any message."""
    text = repr(redact(str(value)))
    if isinstance(value, Path):
        return text if len(text) <= LONGEST_PATH else f"{text[0]}…{text[-LONGEST_PATH:]}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…{text[-1]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'axes'?` when a known word is near, else the list of known words."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {shown(near[0])}?" if near else f"; known here: {', '.join(words)}"


def excerpt(value: Any, *, start: int = 0, width: int = 60) -> str:
    """One line of `value` from character `start` on, quoted when it is text."""
    return _quoted_excerpt(redact_all(value), start=start, width=width)  # before it is cut: half a key does not look like one


def _quoted_excerpt(value: Any, *, start: int, width: int = 60) -> str:
    if not isinstance(value, str):
        line = json.dumps(value, ensure_ascii=False)
        return line if len(line) <= width else f"{line[: width - 1]}…"
    begin = max(0, start - width // 3) if len(value) > width else 0
    line = " ".join(value[begin : begin + 4 * width].split())
    cut = f"{line[: width - 1]}…" if len(line) > width else line
    return f"“{'…' if begin else ''}{cut}”"


def turn(before: Any, after: Any) -> str:
    """`before → after` on one line, both cut around their first difference."""
    before, after = redact_all(before), redact_all(after)
    start = _first_difference(before, after) if isinstance(before, str) and isinstance(after, str) else 0
    return f"{_quoted_excerpt(before, start=start)} → {_quoted_excerpt(after, start=start)}"


def _first_difference(before: str, after: str) -> int:
    length = min(len(before), len(after))
    return next((i for i in range(length) if before[i] != after[i]), length)


def decode_utf8(data: bytes, name: str | Path, *, error: type[InputError] = ReleaseError) -> str:
    """`data` as UTF-8 text. Raises `error` for UTF-16, NUL bytes and anything else that is not text."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise error(f"cannot read {shown(name)}: it is UTF-16 text; save it as UTF-8")
    line = data.count(b"\n", 0, max(0, data.find(b"\0"))) + 1
    if b"\0" in data:
        raise error(f"cannot read {shown(name)}, line {line}: it has a NUL byte, so it is no text; name a text file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as bad:
        line = data.count(b"\n", 0, bad.start) + 1
        raise error(f"cannot read {shown(name)}, line {line}: it is not UTF-8 text; save it as UTF-8") from bad
