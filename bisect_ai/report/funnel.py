"""The log in a short paragraph: records read, kept, dropped by reason; what replay lacks; what answered them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.report.clean import PLAIN, Quoting
from bisect_ai.report.sentences import count, listed

SHOWN = 4
"""Mixtures of versions that a sentence names."""


def log_sentences(log: Mapping[str, Any], *, quoting: Quoting = PLAIN) -> list[str]:
    """One to four sentences on the report's `log` block; none for a report that has no such block."""
    return list(_sentences(log, quoting)) if log else []


def capitalised(sentence: str) -> str:
    """The sentence with a capital letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def _sentences(log: Mapping[str, Any], quoting: Quoting) -> Iterator[str]:
    dropped = [f"{count(n)} {quoting.prose(reason)}" for reason, n in _largest(log.get("dropped"))]
    left_out = f", {count(sum(log['dropped'].values()))} left out ({', '.join(dropped)})" if dropped else ""
    yield (
        f"{count(log.get('read'), 'record', 'records')} read ({quoting.prose(log.get('format'))}), {count(log.get('kept'))} "
        f"kept{left_out}"
    )
    if lost := log.get("lost"):
        kinds = listed([f"{quoting.prose(kind)} in {count(n)}" for kind, n in _largest(lost)])
        yield f"questions that lost something in the log: {kinds}"
    if missing := log.get("missing"):
        lacks = listed([f"{quoting.prose(what)} in {count(n)}" for what, n in _largest(missing)])
        yield f"not in the log, so not replayed as it was: of {count(log.get('sampled'))} sampled queries, {lacks}"
    if len(releases := log.get("releases") or ()) > 1:
        yield f"answered by {_releases(releases, quoting)}"


def _largest(counts: Mapping[str, int] | None) -> list[tuple[str, int]]:
    """The largest first, whatever the order of keys: a stored report has them sorted by name."""
    return sorted((counts or {}).items(), key=lambda each: (-each[1], each[0]))


def _releases(releases: Sequence[Mapping[str, Any]], quoting: Quoting) -> str:
    named = [f"{_mixture(each, quoting)}: {count(each.get('n'))}" for each in releases[:SHOWN]]
    rest = len(releases) - SHOWN
    return "; ".join([*named, f"{count(rest, 'more mixture', 'more mixtures')} in the JSON report"] if rest > 0 else named)


def _mixture(each: Mapping[str, Any], quoting: Quoting) -> str:
    release = "no release named" if each.get("release") is None else f"release {quoting.name(each['release'])}"
    versions = [f"{quoting.prose(name)} {quoting.name(value)}" for name, value in sorted((each.get("versions") or {}).items())]
    return f"{release} ({', '.join(versions)})" if versions else release
