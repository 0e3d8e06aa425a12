"""Queries with both answers: in lines for text formats, in marked pieces for the page, and as the page's table of all answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from bisect_ai.report import tables
from bisect_ai.report.blocks import Block
from bisect_ai.report.change_report import examples
from bisect_ai.report.planning_values import FlippedQuery, ShownAnswer
from bisect_ai.report.report_values import BROKE, FAILED, MENDED, NOT_COMPARED, SAME, AnsweredQuery, Report, outcome
from bisect_ai.report.tables import MOST_EXAMPLES, tool_call
from bisect_ai.report.untrusted_text import PLAIN, Quoting, as_text, one_line, show

# Characters of a text on the page.
ON_PAGE = 2000
# Words compared at most: beyond them the texts are shown without marks.
MOST_WORDS = 1500
_WORD = re.compile(r"\s+|\w+|[^\w\s]")  # words, spaces and single signs, so that joined they are the text


class MarkedText(NamedTuple):
    """A stretch of text, and whether the other text says something else there."""

    text: str
    differs: bool


Pieces = tuple[MarkedText, ...]


def compared(before: object, after: object, *, limit: int) -> tuple[Pieces, Pieces]:
    """Both texts, cleaned and cut to `limit` characters, in pieces that are the same or differ."""
    texts = [show("" if text is None else text, limit=limit) for text in (before, after)]
    words: list[list[str]] = [_WORD.findall(text) for text in texts]
    if max(map(len, words)) > MOST_WORDS or not all(words):
        return _whole_text(texts[0]), _whole_text(texts[1])
    blocks = SequenceMatcher(None, words[0], words[1], autojunk=False).get_matching_blocks()
    spans = [[(block[side], block.size) for block in blocks] for side in (0, 1)]
    return _marked_pieces(words[0], spans[0]), _marked_pieces(words[1], spans[1])


def _whole_text(text: str) -> Pieces:
    return (MarkedText(text, False),) if text else ()


def _marked_pieces(words: Sequence[str], same: Sequence[tuple[int, int]]) -> Pieces:
    pieces, at = [], 0
    for start, size in same:
        pieces += [MarkedText("".join(words[at:start]), True), MarkedText("".join(words[start : start + size]), False)]
        at = start + size
    return _joined_pieces([piece for piece in pieces if piece.text])


def _joined_pieces(pieces: Sequence[MarkedText]) -> Pieces:
    """Neighbours of a kind as one; blanks between two marked words are marked too, so that a phrase reads as one."""
    found: list[MarkedText] = []
    for i, piece in enumerate(pieces):
        between = 0 < i < len(pieces) - 1 and pieces[i - 1].differs and pieces[i + 1].differs
        differs = piece.differs or (between and piece.text.isspace() and "\n" not in piece.text)
        if found and found[-1].differs == differs:
            found[-1] = MarkedText(found[-1].text + piece.text, differs)
        else:
            found.append(MarkedText(piece.text, differs))
    return tuple(found)


# -- in lines ----------------------------------------------------------------------------------------------------
def example_block(example: FlippedQuery, quoting: Quoting = PLAIN, *, second: str = "bad") -> Block:
    """One flipped query: what was asked and expected, and both answers with their scores and tool calls; `second` names the bad one."""
    title = f"query {quoting.name(example.query)}"
    if _is_told(example.segment):
        title += f", segment {quoting.name(example.segment)}"
    lines = [("asked", as_text(example.input))]
    if _is_told(example.reference):
        lines.append(("expected", as_text(example.reference)))
    for arm, answer in (("good", example.good), (second, example.bad)):
        lines.extend(_answer_lines(arm, answer))
    return Block(title, tuple(lines))


def _is_told(value: object) -> bool:
    """Whether the log says something there: a zero or a False is something."""
    return value not in (None, "", [], {})


def shown_score(answer: ShownAnswer) -> str:
    """A score in a few digits, or why there is none."""
    return "failed" if answer.failed else "not scored" if answer.score is None else f"{answer.score:.3g}"


def examples_of(report: Report) -> tuple[str, Sequence[FlippedQuery]]:
    """A title and the queries to show: those that named changes break, else those that lost most."""
    named = [c for cause in report.verdict.causes for c in cause.changes]
    if broken := examples(named, MOST_EXAMPLES):
        return "Queries that the named changes break", broken
    return "Flipped queries", report.examples[:MOST_EXAMPLES]


def _answer_lines(arm: str, answer: ShownAnswer) -> list[tuple[str, str]]:
    label = arm if answer.score is None and not answer.failed else f"{arm} {shown_score(answer)}"
    calls = [("call", tool_call(call)) for call in answer.tool_calls]
    return [(label, answer.text if answer.text.strip() else "(no text)"), *calls]


# -- on the page ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class AnswerSide:
    """One side's answer: its score, its text with the differing words marked, the tools it called."""

    score: str
    value: float | None
    text: Pieces
    calls: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """A flipped query and both answers; `second` is what the other side is called."""

    title: str
    asked: str
    expected: str
    good: AnswerSide
    bad: AnswerSide
    second: str


def example_of(example: FlippedQuery, second: str) -> Example:
    """One flipped query with both answers, the words that differ marked."""
    title = f"Query {one_line(example.query)}"
    if _is_told(example.segment):
        title += f", segment {one_line(example.segment)}"
    texts = compared(example.good.text, example.bad.text, limit=ON_PAGE)
    return Example(
        title,
        show(as_text(example.input, indent=1), limit=ON_PAGE),
        show(as_text(example.reference, indent=1), limit=ON_PAGE) if _is_told(example.reference) else "",
        _side(example.good, texts[0], ON_PAGE),
        _side(example.bad, texts[1], ON_PAGE),
        second,
    )


# Characters of rows that a page holds: with its figures it stays below five megabytes.
ROOM = 3_500_000
TEXT_LIMIT = 1500  # characters of an answer in the table; both sides fit a screen
# Words of two answers together up to which they are compared word by word; longer ones from both ends.
MOST_MARKED = 160
# In this order rows stand.
OUTCOMES = (BROKE, FAILED, MENDED, SAME, NOT_COMPARED)
# Characters of markup that a row costs besides its texts.
_MARKUP = 900


@dataclass(frozen=True)
class AnswerLine:
    """A row: the query, what became of it, the answers in the order of the table's sides (None: that side was not asked)."""

    query: str
    segment: str
    asked: str
    expected: str
    outcome: str
    sides: tuple[AnswerSide | None, ...]


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
    expected = one_line(each.reference, limit=TEXT_LIMIT) if _is_told(each.reference) else ""
    return AnswerLine(
        one_line(each.query, limit=200),
        one_line(each.segment, limit=80) if _is_told(each.segment) else "",
        show(each.input or "", limit=TEXT_LIMIT),
        expected,
        _outcome(report, each, cells),
        tuple(None if one is None else _side(one, text, TEXT_LIMIT) for one, text in zip(answers, texts, strict=True)),
    )


def _side(answer: ShownAnswer, text: Pieces, limit: int) -> AnswerSide:
    calls = tuple(show(tool_call(call), limit=limit) for call in answer.tool_calls)
    return AnswerSide(shown_score(answer), answer.score, text, calls)


def _marked(one: ShownAnswer | None, other: ShownAnswer | None) -> tuple[Pieces, Pieces]:
    """Two answers with the differing words marked; of long ones all between their common ends."""
    texts = [show(answer.text, limit=TEXT_LIMIT) if answer else "" for answer in (one, other)]
    if one is None or other is None or texts[0] == texts[1]:
        return _whole_text(texts[0]), _whole_text(texts[1])
    if sum(text.count(" ") for text in texts) <= MOST_MARKED:
        return compared(*texts, limit=TEXT_LIMIT)
    return _by_ends(texts[0].split(" "), texts[1].split(" "))


def _by_ends(one: Sequence[str], other: Sequence[str]) -> tuple[Pieces, Pieces]:
    most = min(len(one), len(other))
    head = next((i for i in range(most) if one[i] != other[i]), most)
    tail = next((i for i in range(most - head) if one[-1 - i] != other[-1 - i]), most - head)
    return _around(one, head, tail), _around(other, head, tail)


def _around(words: Sequence[str], head: int, tail: int) -> Pieces:
    end = len(words) - tail
    parts = ((" ".join(words[:head]), False), (" ".join(words[head:end]), True), (" ".join(words[end:]), False))
    told = [MarkedText(text, differs) for text, differs in parts if text]
    spaced = [MarkedText(part.text + (" " if i < len(told) - 1 else ""), part.differs) for i, part in enumerate(told)]
    return tuple(spaced)
