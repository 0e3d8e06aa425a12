"""A folder of its own for what one process makes on disk, and the clearing of what processes that were killed left behind.

Every program that is started has the folder's name in its environment, so that the next run finds what a `kill -9` left running.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bisect_ai.errors import ConfigError
from bisect_ai.targets.programs import MARK, end_marked

_KEPT_DAYS = 30
"""Days that the result of a `setup` is kept after its last use."""


class Workplace:
    """The folder, there until `close`; `setups` is shared with later runs."""

    def __init__(self, cache: Path | None = None) -> None:
        base = cache or _cache()
        self.setups, sessions = base / "setups", base / "sessions"
        try:
            for folder in (self.setups, sessions):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _clear(sessions)
            _drop_old(self.setups)
            self.name = secrets.token_hex(8)
            self._lock = _locked(sessions / f"{self.name}.lock")
            self.folder = sessions / self.name
            self.folder.mkdir(mode=0o700)
        except OSError as failure:
            raise ConfigError(
                f"cannot make folders for the combinations in {base}: {failure.strerror or failure}; XDG_CACHE_HOME names another place"
            ) from failure

    @property
    def environment(self) -> dict[str, str]:
        """What marks a program as one of this folder's."""
        return {MARK: self.name}

    def close(self) -> None:
        """End what its programs left running, out of their groups too, and remove the folder."""
        if self._lock is None:
            return
        end_marked({self.name})
        _remove(self.folder)
        with contextlib.suppress(OSError):
            self.folder.with_suffix(".lock").unlink()
        os.close(self._lock)
        self._lock = None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Inside, no other process or thread is in here with the same path."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _cache() -> Path:
    from platformdirs import user_cache_path

    return Path(user_cache_path("bisect-ai"))


def _locked(path: Path) -> int | None:
    """The handle of a lock that nobody else has; None: somebody has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _clear(sessions: Path) -> None:
    """End the programs and remove the folders of processes that are gone."""
    for lock in sorted(sessions.glob("*.lock")):
        handle = _locked(lock)
        if handle is None:
            continue
        end_marked({lock.stem})
        _remove(lock.with_suffix(""))
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)


def _drop_old(setups: Path) -> None:
    """Remove what no run has used for long, and what a killed run began to make."""
    for folder in filter(Path.is_dir, setups.iterdir()):
        done = folder / "done.json"
        with contextlib.suppress(OSError):
            if done.exists() and time.time() - done.stat().st_mtime < _KEPT_DAYS * 86400:
                continue
            if (handle := _locked(setups / f"{folder.name.split('-')[0]}.lock")) is not None:
                _remove(folder)
                os.close(handle)


def _remove(folder: Path) -> None:
    """Remove a folder; what a program made unreadable in it, too."""

    def again(function: object, path: str, error: object) -> None:
        del function, error
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            Path(path).chmod(0o700)
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()

    shutil.rmtree(folder, onerror=again)
