"""Stored runs, read from the journal: what a run found and tried, its answers, the first scores of its queries, the runs of a store in
order. Nothing is called.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from bisect_ai.attribution.problem import Trial
from bisect_ai.canonical import json_object, plain
from bisect_ai.errors import InputError, StoreError
from bisect_ai.provider.redaction import redact
from bisect_ai.queries.sample import Sample
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.planning_values import HistoryRow, ShownAnswer, ShownCall
from bisect_ai.report.report_values import AnsweredQuery, Report, ReportLike, question_of
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.runs.observations import FinishedTrial, Observation, Observations
from bisect_ai.runs.run_accounts import Unfinished
from bisect_ai.scoring.metric import SHARE, Metric
from bisect_ai.store.journal import open_folder
from bisect_ai.store.recovery import Folder
from bisect_ai.store.trial_records import Kept, scores_in
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.answer import Answer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FinishedRun:
    """A run of a store that has a report."""

    run: str
    report: dict[str, Any]
    # Run id to settings, of every run of the store.
    runs: Mapping[str, Mapping[str, Any]]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run's own settings."""
        return self.runs[self.run]


def finished_run(store: Store, prefix: str) -> FinishedRun:
    """The run whose id begins with `prefix`. Raises `StoreError` when there is none, `InputError` when it has no report."""
    run = store.find_run(prefix)
    report = store.report(run)
    if report is None:
        raise InputError(f"run {run} has no report yet: it was interrupted; run the same command again to finish it")
    return FinishedRun(run, report, {name: begun["settings"] for name, begun in store.runs.items()})


def read_run(store: Path, prefix: str) -> FinishedRun:
    """The same of the store in a folder."""
    with Store(store) as opened:
        return finished_run(opened, prefix)


# -- trials and scores -----------------------------------------------------------------------------------------------
def stored_trials(store: Path, run: str, settings: Mapping[str, Any]) -> Observations:
    """The trials of axes that this run paid for, in the order they were kept, with their scores by name.

    An answer that it took over from an earlier run of the same store is that run's; a score of the log was never a trial.
    """
    kept: dict[str, Kept] = {}
    values: dict[tuple[str, str], float | None] = {}
    for _, (_, head, payload) in Folder(open_folder(store)).read():
        if head.get("type") == "trial" and head["run"] == run:
            kept[head["trial"]] = Kept.from_record(head, payload)
        if head.get("type") in ("trial", "score"):
            values |= {(s.trial, s.scorer): s.value for s in scores_in(head)}
    found = Observations(list(settings["scorers"]))
    for seen in _finished_trials(kept, values, settings):
        found.add(seen)
    return found


def _finished_trials(
    kept: Mapping[str, Kept], values: Mapping[tuple[str, str], float | None], settings: Mapping[str, Any]
) -> Iterator[FinishedTrial]:
    axes, scorers = settings["axes"], settings["scorers"]
    order: dict[str, int] = {}
    for trial in kept.values():
        if not set(trial.bad_axes) <= set(axes):
            continue  # a set of changes inside axes: the drill-down's
        cell = sum(1 << axes.index(axis) for axis in trial.bad_axes)
        place = Trial(order.setdefault(trial.query, len(order)), cell, trial.repeat)
        scores = {name: _kept_value(values, trial, key) for name, key in scorers.items()}
        yield FinishedTrial(
            trial.query, place, trial.bad_axes, trial.identity, trial.answer, scores, trial.infeasible, fresh=False
        )


def _kept_value(values: Mapping[tuple[str, str], float | None], trial: Kept, key: str) -> float | None:
    """A trial's score; a judge's are kept under its run."""
    found = values.get((trial.identity, key))
    return values.get((trial.identity, f"{key}:{trial.run}")) if found is None else found


@dataclass(frozen=True)
class FirstScores:
    """What a query scored in a run's first trials under good and under bad, in the metric's units; None: no score."""

    good: float | None = None
    bad: float | None = None
    # The sides (good, bad) whose call failed, and was never answered.
    failed: frozenset[str] = frozenset()


def first_scores(store: Path, run: str, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, FirstScores]:
    """The first scores of each query of a run by its id, in the order of the journal.

    `runs`: id to the settings of every run of the store. What a run took over from an earlier one of the same two releases, target
    and metric (as the bisection after an audit does) is its own here.
    """
    settings = runs[run]
    kin = {name: runs[name] for name in kin_of(run, runs)}
    sides = {(): "good", tuple(sorted(settings["axes"])): "bad"}
    places: dict[str, tuple[str, str]] = {}
    failures: dict[str, tuple[str, str]] = {}
    values: dict[tuple[str, str], float | None] = {}
    for _, (_, head, _) in Folder(open_folder(store)).read():
        if head.get("type") == "trial" and head["run"] in kin and not head["repeat"]:
            side = sides.get(tuple(sorted(map(str, head["bad_axes"]))))
            chosen = failures if head["failed"] else places
            chosen |= {} if side is None else {head["trial"]: (head["query"], side)}
        if head.get("type") in ("trial", "score"):
            values |= {(s.trial, s.scorer): s.value for s in scores_in(head)}
    keys = [key for name in kin for key in _keys_of(name, kin[name])]
    found: dict[str, FirstScores] = {}
    for trial, (query, side) in places.items():
        score = next((values[trial, key] for key in keys if values.get((trial, key)) is not None), None)
        found[query] = replace(found.get(query, FirstScores()), **{side: score})  # type: ignore[arg-type]  # good or bad
    for trial, (query, side) in failures.items():
        if trial not in places:
            known = found.get(query, FirstScores())
            found[query] = replace(known, failed=known.failed | {side})
    return found


def scale_of_scores(scores: Mapping[str, FirstScores], metric: Metric) -> tuple[float, float]:
    """The ends of the oriented scores: 0 and 1 for a share (turned, where lower is better), else what 98 % of them span."""
    known = [score for pair in scores.values() for score in (pair.good, pair.bad) if score is not None]
    ends = SHARE
    if known and not metric.is_share:
        hundredths = quantiles(known * 2 if len(known) == 1 else known, n=100, method="inclusive")
        ends = hundredths[0], hundredths[-1]
    low, high = sorted(metric.sign * end for end in ends)
    return low, max(high, low + 1e-9)


def kin_of(run: str, runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The runs, itself among them, of the same two releases, target and metric, but for verifications."""
    return [name for name, s in runs.items() if "verify" not in s and _pair_key(s) == _pair_key(runs[run])]


def _pair_key(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    metric = settings["metric"]
    digests = settings["good"]["digest"], settings["bad"]["digest"]
    return *digests, settings["target"], metric, settings["scorers"].get(metric)


def _keys_of(run: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """What the metric's scores may be kept under: a judge's count for their run."""
    known = settings["scorers"][settings["metric"]]
    yield from (known, f"{known}:{run}")


# -- answers ---------------------------------------------------------------------------------------------------------
Lookup = Callable[[Observation], Answer | None]


def answered_queries(
    trials: Iterable[Observation], lookup: Lookup, *, metric: str, sample: Sample | None
) -> list[AnsweredQuery]:
    """A row a query, in the order in which they were first asked. `sample`: where the texts of queries are."""
    places = {} if sample is None else {query.id: i for i, query in enumerate(sample.queries)}
    found: dict[str, dict[tuple[str, ...], ShownAnswer]] = {}
    for o in trials:
        if o.trial.repeat or o.infeasible or o.logged or o.bad_axes in found.get(o.query, {}):
            continue
        answer = o.answer if o.error else lookup(o)
        if answer is not None:
            found.setdefault(o.query, {})[o.bad_axes] = shown_answer(answer, o.score(metric))
    return [_answered_row(query, answers, sample, places.get(query)) for query, answers in found.items()]


def shown_answer(answer: Answer, score: float | None, *, most: int | None = None) -> ShownAnswer:
    """An answer as a report shows it, without credentials; `most`: characters of its text; of a call that failed its error."""
    calls = tuple(ShownCall(name=c.name, arguments=dict(c.arguments), error=c.error) for c in answer.tool_calls)
    text = answer.text or (f"({answer.error})" if answer.error else "")
    return ShownAnswer(text=redact(text)[:most], score=score, tool_calls=calls, failed=answer.error is not None)


def _answered_row(
    query: str, answers: dict[tuple[str, ...], ShownAnswer], sample: Sample | None, place: int | None
) -> AnsweredQuery:
    if sample is None or place is None:
        return AnsweredQuery(query, answers=answers)
    asked, segments = sample.queries[place], sample.segments
    return AnsweredQuery(
        query, None if segments is None else segments[place], redact(asked.input), plain(asked.reference), answers
    )


def kept_answers(
    trials: Sequence[Observation], *, store: Path, metric: str, sample: Sample | None
) -> Callable[[], list[AnsweredQuery]]:
    """Reads the answers of these trials from a store when it is called, not before."""

    def read() -> list[AnsweredQuery]:
        with Store(store) as opened:

            def lookup(o: Observation) -> Answer | None:
                kept = opened.answer(o.identity)
                return None if kept is None else kept.answer

            return answered_queries(trials, lookup, metric=metric, sample=sample)

    return read


# -- the behaviour changelog: what the metric did from release to release, and which axis moved it each time ----------
COLUMNS = tuple(name for name in HistoryRow.model_fields if name != "reason")


def history(store: str | Path = ".bisect-ai") -> pd.DataFrame:
    """One row a question that was answered, oldest first; values and losses in the metric's units, with 95 % intervals.

    An audit with the search for its cause is one row. Columns: at (UTC, NaT for runs of stores that did not note it), question (run,
    audit, gate, drift, verify), run, good, bad (releases), metric, kind (the verdict, or of an audit healthy, regression, undecided),
    axes (those that moved the metric), good_value/low/high, bad_value/low/high, loss/low/high
    (positive: quality fell), n (queries), carried (whether an audit's evidence began in
    earlier ones), calls, usd. Raises `StoreError`.
    """
    import pandas as pd

    if not (Path(store) / "journal").is_dir():
        raise StoreError(f"cannot read the history of {store}: there is no store; name it with `store`")
    found = [{name: getattr(row, name) for name in COLUMNS} for row in history_rows(Path(store))]
    frame = pd.DataFrame(found, columns=list(COLUMNS))
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame


def history_rows(store: Path) -> Iterator[HistoryRow]:
    """The rows of `history`, oldest first."""
    with Store(store) as opened:
        ends = dict(opened.ended)
        kept = {run: found for run in opened.runs if (found := opened.report(run)) is not None}
    told = {run: read(Report, report) for run, report in kept.items()}
    followed = {report.audit.run for run, report in told.items() if report.audit and report.audit.run != run}
    rows = [(ends.get(run), run, report) for run, report in told.items() if run not in followed]
    for at, run, report in sorted(rows, key=lambda row: row[0] or 0):
        yield _history_row(at, run, report)


def is_told(path: str | Path, report: ReportLike) -> bool:
    """Whether a history file of JSON lines holds the report's row already: the same question came to the same."""
    told = _history_row(None, read(Report, report).run, read(Report, report))
    place = Path(path)
    if not place.is_file():
        return False
    with place.open(encoding="utf-8", errors="replace") as lines:
        return any(_line_names(line) == (told.question, told.run, told.kind, list(told.axes)) for line in lines)


def _line_names(line: str) -> tuple[object, ...]:
    """What tells a history line from others; nothing for one that is not ours."""
    row = json_object(line)
    return () if row is None else tuple(row.get(name) for name in ("question", "run", "kind", "axes"))


def history_line(report: ReportLike) -> str:
    """A report's row of the history as one line of JSON, as of now."""
    told = read(Report, report)
    row = _history_row(time.time_ns() // 1000, told.run, told)
    return json.dumps(as_mapping(row), ensure_ascii=True, allow_nan=False)


def end_line(kind: str, reason: str, *, of: Unfinished | None = None) -> str:
    """The line of an audit that ended without a verdict, as of now: `kind` (failed, interrupted) and why, and what it cost."""
    row = HistoryRow(at=_moment_of(time.time_ns() // 1000), question="audit", kind=kind, reason=one_line(reason))
    if of is not None:
        names = {"run": of.run, "good": of.good, "bad": of.bad, "metric": of.metric}
        row = row.model_copy(update={**names, "calls": of.spent.calls, "usd": of.spent.usd})
    return json.dumps(as_mapping(row), ensure_ascii=True, allow_nan=False)


def _moment_of(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="seconds")


def _history_row(at: int | None, run: str, report: Report) -> HistoryRow:
    verdict, loss = report.verdict, report.loss
    low, high = loss.interval or (None, None)
    good_low, good_high = loss.good_interval or (None, None)
    bad_low, bad_high = loss.bad_interval or (None, None)
    return HistoryRow(
        at=None if at is None else _moment_of(at),
        question=question_of(report),
        run=run,
        good=report.good,
        bad=report.bad,
        metric=report.metric,
        kind=report.audit.kind if report.audit else verdict.kind,
        axes=tuple(axis for cause in verdict.causes for axis in cause.axes),
        good_value=loss.good,
        good_low=good_low,
        good_high=good_high,
        bad_value=loss.bad,
        bad_low=bad_low,
        bad_high=bad_high,
        loss=loss.estimate,
        loss_low=low,
        loss_high=high,
        n=loss.n,
        carried=report.audit.carried if report.audit else False,
        calls=report.usage.calls,
        usd=report.usage.usd,
    )
