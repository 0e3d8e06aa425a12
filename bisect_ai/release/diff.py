"""The difference of two releases as a tree of changes: axis, then key, file, tool or folder, then the change itself.

Mappings are compared by key, lists of named objects by name, other lists by alignment, texts by statement, document sets by
document, tool schemas by field; anything else is one change. A rename, a move and a field together with its entry in
`required` are one change each, so that no half of them can be applied alone.

Files of two revisions are JSON, and YAML of tools, by key, prose by statement, and other texts by hunk or, where their lines are
keys or have several authors, by line. A path is `prompts/system.md:11` for a line and `tools.json:get_order.parameters.id` for a
place in JSON. A file whose line ends changed all over has one change for that, apart from what else changed in it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from bisect_ai.canonical import Json, plain
from bisect_ai.errors import ReleaseError
from bisect_ai.release.changes import Change, ChangeSpot, Group, Inner, Scribe, Tree
from bisect_ai.release.checkout import Checkout
from bisect_ai.release.composition import MISSING, Node, Recast, Slot, Value, Written, fields, freeze, same, unchanged
from bisect_ai.release.correspondence import document_renames
from bisect_ai.release.load import Release, changed_axes
from bisect_ai.release.mappings import diff_mapping, diff_schema, document_set, document_slot, is_document_name, is_schema
from bisect_ai.release.references import parsed_by_suffix
from bisect_ai.release.sequences import diff_list
from bisect_ai.release.source_files import blamed_lines, git_output
from bisect_ai.release.text_diff import Split, TextPiece, diff_text, lines_with_ends
from bisect_ai.release.tools import compared_tools, is_tools_axis

# A path below `repo` to the author of each line of it in the bad release; nothing when nobody knows.
Authors = Callable[[str], Sequence[str]]
_YAML = (".yaml", ".yml")
_INDENT = re.compile(r"\n([ \t]+)\S")  # the indent of a JSON file, which a mixture keeps
# That blaming all files of a diff may take; hunks of what is left stay whole.
_SECONDS = 20.0

__all__ = ["Change", "Group", "Tree", "diff"]


def diff(good: Release, bad: Release) -> Tree:
    """Every change from `good` to `bad`; an axis that only one of them has is one change. Empty for equal releases."""
    scribe = Scribe(bad.provenance)
    nodes: dict[str, Node] = {}
    is_files = good.checkout is not None and bad.checkout is not None
    for axis in changed_axes(good, bad):
        sides = good.axes.get(axis, MISSING), bad.axes.get(axis, MISSING)
        nodes[axis] = (
            _files(*sides, ChangeSpot(axis), scribe, bad) if is_files else _axis_node(*sides, ChangeSpot(axis), scribe)
        )
    changes = tuple(scribe.changes)
    conflicts = tuple((changes[a], changes[b]) for a, b in scribe.needs)
    return Tree(good.axes, bad.axes, changes, conflicts, nodes)


def _axis_node(good: Value, bad: Value, spot: ChangeSpot, scribe: Scribe) -> Node:
    if good is MISSING or bad is MISSING:
        return scribe.whole(good, bad, spot)
    tools = compared_tools(good, bad) if is_tools_axis(spot.axis) else None
    if tools is not None:
        ours, theirs = (freeze(plain(side)) for side in tools)
        if same(ours, theirs):
            return scribe.whole(good, bad, spot)
        form = _value_node(ours, theirs, spot, scribe)
        return Recast(good, bad, form.ids, form)
    return _value_node(good, bad, spot, scribe)


def _files(good: Value, bad: Value, spot: ChangeSpot, scribe: Scribe, release: Release) -> Node:
    """An axis that is a set of files: path to text."""

    def inner(ours: Json, theirs: Json, below: ChangeSpot) -> Node:
        return _value_node(ours, theirs, below, scribe)

    assert isinstance(good, dict) and isinstance(bad, dict) and release.checkout is not None
    return diff_files(good, bad, spot, scribe, inner, LineAuthors(release.checkout))


def _value_node(good: Json, bad: Json, spot: ChangeSpot, scribe: Scribe) -> Node:
    """How two values that differ are put together."""

    def inner(ours: Json, theirs: Json, below: ChangeSpot) -> Node:
        return _value_node(ours, theirs, below, scribe)

    if spot.documents:
        return scribe.whole(good, bad, spot)
    if isinstance(good, dict) and isinstance(bad, dict):
        compare = diff_schema if is_schema(good) and is_schema(bad) else diff_mapping
        return compare(good, bad, spot, scribe, inner)
    if isinstance(good, list) and isinstance(bad, list):
        holds_documents = is_document_name(spot)
        return diff_list(good, bad, replace(spot, documents=holds_documents), scribe, inner)
    if isinstance(good, str) and isinstance(bad, str):
        return diff_text(good, bad, spot, scribe)
    return scribe.whole(good, bad, spot)


def diff_files(
    good: Mapping[str, Any], bad: Mapping[str, Any], spot: ChangeSpot, scribe: Scribe, inner: Inner, authors: Authors
) -> Node:
    """How an axis of files is put together: a mapping of path to text, or to what names a content that is no text."""
    if is_document_name(spot):
        return document_set(dict(good), dict(bad), spot, scribe)
    gone = {name: text for name, text in good.items() if name not in bad and isinstance(text, str)}
    come = {name: text for name, text in bad.items() if name not in good and isinstance(text, str)}
    renames = document_renames(gone, come)
    slots: dict[str, Slot] = {}
    for name, value in good.items():
        place = replace(spot.document(name), opens=":")
        if name not in bad:
            slots[name] = document_slot(name, dict(good), dict(bad), renames, place, scribe)
        elif not same(value, bad[name]):
            slots[name] = Slot(name, name, _file(name, value, bad[name], place, scribe, inner, authors))
    taken = set(renames.values())
    new = (name for name in bad if name not in good and name not in taken)
    added = [Slot(name, name, scribe.whole(MISSING, bad[name], spot.document(name))) for name in new]
    return fields(dict(good), dict(bad), slots, added)


def _file(
    name: str, good: Json, bad: Json, place: ChangeSpot, scribe: Scribe, inner: Inner, authors: Authors
) -> Node:  # fmt: skip
    if not isinstance(good, str) or not isinstance(bad, str):
        return scribe.whole(good, bad, place)
    is_data = name.lower().endswith(".json") or (name.lower().endswith(_YAML) and is_tools_axis(place.axis))
    if is_data and (parsed := _both_parsed(good, bad, name)) is not None:
        form = inner(*parsed, place)
        return WrittenData(good, bad, form.ids, form, good, name.lower().endswith(_YAML))
    split = partial(_split_piece, authors=partial(authors, name))
    ends = _line_ends(good, bad)
    if ends is None:
        return diff_text(good, bad, place, scribe, split=split)
    return _with_line_ends(good, bad, ends, place, scribe, split)


@dataclass(frozen=True, eq=False)
class WrittenData(Written):
    """Two files of JSON, or of tools as YAML: each as it is written; what is between them as data, with the indent of the good one."""

    like: str
    is_yaml: bool

    def _mix(self, on: frozenset[int]) -> Value:
        value = plain(self.form.build(on))
        if self.is_yaml:
            import yaml

            written: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
            return written
        indent = _INDENT.search(self.like)
        text = json.dumps(value, indent=indent[1] if indent else None, ensure_ascii=self.like.isascii(), allow_nan=False)
        return text + ("\n" if self.like.endswith("\n") else "")


def _both_parsed(good: str, bad: str, name: str) -> tuple[Json, Json] | None:
    """Both values, where both files are data that says something else; of YAML, lists and mappings only."""
    try:
        ours, theirs = (freeze(parsed_by_suffix(text, name)) for text in (good, bad))
    except ReleaseError:
        return None
    is_plain = name.lower().endswith(_YAML) and not all(isinstance(side, Mapping | tuple | list) for side in (ours, theirs))
    return None if is_plain or same(ours, theirs) else (ours, theirs)


@dataclass(frozen=True, eq=False)
class LineEnds(Written):
    """A text, put together with LF, that is written with one line end or the other, as the change `number` says."""

    number: int
    ends: tuple[str, str]

    def _mix(self, on: frozenset[int]) -> Value:
        text = self.form.build(on)
        return text.replace("\n", self.ends[self.number in on]) if isinstance(text, str) else text


def _line_ends(good: str, bad: str) -> tuple[str, str] | None:
    """(old, new) when every line end of the good text is another than every one of the bad text."""
    if "\n" not in good or "\n" not in bad:
        return None
    ours, theirs = (_ending(text) for text in (good, bad))
    return None if ours is None or theirs is None or ours == theirs else (ours, theirs)


def _ending(text: str) -> str | None:
    crlf = text.count("\r\n")
    return "\r\n" if crlf == text.count("\n") and crlf == text.count("\r") else "\n" if "\r" not in text else None


def _with_line_ends(
    good: str,
    bad: str,
    ends: tuple[str, str],
    place: ChangeSpot,
    scribe: Scribe,
    split: Split,
) -> Node:
    old, new = ends
    told = {"\n": "LF", "\r\n": "CRLF"}
    summary = f"only the line ends of the file: {told[old]} → {told[new]}"
    number = scribe.add(place.child("line ends"), "changed", told[old], told[new], summary)
    ours, theirs = good.replace(old, "\n"), bad.replace(new, "\n")
    form = unchanged(ours) if ours == theirs else diff_text(ours, theirs, place, scribe, split=split)
    return LineEnds(good, bad, form.ids | {number}, form, number, ends)


def _split_piece(piece: TextPiece, *, authors: Callable[[], Sequence[str]]) -> Iterator[TextPiece]:
    """A hunk by author where several people wrote it; else as it is."""
    a, b = lines_with_ends(piece.good), lines_with_ends(piece.bad)
    if piece.sentence or len(b) < 2 or (a and len(a) != len(b)):
        yield piece
        return
    pairs = list(zip(a or [""] * len(b), b, strict=True))
    whose = list(authors()[piece.new_line - 1 : piece.new_line - 1 + len(b)])
    if len(whose) != len(b) or len(set(whose)) < 2:
        yield piece
        return
    at = 0
    for _, run in groupby(_with_blanks(whose, b)):
        n = len(list(run))
        part = pairs[at : at + n]
        good, bad = "".join(x for x, _ in part), "".join(y for _, y in part)
        yield TextPiece(good, bad, piece.line + (at if a else 0), piece.new_line + at, block=piece.block)
        at += n


def _with_blanks(whose: Sequence[str], lines: Sequence[str]) -> Iterator[str]:
    """Who wrote each line; a blank one is its neighbour's, the one's before it or, at the beginning, behind it."""
    last = next((whom for whom, line in zip(whose, lines, strict=True) if line.strip()), "")
    for whom, line in zip(whose, lines, strict=True):
        last = whom if line.strip() else last
        yield last


class LineAuthors:
    """Authors by file of a checkout, each asked for once."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._known: dict[str, Sequence[str]] = {}
        self._left = _SECONDS

    def __call__(self, path: str) -> Sequence[str]:
        """The author of each line of the file `path` (below `repo`); nothing when git does not say in time."""
        if path not in self._known:
            start = time.monotonic()
            self._known[path] = self._blamed(path) if self._left > 0 else ()
            self._left -= time.monotonic() - start
        return self._known[path]

    def _blamed(self, path: str) -> Sequence[str]:
        side = self._checkout
        where = (*((side.commit,) if side.commit else ()), "--", side.prefix + path)
        try:
            said = git_output(side.top, "-c", "blame.ignoreRevsFile=", "blame", "--porcelain", *where, seconds=self._left)
        except ReleaseError:
            return ()
        return [commit.get("author", "") for commit, _ in blamed_lines(said)]
