"""What to write for a file that nobody knows: what it looks like, which keys hold text, and the setting that would read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.queries.messages import QUESTION_KEYS, is_reply, last_user, read_messages
from bisect_ai.queries.values import embedded

ANSWER_NAMES = ("output", "answer", "response", "completion", "prediction", "generated_text", "model_output", "result")
REFERENCE_NAMES = ("reference", "expected", "target", "gold", "ground_truth", "label", "ideal")
# Columns whose names leave no doubt, small letters and underscores: what stands in them is guessed, and said.
SURE_NAMES = {
    "input": {
        "question",
        "query",
        "user_query",
        "user_question",
        "input_text",
        "user_input",
        "question_text",
        "query_text",
        "prompt",
    },
    "output": {"answer", "output", "output_text", "response", "response_text", "completion", "model_output", "generated_text"},
    "reference": {
        *(
            "reference",
            "expected",
            "expected_answer",
            "expected_output",
            "expected_response",
            "ground_truth",
            "gold",
            "gold_answer",
        ),
        *("correct_answer", "reference_answer", "ideal", "ideal_answer", "target"),
    },
}
# A column of this name holds what the answer should be, not what it was.
_TOLD_RIGHT = re.compile(r"(?i)(expected|correct|reference|gold|ideal|target|ground)")
MAX_STEPS = 3  # deeper keys are hardly the question, and make advice unreadable
MAX_NAMES = 12  # names fill two lines of an error
# How files of other kinds begin.
SIGNS = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"SQLite format 3\0", "an SQLite database"),
)


def columns_for(rows: Sequence[Mapping[str, Any]]) -> str:
    """The keys that hold text in some rows, and the `columns:` that would read them; empty where nothing is found."""
    places: dict[str, Any] = {}
    for row in rows:
        for name, value in _dotted_leaves("", row, 0):
            places.setdefault(name, value)
    talks = [name for name, value in places.items() if last_user(read_messages(value) or ())]
    replies = [name for name, value in places.items() if isinstance(value, list) and name not in talks and is_reply(value)]
    texts = [name for name, value in places.items() if isinstance(value, str) and value.strip()]
    told = f"text is in {', '.join(_clear_name(name) for name in texts[:MAX_NAMES])}" if texts else ""
    question = _likely(talks, ("messages",)) or (talks[0] if talks else None)
    column = "messages" if question else "input"
    question = (
        question or _likely(texts, QUESTION_KEYS) or next((name for name in texts if places[name].rstrip().endswith("?")), None)
    )
    if question is None:
        is_flat = not any(isinstance(value, dict | list) for row in rows for value in row.values())
        worded = texts if is_flat and len(texts) == 1 else [name for name in texts if " " in places[name].strip()]
        longest = max(worded, key=lambda name: len(places[name]), default=None)
        named = (
            f"columns: {{input: {_clear_name(longest)}}}"
            if longest
            else "columns: {input: …}, or the list of records with rows: …"
        )
        return f"{told}; name the question's{': ' if longest else ' column with '}{named}" if texts else ""
    expected = [name for name in texts if _TOLD_RIGHT.match(name.rpartition(".")[2])]
    answers = [name for name in texts if name not in expected]
    reply = next(iter(replies), None)
    others = {"output": _likely(answers, ANSWER_NAMES) or reply, "reference": _likely(texts, REFERENCE_NAMES)}
    wanted = {column: question, **{ours: name for ours, name in others.items() if name and name not in (question, ours)}}
    setting = ", ".join(f"{ours}: {_clear_name(name)}" for ours, name in wanted.items())
    return f"{f'{told}; ' if told else ''}write columns: {{{setting}}}"


def guessed_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Our field to the column that is surely it, by names that tools and people give: empty unless exactly one holds the question.

    A column that may be the answer is one that no other name fits better; what is not sure is left out.
    """
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if _holds_text(name, rows)]
    found = {ours: [name for name in names if _plain_name(name) in known] for ours, known in SURE_NAMES.items()}
    if len(found["input"]) != 1:
        return {}
    return {ours: each[0] for ours, each in found.items() if len(each) == 1 and each[0] != ours}


def _holds_text(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(row.get(name), str) and str(row.get(name)).strip() for row in rows)


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _dotted_leaves(prefix: str, value: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """The values inside a row by their dotted names: texts, and lists that may be messages."""
    for key, each in value.items():
        name, found = f"{prefix}{key}", embedded(each)
        if isinstance(found, Mapping) and depth < MAX_STEPS:
            yield from _dotted_leaves(f"{name}.", found, depth + 1)
        elif isinstance(found, str | list):
            yield name, found


def _likely(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the names that ends like one of the wanted words, the likeliest word first."""
    lasts = {name: _last_step(name) for name in names}
    exact = next((name for word in wanted for name in names if lasts[name] == word), None)
    return exact or next((name for word in wanted if len(word) > 4 for name in names if word in lasts[name]), None)


def _last_step(name: str) -> str:
    """The last step of a dotted name that says what it holds."""
    *_, before, last = ["", *name.lower().split(".")]
    return before if before and last in ("value", "text", "content") else last


def _clear_name(name: str) -> str:
    return " ".join(name.split())[:60]


def looks_like(path: Path) -> str:
    """What a file of unknown format looks like, in a few words."""
    with path.open("rb") as stream:
        head = stream.read(4_096)
    if not head:
        return "it is empty"
    if (sign := next((told for magic, told in SIGNS if head.startswith(magic)), None)) is not None:
        return f"it looks like {sign}"
    if b"\0" in head:
        return "it looks like a binary file"
    line = head.decode("utf-8", "replace").strip().partition("\n")[0]
    marks = {"<": "XML or HTML", "---": "YAML", "|": "a Markdown table"}
    named = next((told for mark, told in marks.items() if line.startswith(mark)), None)
    delimited = next((letter for letter in ",;\t" if line.count(letter) > 1), None)
    return f"it looks like {named or ('a table' if delimited else 'plain text')}, and begins {' '.join(line.split())[:40]!r}"
