"""What is printed: on standard output and error, through the gate of `redaction`; a reader that has gone away is no error."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from bisect_ai.errors import BisectError
from bisect_ai.provider.redaction import redact

# Commands whose run is in the store by the time that something is written.
_STORING = frozenset({"run", "demo", "audit", "series", "verify", "gate", "drift", "report"})


def say(text: str, *, nl: bool = True) -> None:
    """Print on standard output. A reader that has gone away (`| head`) is no error; raises `BisectError` when it cannot be written."""
    try:
        click.echo(redact(text), nl=nl)
    except BrokenPipeError:
        to_nowhere()
    except OSError as error:
        to_nowhere()
        raise BisectError(f"cannot write to standard output: {error.strerror or error}; {_writes_again('shows')}") from error


def json_lines(value: object) -> str:
    """Plain JSON to be printed, in ASCII. Raises `ValueError` for what no JSON holds."""
    import json

    return json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False)


def _writes_again(does: str) -> str:
    """What becomes of a report that could not be written."""
    context = click.get_current_context(silent=True)
    is_stored = context is None or context.info_name in _STORING
    return f"the run is kept, `bisect-ai report` {does} it again" if is_stored else "make room, and run the same command again"


def remark(text: str) -> None:
    """Print on standard error; where nobody hears it nothing is lost."""
    with contextlib.suppress(OSError):
        click.echo(redact(text), err=True)


def colourful() -> bool:
    """Whether standard output is a terminal, and nobody asked for no colour (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and sys.stdout is not None and sys.stdout.isatty()


def to_nowhere() -> None:
    """What is left in the buffer goes to the null device, or Python would fail on it at the end, with an exit code of its own."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # standard output is no file
        return


def width() -> int:
    """Columns that the terminal has, within reason."""
    import shutil

    return max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))
