"""The commands that watch: gate (pull requests), drift, onset."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from bisect_ai import __version__
from bisect_ai.cli.group import main
from bisect_ai.cli.options import (
    INCONCLUSIVE,
    REGRESSION,
    events_option,
    good_option,
    limit_options,
    log_options,
    log_settings,
    overrides_of,
    report_options,
    search_options,
    unit_option,
)
from bisect_ai.cli.output import beside, check_places, deliver, notify, progress_for, reported, standpoint, write


@main.command(short_help="Nothing was deployed: is a release worse than its log says?")
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@good_option
@limit_options
@events_option
@report_options
def drift(config: Path, events: str | None, **options: Any) -> None:
    """Does the good release still score as its log says, though nothing of it changed?

    Asks it logged queries anew: what the provider says of itself first, then scores. CONFIG is the settings file (default:
    bisect.yaml); its `bad` is not used. Exit codes: 0 no drift, 1 drift, 3 could not tell.
    """
    from bisect_ai.facts.drift_facts import drift as look

    with reported(options):
        check_places(options)
        with main.watched_over():
            result = look(config, events=events, progress=progress_for(options), **overrides_of(options))
    notify(result.notices, options)
    beside(f"this time: {result.usage.calls} calls made, {result.usage.cached} answered from the store", options)
    deliver(dict(result.report), options, at=standpoint(config, store=options.get("store")))
    sys.exit({"steady": 0, "drift": REGRESSION}.get(result.verdict.kind, INCONCLUSIVE))


@main.command(short_help="Since when do the scores of a log fall?")
@click.argument("source", metavar="LOG")
@click.option("--metric", help="The logged score.")
@click.option("--release", metavar="LABEL", help="Only answers of this release, as the log names it.")
@events_option
@click.option("--alpha", type=float, default=0.05, show_default=True, help="The chance of a wrong claim that you accept.")
@click.option("--lower-is-better", is_flag=True, help="Lower scores are better, as for a cost.")
@unit_option
@log_options("answers", "at, id or a score", timed=True)
@report_options
def onset(source: str, events: str | None, lower_is_better: bool, **options: Any) -> None:
    """Since when do the scores of LOG fall, and what was deployed about then? Makes no calls.

    Exit codes: 0 no onset of a loss is proved, 1 one is.
    """
    from bisect_ai.facts.onset_facts import onset as look

    settings = log_settings(options, "cluster", "since", "where")
    given = {name: options[name] for name in ("metric", "release", "alpha")} | {"unit": options["unit"] or ""}
    with reported(options):
        check_places(options)
        result = look(source, **given, events=events, higher_is_better=not lower_is_better, settings=settings)
    deliver(dict(result.report), options, at=standpoint())
    sys.exit(REGRESSION if result.verdict.kind == "onset" else 0)


@main.command(short_help="Is a pull request worse than what it began from?")
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@click.option("--base", metavar="REVISION", required=True, help="What the change is to be merged into: origin/main.")
@click.option("--head", metavar="REVISION", default="HEAD", show_default=True, help="The change.")
@click.option("--detect", type=float, help="The loss that may not pass, in units of the metric.")
@search_options
@limit_options
@click.option("--comment", "comment_path", metavar="FILE", help="Write a comment for the pull request to FILE, as Markdown.")
@click.option("--check-run", "check_path", metavar="FILE", help="Write the body of a GitHub check run to FILE, as JSON.")
@click.option("--sarif", "sarif_path", metavar="FILE", help="Write the guilty lines to FILE, as SARIF 2.1.0.")
@report_options
def gate(config: Path, base: str, head: str, detect: float | None, **options: Any) -> None:
    """Is the change --head worse than the commit at which it left --base? If so, which axis and line did it.

    Stops as soon as it can tell. Every file that was asked for is written whatever comes of it, and where GITHUB_STEP_SUMMARY is set
    the report is added to that file. Exit codes: 0 not worse, 1 worse, 3 could not tell, 4 calls kept failing: nothing was measured.
    """
    from bisect_ai.facts import audit_facts
    from bisect_ai.report.json_edge import read
    from bisect_ai.report.payloads import EXIT_CODES, outcome_of
    from bisect_ai.report.report_values import Report

    check_places(options)
    tell = partial(beside, options=options)
    overrides = {**overrides_of(options), **({"audit": {"detect": detect}} if detect is not None else {})}
    try:
        with main.watched_over():
            result = audit_facts.gate(config, base=base, head=head, progress=progress_for(options), announce=tell, **overrides)
    except BaseException as error:  # an interrupt and a fault of ours end a gate as well: its files are written in any case
        ended = dict(audit_facts.unstarted(config, base, head, error).report)
        deliver(ended, options, *_files(ended, options), shown=False)
        raise
    notify(result.notices, options)
    at = standpoint(config, store=options.get("store"))
    outcome = outcome_of(read(Report, result.report))
    if outcome != "failed":
        tell(f"this time: {result.usage.calls} calls made, {result.usage.cached} answered from the store")
    deliver(dict(result.report), options, *_files(dict(result.report), options), at=at, answered=result.answered)
    sys.exit(EXIT_CODES[outcome])


def _files(report: dict[str, Any], options: dict[str, Any]) -> list[Callable[[], None]]:
    from bisect_ai.report import payloads

    made: list[tuple[str | None, Callable[[], str]]] = [
        (options["comment_path"], lambda: payloads.comment(report)),
        (options["check_path"], lambda: payloads.check_run(report)),
        (options["sarif_path"], lambda: payloads.sarif(report, version=__version__)),
    ]
    return [_writing(path, text) for path, text in made if path]


def _writing(path: str, text: Callable[[], str]) -> Callable[[], None]:
    return lambda: write(path, text())
