"""Where reports and notices go: files, standard output, the terminal. Everything printed passes the gate of `redaction`."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bisect_ai.cli.group import PAYING, colourful, json_lines, remark, say, width, writes_again
from bisect_ai.cli.options import FORMATS, check_no_input
from bisect_ai.errors import BisectError, InputError
from bisect_ai.provider.redaction import redact
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.store.artefacts import append_line, append_text, check_place, write_text

if TYPE_CHECKING:
    from bisect_ai.release.load import Release
    from bisect_ai.report.report_values import AnsweredQuery

_WRITES = (
    *(f"{name}_path" for name in FORMATS),
    *("rollback_path", "history_path", "radius_path", "comment_path", "check_path", "sarif_path", "log_file"),
)
# Options that change nothing of the question.
_BESIDES = frozenset({*_WRITES, "quiet", "verbose", "notify_sinks", "on_rollback"})
# Characters of a command that a card repeats.
MOST_TYPED = 400
# Bytes of a step's summary: GitHub takes a mebibyte; a longer report leaves only its card.
SUMMARY_LIMIT = 900_000


def deliver(
    report: dict[str, Any],
    options: Mapping[str, Any],
    *rest: Callable[[], None],
    shown: bool = True,
    at: Standpoint = HERE,
    whole: bool = False,
    answered: Callable[[], Sequence[AnsweredQuery]] | None = None,
) -> None:
    """Files first, then the `rest`, then the terminal: the card, after the `whole` report where it is asked for.

    A report on standard output, or `shown` False, leaves the terminal out. Each is tried whatever became of the others; then raises
    `NotToldError` with all that failed.
    """
    from bisect_ai.result import render_as

    def file(name: str, path: str) -> Callable[[], None]:
        if name == "html" and answered is not None and path != "-":
            return lambda: _write_pages(path, report, answered(), at)
        return lambda: write(path, render_as(name, report, at=at))

    wanted = {name: options[f"{name}_path"] for name in FORMATS if options.get(f"{name}_path")}
    acts = [file(name, path) for name, path in wanted.items()] + list(rest)
    if log := options.get("log_file"):
        acts.append(lambda: _log_report(log, report, at))
    acts.append(lambda: _summarise_step(report, at))
    if shown and "-" not in wanted.values():
        acts.append(lambda: say(_told(report, options, at, whole=whole), nl=False))
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
        raise NotToldError("; ".join(failed))


def _write_pages(path: str, report: dict[str, Any], answered: Sequence[AnsweredQuery], at: Standpoint) -> None:
    """The page with its answers, and what of them is too much for it in pages beside it."""
    from bisect_ai.report.html import pages
    from bisect_ai.result import sibling

    first, *more = pages(report, answered, at=at)
    write(path, first)
    for number, text in enumerate(more, start=2):
        write(str(sibling(Path(path), number)), text)


def _told(report: dict[str, Any], options: Mapping[str, Any], at: Standpoint, *, whole: bool) -> str:
    """What a terminal gets: the first sentence, the card, or the whole report with the card at its end."""
    from bisect_ai.report import terminal

    if options.get("quiet"):
        return terminal.first_line(report)
    if whole or options.get("verbose"):
        return terminal.render(report, width=width(), colour=colourful(), at=at)
    return terminal.card(report, width=width(), colour=colourful(), at=at)


def _log_report(path: str, report: dict[str, Any], at: Standpoint) -> None:
    from bisect_ai.report import terminal

    append_text(path, terminal.render(report, at=at))


def _summarise_step(report: dict[str, Any], at: Standpoint) -> None:
    """The report in the summary of a GitHub step; what cannot be written is said and is no error."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    from bisect_ai.report import markdown

    text = markdown.render(report, at=at)
    if len(text.encode()) > SUMMARY_LIMIT:
        text = markdown.card(report, at=at)
    try:
        append_text(path, text + "\n")
    except BisectError as error:
        notify([f"the step's summary was not written: {error}"])


def progress_for(options: Mapping[str, Any]) -> Any:
    """Whether, and how, a run shows its progress: on standard error unless it is to be quiet, in the log file where there is one."""
    path = options.get("log_file")
    if not path:
        return not options.get("quiet")
    from functools import partial

    from bisect_ai.report.progress import live

    return partial(live, log=lambda line: append_text(path, line + "\n"), silent=bool(options.get("quiet")))


class NotToldError(BisectError):
    """There is a verdict, and some file or stream that was to tell it could not be written."""


@contextlib.contextmanager
def reported(options: Mapping[str, Any]) -> Iterator[None]:
    """Inside, whatever ends the work without a verdict is written too, in every file that was asked for; then it is raised on."""
    try:
        yield
    except NotToldError:  # what could be written holds the verdict
        raise
    except (BisectError, KeyboardInterrupt, Exception) as error:  # CI must hear of a fault of ours too
        reason = redact(str(error) or type(error).__name__)
        kind = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with contextlib.suppress(BisectError):
            _write_end(options, kind, reason, error)
        raise


def _write_end(options: Mapping[str, Any], kind: str, reason: str, error: BaseException) -> None:
    from bisect_ai.runs.run_accounts import unfinished_of

    of, context = unfinished_of(error), click.get_current_context(silent=True)
    paid_nothing = isinstance(error, InputError) or (context is not None and context.info_name not in PAYING)
    wanted = {name: options[f"{name}_path"] for name in FORMATS if options.get(f"{name}_path")}
    if wanted:
        from bisect_ai.facts.report_view import ended_report
        from bisect_ai.result import render_as

        report = ended_report(kind, reason, of=of, paid_nothing=paid_nothing)
        for name, path in wanted.items():
            write(path, render_as(name, report))
    if path := options.get("history_path"):
        from bisect_ai.facts.saved_runs import end_line

        append(path, end_line(kind, reason, of=of))
    if path := options.get("log_file"):
        append_text(path, f"{kind}: {reason}\n")


def check_places(options: Mapping[str, Any]) -> None:
    """Raises `BisectError` when something that is to be written cannot be: said before anything is spent."""
    if options.get("notify_sinks"):
        from bisect_ai.cli.notifying import untellable

        notify(untellable(options["notify_sinks"]), options)
    shared = [f"--{name}" for name in FORMATS if options.get(f"{name}_path") == "-"]
    if len(shared) > 1:
        raise BisectError(f"cannot write {' and '.join(shared)} to standard output at once: name a file for all but one")
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


def notify(notices: Iterable[str], options: Mapping[str, Any] | None = None) -> None:
    """Lines beside the report: on standard error unless `options` want it quiet, and in their log file."""
    for notice in notices:
        beside(f"bisect-ai: {notice}", options or {})


def beside(text: str, options: Mapping[str, Any]) -> None:
    """A line beside the report."""
    if not options.get("quiet"):
        remark(text)
    if path := options.get("log_file"):
        with contextlib.suppress(BisectError):
            append_text(path, text + "\n")


def typed() -> str:
    """The command as it was typed, less what it writes, tells and runs besides; empty where a shell could not take it again."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name is None:
        return ""
    given = [p for p in context.command.params if context.get_parameter_source(str(p.name)) is ParameterSource.COMMANDLINE]
    words = [word for each in given if each.name not in _BESIDES for word in _words_of(each, context.params[str(each.name)])]
    text = " ".join(map(_quoted, ["bisect-ai", context.info_name, *words]))
    return text if text.isprintable() and len(text) <= MOST_TYPED and redact(text) == text else ""


def _quoted(word: str) -> str:
    """A word for a shell: one that holds single quotes in double ones where nothing in it means more there."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _words_of(parameter: click.Parameter, value: Any) -> Iterator[str]:
    """A parameter as words of a command line."""
    if isinstance(parameter, click.Argument):
        yield from map(str, value) if isinstance(value, tuple) else (str(value),)
        return
    assert isinstance(parameter, click.Option)
    if parameter.is_flag:
        yield (parameter.secondary_opts or parameter.opts)[-1] if value is False else parameter.opts[-1]
        return
    for each in value if parameter.multiple else (value,):
        yield parameter.opts[-1]
        yield from map(str, each) if isinstance(each, tuple) else (str(each),)


def standpoint(config: Path | str | None = None, *, store: Path | str | None = None) -> Standpoint:
    """What commands must name to be typed here: the settings file unless it is this folder's, a range, a store."""
    text = "" if config is None or str(config) == "bisect.yaml" else str(config)
    revisions = text if ".." in text and not Path(text).exists() and not text.endswith((".yaml", ".yml")) else ""
    where = "" if store is None else str(store)
    return Standpoint(config="" if revisions else text, revisions=revisions, store=where, typed=typed())


def write_rollback(result: Any, options: dict[str, Any]) -> None:
    """The recommended release as a file, when it was asked for."""
    if options.get("rollback_path"):
        write_recommended(result.recommended, options["rollback_path"])


def write_recommended(release: Release | None, path: str) -> None:
    """The recommended release as a file; that there is none is said, and is no error."""
    from bisect_ai.runs.release_writer import write_release

    if release is None:
        remark(f"bisect-ai: no rollback to write to {path}: the verdict recommends none")
        return
    write_release(release, Path(path))
    remark(f"wrote the recommended release to {path}")


def write(path: str, text: str) -> None:
    """The text in a file, or on standard output (`-`)."""
    if path == "-":
        say(text, nl=False)
    else:
        write_text(path, text, what="the report", then=writes_again("writes"))


def show_or_write(value: object, text: Callable[[], str], path: str | None, *, what: str) -> None:
    """What a command without a verdict found: as JSON in the file that was asked for, else as text on the terminal."""
    if path in (None, "-"):
        say(text() if path is None else json_lines(value))
    else:
        check_no_input(path)
        write_text(str(path), json_lines(value) + "\n", what=what, then="make room, and run the same command again")


def append(path: str, line: str) -> None:
    """One more line of a history file."""
    if path == "-":
        say(line)
        return
    then = "the audit is kept, `bisect-ai runs --history` shows it"
    told = append_line(path, line, what="the history", then=then)
    notify([told] if told else [])


def store_named(store: Path | None, config: Path | None = None) -> Path:
    """The store to read: as given, else as `config` or the bisect.yaml of this folder names it, else `.bisect-ai` here."""
    from bisect_ai.config import FILE, heed_secrets_of, store_of

    place = config or Path(FILE)
    if store is not None:
        heed_secrets_of(place)
        return store
    return store_of(place) or Path(".bisect-ai")
