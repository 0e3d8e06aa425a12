"""What became of the log's records, for the report: read, kept, dropped by reason, what answered them, what replay lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bisect_ai.queries.query import Query
from bisect_ai.queries.records import Mixed
from bisect_ai.queries.sample import Mixture, Sample

SHOWN = 50
"""Mixtures of versions that are listed; the rest is added up."""


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
