"""`verify`: does a candidate fix bring back the net loss that a stored run found?

Queries drawn at random judge it, those that the run did not touch first. The queries that broke in the run only tell, when too little
is back, whether it is they that are not mended. The stored answers chose these, so they cannot judge them: every trial of a
verification is new (its repeat numbers belong to the run and the fix), so that good, bad and fix answer at the same time, too. What
is reused are the answers of the same verification, when it was interrupted or gets more calls. `attribution.verify` explains the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.verify import RESTORE, Cells
from bisect_ai.attribution.questions.verify_findings import VerifyFinding, VerifyRule
from bisect_ai.attribution.stats.smallest_loss import is_open, relative
from bisect_ai.canonical import digest
from bisect_ai.config import FILE
from bisect_ai.config import store_of as store_named_in
from bisect_ai.errors import InputError
from bisect_ai.facts.build import summarise
from bisect_ai.facts.report_view import reported_estimate
from bisect_ai.facts.saved_runs import FirstScores, first_scores, read_run, scale_of_scores
from bisect_ai.facts.sessions import Progress, keep_report, result_of, store_of, watched
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.queries.record_accounting import lacking
from bisect_ai.queries.sample import Sample
from bisect_ai.release.load import Release, changed_axes
from bisect_ai.release.pair import load_beside
from bisect_ai.replay.interrupts import Stop
from bisect_ai.report.run_blocks import CollateralEvidence, RepairEvidence, VerifiedAgain, VerifiedOthers, VerifyBlock
from bisect_ai.report.value_types import ReportedEstimate
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Watch
from bisect_ai.runs.prepare import named, releases_of_run, started
from bisect_ai.runs.prepared import Digests, Prepared
from bisect_ai.runs.question import Composed, VerifyQuestion
from bisect_ai.runs.release_writer import check_no_key
from bisect_ai.runs.study import Study
from bisect_ai.scoring.metric import Metric
from bisect_ai.store.trial_store import Store

# Queries that broke which are kept for replay, the most: a random part of more.
MOST_BROKEN = 40
# Queries that the run did not touch below which the report says that there were few.
FEWEST_FRESH = 100
# Others that are drawn from a large log, the most.
OTHERS = 2000


def verify(
    run: str | Result,
    fix: Any,
    config: str | Path | None = None,
    *,
    queries: Any = None,
    progress: Progress = False,
    **given: Any,
) -> Result:
    """Whether `fix` brings back the net loss that the stored run `run` (its id, or its `Result`) found.

    `fix`: a release (path, `Release`, mapping); its axes may differ from both good and bad. Takes what `bisect_ai.run` takes; good
    and bad must be the run's. The verdict's kind is fixed, not_fixed, fixed_with_collateral or inconclusive; `bad` in the report is
    the fix, the loss is its shortfall against good on queries drawn at random, and the `verify` block has the numbers.
    """
    run = str(run.report["run"]) if isinstance(run, Result) else run
    if not isinstance(run, str):
        raise InputError(f"cannot verify a fix of run {run!r:.40}: give the run's id, or the beginning of it, or its result")
    work = partial(execute_verify, run=run, fix=fix, queries=queries)
    known = {} if config is None else _releases_of_run(run, Path(config), given)
    return started(work, {**given, **known}, config=config, queries=queries, watching=watched(progress))


def execute_verify(
    prepared: Prepared,
    /,
    *,
    run: str,
    fix: Any,
    queries: Any = None,
    folder: Path,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> Result:
    """Verify (or resume) with a prepared study of the run's two releases."""
    if prepared.config.store is None:
        raise InputError("cannot verify a fix without a store: the run that it is to fix is kept in one; set `store`")
    config = prepared.config
    rules = config.repository
    candidate = named(load_beside(fix, good=config.good, bad=config.bad, folder=folder, rules=rules), "fix")
    check_no_key(candidate)
    with store_of(prepared, folder) as store:
        plan = _plan_of(prepared, store, store.find_run(run), candidate, queries=queries, folder=folder)
        outcomes = Study(plan.prepared, store, watch=watch, stop=stop).run()
        found = outcomes.finding
        assert isinstance(found, VerifyFinding)
        block = _verify_block(plan, found, calls=outcomes.ledger.paid.calls)
        report = summarise(outcomes, damage=store.damage, verify=block)
        keep_report(store, outcomes, report)
    return replace(result_of(outcomes, report, store), recommended=None)


def _releases_of_run(run: str, config: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Good and bad as the run names them, where neither the settings file nor the caller does."""
    config = config / FILE if config.is_dir() else config
    lacking = [side for side in ("good", "bad") if given.get(side) is None]
    if not lacking:
        return {}
    folder = config.parent / given["store"] if given.get("store") else store_named_in(config)
    if folder is None:
        return {}
    named = releases_of_run(read_run(folder, run).settings, config)
    return {side: named[side] for side in lacking if side in named}


class Three:
    """The ground of a verification: good, bad and fix on queries drawn at random, and on those that broke."""

    level = "axes"

    def __init__(self, good: Release, bad: Release, fix: Release, *, repeats_from: int) -> None:
        digests = Digests()
        cells, changed = Cells((1 << len(changed_axes(good, fix))) - 1), changed_axes(good, fix)
        sides = zip((*cells.others, *cells.again), (good, fix, good, bad, fix), strict=True)
        names = ((), changed, ("again: good",), ("again: bad",), ("again: fix",))
        self._cells = {
            cell: Composed(side.axes, digests.of(side.axes), bad, repeats_from, None if cell <= cells.full else "again")
            for (cell, side), bad in zip(sides, names, strict=True)
        }

    def composed(self, cell: int) -> Composed:
        """The release of a cell."""
        return self._cells[cell]


@dataclass(frozen=True)
class _Plan:
    """What is to be replayed: the study of it, its rule, and where its queries come from."""

    prepared: Prepared
    rule: VerifyRule
    metric: Metric
    run: str
    bad: str
    broke: int
    untouched: int
    # Queries of the sample that the run did not touch, and that it did.
    touched: int


def _plan_of(prepared: Prepared, store: Store, run: str, fix: Release, *, queries: Any, folder: Path) -> _Plan:
    runs = {name: begun["settings"] for name, begun in store.runs.items()}
    _check_run(prepared, run, runs[run])
    _check_fix(prepared, fix)
    assert store.path is not None
    wide = _wider_sample(prepared, queries, folder)
    scores = _with_logged(first_scores(store.path, run, runs), prepared, wide)
    metric = _metric_of_scores(prepared, scores)
    rule = _verify_rule(prepared, scores, metric)
    broken = _most_broken(prepared, wide, scores, rule, run)
    # Each runs under three releases, so that they take half of the calls at most.
    kept = broken[: min(MOST_BROKEN, max(prepared.config.budget.calls // 6, 1))]
    fresh = [q for q, query in enumerate(wide.queries) if query.id not in scores]
    touched = [q for q, query in enumerate(wide.queries) if query.id in scores]
    rule = replace(rule, broken=len(kept), others=len(wide) if wide.clusters is not None else max(len(wide), wide.population))
    notes = _verify_notes(prepared, wide, len(fresh))
    return _Plan(
        replace(
            prepared,
            config=_settings_of(prepared),
            bad=fix,
            axes=changed_axes(prepared.good, fix),
            sample=_sample_of_rows(wide, [*kept, *fresh, *touched]),
            notices=(*prepared.notices, *notes),
            question=VerifyQuestion(run, rule, Three(prepared.good, prepared.bad, fix, repeats_from=_repeats_from(run, fix))),
        ),
        rule,
        metric,
        run,
        prepared.bad.name,
        len(broken),
        len(fresh),
        len(touched),
    )


def _check_run(prepared: Prepared, run: str, settings: Mapping[str, Any]) -> None:
    if "verify" in settings:
        raise InputError(
            f"run {run} is a verification itself; name the run that found what broke (`bisect-ai runs` lists them)"
        )
    for side, release in (("good", prepared.good), ("bad", prepared.bad)):
        if settings[side]["digest"] != release.digest:
            raise InputError(
                f"cannot verify a fix of run {run}: its {side} release ({settings[side]['name']}) was another than {release.name} "
                f"is now; name the file as it was then with --{side}"
            )
    if settings["metric"] != prepared.metric.name:
        raise InputError(
            f"cannot verify a fix of run {run}: it was decided by {settings['metric']}, not by {prepared.metric.name}; "
            f"use --metric {settings['metric']}"
        )
    if prepared.target.identity.get("kind") == "recorded":
        raise InputError(
            "cannot verify a fix with a recorded target: it has no new answers, and the stored ones chose the queries"
        )


def _check_fix(prepared: Prepared, fix: Release) -> None:
    for side, release in (("good", prepared.good), ("bad", prepared.bad)):
        if not changed_axes(release, fix):
            raise InputError(f"nothing to verify: the fix {fix.name} is the {side} release {release.name} in every axis")
    check_tools = getattr(prepared.target, "check_tools", None)
    if check_tools is not None:
        check_tools(fix.axes)
    check_caps = getattr(prepared.target, "check_caps", None)
    if check_caps is not None:  # a model that only the fix names must have a price too, where money is capped
        check_caps(prepared.good.axes, fix.axes)
    sides = (prepared.good, prepared.bad)
    others = [axis for axis in fix.axes if all(changed_axis(side, fix, axis) for side in sides)]
    if prepared.target.identity.get("send") == "flags" and others:
        raise InputError(
            f"cannot verify {fix.name}: the service is only told good or bad for each axis, and {', '.join(others)} of the fix is "
            "neither; use `send: axes`"
        )


def changed_axis(one: Release, other: Release, axis: str) -> bool:
    """Whether an axis differs between two releases."""
    return axis in changed_axes(one, other)


def _settings_of(prepared: Prepared) -> Any:
    """The settings of the verification: no drill-down, and no logged score counts for an answer."""
    config = prepared.config
    return config.model_copy(update={"drill": False, "log": config.log.model_copy(update={"reuse": False})})


def _repeats_from(run: str, fix: Release) -> int:
    """Repeat numbers that no run uses, and no verification of another fix."""
    return 1_000 + PASSES_APART * int(digest([run, fix.digest])[:6], 16)


# Repeat numbers between two verifications, at least.
PASSES_APART = 16


def _wider_sample(prepared: Prepared, queries: Any, folder: Path) -> Sample:
    """The run's sample and more of its log: the order is a hash of seed and id, so a larger sample holds a smaller one."""
    config = prepared.config
    if config.log.sample is None:
        return prepared.sample
    settings = replace(config.log.settings(config.seed), sample=config.log.sample + OTHERS)
    return load_queries(queries if queries is not None else config.log.path, settings=settings, folder=folder)


def _with_logged(scores: dict[str, FirstScores], prepared: Prepared, wide: Sample) -> dict[str, FirstScores]:
    """With `reuse`, the log's own score where the run took it for a trial."""
    name, found = prepared.metric.name, dict(scores)
    for query in wide.queries if prepared.config.log.reuse else ():
        logged, known = query.scores.get(name), scores.get(query.id)
        if logged is None or known is None:
            continue
        if query.release == prepared.good.name and known.good is None:
            found[query.id] = replace(known, good=logged)
        elif query.release == prepared.bad.name and known.bad is None:
            found[query.id] = replace(known, bad=logged)
    return found


def _metric_of_scores(prepared: Prepared, scores: Mapping[str, FirstScores]) -> Metric:
    """The metric as the run saw it."""
    return prepared.metric.as_seen(np.array([[pair.good, pair.bad] for pair in scores.values()], float).ravel())


def _verify_rule(prepared: Prepared, scores: Mapping[str, FirstScores], metric: Metric) -> VerifyRule:
    """The scale of the scores: [0, 1] where they are shares, else what 98 % of the run's first scores span."""
    lowest, highest = scale_of_scores(scores, metric)
    config, tolerance = prepared.config, prepared.config.tolerance
    good = np.array([pair.good for pair in scores.values() if pair.good is not None], float)
    is_unset = metric.bounded is None and "tolerance" not in config.model_fields_set
    if is_unset and len(good) and is_open(good, metric.own_unit):
        tolerance = relative(good)  # as in the run that it is to fix
    return VerifyRule(0, 0, config.alpha, tolerance, lowest, highest)


def _most_broken(prepared: Prepared, wide: Sample, scores: Mapping[str, FirstScores], rule: VerifyRule, run: str) -> list[int]:
    """The queries that lost most: a quarter of the scale or more; where none did, more than the tolerance."""
    sign = prepared.metric.sign

    def unit(pair: FirstScores, side: str) -> float | None:
        """A side's score on the rule's scale; a call that failed is the lowest."""
        score = getattr(pair, side)
        return 0.0 if side in pair.failed else None if score is None else rule.unit(sign * score)

    lost = {
        q: good - bad
        for q, query in enumerate(wide.queries)
        if (pair := scores.get(query.id)) is not None
        if (good := unit(pair, "good")) is not None and (bad := unit(pair, "bad")) is not None
    }
    # A quarter of a score broke; else whatever is below the margin.
    found = [q for q, loss in lost.items() if loss >= 0.25] or [q for q, loss in lost.items() if loss > rule.margin]
    if not found:
        which = "none of its queries is in the log any more" if scores and not lost else "no query broke in it"
        raise InputError(f"nothing to verify in run {run}: {which}")
    return found


def _sample_of_rows(wide: Sample, rows: Sequence[int]) -> Sample:
    queries: tuple[Query, ...] = tuple(wide.queries[q] for q in rows)
    return replace(
        wide,
        queries=queries,
        weights=tuple(wide.weights[q] for q in rows),
        clusters=None if wide.clusters is None else tuple(wide.clusters[q] for q in rows),
        segments=None if wide.segments is None else tuple(wide.segments[q] for q in rows),
        digest=digest([query.digest for query in queries]),
        missing=lacking(queries),
    )


def _verify_notes(prepared: Prepared, wide: Sample, fresh: int) -> list[str]:
    lines = []
    if fresh < FEWEST_FRESH:
        lines.append(
            f"the run left only {fresh} queries of the log untouched, so those that it touched were answered anew, too"
        )
    if wide.clusters is not None and len(wide) < wide.population:
        lines.append(f"the verdict speaks of the {len(wide)} logged queries that were drawn, whole users at a time")
    if prepared.config.log.reuse:
        lines.append("logged scores (reuse) told what broke; none counts here")
    return lines


# -- the report -----------------------------------------------------------------------------------------------------------
def _verify_block(plan: _Plan, found: VerifyFinding, *, calls: int) -> VerifyBlock:
    """The report's `verify` block; values are in the metric's units, losses in points with a loss positive."""
    return VerifyBlock(
        kind=found.kind,
        run=plan.run,
        bad=plan.bad,
        fix=plan.prepared.bad.name,
        bound=found.bound,
        restore=RESTORE,
        tolerance=plan.rule.tolerance,
        again=_verified_again(plan, found),
        others=_verified_others(plan, found),
        failed=found.failed,
        calls=calls,
    )


def _verified_again(plan: _Plan, found: VerifyFinding) -> VerifiedAgain:
    again = found.again
    return VerifiedAgain(
        queries=again.queries,
        broke=plan.broke,
        passes=again.passes,
        restored=reported_estimate(again.restored),
        good=_in_metric_units(again.good, plan),
        bad=_in_metric_units(again.bad, plan),
        fix=_in_metric_units(again.fix, plan),
        evidence=RepairEvidence(fixed=again.fixed, not_fixed=again.not_fixed),
    )


def _verified_others(plan: _Plan, found: VerifyFinding) -> VerifiedOthers:
    others = found.others
    return VerifiedOthers(
        queries=others.queries,
        population=plan.rule.others,
        untouched=plan.untouched,
        touched=min(plan.touched, max(others.queries - plan.untouched, 0)),
        loss=reported_estimate(others.loss),
        good=_in_metric_units(others.good, plan),
        fix=_in_metric_units(others.fix, plan),
        evidence=CollateralEvidence(clean=others.clean, collateral=others.collateral),
    )


def _in_metric_units(estimate: Estimate, plan: _Plan) -> ReportedEstimate:
    value, interval = plan.metric.value(estimate.value), plan.metric.mean_ends(estimate.interval)
    return ReportedEstimate(estimate=value, interval=interval, n=estimate.n, method=estimate.method)
