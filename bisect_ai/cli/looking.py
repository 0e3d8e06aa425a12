"""The commands that look before or after a run: diff, plan, check, snapshot, report, runs. Lines on a store are safe to print."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bisect_ai.cli.group import colourful, main, remark, say, width
from bisect_ai.cli.options import (
    file_or_revision,
    json_option,
    names_settings,
    overrides_of,
    report_options,
    rollback_option,
    run_options,
    with_range,
)
from bisect_ai.cli.output import (
    check_places,
    deliver,
    notify,
    reported,
    show_or_write,
    standpoint,
    store_named,
    write,
    write_recommended,
)
from bisect_ai.errors import BisectError, TargetFailure
from bisect_ai.provider.redaction import redact, redact_all
from bisect_ai.report.untrusted_text import one_line

if TYPE_CHECKING:
    from bisect_ai.store.integrity import Checked, RunRow, Verified

STORE = "Folder of the store.  [default: `store` in bisect.yaml, else .bisect-ai]"


@main.command()
@click.argument("releases", metavar="GOOD [BAD]", nargs=-1)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("bisect.yaml"),
    help="Settings file that says what the axes are, for git revisions.  [default: bisect.yaml]",
)
@json_option("the tree")
def diff(releases: tuple[str, ...], config: Path, json_path: str | None) -> None:
    """Show what changed between two releases, axis by axis. Makes no calls.

    GOOD and BAD are files or git revisions; GOOD..BAD is two revisions.
    """
    from bisect_ai.runs.release_files import diff_of

    if json_path not in (None, "-") and len(releases) < 2 and not any(".." in each for each in releases):
        releases, json_path = (str(json_path), *releases), "-"  # `--json` stood alone, before GOOD
    tree = redact_all(diff_of(*_two(*releases), config=config))
    from bisect_ai.report.planning_text import render_diff

    show_or_write(tree, lambda: render_diff(tree, width=width(), colour=colourful()), json_path, what="the tree")


def _two(good: str = "", bad: str | None = None, *more: str) -> tuple[str | dict[str, str], str | dict[str, str]]:
    """The two releases that `diff` was given."""
    if not good or more:
        raise click.UsageError(f"Got unexpected extra arguments: {' '.join(more)}" if more else "Missing argument 'GOOD'.")
    given: dict[str, Any] = {"bad": bad}
    if bad is None:
        with_range(Path(good), given)
        good = given.get("good", good)
    if given["bad"] is None:
        raise BisectError(f"cannot compare {good!r} with nothing: name two releases, or a range such as v1.2..v1.3")
    return file_or_revision(good), file_or_revision(given["bad"])


@main.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@run_options
@json_option("the plan")
def plan(config: Path | None, json_path: str | None, **options: Any) -> None:
    """Show what a run would do and cost. Makes no calls.

    CONFIG is the settings file (default: bisect.yaml), or GOOD..BAD: two git revisions. Options override it.
    """
    from bisect_ai.report.planning_text import render_plan
    from bisect_ai.runs.prepare import make_plan

    if config is None and json_path is not None and names_settings(json_path):
        config, json_path = Path(json_path), "-"  # `--json` stood alone, before CONFIG
    config = with_range(config or Path("bisect.yaml"), options)
    planned = redact_all(make_plan(config, overrides_of(options)))
    show_or_write(planned, lambda: render_plan(planned, width=width(), colour=colourful()), json_path, what="the plan")


@main.command(short_help="Freeze a release as it is now into a file.")
@click.argument("release", type=click.Path(path_type=Path), default=Path("release.yaml"))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("snapshots"),
    help="File or folder to write to.",
    show_default=True,
)
def snapshot(release: Path, output: Path) -> None:
    """Freeze RELEASE as it is now: every reference resolved, with digests, the git commit and the time. Makes no calls.

    `bisect-ai diff @yesterday @now` compares two of the folder `snapshots`, @2026-11-20 is the newest of that day or before.
    """
    from bisect_ai.runs.release_files import summary_of, take_snapshot

    told = summary_of(*take_snapshot(release, output))
    say(one_line(redact(f"wrote {told['file']}: {told['release']}, digest {told['digest'][:12]}")))
    for axis, digest in told["axes"].items():
        say(one_line(f"  {axis}  {digest[:12]}"))


@main.command(short_help="Look for what is wrong before a run is paid for.")
@click.argument("config", type=click.Path(path_type=Path), default=Path("bisect.yaml"))
@click.option("--free", "--no-calls", "is_free", is_flag=True, help="Make no calls: leave out the first query's two answers.")
@run_options
def check(config: Path, is_free: bool, **options: Any) -> None:
    """Look for what is wrong: templates, paths, keys, addresses, columns, tolerance; for nothing.

    When nothing is, ask the good and the bad release the first query and show what comes: two calls, within the budget, which a run
    need not pay again. Exit codes: 0 nothing that would stop a run, 2 something would, 4 a call failed.
    """
    from bisect_ai.runs.prepare import check_settings

    config = with_range(config, options)
    found, prepared, folder = check_settings(config, overrides_of(options))
    for each in found:
        say(one_line(redact(f"{'wrong' if each.is_fatal else 'odd'}: {each.message}")))
    wrong = sum(each.is_fatal for each in found)
    if wrong:
        raise BisectError(f"{wrong} of these would stop a run, or make it be for nothing")
    say("nothing is wrong that can be seen without a call; next: bisect-ai plan, which spends nothing, then bisect-ai run")
    if not is_free:
        from bisect_ai.facts.run_facts import ask_first

        first = ask_first(prepared, folder=folder)
        for line in first.lines:
            say(one_line(redact(line)))
        if first.failure is not None:
            raise TargetFailure(first.failure)


@main.command(short_help="Show a stored run's report again.")
@click.argument("run_id", metavar="RUN")
@click.option("--store", type=click.Path(path_type=Path), help=STORE)
@click.option("--postmortem", "as_postmortem", is_flag=True, help="Print a post-mortem in Markdown instead of the report.")
@click.option(
    "--blast-radius",
    "radius_path",
    metavar="FILE",
    help="Write the logged queries that the regression probably affected to FILE (CSV, or JSON lines if it ends in .jsonl).",
)
@click.option(
    "--regression-suite",
    "suite_kind",
    type=click.Choice(["pytest", "promptfoo", "inspect", "langfuse"]),
    help="Write the queries that broke for sure, and controls, as a suite for this tool.",
)
@click.option(
    "--suite",
    "suite_folder",
    type=click.Path(path_type=Path),
    default=Path("regression-suite"),
    show_default=True,
    help="Where --regression-suite writes to.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file of the run, for --postmortem, --blast-radius and --regression-suite.  [default: bisect.yaml]",
)
@click.option("--log", "log_path", metavar="PATH", help="Where the log is now, likewise.")
@rollback_option
@report_options
def report(
    run_id: str,
    store: Path | None,
    as_postmortem: bool,
    radius_path: str | None,
    suite_kind: str | None,
    suite_folder: Path,
    config: Path | None,
    log_path: str | None,
    **options: Any,
) -> None:
    """Show the report of a stored run again. Makes no calls.

    RUN is the id of a stored run, or the beginning of one (`bisect-ai runs` lists them).
    """
    with reported(options):
        check_places({**options, "radius_path": radius_path})
        given, store = store, _existing(store_named(store, config))
        where = _settings_of(store, config)
        if suite_kind is not None:
            from bisect_ai.facts.regression_suite import write_suite

            say(write_suite(suite_kind, run_id, store=store, config=where, folder=suite_folder, log=log_path))
            if not (as_postmortem or radius_path or any(options.values())):
                return
        if as_postmortem or radius_path:
            _postmortem(run_id, store, where, log_path, as_postmortem, radius_path)
            if not any(options.values()):
                return
        from bisect_ai.facts.saved_runs import read_run

        found = redact_all(read_run(store, run_id).report)
        answered = _answers_of(run_id, store, config) if options.get("html_path") else None
        path = options.get("rollback_path")
        rest = [lambda: _write_rollback(run_id, store, config, path)] if path else []
        deliver(found, options, *rest, at=standpoint(config, store=given), whole=not path, answered=answered)


def _settings_of(store: Path, config: Path | None) -> Path:
    """The settings file of a stored run: as named, else that of this folder, else the one beside the store."""
    here = Path("bisect.yaml")
    return config or (here if here.is_file() else store.parent / here)


def _answers_of(run_id: str, store: Path, config: Path | None) -> Any:
    """Reads the answers of a stored run, with the texts of its queries where its settings file still draws the same."""
    from bisect_ai.facts.run_facts import load

    try:
        return load(run_id, store=store, config=_settings_of(store, config)).answered
    except BisectError:
        return None


def _write_rollback(run_id: str, store: Path, config: Path | None, path: str) -> None:
    """The rollback of a stored run, from the releases that its settings file names."""
    from bisect_ai.facts.run_facts import stored_rollback

    write_recommended(stored_rollback(run_id, store=store, config=_settings_of(store, config)), path)


def _postmortem(
    run_id: str, store: Path, config: Path, log_path: str | None, as_postmortem: bool, radius_path: str | None
) -> None:
    from bisect_ai.facts.postmortem_facts import gather, render, write_hits
    from bisect_ai.report.blocks import count
    from bisect_ai.report.postmortem import hit_in_all

    found = gather(run_id, store=store, config=config, log=log_path)
    if radius_path:
        write(radius_path, write_hits(found, radius_path))
        blast = found.facts.blast
        told = f"; of {blast.queries:,} in the bad window {said}" if (said := hit_in_all(blast)) else ""
        remark(f"wrote {count(len(found.hits), 'query', 'queries')} to {radius_path}{told}")
    if as_postmortem:
        say(render(found), nl=False)


@main.command(short_help="List stored runs, check the store, or delete a query.")
@click.option("--store", type=click.Path(path_type=Path), help=STORE)
@click.option(
    "--history",
    "as_history",
    is_flag=True,
    help="Show how the metric changed from release to release, and which axis changed it.",
)
@click.option(
    "--verify", is_flag=True, help="Read the whole store and list what is damaged or missing; exit code 2 if anything is."
)
@click.option(
    "--purge-query", metavar="ID", help="Delete the answers, scores and examples of this query from the store for ever."
)
@json_option("what is shown")
def runs(store: Path | None, as_history: bool, verify: bool, purge_query: str | None, json_path: str | None) -> None:
    """List the runs in a store, show their history, check the store, or delete a query from it. Makes no calls."""
    if verify + (purge_query is not None) + as_history > 1:
        raise BisectError("cannot do two things at once: --verify, --purge-query and --history are for one call each")
    store = _existing(store_named(store))
    if as_history:
        _history(store, json_path)
        return
    said = purged(store, purge_query) if purge_query is not None else checked(store) if verify else runs_of(store)
    notify(said.notices)
    show_or_write(said.plain, lambda: "\n".join(said.lines), json_path, what="the list")
    if said.wrong is not None:
        raise BisectError(said.wrong)


def _history(store: Path, json_path: str | None) -> None:
    from bisect_ai.facts.saved_runs import history_rows
    from bisect_ai.report.json_edge import as_mapping
    from bisect_ai.report.planning_text import render_history

    found = [redact_all(as_mapping(row)) for row in history_rows(store)]
    show_or_write(found, lambda: render_history(found, width=width(), colour=colourful()), json_path, what="the history")


def _existing(store: Path) -> Path:
    if not (store / "journal").is_dir():
        raise BisectError(f"cannot read the store {store}: there is none; name it with --store, or run something first")
    return store


# -- what `runs` says of a store ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Said:
    """Lines to print, the same as plain JSON, notices for standard error, and what is wrong (None: nothing)."""

    lines: tuple[str, ...]
    plain: Any
    notices: tuple[str, ...] = ()
    wrong: str | None = None


def runs_of(store: Path) -> Said:
    """The runs in a store, oldest first."""
    from bisect_ai.store.integrity import list_runs

    rows, notices = list_runs(store)
    lines = tuple(one_line(_run_line(row)) for row in rows) or ("no runs yet",)
    return Said(lines, [row.to_dict() for row in rows], tuple(map(one_line, notices)))


def _run_line(row: RunRow) -> str:
    outcome = {
        "finished": row.sentence or "",
        "running": "running now",
        "interrupted": "interrupted: run the same command again to go on",
    }[row.status]
    money = f"  {row.usd:.4g} USD" if row.usd else ""
    line = f"{row.run}  {row.good} -> {row.bad}  {row.metric}  {row.calls} calls{money}  {outcome}"
    open_ = row.unsettled
    if row.status == "running" or not open_.calls:
        return line
    return f"{line} ({open_.told()})"


def checked(store: Path) -> Said:
    """Whether a store is whole; everything in it is read."""
    from bisect_ai.store.integrity import verify_store

    found = verify_store(store)
    lines = [_segment_line(c) for c in found.segments]
    lines += [f"index: {_INDEX.get(found.index, found.index)}", *(f"may be read by others: {path}" for path in found.looser)]
    return Said(tuple(map(one_line, lines)), found.to_dict(), wrong=None if found.is_whole else _wrong(store, found))


_INDEX = {
    "absent": "not there; made when it is asked",
    "behind": "behind the journal; brought up to date when it is asked",
    "agrees": "agrees with the journal",
}
_STATES = {
    "closed": "whole",
    "open": "being written",
    "killed": "not closed: its run was killed, or still starts",
    "cut": "damaged: cut short after it was closed",
    "missing": "damaged: the file is gone",
}


def _segment_line(c: Checked) -> str:
    state = f"damaged: {c.lost} records lost" if c.lost and c.state in ("closed", "killed", "open") else _STATES[c.state]
    lost = f", {c.lost} records lost" if c.state in ("cut", "missing") else ""
    torn = f", ends in {c.torn_bytes} bytes of a record that was never acknowledged" if c.torn_bytes else ""
    return f"{c.segment}  {c.records} records  {state}{lost}{torn}"


def _wrong(store: Path, found: Verified) -> str:
    bad = [c for c in found.segments if c.is_damaged]
    if not bad:
        return f"the index of {store} is not what the journal says ({found.index}): delete index.duckdb, it is made anew"
    return (
        f"the store {store} is damaged: {found.lost} records lost in {len(bad)} of {len(found.segments)} segments; "
        "what was lost is asked again when the run goes on, all else is kept"
    )


def purged(store: Path, query: str) -> Said:
    """What was removed of a query, for good."""
    from bisect_ai.store.purge import purge_query

    done = purge_query(store, query)
    wired = f" ({done.exchanges} of a provider on the wire)" if done.exchanges else ""
    lines = [
        f"query {query}: removed {done.trials + done.exchanges} answers{wired}, {done.scores} scores, {done.examples} examples and "
        f"{done.warnings} warnings in reports, from {len(done.segments)} segments; what its calls cost stays on record",
    ]
    if done.index_files:
        lines.append("the index was deleted; it is made anew when it is asked")
    if done.left:
        lines.append(f"still to be read, perhaps of other queries that say the same: {', '.join(done.left)}")
    elif not done.records:
        lines.append("nothing of it was in the store")
    else:
        lines.append("no byte of its id or its texts is left in the store; logs and reports elsewhere are not touched")
    return Said(tuple(map(one_line, lines)), asdict(done))
