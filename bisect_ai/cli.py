"""The command line. Only this module knows click and exit codes; everything heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from bisect_ai import __version__
from bisect_ai.errors import BisectError, Interrupted
from bisect_ai.interrupts import heeded

F = TypeVar("F", bound=Callable[..., Any])
REGRESSION = 1
INCONCLUSIVE = 3
INTERRUPTED = 130
_PAYING = ("run", "demo", "audit", "canary", "verify")


class _Group(click.Group):
    """Turns errors raised on purpose into one line and an exit code."""

    is_program = False

    def main(self, *args: Any, **options: Any) -> Any:
        """Called bare, as the installed script does, it is the program and not a part of one."""
        self.is_program = not args and not options
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with heeded(last=self.is_program):
                return super().invoke(ctx)
        except BisectError as error:
            if ctx.params.get("debug"):
                raise
            _fail(str(error), error.exit_code)
        except Interrupted as interrupted:
            kept = "stopped: everything answered so far is kept" if ctx.invoked_subcommand in _PAYING else "stopped"
            _fail(f"{kept}; go on with: {_same_command()}", interrupted.exit_code)
        except KeyboardInterrupt:
            _fail(f"stopped: everything answered so far is kept; go on with: {_same_command()}", INTERRUPTED)
        except BrokenPipeError:  # `bisect-ai … | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


def _same_command() -> str:
    """What the user typed, ready to be pasted."""
    import shlex
    import shutil

    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        typed = ["python", "-m", "bisect_ai"]
    else:
        found = shutil.which(program.name)
        typed = [program.name if found and Path(found).resolve() == program.resolve() else sys.argv[0]]
    return shlex.join([*typed, *sys.argv[1:]])


def _fail(message: str, code: int) -> NoReturn:
    from bisect_ai.replay.failures import redact
    from bisect_ai.report.clean import one_line

    click.echo(f"bisect-ai: {one_line(redact(message))}", err=True)
    sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bisect-ai")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def main(debug: bool) -> None:
    """Which change in the release of an LLM application lowered its quality?

    Start with `bisect-ai demo` (no key, no network), then `bisect-ai init`.
    Exit codes: 0 a verdict was reached, 2 bad input, 3 inconclusive or budget spent, 4 the target kept failing, 130 interrupted
    (143 by SIGTERM).
    """


_FORMATS = {"json": "JSON", "markdown": "Markdown", "html": "one HTML page", "junit": "JUnit XML"}


def _report_options(command: F) -> F:
    """The report options that every command with a verdict takes."""
    for name, words in reversed(_FORMATS.items()):
        words = f"Write the report as {words} (- for standard output)."
        command = click.option(f"--{name}", f"{name}_path", metavar="FILE", help=words)(command)
    return command


def _rollback_option(command: F) -> F:
    words = "Write the recommended release, frozen, to FILE (JSON where it ends in .json, else YAML)."
    return click.option("--write-rollback", "rollback_path", metavar="FILE", help=words)(command)


def _run_options(command: F) -> F:
    """What overrides bisect.yaml."""
    for option in reversed(
        (
            click.option("--good", metavar="FILE", help="The known-good release."),
            click.option("--bad", metavar="FILE", help="The known-bad release."),
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


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    names = (
        "good",
        "bad",
        "metric",
        "tolerance",
        "alpha",
        "design",
        "drill",
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


@main.command()
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@_run_options
@_rollback_option
@_report_options
def run(config: Path, **options: Any) -> None:
    """Replay, attribute and say which change did it. Resumes by itself."""
    _run_and_report(config, _overrides(options), options)


def _run_and_report(config: Path, overrides: dict[str, Any], options: dict[str, Any]) -> None:
    from bisect_ai.api import run as run_study

    result = run_study(config, progress=True, **overrides)
    _emit(dict(result.report), options)
    _write_rollback(result, options)
    usage = result.usage
    _notify(result.notices)
    click.echo(f"this time: {usage.calls} calls made, {usage.cached} answered from the store", err=True)
    sys.exit(INCONCLUSIVE if result.verdict.kind == "inconclusive" else 0)


def _emit(report: dict[str, Any], options: dict[str, Any]) -> None:
    """Files first, then the terminal; what goes to standard output replaces the terminal report."""
    from bisect_ai.report import terminal
    from bisect_ai.report.formats import render_as

    wanted = {name: options[f"{name}_path"] for name in _FORMATS if options.get(f"{name}_path")}
    for name, path in wanted.items():
        _write(path, render_as(name, report))
    if "-" not in wanted.values():
        click.echo(terminal.render(report, width=_width(), colour=sys.stdout.isatty()))


def _notify(notices: Iterable[str]) -> None:
    for notice in notices:
        click.echo(f"bisect-ai: {notice}", err=True)


def _write_rollback(result: Any, options: dict[str, Any]) -> None:
    """The recommended release as a file, when it was asked for; that there is none is said, and is no error."""
    path = options.get("rollback_path")
    if not path:
        return
    if result.recommended is None:
        click.echo(f"bisect-ai: no rollback to write to {path}: the verdict recommends none", err=True)
        return
    result.write_rollback(path)
    click.echo(f"wrote the recommended release to {path}", err=True)


def _write(path: str, text: str) -> None:
    if path == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BisectError(
            f"cannot write the report to {path}: {error.strerror}; the run is kept, `bisect-ai report` writes it again"
        ) from error


def _width() -> int:
    import shutil

    return max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))


@main.command()
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@_run_options
@click.option("--detect", type=float, help="The loss that the audit should not miss, in points of the metric.")
@click.option("--per-year", type=click.IntRange(min=1), help="Audits a year: they share --alpha.")
@click.option("--history", "history_path", metavar="FILE", help="Append one line of JSON to FILE (- for standard output).")
@_rollback_option
@_report_options
def audit(config: Path, detect: float | None, per_year: int | None, history_path: str | None, **options: Any) -> None:
    """Is the bad release worse than the good one? For schedules.

    Stops early when all is well, goes on to the cause when not. Exit codes: 0 no regression, 1 a regression, 3 undecided (the
    next audit of the same releases goes on from here).
    """
    from bisect_ai.auditing import audit as run_audit
    from bisect_ai.changelog import line

    rule = {key: value for key, value in (("detect", detect), ("per_year", per_year)) if value is not None}
    overrides = {**_overrides(options), **({"audit": rule} if rule else {})}
    result = run_audit(config, progress=True, **overrides)
    report = dict(result.report)
    if history_path:
        _append(history_path, line(report))
    if history_path != "-":
        _emit(report, options)
    _write_rollback(result, options)
    _notify(result.notices)
    sys.exit({"healthy": 0, "regression": REGRESSION}.get(report["audit"]["kind"], INCONCLUSIVE))


@main.command()
@click.argument("source", metavar="[LOG]", default="bisect.yaml")
@click.option("--baseline", metavar="LABEL", help="The release that the canary is compared with, as the log names it.")
@click.option("--canary", metavar="LABEL", help="The release on trial.")
@click.option("--metric", help="The logged score that decides.")
@click.option("--tolerance", type=float, help="The loss that must not be promoted, in points of the metric.")
@click.option("--alpha", type=float, help="Chance of a wrong verdict, over all looks.")
@click.option("--bounds", type=(float, float), metavar="LOW HIGH", help="Lowest and highest score; beyond counts as the bound.")
@click.option("--lower-is-better", "higher_is_better", flag_value=False, default=None, help="The metric is a cost.")
@click.option("--segment", metavar="COLUMN", help="Compare inside each value of this column.")
@click.option("--cluster", metavar="COLUMN", help="User or session: counts once.")
@click.option("--column", "columns", metavar="FIELD=COLUMN", multiple=True, help="Where the log has release, at, id or scores.")
@click.option("--since", metavar="TIME", help="The first instant that counts.")
@click.option("--where", metavar="CONDITION", help="A DuckDB condition over the log's columns.")
@_report_options
def canary(source: str, columns: tuple[str, ...], **options: Any) -> None:
    """Promote a canary, roll it back, or wait? From live scores in LOG (any format), or in the log of a bisect.yaml.

    Run it again as the log grows, as often as you like. Exit codes: 0 promote, 1 roll back, 3 wait.
    """
    from bisect_ai.canaries import canary as look

    is_config = Path(source).suffix in (".yaml", ".yml") or Path(source).is_dir()
    names = ("baseline", "canary", "metric", "tolerance", "alpha", "bounds", "higher_is_better")
    log = {name: options[name] for name in ("segment", "cluster", "since", "where") if options[name] is not None}
    mapped = {"columns": dict(_mapped(each) for each in columns)} if columns else {}
    given: dict[str, Any] = {"config" if is_config else "log": source, **{name: options[name] for name in names}}
    result = look(**given, settings={**log, **mapped})
    _emit(dict(result.report), options)
    sys.exit({"promote": 0, "roll_back": REGRESSION}.get(result.verdict.kind, INCONCLUSIVE))


def _mapped(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not (field and equals and column):
        raise BisectError(f"cannot use --column {text!r}: write FIELD=COLUMN, for example release=prompt.label")
    return field, column


def _append(path: str, line: str) -> None:
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


@main.command()
@click.argument("run_id", metavar="RUN")
@click.argument("fix", metavar="FIX", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), default=Path("bisect.yaml"), show_default=True)
@_run_options
@_report_options
def verify(run_id: str, fix: Path, config: Path, **options: Any) -> None:
    """Does the release FIX bring back what broke in RUN, and break nothing else?

    RUN is the id of a stored run or the beginning of it (`bisect-ai runs`). Exit codes: 0 fixed, 1 not fixed or fixed with
    collateral, 3 undecided.
    """
    from bisect_ai.verifying import verify as run_verify

    result = run_verify(run_id, fix.absolute(), config, progress=True, **_overrides(options))
    _emit(dict(result.report), options)
    _notify(result.notices)
    kind = result.report["verify"]["kind"]
    sys.exit({"fixed": 0, "undecided": INCONCLUSIVE}.get(kind, REGRESSION))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("bisect-ai-demo"))
@click.option("--max-calls", type=click.IntRange(min=2), help="Target calls, the most.")
@click.option("--design", type=click.Choice(["adaptive", "full", "fractional"]), help="How cells are chosen.")
@click.option("--drill/--no-drill", default=None, help="Go on inside the guilty axes, to the line, document or field.")
@_rollback_option
@_report_options
def demo(folder: Path, **options: Any) -> None:
    """Write the bundled incident into FOLDER and solve it, with no key and no network."""
    from bisect_ai.starter import write_demo

    click.echo(write_demo(folder), err=True)
    _run_and_report(folder / "bisect.yaml", _overrides(options), options)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def init(folder: Path) -> None:
    """Write a commented bisect.yaml, two releases and a sample log into FOLDER."""
    from bisect_ai.starter import write_starter

    click.echo(write_starter(folder))


@main.command()
@click.argument("good", type=click.Path(path_type=Path))
@click.argument("bad", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the tree as JSON.")
def diff(good: Path, bad: Path, as_json: bool) -> None:
    """Show what changed between two releases, axis by axis. Spends nothing."""
    from bisect_ai.compare_releases import diff_releases

    tree = diff_releases(good, bad)
    if as_json:
        import json

        click.echo(json.dumps(tree, indent=1, ensure_ascii=True))
        return
    from bisect_ai.report.tree import render_diff

    click.echo(render_diff(tree, width=_width(), colour=sys.stdout.isatty()))


@main.command()
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@_run_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(config: Path, as_json: bool, **options: Any) -> None:
    """Show what a run would do and cost. Spends nothing."""
    from bisect_ai.planning import make_plan
    from bisect_ai.report.plan import render_plan

    planned = make_plan(config, _overrides(options))
    if as_json:
        import json

        click.echo(json.dumps(planned, indent=1, ensure_ascii=True))
    else:
        click.echo(render_plan(planned, width=_width(), colour=sys.stdout.isatty()))


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--store", type=click.Path(path_type=Path), default=Path(".bisect-ai"), show_default=True)
@click.option("--postmortem", "as_postmortem", is_flag=True, help="Print a post-mortem in Markdown instead.")
@click.option(
    "--blast-radius", "radius_path", metavar="FILE", help="Write the logged queries that were probably hit (CSV, or .jsonl)."
)
@click.option("--config", type=click.Path(path_type=Path), help="For those two: the run's settings.  [default: bisect.yaml]")
@click.option("--log", "log_path", metavar="PATH", help="For those two: the log, where it lies now.")
@_report_options
def report(
    run_id: str,
    store: Path,
    as_postmortem: bool,
    radius_path: str | None,
    config: Path | None,
    log_path: str | None,
    **options: Any,
) -> None:
    """Show a stored run's report again (RUN: its id or the beginning of it). Spends nothing."""
    if as_postmortem or radius_path:
        here = Path("bisect.yaml")
        config = config or (here if here.is_file() else store.parent / here)
        _postmortem(run_id, _existing(store), config, log_path, as_postmortem, radius_path)
        if not any(options.values()):
            return
    from bisect_ai.api import read_report

    kept = read_report(_existing(store), run_id)
    _emit(kept, options)


def _postmortem(
    run_id: str, store: Path, config: Path, log_path: str | None, as_postmortem: bool, radius_path: str | None
) -> None:
    from bisect_ai.postmortem import gather, render, write_hits

    found = gather(run_id, store=store, config=config, log=log_path)
    if radius_path:
        _write(radius_path, write_hits(found, radius_path))
    if as_postmortem:
        click.echo(render(found), nl=False)


@main.command()
@click.option("--store", type=click.Path(path_type=Path), default=Path(".bisect-ai"), show_default=True)
@click.option("--history", "as_history", is_flag=True, help="The metric over releases, and which axis moved it each time.")
@click.option("--verify", is_flag=True, help="Read everything and say what is damaged or missing; exit code 2 if anything is.")
@click.option("--purge-query", metavar="ID", help="Remove a query's answers, scores and examples from the store, for good.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def runs(store: Path, as_history: bool, verify: bool, purge_query: str | None, as_json: bool) -> None:
    """List the runs in a store, tell its history, check it, or remove a query from it. Spends nothing."""
    from bisect_ai.stored import checked, purged, runs_of

    if verify + (purge_query is not None) + as_history > 1:
        raise BisectError("cannot do two things at once: --verify, --purge-query and --history are for one call each")
    _existing(store)
    if as_history:
        _history(store, as_json)
        return
    said = purged(store, purge_query) if purge_query is not None else checked(store) if verify else runs_of(store)
    _notify(said.notices)
    click.echo(said.json_text() if as_json else "\n".join(said.lines))
    if said.wrong is not None:
        raise BisectError(said.wrong)


def _history(store: Path, as_json: bool) -> None:
    from bisect_ai.changelog import rows
    from bisect_ai.report.changelog import render_history

    found = list(rows(store))
    if as_json:
        import json

        click.echo(json.dumps(found, indent=1, ensure_ascii=True, allow_nan=False))
    else:
        click.echo(render_history(found, width=_width(), colour=sys.stdout.isatty()))


def _existing(store: Path) -> Path:
    if not (store / "journal").is_dir():
        raise BisectError(f"cannot read the store {store}: there is none; name it with --store, or run something first")
    return store
