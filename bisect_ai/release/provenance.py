"""Who made a change, when and why: what the release file says, and what git says of that very line, document or field.

Git is asked when a value came from it (`{git: "REV:path"}`), when the provenance block names a revision (`source: "git:REV"`), or when
the block does not know the author and the file lies in a repository. A line is blamed through that revision; for a
document its last commit counts; for what was removed, the commit that took it out. `CODEOWNERS` of that revision gives the owner,
else the provenance block does. Whatever is not known is named in `gaps`, in words; nothing here ever fails a run.

A change's provenance: `owner`, `author`, `at`, `why`, `source` as the block has them; `commit`, `date` (ISO 8601), `subject`, `line`,
`file` from git, whose `author`
(of the line) takes the place of the block's (of the release); without git `file` from the release file's folder, and `line`; `gaps`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from bisect_ai.errors import ReleaseError
from bisect_ai.release.changes import Change, Tree
from bisect_ai.release.checkout import CODEOWNERS, code_owner
from bisect_ai.release.composition import MISSING, Fields, Items, Node, Present, Recast, Slot, Text, Written
from bisect_ai.release.load import Release
from bisect_ai.release.references import Keys, ReleaseSource, lines_of
from bisect_ai.release.source_files import blamed_lines, git_output


@dataclass(frozen=True)
class Place:
    """Keys below the axis; `first` and `last`: lines of the text there (from 1), None for a value as a whole."""

    keys: Keys
    first: int | None = None
    last: int | None = None


def place_of(node: Node, change: int, *, bad: bool, keys: Keys = ()) -> Place | None:
    """Where the change lies on one side of an axis; None when that side has nothing there."""
    if change not in node.ids:
        return None
    if isinstance(node, Text):
        return _in_text(node, change, bad, keys)
    if isinstance(node, Present):
        here = node.when if bad else not node.when
        return (Place(keys) if here else None) if node.change == change else place_of(node.node, change, bad=bad, keys=keys)
    if isinstance(node, Fields):
        return _in_fields((*node.slots.values(), *node.added), change, bad, keys)
    if isinstance(node, Items):
        return _in_items(node, change, bad, keys)
    if isinstance(node, Written) and not isinstance(node, Recast) and change in node.form.ids:
        return place_of(node.form, change, bad=bad, keys=keys)
    return None if (node.bad if bad else node.good) is MISSING else Place(keys)


def _in_text(node: Text, change: int, bad: bool, keys: Keys) -> Place | None:
    line = 1
    for piece in node.pieces:
        text = piece if isinstance(piece, str) else piece[1] if bad else piece[0]
        if not isinstance(piece, str) and piece[2] == change and text:
            kept = text.strip("\n")  # the blank lines around it are nobody's
            first = line + text.index(kept) if kept else line
            return Place(keys, first, first + (kept or text.removesuffix("\n")).count("\n"))
        line += text.count("\n")
    return None


def _in_fields(slots: Iterable[Slot], change: int, bad: bool, keys: Keys) -> Place | None:
    for slot in slots:
        below = (*keys, slot.bad_key if bad else slot.good_key)
        if slot.rename == change:
            return Place(below)
        if (found := place_of(slot.node, change, bad=bad, keys=below)) is not None:
            return found
    return None


def _in_items(node: Items, change: int, bad: bool, keys: Keys) -> Place | None:
    if node.reorder == change:
        return Place(keys)
    turned = bad and node.reorder is not None
    number = 0
    for slot in [node.slots[i] for i in node.bad_order] if turned else node.slots:
        if (found := place_of(slot, change, bad=bad, keys=(*keys, number))) is not None:
            return found
        number += (slot.bad if bad else slot.good) is not MISSING
    return None


# Changes that are traced in one report; each costs a few git commands.
MOST = 40
_SECONDS = 10  # of one blame: who changed a line is worth no longer wait
_NAMED = re.compile(r"git:([0-9A-Za-z][0-9A-Za-z_./~^-]{0,200})")  # a release that names a revision
_UNCOMMITTED = "0" * 40  # what git blame gives for a line that is not committed
_NOBODY = "nobody owns it"


@dataclass(frozen=True)
class BlamedLines:
    """A place in a repository's file; without lines the file as a whole. `gone`: it is not there any more."""

    source: ReleaseSource
    commit: str
    path: str
    first: int | None = None
    last: int | None = None
    gone: str | None = None
    # The lines hold a value of a parsed file, which may be written in another way there.
    is_parsed: bool = False


class Untraced(Exception):
    """Why git could not say."""


class Tracer:
    """Answers for the changes of one tree; what git said is kept for the next question."""

    def __init__(self, tree: Tree, good: Release, bad: Release) -> None:
        self._tree, self._good, self._bad = tree, good, bad
        self._number = {c: i for i, c in enumerate(tree.changes)}
        self._said: dict[tuple[object, ...], bytes] = {}
        self._traced = 0
        self._given_up = ""

    def of(self, change: Change) -> dict[str, Any]:
        """The change's provenance, with `gaps` for what nobody recorded."""
        known = dict(change.provenance)
        gaps = []
        try:
            known |= self._from_git(change, known)
        except (Untraced, ReleaseError) as reason:
            known |= self._from_file(change)
            if not known.get("author"):
                gaps.append(f"nobody recorded who changed it: {reason}")
        if not known.get("owner"):
            gaps.insert(0, _NOBODY)
        return {**known, "gaps": gaps}

    def _from_git(self, change: Change, block: Mapping[str, Any]) -> dict[str, Any]:
        if self._given_up or self._traced >= MOST:
            raise Untraced(self._given_up or "there are too many changes to ask git about each")
        self._traced += 1
        spot = self._spot(change, block)
        found = self._blamed(spot, change) if spot.first is not None else self._last_commit(spot)
        owner = self._owner(spot)
        where = {"file": spot.path} | ({"line": spot.first} if spot.first is not None else {})
        return {**found, **where, **({"owner": owner} if owner else {})}

    def _from_file(self, change: Change) -> dict[str, Any]:
        """The file and line of the bad release that hold the change, told without git; empty where no file does."""
        place = place_of(self._tree.nodes[change.axis], self._number[change], bad=True)
        found = None if place is None else _source_of_keys(self._bad, (change.axis, *place.keys))
        if place is None or found is None or self._bad.source is None:
            return {}
        source, keys = found
        path = source.folder / source.path
        if source.whole and keys:
            path, keys = path / str(keys[0]), keys[1:]
        try:
            where = {"file": _told_from(self._folder(self._bad.source), path.resolve())}
            if keys:
                lines = lines_of(path.read_text(encoding="utf-8"), keys)
                return where if lines is None else {**where, "line": lines[0]}
        except (OSError, ValueError):
            return {}
        is_line = place.first is not None and not source.is_parsed
        return {**where, "line": place.first} if is_line else where

    def _folder(self, bad: Path) -> Path:
        """The folder that files are told from: the bad release file's, or one above where both releases have files of one name."""
        folder = bad.resolve().parent
        if self._good.source is None or self._good.source.name != bad.name or self._good.source.resolve().parent == folder:
            return folder
        return Path(os.path.commonpath([folder, self._good.source.resolve().parent]))

    # -- where it is -------------------------------------------------------------------------------------------------
    def _spot(self, change: Change, block: Mapping[str, Any]) -> BlamedLines:
        number, node = self._number[change], self._tree.nodes[change.axis]
        place = place_of(node, number, bad=True)
        if place is not None:
            return self._located(change.axis, place, self._bad, block)
        before = place_of(node, number, bad=False)
        if before is None:
            raise Untraced("the change has no place in either release")
        was = self._located(change.axis, before, self._good, {})
        now = _source_of_keys(self._bad, (change.axis, *before.keys))
        if now is None:
            raise Untraced("it was removed, and the bad release did not come from git")
        commit = self._commit(now[0], block)
        return BlamedLines(was.source, commit, was.path, gone=_telling_line(change.before) if was.first is not None else "")

    def _located(self, axis: str, place: Place, release: Release, block: Mapping[str, Any]) -> BlamedLines:
        found = _source_of_keys(release, (axis, *place.keys))
        if found is None:
            raise Untraced("the release was given from Python")
        source, keys = found
        commit = self._commit(source, block)
        path = self._from_top(source) if source.commit is None else source.path
        is_parsed = source.is_parsed
        if source.whole and keys:
            path, keys = f"{path.rstrip('/')}/{keys[0]}".lstrip("/"), keys[1:]
            is_parsed = bool(keys)
        if not keys and place.first is not None and not is_parsed:
            return BlamedLines(source, commit, path, place.first, place.last)
        if not keys:
            return BlamedLines(source, commit, path)
        lines = lines_of(self._text(source, commit, path), keys)
        if lines is None:
            raise Untraced(f"the value is not in {path} at that revision")
        return BlamedLines(source, commit, path, *lines, is_parsed=is_parsed)

    def _commit(self, source: ReleaseSource, block: Mapping[str, Any]) -> str:
        """The revision to ask through, in full."""
        if source.commit is not None:
            return source.commit
        named = _NAMED.match(str(block.get("source") or ""))
        if named is None and block.get("author"):
            raise Untraced("the release file says who")
        revision = named[1].split(":")[0] if named else "HEAD"
        return (
            self._git(source, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
        )

    def _from_top(self, source: ReleaseSource) -> str:
        prefix = self._ask(source.folder, "rev-parse", "--show-prefix").decode("utf-8", "replace").removesuffix("\n")
        return f"{prefix}{source.path}"

    def _text(self, source: ReleaseSource, commit: str, path: str) -> str:
        return self._git(source, "cat-file", "blob", f"{commit}:{path}").decode("utf-8", "replace")

    # -- who, when, why ----------------------------------------------------------------------------------------------
    def _blamed(self, spot: BlamedLines, change: Change) -> dict[str, Any]:
        """The latest commit among those of the lines; the lines must be the ones that the release holds."""
        assert spot.first is not None and spot.last is not None
        where = ("-L", f"{spot.first},{spot.last}", spot.commit, "--", spot.path)
        said = self._git(spot.source, "-c", "blame.ignoreRevsFile=", "blame", "--porcelain", "--no-textconv", *where)
        found = blamed_lines(said)
        if not found:
            raise Untraced("git blame said nothing")
        if isinstance(change.after, str) and not spot.is_parsed and not _same_lines(change.after, [line for _, line in found]):
            raise Untraced(f"{spot.path} at that revision is not what the release holds")
        newest = max((commit for commit, _ in found), key=lambda c: (int(c.get("author-time", "0") or 0), c["commit"]))
        if newest["commit"] == _UNCOMMITTED:
            raise Untraced("the line is not committed")
        date = _date(newest.get("author-time", ""), newest.get("author-tz", ""))
        return _commit_facts(newest["commit"], newest.get("author", ""), date, newest.get("summary", ""))

    def _last_commit(self, spot: BlamedLines) -> dict[str, Any]:
        """The last commit that touched a file, or that took a line or a file out."""
        which = [] if spot.gone is None else [f"-S{spot.gone}"] if spot.gone else ["--diff-filter=DR"]
        form = "--format=%H%x00%an%x00%aI%x00%s"
        where = (*which, form, spot.commit, "--", spot.path)
        said = self._git(
            spot.source, "--literal-pathspecs", "log", "-1", "--no-textconv", "--no-ext-diff", "--no-show-signature", *where
        )
        parts = said.decode("utf-8", "replace").rstrip("\n").split("\0")
        if len(parts) != 4:
            raise Untraced(f"git has no commit of {spot.path}")
        return _commit_facts(*parts)

    def _owner(self, spot: BlamedLines) -> str | None:
        """Who owns the file by CODEOWNERS: the last line that fits it."""
        for name in CODEOWNERS:
            try:
                rules = self._text(spot.source, spot.commit, name)
            except (Untraced, ReleaseError):
                continue
            return code_owner(rules, spot.path)
        return None

    def _git(self, source: ReleaseSource, *arguments: str) -> bytes:
        return self._ask(self._top(source), *arguments)

    def _top(self, source: ReleaseSource) -> Path:
        """The top of the repository: paths begin there, and git reads those of its arguments from the folder that it runs in."""
        return Path(
            self._ask(source.folder, "rev-parse", "--show-toplevel").decode("utf-8", "surrogateescape").removesuffix("\n")
        )

    def _ask(self, folder: Path, *arguments: str) -> bytes:
        key = (folder, *arguments)
        if key not in self._said:
            if self._given_up:
                raise Untraced(self._given_up)
            try:
                self._said[key] = git_output(folder, *arguments, seconds=_SECONDS)
            except ReleaseError as failure:
                if "more than" in str(failure):
                    self._given_up = f"git took more than {_SECONDS} s"
                raise
        return self._said[key]


def traced(tree: Tree, good: Release, bad: Release, changes: Iterable[Change]) -> dict[Change, dict[str, Any]]:
    """The provenance of these changes."""
    tracer = Tracer(tree, good, bad)
    return {change: tracer.of(change) for change in changes}


def _told_from(folder: Path, path: Path) -> str:
    """The path from the release file's folder, or from the nearest folder above it that holds both ("prompts/system.md")."""
    top = next((each for each in (folder, *folder.parents) if path.is_relative_to(each)), None)
    return path.name if top is None or top == Path(top.anchor) else path.relative_to(top).as_posix()


def _source_of_keys(release: Release, keys: Keys) -> tuple[ReleaseSource, Keys] | None:
    """What a value was read from, by the longest reference that holds it, and the keys inside; else the release file itself."""
    for end in range(len(keys), 0, -1):
        if keys[:end] in release.sources:
            return release.sources[keys[:end]], keys[end:]
    if () in release.sources:  # the release file itself, at a commit
        return release.sources[()], ("axes", *keys)
    if release.source is None:
        return None
    file = release.source.resolve()
    return ReleaseSource(file.parent, file.name, None), ("axes", *keys)


def _commit_facts(commit: str, author: str, date: str, subject: str) -> dict[str, Any]:
    found = {"commit": commit, "author": author, "date": date, "subject": subject}
    return {key: value for key, value in found.items() if value}


def _same_lines(after: str, lines: Sequence[str]) -> bool:
    """Whether blamed lines hold the text of a change (a sentence may be part of a line)."""
    return " ".join(after.split()) in " ".join(" ".join(lines).split())


def _telling_line(before: Any) -> str:
    """The longest line of what was removed, to look for the commit that removed it."""
    longest = max(str(before).split("\n"), key=len) if before else ""
    return longest[:1000]


def _date(seconds: str, zone: str) -> str:
    try:
        sign = -1 if zone.startswith("-") else 1
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5])) * sign
        return datetime.fromtimestamp(int(seconds), UTC).astimezone(timezone(offset)).isoformat()
    except (ValueError, OverflowError, OSError):
        return ""
