"""What ends the program when a user's code never gives the interpreter back, and says so when that code ends it: a process beside it.

A thread that is stuck is left behind, as long as the others run. But a C loop that holds the interpreter's lock (a regular expression
that backtracks for ever) stops all threads and every handler of a signal. So the program keeps a board in shared memory: a pulse, which
one of its threads beats, and who is at what since when. The process beside it reads the board; when the pulse has stopped for longer
than what is under way may take, or when the run is over and the pulse is still, it says on standard error what is stuck and ends the
program with `STUCK`. All answers acknowledged until then are on the disk. And when the program ends without having said that its work
is over (native code at fault, too little memory, a kill), it says what was under way.

One of a process, and only of the program (`bisect-ai run`): a Python process that called `run` belongs to somebody else.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

# How the program ends then: as one whose budget of time is spent.
STUCK = 3
# A pulse that is late by less is the machine's doing.
QUIET_SECONDS = 5.0
_BEAT_SECONDS = 0.25  # a twentieth of QUIET_SECONDS: one beat that comes late is no silence
_SAMPLE_SECONDS = 0.5  # fifty of the system's clock ticks: enough to see which thread is busy
_LAST_SECONDS = 2.0  # between asking the program to end and ending it: buffers are written then
_MOST_NAMED = 3
_KEPT = "everything answered so far is kept"
# When the pulse last beat, and when the run must be over, in seconds of the monotonic clock.
_HEAD = struct.Struct("=dd")
# Who is at work: the system's number of the thread (0: nobody), since when, seconds that it may take, at what.
_SLOT = struct.Struct("=qdd200s")
_SLOTS = 1088  # 1,024 workers, the most that settings allow, and room for scorers and probes


class Unit(NamedTuple):
    """A unit of the user's work under way in a thread."""

    thread: int
    since: float
    seconds: float
    what: str


class Board:
    """What the program and the process beside it both see: memory with the number of a file."""

    def __init__(self, file: int) -> None:
        self._memory = mmap.mmap(file, _HEAD.size + _SLOTS * _SLOT.size)
        self._free = deque(range(_SLOTS))
        self._ends = math.inf

    @classmethod
    def fresh(cls) -> tuple[Board, int]:
        """An empty board, and the number of its file. Raises `OSError` or `AttributeError`: not on this system."""
        file = os.memfd_create("bisect-ai")
        os.ftruncate(file, _HEAD.size + _SLOTS * _SLOT.size)
        board = cls(file)
        board.beat()
        return board, file

    def beat(self) -> None:
        """Whoever calls this runs."""
        _HEAD.pack_into(self._memory, 0, time.monotonic(), self._ends)

    def end_at(self, seconds: float) -> None:
        """The run must be over then, by the monotonic clock."""
        self._ends = seconds
        self.beat()

    @property
    def pulse(self) -> tuple[float, float]:
        """When it last beat, and when the run must be over."""
        beaten, ends = _HEAD.unpack_from(self._memory, 0)
        return beaten, ends

    def enter(self, what: str, seconds: float) -> int:
        """This thread begins something; gives the place of its note, -1 when there is none left."""
        try:
            place = self._free.popleft()
        except IndexError:
            return -1
        text = what.encode("ascii", "backslashreplace")[:200]
        self._put(place, threading.get_native_id(), time.monotonic(), seconds, text)
        return place

    def leave(self, place: int) -> None:
        """It is over."""
        if place >= 0:
            self._put(place, 0, 0.0, 0.0, b"")
            self._free.append(place)

    def at_work(self) -> list[Unit]:
        """What is under way, in the order in which it began."""
        found = (_SLOT.unpack_from(self._memory, _HEAD.size + i * _SLOT.size) for i in range(_SLOTS))
        listed = [Unit(n, since, s, what.rstrip(b"\0").decode("ascii", "replace")) for n, since, s, what in found if n]
        return sorted(listed, key=lambda unit: unit.since)

    def _put(self, place: int, *note: int | float | bytes) -> None:
        _SLOT.pack_into(self._memory, _HEAD.size + place * _SLOT.size, *note)


_board: Board | None = None


class AtWork:
    """Inside, this thread is at the user's work: `who` on a query, which may take so many seconds."""

    def __init__(self, who: str, query: str, seconds: float) -> None:
        self._board = board = _board
        if board is not None:
            from bisect_ai.provider.redaction import redact  # the process beside the program needs none, and starts sooner

            self._place = board.enter(f"{who} on the query {redact(str(query))[:80]!a}", seconds)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        if self._board is not None:
            self._board.leave(self._place)


@contextlib.contextmanager
def over_by(seconds: float) -> Iterator[None]:
    """Inside, a run is under way that must be over then, by the monotonic clock."""
    if _board is not None:
        _board.end_at(seconds)
    try:
        yield
    finally:
        if _board is not None:
            _board.end_at(math.inf)


@contextlib.contextmanager
def watched_over() -> Iterator[None]:
    """Inside, this program is ended when the user's code never gives it back. Where the system cannot do that, nothing happens."""
    global _board  # one of a process: so is the lock of its interpreter
    try:
        board, file = Board.fresh()
        beside = _process(file)
    except (OSError, AttributeError):
        yield
        return
    over, really = threading.Event(), os._exit
    threading.Thread(target=_beat, args=(board, over), name="bisect-ai-pulse", daemon=True).start()
    _board = board
    os._exit = partial(_exit_unless_at_work, board, os.getpid(), really)
    try:
        with _exits_at_once():
            yield
    finally:
        _board, os._exit = None, really
        over.set()
        with contextlib.suppress(OSError):
            beside.communicate(b".")  # over, and not at its end in some other way
        os.close(file)


def _exit_unless_at_work(board: Board, program: int, really: Callable[[int], NoReturn], status: int) -> NoReturn:
    """Ends the process as `os._exit` does; the user's code that would end the program, and the run with it, fails instead."""
    own = threading.get_native_id()
    if os.getpid() == program and any(unit.thread == own for unit in board.at_work()):
        raise RuntimeError(f"os._exit({status}) was called, which would end the whole run")
    really(status)


def _process(file: int) -> subprocess.Popen[bytes]:
    code = "import sys; from bisect_ai.provider.watchdog import serve; serve(*map(int, sys.argv[1:]))"
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return subprocess.Popen(  # noqa: S603  # this interpreter, with two numbers
        [sys.executable, "-P", "-c", code, str(file), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**known, "PYTHONPATH": os.pathsep.join(sys.path)},
        pass_fds=(file,),
        start_new_session=True,  # Ctrl-C is not for it
    )


def _beat(board: Board, over: threading.Event) -> None:
    while not over.wait(_BEAT_SECONDS):
        board.beat()


@contextlib.contextmanager
def _exits_at_once() -> Iterator[None]:
    """Inside, SIGQUIT ends the program with `STUCK`, its own number, without the interpreter: C calls C."""
    import ctypes

    own = ctypes.CDLL(None)
    own.signal.restype, own.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    before = own.signal(signal.SIGQUIT, ctypes.cast(own._exit, ctypes.c_void_p))
    try:
        yield
    finally:
        own.signal(signal.SIGQUIT, before)


# -- the process beside it ---------------------------------------------------------------------------------------------------
def serve(file: int, program: int) -> None:
    """Watch the program until it ends, and end it if it is stuck."""
    board, awake, looked = Board(file), time.monotonic(), time.monotonic()
    while not select.select([sys.stdin], [], [], _BEAT_SECONDS)[0]:
        slept, looked = time.monotonic() - looked > QUIET_SECONDS / 2, time.monotonic()
        if slept or _is_suspended(program):  # the machine, or the program alone
            awake = looked
            continue
        told = why(board, max(board.pulse[0], awake), program)
        if told is not None:
            _say(f"{told}; {_KEPT}: mend it, or take the query out, and run the same command again")
            _end(program)
            return
    if not os.read(sys.stdin.fileno(), 1):
        _say(_ended(board))


def _ended(board: Board) -> str:
    """What is known of a program that is gone."""
    units = [unit.what for unit in board.at_work()]
    others = f" and {len(units) - _MOST_NAMED} more" if len(units) > _MOST_NAMED else ""
    while_at = f", while at work: {', '.join(units[:_MOST_NAMED])}{others}" if units else ""
    return (
        f"the program was ended from outside, by too little memory or by a fault in native code{while_at}; {_KEPT}: run the same "
        "command again"
    )


def why(board: Board, beaten: float, program: int) -> str | None:
    """Why the program is to be ended; None: it is not. `beaten`: when it last ran, as far as can be seen."""
    now, ends = time.monotonic(), board.pulse[1]
    if now - beaten < QUIET_SECONDS:
        return None
    units = board.at_work()
    if now < ends and now - beaten < min((unit.seconds for unit in units), default=math.inf):
        return None
    busy = _busiest(units, program)
    seconds = max((unit.seconds for unit in busy), default=math.inf)
    if board.pulse[0] > beaten or (now < ends and now - beaten < seconds):
        return None
    limit = "the time cap and its grace time" if now >= ends else f"{seconds:g} s"
    if not busy:
        return f"something holds the interpreter and does not give it back, for {now - beaten:.0f} s, past {limit}"
    others = f" (or one of {len(busy) - 1} more in its event loop)" if len(busy) > 1 else ""
    return f"{busy[-1].what}{others} holds the interpreter and does not give it back, for {now - beaten:.0f} s, past {limit}"


def _busiest(units: list[Unit], program: int) -> list[Unit]:
    """What is under way in the thread that computes; all of it where that cannot be seen."""
    threads = {unit.thread for unit in units}
    before = {thread: _ticks(program, thread) for thread in threads}
    time.sleep(_SAMPLE_SECONDS if len(threads) > 1 else 0.0)
    spent = {thread: _ticks(program, thread) - before[thread] for thread in threads}
    most = max(spent, key=lambda thread: spent[thread], default=0)
    return [unit for unit in units if unit.thread == most] if spent.get(most) or len(threads) == 1 else units


def _ticks(program: int, thread: int) -> int:
    """What a thread has computed; 0 where the system does not tell (proc(5): fields 14 and 15 of its `stat`)."""
    fields = _stat_fields(Path(f"/proc/{program}/task/{thread}/stat"))
    return int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0


def _is_suspended(program: int) -> bool:
    """Whether the program was stopped (Ctrl-Z), where the system tells."""
    return _stat_fields(Path(f"/proc/{program}/stat"))[:1] in (["T"], ["t"])


def _stat_fields(stat: Path) -> list[str]:
    """The fields from the third on: the second is a name in brackets, which may hold anything."""
    try:
        return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _say(told: str) -> None:
    shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # the live view had hidden the cursor
    with contextlib.suppress(OSError):
        os.write(2, f"{shown}bisect-ai: stopped: {told}\n".encode("ascii", "replace"))


def _end(program: int) -> None:
    """The program ends by its own handler, else by the system's."""
    for how in (signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, how)
        if select.select([sys.stdin], [], [], _LAST_SECONDS)[0]:
            return
