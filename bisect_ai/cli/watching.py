"""The commands that watch: drift, onset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bisect_ai.cli.group import main
from bisect_ai.cli.options import (
    INCONCLUSIVE,
    REGRESSION,
    events_option,
    mapped_column,
    overrides_of,
    replay_options,
    report_options,
)
from bisect_ai.cli.output import beside, check_places, deliver, notify, progress_for, reported, standpoint


@main.command(short_help="Nothing was deployed: is a release worse than its log says?")
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@replay_options
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
@click.option("--cluster", metavar="COLUMN", help="Column with the user or session, whose answers are not independent.")
@click.option(
    "--column", "columns", metavar="FIELD=COLUMN", multiple=True, help="Which column holds at, id or a score; may be repeated."
)
@click.option("--since", metavar="TIME", help="Ignore records before this time.")
@click.option("--where", metavar="CONDITION", help="Only use records that fulfil this SQL condition (DuckDB).")
@report_options
def onset(source: str, columns: tuple[str, ...], events: str | None, lower_is_better: bool, **options: Any) -> None:
    """Since when do the scores of LOG fall, and what was deployed about then? Makes no calls.

    Exit codes: 0 no onset of a loss is proved, 1 one is.
    """
    from bisect_ai.facts.onset_facts import onset as look

    log = {name: options[name] for name in ("cluster", "since", "where") if options[name] is not None}
    mapped = {"columns": dict(mapped_column(each) for each in columns)} if columns else {}
    given = {name: options[name] for name in ("metric", "release", "alpha")}
    with reported(options):
        check_places(options)
        result = look(source, **given, events=events, higher_is_better=not lower_is_better, settings={**log, **mapped})
    deliver(dict(result.report), options, at=standpoint())
    sys.exit(REGRESSION if result.verdict.kind == "onset" else 0)
