"""What a response cost. A provider that does not say is not free: its tokens are estimated from the text, and marked so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bisect_ai.replay.answer import Usage
from bisect_ai.replay.estimate import estimated_usage


def usage_of(
    litellm: Any, response: Any, *, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], said: str
) -> Usage:
    """Tokens and money of one response. No request has 0 tokens, so 0 means that the provider did not say."""
    usage = getattr(response, "usage", None)
    sent = getattr(usage, "prompt_tokens", None) or 0
    if not sent:
        guess = estimated_usage(litellm, model, messages, tools, said)
        return Usage(guess.input_tokens, guess.output_tokens, guess.usd, estimated=True)
    # litellm has priced the response with its own table; None there means that it knows no price.
    usd = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    return Usage(sent, getattr(usage, "completion_tokens", None) or 0, None if usd is None else float(usd))


def total(one: Usage, other: Usage) -> Usage:
    """The sum; unknown money stays unknown, and one estimate makes an estimate."""
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        None if one.usd is None or other.usd is None else one.usd + other.usd,
        estimated=one.estimated or other.estimated,
    )
