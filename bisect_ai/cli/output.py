"""Where reports and notices go: files, standard output, the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from bisect_ai.cli.options import FORMATS
from bisect_ai.errors import BisectError


def emit(report: dict[str, Any], options: dict[str, Any]) -> None:
    """Files first, then the terminal; what goes to standard output replaces the terminal report."""
    from bisect_ai.report import terminal
    from bisect_ai.report.formats import render_as

    wanted = {name: options[f"{name}_path"] for name in FORMATS if options.get(f"{name}_path")}
    for name, path in wanted.items():
        write(path, render_as(name, report))
    if "-" not in wanted.values():
        click.echo(terminal.render(report, width=width(), colour=sys.stdout.isatty()))


def check_places(options: dict[str, Any]) -> None:
    """Raises `BisectError` when a file that is to be written has no folder: said before anything is spent."""
    for name in (*(f"{each}_path" for each in FORMATS), "rollback_path", "history_path"):
        path = options.get(name)
        if path and path != "-" and not Path(path).absolute().parent.is_dir():
            raise BisectError(f"cannot write to {path}: there is no folder {Path(path).parent}; make it, or name another file")


def notify(notices: Iterable[str]) -> None:
    """Lines beside the report, on standard error."""
    for notice in notices:
        click.echo(f"bisect-ai: {notice}", err=True)


def write_rollback(result: Any, options: dict[str, Any]) -> None:
    """The recommended release as a file, when it was asked for; that there is none is said, and is no error."""
    path = options.get("rollback_path")
    if not path:
        return
    if result.recommended is None:
        click.echo(f"bisect-ai: no rollback to write to {path}: the verdict recommends none", err=True)
        return
    result.write_rollback(path)
    click.echo(f"wrote the recommended release to {path}", err=True)


def write(path: str, text: str) -> None:
    """The text in a file, or on standard output (`-`)."""
    if path == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BisectError(
            f"cannot write the report to {path}: {error.strerror}; the run is kept, `bisect-ai report` writes it again"
        ) from error


def width() -> int:
    """Columns that the terminal has, within reason."""
    import shutil

    return max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))


def append(path: str, line: str) -> None:
    """One more line of a history file."""
    if path == "-":
        click.echo(line)
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise BisectError(
            f"cannot append to the history {path}: {error.strerror}; the audit is kept, `bisect-ai runs --history` shows it"
        ) from error
