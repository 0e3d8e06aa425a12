"""What a call will cost, before it is sent: tokens from the length of the text, money from litellm's price list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bisect_ai.replay.answer import Usage

CHARACTERS_PER_TOKEN = 4
"""A rule of thumb for English text; a tokenizer would have to be fetched over the network."""
ANSWER_TOKENS = 200
"""Assumed length of an answer when the log has none."""


def estimated_usage(
    litellm: Any, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], answer: str | None
) -> Usage:
    """Tokens in and out of one model call, and its price (None: litellm knows none)."""
    sent = len(json.dumps([*messages, *tools], ensure_ascii=False)) // CHARACTERS_PER_TOKEN + 1
    back = ANSWER_TOKENS if answer is None else len(answer) // CHARACTERS_PER_TOKEN + 1
    return Usage(sent, back, _price(litellm, model, sent, back))


def _price(litellm: Any, model: str, sent: int, back: int) -> float | None:
    try:
        costs = litellm.cost_per_token(model=model, prompt_tokens=sent, completion_tokens=back)
    except Exception:  # litellm raises a bare Exception for a model it has no price for
        return None
    return float(sum(costs))
