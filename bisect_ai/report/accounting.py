"""The log in a short paragraph: records read, kept, dropped by reason; what replay lacks; what answered them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bisect_ai.report.phrases import count, listed
from bisect_ai.report.untrusted_text import PLAIN, Quoting

if TYPE_CHECKING:
    from bisect_ai.report.planning_values import LogBlock, LogMixture

SHOWN = 4
"""Mixtures of versions that a sentence names."""


def log_sentences(log: LogBlock | None, *, quoting: Quoting = PLAIN) -> list[str]:
    """One to four sentences on the report's `log` block; none for a report that has no such block."""
    return list(_sentences(log, quoting)) if log else []


def capitalised(sentence: str) -> str:
    """The sentence with a capital letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def _sentences(log: LogBlock, quoting: Quoting) -> Iterator[str]:
    dropped = [f"{count(n)} {quoting.prose(reason)}" for reason, n in _largest(log.dropped)]
    left_out = f", {count(sum(log.dropped.values()))} left out ({', '.join(dropped)})" if dropped else ""
    yield (f"{count(log.read, 'record', 'records')} read ({quoting.prose(log.format)}), {count(log.kept)} kept{left_out}")
    if lost := log.lost:
        kinds = listed([f"{quoting.prose(kind)} in {count(n)}" for kind, n in _largest(lost)])
        yield f"questions that lost something in the log: {kinds}"
    if missing := log.missing:
        lacks = listed([f"{quoting.prose(what)} in {count(n)}" for what, n in _largest(missing)])
        yield f"not in the log, so not replayed as it was: of {count(log.sampled)} sampled queries, {lacks}"
    if len(releases := log.releases) > 1:
        yield f"answered by {_releases(releases, quoting)}"


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest first, whatever the order of keys: a stored report has them sorted by name."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def _releases(releases: Sequence[LogMixture], quoting: Quoting) -> str:
    named = [f"{_mixture(each, quoting)}: {count(each.n)}" for each in releases[:SHOWN]]
    rest = len(releases) - SHOWN
    return "; ".join([*named, f"{count(rest, 'more mixture', 'more mixtures')} in the JSON report"] if rest > 0 else named)


def _mixture(each: LogMixture, quoting: Quoting) -> str:
    release = "no release named" if each.release is None else f"release {quoting.name(each.release)}"
    versions = [f"{quoting.prose(name)} {quoting.name(value)}" for name, value in sorted(each.versions.items())]
    return f"{release} ({', '.join(versions)})" if versions else release
