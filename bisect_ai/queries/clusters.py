"""Queries that belong together: by the declared column, else what is plain without it.

Copies of one text are one query asked several times: counted as independent they make intervals too narrow. Where they are a plain
part of the sample they are taken as clusters. A column of users or sessions is told, for the sample then should hold whole ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from bisect_ai.canonical import digest, plain
from bisect_ai.queries.query import Query
from bisect_ai.queries.records import ID_IN_RUN, ORIGIN

PLAIN = 0.05
"""The part of the sample in groups of two or more from which on they count."""
FEWEST = 20
"""Groups below which nothing is taken as clusters: intervals would rest on too few. It is told all the same."""
COLUMNS = ("user", "user_id", "session", "session_id", "conversation", "conversation_id", "thread", "thread_id")
_NOT_ASKED = {
    *("id", "input", "messages", "history", "at", "release", "output", "scores", "cluster", "versions", "feedback"),
    *("request_id", "trace_id", "span_id", "timestamp", "created_at", "latency", "latency_s", "cost", "usd", "tokens", "usage"),
    *COLUMNS,
    *ORIGIN,
    ID_IN_RUN,
}
"""Columns that say who asked, when, and what came of it, not what was asked."""


def clusters_of(queries: Sequence[Query], *, independent: bool) -> tuple[tuple[str, ...] | None, tuple[str, ...], bool]:
    """The cluster of each query (None: every query its own), what is to be told, and whether they were detected.

    A query without a declared cluster, where others have one, is its own. `independent`: nothing is looked for.
    """
    if any(query.get("cluster") is not None for query in queries):
        return tuple(_own_cluster(query) if query.cluster is None else str(query.cluster) for query in queries), (), False
    if independent:
        return None, (), False
    notices = tuple(_column_notices(queries))
    keys = [_text_key(query) for query in queries]
    repeated, groups = _repeated(keys)
    if repeated < PLAIN * len(queries):
        return None, notices, False
    told = f"{repeated:,} of {len(queries):,} sampled queries ask what another one asks, word for word"
    if groups < FEWEST:
        said = f"{told}: there are only {groups} different ones, so intervals may be far too narrow for other queries"
        return None, (*notices, said), False
    said = f"{told}: copies count as one cluster (log.independent: true takes them as independent)"
    names = tuple(
        _own_cluster(query) if key is None else f"text {digest(plain(key))[:12]}"
        for query, key in zip(queries, keys, strict=True)
    )
    return names, (*notices, said), True


def _own_cluster(query: Query) -> str:
    return f"query {query.id}"


def _repeated(keys: Sequence[Hashable | None]) -> tuple[int, int]:
    """How many are in groups of two or more, and the number of groups; None is in no group."""
    counts = Counter(key for key in keys if key is not None)
    alone = sum(key is None for key in keys)
    return sum(n for n in counts.values() if n > 1), len(counts) + alone


def _text_key(query: Query) -> tuple[str, ...] | None:
    """What makes two queries copies: the texts of the conversation without case and spacing, and all else that a target may read.

    A column of the user's own that differs (an order number, a plan) makes them different questions.
    """
    texts = [str(m.get("content") or "") for m in (*query.history, *query.messages)]
    words = tuple(" ".join(text.casefold().split()) for text in texts)
    rest = digest({column: plain(query[column]) for column in sorted(set(query) - _NOT_ASKED)})
    return (*words, rest) if any(words) else None


def _column_notices(queries: Sequence[Query]) -> list[str]:
    """A line for the first column of users or sessions that several queries share."""
    for column in COLUMNS:
        values = [None if (value := query.get(column)) is None else str(value) for query in queries]
        repeated, groups = _repeated(values)
        if sum(value is not None for value in values) >= 0.9 * len(queries) and repeated >= PLAIN * len(queries) and groups > 1:
            return [
                f"{repeated:,} of {len(queries):,} sampled queries share a {column} with another one and count as independent: name it "
                f"with log.cluster: {column}, if answers to one {column} resemble each other"
            ]
    return []
