"""`onset`: since when does a log score lower, and what was deployed about then? Calls nothing.

From scores in the order of time to the report's `onset` block, with the deploys about then; the same for a canary, whose answers are
taken beside the baseline's of the same stretch, so that what moves both is not taken for its loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints
from bisect_ai.attribution.questions.canary_looks import Answers
from bisect_ai.attribution.stats.change_points import OnsetFinding, find_onset
from bisect_ai.canonical import digest
from bisect_ai.config import checked_part
from bisect_ai.errors import QueryError
from bisect_ai.facts.report_view import NO_CALLS, SCHEMA, told_report
from bisect_ai.facts.score_rows import ScoresStudy
from bisect_ai.queries.live_scores import DeployEvent, ScoredAnswer, Wanted, read_events, read_scored
from bisect_ai.queries.values import microseconds, told_time
from bisect_ai.release.source_files import git_output
from bisect_ai.report.planning_values import LogBlock
from bisect_ai.report.report_values import Report, Verdict
from bisect_ai.report.watch_report import watch_sentence
from bisect_ai.report.watch_values import NearDeploy, OnsetBlock
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Spending
from bisect_ai.scoring.metric import Metric

# Deploys inside the interval that are told.
MOST_DEPLOYS = 8
# Where the wealth is cut: JSON has no infinity.
MOST_EVIDENCE = 1e12
# What git tells of a tag: one with a message has who made it, another its commit's author.
TAG = "%(creatordate:unix) %(refname:short) %(taggername)%(authorname)"


def deploys_of(events: Any, folder: Path, *, repository: Path | None = None) -> tuple[DeployEvent, ...]:
    """The deploys that `events` names: a file, rows, or "git" for the tags of the repository (else of `folder`)."""
    if events is None:
        return ()
    return tags_of(repository or folder) if events == "git" else read_events(events, folder)


def answer_clusters(answers: Sequence[ScoredAnswer]) -> Ints | None:
    """Numbers for clusters, one of its own for an answer without; None when no answer has any."""
    names = [a.cluster for a in answers]
    if all(name is None for name in names):
        return None
    keyed = [(name, i if name is None else 0) for i, name in enumerate(names)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keyed))}
    return np.array([numbers[key] for key in keyed], int)


def onset_block(
    answers: Sequence[ScoredAnswer], deploys: Sequence[DeployEvent], *, alpha: float, metric: Metric
) -> OnsetBlock | None:
    """The onset of a loss among answers in the order of time; None where too few have a score."""
    scored = [answer for answer in answers if answer.score is not None]
    scores, at = np.array([answer.score or 0.0 for answer in scored]), [answer.at for answer in scored]
    series = ScoreSeries(scores, at, answer_clusters(scored))
    return onset_of(series, deploys, alpha=alpha, metric=metric)


@dataclass(frozen=True)
class ScoreSeries:
    """(n,) scores in the order of time, with their times (None: not logged) and (n,) clusters, or None."""

    scores: Floats
    at: Sequence[int | None]
    clusters: Ints | None = None


def onset_of(series: ScoreSeries, deploys: Sequence[DeployEvent], *, alpha: float, metric: Metric) -> OnsetBlock | None:
    """The onset of a loss in a series. None where there are too few scores."""
    found = find_onset(metric.sign * series.scores, series.clusters)
    if found is None:
        return None
    told = math.exp(min(found.evidence, math.log(MOST_EVIDENCE)))
    block = OnsetBlock(kind="steady", evidence=told, bound=1 / alpha, answers=found.n, events=len(deploys))
    if found.evidence < math.log(1 / alpha):
        return block
    return _onset_block(block, found, series.at, deploys, metric)


def _onset_block(
    block: OnsetBlock, found: OnsetFinding, at: Sequence[int | None], deploys: Sequence[DeployEvent], metric: Metric
) -> OnsetBlock:
    """The onset in places and times. It lies after the last good answer, so its interval begins there."""
    since, until = at[max(found.low - 1, 0)], at[found.high if found.high < len(at) else -1]
    first = at[found.first]
    timed = since is not None and until is not None and first is not None
    return OnsetBlock(
        kind="onset",
        evidence=block.evidence,
        bound=block.bound,
        answers=found.n,
        first=found.first + 1,
        low=found.low + 1,
        high=found.high + 1,
        at=told_time(first) if first is not None else None,
        since=told_time(since) if since is not None and timed else None,
        until=told_time(until) if until is not None and timed else None,
        before=metric.value(found.before),
        after=metric.value(found.after),
        deploys=_near_deploys(deploys, since, until) if since is not None and until is not None else (),
        events=len(deploys),
    )


def _near_deploys(deploys: Sequence[DeployEvent], since: int, until: int) -> tuple[NearDeploy, ...]:
    """The deploys inside an interval; where there is none the last one before it."""
    inside = [event for event in deploys if since <= event.at <= until]
    before = max((event for event in deploys if event.at < since), default=None)
    chosen = inside[:MOST_DEPLOYS] or ([before] if before else [])
    return tuple(NearDeploy(at=told_time(e.at), what=e.what, who=e.who or None, inside=bool(inside)) for e in chosen)


def tags_of(folder: Path) -> tuple[DeployEvent, ...]:
    """The tags of a git repository as deploys, by when and by whom they were made. Raises `ReleaseError` where there is none."""
    told = git_output(folder, "for-each-ref", f"--format={TAG}", "refs/tags")
    lines = [line.split(" ", 2) for line in told.decode("utf-8", "replace").splitlines()]
    timed = [(microseconds(float(at)), f"tag {name}", who.strip()) for at, name, who in lines if at.isdigit()]
    return tuple(sorted(DeployEvent(at, what, who) for at, what, who in timed if at is not None))


# Answers of a stretch whose baseline answers say what was to be expected.
STRETCH_BESIDE = 200


def since_when(
    answers: Answers, at: Sequence[int | None], deploys: Sequence[DeployEvent], *, alpha: float
) -> OnsetBlock | None:
    """The onset, scores in [0, 1]; None where the canary lost from its first answer on, as far as is known."""
    known, base = ~np.isnan(answers.score), answers.is_canary == 0
    stretch = np.arange(len(answers)) // STRETCH_BESIDE
    counted = known & base
    sums = np.bincount(stretch, np.where(counted, answers.score, 0.0))
    counts = np.bincount(stretch, counted.astype(float))
    level = float(answers.score[counted].mean())
    expected = np.where(counts > 0, sums / np.maximum(counts, 1), level)[stretch]
    own = np.flatnonzero(known & ~base)
    clusters = None if answers.cluster is None else answers.cluster[own]
    series = ScoreSeries((answers.score - expected + level)[own], [at[place] for place in own.tolist()], clusters)
    found = onset_of(series, deploys, alpha=alpha, metric=Metric())
    return found if found is not None and found.kind == "onset" else None


def onset(
    log: Any,
    *,
    metric: str | None = None,
    release: str | None = None,
    events: Any = None,
    repository: str | Path | None = None,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    unit: str = "",
    settings: dict[str, Any] | None = None,
) -> Result:
    """Since when the scores of a log are lower, with an interval, and which deploys lie inside it.

    `log`: any source that is read; `release`: one release's answers only; `events`: a file of deploys, or "git" for the tags of
    `repository` (default: the folder where this runs). The verdict's `kind` is onset or steady; `alpha` is the chance of
    an onset in scores that have none, however often the growing log is looked at; `unit` what one point of the metric is. Raises
    `InputError` for what is wrong.
    """
    said = checked_part(
        ScoresStudy, {"log": settings or {}, "alpha": alpha, "higher_is_better": higher_is_better}, where="onset"
    )
    alpha, options, higher_is_better = said.alpha, said.log, said.higher_is_better is not False
    read, name = read_scored(log, Wanted(release, None, metric), settings=options.settings(0), folder=Path.cwd())
    deploys = deploys_of(events, Path.cwd(), repository=None if repository is None else Path(repository))
    scores = np.array([np.nan if answer.score is None else answer.score for answer in read.answers])
    told = Metric(higher_is_better=higher_is_better, unit=unit).as_seen(scores)
    block = onset_block(read.answers, deploys, alpha=alpha, metric=told)
    if block is None:
        raise QueryError(f"too few answers with a score {name!r} to see an onset: it takes 40 at least")
    report = Report(
        schema_=SCHEMA,
        run=digest([name, release, alpha, higher_is_better, read.digest, [*map(list, deploys)]])[:16],
        good=release or "",
        bad=release or "",
        metric=name,
        higher_is_better=higher_is_better,
        percent=told.is_share,
        unit=told.own_unit,
        onset=block,
        verdict=Verdict(kind=block.kind, reason=_REASONS[block.kind]),
        log=LogBlock(format=read.format, read=read.read, kept=len(read.answers), dropped=dict(read.dropped)),
        warnings=("the log has no times: the order of its lines was taken for that of time",) if not read.timed else (),
        decision=_RULE.format(alpha=alpha, bound=1 / alpha),
        usage=NO_CALLS,
    )
    return Result(told_report(report, watch_sentence), Spending())


_REASONS = {
    "onset": "the evidence of worse scores passed its bound",
    "steady": "the evidence of worse scores did not pass its bound",
}
_RULE = (
    "Evidence of worse scores from some time on must pass {bound:g} = 1 / alpha; without a loss it ever does so with a "
    "chance of at most {alpha:g}, however often the growing log is looked at. The interval of the onset holds with 95 %."
)
