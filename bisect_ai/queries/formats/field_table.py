"""What a format is and how its table of fields is read; and what formats of evaluation results share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bisect_ai.queries.messages import QUESTION_KEYS, Message, answer_of, question_of, read_messages
from bisect_ai.queries.normalise import exchange_of, score_of
from bisect_ai.queries.traces import Made
from bisect_ai.queries.values import decoded, embedded, missing

# Our field -> their fields, the first that is there counts; dots reach into nested ones.
Table = Mapping[str, Sequence[str]]
Value = dict[str, Any]


class Piece(NamedTuple):
    """A record of the source, and the name of the trace or pair that it belongs to; None: it stands alone.

    `local`: the name means something in its file only.
    """

    group: str | None
    value: Value
    local: bool = False


Split = Callable[[str, Value], Iterable[Piece]]


@dataclass(frozen=True)
class Format:
    """How one tool writes its log. `parts` are the paths of its records in a JSON document (`documents`).

    `suits` tells from a path and a record whether the file is of this format. `split` makes a reader of one file, which may
    remember what it has read (a resource before its spans). `build` turns the pieces of one group into records.
    """

    name: str
    parts: frozenset[str]
    suits: Callable[[str, Value], bool]
    split: Callable[[], Split]
    build: Callable[[Sequence[Value]], Iterator[Made]]
    # Reads a file that is neither JSON, JSONL, CSV nor Parquet; None: it is one of these.
    open: Callable[[Path], Iterator[tuple[str, Value]] | None] = lambda _: None
    # Those of `parts` that say something of the records after them, but do not make a file one of this format.
    headers: frozenset[str] = frozenset()
    # What a file's name says of its run.
    named: Callable[[str], Value] = lambda _: {}

    @property
    def inner(self) -> frozenset[str]:
        """The paths of records inside a document."""
        return self.parts - self.headers - {""}


def reach(value: Any, path: str) -> Any:
    """The value at a dotted path, JSON text on the way parsed; a key that itself has dots comes first. None for none."""
    if not isinstance(value, Mapping):
        return None
    if path in value:
        return value[path]
    head, _, rest = path.partition(".")
    return reach(embedded(value.get(head)), rest) if rest else None


def first(value: Value, paths: Iterable[str]) -> Any:
    """The first of the paths that holds anything; JSON text is parsed."""
    return next((embedded(found) for path in paths if not missing(found := reach(value, path))), None)


def raw(value: Value, paths: Iterable[str]) -> Any:
    """The first of the paths that holds anything, a text as it is. None for none."""
    return next((found for path in paths if not missing(found := reach(value, path))), None)


def take(value: Value, table: Table) -> Value:
    """Our fields as the table finds them; those that are not there are left out."""
    found = {ours: first(value, theirs) for ours, theirs in table.items()}
    return {ours: each for ours, each in found.items() if each is not None}


def rest(value: Value, *tables: Table) -> Value:
    """What no table reads as a whole: unknown fields, kept under their own names."""
    known = {path for table in tables for theirs in table.values() for path in theirs}
    return {name: each for name, each in value.items() if name not in known and not missing(each)}


def newest(values: Sequence[Value], key: str, stamp: str) -> tuple[list[Value], int]:
    """The values with only the newest of each `key` kept, by `stamp`; and how many were left out."""
    kept: dict[str, Value] = {}
    for number, value in enumerate(values):
        name = str(value.get(key) or f"#{number}")
        before = kept.get(name)
        if before is None or str(value.get(stamp) or "") >= str(before.get(stamp) or ""):
            kept[name] = value
    return list(kept.values()), len(values) - len(kept)


_TIME = re.compile(r"[T_](\d\d)-?(\d\d)-?(\d\d)")  # a time in the name of a file, which may hold no colon
# Where a traced function's output has its one text.
ANSWER_KEYS = ("output", "answer", "response", "text", "result", "content", "completion", "generated_text", "return")


def asked_messages(given: Any) -> list[Message]:
    """The messages of a recorded input: its messages, its likeliest question, or all of it as JSON."""
    found = decoded(given)
    if missing(found):
        return []
    if messages := read_messages(found):
        return messages
    named = isinstance(found, Mapping) and any(isinstance(found.get(key), str | list | dict) for key in QUESTION_KEYS)
    question = (question_of(found) if named else None) or exchange_of(found, None).question
    return [{"role": "user", "content": question}] if question else []


def said_message(returned: Any) -> Message | None:
    """The assistant's message of a recorded output; an object that holds one text under a plain name is that text."""
    found = returned
    if isinstance(found, Mapping) and len(found) == 1:
        ((name, held),) = found.items()
        found = held if name in ANSWER_KEYS and isinstance(held, str | Mapping) else found
    text = None if missing(found) else answer_of(found)
    return None if text is None else {"role": "assistant", "content": text}


def numbers_of(listed: Any, *, cell: bool = False) -> dict[str, float]:
    """The scores of a mapping; those that are no numbers are left out."""
    if not isinstance(listed, Mapping):
        return {}
    found = {str(name): score_of(value, cell=cell) for name, value in listed.items()}
    return {name: score for name, score in found.items() if score is not None}


def documents_in(returned: Any) -> list[Any]:
    """The documents that a retriever gave back: `{text, …}` each, LangChain's `page_content` as the text."""
    found = decoded(returned)
    if isinstance(found, Mapping):
        found = found.get("documents", found.get("output"))
    listed = found if isinstance(found, list) else []
    return [
        {"text": each["page_content"], **each} if isinstance(each, Mapping) and "page_content" in each else each
        for each in listed
    ]


def below(row: Value, prefix: str) -> Value:
    """The columns under a prefix (`feedback.`), without it."""
    return {name[len(prefix) :]: value for name, value in row.items() if name.startswith(prefix) and not missing(value)}


def stamp_of(file: str, pattern: re.Pattern[str]) -> Value:
    """The run's name and time in a file's name, where the pattern names its groups so."""
    found = pattern.search(file)
    named = {name: value for name, value in found.groupdict().items() if value} if found else {}
    return {**named, **({"run_at": _TIME.sub(r"T\1:\2:\3", named["run_at"])} if "run_at" in named else {})}
