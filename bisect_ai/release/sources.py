"""Where the values of a release came from: files and commits, and which of their lines hold a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

Keys = tuple[str | int, ...]
"""A place in a release or a parsed file: the keys and list positions that lead to it."""


@dataclass(frozen=True)
class ReleaseSource:
    """A file or folder that a value was read from. `folder`: where git is asked about it."""

    folder: Path
    path: str
    """From the top of the repository when `commit` is known, else from `folder`."""
    commit: str | None
    """The revision that a git reference named, in full; None: a file of the working folder."""
    whole: bool = False
    """A folder: the next key is the path of a text below it."""

    @property
    def is_parsed(self) -> bool:
        """Whether the file's text was parsed, so that keys lead into it."""
        return PurePosixPath(self.path).suffix.lower() in (".json", ".yaml", ".yml")


def lines_of(text: str, keys: Sequence[str | int]) -> tuple[int, int] | None:
    """First and last line (from 1) of the value that `keys` lead to in a YAML or JSON text; its key's line counts too."""
    import yaml

    try:
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    start = None
    for key in keys:
        start, node = _yaml_entry(node, key)
        if node is None:
            return None
    end = node.end_mark
    last = end.line + (end.column > 0)
    first = (start or node.start_mark).line + 1
    return first, max(first, last)


def _yaml_entry(node: Any, key: str | int) -> tuple[Any, Any]:
    """Where the entry `key` of a node begins, and its value; (None, None) when there is none."""
    if node is not None and node.id == "mapping":
        return next(((k.start_mark, v) for k, v in node.value if str(k.value) == str(key)), (None, None))
    if node is not None and node.id == "sequence" and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark, node.value[key]
    return None, None
