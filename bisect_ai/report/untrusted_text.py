r"""Untrusted text made safe to print: logged queries, documents, answers, tool arguments, names in files of others.

One language of visible escapes (`\x1b`, `\u202e`) says what was there, so nothing is hidden and nothing is obeyed: not by
a terminal, not by a CI runner that reads the log, not by a Markdown renderer. Every function takes any object, never raises,
and gives the same text when it is applied twice (but `inline`, `code` and `fence`, whose result is Markdown).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

# Combining marks that one letter may carry; more of them paint over the lines around.
MARKS = 4
_KEPT = "\n\t"
# Invisible, though Unicode counts them as letters, marks or symbols: fillers, joiners, variation selectors, blank braille.
_HIDDEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# What CI runners obey: `::name::` and section marks where a line begins, `##[…]`, `##vso[…]`, `##teamcity[…]` anywhere.
_LINE_COMMAND = re.compile(r"^(\s*)(:(?=:)|s(?=ection_(?:start|end):)|t(?=ravis_(?:fold|time):))", re.M | re.I)
_BRACKET_COMMAND = re.compile(r"(#)(#)(?=\w*\[)")
_MARKDOWN = re.compile(r"[\\`*\[\]<>#~&$!]|(?<![^\W_])_|_(?![^\W_])")  # signs that Markdown reads; _ only at the edge of a word
# What renderers link after the parse, so that a backslash does not stop it: addresses, mentions, references to issues.
_LINKED = re.compile(r"@|\||(?<=:)/(?=/)|(?<=www)\.|#(?=\d)", re.I)
# ISO 8601, whose seconds nobody reads.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(Z|\+00:00|[+-]\d\d:\d\d)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")  # a whole commit id is told shorter
_LIST_START = re.compile(r"^(\d{1,9})([.)])|^([-+=])")  # what begins a list where a line begins


class _Visible(dict[int, str | int]):
    """A table for `str.translate` that fills itself: a character, or its visible escape."""

    def __missing__(self, code: int) -> str | int:
        self[code] = code if _is_visible(chr(code)) else _escape(chr(code))
        return self[code]


def as_text(value: object, *, indent: int | None = None) -> str:
    """A text as it is, nothing for None, anything else as JSON; cleaned of nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str, indent=indent)


def show(text: object, *, limit: int | None = None) -> str:
    """`text` with every control, bidi, invisible or unassigned character as a visible escape; newline and tab stay.

    CI commands are broken too. At most `limit` characters, the last then being "…".
    """
    cleaned = _string(text, limit).translate(_TABLE)
    return cut(defuse(cleaned if cleaned.isascii() else _unpile(cleaned)), limit)


def one_line(text: object, *, limit: int | None = None) -> str:
    r"""`show` on one line: line breaks become a visible `\n` or `\r`, tabs a space."""
    flat = _string(text, limit).replace("\r\n", "\n").replace("\n", r"\n").replace("\r", r"\r").replace("\t", " ")
    return show(flat, limit=limit)


def quote_lines(text: object, *, prefix: str = "│ ", limit: int | None = None) -> str:
    """`show` with `prefix` before each line: untrusted text never starts one."""
    return "\n".join(prefix + line for line in show(text, limit=limit).split("\n"))


def defuse(text: str) -> str:
    """`text` without anything that a CI runner would take for a command; for whole pages too."""
    return _BRACKET_COMMAND.sub(_break, _LINE_COMMAND.sub(_break, text))


def inline(text: object, *, limit: int | None = None) -> str:
    """`text` as Markdown prose on one line: no link, image, HTML, mention, heading, list or table cell comes out of it."""
    shown = _LINKED.sub(lambda found: _escape(found[0]), one_line(text, limit=limit).strip())
    return _LIST_START.sub(r"\1\\\2\3", _MARKDOWN.sub(r"\\\g<0>", shown))


def code(text: object, *, limit: int | None = None) -> str:
    """`text` as a Markdown code span on one line, for names: safe in a table cell too."""
    shown = one_line(text, limit=limit).replace("|", _escape("|"))
    if not shown.strip():
        return "(empty)"
    ticks = _longer_run(shown, at_least=1)
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def fence(text: object, *, limit: int | None = None) -> str:
    """`text` as a Markdown code block whose fence is longer than any inside."""
    shown = show(text, limit=limit)
    ticks = _longer_run(shown, at_least=3)
    return f"{ticks}text\n{shown}\n{ticks}"


@dataclass(frozen=True)
class Quoting:
    """How untrusted text is written in a format: a name (of an axis, a metric, a file), and a sentence."""

    name: Callable[[object], str]
    prose: Callable[[object], str]


def moment(value: object, quoting: Quoting) -> str:
    """A time to the minute: "2026-11-19 16:02 UTC"; whatever else a release file holds as it is."""
    found = _TIME.fullmatch(str(value))
    if found is None:
        return quoting.prose(value)
    zone = {None: "", "Z": " UTC", "+00:00": " UTC"}.get(found[3], f" {found[3]}")
    return f"{found[1]} {found[2]}{zone}"


def release_name(name: str, quoting: Quoting) -> str:
    """A release's name; of a whole commit id its first ten digits, which say as much."""
    return quoting.name(name[:10] if _COMMIT.fullmatch(name) else name)


PLAIN = Quoting(name=one_line, prose=one_line)
MARKDOWN = Quoting(name=code, prose=inline)


def _string(text: object, limit: int | None) -> str:
    try:
        whole = "".join(str(text))
    except Exception:  # whatever an object's __str__ raises must not stop a report
        whole = f"<{type(text).__name__} without text>"
    return whole if limit is None else whole[: limit + 1]


def cut(text: str, limit: int | None) -> str:
    """The text of at most `limit` characters, the last then being "…"."""
    return text if limit is None or len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def _is_visible(character: str) -> bool:
    if _HIDDEN.match(character):
        return False
    return character.isprintable() or character in _KEPT or unicodedata.category(character) == "Zs"


def _break(found: re.Match[str]) -> str:
    return found[1] + _escape(found[2])


def _escape(character: str) -> str:
    point = ord(character)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _unpile(text: str) -> str:
    shown, run = [], 0
    for character in text:
        run = run + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        shown.append(character if run <= MARKS else _escape(character))
    return "".join(shown)


def _longer_run(text: str, *, at_least: int) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(longest + 1, at_least)


_TABLE = _Visible()
