"""What a verification says: its verdict in a sentence, and the numbers that it rests on, one line each."""

from __future__ import annotations

from collections.abc import Iterator

from bisect_ai.report.phrases import Scale, clipped, count, loss_phrase, plain_number, scale_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.run_blocks import ReportedEstimate, VerifiedOthers, VerifyBlock
from bisect_ai.report.untrusted_text import Quoting

_WHOLE = Scale(share=True, decimals=0)


def verified_sentence(report: Report, told: VerifyBlock, *, quoting: Quoting) -> str:
    """The verdict: fixed, not fixed, fixed with collateral or undecided, and by what numbers."""
    again, others = _asked_again(told), _other_causes_sentence(report, told.others, quoting)
    fix = quoting.name(told.fix)
    if told.kind == "fixed":
        return f"fixed: {fix} {again}; {others}."
    if told.kind == "not_fixed":
        return f"not fixed: {fix} {again}; {others}; a fix must recover {_WHOLE.value(told.restore)}."
    if told.kind == "fixed_with_collateral":
        return f"fixed with collateral: {fix} mends the queries that broke, but {again}; {others}."
    stopped = [stopped] if (stopped := report.verdict.stopped) else []
    calls = report.verdict.calls_needed
    more = [f"about {count(calls, 'more call', 'more calls')} would probably settle it"] if calls else []
    return f"undecided: {'; '.join([*stopped, f'{fix} {again}', others, quoting.prose(report.verdict.reason), *more])}."


def _asked_again(told: VerifyBlock) -> str:
    restored, queries = told.again.restored, count(told.again.queries, "query", "queries")
    if restored.estimate is None:
        return f"was tried on {queries} (how much of the loss it recovers could not be estimated)"
    return f"recovers {_restored_words(restored)} of the net loss"


def _restored_words(restored: ReportedEstimate) -> str:
    """ "98 % (95 % interval 90 to 100)": never more than all or less than nothing."""
    part, ends = clipped(restored.estimate, restored.interval)
    between = f" ({_WHOLE.between(ends)})" if ends else ""
    return f"{_WHOLE.value(part)}{between}"


def _other_causes_sentence(report: Report, others: VerifiedOthers, quoting: Quoting) -> str:
    scale = scale_of(report)
    if not others.queries:
        return "no query was tried"
    queries, metric = count(others.queries, "query", "queries"), quoting.name(report.metric)
    ends = f"{scale.value(others.good.estimate)} to {scale.value(others.fix.estimate)}"
    loss = loss_phrase(others.loss, scale)
    return f"on {queries} drawn at random {metric} goes from {ends} ({loss})"


def verified_lines(report: Report, *, quoting: Quoting) -> Iterator[str]:
    """The numbers behind the verdict, for a list; none where nothing was verified."""
    told, scale = report.verify, scale_of(report)
    if told is None:
        return
    again, others = told.again, told.others
    yield f"Run {quoting.name(told.run)} found what broke: {quoting.name(report.good)} → {quoting.name(told.bad)}"
    yield f"{count(again.queries, 'query', 'queries')} of {others.population} drawn at random, all three releases anew:"
    for value, words in ((again.good, "good"), (again.bad, "bad"), (again.fix, "candidate fix")):
        yield f"  {words} {scale.value(value.estimate)}, {scale.between(value.interval)}"
    bound, evidence = plain_number(told.bound), again.evidence
    share, limit = _WHOLE.value(told.restore), scale.difference(told.tolerance)
    yield (
        f"Evidence that {share} of the net loss, or all but {limit}, is back: {_big_number(evidence.fixed)}; that it is not: "
        f"{_big_number(evidence.not_fixed)} (to pass: {bound})"
    )
    if again.passes:
        broke, passes = count(again.broke, "query", "queries"), count(again.passes, "pass", "passes")
        yield f"Of {broke} that broke in the run some were answered anew, {passes}, to tell whether they are mended"
    loss = loss_phrase(others.loss, scale)
    yield f"Shortfall against good: {loss}"
    clean, collateral = _big_number(others.evidence.clean), _big_number(others.evidence.collateral)
    yield (f"Evidence that it is below {limit}: {clean}; that it is above: {collateral} (to pass: {bound})")


def _big_number(evidence: float) -> str:
    return "over a million" if evidence > 1e6 else plain_number(evidence)
