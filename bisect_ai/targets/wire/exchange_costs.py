"""What an answer on the wire cost: as it says, or the most that it can have cost where it does not, or says what cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bisect_ai.provider.prices import Price
from bisect_ai.provider.usage import Usage, as_number, sound_usage

_SENT, _BACK = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")
"""Anthropic counts them beside the others; charged at the highest rate of those, which is at least what they cost."""
_LONGEST = ("max_completion_tokens", "max_output_tokens", "max_tokens")


@dataclass(frozen=True)
class PaidExchange:
    """A new answer: what it says of its usage, and what bounds its cost (bytes of the request, tokens that it lets an answer have)."""

    model: str
    said: Any
    sent: int
    longest: int | None


def longest_asked(request: Mapping[str, Any]) -> int | None:
    """Tokens that a request lets an answer have; None: it does not say."""
    asked = _first_said(request, *_LONGEST)
    return asked if isinstance(asked, int) and asked > 0 else None


def usage_of_exchange(paid: PaidExchange, price: Price) -> Usage:
    """Tokens and USD of one answer. No request has 0 tokens: that means that the provider did not say, as a stream often does not."""
    said = paid.said if isinstance(paid.said, Mapping) else {}
    read = sound_usage({"input_tokens": _sent(said), "output_tokens": _first_said(said, *_BACK)})
    doubt = read.doubt or (None if said else sound_usage(paid.said).doubt)
    if read.input_tokens and doubt is None:
        return replace(read, usd=price.of(read.input_tokens, read.output_tokens))
    longest = paid.longest or price.longest
    usd = None if longest is None else price.of(paid.sent, longest)
    return Usage(paid.sent, longest or 0, usd, estimated=True, doubt=doubt)


def _sent(said: Mapping[str, Any]) -> Any:
    """Tokens in, those written to and read from a cache included; what is said instead, where that is no number."""
    sent, cached = _first_said(said, *_SENT), [as_number(said.get(name)) or 0 for name in _CACHED]
    number = as_number(sent)
    return sent if number is None or number < 0 else number + sum(max(each, 0) for each in cached)


def _first_said(said: Mapping[str, Any], *names: str) -> Any:
    return next((said[name] for name in names if said.get(name) is not None), None)
