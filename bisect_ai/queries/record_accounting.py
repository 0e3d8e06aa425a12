"""What a report says of a log: what became of its records, what answered them, what replay lacks and what its content warns of.

Queries belong together by the declared column, else by what is plain without it: copies of one text are one query asked several
times, and counted as independent they make intervals too narrow. Where they are a plain part of the sample they are taken as clusters.
A column of users or sessions is told, for the sample then should hold whole ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.canonical import digest, plain
from bisect_ai.queries.normalise import no_number
from bisect_ai.queries.query import Query
from bisect_ai.queries.records import ID_IN_RUN, ORIGIN, UNREAD
from bisect_ai.queries.sample import OLD_PROMPT, LogSettings, Mixed, Mixture, Sample

# Mixtures of versions that are listed; the rest is added up.
SHOWN = 50


def log_block(sample: Sample) -> dict[str, Any]:
    """The report's `log`: `read` = `kept` + the sum of `dropped`; `missing` counts the `sampled` queries that lack something."""
    return {
        "format": sample.format,
        "read": sample.read,
        "kept": sample.kept,
        "dropped": dict(sample.dropped),
        "sampled": len(sample),
        **({"lost": dict(sample.lost)} if sample.lost else {}),
        "missing": dict(sample.missing),
        "releases": [{"release": m.release, "versions": dict(m.versions), "n": m.n} for m in sample.mixtures],
    }


def mixtures(counts: Mapping[Mixed, int]) -> tuple[Mixture, ...]:
    """What answered, the most frequent first."""
    ordered = sorted(((n, mixed) for mixed, n in counts.items() if n > 0), key=lambda each: (-each[0], repr(each[1])))
    listed = [Mixture(release, dict(versions), n) for n, (release, versions) in ordered[:SHOWN]]
    rest = sum(n for n, _ in ordered[SHOWN:])
    return tuple([*listed, Mixture("others", {}, rest)] if rest else listed)


def lacking(queries: Sequence[Query]) -> dict[str, int]:
    """For each thing that a faithful replay needs, how many queries lack it; what none lacks is left out."""
    counts = {what: sum(map(lacks, queries)) for what, lacks in _NEEDS.items()}
    return {what: n for what, n in counts.items() if n}


def _no_context(query: Query) -> bool:
    return not query.get("messages") and query.get("history") is None


def _no_tool_results(query: Query) -> bool:
    """Whether the results of the tools that were called are unknown; a log that says "none were called" lacks nothing."""
    results = query.get("tool_results")
    return results is None or any("result" not in each for each in query.tool_results)


_NEEDS: dict[str, Callable[[Query], bool]] = {
    "context state": _no_context,
    "retrieved documents": lambda query: query.get("documents") is None,
    "tool results": _no_tool_results,
    "sampling settings": lambda query: not query.get("params"),
}


# Words of a column of scores that say that there is none.
NOT_SCORED = frozenset({"n/a", "na", "nan", "none", "null", "nil", "-", "error", "skipped", "missing", "unknown", "?"})


def score_notices(queries: Sequence[Query], scored: Mapping[str, str]) -> Iterator[str]:
    """A line for each score that was asked for and that no sampled record has, though its column (name to column) holds something."""
    for name, column in scored.items():
        held = [value for query in queries if (value := _reached(query, column)) not in (None, "", [], {})]
        listed = any(isinstance(value, list | Mapping) for value in held)  # whose scores have names of their own
        if held and not any((query.get("scores") if listed else name in (query.get("scores") or {})) for query in queries):
            shown = " ".join(str(held[0]).split())[:40]
            yield (
                f"the score {name!r} is missing everywhere: {column} holds no number, true, false, pass, fail, yes or no, but for "
                f"example {shown!r}, {no_number(shown)}; or map a column of numbers with columns: {{scores: …}}"
            )
        elif unread := [shown for query in queries if not listed and (shown := _unread_score(query, name, column))]:
            yield (
                f"the score {name!r} is missing in {len(unread):,} of {len(queries):,} sampled records: {column} holds for example "
                f"{unread[0]!r}, {no_number(unread[0])}"
            )


def unread_notices(queries: Sequence[Query]) -> Iterator[str]:
    """A line for each score of the column of scores that has a text and no number in some sampled records."""
    unread = defaultdict[str, list[str]](list)
    for query in queries:
        for name, text in (query.get(UNREAD) or {}).items():
            unread[name] += [text] if text.lower() not in NOT_SCORED else []
    for name, texts in sorted((name, texts) for name, texts in unread.items() if texts):
        yield (
            f"the score {name[:40]!r} is missing in {len(texts):,} of {len(queries):,} sampled records, which hold no number for it, "
            f"but for example {texts[0]!r}; of labels, columns: {{scores: {{NAME: scores.NAME.label}}}} reads pass and fail"
        )


def _unread_score(query: Query, name: str, column: str) -> str:
    """The text in a column of scores that gave no score; empty where it gave one, or says that there is none."""
    held = _reached(query, column)
    text = " ".join(held.split())[:40] if isinstance(held, str) and name not in (query.get("scores") or {}) else ""
    return "" if text.lower() in NOT_SCORED else text


def _reached(query: Mapping[str, Any], column: str) -> Any:
    found: Any = query
    for step in [column] if column in query else column.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def content_notices(queries: Sequence[Query], lost: Mapping[str, int], settings: LogSettings) -> Iterator[str]:
    """The lines, each with how many records it is about."""
    if told := ", ".join(f"{kind} in {n:,}" for kind, n in sorted(lost.items()) if n):
        done = "asked all the same" if settings.on_lost == "keep" else "left out (log.on_lost: keep asks them without)"
        yield f"records whose question cannot be replayed as it was: {told}; they are {done}"
    if inside := sum(bool(query.get(OLD_PROMPT)) for query in queries):
        yield (
            f"the question of {inside:,} sampled queries is a whole rendered prompt, so the old prompt would be asked inside the new "
            "one: name the variable that holds the question, such as columns: {input: vars.question}"
        )


# The part of the sample in groups of two or more from which on they count.
PLAIN = 0.05
# Groups below which nothing is taken as clusters: intervals would rest on too few. It is told all the same.
FEWEST = 20
COLUMNS = ("user", "user_id", "session", "session_id", "conversation", "conversation_id", "thread", "thread_id")
# Columns that say who asked, when, and what came of it, not what was asked.
_NOT_ASKED = {
    *("id", "input", "messages", "history", "at", "release", "output", "scores", "cluster", "versions", "feedback"),
    *("doc_id", "sample_id"),  # numbers that a tool gave the rows
    *("request_id", "trace_id", "span_id", "timestamp", "created_at", "latency", "latency_s", "cost", "usd", "tokens", "usage"),
    *COLUMNS,
    *ORIGIN,
    ID_IN_RUN,
    UNREAD,
}


def clusters_of(queries: Sequence[Query], *, independent: bool) -> tuple[tuple[str, ...] | None, tuple[str, ...], bool]:
    """The cluster of each query (None: every query its own), what is to be told, and whether they were detected.

    A query without a declared cluster, where others have one, is its own. `independent`: nothing is looked for.
    """
    if any(query.get("cluster") is not None for query in queries):
        return tuple(_own_cluster(query) if query.cluster is None else str(query.cluster) for query in queries), (), False
    if independent:
        return None, (), False
    notices = tuple(_column_notices(queries))
    words = [_words_of(query) for query in queries]
    times = Counter(words)
    # What else they ask with tells two apart only where their words do not.
    keys = [
        (own, _rest_of(query) if times[own] > 1 else "") if any(own) else None
        for query, own in zip(queries, words, strict=True)
    ]
    repeated, groups = _repeated(keys)
    if repeated < PLAIN * len(queries):
        return None, notices, False
    told = f"{repeated:,} of {len(queries):,} sampled queries ask what another one asks, word for word"
    if groups < FEWEST:
        said = f"{told}: there are only {groups} different ones, so intervals may be far too narrow for other queries"
        return None, (*notices, said), False
    said = f"{told}: copies count as one cluster (log.independent: true takes them as independent)"
    names = tuple(
        _own_cluster(query) if key is None else f"text {digest([*key[0], key[1] or _rest_of(query)])[:12]}"
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


def _words_of(query: Query) -> tuple[str, ...]:
    """What makes two queries copies: the texts of the conversation without case and spacing, and `_rest_of` them."""
    texts = [str(m.get("content") or "") for m in (*query.history, *query.messages)]
    return tuple(" ".join(text.casefold().split()) for text in texts)


def _rest_of(query: Query) -> str:
    """All else that a target may read: a column of the user's own that differs (an order number, a plan) asks something else."""
    return digest({column: plain(query[column]) for column in sorted(set(query) - _NOT_ASKED)})


def _column_notices(queries: Sequence[Query]) -> list[str]:
    """A line for the first column of users or sessions that several queries share."""
    for column in COLUMNS:
        values = [str(value) for query in queries if (value := query.get(column)) is not None]
        if len(values) < 0.9 * len(queries):  # a column that a tenth lacks names no groups
            continue
        repeated, groups = _repeated(values)
        if repeated >= PLAIN * len(queries) and groups + len(queries) - len(values) > 1:
            return [
                f"{repeated:,} of {len(queries):,} sampled queries share a {column} with another one and count as independent: name it "
                f"with log.cluster: {column}, if answers to one {column} resemble each other"
            ]
    return []
