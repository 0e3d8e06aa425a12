"""`audit`: is the current release worse than the last good one? If so, which change did it.

An audit is a run of its own in the store (`attribution.audit` explains its rule); a regression is followed by an ordinary run
over the same answers. What an audit noted of itself (`record`) is the line of the history, and the evidence that the next audit of
the same two releases starts from: unless both look at the same queries, whose answers must not count twice.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bisect_ai.attribution.questions.audit import AuditFinding, AuditRule
from bisect_ai.canonical import digest
from bisect_ai.facts.build import summarise
from bisect_ai.facts.run_facts import Progress, audit_block, bisected_after, keep_report, result_of, started, store_of
from bisect_ai.replay.interrupts import Stop
from bisect_ai.result import Result
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.question import AuditQuestion
from bisect_ai.runs.study import Study, Watch
from bisect_ai.store.trial_store import Store


def audit(config: str | Path | None = None, *, queries: Any = None, progress: Progress = False, **given: Any) -> Result:
    """Whether the bad release is worse than the good one, sequentially; if it is, the verdict on which change did it.

    Takes what `bisect_ai.run` takes, and `audit={"detect": …, "miss": …, "per_year": …}`. The result's report has an `audit` block:
    `kind` (healthy, regression, undecided), `evidence` and its `bound`, `queries`, `calls`.
    """
    return started(execute_audit, given, config=config, queries=queries, progress=progress)


def execute_audit(prepared: Prepared, /, *, folder: Path, watch: Watch | None = None, stop: Stop | None = None) -> Result:
    """Run (or resume) the audit of a prepared study, and the bisection after a regression."""
    with store_of(prepared, folder) as store:
        rule = _audit_rule(prepared, store)
        asked = replace(prepared, question=AuditQuestion(rule))
        outcomes = Study(asked, store, watch=watch, stop=stop).run()
        found = outcomes.finding
        assert isinstance(found, AuditFinding)
        block = audit_block(asked, rule, found, outcomes)
        report = summarise(outcomes, damage=store.damage, audit=block)
        if all(a["run"] != asked.run_id for a in store.audits):
            store.finish(asked.run_id, {"audit": _record(asked, found), "at": _now_microseconds(), "report": report})
        if found.kind == "regression":
            outcomes = bisected_after(outcomes, prepared, store, watch=watch, stop=stop)
            report = summarise(outcomes, damage=store.damage, audit=block)
            keep_report(store, outcomes, report)
    return result_of(outcomes, report, store)


def _now_microseconds() -> int:
    return time.time_ns() // 1000


def _audit_rule(prepared: Prepared, store: Store) -> AuditRule:
    """The rule, with the evidence that it starts from: a resumed audit starts from what it started from."""
    audit = prepared.config.audit
    rule = AuditRule(prepared.config.alpha, audit.per_year, audit.detect, audit.miss)
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
