"""Who owns a file, by the `CODEOWNERS` of its revision: the last line that fits it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from bisect_ai.release.checkout import Checkout

CODEOWNERS = ("CODEOWNERS", ".github/CODEOWNERS", ".gitlab/CODEOWNERS", "docs/CODEOWNERS")
_MOST_LINES = 5_000
_LONGEST_PATTERN = 500
_MOST_FILES = 200


def code_owner(rules: str, path: str) -> str | None:
    """The owners of a path (from the top of the repository), as the rules name them; None: nobody."""
    from pathspec import GitIgnoreSpec

    for line in reversed(rules.split("\n")[:_MOST_LINES]):
        pattern, *owners = line.split("#")[0].split()[:20] or ("",)
        if not pattern or len(pattern) > _LONGEST_PATTERN or pattern.count("*") > 8 or pattern.startswith("!"):
            continue
        try:
            fits = GitIgnoreSpec.from_lines([pattern]).match_file(PurePosixPath(path).as_posix())
        except ValueError:
            continue
        if fits:
            return " ".join(owners) or None
    return None


def owner_of_files(side: Checkout, paths: Collection[str]) -> str | None:
    """Who owns all of these files, when that is one owner."""
    name = next((name for name in CODEOWNERS if name in side.entries), None)
    if name is None or not paths or len(paths) > _MOST_FILES:
        return None
    ((_, content),) = side.read([name])
    rules = content.decode("utf-8", "replace")
    owners = {code_owner(rules, path) for path in paths}
    return owners.pop() if len(owners) == 1 else None
