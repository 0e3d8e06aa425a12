"""Options that several commands share, and what they override in bisect.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = {"json": "JSON", "markdown": "Markdown", "html": "one HTML page", "junit": "JUnit XML"}


def report_options(command: F) -> F:
    """The report options that every command with a verdict takes."""
    for name, words in reversed(FORMATS.items()):
        words = f"Write the report to FILE as {words} (- for standard output)."
        command = click.option(f"--{name}", f"{name}_path", metavar="FILE", help=words)(command)
    return command


def rollback_option(command: F) -> F:
    """`--write-rollback`, for commands that may recommend one."""
    words = "Write the recommended release, complete, to FILE: as JSON if its name ends in .json, else as YAML."
    return click.option("--write-rollback", "rollback_path", metavar="FILE", help=words)(command)


def run_options(command: F) -> F:
    """The options of a command that looks for the cause: they override bisect.yaml."""
    return replay_options(search_options(command))


def search_options(command: F) -> F:
    """How the cause is searched for. A verification searches for none."""
    return _with(
        command,
        click.option(
            "--design",
            type=click.Choice(["adaptive", "full", "fractional"]),
            help="Which combinations of changes are tried: chosen as answers come in, all of them, or a balanced part.",
        ),
        click.option(
            "--drill/--no-drill",
            default=None,
            help="Search inside the axes that are to blame: for the line, document or field.",
        ),
    )


def replay_options(command: F) -> F:
    """Releases, log, verdict, limits and where calls run."""
    return _with(
        command,
        click.option("--good", metavar="FILE", help="The release that was fine."),
        click.option("--bad", metavar="FILE", help="The release that lost quality."),
        click.option(
            "--log", "log_path", metavar="PATH", help="The logged queries: a file, or a pattern such as 'logs/*.jsonl'."
        ),
        click.option("--sample", type=click.IntRange(min=2), help="Draw at most this many queries from the log."),
        click.option("--metric", help="The score that decides; the others are shown beside it."),
        click.option("--tolerance", type=float, help="The smallest loss worth acting on, in units of the metric."),
        click.option("--alpha", type=float, help="The chance of a wrong verdict that you accept, over the whole run."),
        click.option("--max-calls", type=click.IntRange(min=2), help="Stop before making more than this many target calls."),
        click.option("--max-usd", type=float, help="Stop before spending more than this many USD."),
        click.option("--max-minutes", type=float, help="Stop after this many minutes."),
        click.option(
            "--keep-going", is_flag=True, default=None, help="Do not stop when the target or the deciding scorer keeps failing."
        ),
        click.option("--concurrency", type=click.IntRange(min=1), help="Target calls in flight at the same time."),
        click.option("--jobs", type=click.IntRange(min=1), help="Number of worker processes that call the target."),
        click.option(
            "--backend",
            type=click.Choice(["loky", "dask", "ray"]),
            help="Where target calls run: this machine (loky), or a dask or ray cluster.",
        ),
        click.option("--scheduler", metavar="ADDRESS", help="Address of the cluster (dask: tcp://host:port)."),
        click.option("--store", metavar="FOLDER", help="Folder that keeps every answer, so that none is paid for twice."),
        click.option("--seed", type=int, help="Random seed of the sample and of the order of trials."),
    )


def _with(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def overrides_of(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line, as bisect.yaml names them."""
    names = (
        "good",
        "bad",
        "metric",
        "tolerance",
        "alpha",
        "design",
        "drill",
        "keep_going",
        "concurrency",
        "jobs",
        "backend",
        "scheduler",
        "store",
        "seed",
    )
    given = {name: options[name] for name in names if options.get(name) is not None}
    for name in ("good", "bad", "store"):  # a path on the command line starts from the working folder
        if name in given:
            given[name] = str(Path(given[name]).absolute())
    budget = {"calls": options.get("max_calls"), "usd": options.get("max_usd"), "minutes": options.get("max_minutes")}
    log = {"path": options.get("log_path") and str(Path(options["log_path"]).absolute()), "sample": options.get("sample")}
    for key, values in (("budget", budget), ("log", log)):
        kept = {k: v for k, v in values.items() if v is not None}
        if kept:
            given[key] = kept
    return given
