"""`drift`: nothing was deployed; does the release still score as its log says?

What the provider says of itself is looked at first (the model that answered, its fingerprint, the endpoint), then scores: the release
answers logged queries anew, and each score is compared with the one that it had then: in an answer that the store kept, else in the log
(`drift_reference.py`). A check is a run of its own in the store, resumed within its hour.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.questions.drift import DriftFinding, DriftRule, is_loss, mean_loss
from bisect_ai.config import FILE, heed_secrets_of
from bisect_ai.errors import BisectError, ConfigError
from bisect_ai.facts.drift_pinned import pinned_scores
from bisect_ai.facts.drift_reference import FEWEST, DriftReference, drift_reference, said_now
from bisect_ai.facts.onset_series import deploys_of, onset_block
from bisect_ai.facts.report_view import SCHEMA, with_sentence
from bisect_ai.facts.rounding import DIGITS
from bisect_ai.facts.run_facts import Progress, keep_report, result_of, started, store_of
from bisect_ai.provider.failure_text import redact_all
from bisect_ai.queries.live_scores import DeployEvent, Wanted, read_scored
from bisect_ai.replay.interrupts import Stop
from bisect_ai.report.canary_values import SegmentLoss
from bisect_ai.report.json_edge import Ends, as_mapping
from bisect_ai.report.measured_values import MeasuredLoss
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.report.watch_report import watch_sentence
from bisect_ai.report.watch_values import DriftBlock, OnsetBlock, PinnedScores
from bisect_ai.result import Result
from bisect_ai.runs.outcomes import Outcomes
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.question import Anew, DriftQuestion
from bisect_ai.runs.study import Study, Watch

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
    return started(work, {**given, "good": good, "bad": good}, config=config, queries=queries, progress=progress, alone=True)


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
    rule = DriftRule(reference.scores, prepared.config.alpha, max(prepared.config.audit.detect, prepared.config.tolerance))
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
    up = prepared.metric.higher_is_better
    return onset_block(log.answers, deploys, alpha=prepared.config.alpha, higher_is_better=up) if log.timed else None


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
        percent=metric.bounded == (0, 1),
        unit=metric.unit or None,
        level=round(100 * (1 - rule.alpha), 6),
        drift=_block(outcomes, found, rule, reference).model_copy(update={"pinned": pinned[0] if pinned else None}),
        onset=onset,
        verdict=_verdict(found, rule, reference, outcomes),
        loss=_loss(found, metric.higher_is_better),
        warnings=tuple(outcomes.warnings),
        decision=_RULE.format(source=reference.source, bound=found.bound, alpha=rule.alpha, detect=rule.detect, miss=rule.miss),
        usage=_usage([outcomes, *filter(None, pinned[1:] if pinned else ())]),
    )
    told: dict[str, Any] = redact_all(as_mapping(with_sentence(report, watch_sentence(report))))
    return told


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
    "Each query's score now is taken from its score then ({source}); a wealth that is staked on a loss must pass "
    "{bound:g} = 1 / alpha, which it ever does without drift with a chance of at most {alpha:g}. A second one excludes a loss of "
    "{detect:g}, wrongly with a chance of at most {miss:g}."
)


def _block(outcomes: Outcomes, found: DriftFinding, rule: DriftRule, reference: DriftReference) -> DriftBlock:
    return DriftBlock(
        reference=reference.source,
        stored_on=reference.stored_on,
        evidence=round(min(found.evidence, 1e12), DIGITS),
        bound=round(found.bound, DIGITS),
        detect=rule.detect,
        queries=len(found.queries),
        failed=found.failed,
        changes=tuple(provider_changes(outcomes, reference)),
        segments=tuple(_segments(found, outcomes.prepared)),
    )


def _loss(found: DriftFinding, up: bool) -> MeasuredLoss:
    sign = 1.0 if up else -1.0
    loss = found.loss
    return MeasuredLoss(
        estimate=None if loss.value is None else round(loss.value, DIGITS),
        interval=_ends(loss.interval),
        n=loss.n,
        method=loss.method,
        good=None if found.then.value is None else round(sign * found.then.value, DIGITS),
        bad=None if found.now.value is None else round(sign * found.now.value, DIGITS),
    )


def _ends(interval: tuple[float, float] | None) -> Ends | None:
    return None if interval is None else (round(interval[0], DIGITS), round(interval[1], DIGITS))


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
    return f"{len(found.queries)} queries are too few to tell; raise log.sample or the budget"


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
                loss=round(loss.value, DIGITS),
                interval=_ends(loss.interval),
                proved=is_loss(np.array(inside[name]), SURE / len(inside)),
            )
