"""A report as JUnit XML for CI: one suite, a case for each check (no regression, agreement with the log, every axis).

Written by the standard library; text is cleaned first, so that it has no character that XML forbids and nothing that a runner obeys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from bisect_ai.report.accounting import usage_sentence
from bisect_ai.report.json_edge import read
from bisect_ai.report.measured_values import CompareBlock
from bisect_ai.report.phrases import cause_phrase, share_phrase
from bisect_ai.report.report_values import UNMEASURED, Report, ReportLike, is_of_watching, tone_of
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.report.verdict_sentence import verdict_sentence
from bisect_ai.report.vocabulary import TONES

State = Literal["passed", "failure", "error", "skipped"]
_DISAGREES = {"drift", "not_reproduced", "traffic"}
# By the tone of a verdict.
_STATE_OF: Mapping[str, State] = {"help": "passed", "quiet": "passed", "harm": "failure", "warn": "error"}
# A gate that could not tell is yellow; one that could not measure is an error, which is no failure.
_GATED: Mapping[str, State] = {"not_worse": "passed", "worse": "failure", "undecided": "skipped"}
_UNDECIDED = {"inconclusive", "drift"}


@dataclass(frozen=True)
class Check:
    """One test case: what was checked, how it went, and one line on why."""

    name: str
    state: State
    kind: str
    message: str


def render(report: ReportLike) -> str:
    """The report as a JUnit XML document."""
    report = read(Report, report)
    checks = list(_checks(report))
    metric = one_line(report.metric)
    totals = {f"{word}s" if word != "skipped" else word: str(sum(c.state == word for c in checks)) for word in _STATES}
    shared = {"tests": str(len(checks)), **totals, "time": f"{report.usage.seconds or 0:.3f}"}
    root = ElementTree.Element("testsuites", {"name": "bisect-ai", **shared})
    name = f"bisect-ai {one_line(report.good)} -> {one_line(report.bad)}" if report.good else "bisect-ai"
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **shared})
    _properties(suite, report)
    for check in checks:
        _case(suite, check, classname=f"bisect-ai.{metric}" if metric else "bisect-ai")
    out = ElementTree.SubElement(suite, "system-out")
    out.text = f"{verdict_sentence(report)} Cost: {usage_sentence(report.usage)}."
    return _document(root)


def _document(root: ElementTree.Element) -> str:
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


_STATES: tuple[State, ...] = ("failure", "error", "skipped")


def _checks(report: Report) -> Iterator[Check]:
    kind, sentence = report.verdict.kind, verdict_sentence(report)
    if report.gate:
        yield Check("not worse than the base", _GATED.get(report.gate.outcome, "error"), report.gate.outcome, sentence)
        for axis in report.axes if report.gate.outcome == "worse" else ():
            yield _axis(report, axis, kind)
        return
    if kind in UNMEASURED:
        yield Check("a verdict is reached", "error", kind, one_line(report.verdict.reason))
        return
    if report.canary:
        yield Check("canary", _STATE_OF[tone_of(report)], kind, sentence)
        return
    if is_of_watching(report):
        yield Check("no drift" if report.drift else "no onset of a loss", _STATE_OF[tone_of(report)], kind, sentence)
        return
    if report.compare:
        yield from _compared(report, report.compare)
        return
    if report.verify:
        yield from _verified(report.verify.kind, sentence)
        return
    yield Check("no regression", _STATE_OF[tone_of(report)], kind, sentence)
    if report.loss.logged or kind in _DISAGREES:
        yield Check("replay agrees with the log", "failure" if kind in _DISAGREES else "passed", kind, sentence)
    for axis in report.axes:
        yield _axis(report, axis, kind)


def _compared(report: Report, block: CompareBlock) -> Iterator[Check]:
    """A case for each configuration beside the first; the leading one with the whole sentence."""
    for number, pair in enumerate(block.pairs):
        leads = number == block.lead
        message = verdict_sentence(report) if leads else f"{pair.kind.replace('_', ' ')}: {one_line(pair.reason)}"
        yield Check(
            f"{one_line(pair.bad)} is no worse than {one_line(report.good)}",
            _STATE_OF[TONES[pair.kind]],
            pair.kind,
            message,
        )


def _verified(kind: str, sentence: str) -> Iterator[Check]:
    """What broke is back, and nothing else is lost."""
    back: State = {"not_fixed": "failure", "undecided": "error"}.get(kind, "passed")  # type: ignore[assignment]  # all are states
    clean: State = {"fixed": "passed", "fixed_with_collateral": "failure"}.get(kind, "skipped")  # type: ignore[assignment]  # all are states
    yield Check("what broke is back", back, kind, sentence)
    yield Check("no collateral damage", clean, kind, sentence)


def _axis(report: Report, axis: str, kind: str) -> Check:
    name = f"axis {one_line(axis)}"
    for cause in report.verdict.causes:
        if axis in cause.axes:
            return Check(name, "failure", "cause", f"{cause_phrase(cause)}: {share_phrase(cause)}; {_owner(report, axis)}")
    if kind in _UNDECIDED:
        return Check(name, "skipped", kind, f"not decided: {one_line(report.verdict.reason or kind)}")
    return Check(name, "passed", kind, "")


def _owner(report: Report, axis: str) -> str:
    owner = report.owners.get(axis)
    return f"owner {one_line(owner)}" if owner else "no owner"


def _properties(suite: ElementTree.Element, report: Report) -> None:
    known = {"run": report.run, "good": report.good, "bad": report.bad, "metric": report.metric, "design": report.design}
    rollback = report.verdict.rollback
    known |= {"verdict": report.verdict.kind, "rollback": "+".join(rollback.axes) if rollback else None}
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in known.items():
        if value:
            ElementTree.SubElement(properties, "property", {"name": name, "value": one_line(value)})


def _case(suite: ElementTree.Element, check: Check, *, classname: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": classname, "name": check.name})
    if check.state != "passed":
        details = {"message": check.message} if check.state == "skipped" else {"message": check.message, "type": check.kind}
        ElementTree.SubElement(case, check.state, details).text = None if check.state == "skipped" else check.message
