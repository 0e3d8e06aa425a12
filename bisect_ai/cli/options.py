"""Options that several commands share, and what they override in bisect.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from bisect_ai.errors import BisectError

F = TypeVar("F", bound=Callable[..., Any])
# Exit codes of commands that ended in a verdict, beside 0.
REGRESSION, INCONCLUSIVE = 1, 3
FORMATS = {"json": "JSON", "markdown": "Markdown", "html": "one HTML page", "junit": "JUnit XML"}


def report_options(command: F) -> F:
    """The report options that every command with a verdict takes."""
    command = _with(
        command,
        click.option("-q", "--quiet", is_flag=True, help="Print the first sentence of the verdict and nothing else."),
        click.option("-v", "--verbose", is_flag=True, help="Print the whole report before the card."),
        click.option("--log-file", "log_file", metavar="FILE", help="Append progress, notices and the whole report to FILE."),
    )
    words = "Tell slack:ENV, webhook:URL, webhook:ENV, github, langfuse or phoenix of the verdict; may be repeated."
    command = click.option("--notify", "notify_sinks", metavar="PLACE", multiple=True, help=words)(command)
    for name, words in reversed([each for each in FORMATS.items() if each[0] != "json"]):
        words = f"Write the report to FILE as {words} (- for standard output)."
        command = click.option(f"--{name}", f"{name}_path", metavar="FILE", callback=_output_file, help=words)(command)
    return json_option("the report", of_verdict=True)(command)


def json_option(what: str, *, of_verdict: bool = False) -> Callable[[F], F]:
    """`--json FILE`, of every command alike; where no FILE follows, `what` goes to standard output."""
    words = f"Write {what} to FILE as JSON (- or no FILE: to standard output)."
    how: dict[str, Any] = {"is_flag": False, "flag_value": "-", "callback": _output_file if of_verdict else _file_of_variable}
    return click.option("--json", "json_path", metavar="FILE", help=words, **how)


def _output_file(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The FILE. Raises before anything else is done, or a report of the error would be written there."""
    path = _file_of_variable(ctx, parameter, value)
    check_no_input(path)
    return path


def check_no_input(path: str | None) -> None:
    """Raises for a file that holds what somebody wrote: `--json` needs no FILE, so the settings may stand behind it."""
    if path is not None and path.lower().endswith((".yaml", ".yml")) and Path(path).exists():
        raise click.UsageError(f"cannot write to {path}: it holds settings or a release; name another file, or - for none")


def _file_of_variable(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The FILE; a variable may say yes or no instead (BISECT_AI_PLAN_JSON=1)."""
    if value is None or ctx.get_parameter_source(str(parameter.name)) is not ParameterSource.ENVIRONMENT:
        return value
    return {"1": "-", "true": "-", "yes": "-", "0": None, "false": None, "no": None}.get(value.lower(), value)


unit_option = click.option("--unit", metavar="WORD", help="What one point of the metric is, such as USD.")

events_option = click.option(
    "--events", metavar="FILE", help="What was deployed when: JSON lines with `at`, or git for the tags of the repository."
)


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


good_option = click.option("--good", metavar="RELEASE", help="The release that was fine: a file or a git revision.")


def replay_options(command: F) -> F:
    """Releases, log, verdict, limits and where calls run."""
    return _with(
        limit_options(command),
        good_option,
        click.option(
            "--bad",
            metavar="RELEASE",
            help="The release that lost quality: a file, a git revision, or WORKTREE (uncommitted files).",
        ),
    )


def limit_options(command: F) -> F:
    """Log, verdict, limits and where calls run."""
    return _with(
        command,
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


class WithProgram(click.Command):
    """A command that takes the user's program after `--`: its words are no options of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave what stands after the first `--` to the program."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[PROGRAM] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Say so in the help, too."""
        return [*super().collect_usage_pieces(ctx), "[-- PROGRAM...]"]


PROGRAM = "bisect_ai.program"


def program_of(ctx: click.Context) -> dict[str, Any]:
    """The target of a program after `--`: it runs on the wire. Raises `BisectError` for a `--` with nothing behind it."""
    words = ctx.meta.get(PROGRAM)
    if words == []:
        raise BisectError("there is no program after --: write it as you would type it, for example -- python my_agent.py")
    return {"target": {"kind": "wire", "run": words}} if words else {}


def _with(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def file_or_revision(text: str) -> str | dict[str, str]:
    """A release as the settings name it: an existing file from the working folder, a snapshot (`@now`), else perhaps a revision."""
    from bisect_ai.runs.release_files import FOLDER, snapshot_named

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


def names_settings(word: str) -> bool:
    """Whether a word is settings or a range, and no file to be written."""
    path = Path(word)
    return path.suffix.lower() in (".yaml", ".yml") or path.is_dir() or with_range(path, {}) != path


def overrides_of(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line, as bisect.yaml names them."""
    names = (
        *("good", "bad", "metric", "tolerance", "alpha", "design", "drill", "keep_going"),
        *("concurrency", "jobs", "backend", "scheduler", "store", "seed"),
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


def log_options(whose: str, fields: str, *, timed: bool) -> Callable[[F], F]:
    """How a log is read by commands that call nobody; `whose` answers or questions a cluster groups, `fields` that may be mapped."""
    since = click.option("--since", metavar="TIME", help="Ignore records before this time.")
    return lambda command: _with(
        command,
        click.option(
            "--cluster", metavar="COLUMN", help=f"Column with the user or session, whose {whose} are not independent."
        ),
        click.option(
            "--column",
            "columns",
            metavar="FIELD=COLUMN",
            multiple=True,
            help=f"Which column holds {fields}; may be repeated.",
        ),
        *([since] if timed else []),
        click.option("--where", metavar="CONDITION", help="Only use records that fulfil this SQL condition (DuckDB)."),
    )


def log_settings(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """What `names` among the options, and the columns, say of the log. Raises `BisectError`."""
    columns = dict(map(_mapped_column, options["columns"]))
    said = {name: options[name] for name in names if options[name] is not None}
    return {**said, **({"columns": columns} if columns else {})}


def _mapped_column(text: str) -> tuple[str, str]:
    """FIELD=COLUMN as its two words. Raises `BisectError` when it is not written so."""
    field, equals, column = text.partition("=")
    if not (field and equals and column):
        raise BisectError(f"cannot use --column {text!r}: write FIELD=COLUMN, for example release=prompt.label")
    return field, column
