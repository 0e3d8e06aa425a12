"""`audit`: is the current release worse than the last good one? And `gate`: is a change (a pull request) worse than what it began from?
If so, which change did it.

An audit is a run of its own in the store (`attribution.audit` explains its rule); a regression is followed by an ordinary run
over the same answers. What an audit noted of itself (`record`) is the line of the history, and the evidence that the next audit of
the same two releases starts from: unless both look at the same queries, whose answers must not count twice.

A gate's question is an audit's, asked once and of answers only: a call that failed says nothing of a change. When so many failed that
nothing can be said, or the target stopped for good, that is an outcome of its own, `failed`: neither worse nor fine. What becomes
worse is bisected with what is left of the budget; that this went wrong does not undo the verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from bisect_ai.attribution.questions.audit import AuditFinding, AuditRule
from bisect_ai.canonical import digest
from bisect_ai.config import FILE, RepositorySettings, checked_part, heed_secrets_of
from bisect_ai.errors import BisectError, TargetFailure, Unchanged
from bisect_ai.facts.build import summarise
from bisect_ai.facts.report_view import SCHEMA, told_report
from bisect_ai.facts.sessions import Progress, keep_report, result_of, store_of, watched
from bisect_ai.release.source_files import commit_of, merge_base, repository_of
from bisect_ai.replay.interrupts import Stop
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.report.run_blocks import AuditBlock, GateBlock
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Spending, Watch
from bisect_ai.runs.outcomes import Outcomes, with_what_is_left
from bisect_ai.runs.plan_run import price_of_calls
from bisect_ai.runs.prepare import started
from bisect_ai.runs.prepared import Prepared, loss_to_detect
from bisect_ai.runs.question import AuditQuestion, GateQuestion
from bisect_ai.runs.run_accounts import spent_on, unfinished_of
from bisect_ai.runs.study import Study
from bisect_ai.store.trial_store import Store


def audit(config: str | Path | None = None, *, queries: Any = None, progress: Progress = False, **given: Any) -> Result:
    """Whether the bad release is worse than the good one, sequentially; if it is, the verdict on which change did it.

    Takes what `bisect_ai.run` takes, and `audit={"detect": …, "miss": …, "per_year": …}`. The result's report has an `audit` block:
    `kind` (healthy, regression, undecided), `evidence` and its `bound`, `queries`, `calls`.
    """
    return started(execute_audit, given, config=config, queries=queries, watching=watched(progress))


def execute_audit(prepared: Prepared, /, *, folder: Path, watch: Watch | None = None, stop: Stop | None = None) -> Result:
    """Run (or resume) the audit of a prepared study, and the bisection after a regression."""
    with store_of(prepared, folder) as store:
        rule = _audit_rule(prepared, store)
        asked = replace(prepared, question=AuditQuestion(rule))
        outcomes = Study(asked, store, watch=watch, stop=stop).run()
        found = outcomes.finding
        assert isinstance(found, AuditFinding)
        if found.kind == "healthy" and "good" in _failing_sides(found) and not asked.config.keep_going:
            told = f"{_failures_told(found, outcomes, ('good', 'bad'))}; so it cannot be said that nothing is lost"
            raise TargetFailure(f"{told}: mend the target and run the same command again, or insist with --keep-going")
        block = _audit_block(asked, rule, found, outcomes)
        report = summarise(outcomes, damage=store.damage, audit=block)
        if all(a["run"] != asked.run_id for a in store.audits):
            store.finish(asked.run_id, {"audit": _record(asked, found), "at": _now_microseconds(), "report": report})
        if found.kind == "regression":
            outcomes = _bisected_after(outcomes, prepared, store, watch=watch, stop=stop)
            report = summarise(outcomes, damage=store.damage, audit=block)
            keep_report(store, outcomes, report)
    return result_of(outcomes, report, store)


def _bisected_after(
    audited: Outcomes, prepared: Prepared, store: Store, *, watch: Watch | None = None, stop: Stop | None = None
) -> Outcomes:
    """The bisection of what an audit found, with what it left of the budget; its cost holds the audit's."""
    found = Study(with_what_is_left(prepared, audited), store, watch=watch, stop=stop).run()
    found.ledger.follow(audited.ledger)
    return found


def _audit_block(prepared: Prepared, rule: AuditRule, found: AuditFinding, outcomes: Outcomes) -> AuditBlock:
    """The report's `audit` block."""
    return AuditBlock(
        kind=found.kind,
        evidence=found.evidence,
        bound=found.bound,
        detect=rule.detect,
        per_year=rule.per_year,
        carried=bool(rule.carried),
        queries=found.queries,
        failed_queries=found.failed,
        calls=outcomes.ledger.paid.calls,
        run=prepared.run_id,
    )


def _now_microseconds() -> int:
    return time.time_ns() // 1000


def _audit_rule(prepared: Prepared, store: Store) -> AuditRule:
    """The rule, with the evidence that it starts from: a resumed audit starts from what it started from."""
    audit = prepared.config.audit
    rule = AuditRule(prepared.config.alpha, audit.per_year, loss_to_detect(prepared.config, prepared.metric), audit.miss)
    begun = store.runs.get(replace(prepared, question=AuditQuestion(rule)).run_id)
    if begun is not None:
        return replace(rule, carried=tuple(begun["settings"].get("carried", ())))
    earlier = [a for a in store.audits if a["audit"]["pair"] == _audit_pair(prepared)]
    seen = {query for a in earlier for query in a["audit"]["seen"]}
    if not earlier or not seen.isdisjoint(_query_digests(prepared)):
        return rule
    last = max(earlier, key=lambda a: int(a["at"]))
    return replace(rule, carried=tuple(last["audit"]["carry"]))


def _audit_pair(prepared: Prepared) -> str:
    """What makes two audits ask the same question of different queries."""
    settings = prepared.settings
    return digest({key: settings[key] for key in ("good", "bad", "target", "scorers", "metric", "higher_is_better")})[:16]


def _query_digests(prepared: Prepared) -> list[str]:
    return [query.digest[:12] for query in prepared.sample.queries]


def _record(prepared: Prepared, found: AuditFinding) -> dict[str, Any]:
    """What the store notes of a finished audit for the next one."""
    return {"pair": _audit_pair(prepared), "kind": found.kind, "carry": list(found.carry), "seen": _query_digests(prepared)}


# The chance that a change which is not worse is stopped, at most: people stop heeding a gate that cries wolf.
ALPHA = 0.02
# The chance that a loss of `detect` is let pass, at most.
MISS = 0.05
# The part of the calls under one of the two from which on their failing is the news.
FAILED = 0.1

NOTHING = Spending()

Announce = Callable[[str], None]


def gate(
    config: str | Path = FILE,
    *,
    base: str,
    head: str = "HEAD",
    queries: Any = None,
    progress: bool = False,
    announce: Announce | None = None,
    **given: Any,
) -> Result:
    """Whether `head` is worse than the commit at which it left `base`; if so, the verdict on which change did it.

    Takes what `bisect_ai.run` takes but for `good` and `bad`; `announce` is told the price before anything is spent. The report's
    `gate` block has `outcome`: not_worse, worse, undecided, failed. Raises `InputError` (nothing can be compared) and `Interrupted`.
    """
    block = _unasked(Path(config), base, head)
    work = partial(execute_gate, block=block, announce=announce)
    revisions = {"good": {"git": block.base_commit}, "bad": {"git": block.head_commit}}
    try:
        return started(work, {**given, **revisions}, config=config, queries=queries, watching=watched(progress))
    except Unchanged:
        why = "no axis of the release differs from where the change began"
        return without_run(block.model_copy(update={"outcome": "not_worse", "reason": why}), kind="no_regression")
    except TargetFailure as failure:
        return without_run(block.model_copy(update={"outcome": "failed", "reason": str(failure)}))


def _unasked(config: Path, base: str, head: str) -> GateBlock:
    """The gate of two revisions of the repository that the settings name, before it is asked. Raises `InputError`."""
    path = config / FILE if config.is_dir() else config
    written = heed_secrets_of(path)
    repo = checked_part(
        RepositorySettings, {k: written[k] for k in RepositorySettings.model_fields if k in written}, where=str(path)
    ).repo
    folder = path.resolve().parent / repo
    top, _ = repository_of(folder)
    here = path.resolve()
    place = here.relative_to(top.resolve()).as_posix() if here.is_relative_to(top.resolve()) else path.name
    began, commit = merge_base(folder, base, head), commit_of(folder, head)
    return GateBlock(outcome="undecided", base=base, head=head, base_commit=began, head_commit=commit, config=place, reason="")


def execute_gate(
    prepared: Prepared,
    /,
    *,
    folder: Path,
    block: GateBlock,
    announce: Announce | None,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> Result:
    """Run (or resume) the gate of a prepared study, and the bisection of a change that is worse."""
    settings = prepared.config
    rule = AuditRule(min(settings.alpha, ALPHA), 1, loss_to_detect(settings, prepared.metric, least_counts=True), MISS)
    asked = replace(prepared, question=GateQuestion(rule))
    block = _priced(block, prepared, rule)
    if announce is not None:
        announce(price_line(block))
    with store_of(prepared, folder) as store:
        try:
            outcomes = Study(asked, store, watch=watch, stop=stop).run()
        except TargetFailure as failure:
            failed = block.model_copy(update={"outcome": "failed", "reason": str(failure)})
            return without_run(failed, spent=spent_on(store, asked.run_id))
        found = outcomes.finding
        assert isinstance(found, AuditFinding)
        report = summarise(outcomes, damage=store.damage, audit=_audit_block(asked, rule, found, outcomes))
        block = _judged(block, found, report, outcomes)
        told = _with_gate(report, block)
        keep_report(store, outcomes, told)
        if block.outcome == "worse":
            outcomes, told = _followed(prepared, outcomes, told, store, watch, stop)
    return result_of(outcomes, told, store)


def _followed(
    prepared: Prepared, outcomes: Outcomes, told: dict[str, Any], store: Store, watch: Watch | None, stop: Stop | None
) -> tuple[Outcomes, dict[str, Any]]:
    """The bisection of a change that is worse; when the target fails meanwhile, the cause is open and the verdict stands."""
    report = read(Report, told)
    assert report.gate is not None
    try:
        found = _bisected_after(outcomes, prepared, store, watch=watch, stop=stop)
    except TargetFailure as failure:
        return outcomes, _with_gate(told, report.gate.model_copy(update={"reason": str(failure)}))
    bisected = summarise(found, damage=store.damage, audit=report.audit)
    told = _with_gate(bisected, report.gate)
    keep_report(store, found, told)
    return found, told


def _judged(block: GateBlock, found: AuditFinding, report: Mapping[str, Any], outcomes: Outcomes) -> GateBlock:
    """The outcome: what the evidence says, unless calls that failed leave nothing to say."""
    if _failing_sides(found) and not outcomes.prepared.config.keep_going:
        told = _failures_told(found, outcomes, ("the base", "the head"))
        return block.model_copy(update={"outcome": "failed", "reason": told})
    audited = read(Report, report).audit
    kind = audited.kind if audited else "undecided"
    return block.model_copy(update={"outcome": {"healthy": "not_worse", "regression": "worse"}.get(kind, "undecided")})


def _failing_sides(found: AuditFinding) -> list[str]:
    """Of good and bad those under which so many calls failed that this is the news."""
    return [side for side, (runs, failed) in zip(("good", "bad"), found.cells, strict=True) if failed > FAILED * runs]


def _failures_told(found: AuditFinding, outcomes: Outcomes, names: Sequence[str]) -> str:
    counts = [f"{failed} of {runs} under {name}" for name, (runs, failed) in zip(names, found.cells, strict=True)]
    errors = [row.answer.error for row in outcomes.ledger.observations if row.answer.error]
    return f"calls failed: {', '.join(counts)}{f', last with: {errors[-1]}' if errors else ''}"


def without_run(block: GateBlock, *, kind: str = "failed", spent: Spending = NOTHING) -> Result:
    """The result of a gate that measured nothing, though it may have `spent`."""
    verdict, usage = Verdict(kind=kind, reason=block.reason), RunUsage(**asdict(spent))
    report = Report(schema_=SCHEMA, good=block.base, bad=block.head, metric="", gate=block, verdict=verdict, usage=usage)
    return Result(_with_gate(as_mapping(report), block), spent)


def unstarted(config: Path, base: str, head: str, error: BaseException) -> Result:
    """The result of a gate that could not be asked, or was stopped, with what it had cost by then."""
    told = str(error) if isinstance(error, BisectError) else f"{type(error).__name__}: {error}"
    block, of = GateBlock(outcome="failed", base=base, head=head, config=config.name, reason=told), unfinished_of(error)
    return without_run(block, spent=NOTHING if of is None else of.spent)


def _with_gate(report: Mapping[str, Any], block: GateBlock) -> dict[str, Any]:
    """The report with its gate, and the sentence that follows."""
    whole = read(Report, report).model_copy(update={"gate": block})
    if block.outcome == "failed":
        whole = whole.model_copy(update={"verdict": Verdict(kind="failed", reason=block.reason)})
    return told_report(whole)


def _priced(block: GateBlock, prepared: Prepared, rule: AuditRule) -> GateBlock:
    """With what the gate and the bisection after it may cost at the most."""
    budget = prepared.config.budget
    usd = price_of_calls(prepared, budget.calls)
    most = min((each for each in (usd, budget.usd) if each is not None), default=None)
    return block.model_copy(update={"most_calls": budget.calls, "most_usd": most, "detect": rule.detect})


def price_line(block: GateBlock) -> str:
    """What the gate may cost, before it does."""
    usd = "" if block.most_usd is None else f", about {block.most_usd:.2f} USD"
    return f"gate: at most {block.most_calls:,} calls{usd}; it ends as soon as it can tell"
