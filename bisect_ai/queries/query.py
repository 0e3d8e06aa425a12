"""One logged input, as targets and scorers see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from bisect_ai.canonical import digest


class Query(Mapping[str, Any]):
    """A read-only record: the named fields as attributes, every column of the log by name (`query["plan"]`).

    `query["unknown"]` raises `KeyError`; an absent named field reads as None (`history`, `documents`, `tool_results`: empty).
    """

    def __init__(self, record: Mapping[str, Any], origin: frozenset[str] = frozenset()) -> None:
        self._record, self._origin = dict(record), origin

    def __getitem__(self, column: str) -> Any:
        return self._record[column]

    def get(self, column: str, default: Any = None) -> Any:
        """The value of a column, `default` where the query has none."""
        return self._record.get(column, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._record)

    def __len__(self) -> int:
        return len(self._record)

    def __repr__(self) -> str:
        return f"Query({self.id!r})"

    @property
    def id(self) -> str:
        """The query's id, unique in its log."""
        return str(self._record["id"])

    @property
    def input(self) -> str:
        """What the user asked: the `input` column, else the last user message."""
        text = self._record.get("input")
        return _content_text(text) if text is not None else _last_user_text(self.messages)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The logged messages; when the log has only `input`, one user message of it."""
        logged = self._record.get("messages")
        return list(logged) if logged else [{"role": "user", "content": self._record.get("input") or ""}]

    @property
    def history(self) -> list[dict[str, Any]]:
        """Messages before the question, oldest first."""
        return list(self._record.get("history") or [])

    @property
    def documents(self) -> list[Any]:
        """Documents retrieved when it was logged."""
        return list(self._record.get("documents") or [])

    @property
    def tool_results(self) -> list[dict[str, Any]]:
        """Recorded tool calls with results: `{name, arguments, result}` each, in logged order."""
        return list(self._record.get("tool_results") or [])

    @property
    def reference(self) -> Any:
        """The expected answer, in whatever form the scorer reads."""
        return self._record.get("reference")

    @property
    def output(self) -> str | None:
        """The answer that was logged."""
        return self._record.get("output")

    @property
    def scores(self) -> dict[str, float]:
        """Logged scores by scorer name."""
        return dict(self._record.get("scores") or {})

    @property
    def release(self) -> str | None:
        """The release that answered when it was logged."""
        return self._record.get("release")

    @property
    def cluster(self) -> str | None:
        """User or session; queries of one cluster are not independent."""
        return self._record.get("cluster")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the record without the columns that only say where it comes from: part of a trial's identity."""
        return digest(self._asked)

    @property
    def _asked(self) -> dict[str, Any]:
        return {name: value for name, value in self._record.items() if name not in self._origin}

    def __eq__(self, other: object) -> bool:
        return self._asked == other._asked if isinstance(other, Query) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.digest)


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return _content_text(message.get("content") or "")
    return ""


def _content_text(content: Any) -> str:
    """A text as it is; of message parts the texts, other parts named: their addresses are not for anybody to fetch."""
    if not isinstance(content, list) or not all(isinstance(part, Mapping) and "type" in part for part in content):
        return str(content)
    return "\n".join(
        str(part.get("text") or "") if part["type"] == "text" else f"[{part['type']} not replayed]" for part in content
    )
