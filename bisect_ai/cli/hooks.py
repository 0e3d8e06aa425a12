"""Commands of the user's own that a verdict sets off: split into words, never given to a shell."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
from typing import IO, Any

from bisect_ai.cli.streams import remark
from bisect_ai.errors import BisectError

# That the command may take.
SECONDS = 600.0
# Of what the command prints, that are passed on.
_SAID_BYTES = 4096
# Left to read what it printed, once it has ended.
_READING_SECONDS = 1.0


def words_of(command: str | None) -> list[str]:
    """A command line as its words. Raises `BisectError` for one that cannot be split."""
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BisectError(f"cannot use --on-rollback {command[:60]!r}: {error}; quote it as a shell would") from error
    if not words:
        raise BisectError("--on-rollback is empty; name a command, or leave it out")
    return words


def run_hook(words: list[str], report: dict[str, Any]) -> None:
    """Run the command where rolling back is safe for a machine; it reads the report as JSON on its standard input.

    Raises `BisectError` when it cannot be run or fails: nothing was rolled back then, as far as is known.
    """
    from bisect_ai.report.json_edge import read
    from bisect_ai.report.report_values import Report

    canary = read(Report, report).canary
    if canary is None or not canary.safe_to_revert:
        if canary is not None and canary.kind == "roll_back":
            remark("bisect-ai: --on-rollback was not run: the evidence is not strong enough for a machine to act on it")
        return
    try:
        code, said = _run_words(words, json.dumps(report).encode())
    except (OSError, ValueError) as error:
        raise BisectError(f"--on-rollback: cannot run {words[0]!r}: {error}; the canary was not rolled back by it") from error
    _tell(*said)
    if code is None:
        raise BisectError(
            f"--on-rollback: {words[0]!r} took more than {SECONDS:g} s and was ended; look whether the canary was rolled back"
        )
    if code:
        raise BisectError(f"--on-rollback: {words[0]!r} ended with {code}; look whether the canary was rolled back")
    remark(f"bisect-ai: ran {words[0]!r} to roll the canary back")


def _run_words(words: list[str], given: bytes) -> tuple[int | None, list[bytes]]:
    """The exit code, and the start of what was said on each stream; no code: it took too long, and was ended with its group.

    Only the command itself is waited for: what it leaves running holds its streams open, and goes on.
    """
    process = subprocess.Popen(  # noqa: S603 (the user's own command, no shell)
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    said = [bytearray(), bytearray()]
    threading.Thread(target=_feed, args=(process.stdin, given), daemon=True).start()
    readers = [
        threading.Thread(target=_read, args=each, daemon=True)
        for each in zip((process.stdout, process.stderr), said, strict=True)
    ]
    for reader in readers:
        reader.start()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        return None, [bytes(each) for each in said]
    finally:
        if process.returncode is None:  # interrupted, too
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for reader in readers:
        reader.join(_READING_SECONDS)
    return process.returncode, [bytes(each) for each in said]


def _feed(stream: IO[bytes], given: bytes) -> None:
    with contextlib.suppress(OSError), stream:
        stream.write(given)


def _read(stream: IO[bytes], said: bytearray) -> None:
    """Read to the end, so that nobody waits; only the start is kept."""
    with contextlib.suppress(OSError, ValueError), stream:
        while part := os.read(stream.fileno(), 65536):
            said += part[: _SAID_BYTES - len(said)]


def _tell(*streams: bytes) -> None:
    """What the command said, in a line for each stream."""
    from bisect_ai.report.untrusted_text import one_line

    for said in streams:
        if text := one_line(said.decode(errors="replace"), limit=400):
            remark(f"--on-rollback: {text}")
