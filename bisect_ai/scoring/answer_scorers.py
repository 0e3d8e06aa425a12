"""Kinds of scorers that read what an answer says and what lies behind it.

What it says: its JSON, whether it refuses or hands over, how near it comes to a text. Behind it: the documents retrieved, what it
cites, the way it took.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, ClassVar, Literal

from bisect_ai.canonical import BadRecord, digest, parse_json, plain
from bisect_ai.queries.query import Query
from bisect_ai.queries.values import embedded
from bisect_ai.scoring.kinds import (
    FAIR,
    OPENING,
    REFUSALS,
    Bounds,
    OfAmount,
    OfText,
    Regex,
    Value,
    expected_calls,
    expected_texts,
    logged_text,
    same_json,
)
from bisect_ai.targets.answer import Answer

MOST_TOKENS = 20_000  # of a hostile answer; the longest models write less
ESCALATIONS = (
    r"\b(?:transfer|connect|hand|pass|escalat\w+|forward)\w*\b.{0,40}\b(?:agent|human|colleague|specialist|supervisor|team|person)\b",
    r"\b(?:contact|call|reach out to|speak (?:to|with)|talk to)\b.{0,30}\b(?:agent|human|support team|customer (?:service|support))\b",
)


@dataclass(frozen=True)
class JsonFields(OfText):
    """The share of the expected JSON fields that the answer has with the expected values.

    `fields`: dotted paths to look at; None: every leaf of what is expected. An answer that is not JSON has none right.
    """

    expected: str = "reference"
    fields: tuple[str, ...] | None = None

    def __call__(self, query: Query, answer: Answer) -> Value:
        """0 to 1, or None without expected fields. Raises `ValueError` if what is expected is no JSON object."""
        wanted = embedded(query.get(self.expected))
        if wanted is None:
            return None
        if not isinstance(wanted, Mapping):
            raise ValueError(f"the expected {logged_text(wanted)[:40]!r} is no JSON object")
        paths = self.fields or [path for path, _ in leaves(wanted)]
        known = [path for path in paths if _value_at_path(wanted, path) is not _ABSENT]
        given = json_of(answer.text)
        right = [
            same_json(_value_at_path(wanted, p), found, subset=False)
            for p in known
            if (found := _value_at_path(given, p)) is not _ABSENT
        ]
        return sum(right) / len(known) if known else None


@dataclass(frozen=True)
class JsonKeys(OfText):
    """How alike the answer's JSON keys are to the expected ones: keys in both over keys in either, 1 when none drifted.

    `keys`: dotted paths (`items[].name`); None: those of the JSON in the column `expected`. An answer that is not JSON gets 0.
    """

    expected: str = "reference"
    keys: tuple[str, ...] | None = None

    def __call__(self, query: Query, answer: Answer) -> Value:
        """0 to 1, or None without expected keys. Raises `ValueError` if what is expected is no JSON."""
        wanted = set(self.keys or ()) or self._expected_keys(query)
        if not wanted:
            return None
        given = set(key_paths(json_of(answer.text)))
        return len(wanted & given) / len(wanted | given)

    def _expected_keys(self, query: Query) -> set[str]:
        column = embedded(query.get(self.expected))
        if column is not None and not isinstance(column, Mapping | list):
            raise ValueError(f"the expected {logged_text(column)[:40]!r} is no JSON")
        return set(key_paths(column))


@dataclass(frozen=True)
class _Rate:
    """What kinds share that say whether something happened that is better rare."""

    bounded: ClassVar[Bounds | None] = FAIR
    unit: ClassVar[str] = "share"
    content: ClassVar[bool] = False
    # Regular expressions besides the built-in English ones.
    patterns: tuple[str, ...] = ()
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            Regex(pattern)

    def _says(self, text: str, built_in: tuple[str, ...], query: Query) -> bool:
        straight = text.replace("\u2019", "'")
        if any(pattern.search(straight) for pattern in _compiled_patterns(built_in)):
            return True
        return any(bool(Regex(pattern, ignore_case=True)(query, Answer.of_text(text))) for pattern in self.patterns)


@cache
def _compiled_patterns(patterns: tuple[str, ...]) -> list[re.Pattern[str]]:
    return [re.compile(pattern, re.IGNORECASE) for pattern in patterns]


@dataclass(frozen=True)
class Refusal(_Rate):
    """Whether the answer refuses: the provider's filter took it, or it opens with words of refusal."""

    def __call__(self, query: Query, answer: Answer) -> Value:
        """True or False."""
        return answer.outcome == "filtered" or self._says(answer.text[:OPENING], REFUSALS, query)


@dataclass(frozen=True)
class Escalation(_Rate):
    """Whether the answer hands over to a person: by one of `tools`, or in words."""

    tools: tuple[str, ...] = ()

    def __call__(self, query: Query, answer: Answer) -> Value:
        """True or False."""
        called = any(call.name in self.tools for call in answer.tool_calls)
        return called or self._says(answer.text[:MOST_TOKENS], ESCALATIONS, query)


@dataclass(frozen=True)
class RougeL(OfText):
    """ROUGE-L of the answer against the expected text (Lin 2004): the longest common subsequence of words, as F1.

    `measure`: `f1`, or `recall` (of the expected words) or `precision`. Of a list of expected texts the best counts.
    """

    expected: str = "reference"
    measure: Literal["f1", "recall", "precision"] = "f1"

    def __call__(self, query: Query, answer: Answer) -> Value:
        """0 to 1, or None without an expected text."""
        texts = expected_texts(query, self.expected)
        if not texts:
            return None
        said = words(answer.text)
        return max(self._of(words(text), said) for text in texts)

    def _of(self, wanted: list[str], said: list[str]) -> float:
        from rapidfuzz.distance import LCSseq

        if not wanted or not said:
            return float(wanted == said)
        common = LCSseq.similarity(wanted, said)
        size = {"f1": (len(wanted) + len(said)) / 2, "recall": len(wanted), "precision": len(said)}[self.measure]
        return common / size


def words(text: str) -> list[str]:
    """The text's words in lower case, the first 20,000."""
    return re.findall(r"\w+", text.casefold())[:MOST_TOKENS]


_ABSENT = object()
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)  # models put JSON in a fence: what is inside counts


def json_of(text: str) -> Any:
    """The JSON value that the whole text is, in a code fence or not; None when it is none."""
    stripped = text.strip()
    fenced = _FENCE.match(stripped)
    try:
        return parse_json(fenced.group(1) if fenced else stripped)
    except BadRecord:
        return None


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON object that is not itself a non-empty object, with its dotted path."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, value


def key_paths(value: Any, path: str = "") -> Iterator[str]:
    """Every key's dotted path; `[]` stands for any element of a list."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            inner = f"{path}.{key}" if path else str(key)
            yield inner
            yield from key_paths(each, inner)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from key_paths(each, f"{path}[]")


def _value_at_path(value: Any, path: str) -> Any:
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return _ABSENT
        value = value[step]
    return value


_IDS = ("id", "document_id", "doc_id", "source", "path", "title")
MOST_CITATIONS = 200  # more are no citations, and each is looked up


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
        parts = expected_texts(query, self.expected)
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
class Steps(OfAmount):
    """How many model calls the answer took."""

    unit: ClassVar[str] = "steps"

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """The count."""
        return float(answer.steps)


@dataclass(frozen=True)
class RepeatedCalls(OfAmount):
    """How many tool calls repeat an earlier one of the same answer, with the same arguments."""

    unit: ClassVar[str] = "calls"

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """The count."""
        calls = Counter(digest([call.name, plain(call.arguments)]) for call in answer.tool_calls)
        return float(calls.total() - len(calls))


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
