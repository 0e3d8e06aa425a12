"""A folder of its own for what one process makes on disk, what is known of a cell's folder in it, and the clearing of what
processes that were killed left behind.

Every program that is started has the folder's name in its environment, so that the next run finds what a `kill -9` left running.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bisect_ai.errors import ConfigError, Infeasible, TargetFailure
from bisect_ai.provider.budget import CapReached, nothing_sent, trip
from bisect_ai.provider.redaction import line_of
from bisect_ai.queries.unpack import try_lock
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.programs import MARK, ProgramEnded, end_marked

_MADE = os.O_RDWR | os.O_CREAT
# Days that the result of a `setup` is kept after its last use.
_KEPT_DAYS = 30


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
            self._lock = try_lock(sessions / f"{self.name}.lock", _MADE)
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
    handle = os.open(path, _MADE | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _cache() -> Path:
    from platformdirs import user_cache_path

    return Path(user_cache_path("bisect-ai"))


def _clear(sessions: Path) -> None:
    """End the programs and remove the folders of processes that are gone."""
    for lock in sorted(sessions.glob("*.lock")):
        handle = try_lock(lock, _MADE)
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
            if (handle := try_lock(setups / f"{folder.name.split('-')[0]}.lock", _MADE)) is not None:
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


@dataclass(eq=False)
class Cell:
    """A combination as a folder. `home`: where its program runs. `failure`: why it cannot run, once that is known."""

    key: str
    # good or bad, when it is one of the two releases.
    side: str | None
    folder: Path
    home: Path
    guard: threading.Lock = field(default_factory=threading.Lock)
    is_made: bool = False
    has_answered: bool = False
    failure: str | None = None
    users: int = 0

    def check(self, *, asked: bool = False) -> None:
        """Raises `Infeasible` for a combination that is known not to run, `TargetFailure` for one of the two releases.

        It has made no call then, unless its program was `asked` to find that out.
        """
        if self.failure is None:
            return
        if not asked:
            nothing_sent()
        if self.side is not None:
            raise TargetFailure(f"the program of the {self.side} release does not run: {self.failure}; mend it, run again")
        raise Infeasible(self.failure)

    def answer(self, once: Callable[[], Answer]) -> Answer:
        """What `once` comes to. A program that ends is a failed trial, or started once more where it has never answered in this cell.

        The second start is a call more: what the first one asked its provider for may be paid for. Raises as `check` does when it
        ends a second time before its first answer.
        """
        try:
            return self._noted(once())
        except ProgramEnded as first:
            if self.has_answered:
                return Answer(error=f"the program ended: {first}", outcome="error")
            ended = first
        with self.guard:
            self.check(asked=True)
            if not _may_start_again():
                return Answer(error=f"the program ended, and no call is left to start it once more: {ended}", outcome="error")
            try:
                return self._noted(once())
            except ProgramEnded as second:
                if self.has_answered:
                    return Answer(error=f"the program ended: {second}", outcome="error")
                self.failure = line_of(f"its program ended before its first answer: {second}")
                self.check(asked=True)
                raise AssertionError("checked") from second

    def _noted(self, answer: Answer) -> Answer:
        self.has_answered = self.has_answered or answer.error is None
        return answer


def _may_start_again() -> bool:
    """Whether the trial that this thread is at has a call more, which then is on record."""
    counted = trip.get()
    try:
        if counted is not None:
            asyncio.run(counted.again())
    except CapReached:
        return False
    return True
