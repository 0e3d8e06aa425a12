"""What tokens cost, and the most that a call can cost: from the user's own prices, else from litellm's list."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bisect_ai.errors import ConfigError
from bisect_ai.provider.budget import Amount
from bisect_ai.provider.transport import under_way
from bisect_ai.provider.usage import Usage, sound_usage

MILLION = 1_000_000
# A rule of thumb for English text; a tokenizer would have to be fetched over the network.
CHARACTERS_PER_TOKEN = 4
# Assumed length of an answer when the log has none.
ANSWER_TOKENS = 200
# What providers add around a message or a tool, at most.
_FRAME_TOKENS = 16
_KEYS = {"input", "output", "max_output"}
# Litellm's names of prices, and from how many tokens on they hold.
_RATE = re.compile(
    r"(cache_creation_)?(input|output)(_token)?_cost(_per_token|_per_reasoning_token)?(_above_\w+?_tokens|_above_1hr)?$"
)
# A fine-tuned model of OpenAI's, which costs what its base is listed for.
_TUNED = re.compile(r"(ft:[^:]+)(?::[^:]*){3}")


@dataclass(frozen=True, slots=True)
class Price:
    """USD per token in and out; of rates that depend on the length or the cache, the highest. `longest`: tokens of an answer.

    None: not known. `given`: by the user, so it also prices what came back.
    """

    input: float | None = None
    output: float | None = None
    longest: int | None = None
    given: bool = False

    def of(self, sent: int, back: int) -> float | None:
        """USD of a call, None without a price."""
        return None if self.input is None or self.output is None else sent * self.input + back * self.output


def price_of(model: str, given: Mapping[str, Any], looked_up: Callable[[str], Mapping[str, Any]]) -> Price:
    """The price of a model: what the user gave (USD per million tokens), completed by its entry in a list, where that is needed."""
    own = given.get(model, {})
    known = Price() if set(own) == _KEYS else _listed_price(looked_up(model))
    longest = own.get("max_output", known.longest)
    if "input" not in own:
        return Price(known.input, known.output, longest)
    return Price(own["input"] / MILLION, own["output"] / MILLION, longest, given=True)


def listed(model: str) -> Mapping[str, Any]:
    """The entry of a model in litellm's list, by its name or by its name at its provider; empty: none.

    litellm gives the same for the same names, but for a price of 0 where its list has no price; that is not known here.
    """
    costs = _costs()
    provider, _, name = model.partition("/")
    if model in costs:
        return _price_entry(costs, model)
    own = _price_entry(costs, name)
    if str(own.get("litellm_provider", "")).startswith(provider):
        return own
    tuned = _TUNED.fullmatch(model)
    return listed(tuned[1]) if tuned else {}


def _price_entry(costs: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = costs.get(name)
    return found if isinstance(found, Mapping) else {}


def _costs() -> Mapping[str, Any]:
    """litellm's list: that of the process where litellm is loaded (code of the user's may have added to it), else its file."""
    loaded: Mapping[str, Any] | None = getattr(sys.modules.get("litellm"), "model_cost", None)
    return loaded or _costs_of_file()


@cache
def _costs_of_file() -> Mapping[str, Any]:
    """The list that comes with litellm, read as data: importing litellm for it takes seconds."""
    package = find_spec("litellm")
    file = Path(str(package and package.origin)).with_name("model_prices_and_context_window_backup.json")
    costs: Mapping[str, Any] = json.loads(file.read_bytes())
    return costs


def checked_prices(given: Any) -> dict[str, dict[str, float]]:
    """`target.prices` as it should be. Raises `ConfigError` naming the key at fault."""
    form = "give each model {input: USD per million tokens, output: …, max_output: tokens}"
    if not isinstance(given or {}, Mapping):
        raise ConfigError(f"cannot read target.prices: it is a {type(given).__name__}; {form}")
    return {str(model): _checked_prices(str(model), own, form) for model, own in (given or {}).items()}


def _checked_prices(model: str, own: Any, form: str) -> dict[str, float]:
    if not isinstance(own, Mapping) or set(own) - _KEYS or not own or ("input" in own) != ("output" in own):
        raise ConfigError(f"cannot read target.prices of {model!r}; {form}")
    for key, value in own.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ConfigError(f"cannot read target.prices of {model!r}: {key} is {value!r}, not a number of at least 0")
    return {str(key): value for key, value in own.items()}


def _listed_price(info: Mapping[str, Any]) -> Price:
    longest = info.get("max_output_tokens") or info.get("max_tokens")
    return Price(_highest(info, "input"), _highest(info, "output"), int(longest) if isinstance(longest, int | float) else None)


def _highest(info: Mapping[str, Any], side: str) -> float | None:
    if info.get(f"{side}_cost_per_token") is None:
        return None
    rates = [float(rate) for name, rate in info.items() if rate and (found := _RATE.match(name)) and found[2] == side]
    uplift = max([float(rate) for name, rate in info.items() if rate and name.endswith("_uplift_multiplier")], default=1.0)
    return max(rates, default=0.0) * max(uplift, 1.0)


def most_of(price: Price, model: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], tools: str) -> Amount:
    """The most that one request can cost: a token is at least one byte, and an answer ends at its longest.

    An answer whose longest is not known counts for nothing here: ask `Price.longest` first where that matters.
    """
    sent = len(json.dumps(messages, ensure_ascii=False).encode("utf-8", "surrogatepass")) + len(
        tools.encode("utf-8", "surrogatepass")
    )
    sent += _FRAME_TOKENS * (1 + len(messages))
    back = (longest_answer(price, model) or 0) * _choices(model)
    return Amount(1, sent + back, (price.of(sent, back) or 0.0) * _tier(model))


def longest_answer(price: Price, model: Mapping[str, Any]) -> int | None:
    """Tokens that one answer can have at most: what the release asks for, else what the model can; None: not known."""
    asked = model.get("max_completion_tokens") or model.get("max_tokens")
    return int(asked) if isinstance(asked, int) and asked > 0 else price.longest


def _choices(model: Mapping[str, Any]) -> int:
    wanted = model.get("n")
    return wanted if isinstance(wanted, int) and wanted > 1 else 1


def _tier(model: Mapping[str, Any]) -> float:
    # Faster tiers cost up to twice as much.
    return 2.5 if model.get("service_tier") not in (None, "auto", "default", "flex") else 1.0


def estimated_usage(price: Price, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], answer: str | None) -> Usage:
    """Tokens in and out of one model call by the length of its text, and its price (None: not known)."""
    sent = len(json.dumps([*messages, *tools], ensure_ascii=False)) // CHARACTERS_PER_TOKEN + 1
    back = ANSWER_TOKENS if answer is None else len(answer) // CHARACTERS_PER_TOKEN + 1
    return Usage(sent, back, price.of(sent, back), estimated=True)


def usage_of(response: Any, price: Price, most: Callable[[], Amount], model: Mapping[str, Any], said: str) -> Usage:
    """Tokens and money of one response; `most`: what it can have cost.

    No request has 0 tokens, nor has an answer with a text, so 0 means that the provider did not say: the most is charged.
    """
    usage = getattr(response, "usage", None)
    told = {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    # litellm has priced the response with its own list; None there means that it knows no price.
    listed = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    read = sound_usage({**told, "usd": None if price.given else listed})
    doubt = under_way().doubt or read.doubt
    if not read.input_tokens or (said and not read.output_tokens) or doubt:
        return replace(_the_most(price, most(), model, said), doubt=doubt)
    return replace(read, usd=price.of(read.input_tokens, read.output_tokens)) if price.given else read


def _the_most(price: Price, most: Amount, model: Mapping[str, Any], said: str) -> Usage:
    longest = longest_answer(price, model)
    back = len(said.encode("utf-8", "surrogatepass")) if longest is None else longest * _choices(model)
    sent = most.tokens - (0 if longest is None else back)
    return Usage(sent, back, price.of(sent, back), estimated=True)


def total(one: Usage, other: Usage) -> Usage:
    """The sum; unknown money stays unknown, and one estimate makes an estimate."""
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        None if one.usd is None or other.usd is None else one.usd + other.usd,
        estimated=one.estimated or other.estimated,
        unsettled_tokens=one.unsettled_tokens + other.unsettled_tokens,
        unsettled_usd=one.unsettled_usd + other.unsettled_usd,
        doubt=one.doubt or other.doubt,
    )
