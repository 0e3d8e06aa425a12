"""What a logged record says of the question before anybody answered it: its shape, and its other columns.

What an answer brought about (its text, scores, cost, latency, model, tokens) is no such fact: it may differ *because* of the release.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import Row
from bisect_ai.queries.values import decoded, missing

Told = str | float
# What `shape_facts` may tell.
SHAPES = ("hour", "language", "length", "tool", "turns")
# Characters of a value that names something; a longer one is text.
LONGEST = 80
# Characters of a question that its language is told from: of 53 short questions in 13 languages 49 were told right.
LOOKED_AT = 200
MINUTE = 60 * 10**6
DAY = 24 * 60
NOT_ASKED = (
    *(
        "id",
        "at",
        "time",
        "date",
        "release",
        "reference",
        "expected",
        "file",
        "input",
        "messages",
        "history",
        "documents",
        "text",
    ),
    *(
        "tool_results",
        "tool_calls",
        "scores",
        "versions",
        "params",
        "usage",
        "steps",
        "error",
        "status",
        "metadata",
        "attributes",
    ),
    *("tags", "question", "prompt", "query", "content"),
)
_WORDS = (
    r"outputs?|answers?|responses?|completions?|scores?|ratings?|feedback|thumbs?|latenc(y|ies)|durations?|elapsed|ttft|costs?|usd",
    r"price|tokens?|models?|fingerprint|finish|refus(al|ed)|errors?|failed|pass(ed)?|retries|resolved|solved|success|correct(ness)?",
    r"helpful(ness)?|accepted|escalated|csat|nps|quality|grounded(ness)?|faithful(ness)?|relevan(t|ce|cy)|accuracy|judge|eval",
    r"version|build|commit|sha|image|deployment|variant|arm|experiment|bucket|treatment|pod|host|instance|ids?|uuid",
    r"timestamp|created|updated|ended|started|span|trace|at|s|ms",
)
# Names of columns that an answer, its release or the logging itself brought about.
BROUGHT_ABOUT = re.compile(rf"(^|[_.\- ])({'|'.join(_WORDS)})([_.\- ]|$)")
# Names of columns that say who asked, though they are ids.
ASKER = re.compile(
    r"(^|[_.\- ])(user|customer|client|account|tenant|org(ani[sz]ation)?|member|visitor|workspace|company)[_.\- ]?ids?$"
)
# Columns whose inner values are columns.
NESTED = ("metadata", "attributes", "tags", "labels", "user", "context", "extra")


def shape_facts(shape: Shape, row: Row, at: int | None) -> dict[str, Told]:
    """Length (characters) and language of the question, its hour (UTC), the tool that was used before it, and its turns."""
    asked = shape.content(row).asked
    question = (asked.question if asked else None) or ""
    messages = [*(decoded(shape.get(row, "history")) or ()), *((asked.messages if asked else None) or ())]
    before = [each for each in messages if isinstance(each, Mapping)]
    found: dict[str, Told] = {}
    if question:
        found |= {"length": float(len(question)), "language": language_of(question)}
    if at is not None:
        found["hour"] = float(at // MINUTE % DAY // 60)
    if before:
        found |= {"turns": float(sum(each.get("role") == "user" for each in before)), "tool": _last_tool(before)}
    return found


@lru_cache(maxsize=10_000)
def language_of(text: str) -> str:
    """The language that a text is most probably written in (ISO 639-1); `none` where there are no letters."""
    from py3langid import classify

    start = text[:LOOKED_AT]
    return str(classify(start)[0]) if any(map(str.isalpha, start)) else "none"


def _last_tool(messages: list[Mapping[str, Any]]) -> str:
    named = [each.get("name") for each in messages if each.get("role") == "tool"]
    return str(named[-1])[:LONGEST] if named and named[-1] else "none"


def logged_facts(shape: Shape, row: Row, ignored: frozenset[str]) -> dict[str, Told]:
    """The values of the record's own columns that may say who asked or what; `ignored` columns are left out."""
    known = {*shape.columns.values(), *shape.scored.values(), *ignored}
    return {
        name: told
        for name, value in _flat_columns(row)
        if name not in known and _is_asked(name) and (told := _short_fact(value)) != ""
    }


def _flat_columns(row: Row) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        inner = decoded(value) if name in NESTED else value
        if isinstance(inner, Mapping):
            yield from ((f"{name}.{key}", held) for key, held in inner.items() if name in NESTED)
        else:
            yield str(name), value


def _is_asked(name: str) -> bool:
    low = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return low not in NOT_ASKED and (bool(ASKER.search(low)) or not BROUGHT_ABOUT.search(low))


def _short_fact(value: Any) -> Told:
    """A value as a number or a short text; empty for none."""
    if missing(value) or isinstance(value, list | Mapping | tuple):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if len(value) <= LONGEST else ""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)[:LONGEST]
