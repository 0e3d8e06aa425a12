"""The rollback of a stored run as a release: its two releases are loaded again, and must be those that it ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bisect_ai.errors import InputError
from bisect_ai.facts.build import recommended
from bisect_ai.release.load import Release
from bisect_ai.release.pair import load_pair
from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import Report
from bisect_ai.runs.prepare import check_no_key, named, settle
from bisect_ai.store.trial_store import Store


def stored_rollback(run_prefix: str, *, store: Path, config: Path) -> Release | None:
    """The release that a stored run recommends, None where it recommends none; `config` is the settings file that names both releases.

    Raises `InputError` when these are not what the run compared any more, or the run has no report.
    """
    with Store(store) as opened:
        run = opened.find_run(run_prefix)
        kept, settings = opened.report(run), opened.runs[run]["settings"]
    if kept is None:
        raise InputError(f"run {run} has no report yet: it was interrupted; run the same command again to finish it")
    report = read(Report, kept)
    if report.verdict.rollback is None:
        return None
    digests = {side: settings[side]["digest"] for side in ("good", "bad")}
    for pair in _candidates(config, settings):
        if {side: release.digest for side, release in pair.items()} == digests:
            for release in pair.values():
                check_no_key(release)
            return recommended(pair["good"], pair["bad"], report)
    raise InputError(
        f"cannot write the rollback of run {run}: {config} does not name the releases that it compared ({settings['good']['name']} and "
        f"{settings['bad']['name']}), or they were changed since; name the settings file of the run with --config"
    )


def _candidates(config: Path, settings: Any) -> Iterator[dict[str, Release]]:
    """The pairs that the run may have compared: what the settings file names, else its names as revisions."""
    settled, folder = settle({}, config=config)
    rules = settled.repository
    yield _pair(settled.good, settled.bad, folder, rules)
    try:
        yield _pair({"git": settings["good"]["name"]}, {"git": settings["bad"]["name"]}, folder, rules)
    except InputError:
        return


def _pair(good: Any, bad: Any, folder: Path, rules: Any) -> dict[str, Release]:
    pair = load_pair(good, bad, folder=folder, rules=rules)
    return {"good": named(pair.good, "good"), "bad": named(pair.bad, "bad")}
