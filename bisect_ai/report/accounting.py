"""What the answers rest on: what became of the log, what answered it, what the tape could not answer, and what judges are worth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bisect_ai.report.blocks import ReportPart, Scale, count, duration, joined, listed, money, percent, short_value
from bisect_ai.report.untrusted_text import PLAIN, Quoting, one_line

if TYPE_CHECKING:
    from bisect_ai.report.planning_values import LogBlock, LogMixture, ReportedSuspect
    from bisect_ai.report.report_values import Report, RunUsage
    from bisect_ai.report.run_blocks import (
        JudgeBlock,
        KnownAnswer,
        PeopleAgreement,
        ProviderBlock,
        RepeatNoise,
        TapeBlock,
        TapeLean,
    )

SUSPECTS, WARNINGS = "Suspects of the static check (no evidence)", "Warnings"
# Mixtures of versions that a sentence names.
SHOWN = 4


def log_sentences(log: LogBlock | None, *, quoting: Quoting = PLAIN) -> list[str]:
    """One to four sentences on the report's `log` block; none for a report that has no such block."""
    return list(_sentences(log, quoting)) if log else []


def capitalised(sentence: str) -> str:
    """The sentence with a capital letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def _sentences(log: LogBlock, quoting: Quoting) -> Iterator[str]:
    dropped = [f"{count(n)} {quoting.prose(reason)}" for reason, n in _largest(log.dropped)]
    left_out = f", {count(sum(log.dropped.values()))} left out ({', '.join(dropped)})" if dropped else ""
    yield (f"{count(log.read, 'record', 'records')} read ({quoting.prose(log.format)}), {count(log.kept)} kept{left_out}")
    if lost := log.lost:
        kinds = listed([f"{quoting.prose(kind)} in {count(n)}" for kind, n in _largest(lost)])
        yield f"questions that lost something in the log: {kinds}"
    if missing := log.missing:
        lacks = listed([f"{quoting.prose(what)} in {count(n)}" for what, n in _largest(missing)])
        yield f"not in the log, so not replayed as it was: of {count(log.sampled)} sampled queries, {lacks}"
    if len(releases := log.releases) > 1:
        yield f"answered by {_releases(releases, quoting)}"


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest first, whatever the order of keys: a stored report has them sorted by name."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def _releases(releases: Sequence[LogMixture], quoting: Quoting) -> str:
    named = [f"{_mixture(each, quoting)}: {count(each.n)}" for each in releases[:SHOWN]]
    rest = len(releases) - SHOWN
    return "; ".join([*named, f"{count(rest, 'more mixture', 'more mixtures')} in the JSON report"] if rest > 0 else named)


def _mixture(each: LogMixture, quoting: Quoting) -> str:
    release = "no release named" if each.release is None else f"release {quoting.name(each.release)}"
    versions = [f"{quoting.prose(name)} {quoting.name(value)}" for name, value in sorted(each.versions.items())]
    return f"{release} ({', '.join(versions)})" if versions else release


def cost_told(usage: RunUsage) -> str:
    """What a run cost; a target that tells no money is no target that is free."""
    return "no price known" if usage.calls and not usage.usd else money(usage.usd)


def usage_sentence(usage: RunUsage) -> str:
    """What the run cost: calls, and where there were any answers taken from the store, errors, tokens, money; time."""
    counted = {"call": usage.calls, "answer": usage.cached, "error": usage.errors, "token": usage.tokens}
    parts = {noun: count(n, noun) for noun, n in counted.items() if n or (noun == "call" and n is not None)}
    if "answer" in parts:
        parts["answer"] += " from the store"
    paid = [cost_told(usage)] if usage.calls != 0 or usage.usd else []
    if usage.unsettled_usd:
        paid.append(f"up to {money(usage.unsettled_usd)} more for requests whose answer never came whole")
    told = _provider_phrase(usage.provider) if usage.provider else ""
    return ", ".join([*parts.values(), *paid, duration(usage.seconds)]) + (f"; {told}" if told else "")


def _provider_phrase(provider: ProviderBlock) -> str:
    """Who answered, and what did not go smoothly between target and provider; empty when neither is known."""
    faults, outcomes = provider.faults, provider.outcomes
    parts = [f"answered by {', '.join(endpoints)}"] if (endpoints := list(provider.endpoints or ())[:3]) else []
    if faults:
        parts.append(f"{count(provider.requests, 'request')}, of which failed: {_tallied(faults)}")
    if provider.waited_s >= 1:
        parts.append(f"trials waited {duration(provider.waited_s)} in all to be sent (slow start, limits, outages)")
    if outcomes:
        parts.append(f"answers that are not whole: {_tallied(outcomes)}")
    return "; ".join(parts)


def _tallied(counts: Mapping[str, int]) -> str:
    """Kinds with their counts, most first. A service of the user names its own kinds: letters and digits of them are shown."""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    named = [(re.sub(r"[^A-Za-z0-9 ]", " ", str(kind).replace("_", " "))[:24].strip(), n) for kind, n in rows[:6]]
    return ", ".join(f"{kind or 'other'} ({n:,})" for kind, n in named)


MOST_NAMED = 3  # calls, or tools, in a sentence; the JSON report has all


def tape_phrase(tape: TapeBlock, *, quoting: Quoting = PLAIN) -> str:
    """Who asks for what the log does not have, for how many of its queries: "the new prompt asks for calls that …: get_order(id)"."""
    leans = tape.leans
    if leans:
        head, rate = _who_misses(leans, len(tape.axes), quoting), leans.rate
    else:
        head, rate = "replay asks", tape.missing / tape.trials if tape.trials else 0.0
    whose = "its" if leans else "all"
    calls = [quoting.name(call.call) for call in tape.calls[:MOST_NAMED]]
    more = len(tape.calls) - len(calls) + tape.more_calls
    named = ", ".join(calls) + (f" and {more} more" if more else "")
    return f"{head} for calls that the log never saw ({percent(rate)} of {whose} queries)" + (f": {named}" if named else "")


def remedy(tape: TapeBlock, *, quoting: Quoting = PLAIN) -> str:
    """What to do about it."""
    tools = list(dict.fromkeys(quoting.name(call.tool) for call in tape.calls))[:MOST_NAMED]
    stubs = ", ".join(f'{tool}: "stubs:{tool}"' for tool in tools)
    return f"record them, or answer them with target.tools_missing: {{{stubs}}}" if tools else "record them, or stub them"


def warnings(tape: TapeBlock) -> list[str]:
    """The lines on the tape among a report's warnings."""
    lines = []
    if tape.missing:
        lines.append(
            f"{tape.missing} of {tape.trials} trials rest on a tool call whose result the log does not have: they have no score; "
            f"{tape_phrase(tape)}; {remedy(tape)}"
        )
    if tape.inside.missing:
        lines.append(
            f"{tape.inside.missing} of {tape.inside.trials} trials of single changes rest on a tool call whose result the log does not "
            f"have: they have no score; {remedy(tape)}"
        )
    if rules := {rule: n for rule, n in tape.rules.items() if rule not in ("live", "stub")}:
        named = ", ".join(f"{rule} ({n:,})" for rule, n in rules.items())
        calls = ", ".join(map(one_line, tape.guessed))
        lines.append(
            f"tool calls that the log has in another form ({calls}) were answered by these rules: {named}; where the tool would "
            "have returned something else, the application may have answered otherwise: to be sure, record them or use allow_tools"
        )
    return lines


def _who_misses(leans: TapeLean, axes: int, quoting: Quoting) -> str:
    age = "new" if leans.side == "bad" else "old"
    names = [quoting.name(axis) for axis in leans.axes]
    if leans.told_apart:
        if len(names) == 1:
            return f"the {age} {names[0]} {'ask' if names[0].endswith('s') else 'asks'}"
        if leans.every:
            return f"the {age} {listed(names)} together ask"
        return f"the {age} {listed(names, last=' or ')} (each is enough) asks"
    if len(names) == axes:
        return f"the {age} release asks"
    return f"the {age} {listed(names, last=' or ')} (not told apart) asks"


def judges_told(report: Report, *, quoting: Quoting = PLAIN) -> list[tuple[str, list[str]]]:
    """For each judge of the run a title and its sentences; none for a run without a judge."""
    from bisect_ai.report.report_values import scale_of  # plans and diffs, which have no report, load none of its types

    scale = scale_of(report, quoting=quoting)
    return [(f"Judge: {quoting.name(j.name)}", list(_judge_sentences(j, scale, quoting))) for j in report.judges]


def _judge_sentences(judge: JudgeBlock, scale: Scale, quoting: Quoting) -> Iterator[str]:
    from bisect_ai.report.run_blocks import UnjudgedAnswers

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
    line = f"{count(noise.n, 'answer')} judged twice: {percent(noise.changed)} of the verdicts changed"
    if (part := noise.loss) is None:
        return line
    half, without = scale.difference(part.half_width), scale.difference(part.half_width_without)
    return f"{line}; its noise is {percent(part.share)} of the variance of the loss: the interval is ±{half}, without it ±{without}"


def _agreement(found: PeopleAgreement | None) -> str:
    if found is None:
        return "agreement with people is not known: the log has fewer than ten answers with their grades"
    line = f"agrees with people on {percent(found.agreement)} of {count(found.n, 'graded answer')}"
    if found.kappa is None or found.interval is None:
        return f"{line}; kappa is undefined where all have one grade"
    low, high = found.interval
    return f"{line}; Cohen's kappa {found.kappa:.2f} [{low:.2f}, {high:.2f}]"


def suspect_line(suspect: ReportedSuspect, quoting: Quoting) -> str:
    """One suspect of the static check: axes, what was found, where."""
    place = f" ({short_value(suspect.where, quoting)})" if suspect.where else ""
    return f"{joined(suspect.axes or ('?',), quoting)}: {short_value(suspect.message, quoting)}{place}"


def with_closing(
    report: Report, parts: Iterable[ReportPart], decided: Iterable[str | None], quoting: Quoting, *, log: str = "Log"
) -> list[ReportPart]:
    """The parts and those that end every report: suspects, warnings, what became of the log, how it was `decided`.

    Parts that say nothing are left out.
    """
    found = (
        *parts,
        ReportPart(SUSPECTS, tuple(suspect_line(suspect, quoting) for suspect in report.suspects)),
        ReportPart(WARNINGS, tuple(quoting.prose(line) for line in report.warnings)),
        ReportPart(log, tuple(f"{capitalised(line)}." for line in log_sentences(report.log, quoting=quoting))),
        ReportPart("How it was decided", tuple(quoting.prose(line) for line in decided if line)),
    )
    return [part for part in found if part.lines or (part.build and part.build(report).rows)]
