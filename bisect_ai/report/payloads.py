"""What other places are told of a verdict: messages for hooks, a comment on a pull request, a check run, SARIF with the guilty line.

Built from the report; nothing is sent here. Formats: GitHub's `POST /repos/{owner}/{repo}/check-runs`, and SARIF 2.1.0 (OASIS). Text of
queries, changes and authors is escaped in the comment as in any Markdown report, and is data in the JSON documents.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from bisect_ai.report import markdown
from bisect_ai.report.change_report import whose
from bisect_ai.report.json_edge import read
from bisect_ai.report.phrases import cause_phrase, share_phrase
from bisect_ai.report.planning_values import NamedChange
from bisect_ai.report.report_values import NamedCause, Report, ReportLike, question_of, tone_of
from bisect_ai.report.untrusted_text import PLAIN, one_line
from bisect_ai.report.verdict_sentence import verdict_sentence

SCHEMA = "bisect-ai/verdict@1"
# Characters of a sentence in a chat.
LONGEST = 2000


def outcome_of(report: Report) -> str:
    """A verdict in one of four words: not_worse, worse, undecided, or failed where nothing was measured."""
    if report.gate:
        return report.gate.outcome
    if report.audit:
        return {"healthy": "not_worse", "regression": "worse"}.get(report.audit.kind, "undecided")
    tone = tone_of(report)
    if tone == "harm" or report.verdict.kind == "fixed_with_collateral":
        return "worse"
    return "not_worse" if tone == "help" else "undecided"


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


# Characters of a comment and of a check's summary; GitHub takes 65,536.
LONGEST_COMMENT = 60_000
# Annotations that GitHub takes in one request.
MOST_NOTES = 50
TITLES = {
    "not_worse": "Not worse",
    "worse": "Worse",
    "undecided": "Could not tell",
    "failed": "No verdict: nothing was measured",
}
CONCLUSIONS = {"not_worse": "success", "worse": "failure", "undecided": "neutral", "failed": "action_required"}
EXIT_CODES = {"not_worse": 0, "worse": 1, "undecided": 3, "failed": 4}
_FILE_LINE = re.compile(r"([^:]+):\+?(\d+)")  # a change whose path is a file with a line
_WHOLE_FILE = re.compile(r"[^:\s][^:]*\.[A-Za-z0-9]+")  # a change whose path is a file


@dataclass(frozen=True)
class GuiltyPlace:
    """A place in the repository with what is said of it; `line` None: the file as a whole."""

    file: str
    line: int | None
    message: str


def marker_of(report: ReportLike) -> str:
    """The first line of a comment: whoever posts it looks for it, and edits that comment. There is one for each question."""
    return f"<!-- bisect-ai {question_of(read(Report, report))} -->"


def comment(report: ReportLike) -> str:
    """The comment in Markdown: the marker, then the report, whole sections of it where it is too long."""
    text = f"{marker_of(report)}\n{markdown.render(report)}"
    if len(text) <= LONGEST_COMMENT:
        return text
    sections = text.split("\n\n### ")
    kept = sections[0][:LONGEST_COMMENT]
    for section in sections[1:]:
        if len(kept) + len(section) > LONGEST_COMMENT - 200:  # room for the last line
            break
        kept += f"\n\n### {section}"
    return f"{kept}\n\nThe rest is in the report's files: it is too long for a comment.\n"


def check_run(report: ReportLike, *, sha: str = "") -> str:
    """The body of a check run as JSON: conclusion, summary and annotations on the guilty lines."""
    report = read(Report, report)
    outcome = outcome_of(report)
    commit = report.gate.head_commit if report.gate else sha
    notes = [
        {
            "path": place.file,
            "start_line": place.line or 1,
            "end_line": place.line or 1,
            "annotation_level": "failure",
            "message": place.message,
        }
        for place in list(guilty_places(report))[:MOST_NOTES]
    ]
    summary = comment(report).removeprefix(f"{marker_of(report)}\n")
    output = {"title": TITLES[outcome], "summary": summary, "annotations": notes}
    body = {
        "name": f"bisect-ai {question_of(report)}",
        "head_sha": commit,
        "status": "completed",
        "conclusion": CONCLUSIONS[outcome],
    }
    return _json({**body, "output": output})


def sarif(report: ReportLike, *, version: str = "") -> str:
    """The report as SARIF 2.1.0: a result for each guilty place, the failure of an infrastructure as a notification."""
    report = read(Report, report)
    outcome = outcome_of(report)
    driver: Mapping[str, object] = {"name": "bisect-ai", "rules": [_RULE], **({"version": version} if version else {})}
    results = [_sarif_result(place, report) for place in guilty_places(report)]
    run = {"tool": {"driver": driver}, "invocations": [_invocation(report, outcome)], "columnKind": "unicodeCodePoints"}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return _json({"$schema": schema, "version": "2.1.0", "runs": [{**run, "results": results}]})


_RULE: Mapping[str, object] = {
    "id": "quality-loss",
    "shortDescription": {"text": "A change lowers the quality of answers"},
    "fullDescription": {"text": "Replayed queries score lower with this change than without it."},
    "defaultConfiguration": {"level": "error"},
}


def guilty_places(report: Report) -> Iterator[GuiltyPlace]:
    """Where a worse change does harm: named lines, else the files of the guilty axes, else the settings file."""
    if outcome_of(report) != "worse":
        return
    found = [place for cause in report.verdict.causes for place in _places_of(cause, report)]
    settings = report.gate.config if report.gate else ""
    yield from found or [GuiltyPlace(settings or "bisect.yaml", 1, verdict_sentence(report))]


def _places_of(cause: NamedCause, report: Report) -> Iterator[GuiltyPlace]:
    said = f"{cause_phrase(cause)}: {share_phrase(cause)}"
    named = cause.changes or tuple(change for change in report.changes if change.axis in cause.axes)
    for change in named:
        if (where := _where(change)) is not None:
            told = one_line(change.summary, limit=300)
            yield GuiltyPlace(*where, f"{said}. {told}; {whose(change, PLAIN)}" if cause.changes else f"{said}. {told}")


def _where(change: NamedChange) -> tuple[str, int | None] | None:
    """The file and line of a change: as git has it, else as its path says."""
    origin = change.origin
    if isinstance(origin.file, str) and origin.file:
        return origin.file, origin.line if isinstance(origin.line, int) and origin.line > 0 else None
    if (found := _FILE_LINE.fullmatch(change.path)) is not None:
        return found.group(1), int(found.group(2))
    return (change.path, None) if _WHOLE_FILE.fullmatch(change.path) else None


def _sarif_result(place: GuiltyPlace, report: Report) -> dict[str, object]:
    where: dict[str, object] = {"artifactLocation": {"uri": quote(place.file), "uriBaseId": "%SRCROOT%"}}
    where |= {"region": {"startLine": place.line}} if place.line else {}
    return {
        "ruleId": "quality-loss",
        "level": "error",
        "message": {"text": place.message},
        "locations": [{"physicalLocation": where}],
        "partialFingerprints": {"bisectAi/v1": f"{report.metric}:{place.file}"},
    }


def _invocation(report: Report, outcome: str) -> dict[str, object]:
    ended: dict[str, object] = {"executionSuccessful": outcome != "failed", "exitCode": EXIT_CODES[outcome]}
    if outcome in ("worse", "not_worse"):
        return ended
    level = "error" if outcome == "failed" else "warning"
    return {**ended, "toolExecutionNotifications": [{"level": level, "message": {"text": verdict_sentence(report)}}]}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
