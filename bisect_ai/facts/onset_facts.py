"""`onset`: since when does a log score lower, and what was deployed about then? Calls nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.stats.onset import OnsetFinding, find_onset
from bisect_ai.canonical import digest
from bisect_ai.config import LogOptions, checked_part
from bisect_ai.errors import ConfigError, QueryError
from bisect_ai.facts.report_view import SCHEMA, with_sentence
from bisect_ai.facts.rounding import DIGITS
from bisect_ai.provider.failure_text import redact_all
from bisect_ai.queries.deploy_events import DeployEvent, read_events
from bisect_ai.queries.live_scores import ScoredAnswer, Wanted, read_scored
from bisect_ai.queries.times import microseconds, told_time
from bisect_ai.release.git import git_output
from bisect_ai.report.json_edge import as_mapping
from bisect_ai.report.onset_values import NearDeploy, OnsetBlock
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.report.run_blocks import LogBlock
from bisect_ai.report.watch_report import watch_sentence
from bisect_ai.result import Result
from bisect_ai.runs.observations import Spending

MOST_DEPLOYS = 8
MOST_EVIDENCE = 1e12


def onset(
    log: Any,
    *,
    metric: str | None = None,
    release: str | None = None,
    events: Any = None,
    repository: str | Path | None = None,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    settings: dict[str, Any] | None = None,
) -> Result:
    """Since when the scores of a log are lower, with an interval, and which deploys lie inside it.

    `log`: any source that is read; `release`: one release's answers only; `events`: a file of deploys; `repository`: a git repository
    whose tags are deploys. The verdict's `kind` is onset or steady; `alpha` is the chance of an onset in scores that have none, however
    often the growing log is looked at. Raises `InputError` for what is wrong.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha is {alpha:g}; it is a chance between 0 and 0.5")
    options = checked_part(LogOptions, settings or {}, where="onset")
    read, name = read_scored(log, Wanted(release, None, metric), settings=options.settings(0), folder=Path.cwd())
    deploys = (*(read_events(events) if events is not None else ()), *(tags_of(Path(repository)) if repository else ()))
    block = onset_block(read.answers, deploys, alpha=alpha, higher_is_better=higher_is_better)
    if block is None:
        raise QueryError(f"too few answers with a score {name!r} to see an onset: it takes 40 at least")
    report = Report(
        schema_=SCHEMA,
        run=digest([name, release, alpha, higher_is_better, read.digest, [*map(list, deploys)]])[:16],
        good=release or "",
        bad=release or "",
        metric=name,
        higher_is_better=higher_is_better,
        percent=all(0 <= x <= 1 for x in (block.before or 0.0, block.after or 0.0)),
        onset=block,
        verdict=Verdict(kind=block.kind, reason=_REASONS[block.kind]),
        log=LogBlock(format=read.format, read=read.read, kept=len(read.answers), dropped=dict(read.dropped)),
        warnings=("the log has no times: the order of its lines was taken for that of time",) if not read.timed else (),
        decision=_RULE.format(alpha=alpha, bound=1 / alpha),
        usage=RunUsage(calls=0, cached=0, errors=0, usd=0.0, tokens=0, seconds=0.0),
    )
    return Result(redact_all(as_mapping(with_sentence(report, watch_sentence(report)))), Spending())


_REASONS = {
    "onset": "the evidence of lower scores passed its bound",
    "steady": "the evidence of lower scores did not pass its bound",
}
_RULE = (
    "A wealth that is staked on lower scores from some time on must pass {bound:g} = 1 / alpha; without a loss it ever does so with a "
    "chance of at most {alpha:g}, however often the growing log is looked at. The interval of the onset holds with 95 %."
)


def onset_block(
    answers: Sequence[ScoredAnswer], deploys: Sequence[DeployEvent], *, alpha: float, higher_is_better: bool
) -> OnsetBlock | None:
    """The onset of a loss among answers in the order of time; None where too few have a score."""
    scored = [answer for answer in answers if answer.score is not None]
    sign = 1.0 if higher_is_better else -1.0
    clusters = None
    if any(answer.cluster is not None for answer in scored):
        clusters = np.unique([answer.cluster or f"\0{i}" for i, answer in enumerate(scored)], return_inverse=True)[1]
    found = find_onset(np.array([sign * (answer.score or 0.0) for answer in scored]), clusters)
    if found is None:
        return None
    told = round(math.exp(min(found.evidence, math.log(MOST_EVIDENCE))), DIGITS)
    block = OnsetBlock(kind="steady", evidence=told, bound=round(1 / alpha, DIGITS), answers=found.n, events=len(deploys))
    if found.evidence < math.log(1 / alpha):
        return block
    return _onset(block, found, [answer.at for answer in scored], deploys, sign)


def _onset(
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
        deploys=_near(deploys, since, until) if since is not None and until is not None else (),
        events=len(deploys),
    )


def _near(deploys: Sequence[DeployEvent], since: int, until: int) -> tuple[NearDeploy, ...]:
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
