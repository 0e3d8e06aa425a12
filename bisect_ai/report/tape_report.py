"""What the tape could not answer, in words: which side asks for calls that the log never saw, and what to record or stub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bisect_ai.report.untrusted_text import PLAIN, Quoting, one_line

if TYPE_CHECKING:
    from bisect_ai.report.run_blocks import TapeBlock, TapeLean

MOST_NAMED = 3


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
    listed = ", ".join(calls) + (f" and {more} more" if more else "")
    return f"{head} for calls that the log never saw ({percent(rate)} of {whose} queries)" + (f": {listed}" if listed else "")


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


def percent(rate: float) -> str:
    """A share: "40 %"; below one per cent with a decimal."""
    return f"{100 * rate:.1f} %" if 0 < rate < 0.01 else f"{100 * rate:.0f} %"


def _who_misses(leans: TapeLean, axes: int, quoting: Quoting) -> str:
    age = "new" if leans.side == "bad" else "old"
    names = [quoting.name(axis) for axis in leans.axes]
    if leans.told_apart:
        if len(names) == 1:
            return f"the {age} {names[0]} {'ask' if names[0].endswith('s') else 'asks'}"
        if leans.every:
            return f"the {age} {_joined_by_and(names)} together ask"
        return f"the {age} {_joined_by_and(names, 'or')} (each is enough) asks"
    if len(names) == axes:
        return f"the {age} release asks"
    return f"the {age} {_joined_by_and(names, 'or')} (not told apart) asks"


def _joined_by_and(names: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])
