"""The difference of two releases as a tree of changes: axis, then key, file, tool or folder, then the change itself.

Mappings are compared by key, lists of named objects by name, other lists by alignment, texts by hunk, document sets by
document, tool schemas by field; anything else is one change. A rename, a move and a field together with its entry in
`required` are one change each, so that no half of them can be applied alone.
"""

from __future__ import annotations

from dataclasses import replace

from bisect_ai.canonical import Json, plain
from bisect_ai.release.changes import Change, ChangeSpot, Group, Scribe, Tree
from bisect_ai.release.composition import Node, Recast, Value
from bisect_ai.release.file_changes import LineAuthors, diff_files
from bisect_ai.release.frozen import MISSING, freeze, same
from bisect_ai.release.lists import diff_list
from bisect_ai.release.load import Release, changed_axes
from bisect_ai.release.mappings import diff_mapping, diff_schema, is_document_name, is_schema
from bisect_ai.release.texts import diff_text
from bisect_ai.release.tools import compared_tools, is_tools_axis

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
