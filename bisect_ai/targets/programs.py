"""A program of the user's as a process: lines in, lines out, and nothing of it left when it is ended."""

from __future__ import annotations

import atexit
import collections
import contextlib
import os
import queue
import re
import secrets
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bisect_ai.provider.redaction import line_of, redact

if TYPE_CHECKING:
    import psutil

# Bytes of a line of standard output that are read; a longer one ends the program.
LONGEST_LINE = 10 << 20
_LAST_LINES = 40  # of standard error; a traceback with its cause fits
_LAST_CHARS = 240  # of them in an error, which is one line
_NAMED_CHARS = 160  # of the line that names the error: most say why in fewer
# A line of a trace that says where, in JavaScript, Java, Go, and one that only points at the line above.
_FRAME = re.compile(r"at .|\.\.\. \d+ more|goroutine \d+ |\S+:\d+ \+0x|[\s^~-]*$")
# A line that says what went wrong, in most languages.
_NAMED = re.compile(
    r"(Exception in|[\w.$]*(Error|Exception|Warning)\b|panic: |thread '.*' panicked|(fatal|error)\b).*",
    re.ASCII | re.IGNORECASE,
)
_ENDING_SECONDS = 1.0  # between asking a program to end and ending it
_LOOK_SECONDS = 0.25  # a program that died is noticed within it
_SWEEPS = 3  # a process may start another while the list of them is read


# The variable that names who started a program: what a program starts has it too, in whatever group or session.
MARK = "BISECT_AI_CELLS"
_own_name = secrets.token_hex(8)
# All names that this process's programs have had.
_names: set[str] = set()
# Those that were not ended yet, by whomever they were started.
_running: set[Program] = set()
# No more are started.
_over = threading.Event()
# Held while one is started: what `end_what_runs` does not see was not started.
_starting = threading.Lock()


class ProgramEnded(Exception):
    """Inside the targets: the program ended, or could not be started; the message says with what."""


class Program:
    """One process in a group of its own, with its standard output read by line and the end of its standard error kept."""

    def __init__(self, command: Sequence[str] | str, *, folder: Path, environment: Mapping[str, str]) -> None:
        # Another one in each run: what a program says names its files from there.
        self._folder = f"{folder}{os.sep}"
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._errors: collections.deque[bytes] = collections.deque(maxlen=_LAST_LINES)
        self._guard, self._ended = threading.Lock(), False
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_lines, self._read_errors)]
        with _starting:
            if _over.is_set():  # a thread that nobody waits for any more
                raise ProgramEnded("the run is over")
            self._process = _started(command, folder=folder, environment=environment)
            for reader in self._readers:
                reader.start()
            _running.add(self)

    def send(self, line: bytes, *, last: bool = False) -> None:
        """Write a line to its standard input; `last` closes it. A program that does not listen is noticed by its answer."""
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):
            try:
                stream.write(line)
                stream.flush()
            finally:  # of a program that has gone, too: what was not read would keep the pipe open
                if last:
                    stream.close()

    def close_input(self) -> None:
        """There is no more to come."""
        self.send(b"", last=True)

    def line(self, until: float) -> str | None:
        """The next line of standard output; None at its end. Raises `TimeoutError` at `until` (monotonic seconds)."""
        while True:
            left = until - time.monotonic()
            try:
                line = self._lines.get(timeout=max(min(left, _LOOK_SECONDS), 0.001))
            except queue.Empty:
                if left <= 0:
                    raise TimeoutError from None
                if not self.has_exited():
                    continue
                try:  # gone, though something it started may hold its output open
                    line = self._lines.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    return None
            return None if line is None else line.decode("utf-8", "replace")

    def end(self) -> int | None:
        """End it and all that it started; its exit code, negative for a signal. Waits for it at most some seconds."""
        with self._guard:
            if not self._ended:
                self._ended = True
                self._end_group()
                _running.discard(self)
            return self._process.returncode

    def wait(self, until: float) -> int | None:
        """Its exit code, once it has exited by itself; it is ended at `until`, and what it started then too."""
        while time.monotonic() < until and not self.has_exited():
            time.sleep(0.005)
        return self.end()

    def why(self) -> str:
        """With what it ended, and the last lines of its standard error."""
        code = self.end()
        self._readers[1].join(timeout=_ENDING_SECONDS)
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return (
            f"{how}: {last_words([redact(line.decode('utf-8', 'replace').replace(self._folder, '')) for line in self._errors])}"
        )

    def _end_group(self) -> None:
        """Its group is ended before it is waited for: until then nobody else can have the number."""
        if not self.has_exited():
            self.close_input()
            self._signal(signal.SIGTERM)
            until = time.monotonic() + _ENDING_SECONDS
            while time.monotonic() < until and not self.has_exited():
                time.sleep(0.01)
        self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5 * _ENDING_SECONDS)
        for reader in self._readers:  # one that goes on reads what a process out of the group holds open
            reader.join(timeout=_ENDING_SECONDS)
        self.close_input()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def has_exited(self) -> bool:
        """Whether it has exited; it is not waited for, so that its number stays its own."""
        if self._process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _read_lines(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with contextlib.suppress(OSError, ValueError), stream:
            while line := stream.readline(LONGEST_LINE):
                self._lines.put(line)
                if len(line) == LONGEST_LINE:
                    self._errors.append(b"bisect-ai: a line of its standard output is longer than 10 MiB")
                    break
        self._lines.put(None)

    def _read_errors(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with contextlib.suppress(OSError, ValueError), stream:
            while line := stream.readline(1 << 16):
                if line.strip():
                    self._errors.append(line)


def _started(command: Sequence[str] | str, *, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    marked = {MARK: _own_name, **environment}
    _names.add(marked[MARK])
    try:
        return subprocess.Popen(  # noqa: S603 (the user's own command)
            command,
            shell=isinstance(command, str),
            cwd=folder,
            env={**os.environ, **marked},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as failure:
        raise ProgramEnded(f"cannot start {shown_command(command)}: {line_of(failure)}") from failure


def last_words(lines: Sequence[str]) -> str:
    """The end of a standard error as one line: what went wrong, be it above a long trace, and what was said last."""
    kept = [line.strip() for line in lines if not _FRAME.match(line.strip())]
    told = " | ".join(kept)
    if len(told) <= _LAST_CHARS:
        return told or "nothing on standard error"
    named = next((line for line in reversed(kept) if _NAMED.match(line)), None)
    if named is None or named[:_NAMED_CHARS] in told[-_LAST_CHARS:]:
        return f"…{told[-_LAST_CHARS:]}"
    return f"{named[:_NAMED_CHARS]} … {told[_NAMED_CHARS - _LAST_CHARS :]}"


def end_all(programs: Sequence[Program]) -> None:
    """End them at once, not one after the other."""
    threads = [threading.Thread(target=program.end, daemon=True) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def end_what_runs() -> None:
    """End all programs that a run has left behind when its time was up, and any that is started from now on: this process ends."""
    with _starting:
        _over.set()
    end_all(list(_running))
    if _names:
        end_marked(_names)


def end_marked(names: Collection[str]) -> None:
    """End every process that one of these names started, at whatever remove; those that begin meanwhile, too."""
    import psutil

    for _ in range(_SWEEPS):
        found = [process for process in psutil.process_iter() if _mark_of(process) in names and process.pid != os.getpid()]
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not found:
            return


def _mark_of(process: psutil.Process) -> str | None:
    """The name; None: it has none, its memory is another user's, or it has ended and is waited for."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        return None if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(MARK)
    return None


atexit.register(end_what_runs)


def run_once(command: Sequence[str] | str, *, folder: Path, environment: Mapping[str, str], seconds: float) -> None:
    """Run a command to its end. Raises `ProgramEnded` when it fails or takes longer."""
    program = Program(command, folder=folder, environment=environment)
    program.close_input()
    until = time.monotonic() + seconds
    try:
        while program.line(until) is not None:
            pass
    except TimeoutError:
        program.end()
        raise ProgramEnded(f"{shown_command(command)} took more than {seconds:g} s") from None
    code = program.wait(until)
    if code != 0:
        raise ProgramEnded(f"{shown_command(command)} failed with {program.why()}")


def shown_command(command: Sequence[str] | str) -> str:
    """A command as people type it."""
    return command if isinstance(command, str) else shlex.join(command)
