"""What became of the log (records read, kept, dropped by reason; what replay lacks; what answered them), and what a run cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bisect_ai.report.phrases import count, listed
from bisect_ai.report.untrusted_text import PLAIN, Quoting

if TYPE_CHECKING:
    from bisect_ai.report.planning_values import LogBlock, LogMixture
    from bisect_ai.report.report_values import RunUsage
    from bisect_ai.report.run_blocks import ProviderBlock

# Mixtures of versions that a sentence names.
SHOWN = 4


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


def money(usd: float | None) -> str:
    """An amount in USD: cents, or two significant digits below one cent."""
    if usd is None:
        return "cost unknown"
    return f"{usd:,.2f} USD" if usd >= 0.01 or usd == 0 else f"{usd:.2g} USD"


def cost_told(usage: RunUsage) -> str:
    """What a run cost; a target that tells no money is no target that is free."""
    return "no price known" if usage.calls and not usage.usd else money(usage.usd)


def duration(seconds: float | None) -> str:
    """A duration in its two largest units: "0.4 s", "1 min 1 s", "2 h 5 min"."""
    if seconds is None:
        return "time unknown"
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def usage_sentence(usage: RunUsage) -> str:
    """What the run cost: calls, and where there were any answers taken from the store, errors, tokens, money; time."""
    counted = {"call": usage.calls, "answer": usage.cached, "error": usage.errors, "token": usage.tokens}
    parts = {noun: count(n, noun) for noun, n in counted.items() if n or (noun == "call" and n is not None)}
    if "answer" in parts:
        parts["answer"] += " from the store"
    paid = [cost_told(usage)] if usage.calls != 0 or usage.usd else []
    if usage.unsettled_usd:
        paid.append(f"up to {money(usage.unsettled_usd)} more for requests whose answer never came whole")
    told = _provider_phrase(usage.provider) if usage.provider else ""
    return ", ".join([*parts.values(), *paid, duration(usage.seconds)]) + (f"; {told}" if told else "")


def _provider_phrase(provider: ProviderBlock) -> str:
    """Who answered, and what did not go smoothly between target and provider; empty when neither is known."""
    faults, outcomes = provider.faults, provider.outcomes
    parts = [f"answered by {', '.join(endpoints)}"] if (endpoints := list(provider.endpoints or ())[:3]) else []
    if faults:
        parts.append(f"{count(provider.requests, 'request')}, of which failed: {_tallied(faults)}")
    if provider.waited_s >= 1:
        parts.append(f"trials waited {duration(provider.waited_s)} in all for limits and outages")
    if outcomes:
        parts.append(f"answers that are not whole: {_tallied(outcomes)}")
    return "; ".join(parts)


def _tallied(counts: Mapping[str, int]) -> str:
    """Kinds with their counts, most first. A service of the user names its own kinds: letters and digits of them are shown."""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    named = [(re.sub(r"[^A-Za-z0-9 ]", " ", str(kind).replace("_", " "))[:24].strip(), n) for kind, n in rows[:6]]
    return ", ".join(f"{kind or 'other'} ({n:,})" for kind, n in named)
