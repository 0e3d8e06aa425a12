"""What takes files of some axes back to the good revision: a git command that can be pasted in the repository."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping

from bisect_ai.release.checkout import Checkout
from bisect_ai.release.git import tag_of
from bisect_ai.release.load import Release
from bisect_ai.runs.prepared import Prepared

MOST_FILES = 12
"""Files that a command names, the most: a longer one is written as a release file instead."""
_PLAIN = re.compile(r"[\w.,+@%=/ ~-]+")
_RELATIVE = re.compile(r"^(?:HEAD|@)|[~^]")
"""A revision that is another one after the next commit, such as that of the fix."""
_LONG_DIGITS = re.compile(r"[0-9a-f]{13,}")
_SHORT = 12
_PATTERN = re.compile(r"[*?\[\\]|^:")


def git_command(prepared: Prepared, axes: Collection[str]) -> str | None:
    """`git checkout GOOD -- FILES` for the files of these axes that differ; None: the axes are no files, or it cannot be written.

    Files that only the bad revision has are removed; where it is the working tree, what is not committed is stashed first. A name that
    a terminal would not show as it is gives no command.
    """
    good, bad = prepared.good, prepared.bad
    if good.checkout is None or bad.checkout is None or good.checkout.commit is None:
        return None
    back, gone = _files(good, bad, axes)
    revision = _lasting_name(good.name, good.checkout)
    if (
        (not back and not gone)
        or len(back) + len(gone) > MOST_FILES
        or not all(map(_PLAIN.fullmatch, [revision, *back, *gone]))
    ):
        return None
    repo = prepared.config.repository.repo
    git = ["git", *(["-C", repo] if repo != "." else [])]
    git += ["--literal-pathspecs"] if any(map(_PATTERN.search, [*back, *gone])) else []
    parts, known = [], ["--quiet"]
    if bad.checkout.commit is None:
        there = [path for path in (*back, *gone) if bad.checkout.prefix + path in bad.checkout.entries]
        announced = _announced(bad.checkout) if there else []
        if len(announced) > MOST_FILES or not all(map(_PLAIN.fullmatch, announced)):
            return None
        parts = [shlex.join([*git, "add", "--", *announced])] if announced else []  # else git refuses to stash anything
        parts += [shlex.join([*git, "stash", "push", "--quiet", "--", *there])] if there else []
        known = ["--quiet", "--ignore-unmatch"]  # a file that no commit has went into the stash
    parts += [shlex.join([*git, "rm", *known, "--", *gone])] if gone else []  # first: a folder may stand where a file was
    parts += [shlex.join([*git, "checkout", revision, "--", *back])] if back else []
    return " && ".join(parts)


def _lasting_name(name: str, side: Checkout) -> str:
    """The revision under a name that is short and stays: for a relative one, or one of many digits, its tag or its first digits."""
    assert side.commit is not None, "the working tree is not gone back to"
    if not _RELATIVE.search(name) and not _LONG_DIGITS.fullmatch(name):
        return name
    return tag_of(side.top, side.commit) or side.commit[:_SHORT]


def _announced(side: Checkout) -> list[str]:
    """Files of which git knows the name only, from `repo`."""
    return [os.path.relpath(path, side.prefix or ".") for path, entry in side.entries.items() if entry.is_announced]


def _files(good: Release, bad: Release, axes: Collection[str]) -> tuple[list[str], list[str]]:
    """Files of the axes that the good revision has otherwise, and those that only the bad one has."""
    back, gone = [], []
    for axis in axes:
        before, after = (side.axes.get(axis, {}) for side in (good, bad))
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
            continue
        back += [path for path in before if before[path] != after.get(path)]
        gone += [path for path in after if path not in before]
    return back, gone
