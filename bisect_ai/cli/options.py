"""Options that several commands share, and what they override in bisect.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bisect_ai.errors import BisectError

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = {"json": "JSON", "markdown": "Markdown", "html": "one HTML page", "junit": "JUnit XML"}


def report_options(command: F) -> F:
    """The report options that every command with a verdict takes."""
    for name, words in reversed(FORMATS.items()):
        words = f"Write the report as {words} (- for standard output)."
        command = click.option(f"--{name}", f"{name}_path", metavar="FILE", help=words)(command)
    return command


def rollback_option(command: F) -> F:
    """`--write-rollback`, for commands that may recommend one."""
    words = "Write the recommended release, frozen, to FILE (JSON where it ends in .json, else YAML)."
    return click.option("--write-rollback", "rollback_path", metavar="FILE", help=words)(command)


def run_options(command: F) -> F:
    """What overrides bisect.yaml."""
    for option in reversed(
        (
            click.option("--good", metavar="RELEASE", help="The known-good release: a file, or a git revision."),
            click.option(
                "--bad", metavar="RELEASE", help="The known-bad release, likewise (WORKTREE: what is not committed yet)."
            ),
            click.option("--log", "log_path", metavar="PATH", help="The logged queries (a file or a pattern)."),
            click.option("--sample", type=click.IntRange(min=2), help="Queries to sample from the log."),
            click.option("--metric", help="The score that decides."),
            click.option("--tolerance", type=float, help="The smallest loss worth acting on, in points of the metric."),
            click.option("--alpha", type=float, help="Chance of naming a wrong cause, over the whole run."),
            click.option("--design", type=click.Choice(["adaptive", "full", "fractional"]), help="How cells are chosen."),
            click.option(
                "--drill/--no-drill", default=None, help="Go on inside the guilty axes, to the line, document or field."
            ),
            click.option("--max-calls", type=click.IntRange(min=2), help="Target calls, the most."),
            click.option("--max-usd", type=float, help="Money, the most."),
            click.option("--max-minutes", type=float, help="Time, the most."),
            click.option(
                "--keep-going", is_flag=True, default=None, help="Go on although the target or the deciding scorer only fails."
            ),
            click.option("--concurrency", type=click.IntRange(min=1), help="Calls under way at once."),
            click.option("--jobs", type=click.IntRange(min=1), help="Processes that call the target."),
            click.option(
                "--backend", type=click.Choice(["loky", "dask", "ray"]), help="Where they run: here, or on a cluster."
            ),
            click.option("--scheduler", metavar="ADDRESS", help="The cluster's address (dask: tcp://host:port)."),
            click.option("--store", metavar="FOLDER", help="Where answers are kept."),
            click.option("--seed", type=int, help="Draws the sample and the order of trials."),
        )
    ):
        command = option(command)
    return command


def file_or_revision(text: str) -> str | dict[str, str]:
    """A release as the settings name it: an existing file from the working folder, a snapshot (`@now`), else perhaps a revision."""
    from bisect_ai.runs.snapshot import FOLDER, snapshot_named

    path = snapshot_named(text, Path(FOLDER)) or Path(text)
    if path.exists() or path.suffix.lower() in (".yaml", ".yml", ".json"):
        return str(path.absolute())
    return {"git": text}


def with_range(config: Path, options: dict[str, Any]) -> Path:
    """The bisect.yaml, when `GOOD..BAD` stands in its place: then the two are options. Raises `BisectError` for half a range."""
    text = str(config)
    good, dots, bad = text.partition("..")
    if not dots or config.exists() or config.suffix.lower() in (".yaml", ".yml") or "/" in good + bad.lstrip("."):
        return config
    if not good or bad.startswith("."):
        raise BisectError(f"cannot use the range {text!r}: write GOOD..BAD, such as v1.2..v1.3 (GOOD.. means GOOD..HEAD)")
    options |= {"good": options.get("good") or good, "bad": options.get("bad") or bad or "HEAD"}
    return Path("bisect.yaml")


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
    if "store" in given:  # a path on the command line starts from the working folder
        given["store"] = str(Path(given["store"]).absolute())
    given |= {side: file_or_revision(given[side]) for side in ("good", "bad") if side in given}
    budget = {"calls": options.get("max_calls"), "usd": options.get("max_usd"), "minutes": options.get("max_minutes")}
    log = {"path": options.get("log_path") and str(Path(options["log_path"]).absolute()), "sample": options.get("sample")}
    for key, values in (("budget", budget), ("log", log)):
        kept = {k: v for k, v in values.items() if v is not None}
        if kept:
            given[key] = kept
    return given
