"""Where reports and notices go: files, standard output, the terminal. Everything printed passes the gate of `redaction`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from bisect_ai.cli.options import FORMATS
from bisect_ai.errors import BisectError
from bisect_ai.provider.redaction import redact
from bisect_ai.store.artefacts import append_line, check_place, write_text

STORED = "the run is kept, `bisect-ai report` shows it again"
_WRITES = (
    *(f"{name}_path" for name in FORMATS),
    *("rollback_path", "history_path", "radius_path", "comment_path", "check_path", "sarif_path"),
)


def say(text: str, *, nl: bool = True) -> None:
    """Print on standard output. A reader that has gone away (`| head`) is no error; raises `BisectError` when it cannot be written."""
    try:
        click.echo(redact(text), nl=nl)
    except BrokenPipeError:
        to_nowhere()
    except OSError as error:
        to_nowhere()
        raise BisectError(f"cannot write to standard output: {error.strerror or error}; {STORED}") from error


def remark(text: str) -> None:
    """Print on standard error; where nobody hears it nothing is lost."""
    with contextlib.suppress(OSError):
        click.echo(redact(text), err=True)


def colourful() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def to_nowhere() -> None:
    """What is left in the buffer goes to the null device, or Python would fail on it at the end, with an exit code of its own."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # standard output is no file
        return


def deliver(report: dict[str, Any], options: dict[str, Any], *rest: Callable[[], None], shown: bool = True) -> None:
    """Files first, then the `rest`, then the terminal report, which `shown` False or a report on standard output replaces.

    Each is tried whatever became of the others; then raises `BisectError` with all that failed.
    """
    from bisect_ai.report import terminal
    from bisect_ai.report.file_formats import render_as

    def file(name: str, path: str) -> Callable[[], None]:
        return lambda: write(path, render_as(name, report))

    wanted = {name: options[f"{name}_path"] for name in FORMATS if options.get(f"{name}_path")}
    acts = [file(name, path) for name, path in wanted.items()] + list(rest)
    if shown and "-" not in wanted.values():
        acts.append(lambda: say(terminal.render(report, width=width(), colour=colourful())))
    failed = []
    for act in acts:
        try:
            act()
        except BisectError as error:
            failed.append(str(error))
    if options.get("notify_sinks"):
        from bisect_ai.cli.notifying import tell

        notify(tell(options["notify_sinks"], report))
    if failed:
        raise BisectError("; ".join(failed))


def check_places(options: dict[str, Any]) -> None:
    """Raises `BisectError` when something that is to be written cannot be: said before anything is spent."""
    if options.get("notify_sinks"):
        from bisect_ai.cli.notifying import parsed_sink

        for sink in options["notify_sinks"]:
            parsed_sink(sink)
    for name in _WRITES:
        path = options.get(name)
        if path and path != "-":
            check_place(path)
    try:
        out = None if sys.stdout is None else sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # not a file: a notebook, a test
        return
    try:
        if out is not None:
            os.write(out, b"")
    except OSError as error:
        raise BisectError(
            f"cannot write to standard output: {error.strerror}; nothing was done: send it somewhere (`> /dev/null` will do)"
        ) from error


def notify(notices: Iterable[str]) -> None:
    """Lines beside the report, on standard error."""
    for notice in notices:
        remark(f"bisect-ai: {notice}")


def write_rollback(result: Any, options: dict[str, Any]) -> None:
    """The recommended release as a file, when it was asked for; that there is none is said, and is no error."""
    path = options.get("rollback_path")
    if not path:
        return
    if result.recommended is None:
        remark(f"bisect-ai: no rollback to write to {path}: the verdict recommends none")
        return
    result.write_rollback(path)
    remark(f"wrote the recommended release to {path}")


def write(path: str, text: str) -> None:
    """The text in a file, or on standard output (`-`)."""
    if path == "-":
        say(text, nl=False)
    else:
        write_text(path, text, what="the report", then="the run is kept, `bisect-ai report` writes it again")


def append(path: str, line: str) -> None:
    """One more line of a history file."""
    if path == "-":
        say(line)
        return
    then = "the audit is kept, `bisect-ai runs --history` shows it"
    told = append_line(path, line, what="the history", then=then)
    notify([told] if told else [])


def width() -> int:
    """Columns that the terminal has, within reason."""
    import shutil

    return max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))


def store_named(store: Path | None, config: Path | None = None) -> Path:
    """The store to read: as given, else as `config` or the bisect.yaml of this folder names it, else `.bisect-ai` here."""
    from bisect_ai.config import FILE, heed_secrets_of, store_of

    place = config or Path(FILE)
    if store is not None:
        heed_secrets_of(place)
        return store
    return store_of(place) or Path(".bisect-ai")
