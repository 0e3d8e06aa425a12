"""The commands that end in a verdict: run, demo, audit, canary, compare, verify."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bisect_ai.cli.group import main
from bisect_ai.cli.options import (
    INCONCLUSIVE,
    REGRESSION,
    WithProgram,
    events_option,
    file_or_revision,
    log_options,
    log_settings,
    overrides_of,
    program_of,
    replay_options,
    report_options,
    rollback_option,
    run_options,
    search_options,
    unit_option,
    with_range,
)
from bisect_ai.cli.output import (
    append,
    beside,
    check_places,
    deliver,
    notify,
    progress_for,
    reported,
    standpoint,
    write_rollback,
)
from bisect_ai.errors import BisectError
from bisect_ai.report.standpoint import Standpoint

if TYPE_CHECKING:
    from bisect_ai.facts.sessions import Work
    from bisect_ai.replay.interrupts import Stop
    from bisect_ai.result import Result
    from bisect_ai.runs.ledger import Watch
    from bisect_ai.runs.prepared import Prepared


@main.command(cls=WithProgram, short_help="Replay logged queries and say which change did it.")
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@click.option(
    "--learn",
    metavar="GOOD_PROGRAM",
    help="With -- PROGRAM: the good release's program; what both send for a few questions is written as the two releases.",
)
@run_options
@rollback_option
@report_options
@click.pass_context
def run(ctx: click.Context, /, config: Path, learn: str | None, **options: Any) -> None:
    """Replay logged queries and say which change lowered quality.

    CONFIG is the settings file (default: bisect.yaml), or GOOD..BAD: two git revisions, for the bisect.yaml here. Options override it.
    The same command resumes an interrupted run: answers in the store are not paid for again.

    PROGRAM, after --, is the program that answers: it runs unchanged for each question (its last argument, or {input}), and each
    combination is put into what it sends to OpenAI or Anthropic.
    """
    at = standpoint(config, store=options.get("store"))
    with reported(options):
        config = with_range(config, options)
        overrides = {**overrides_of(options), **program_of(ctx)}
        check_places(options)
        if learn is None:
            _run_and_report(config, overrides, options, at)
        else:
            _learn_and_run(config, overrides, learn, options, at)


def _learn_and_run(config: Path, overrides: dict[str, Any], good: str, options: dict[str, Any], at: Standpoint) -> None:
    """The run of the two releases as their programs send them; one budget for both."""
    from bisect_ai.facts.run_facts import execute
    from bisect_ai.runs.learn_releases import learn_releases

    with main.watched_over():
        learnt = learn_releases(config, overrides, good)
    for line in learnt.lines:
        beside(line, options)
    _run_and_report(config, {**overrides, **learnt.overrides}, options, at, work=partial(execute, before=learnt.before))


def _run_and_report(
    config: Path, overrides: dict[str, Any], options: dict[str, Any], at: Standpoint, *, work: Work | None = None
) -> None:
    from bisect_ai.facts.run_facts import execute, stored_result
    from bisect_ai.facts.sessions import watched
    from bisect_ai.runs.prepare import started

    takes_answers = options.get("html_path") or options.get("rollback_path")
    known = None if takes_answers or work is not None else stored_result
    main.hold_imports()
    result = started(
        _watched_work(work or partial(execute, renews=True)),
        overrides,
        config=config,
        watching=watched(progress_for(options)),
        known=known,
    )
    usage = result.usage
    notify(result.notices, options)
    beside(f"this time: {usage.calls} calls made, {usage.cached} answered from the store", options)
    deliver(dict(result.report), options, lambda: write_rollback(result, options), at=at, answered=result.answered)
    sys.exit(INCONCLUSIVE if result.verdict.kind == "inconclusive" else 0)


def _watched_work(work: Work) -> Work:
    """The same work, with the process that watches over it; a report that is known needs none, and it takes long to start."""

    def watched_work(prepared: Prepared, /, *, folder: Path, watch: Watch | None, stop: Stop | None) -> Result:
        with main.watched_over():
            return work(prepared, folder=folder, watch=watch, stop=stop)

    return watched_work


@main.command(short_help="Solve the bundled incident: no key, no network.")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("bisect-ai-demo"))
@click.option("--max-calls", type=click.IntRange(min=2), help="Stop before making more than this many target calls.")
@search_options
@rollback_option
@report_options
def demo(folder: Path, **options: Any) -> None:
    """Write the bundled incident into FOLDER and solve it, with no key and no network."""
    from bisect_ai.cli.starter import write_demo

    with reported(options):
        check_places(options)
        beside(write_demo(folder), options)
        config = folder / "bisect.yaml"
        _run_and_report(config, overrides_of(options), options, standpoint(config))


@main.command(short_help="Check on a schedule whether the bad release is worse.")
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@run_options
@click.option("--detect", type=float, help="The loss that the audit should detect, in units of the metric.")
@click.option("--per-year", type=click.IntRange(min=1), help="Number of audits a year, over which --alpha is divided.")
@click.option(
    "--history", "history_path", metavar="FILE", help="Append the result as one line of JSON to FILE (- for standard output)."
)
@rollback_option
@report_options
def audit(config: Path, detect: float | None, per_year: int | None, history_path: str | None, **options: Any) -> None:
    """Is the bad release worse than the good one? For scheduled checks.

    Stops early when there is no regression; searches for the cause when there is one. Exit codes: 0 no regression, 1 a regression,
    3 undecided (the next audit of the same releases continues from here). CONFIG is the settings file (default: bisect.yaml), or
    GOOD..BAD: two git revisions.
    """
    from bisect_ai.facts.audit_facts import audit as run_audit
    from bisect_ai.facts.saved_runs import history_line, is_told
    from bisect_ai.report.json_edge import read
    from bisect_ai.report.report_values import Report

    at = standpoint(config, store=options.get("store"))
    options["history_path"] = history_path
    with reported(options):
        config = with_range(config, options)
        check_places(options)
        rule = {key: value for key, value in (("detect", detect), ("per_year", per_year)) if value is not None}
        overrides = {**overrides_of(options), **({"audit": rule} if rule else {})}
        with main.watched_over():
            result = run_audit(config, progress=progress_for(options), **overrides)
    report = dict(result.report)
    is_new = history_path is not None and (history_path == "-" or not is_told(history_path, report))
    history = [lambda: append(str(history_path), history_line(report))] if is_new else []
    notify(result.notices, options)
    history.append(lambda: write_rollback(result, options))
    deliver(report, options, *history, shown=history_path != "-", at=at, answered=result.answered)
    found = read(Report, report).audit
    sys.exit({"healthy": 0, "regression": REGRESSION}.get(found.kind if found else "", INCONCLUSIVE))


@main.command(short_help="Promote a canary, roll it back, or wait?")
@click.argument("source", metavar="[LOG]", default="bisect.yaml")
@click.option("--baseline", metavar="LABEL", help="The release to compare with, as the log names it.")
@click.option("--canary", metavar="LABEL", help="The release to decide about, as the log names it.")
@click.option("--metric", help="The logged score that decides.")
@click.option("--tolerance", type=float, help="The smallest loss that rules out promoting, in units of the metric.")
@click.option("--alpha", type=float, help="The chance of a wrong verdict that you accept, however often you look.")
@click.option(
    "--bounds",
    type=(float, float),
    metavar="LOW HIGH",
    help="Lowest and highest possible score; scores outside are moved to the bound.",
)
@click.option(
    "--lower-is-better", "higher_is_better", flag_value=False, default=None, help="Lower scores are better, as for a cost."
)
@unit_option
@click.option(
    "--guard",
    "guards",
    metavar="METRIC:+LIMIT",
    multiple=True,
    help="A metric that may not rise (or, with -, fall) by more: cost:+10%, refusal:+1p, latency:+0.5; may be repeated.",
)
@click.option("--share", type=float, help="The part of the traffic that was meant for the canary, to check the split: 0.1.")
@click.option("--ignore", metavar="COLUMN", multiple=True, help="Column that does not say who asked or what; may be repeated.")
@click.option("--segment", metavar="COLUMN", help="Column with a segment: adjusted for, and each of its values is reported.")
@click.option(
    "--on-rollback",
    metavar="CMD",
    help="Run this command, split like a command line, when it is safe for a machine to roll back (wrong in 1 of 100 at most).",
)
@log_options("answers", "release, at, id or a score", timed=True)
@events_option
@report_options
def canary(source: str, **options: Any) -> None:
    """Promote a canary, roll it back, or wait?

    Compares the live scores of two releases in LOG (any log format), or in the log of a bisect.yaml. Run it again as the log
    grows, as often as you like: the error rate holds. Exit codes: 0 promote, 1 roll back, 3 wait.
    """
    from bisect_ai.cli.notifying import run_hook, words_of
    from bisect_ai.facts.canary_facts import canary as look

    is_config = Path(source).suffix in (".yaml", ".yml") or Path(source).is_dir()
    names = ("baseline", "canary", "metric", "tolerance", "alpha", "bounds", "higher_is_better", "unit")
    settings = log_settings(options, "segment", "cluster", "since", "where")
    given: dict[str, Any] = {"config" if is_config else "log": source, **{name: options[name] for name in names}}
    given |= {"events": options["events"], "guards": options["guards"], "share": options["share"], "ignore": options["ignore"]}
    with reported(options):
        check_places(options)
        command = words_of(options["on_rollback"])
        result = look(**given, settings=settings)
    hook = [lambda: run_hook(command, dict(result.report))] if command else []
    deliver(dict(result.report), options, *hook, at=standpoint())
    sys.exit({"promote": 0, "roll_back": REGRESSION}.get(result.verdict.kind, INCONCLUSIVE))


@main.command(short_help="Compare result files: is the second one worse?")
@click.argument("sources", metavar="FILE...", nargs=-1)
@click.option(
    "--good",
    metavar="NAME",
    help="The configuration, file or pattern of files to compare the others with.  [default: the first]",
)
@click.option("--bad", metavar="NAME", help="Compare only this configuration, file or pattern of files with it.")
@click.option("--metric", help="The score that decides; the others are shown beside it.")
@click.option("--tolerance", type=float, help="The smallest loss worth acting on, in units of the metric.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="The chance of a wrong claim that you accept.")
@click.option(
    "--lower-is-better", "higher_is_better", flag_value=False, default=None, help="Lower scores are better, as for a cost."
)
@click.option(
    "--by",
    metavar="COLUMN",
    multiple=True,
    help="Column that tells configurations apart, if the files do not say; may be repeated.",
)
@click.option("--pair", metavar="COLUMN", help="Column that identifies the same question in all files.")
@click.option("--segment", metavar="COLUMN", help="Column with a segment: also compare within each of its values.")
@click.option(
    "--missing",
    type=click.Choice(["unscored", "failed"]),
    default="unscored",
    show_default=True,
    help="What a row without a score is: unknown, or a failed call that counts as the worst score.",
)
@log_options("questions", "id, input, a score and so on", timed=False)
@click.option(
    "--seed",
    type=int,
    default=0,
    help="Random seed of the search for segments, which finds in one half and tests in the other.",
)
@report_options
def compare(sources: tuple[str, ...], **options: Any) -> None:
    """Is the second result file worse than the first? From the scores in FILEs of any evaluation tool. Makes no calls.

    One FILE is enough when it holds several configurations, and none is needed with --good and --bad: quoted patterns such
    as --good 'runs/a*.json' --bad 'runs/b*.json' compare what they match, as one configuration each. Exit codes: 0 no
    regression (as good, better, or no worse), 1 a regression, 3 too little to tell.
    """
    from bisect_ai.facts.compare_files import compare as run_compare

    names = ("good", "bad", "metric", "tolerance", "alpha", "higher_is_better", "by", "pair", "segment", "missing", "seed")
    settings = log_settings(options, "cluster", "where")
    with reported(options):
        check_places(options)
        result = run_compare(*sources, **{name: options[name] for name in names}, settings=settings)
    deliver(dict(result.report), options, at=standpoint())
    sys.exit({"regression": REGRESSION, "undecided": INCONCLUSIVE}.get(result.verdict.kind, 0))


@main.command(short_help="Does a fix bring back what broke in a run?")
@click.argument("run_id", metavar="RUN")
@click.argument("fix", metavar="FIX", required=False)
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("bisect.yaml"), show_default=True, help="The settings file."
)
@replay_options
@report_options
def verify(run_id: str, fix: str | None, config: Path, **options: Any) -> None:
    """Does the release FIX bring back what broke in RUN, and break nothing else?

    RUN is the id of a stored run, or the beginning of one (`bisect-ai runs` lists them); FIX is a release: a file
    or a git revision. Exit codes: 0 fixed, 1 not fixed or fixed with other queries broken, 3 undecided.
    """
    if fix is None:
        forms = "a release file (fix.yaml) or a git revision (v1.3.1, or WORKTREE for what lies here)"
        raise BisectError(
            f"cannot verify {run_id!r}: RUN FIX are two words. RUN is the run that found the cause (`bisect-ai runs` lists them), FIX "
            f"the release that should mend it, {forms}: bisect-ai verify RUN {run_id if Path(run_id).is_file() else 'FIX'}"
        )
    if Path(run_id).is_file():
        raise BisectError(f"cannot verify {run_id!r}: it is a file, and RUN comes first; write bisect-ai verify {fix} {run_id}")
    from bisect_ai.facts.verify_facts import verify as run_verify
    from bisect_ai.report.json_edge import read
    from bisect_ai.report.report_values import Report

    with reported(options):
        check_places(options)
        given = overrides_of(options)
        with main.watched_over():
            result = run_verify(run_id, file_or_revision(fix), config, progress=progress_for(options), **given)
    notify(result.notices, options)
    deliver(dict(result.report), options, at=standpoint(config, store=options.get("store")))
    found = read(Report, result.report).verify
    sys.exit({"fixed": 0, "undecided": INCONCLUSIVE}.get(found.kind if found else "undecided", REGRESSION))
