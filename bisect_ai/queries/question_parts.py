"""Columns that belong to the question beside the one that is asked: an instruction, a passage, the choices.

An `instruction` beside an `input`, as Alpaca has them, is asked with it; of all others a notice says that they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.query import Query
from bisect_ai.queries.records import PLUS, parts_of
from bisect_ai.queries.values import decoded

INSTRUCTION = "instruction"
AFTER = ("choices", "options")
BESIDE = (
    INSTRUCTION,
    "instructions",
    "context",
    "passage",
    "premise",
    "prompt",
    "question",
    "query",
    "input",
    "system",
    *AFTER,
)
# Different values of a column `system` from which on it is no release's prompt but each record's own.
OWN_SYSTEMS = 3


def with_instruction(rows: Sequence[Mapping[str, Any]], named: Mapping[str, Any]) -> dict[str, str]:
    """The columns that are asked together where rows have an instruction of their own beside the input; `named`: the settings.

    One instruction for all is a release's prompt, which is not asked inside another.
    """
    is_decided = {"input", "messages"} & {*named} or INSTRUCTION in [part for each in _named(named) for part in parts_of(each)]
    if is_decided or any(row.get(name) for row in rows for name in ("messages", "history", "vars")):
        return {}
    told = [text for row in rows if "input" in row and isinstance(text := row.get(INSTRUCTION), str) and text.strip()]
    return {"input": f"{INSTRUCTION}{PLUS}input"} if len(set(told)) > 1 or len(told) == len(rows) == 1 else {}


def guess_told(columns: Mapping[str, str]) -> str:
    """What a notice says of columns that nobody named, after "the log has"."""
    said = f"read as columns: {{{', '.join(f'{ours}: {name}' for ours, name in columns.items())}}} (guessed)"
    if PLUS in columns.get("input", ""):
        return f"an instruction beside each input: {said}; columns: {{input: input}} asks the input alone"
    return f"no column input: {said}"


def beside_notices(queries: Sequence[Query], named: Mapping[str, Any]) -> Iterator[str]:
    """A line for each column that reads like a part of the question and is not asked."""
    asked = str(named.get("input", "input"))
    used = {part for each in _named(named) for part in parts_of(each)} | {"input"}
    for column in dict.fromkeys(str(name) for query in queries for name in query):
        word = column.strip().lower()
        if word not in BESIDE or column in used:
            continue
        left_out = [query for query in queries if _is_left_out(query, query.get(column))]
        if not left_out or (word == "system" and len({str(query[column]) for query in left_out}) < OWN_SYSTEMS):
            continue
        both = f"{asked}{PLUS}{column}" if word in AFTER else f"{column}{PLUS}{asked}"
        has_input = any(query.get("input") is not None for query in left_out)
        done = f"; columns: {{input: {both}}} asks them together" if has_input else ""
        yield (
            f"the column {column} of {len(left_out):,} of {len(queries):,} sampled records is no part of their question, unless a "
            f"prompt template names it{done}"
        )


def _named(columns: Mapping[str, Any]) -> list[str]:
    return [each for each in columns.values() if isinstance(each, str)]


def _is_left_out(query: Query, value: Any) -> bool:
    """Whether a value holds text that the question does not."""
    asked = "\n".join([str(query.input), *(str(each.get("content")) for each in query.messages)])
    return any(text.strip() and text.strip() not in asked for text in _texts_in(decoded(value)))


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        value = value.get("text")
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, str)]
