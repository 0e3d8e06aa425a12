"""Commands of the user's own that a verdict sets off: split into words, never given to a shell."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

from bisect_ai.cli.output import remark
from bisect_ai.errors import BisectError

SECONDS = 600


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
        done = subprocess.run(  # noqa: S603 (the user's own command, no shell)
            words, input=json.dumps(report).encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BisectError(f"--on-rollback: cannot run {words[0]!r}: {error}; the canary was not rolled back by it") from error
    _tell(done.stdout, done.stderr)
    if done.returncode:
        raise BisectError(f"--on-rollback: {words[0]!r} ended with {done.returncode}; look whether the canary was rolled back")
    remark(f"bisect-ai: ran {words[0]!r} to roll the canary back")


def _tell(*streams: bytes) -> None:
    """What the command said, in a line for each stream."""
    from bisect_ai.report.untrusted_text import one_line

    for said in streams:
        if text := one_line(said.decode(errors="replace"), limit=400):
            remark(f"--on-rollback: {text}")
