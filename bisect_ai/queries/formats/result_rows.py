"""What formats of evaluation results share: a row with a question, an answer, scores and a reference as a call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bisect_ai.queries.formats.field_table import Value
from bisect_ai.queries.messages import QUESTION_KEYS, Message, answer_of, question_of, read_messages
from bisect_ai.queries.normalise import exchange_of, score_of
from bisect_ai.queries.values import decoded, missing

_TIME = re.compile(r"[T_](\d\d)-?(\d\d)-?(\d\d)")
ANSWER_KEYS = ("output", "answer", "response", "text", "result", "content", "completion", "generated_text", "return")
"""Where a traced function's output has its one text."""


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
