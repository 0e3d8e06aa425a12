"""One session of a run, whatever it asks (a run, an audit, a fix, drift): its store open, its report kept, and what is given back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bisect_ai.errors import InputError
from bisect_ai.release.load import Release
from bisect_ai.replay.interrupts import Stop
from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import AnsweredQuery, Report, ReportLike
from bisect_ai.result import Result
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.release_writer import rolled_back
from bisect_ai.runs.run_accounts import cost_noted
from bisect_ai.store.trial_store import Store

if TYPE_CHECKING:
    from bisect_ai.runs.ledger import Watch
    from bisect_ai.runs.outcomes import Outcomes


def recommended(good: Release, bad: Release, report: ReportLike) -> Release | None:
    """The bad release with the measured rollback applied; None: the verdict names none."""
    told = read(Report, report)
    rollback = told.verdict.rollback
    if rollback is None:
        return None
    share = "" if rollback.restores is None else f", {100 * rollback.restores:.0f} % of the loss brought back"
    measured = f"rolled back: run {told.run} measured {told.metric} {rollback.value:.4g}{share}"
    return rolled_back(good, bad, rollback.axes, measured=measured)


# Whether progress is shown on standard error; or what gives a function to call with it.
Progress: TypeAlias = "bool | Callable[[], AbstractContextManager[Watch]]"


class Work(Protocol):
    """What is done with a prepared study."""

    def __call__(self, prepared: Prepared, /, *, folder: Path, watch: Watch | None, stop: Stop | None) -> Result:
        """Run (or resume) it and sum it up."""


def watched(progress: Progress) -> Callable[[], AbstractContextManager[Watch]] | None:
    """What shows progress; None: nothing does. Raises `InputError`."""
    if not isinstance(progress, bool) and not callable(progress):
        raise InputError(f"progress is {progress!r:.40}; it takes True or False")
    if progress is not True:
        return progress or None
    from bisect_ai.report.progress import live

    return live


@contextmanager
def store_of(prepared: Prepared, folder: Path, *, before: str = "") -> Iterator[Store]:
    """The study's store, open; its answers are a replay's. An error that comes out carries what was paid for, `before` it too."""
    os.environ.setdefault("BISECT_REPLAY", "1")  # the user's code can tell a replay from production
    store = prepared.config.store
    names = {"good": prepared.good.name, "bad": prepared.bad.name, "metric": prepared.metric.name}
    with Store(None if store is None else folder / store) as opened, cost_noted(opened, before=before, **names):
        yield opened


def keep_report(
    store: Store, outcomes: Outcomes, report: Mapping[str, Any], *, basis: str | None = None, renews: bool = False
) -> None:
    """Write the report of a run down, unless it has one and nothing new came in; with its `basis` when no call is left to be made.

    `renews`: also where the one it has rests on something else, such as an earlier version of this program, as of when it ended.
    """
    run, ledger = outcomes.prepared.run_id, outcomes.ledger
    complete = not (ledger.now.errors or ledger.scorer_errors or outcomes.stopped)
    is_over = complete and read(Report, report).verdict.kind != "inconclusive"
    is_new = ledger.calls or store.report(run) is None
    if is_new or (renews and is_over and store.report(run, basis=basis) is None):
        rests_on = {"basis": basis} if is_over and basis is not None else {}
        ended = store.ended.get(run, 0)
        store.finish(run, {"report": report, "at": time.time_ns() // 1000 if is_new or not ended else ended, **rests_on})


def result_of(outcomes: Outcomes, report: dict[str, Any], store: Store) -> Result:
    """A report with its trials, and the release that it recommends, if any."""
    ledger = outcomes.ledger
    return Result(
        report,
        ledger.now,
        ledger.observations,
        tuple(store.notices),
        recommended(outcomes.prepared.good, outcomes.prepared.bad, report),
        _answer_reader(outcomes, store),
        outcomes.attribution.regression,
    )


def _answer_reader(outcomes: Outcomes, store: Store) -> Callable[[], Sequence[AnsweredQuery]]:
    """Reads the answers when they are asked for, from the store's folder; without one from what the store holds in memory."""
    from bisect_ai.facts.saved_runs import answered_queries, kept_answers

    trials, sample, metric = outcomes.ledger.observations, outcomes.prepared.sample, outcomes.prepared.metric.name
    if store.path is not None:
        return kept_answers(trials, store=store.path, metric=metric, sample=sample)
    return partial(answered_queries, trials, outcomes.answer_of, metric=metric, sample=sample)
