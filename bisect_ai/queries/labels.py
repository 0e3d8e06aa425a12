"""Releases told apart by another column: the file, the run, a prompt's name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from bisect_ai.errors import QueryError


@dataclass(frozen=True)
class Labels:
    """The rule of `release: {by: file, good: "a*.json", bad: "b*.json"}`: a column, and a pattern for each label."""

    by: str
    patterns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, rule: Mapping[str, Any] | None) -> Labels | None:
        """The rule that a setting writes; None for none. Raises `QueryError` for a rule that names no column or no label."""
        if rule is None:
            return None
        by = rule.get("by")
        patterns = tuple((str(name), str(pattern)) for name, pattern in rule.items() if name != "by")
        if not isinstance(by, str) or not by or not patterns:
            raise QueryError(
                'log.release names no column or no label; write release: {by: file, good: "a*.json", bad: "b*.json"}, '
                "where `by` is file, run_id, run_name or a column of the log"
            )
        return cls(by, patterns)

    def label(self, value: str | None) -> str | None:
        """The first label whose pattern the value matches; None for none."""
        if value is None:
            return None
        return next((name for name, pattern in self.patterns if matches(value, pattern, is_path=self.by == "file")), None)


def matches(value: str, pattern: str, *, is_path: bool) -> bool:
    """Whether a value matches a shell pattern; of paths only as many last parts count as both have."""
    if not is_path:
        return fnmatchcase(value, pattern)
    own, wanted = PurePath(value).parts, PurePath(pattern).parts
    depth = min(len(own), len(wanted))
    return bool(depth) and all(fnmatchcase(a, b) for a, b in zip(own[-depth:], wanted[-depth:], strict=True))


def file_names(paths: Sequence[Path]) -> list[str]:
    """What each of a log's files is called: its path below the folder that they share, so that a name tells them apart."""
    if len(paths) == 1:
        return [paths[0].name]
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [path.absolute().relative_to(shared).as_posix() for path in paths]
