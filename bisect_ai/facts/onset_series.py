"""From scores in the order of time to the report's `onset` block, with the deploys about then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints
from bisect_ai.attribution.stats.onset import OnsetFinding, find_onset
from bisect_ai.facts.rounding import DIGITS
from bisect_ai.queries.live_scores import DeployEvent, ScoredAnswer, read_events
from bisect_ai.queries.times import microseconds, told_time
from bisect_ai.release.git import git_output
from bisect_ai.report.watch_values import NearDeploy, OnsetBlock

MOST_DEPLOYS = 8
MOST_EVIDENCE = 1e12


def deploys_of(events: Any, folder: Path, *, repository: Path | None = None) -> tuple[DeployEvent, ...]:
    """The deploys that `events` names: a file, rows, or "git" for the tags of the repository (else of `folder`)."""
    if events is None:
        return ()
    return tags_of(repository or folder) if events == "git" else read_events(events, folder)


def onset_block(
    answers: Sequence[ScoredAnswer], deploys: Sequence[DeployEvent], *, alpha: float, higher_is_better: bool
) -> OnsetBlock | None:
    """The onset of a loss among answers in the order of time; None where too few have a score."""
    scored = [answer for answer in answers if answer.score is not None]
    clusters = None
    if any(answer.cluster is not None for answer in scored):
        clusters = np.unique([answer.cluster or f"\0{i}" for i, answer in enumerate(scored)], return_inverse=True)[1]
    series = ScoreSeries(np.array([answer.score or 0.0 for answer in scored]), [answer.at for answer in scored], clusters)
    return onset_of(series, deploys, alpha=alpha, sign=1.0 if higher_is_better else -1.0)


@dataclass(frozen=True)
class ScoreSeries:
    """(n,) scores in the order of time, with their times (None: not logged) and (n,) clusters, or None."""

    scores: Floats
    at: Sequence[int | None]
    clusters: Ints | None = None


def onset_of(series: ScoreSeries, deploys: Sequence[DeployEvent], *, alpha: float, sign: float = 1.0) -> OnsetBlock | None:
    """The onset of a loss in a series; `sign` -1 where lower is better. None where there are too few."""
    found = find_onset(sign * series.scores, series.clusters)
    if found is None:
        return None
    told = round(math.exp(min(found.evidence, math.log(MOST_EVIDENCE))), DIGITS)
    block = OnsetBlock(kind="steady", evidence=told, bound=round(1 / alpha, DIGITS), answers=found.n, events=len(deploys))
    if found.evidence < math.log(1 / alpha):
        return block
    return _onset_block(block, found, series.at, deploys, sign)


def _onset_block(
    block: OnsetBlock, found: OnsetFinding, at: Sequence[int | None], deploys: Sequence[DeployEvent], sign: float
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
        before=round(sign * found.before, DIGITS),
        after=round(sign * found.after, DIGITS),
        deploys=_near_deploys(deploys, since, until) if since is not None and until is not None else (),
        events=len(deploys),
    )


def _near_deploys(deploys: Sequence[DeployEvent], since: int, until: int) -> tuple[NearDeploy, ...]:
    """The deploys inside an interval; where there is none the last one before it."""
    inside = [event for event in deploys if since <= event.at <= until]
    before = max((event for event in deploys if event.at < since), default=None)
    chosen = inside[:MOST_DEPLOYS] or ([before] if before else [])
    return tuple(NearDeploy(at=told_time(event.at), what=event.what, inside=bool(inside)) for event in chosen)


def tags_of(folder: Path) -> tuple[DeployEvent, ...]:
    """The tags of a git repository as deploys, by when they were made. Raises `ReleaseError` where there is none."""
    told = git_output(folder, "for-each-ref", "--format=%(creatordate:unix) %(refname:short)", "refs/tags")
    lines = [line.partition(" ") for line in told.decode("utf-8", "replace").splitlines()]
    timed = [(microseconds(float(at)), f"tag {name}") for at, _, name in lines if at.isdigit()]
    return tuple(sorted(DeployEvent(at, what) for at, what in timed if at is not None))
