"""What a judge is worth, in sentences: its canaries, its own noise, its agreement with people, and what it did not judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bisect_ai.report.accounting import money
from bisect_ai.report.phrases import Scale, count, listed, scale_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.run_blocks import JudgeBlock, KnownAnswer, PeopleAgreement, RepeatNoise, UnjudgedAnswers
from bisect_ai.report.untrusted_text import PLAIN, Quoting


def judges_told(report: Report, *, quoting: Quoting = PLAIN) -> list[tuple[str, list[str]]]:
    """For each judge of the run a title and its sentences; none for a run without a judge."""
    scale = scale_of(report, quoting=quoting)
    return [(f"Judge: {quoting.name(j.name)}", list(_sentences(j, scale, quoting))) for j in report.judges]


def _sentences(judge: JudgeBlock, scale: Scale, quoting: Quoting) -> Iterator[str]:
    yield _asked(judge, quoting)
    yield _canaries(judge.canaries, quoting)
    yield _noise(judge.noise, scale)
    yield _agreement(judge.agreement)
    unjudged = [(side, judge.unjudged.get(side, UnjudgedAnswers())) for side in ("good", "bad")]
    sides = [f"{count(each.n)} of {count(each.of)} {side}" for side, each in unjudged]
    yield f"no verdict on {sides[0]} and {sides[1]} answers"
    told = judge.like_instructions
    if told.good or told.bad:
        yield f"{count(told.good)} good and {count(told.bad)} bad answers speak to the judge like instructions"


def _asked(judge: JudgeBlock, quoting: Quoting) -> str:
    others = [quoting.name(name) for name in judge.answered_by if name != judge.model]
    by = f" (answered by {listed(others)})" if others else ""
    return f"model {quoting.name(judge.model)}{by}; {money(judge.usd)} in all sittings"


def _canaries(canaries: Mapping[str, KnownAnswer], quoting: Quoting) -> str:
    wrong = [quoting.prose(name) for name, told in canaries.items() if not told.is_right]
    if not canaries:
        return "no answers whose verdict is known were judged"
    if not wrong:
        return f"{count(len(canaries), 'answer')} whose verdict is known: all judged right"
    return f"answers whose verdict is known: misjudged {listed(wrong)}, so its scores prove nothing"


def _noise(noise: RepeatNoise | None, scale: Scale) -> str:
    if noise is None:
        return "its own noise is not known: fewer than five answers were judged twice"
    line = f"{count(noise.n, 'answer')} judged twice: {_percent(noise.changed)} of the verdicts changed"
    if (part := noise.loss) is None:
        return line
    half, without = scale.difference(part.half_width), scale.difference(part.half_width_without)
    return f"{line}; its noise is {_percent(part.share)} of the variance of the loss: the interval is ±{half}, without it ±{without}"


def _agreement(found: PeopleAgreement | None) -> str:
    if found is None:
        return "agreement with people is not known: the log has fewer than ten answers with their grades"
    line = f"agrees with people on {_percent(found.agreement)} of {count(found.n, 'graded answer')}"
    if found.kappa is None or found.interval is None:
        return f"{line}; kappa is undefined where all have one grade"
    low, high = found.interval
    return f"{line}; Cohen's kappa {found.kappa:.2f} [{low:.2f}, {high:.2f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
