"""`drift`: nothing was deployed; does the release still score as its log says?

What the provider says of itself is looked at first (the model that answered, its fingerprint, the endpoint), then scores: the release
answers logged queries anew, and each score is compared with the one that it had then: in an answer that the store kept, else in the log
(`drift_reference.py`). A check is a run of its own in the store, resumed within its hour.

A release may pin another value of an axis, a dated model or another provider's (`pinned`). After a drift the same queries are asked of
its pinned twin too. Where the release scores lower than then and the twin does not, what the name stands for moved; where both do, it
is something else that both share.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.questions.drift import DriftFinding, DriftRule, is_loss, mean_loss
from bisect_ai.canonical import digest
from bisect_ai.config import FILE, heed_secrets_of
from bisect_ai.errors import BisectError, ConfigError, TargetFailure
from bisect_ai.facts.drift_reference import FEWEST, DriftReference, drift_reference, said_now
from bisect_ai.facts.onset_facts import deploys_of, onset_block
from bisect_ai.facts.report_view import SCHEMA, estimate_fields, told_report
from bisect_ai.facts.sessions import Progress, keep_report, result_of, store_of, watched
from bisect_ai.queries.live_scores import DeployEvent, Wanted, read_scored
from bisect_ai.release.load import Release
from bisect_ai.replay.interrupts import Stop
from bisect_ai.report.measured_values import MeasuredLoss
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.report.watch_report import watch_sentence
from bisect_ai.report.watch_values import DriftBlock, OnsetBlock, PinnedScores, SegmentLoss
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Watch
from bisect_ai.runs.outcomes import Outcomes, with_what_is_left
from bisect_ai.runs.prepare import started
from bisect_ai.runs.prepared import Anew, Prepared, loss_to_detect
from bisect_ai.runs.question import DriftQuestion
from bisect_ai.runs.study import Study
from bisect_ai.scoring.metric import Metric, finite
from bisect_ai.store.trial_store import Store

# The chance that any segment is said to have sunk though none has; shared evenly by all of them.
SURE = 0.01


def drift(
    config: str | Path | None = None, *, queries: Any = None, events: Any = None, progress: Progress = False, **given: Any
) -> Result:
    """Whether one release still scores as its log says, though nothing of it changed.

    Takes what `bisect_ai.run` takes, but for `bad`: the good release is asked anew. `events`: a file of deploys, or "git" for the tags
    of `repo`. The verdict's `kind` is drift, steady or inconclusive. Raises `InputError` for what is wrong, `TargetFailure`.
    """
    good = given.get("good")
    if config is not None and good is None:
        path = Path(config)
        good = heed_secrets_of(path / FILE if path.is_dir() else path).get("good")
    if good is None:
        raise ConfigError("which release? name it with --good, or as `good` in bisect.yaml")
    work = partial(execute_drift, events=events, queries=queries)
    return started(
        work, {**given, "good": good, "bad": good}, config=config, queries=queries, watching=watched(progress), alone=True
    )


def execute_drift(
    prepared: Prepared,
    /,
    *,
    folder: Path,
    watch: Watch | None = None,
    stop: Stop | None = None,
    events: Any = None,
    queries: Any = None,
) -> Result:
    """Ask the release anew, and sum up."""
    hour = int(time.time() // 3600)
    with store_of(prepared, folder) as store:
        reference = drift_reference(prepared, store)
    detect = loss_to_detect(prepared.config, prepared.metric, least_counts=True)
    rule = DriftRule(reference.scores, prepared.config.alpha, detect)
    ground = Anew(prepared.good, repeats_from=hour)
    asked = replace(prepared, question=DriftQuestion(rule, ground, hour))
    deploys = deploys_of(events, folder, repository=folder / prepared.config.repo)
    onset = _onset(prepared, deploys, queries=queries, folder=folder)
    with store_of(asked, folder) as store:
        outcomes = Study(asked, store, watch=watch, stop=stop).run()
        pinned = pinned_scores(outcomes, rule, store, hour=hour, watch=watch, stop=stop)
        report = _report(outcomes, rule, reference, onset, pinned)
        keep_report(store, outcomes, report)
    return result_of(outcomes, report, store)


# -- what the provider says of itself ----------------------------------------------------------------------------------
def provider_changes(outcomes: Outcomes, reference: DriftReference) -> Iterator[str]:
    """Sentences on what answered now that did not then."""
    by = "it was" if reference.stored_on else "the log says"
    for what, then in reference.said.items():
        now = Counter(filter(None, (said_now(o, what) for o in outcomes.ledger.observations)))
        new = [name for name, _ in now.most_common(2) if name not in then]
        if then and new:
            before = " and ".join(name for name, _ in then.most_common(2))
            yield f"the provider changed: the {what} is {' and '.join(new)} now, {by} {before}"


# -- which part is the model's ---------------------------------------------------------------------------------------
# Chances of an error so small that the pinned release is asked all of the queries.
NEVER = 1e-9


def pinned_scores(
    outcomes: Outcomes, rule: DriftRule, store: Store, *, hour: int, watch: Watch | None = None, stop: Stop | None = None
) -> tuple[PinnedScores, Outcomes | None] | None:
    """What the pinned twin scored on the queries that tell the drift, with its run; None: no drift is proved, or nothing is pinned."""
    found, prepared = outcomes.finding, outcomes.prepared
    if not isinstance(found, DriftFinding) or found.kind != "drift" or not prepared.good.pinned:
        return None
    twin = _twin(prepared.good)
    asked = set(found.queries)
    reference = tuple(score if query in asked else math.nan for query, score in enumerate(rule.reference))
    question = DriftQuestion(replace(rule, reference=reference, alpha=NEVER, miss=NEVER), Anew(twin, repeats_from=hour), hour)
    left = replace(with_what_is_left(prepared, outcomes), good=twin, bad=twin, question=question)
    if prepared.config.budget.calls - outcomes.ledger.paid.calls < FEWEST:
        return _unknown(prepared.good, "the budget leaves no calls for it"), None
    try:
        ran = Study(left, store, watch=watch, stop=stop).run()
    except TargetFailure as error:
        return _unknown(prepared.good, f"it gave no answers: {error}"), None
    assert isinstance(ran.finding, DriftFinding)
    return _compared(prepared, found, ran.finding, rule), ran


def _unknown(release: Release, why: str) -> PinnedScores:
    return PinnedScores(axes=tuple(release.pinned), why=why)


def _twin(release: Release) -> Release:
    axes: Mapping[str, Any] = {**release.axes, **release.pinned}
    return replace(release, name=f"{release.name}, pinned", axes=axes, digest=digest(dict(axes)), pinned={})


def _compared(prepared: Prepared, found: DriftFinding, other: DriftFinding, rule: DriftRule) -> PinnedScores:
    """The twin's scores less the release's, query by query."""
    lost = dict(zip(found.queries, found.differences, strict=True))
    kept = [(lost[query], moved) for query, moved in zip(other.queries, other.differences, strict=True) if query in lost]
    back = mean_loss(np.array([drifted - moved for drifted, moved in kept]), rule.alpha)
    total = float(np.mean([drifted for drifted, _ in kept])) if kept else 0.0
    return PinnedScores(
        axes=tuple(prepared.good.pinned),
        value=prepared.metric.value(other.now.value),
        queries=back.n,
        back=back.value,
        interval=finite(back.interval),
        share=None if back.value is None or total <= 0 else back.value / total,
    )


# -- since when --------------------------------------------------------------------------------------------------------
def _onset(prepared: Prepared, deploys: Sequence[DeployEvent], *, queries: Any, folder: Path) -> OnsetBlock | None:
    """The onset of a loss in the log's own scores; None where the log has none, or no order in time."""
    source = queries if queries is not None else prepared.config.log.path
    labelled = any(row.release == prepared.good.name for row in prepared.sample.logged)
    wanted = Wanted(prepared.good.name if labelled else None, None, prepared.metric.name)
    try:
        log, _ = read_scored(source, wanted, settings=prepared.config.log.settings(0), folder=folder)
    except BisectError:
        return None
    return onset_block(log.answers, deploys, alpha=prepared.config.alpha, metric=prepared.metric) if log.timed else None


# -- the report --------------------------------------------------------------------------------------------------------
def _report(
    outcomes: Outcomes,
    rule: DriftRule,
    reference: DriftReference,
    onset: OnsetBlock | None,
    pinned: tuple[PinnedScores, Outcomes | None] | None,
) -> dict[str, Any]:
    found, prepared = outcomes.finding, outcomes.prepared
    assert isinstance(found, DriftFinding)
    metric = prepared.metric
    report = Report(
        schema_=SCHEMA,
        run=prepared.run_id,
        good=prepared.good.name,
        bad=prepared.good.name,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        percent=metric.is_share,
        unit=metric.unit or None,
        alpha=rule.alpha,
        level=round(100 * (1 - 2 * rule.alpha), 6),
        drift=_block(outcomes, found, rule, reference).model_copy(update={"pinned": pinned[0] if pinned else None}),
        onset=onset,
        verdict=_verdict(found, rule, reference, outcomes),
        loss=_loss(found, metric),
        warnings=tuple(outcomes.warnings),
        decision=_RULE.format(source=reference.source, bound=found.bound, alpha=rule.alpha, detect=rule.detect, miss=rule.miss),
        usage=_usage([outcomes, *filter(None, pinned[1:] if pinned else ())]),
    )
    return told_report(report, watch_sentence)


def _usage(ran: Sequence[Outcomes]) -> RunUsage:
    """What the check cost, with what the pinned release did."""
    paid = [each.ledger.paid for each in ran]
    return RunUsage(
        calls=sum(p.calls for p in paid),
        cached=sum(each.ledger.now.cached for each in ran),
        errors=sum(each.finding.failed for each in ran if isinstance(each.finding, DriftFinding)),
        usd=sum(p.usd for p in paid),
        tokens=sum(p.tokens for p in paid),
        seconds=sum(p.seconds for p in paid),
    )


_RULE = (
    "Each query's score now is taken from its score then ({source}); evidence of a loss must pass "
    "{bound:g} = 1 / alpha, which it ever does without drift with a chance of at most {alpha:g}. A second one excludes a loss of "
    "{detect:g}, wrongly with a chance of at most {miss:g}."
)


def _block(outcomes: Outcomes, found: DriftFinding, rule: DriftRule, reference: DriftReference) -> DriftBlock:
    return DriftBlock(
        reference=reference.source,
        stored_on=reference.stored_on,
        evidence=min(found.evidence, 1e12),
        bound=found.bound,
        detect=rule.detect,
        queries=len(found.queries),
        failed=found.failed,
        repeated=not outcomes.ledger.now.calls and outcomes.ledger.now.cached > 0,
        changes=tuple(provider_changes(outcomes, reference)),
        segments=tuple(_segments(found, outcomes.prepared)),
    )


def _loss(found: DriftFinding, metric: Metric) -> MeasuredLoss:
    good, bad = metric.value(found.then.value), metric.value(found.now.value)
    return MeasuredLoss(**estimate_fields(found.loss), good=good, bad=bad)


def _verdict(found: DriftFinding, rule: DriftRule, reference: DriftReference, outcomes: Outcomes) -> Verdict:
    if found.kind == "drift":
        return Verdict(kind="drift", reason="the evidence that scores are lower now than then passed its bound")
    if found.kind == "steady":
        return Verdict(kind="steady", reason=f"the evidence against a loss of {rule.detect:g} passed its bound")
    return Verdict(kind="inconclusive", reason=_why_unknown(found, reference, outcomes), stopped=outcomes.stopped)


def _why_unknown(found: DriftFinding, reference: DriftReference, outcomes: Outcomes) -> str:
    """What stood in the way."""
    if reference.known < FEWEST:
        return (
            f"only {reference.known} of {len(reference.scores)} sampled queries have a score or an answer of "
            f"{outcomes.prepared.good.name} in the log; log `scores` or `output`"
        )
    if outcomes.stopped:
        return f"{outcomes.stopped} after {len(found.queries)} queries"
    if found.failed > len(found.queries):
        return f"{found.failed} of {found.failed + len(found.queries)} queries were not answered"
    asked, sampled = len(found.queries), len(reference.scores)
    if asked >= reference.known and reference.known < sampled:
        return f"{asked} queries are too few to tell, and the other {sampled - asked} have no score then ({reference.source})"
    return f"{asked} queries are too few to tell; raise log.sample or the budget"


def _segments(found: DriftFinding, prepared: Prepared) -> Iterator[SegmentLoss]:
    """What each segment lost, with one error budget for all, the worst first."""
    names = prepared.sample.segments
    if names is None:
        return
    inside: dict[str, list[float]] = defaultdict(list)
    for query, moved in zip(found.queries, found.differences, strict=True):
        inside[names[query]].append(moved)
    told = [(name, mean_loss(np.array(moved), 2 * SURE / len(inside))) for name, moved in inside.items()]
    for name, loss in sorted(told, key=lambda each: -(each[1].value or -1e9)):
        if loss.interval is not None and loss.value is not None:
            yield SegmentLoss(
                column=prepared.config.log.segment or "segment",
                level=name,
                answers=loss.n,
                loss=loss.value,
                interval=finite(loss.interval),
                proved=is_loss(np.array(inside[name]), SURE / len(inside)),
            )
