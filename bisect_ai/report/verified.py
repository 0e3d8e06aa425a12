"""What a verification says: its verdict in a sentence, and the numbers that it rests on, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai.report.clean import Quoting
from bisect_ai.report.sentences import Report, Scale, count, loss_phrase, plain_number, scale_of

_WHOLE = Scale(share=True, decimals=0)


def verified_sentence(report: Report, *, quoting: Quoting) -> str:
    """The verdict: fixed, not fixed, fixed with collateral or undecided, and by what numbers."""
    told = report["verify"]
    again, others = _again(told), _others(report, quoting)
    fix = quoting.name(told["fix"])
    if told["kind"] == "fixed":
        limit = scale_of(report).difference(told["tolerance"])
        return f"fixed: {fix} {again}; {others}, so that a loss of {limit} is ruled out."
    if told["kind"] == "not_fixed":
        return f"not fixed: {fix} {again}; a fix must bring back {_WHOLE.value(told['restore'])}."
    if told["kind"] == "fixed_with_collateral":
        return f"fixed with collateral: {fix} {again}, but {others}."
    stopped = [stopped] if (stopped := report["verdict"].get("stopped")) else []
    calls = report["verdict"].get("calls_needed")
    more = [f"about {count(calls, 'more call', 'more calls')} would probably settle it"] if calls else []
    return f"undecided: {'; '.join([*stopped, f'{fix} {again}', others, quoting.prose(report['verdict']['reason']), *more])}."


def _again(told: Mapping[str, Any]) -> str:
    restored, queries = told["again"]["restored"], count(told["again"]["queries"], "query", "queries")
    if restored["estimate"] is None:
        return f"was tried on {queries} that broke (how much of the loss is back could not be estimated)"
    return f"brings back {_share(restored)} of what was lost on {queries} that broke"


def _share(restored: Mapping[str, Any]) -> str:
    """ "98 % (95 % interval 90 to 106)" """
    interval = restored["interval"]
    between = f" ({_WHOLE.between(interval)})" if interval else ""
    return f"{_WHOLE.value(restored['estimate'])}{between}"


def _others(report: Report, quoting: Quoting) -> str:
    others, scale = report["verify"]["others"], scale_of(report)
    if not others["queries"]:
        return "no others were tried"
    queries, metric = count(others["queries"], "other", "others"), quoting.name(report["metric"])
    ends = f"{scale.value(others['good']['estimate'])} to {scale.value(others['fix']['estimate'])}"
    loss = loss_phrase(others["loss"], scale)
    return f"on {queries} {metric} goes from {ends} ({loss})"


def verified_lines(report: Report, *, quoting: Quoting) -> Iterator[str]:
    """The numbers behind the verdict, for a list."""
    told, scale = report["verify"], scale_of(report)
    again, others = told["again"], told["others"]
    yield f"Run {quoting.name(told['run'])} found what broke: {quoting.name(report['good'])} → {quoting.name(told['bad'])}"
    passes = count(again["passes"], "pass", "passes")
    yield f"{again['queries']} of {count(again['broke'], 'query', 'queries')} that broke, all three releases anew, {passes}:"
    for name, words in (("good", "good"), ("bad", "bad"), ("fix", "candidate fix")):
        value = again[name]
        yield f"  {words} {scale.value(value['estimate'])}, {scale.between(value['interval'])}"
    bound, evidence = plain_number(told["bound"]), again["evidence"]
    share = _WHOLE.value(told["restore"])
    yield (
        f"Evidence that {share} is back: {_big(evidence['fixed'])}; that it is not: {_big(evidence['not_fixed'])} (to pass: {bound})"
    )
    loss = loss_phrase(others["loss"], scale)
    yield f"{count(others['queries'], 'other query', 'other queries')} of {count(others['population'])}, good and fix anew: {loss}"
    evidence, limit = others["evidence"], scale.difference(told["tolerance"])
    yield (
        f"Evidence that the loss is below {limit}: {_big(evidence['clean'])}; that there is one: {_big(evidence['collateral'])} "
        f"(to pass: {bound})"
    )


def _big(evidence: float) -> str:
    return "over a million" if evidence > 1e6 else plain_number(evidence)
