"""Who is at a store: locks that the kernel drops when a process ends, so that none is ever stale; and how private a folder is.

- A store's `lock` is held shared by everyone who has it open, and exclusively by what rewrites it (`runs --purge-query`).
- A segment is locked by its writer: one that is locked is alive, one that is not was closed or its writer was killed.
- `turn` is held by who looks at what a run has spent and notes a call, so that two processes cannot both spend the last of it.
- A trial is claimed by a lock on one byte of `claims`, at a place made of its identity: two runs do not pay for the same trial
  at once. Where the system has no such locks (network file systems, other systems) every claim succeeds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import threading
from pathlib import Path

from bisect_ai.errors import StoreError

_NETWORK = {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "davfs", "virtiofs"}
_BUSY = (errno.EAGAIN, errno.EACCES)
# A turn is a look at what is spent and one append: who is inside for longer is stuck.
_CLOSING_SECONDS = 2.0


def lock(file: int, *, shared: bool = False) -> bool:
    """Take a lock on an open file without waiting; False when another holds it. No locks on this file system: True."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def hold(file: int) -> None:
    """Take the lock of a new file of our own: who looks whether it is locked holds it for a moment only."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file; False when it is not there."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not lock(file, shared=True)
    finally:
        os.close(file)


class Presence:
    """The lock of a whole store: shared while it is open, exclusive while it is rewritten. Raises `StoreError` when refused."""

    def __init__(self, store: Path, *, alone: bool = False) -> None:
        try:
            self._file = os.open(store / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # a store on read-only media can still be read
            self._file = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
        if not lock(self._file, shared=not alone):
            os.close(self._file)
            who = "another process has it open" if alone else "it is being rewritten by another process"
            raise StoreError(
                f"cannot open the store {store}: {who}; wait until that has ended, then run the same command again"
            )

    def close(self) -> None:
        """Give the lock back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Turn:
    """One at a time over all processes on a store, for as long as it takes to look at what is spent and to note a call.

    Entered again by the thread that is inside it, it lets that one pass. Where the system has no locks it holds for this process.
    """

    def __init__(self, store: Path) -> None:
        self._path = store / "turn"
        self._guard = threading.RLock()
        self._depth = 0
        self._file = -1

    def __enter__(self) -> bool:
        """Whether it was entered from outside: others may have been at it since."""
        self._guard.acquire()
        self._depth += 1
        if self._depth == 1:
            self._lock()
        return self._depth == 1

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth and self._file >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self._guard.release()

    def close(self) -> None:
        """Give the file back; where a thread that nobody waits for any more is inside, it is left to it."""
        if not self._guard.acquire(timeout=_CLOSING_SECONDS):
            return
        try:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
        finally:
            self._guard.release()

    def _lock(self) -> None:
        with contextlib.suppress(
            OSError
        ):  # no such locks here, or no file can be made: the journal says why when it is written
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)


class Claims:
    """Trials that are under way in this process, by identity; other processes on the same store see them."""

    def __init__(self, store: Path) -> None:
        self._path = store / "claims"
        self._file: int | None = None
        self._held: set[int] = set()
        self._guard = threading.Lock()

    def take(self, key: bytes) -> bool:
        """Claim a trial; False when it is under way in another process."""
        place = _claim_place(key)
        with self._guard:
            if place in self._held:
                return True
            if not self._set(fcntl.F_WRLCK, place):
                return False
            self._held.add(place)
            return True

    def drop(self, key: bytes) -> None:
        """Give a claim back; nothing happens when it was not held."""
        place = _claim_place(key)
        with self._guard:
            if place in self._held:
                self._held.discard(place)
                self._set(fcntl.F_UNLCK, place)

    def close(self) -> None:
        """Give all claims back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _set(self, kind: int, place: int) -> bool:
        command = getattr(fcntl, "F_OFD_SETLK", None)
        if command is None:
            return True
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.fcntl(self._file, command, struct.pack("@hhqqi4x", kind, os.SEEK_SET, place, 1, 0))
        except OSError as error:
            return error.errno not in _BUSY
        return True


def _claim_place(key: bytes) -> int:
    return int.from_bytes(key[:8].ljust(8, b"\0"), "big") >> 2


def network_kind(path: Path, *, mounts: str | None = None) -> str | None:
    """The type of the network or FUSE file system that `path` lies on (`nfs4`, `fuse.sshfs`); None when it is local or unknown.

    `mounts` is the text of /proc/self/mountinfo (proc(5): field 5 is the mount point, the type follows a lone hyphen).
    """
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if mounts is None else mounts
    except OSError:
        return None
    whole, best, kind = str(path.resolve()), "", ""
    for line in text.splitlines():
        fields = line.split(" ")
        point = fields[4].replace("\\040", " ") if len(fields) > 6 and "-" in fields else ""
        inside = point == "/" or whole == point or whole.startswith(f"{point}/")
        if point and inside and len(point) >= len(best):
            best, kind = point, fields[fields.index("-", 6) + 1]
    return kind if kind in _NETWORK or kind.startswith("fuse.") else None


def looser(path: Path) -> str | None:
    """The mode of a file or folder, in octal, when others than its owner may use it; else None."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{mode:04o}" if mode & 0o077 else None  # anybody but the owner


def place_notices(path: Path) -> list[str]:
    """What is doubtful of where a store lies: others may read it, or locks do not reach across its network."""
    notices, mode, kind = [], looser(path), network_kind(path)
    if mode is not None:
        notices.append(f"the store {path} may be read by others (mode {mode}): it holds logged text; `chmod 700` it")
    if kind is not None:
        notices.append(
            f"the store {path} lies on a network file system ({kind}): two runs there may pay for the same trial twice; "
            "a local folder is safer and faster"
        )
    return notices
