"""What a judge is worth, in sentences: its canaries, its own noise, its agreement with people, and what it did not judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai.report.phrases import Report, Scale, count, listed, money, scale_of
from bisect_ai.report.untrusted_text import PLAIN, Quoting


def judges_told(report: Report, *, quoting: Quoting = PLAIN) -> list[tuple[str, list[str]]]:
    """For each judge of the run a title and its sentences; none for a run without a judge."""
    scale = scale_of(report, quoting=quoting)
    return [(f"Judge: {quoting.name(j.get('name'))}", list(_sentences(j, scale, quoting))) for j in report.get("judges") or ()]


def _sentences(judge: Mapping[str, Any], scale: Scale, quoting: Quoting) -> Iterator[str]:
    yield _asked(judge, quoting)
    yield _canaries(judge.get("canaries") or {}, quoting)
    yield _noise(judge.get("noise"), scale)
    yield _agreement(judge.get("agreement"))
    unjudged = judge.get("unjudged") or {}
    sides = [f"{count(_n(unjudged, side))} of {count(_n(unjudged, side, 'of'))} {side}" for side in ("good", "bad")]
    yield f"no verdict on {sides[0]} and {sides[1]} answers"
    told = judge.get("like_instructions") or {}
    if told.get("good") or told.get("bad"):
        yield f"{count(told.get('good'))} good and {count(told.get('bad'))} bad answers speak to the judge like instructions"


def _n(unjudged: Mapping[str, Any], side: str, key: str = "n") -> int:
    return int((unjudged.get(side) or {}).get(key) or 0)


def _asked(judge: Mapping[str, Any], quoting: Quoting) -> str:
    others = [quoting.name(name) for name in judge.get("answered_by") or () if name != judge.get("model")]
    by = f" (answered by {listed(others)})" if others else ""
    return f"model {quoting.name(judge.get('model'))}{by}; {money(judge.get('usd'))} in all sittings"


def _canaries(canaries: Mapping[str, Mapping[str, Any]], quoting: Quoting) -> str:
    wrong = [quoting.prose(name) for name, told in canaries.items() if not _is_right(told)]
    if not canaries:
        return "no answers whose verdict is known were judged"
    if not wrong:
        return f"{count(len(canaries), 'answer')} whose verdict is known: all judged right"
    return f"answers whose verdict is known: misjudged {listed(wrong)}, so its scores prove nothing"


def _is_right(told: Mapping[str, Any]) -> bool:
    score = told.get("score")
    return score is not None and (score > 0.5 if told.get("should_be_good") else score < 0.5)


def _noise(noise: Mapping[str, Any] | None, scale: Scale) -> str:
    if noise is None:
        return "its own noise is not known: fewer than five answers were judged twice"
    line = f"{count(noise['n'], 'answer')} judged twice: {_percent(noise['changed'])} of the verdicts changed"
    if (part := noise.get("loss")) is None:
        return line
    half, without = (scale.difference(part[key]) for key in ("half_width", "half_width_without"))
    return f"{line}; its noise is {_percent(part['share'])} of the variance of the loss: the interval is ±{half}, without it ±{without}"


def _agreement(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "agreement with people is not known: the log has fewer than ten answers with their grades"
    line = f"agrees with people on {_percent(found['agreement'])} of {count(found['n'], 'graded answer')}"
    if found.get("kappa") is None or found.get("interval") is None:
        return f"{line}; kappa is undefined where all have one grade"
    low, high = found["interval"]
    return f"{line}; Cohen's kappa {found['kappa']:.2f} [{low:.2f}, {high:.2f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
