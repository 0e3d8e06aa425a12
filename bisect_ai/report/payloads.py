"""What is sent to places that are told of a verdict: the facts that fit in a message. Built from the report; nothing is sent here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import Report, ReportLike
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.report.verdict_sentence import verdict_sentence

SCHEMA = "bisect-ai/verdict@1"
# Characters of a sentence in a chat.
LONGEST = 2000
_FINE = {"no_regression", "promote", "steady", "fixed", "improvement", "equivalent", "no_worse"}
_HARM = {"cause", "roll_back", "onset", "regression", "not_fixed", "fixed_with_collateral"}


def question_of(report: Report) -> str:
    """What was asked: the command's name."""
    asked: dict[str, object] = {"gate": report.gate, "audit": report.audit, "verify": report.verify, "canary": report.canary}
    asked |= {"drift": report.drift, "onset": report.onset, "compare": report.compare}
    return next((name for name, block in asked.items() if block is not None), "run")


def outcome_of(report: Report) -> str:
    """A verdict in one of four words: not_worse, worse, undecided, or failed where nothing was measured."""
    if report.gate:
        return report.gate.outcome
    if report.audit:
        return {"healthy": "not_worse", "regression": "worse"}.get(report.audit.kind, "undecided")
    kind = report.verdict.kind
    if kind in _HARM or (kind == "drift" and report.drift is not None):
        return "worse"
    return "not_worse" if kind in _FINE else "undecided"


def webhook(report: ReportLike) -> Mapping[str, object]:
    """The verdict as JSON for programs; `axes` are those to blame, numbers are in the metric's units."""
    report = read(Report, report)
    loss = report.loss
    return {
        "schema": SCHEMA,
        "question": question_of(report),
        "outcome": outcome_of(report),
        "kind": report.verdict.kind,
        "sentence": verdict_sentence(report),
        "good": report.good,
        "bad": report.bad,
        "metric": report.metric,
        "loss": loss.estimate,
        "interval": list(loss.interval) if loss.interval else None,
        "axes": [axis for cause in report.verdict.causes for axis in cause.axes],
        "safe_to_revert": report.canary.safe_to_revert if report.canary else None,
        "run": report.run,
    }


def slack(report: ReportLike) -> Mapping[str, object]:
    """The message of an incoming webhook: plain text, in which nothing mentions, links or formats."""
    report = read(Report, report)
    head = f"bisect-ai {question_of(report)}: {outcome_of(report).replace('_', ' ')}"
    text = f"{head}\n{one_line(verdict_sentence(report), limit=LONGEST)}\nrun {one_line(report.run)}"
    block = {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}}
    return {"text": _unmarked(head), "blocks": [block], "unfurl_links": False, "unfurl_media": False}


def _unmarked(text: str) -> str:
    """As Slack asks text to be escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def langfuse(report: ReportLike, *, at: str) -> Mapping[str, object]:
    """A batch for Langfuse's ingestion: a trace that is the question, and its verdict as a score. The same run is the same trace."""
    report = read(Report, report)
    name, trace = _traced(report)
    told = webhook(report)
    events: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("trace-create", {"id": trace, "name": name, "timestamp": at, "output": verdict_sentence(report), "metadata": told}),
        ("score-create", _score(trace, "verdict", outcome_of(report), "CATEGORICAL", verdict_sentence(report))),
    )
    if report.loss.estimate is not None:
        events += (("score-create", _score(trace, "loss", report.loss.estimate, "NUMERIC", report.metric)),)
    return {
        "batch": [
            {"id": f"{trace}-{n}-{at}", "timestamp": at, "type": kind, "body": body} for n, (kind, body) in enumerate(events)
        ]
    }


def _traced(report: Report) -> tuple[str, str]:
    """The name of a question's trace, and its id: the same for the same question of the same run."""
    name = f"bisect-ai {question_of(report)}"
    return name, hashlib.sha256(f"{name} {report.run} {report.good} {report.bad}".encode()).hexdigest()[:32]


def phoenix_span(report: ReportLike, *, at: str) -> Mapping[str, object]:
    """The body of Phoenix's `POST /v1/projects/{project}/spans`: a span that is the question, to which a verdict is annotated."""
    report = read(Report, report)
    name, trace = _traced(report)
    said = {"input.value": f"{report.good} to {report.bad}", "output.value": verdict_sentence(report)}
    span = {"name": name, "context": {"trace_id": trace, "span_id": trace[:16]}, "span_kind": "EVALUATOR", "status_code": "OK"}
    return {
        "data": [{**span, "start_time": at, "end_time": at, "attributes": {"openinference.span.kind": "EVALUATOR", **said}}]
    }


def phoenix_annotations(report: ReportLike) -> Mapping[str, object]:
    """The body of Phoenix's `POST /v1/span_annotations`: the verdict as a label, the loss as a score. Told again, they are updated."""
    report = read(Report, report)
    _, trace = _traced(report)
    results: dict[str, Mapping[str, object]] = {
        "verdict": {"label": outcome_of(report), "explanation": verdict_sentence(report)}
    }
    if report.loss.estimate is not None:
        results["loss"] = {"score": report.loss.estimate, "explanation": report.metric}
    common = {"span_id": trace[:16], "annotator_kind": "CODE", "identifier": "bisect-ai", "metadata": webhook(report)}
    return {"data": [{**common, "name": name, "result": result} for name, result in results.items()]}


def _score(trace: str, name: str, value: object, kind: str, said: str) -> Mapping[str, object]:
    return {"id": f"{trace}-{name}", "traceId": trace, "name": name, "value": value, "dataType": kind, "comment": said}
