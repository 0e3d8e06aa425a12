"""Queries with both answers: in lines for text formats, in marked pieces for the page; and the words in which two texts differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from bisect_ai.report.change_report import examples
from bisect_ai.report.report_values import FlippedQuery, Report, ShownAnswer
from bisect_ai.report.tables import MOST_EXAMPLES, Block, tool_call
from bisect_ai.report.untrusted_text import PLAIN, Quoting, as_text, one_line, show

# Characters of a text on the page.
ON_PAGE = 2000
# Words compared at most: beyond them the texts are shown without marks.
MOST_WORDS = 1500
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


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
    if example.segment not in (None, ""):
        title += f", segment {quoting.name(example.segment)}"
    lines = [("asked", as_text(example.input))]
    if example.reference not in (None, "", [], {}):
        lines.append(("expected", as_text(example.reference)))
    for arm, answer in (("good", example.good), (second, example.bad)):
        lines.extend(_answer_lines(arm, answer))
    return Block(title, tuple(lines))


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
class AnswerCard:
    """One side of an example: its score, its text with the differing words marked, the tools it called."""

    side: str
    score: str
    text: Pieces
    calls: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """A flipped query and both answers."""

    title: str
    asked: str
    expected: str
    good: AnswerCard
    bad: AnswerCard


def example_of(example: FlippedQuery, second: str) -> Example:
    """One flipped query with both answers, the words that differ marked."""
    title = f"Query {one_line(example.query)}"
    if example.segment not in (None, ""):
        title += f", segment {one_line(example.segment)}"
    texts = compared(example.good.text, example.bad.text, limit=ON_PAGE)
    return Example(
        title,
        show(as_text(example.input, indent=1), limit=ON_PAGE),
        show(as_text(example.reference, indent=1), limit=ON_PAGE) if example.reference not in (None, "", [], {}) else "",
        _answer("good", example.good, texts[0]),
        _answer(second, example.bad, texts[1]),
    )


def _answer(side: str, answer: ShownAnswer, text: Pieces) -> AnswerCard:
    calls = tuple(show(tool_call(call), limit=ON_PAGE) for call in answer.tool_calls)
    return AnswerCard(side, shown_score(answer), text, calls)
