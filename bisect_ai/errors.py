"""Every error that bisect-ai raises on purpose, on one page; below them, how pydantic checks for it.

BisectError
├── InputError          what the user wrote or pointed at is wrong (exit code 2)
│   ├── ReleaseError    a release file, reference or combination of changes
│   │   └── Unchanged   the two releases do not differ
│   ├── QueryError      a log, a record, a column map
│   └── ConfigError     bisect.yaml or a keyword of run()
├── Infeasible          a target cannot run a combination: the cell is left out and named
├── TargetFailure       the target kept failing; what was paid for is kept (exit code 4)
└── StoreError          the store cannot be read or written; nothing acknowledged is lost (exit code 2)

Interrupted (a KeyboardInterrupt) is raised when the user asked to stop, by Ctrl-C or a signal; it is no error.

A message says what was attempted, on what, why it failed and what to do, on one line.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Where a mistake is in what pydantic checked.
Place = tuple[int | str, ...]


class BisectError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line ends with."""

    exit_code = 2


class InputError(BisectError):
    """What the user wrote or pointed at is wrong."""


class ReleaseError(InputError):
    """A release file, one of its references, or a combination of its changes is wrong."""


class Unchanged(ReleaseError):
    """The two releases are identical in every axis."""


class QueryError(InputError):
    """A log, one of its records or the column map is wrong."""


class ConfigError(InputError):
    """bisect.yaml, a command-line option or a keyword of `run` is wrong."""


class Infeasible(BisectError):
    """Raised by a target that cannot run a combination of axes; the cell is left out and named."""


class TargetFailure(BisectError):
    """The target kept failing; what was paid for is kept."""

    exit_code = 4


class StoreError(BisectError):
    """The store cannot be read or written; nothing acknowledged is lost."""


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; everything answered until then is kept. `signal` is the signal's number."""

    def __init__(self, signal: int) -> None:
        super().__init__("stopped by a signal: everything answered so far is kept; the same run goes on from there")
        self.signal = signal

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word that is most like `word`, which is probably a slip of it; None where none is (`cutoff`: how alike, 0 to 1)."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def first_problem(told: Sequence[ErrorDetails], suggestion: Callable[[Place], str]) -> str:
    """The first of pydantic's mistakes in words; a key that was only misspelt is told before the one that is missing for it.

    `suggestion`: what to say after a key that is unknown.
    """
    misspelt = (each for each in told if each["type"] == "extra_forbidden" and "did you mean" in suggestion(each["loc"]))
    first = next(misspelt, told[0])
    key = ".".join(str(part) for part in first["loc"])
    if not key:
        return str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{suggestion(first['loc'])}"
    if first["type"] == "missing":
        return f"the key {key!r} is missing{_MISSING.get(key, '')}"
    return f"key {key!r}: {_complaint(first)}, got {str(first['input'])[:60]!r}{_meant_value(key, first)}"


_MISSING = {
    "good": "; name the release that was fine, for example good: releases/v1.yaml, or a git revision",
    "bad": "; with one release: bisect-ai drift (does it still score as its log says?)",
    "target": "; say what answers, for example target: {kind: python, function: app:answer}; `bisect-ai guide targets` has them all",
}


_EXAMPLES = {
    "budget": "{calls: 600}",
    "couplings": "[[prompt, tools]]",
    "log": "{path: logs/*.jsonl}",
    "log.columns": "{input: question}",
    "log.segment": "intent, one column",
}


def _complaint(first: ErrorDetails) -> str:
    """What is wrong with a value, without the words of Python."""
    told, limits = str(first["msg"]).removeprefix("Value error, "), first.get("ctx", {})
    if first["type"] in _LIMITS:
        return _LIMITS[first["type"]].format(*limits.values())
    return _TAKES.get(first["type"], told[:1].lower() + told[1:])


_LIMITS = {
    "greater_than_equal": "it must be {0} or more",
    "greater_than": "it must be more than {0}",
    "less_than_equal": "it must be {0} or less",
    "less_than": "it must be less than {0}",
}
_TAKES = {
    "model_type": "it takes keys with values",
    "dict_type": "it takes keys with values",
    "float_parsing": "it takes a number",
    "int_parsing": "it takes a whole number",
    "int_from_float": "it takes a whole number",
    "string_type": "it takes a text",
    "list_type": "it takes a list",
    "tuple_type": "it takes a list",
    "bool_parsing": "it takes true or false",
}


def _meant_value(key: str, first: ErrorDetails) -> str:
    """What a value was probably meant to be."""
    given = first["input"]
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", str(given))
    if percent and first["type"] == "float_parsing":
        return f"; did you mean {float(percent[1]) / 100:g}?"
    if (
        money := re.fullmatch(r"\s*[$€£]?\s*(\d+(?:\.\d+)?)\s*(?:usd|eur|calls?|min(?:utes)?|[$€£])?\s*", str(given), re.I)
    ) and first["type"].endswith("_parsing"):
        return f"; write {key}: {money[1]}"
    if key == "alpha" and isinstance(given, int | float) and given > 0.5:
        right = 1 - given if given < 1 else (100 - given) / 100
        return "; it is the chance of a wrong verdict" + (
            f": did you mean {right:.2g}?" if 0 < right <= 0.5 else ", such as 0.05"
        )
    if first["type"].endswith("_type") and (named := next((k for k in (key, key.partition(".")[0]) if k in _EXAMPLES), None)):
        return f"; write {named}: {_EXAMPLES[named]}"
    if first["type"] == "literal_error":
        near = nearest(str(given), re.findall(r"'([^']+)'", str(first["msg"])))
        return f"; did you mean {near!r}?" if near else ""
    return ""


_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"


@contextmanager
def without_plugins() -> Iterator[None]:
    """Inside, pydantic builds models without plugins: it looks for them in every installed package, for a tenth of a second.

    They are for the models of applications: ours have no use for them, those that the user's code builds later keep theirs.
    """
    given = os.environ.get(_PLUGINS)
    os.environ[_PLUGINS] = "__all__"
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(_PLUGINS, None)
        else:
            os.environ[_PLUGINS] = given
