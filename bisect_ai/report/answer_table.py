"""The answers table of the page: a row a query, good, rollback and bad side by side, the words that differ marked.

A page holds at most `ROOM` characters of it; what is left over goes to a sibling page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bisect_ai.report import tables
from bisect_ai.report.answer_values import BROKE, FAILED, MENDED, NOT_COMPARED, SAME, AnsweredQuery, outcome
from bisect_ai.report.examples import MarkedText, Pieces, compared, shown_score
from bisect_ai.report.report_values import Report, ShownAnswer
from bisect_ai.report.untrusted_text import one_line, show

# Characters of rows that a page holds: with its figures it stays below five megabytes.
ROOM = 3_500_000
TEXT_LIMIT = 1500
# Words of two answers together up to which they are compared word by word; longer ones from both ends.
MOST_MARKED = 160
# In this order rows stand.
OUTCOMES = (BROKE, FAILED, MENDED, SAME, NOT_COMPARED)
# Characters of markup that a row costs besides its texts.
_MARKUP = 900


@dataclass(frozen=True)
class AnswerSide:
    """One combination's answer: its score, its text in pieces, the tools it called."""

    score: str
    value: float | None
    text: Pieces
    calls: tuple[str, ...]
    is_there: bool = True


@dataclass(frozen=True)
class AnswerLine:
    """A row: the query, what became of it, the answers in the order of the table's sides."""

    query: str
    segment: str
    asked: str
    expected: str
    outcome: str
    sides: tuple[AnswerSide, ...]


@dataclass(frozen=True)
class AnswerTable:
    """The table; `outcomes` and `segments` are what can be filtered by; `left`: queries that are in the sibling page."""

    sides: tuple[str, ...]
    lines: tuple[AnswerLine, ...]
    outcomes: tuple[tuple[str, int], ...]
    segments: tuple[str, ...]
    left: int


def answer_table(report: Report, answered: Sequence[AnsweredQuery], *, start: int = 0, room: int = ROOM) -> AnswerTable:
    """The rows from number `start` on that fit into `room` characters: those that broke first, then mended, then the others."""
    sides = _sides(report)
    ordered = _ordered(report, answered, sides)
    lines: list[AnswerLine] = []
    for each in ordered[start:]:
        room -= _MARKUP + sum(min(len(a.text), TEXT_LIMIT) + 20 for a in each.answers.values()) + len(each.input or "")
        if room < 0 and lines:
            break
        lines.append(_line(report, each, [cell for _, cell in sides]))
    kinds = [line.outcome for line in lines]
    counted = tuple((kind, kinds.count(kind)) for kind in OUTCOMES if kind in kinds)
    segments = tuple(sorted({line.segment for line in lines if line.segment}))
    return AnswerTable(tuple(name for name, _ in sides), tuple(lines), counted, segments, len(ordered) - start - len(lines))


def _sides(report: Report) -> list[tuple[str, tuple[str, ...]]]:
    """The combinations that are shown: good, the rollback where it is another one, bad."""
    axes, rollback = report.axes, report.verdict.rollback
    found: list[tuple[str, tuple[str, ...]]] = [("good", ())]
    if rollback is not None and 0 < len(rollback.axes) < len(axes):
        found.append(("rollback", tuple(axis for axis in axes if axis not in rollback.axes)))
    return [*found, (tables.second(report), axes)]


def _ordered(
    report: Report, answered: Sequence[AnsweredQuery], sides: Sequence[tuple[str, tuple[str, ...]]]
) -> list[AnsweredQuery]:
    cells = [cell for _, cell in sides]
    shown = [each for each in answered if any(cell in each.answers for cell in cells)]
    return sorted(shown, key=lambda each: OUTCOMES.index(_outcome(report, each, cells)))


def _outcome(report: Report, each: AnsweredQuery, cells: Sequence[tuple[str, ...]]) -> str:
    good, bad = (each.answers.get(cell) for cell in (cells[0], cells[-1]))
    return outcome(good, bad, higher_is_better=report.higher_is_better)


def _line(report: Report, each: AnsweredQuery, cells: Sequence[tuple[str, ...]]) -> AnswerLine:
    answers = [each.answers.get(cell) for cell in cells]
    good, bad = answers[0], answers[-1]
    marked_good, marked_bad = _marked(good, bad)
    between = [_marked(good, middle)[1] for middle in answers[1:-1]]
    texts = [marked_good, *between, marked_bad]
    expected = "" if each.reference in (None, "", [], {}) else one_line(each.reference, limit=TEXT_LIMIT)
    return AnswerLine(
        one_line(each.query, limit=200),
        one_line(each.segment, limit=80) if each.segment not in (None, "") else "",
        show(each.input or "", limit=TEXT_LIMIT),
        expected,
        _outcome(report, each, cells),
        tuple(_side(answer, text) for answer, text in zip(answers, texts, strict=True)),
    )


def _side(answer: ShownAnswer | None, text: Pieces) -> AnswerSide:
    if answer is None:
        return AnswerSide("", None, (), (), is_there=False)
    calls = tuple(show(tables.tool_call(call), limit=TEXT_LIMIT) for call in answer.tool_calls)
    return AnswerSide(shown_score(answer), answer.score, text, calls)


def _marked(one: ShownAnswer | None, other: ShownAnswer | None) -> tuple[Pieces, Pieces]:
    """Two answers with the differing words marked; of long ones all between their common ends."""
    texts = [show(answer.text, limit=TEXT_LIMIT) if answer else "" for answer in (one, other)]
    if one is None or other is None or texts[0] == texts[1]:
        return _whole(texts[0]), _whole(texts[1])
    if sum(text.count(" ") for text in texts) <= MOST_MARKED:
        return compared(*texts, limit=TEXT_LIMIT)
    return _by_ends(texts[0].split(" "), texts[1].split(" "))


def _whole(text: str) -> Pieces:
    return (MarkedText(text, False),) if text else ()


def _by_ends(one: Sequence[str], other: Sequence[str]) -> tuple[Pieces, Pieces]:
    most = min(len(one), len(other))
    head = next((i for i in range(most) if one[i] != other[i]), most)
    tail = next((i for i in range(most - head) if one[-1 - i] != other[-1 - i]), most - head)
    return _cut(one, head, tail), _cut(other, head, tail)


def _cut(words: Sequence[str], head: int, tail: int) -> Pieces:
    end = len(words) - tail
    parts = ((" ".join(words[:head]), False), (" ".join(words[head:end]), True), (" ".join(words[end:]), False))
    told = [MarkedText(text, differs) for text, differs in parts if text]
    spaced = [MarkedText(part.text + (" " if i < len(told) - 1 else ""), part.differs) for i, part in enumerate(told)]
    return tuple(spaced)
