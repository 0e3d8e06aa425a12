"""What one answer says and costs, as anybody writes it: its text, also in parts; tokens and money, as far as they can be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

# In or out of one answer: no model and no loop of one comes near.
MOST_TOKENS = 10**9


# That one answer can cost.
MOST_USD = 10_000.0
# Texts of one embedding request: under the limits of the providers that take several.
EMBEDDED_TOGETHER = 64
# Characters of a text that are embedded: models take some 8,000 tokens.
LONGEST_EMBEDDED = 8000


@dataclass(frozen=True)
class Usage:
    """What an answer cost: tokens in and out, USD (None: no price known). `estimated`: the provider did not say, at least once.

    `unsettled_…`: the most that requests may have cost whose answer never came whole, or did not say what it cost: nobody knows.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    estimated: bool = False
    unsettled_tokens: int = 0
    unsettled_usd: float = 0.0
    # What was said that cannot be (a cost below 0, as many tokens as no model takes): it counts as not said.
    doubt: str | None = None

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.input_tokens + self.output_tokens


# Nothing was said of costs.
NO_USAGE = Usage()

_SAID = {"input_tokens": MOST_TOKENS, "output_tokens": MOST_TOKENS, "usd": MOST_USD}


_OURS = {"unsettled_tokens": MOST_TOKENS, "unsettled_usd": MOST_USD}


_ALSO = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}


# What tells in and out in one number.
_TOTALS = ("tokens", "total_tokens")


def _with_split(said: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, where tokens came in one number alone: as tokens in."""
    total = next((said[name] for name in _TOTALS if name in said), None)
    split = any(name in said for name in (*_ALSO, *_ALSO.values()))
    return dict(said) if split or total is None else {**said, "input_tokens": total}


_THOUGHTS = ("thinking", "reasoning", "redacted_thinking")


def text_of_parts(parts: Any) -> str:
    """The text of an answer that came in parts, as providers write them; what is no text, or was only thought, says nothing."""
    if isinstance(parts, list | tuple):
        return "".join(map(text_of_parts, parts))
    if not isinstance(parts, Mapping):
        return parts if isinstance(parts, str) else ""
    inner = next((parts[name] for name in ("text", "value", "content") if parts.get(name)), None)
    return "" if parts.get("type") in _THOUGHTS else text_of_parts(inner)


def sound_usage(said: Any) -> Usage:
    """Usage as far as what was said can be: numbers also as text; what no answer can have cost counts as not said, and is told."""
    if said is None:
        return NO_USAGE
    if not isinstance(said, Usage | Mapping):
        return Usage(estimated=True, doubt=f"usage is a {type(said).__name__}")
    given = _with_split(vars(said) if isinstance(said, Usage) else said)
    values: dict[str, Any] = {
        "estimated": given.get("estimated") is True,
        "doubt": None if given.get("doubt") is None else str(given["doubt"]),
    }
    for name, most in {**_OURS, **_SAID}.items():
        other = next((alias for alias, own in _ALSO.items() if own == name and name not in given), name)
        raw = given.get(other)
        number = as_number(raw)
        if number is not None and 0 <= number <= most:
            values[name] = number if name.endswith("usd") else math.ceil(number)
        elif raw is not None:
            values |= {"estimated": True, "doubt": values["doubt"] or f"usage.{other} is {str(raw)[:40]}"}
    return Usage(**values)


def as_number(value: Any) -> float | None:
    """A number, also one that is written as text; None for anything else."""
    value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
    value = float(value) if isinstance(value, Decimal | Fraction) else value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if number != number:
        return None
    return value if isinstance(value, int | float) else number
