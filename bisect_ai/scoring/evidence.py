"""Kinds of scorers that read what lies behind an answer: the documents retrieved, what it cites, the way it took."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal

from bisect_ai.canonical import digest, plain
from bisect_ai.queries.query import Query
from bisect_ai.scoring.answer_scorers import count_repeated
from bisect_ai.scoring.kinds import Bounds, OfText, Regex, Value, expected_calls, logged_text
from bisect_ai.targets.answer import Answer

_IDS = ("id", "document_id", "doc_id", "source", "path", "title")
MOST_CITATIONS = 200


@dataclass(frozen=True)
class RetrievalHit(OfText):
    """Whether the documents that the answer should rest on were retrieved: `any` of those expected, or `all`.

    `by`: `id`, or `text` (a retrieved document contains the expected text). `k`: only the first k retrieved count.
    """

    content: ClassVar[bool] = False
    expected: str = "reference"
    by: Literal["id", "text"] = "id"
    mode: Literal["any", "all"] = "any"
    k: int | None = None

    def __call__(self, query: Query, answer: Answer) -> Value:
        """True, False, or None when the log expects no document."""
        wanted = query.get(self.expected)
        parts = [logged_text(each) for each in (wanted if isinstance(wanted, list) else [wanted]) if each not in (None, "")]
        if not parts:
            return None
        retrieved = answer.documents[: self.k]
        if self.by == "id":
            ids = {name for document in retrieved for name in document_ids(document)}
            found = [part in ids for part in parts]
        else:
            texts = [document_text(document).casefold() for document in retrieved]
            found = [any(part.casefold() in text for text in texts) for part in parts]
        return all(found) if self.mode == "all" else any(found)


@dataclass(frozen=True)
class Citation(OfText):
    """The share of the answer's citations that name a retrieved document. `pattern`: its first group is the id cited.

    An answer that cites nothing gets 0 when it is `required` to cite, else no score.
    """

    pattern: str = r"\[([^\[\]\s]{1,120})\](?!\()"
    required: bool = True

    def __post_init__(self) -> None:
        Regex(self.pattern)

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """0 to 1, or None."""
        import regex  # type: ignore[import-untyped]  # it ships no types

        matches = islice(regex.finditer(self.pattern, answer.text, timeout=1.0), MOST_CITATIONS)
        cited = [match.group(1) if match.re.groups else match.group() for match in matches]
        if not cited:
            return 0.0 if self.required else None
        ids = {name for document in answer.documents for name in document_ids(document)}
        return sum(name in ids for name in cited) / len(cited)


@dataclass(frozen=True)
class Steps:
    """How many model calls the answer took."""

    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[Bounds | None] = None
    unit: ClassVar[str] = "steps"
    content: ClassVar[bool] = False

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """The count."""
        return float(answer.steps)


@dataclass(frozen=True)
class RepeatedCalls:
    """How many tool calls repeat an earlier one of the same answer, with the same arguments."""

    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[Bounds | None] = None
    unit: ClassVar[str] = "calls"
    content: ClassVar[bool] = False

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """The count."""
        return float(count_repeated([digest([call.name, plain(call.arguments)]) for call in answer.tool_calls]))


@dataclass(frozen=True)
class ToolOrder(OfText):
    """How near the tools called come to the expected sequence of names: twice the longest common subsequence over both lengths."""

    content: ClassVar[bool] = False
    expected: str = "reference"

    def __call__(self, query: Query, answer: Answer) -> Value:
        """0 to 1, or None when the log expects no calls. Raises `ValueError` if what is expected is no call."""
        from rapidfuzz.distance import LCSseq

        wanted = query.get(self.expected)
        if wanted is None:
            return None
        names, made = [name for name, _ in expected_calls(wanted)], [call.name for call in answer.tool_calls]
        return 2 * LCSseq.similarity(names, made) / (len(names) + len(made)) if names or made else 1.0


def document_ids(document: Any) -> set[str]:
    """What a retrieved document may be called by; a plain text is its own name."""
    if isinstance(document, Mapping):
        return {logged_text(document[key]) for key in _IDS if document.get(key) not in (None, "")}
    return {document} if isinstance(document, str) else set()


def document_text(document: Any) -> str:
    """The text of a retrieved document."""
    if isinstance(document, Mapping):
        named = document.get("text", document.get("content", document.get("page_content")))
        return logged_text(named) if named is not None else logged_text(plain(document))
    return re.sub(r"\s+", " ", document) if isinstance(document, str) else logged_text(plain(document))
