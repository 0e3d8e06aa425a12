"""The command of pull requests: gate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from bisect_ai import __version__
from bisect_ai.cli.group import main
from bisect_ai.cli.options import limit_options, overrides_of, report_options, search_options
from bisect_ai.cli.output import beside, check_places, deliver, notify, progress_for, standpoint, write


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
    from bisect_ai.facts import gate_facts
    from bisect_ai.report.gate_report import EXIT_CODES
    from bisect_ai.report.json_edge import read
    from bisect_ai.report.payloads import outcome_of
    from bisect_ai.report.report_values import Report

    check_places(options)
    tell = partial(beside, options=options)
    overrides = {**overrides_of(options), **({"audit": {"detect": detect}} if detect is not None else {})}
    try:
        with main.watched_over():
            result = gate_facts.gate(config, base=base, head=head, progress=progress_for(options), announce=tell, **overrides)
    except BaseException as error:
        ended = dict(gate_facts.unstarted(config, base, head, error).report)
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
    from bisect_ai.report import gate_report

    made: list[tuple[str | None, Callable[[], str]]] = [
        (options["comment_path"], lambda: gate_report.comment(report)),
        (options["check_path"], lambda: gate_report.check_run(report)),
        (options["sarif_path"], lambda: gate_report.sarif(report, version=__version__)),
    ]
    return [_writing(path, text) for path, text in made if path]


def _writing(path: str, text: Callable[[], str]) -> Callable[[], None]:
    return lambda: write(path, text())
