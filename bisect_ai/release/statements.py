"""Where the statements of a text begin: items of a list with their continuation lines, closed sentences, `key: value` lines.

A rewrite often adds, removes or edits several neighbouring lines. Each statement can be taken back alone, and what is left is a text
that a person might have written. Nothing begins inside of what would be nonsense by half: prose that flows over line breaks, an item
and what is indented below it, a fenced block, JSON, a table, an element of examples or code, an exchange between user and assistant.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence

# All are matched against lines without the white space around them, `_CLOSED` and `_OPENS` against their last characters.
_HEADING = re.compile(r"#{1,6}\s")
# The mark of an item: a bullet, a number, a letter with a bracket.
_MARK = re.compile(r"(?:[-*+•–]|\(?(?:\d{1,3}[.)]|[A-Za-z]\)))\s")
_NUMBER = re.compile(r"\s*\(?\d{1,3}[.)]\s+")
# The end of a sentence, with quotes, brackets and emphasis behind it; a colon as well, which `_introduces` ties to what follows.
_CLOSED = re.compile(r"[.!?:。！？：][\"')\]”’»*_`]*$")
_OPENS = re.compile(r"[:：][*_]*$")
_TAIL = 20
# A line that sets something, also in YAML or JSON.
_KEY = re.compile(r"(?:- )?[*_\"']*([A-Za-z_][\w.-]*(?: [\w-]+){0,3})[*_\"']*\s?:[*_]*(?:\s|$)")
_DATA = re.compile(r"[\[{]\s*[\"{\[]")  # a line of JSON
_TAG = re.compile(r"<(/?)([A-Za-z][\w:.-]*)(?:\s[^<>]*)?>")
_CLOSING = re.compile(r"</([A-Za-z][\w:.-]*)>")
# Elements of which no line is a statement, also when only lines inside of one differ.
_INERT = re.compile(
    r"example|shot|code|json|schema|dialog|conversation|transcript|template|snippet|html|xml|yaml|sql|table", re.I
)
_TURN = r"(?:[-*>]\s+|#+\s*)?[*_]*(?:{})\s*\d*[*_]*\s*[:：]"
_ASKS = re.compile(_TURN.format("user|human|customer|client|caller|q|question|input|query"), re.IGNORECASE)
_ANSWERS = re.compile(_TURN.format("assistant|ai|bot|agent|model|a|answer|output|response|reply|completion"), re.IGNORECASE)
# Control blocks of a template, and lines of a program: half of them would not run.
_PROGRAM = re.compile(
    r".*(?:\{%|\{\{[#/^]|<%)|(?:def |class |import |from \S+ import |function |const |let |var |return[ ;(]|#include|public |@\w+$)"
)
# Words of a line without a full stop that is still taken for a heading.
_HEADING_WORDS = 6
# Lines that are looked ahead for the answer of an exchange, and for what closes a bracket.
_FAR, _MOST_OPEN = 40, 100


def is_blank(line: str) -> bool:
    """Whether a line has nothing but white space."""
    return not line.strip()


def unnumbered(text: str) -> str:
    """A statement without the number before it, which changes whenever one is put in above."""
    found = _NUMBER.match(text)
    return text[found.end() :] if found else text


def key_of(text: str) -> str | None:
    """What a statement `key: value` or `key:` sets."""
    found = _KEY.match(text.lstrip())
    return found[1] if found else None


class Outline:
    """The statements of a text, given by its lines."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = [line.strip() for line in lines]
        self._opened = [sum(line.count(c) for c in "[{(") - sum(line.count(c) for c in "]})") for line in self._lines]
        self._closings: defaultdict[str, list[int]] = defaultdict(list)
        for i, line in enumerate(self._lines):
            for name in _CLOSING.findall(line) if "</" in line else ():
                self._closings[name].append(i)
        # The indent of the statement that begins at a line; None where one goes on, and for blank lines.
        self._indents: list[int | None] = []
        before = ""
        while (at := len(self._indents)) < len(lines):
            begins = bool(self._lines[at]) and _begins(before, self._lines[at])
            self._indents.append(len(lines[at]) - len(lines[at].lstrip()) if begins else None)
            end = self._end_of_whole(at)
            self._indents += [None] * (end - at - 1)
            before = self._lines[at] if end == at + 1 else ""

    def statements(self, span: range) -> list[range]:
        """The lines of a hunk, `span`, statement by statement; all of them as one where they cannot be told apart."""
        if any(_PROGRAM.match(self._lines[i]) for i in span):
            return [span]
        starts, level, open_until = [span.start], None, span.start
        held: list[str] = []  # of the statement that is open: its first and its last line, once it has both
        for i in range(span.start, span.stop):
            line, indent = self._lines[i], self._indents[i] if i >= open_until else None
            tag = _TAG.match(line) if i >= open_until else None
            if tag and f"</{tag[2]}>" not in line:
                if tag[1]:  # the end of an element that begins before the hunk
                    return [span]
                open_until = self._end_of_element(tag[2], i, span.stop) or span.stop
            if indent is not None and held and level is not None and _introduces(held):
                is_list = bool(_MARK.match(line)) and not _MARK.match(held[0])
                level = indent if is_list or indent <= level else level
            elif indent is not None and (not held or level is None or indent <= level):
                starts += [i] if held else []
                held, level = [], indent
            held = [*held[:1], line] if line else held
        return [range(a, b) for a, b in zip(starts, [*starts[1:], span.stop], strict=True)]

    # -- what stays whole --------------------------------------------------------------------------------------------
    def _end_of_whole(self, at: int) -> int:
        """Behind the last line of what begins at `at` and has no statement inside."""
        line = self._lines[at]
        if line.startswith(("```", "~~~")):
            return min(self._first_behind(at, lambda other: other.startswith(line[:3])) + 1, len(self._lines))
        tag = _TAG.match(line)
        if tag and not tag[1] and _INERT.search(tag[2]) and f"</{tag[2]}>" not in line:
            return self._end_of_element(tag[2], at, len(self._lines)) or at + 1
        if line.endswith(("{", "[", "(")):
            return self._end_of_brackets(at)
        if line.startswith("|"):
            return self._first_behind(at, lambda other: not other.startswith("|"))
        if _DATA.match(line):
            return self._first_behind(at, lambda other: not other.startswith(("{", "[", "}", "]")))
        return self._end_of_exchange(at) if _ASKS.match(line) else at + 1

    def _first_behind(self, at: int, fits: Callable[[str], object]) -> int:
        """The first line behind `at` that fits; without one, behind the last."""
        return next((i for i in range(at + 1, len(self._lines)) if fits(self._lines[i])), len(self._lines))

    def _end_of_element(self, name: str, at: int, stop: int) -> int | None:
        closings = self._closings[name]
        found = bisect_right(closings, at)
        return closings[found] + 1 if found < len(closings) and closings[found] < stop else None

    def _end_of_brackets(self, at: int) -> int:
        """Behind the line that closes the brackets left open at `at`; where none does soon, behind the paragraph."""
        depth = 0
        for i in range(at, min(at + _MOST_OPEN, len(self._lines))):
            depth += self._opened[i]
            if depth <= 0:
                return i + 1
        return self._first_behind(at, lambda line: not line)

    def _end_of_exchange(self, at: int) -> int:
        """Behind what a user asks and an assistant answers.

        Turns in one paragraph are an example of their own. Where each turn is a paragraph, nothing tells two examples from one
        conversation, so that all is one until the next heading.
        """
        ahead = range(at + 1, min(at + _FAR, len(self._lines)))
        answer = next((i for i in ahead if _ANSWERS.match(self._lines[i]) or _ASKS.match(self._lines[i])), None)
        if answer is None or not _ANSWERS.match(self._lines[answer]):
            return at + 1
        if all(self._lines[at:answer]):
            return self._first_behind(answer, lambda line: not line)
        return self._first_behind(answer, _HEADING.match)


def _begins(before: str, line: str) -> bool:
    """Whether a line begins a statement after the line `before`, blank at the start of a paragraph."""
    if not before or _CLOSED.search(before[-_TAIL:]) or _MARK.match(line) or _HEADING.match(line):
        return True
    mine, last = key_of(line), key_of(before)
    return mine is not None and last is not None and mine[0].isupper() == last[0].isupper()


def _introduces(held: Sequence[str]) -> bool:
    """Whether a statement (its first and its last line) is only the heading of what follows, or ends in a colon."""
    first, last = held[0], held[-1]
    if _OPENS.search(last[-_TAIL:]) or _HEADING.match(last):
        return True
    is_plain = len(held) == 1 and not (
        _MARK.match(first) or _CLOSED.search(first[-_TAIL:]) or key_of(first) or _TAG.match(first)
    )
    return is_plain and len(first.split()) <= _HEADING_WORDS
