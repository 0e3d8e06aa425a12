"""One call of a model through litellm: parameters checked, price known, one retry loop, a typed reply.

What of litellm is switched off, and why, stands in `litellm_calls`. Here: its retries, its dropping of parameters and the import
of its proxy whenever tools are offered (`_ONE_CALL`).
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bisect_ai.canonical import canonical, plain
from bisect_ai.errors import ConfigError, ReleaseError
from bisect_ai.provider.budget import Account, Amount
from bisect_ai.provider.litellm_calls import PlainRoute, call_quietly, has_callbacks, load_litellm, plain_route
from bisect_ai.provider.prices import Price, listed, longest_answer, most_of, price_of, usage_of
from bisect_ai.provider.redaction import redact
from bisect_ai.provider.retry import ModelRequest, RequestTally, Route, Wire
from bisect_ai.provider.transport import under_way
from bisect_ai.provider.usage import Usage, sound_usage
from bisect_ai.provider.user_code import imported

Message = dict[str, Any]
_OURS = frozenset(
    {
        "messages",
        "tools",
        "stream",
        "timeout",
        "max_retries",
        "num_retries",
        "drop_params",
        "fallbacks",
        "caching",
        "api_key",
    }
)
# Names of parameters that would carry a credential in a release file.
_CREDENTIAL = re.compile(r"api[-_]?key|secret|password|authorization|access[-_]?token|ad[-_]token|credentials", re.IGNORECASE)
_OUTCOMES = {"length": "truncated", "content_filter": "filtered"}
# One request for one call: retries would hide attempts; without a dropped parameter it is the release's own model.
_ONE_CALL: dict[str, Any] = {"max_retries": 0, "num_retries": 0, "drop_params": False, "_skip_mcp_handler": True}
# Seconds by which litellm's own timeout comes after ours, so that ours is the one that is told.
_LATER = 5.0
# Providers whose models litellm finds in its list by more than their names: versions, regions, models of others.
_BY_RULE = frozenset({"azure_ai", "bedrock", "bedrock_converse", "databricks", "fireworks_ai", "gemini", "github", "vertex_ai"})
# Variables of which a provider wants one, as litellm says too: asking it takes seconds.
_KEYS_OF: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "xai": ("XAI_API_KEY",),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A tool call that a model asks for; `arguments` is the text that it wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said. `outcome`: ok, truncated, filtered or empty; `content` as the provider gave it (None: none)."""

    text: str
    content: Any
    calls: tuple[Asked, ...]
    usage: Usage
    outcome: str
    model: str | None
    fingerprint: str | None

    @property
    def used(self) -> Amount:
        """What it cost, for the account."""
        return Amount(1, self.usage.tokens, self.usage.usd or 0.0)


@dataclass(frozen=True, slots=True)
class Vectors:
    """What an embedding model made of texts, in their order."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage

    @property
    def used(self) -> Amount:
        """What they cost, for the account."""
        return Amount(1, self.usage.tokens, self.usage.usd or 0.0)


class Completions:
    """Asks models. One for a run: its callers share limits, breakers and waits. Bound to one event loop at a time.

    `providers`: provider name to a litellm CustomLLM, what makes one, or `module:object` in `folder`. `prices`: see `price_of`;
    `whose` settings they are in, for messages.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        timeout: float,
        providers: Mapping[str, Any] | None = None,
        prices: Mapping[str, Mapping[str, float]] | None = None,
        folder: Path = Path(),
        whose: str = "target",
    ) -> None:
        self._whose = whose
        self._wire, self._timeout, self._folder = wire, timeout, folder
        self._providers, self._prices = dict(providers or {}), dict(prices or {})
        self._handlers: dict[str, Any] | None = None
        self._known: dict[str, Price] = {}
        self._plain: dict[str, PlainRoute | None] = {}

    def missing_keys(self, model: Mapping[str, Any]) -> list[str]:
        """Variables that hold the keys of a model's provider and are not set; nothing where the release names an address, or none."""
        name = str(model["model"])
        if model.get("api_base") or name.partition("/")[0] in self._providers:
            return []
        if _listed_provider(name) in _KEYS_OF:
            return self.absent_keys(model)
        try:
            found = load_litellm().validate_environment(model=name)
        except Exception:  # litellm says what is wrong with the name when it is called
            return []
        return [str(key) for key in found.get("missing_keys") or ()]

    def absent_keys(self, model: Mapping[str, Any]) -> list[str]:
        """As `missing_keys`, at once, and only of providers that let nobody in without (others know a login of the machine)."""
        name = str(model["model"])
        keys = _KEYS_OF.get(_listed_provider(name), ())
        elsewhere = model.get("api_base") or name.partition("/")[0] in self._providers
        own = getattr(sys.modules.get("litellm"), "api_key", None)  # set by the user's code
        return [] if elsewhere or own or any(os.environ.get(key) for key in keys) else list(keys[:1])

    async def ask(
        self,
        model: Mapping[str, Any],
        messages: Sequence[Message],
        tools: str = "",
        *,
        until: float,
        tally: RequestTally,
        account: Account,
    ) -> Reply:
        """The model's reply to `messages`; `model` is litellm's parameters, `tools` the offered ones as JSON text.

        Raises what `Wire.send` raises, and `ConfigError` when a cap needs a price or a longest answer that is not known.
        """
        litellm, price, known = self.ready(), self.price(str(model["model"])), _Once(model, messages, tools)
        self.check_caps(model, account)

        def send() -> Any:
            plain_call = None if has_callbacks(litellm) else self._plain_route(litellm, model, tools)
            if plain_call is not None:
                return plain_call.send(litellm, messages, self._timeout + _LATER)
            # Copies: some providers rewrite schemas and messages in place, and a release is read-only.
            extra = {"tools": json.loads(tools)} if tools else {}
            request = {**model, **extra, "messages": list(messages), "timeout": self._timeout + _LATER, **_ONE_CALL}
            return call_quietly(litellm.acompletion, request)

        call = ModelRequest(send, lambda: known.most(price), lambda response: _reply(response, price, known, model))
        return await self._wire.send(call, self._route(litellm, model), until=until, tally=tally, account=account)

    def _plain_route(self, litellm: Any, model: Mapping[str, Any], tools: str) -> PlainRoute | None:
        """The route without litellm's wrapper; None: there is none."""
        key = f"{canonical(model)}{tools}"
        if key not in self._plain:
            mine = str(model["model"]).partition("/")[0] in self._providers or "custom_llm_provider" in model
            self._plain[key] = None if mine else plain_route(litellm, model, tools)
        return self._plain[key]

    async def embed(
        self, model: Mapping[str, Any], texts: Sequence[str], *, until: float, tally: RequestTally, account: Account
    ) -> Vectors:
        """The vectors of `texts`, in one request. Raises what `ask` raises."""
        litellm, price = self.ready(), _of_input(self.price(str(model["model"])))
        self.check_caps(model, account, answers=False)
        sent = sum(len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts)  # a token is at least one byte
        most = Amount(1, sent, price.of(sent, 0) or 0.0)

        def send() -> Any:
            request = {**model, "input": list(texts), "timeout": self._timeout + _LATER, "max_retries": 0}
            return call_quietly(litellm.aembedding, request)

        call = ModelRequest(send, lambda: most, lambda response: _vectors(response, price, most, len(texts)))
        return await self._wire.send(call, self._route(litellm, model), until=until, tally=tally, account=account)

    def price(self, model: str) -> Price:
        """What a model costs."""
        if model not in self._known:
            self._known[model] = price_of(model, self._prices, self._looked_up)
        return self._known[model]

    def _looked_up(self, model: str) -> Mapping[str, Any]:
        """The model's entry in litellm's list, read without loading litellm but for models that it finds by rules of their provider's.

        Code of the user's that answers for a provider may add models to the list, so it is loaded first.
        """
        provider = model.partition("/")[0]
        if provider in self._providers:
            self.ready()
        found = listed(model)
        if found or provider not in _BY_RULE:
            return found
        try:
            return dict(load_litellm().get_model_info(model))
        except Exception:  # litellm raises many kinds of it for a model that it has no price for
            return {}

    def check_caps(self, model: Mapping[str, Any], account: Account, *, answers: bool = True) -> None:
        """Raises `ConfigError` when a cap on money or tokens cannot be kept, naming the key that helps.

        `answers`: the model writes some, whose longest has to be known.
        """
        if not account.need_bounds:
            return
        name, price = str(model["model"]), self.price(str(model["model"]))
        price = price if answers else _of_input(price)
        if account.caps_money and price.of(1, 1) is None:
            raise ConfigError(
                f"cannot keep a cap in USD: no price is known for {name}; set {self._whose}.prices: "
                f"{{{name!r}: {{input: …, output: …}}}} in USD per million tokens, or cap calls or tokens instead"
            )
        if answers and longest_answer(price, model) is None:
            raise ConfigError(
                f"cannot keep a cap on money or tokens: how long an answer of {name} can be is not known; set max_tokens in the "
                f"{'model axis' if self._whose == 'target' else 'model of the ' + self._whose}, or {self._whose}.prices: "
                f"{{{name!r}: {{max_output: …}}}}"
            )

    def ready(self) -> Any:
        """litellm, with our providers registered."""
        litellm = load_litellm()
        if self._handlers is None:
            self._handlers = {name: _handler(imported(spec, self._folder)) for name, spec in self._providers.items()}
        others = [entry for entry in litellm.custom_provider_map if entry["provider"] not in self._handlers]
        ours = [{"provider": name, "custom_handler": handler} for name, handler in self._handlers.items()]
        if litellm.custom_provider_map != [*others, *ours]:
            litellm.custom_provider_map = [*others, *ours]
        return litellm

    def _route(self, litellm: Any, model: Mapping[str, Any]) -> Route:
        name = str(model["model"])
        provider = model.get("custom_llm_provider") or _provider_of(litellm, name, model.get("api_base"))
        return Route(f"{provider} {model.get('api_base') or ''}".rstrip(), name, custom=provider in self._providers)


def _of_input(price: Price) -> Price:
    """The price of a model that writes nothing."""
    return price if price.output is not None else replace(price, output=0.0)


class _Once:
    """The most that a request can cost, worked out when it is first asked for."""

    def __init__(self, *request: Any) -> None:
        self._request = request
        self._most: Amount | None = None

    def most(self, price: Price) -> Amount:
        if self._most is None:
            self._most = most_of(price, *self._request)
        return self._most


def model_parameters(release: Mapping[str, Any]) -> dict[str, Any]:
    """The litellm parameters that the `model` and `sampling` axes give. Raises `ReleaseError` naming the key at fault."""
    axis, sampling = release.get("model"), release.get("sampling") or {}
    given = {"model": axis} if isinstance(axis, str) else axis
    if not isinstance(given, Mapping) or not isinstance(given.get("model"), str):
        raise ReleaseError("cannot call a model: the model axis names none; write model: {model: provider/name}")
    if not isinstance(sampling, Mapping):
        raise ReleaseError(f"cannot read the sampling axis: it is a {type(sampling).__name__}; give a mapping")
    parameters = {name: plain(value, where=f"model.{name}") for name, value in {**given, **sampling}.items()}
    refused = sorted((_OURS & set(parameters)) | _credentials(parameters))
    if refused:
        raise ReleaseError(
            f"cannot call {given['model']}: {refused[0]!r} does not belong in the model axis; credentials come from the "
            "environment, time limits from the target's settings"
        )
    return parameters


def _credentials(value: Any) -> set[str]:
    """Names of keys, at any depth, that hold credentials."""
    if isinstance(value, Mapping):
        named = {str(name) for name, inner in value.items() if _CREDENTIAL.search(str(name)) and isinstance(inner, str)}
        return named.union(*(_credentials(inner) for inner in value.values()))
    return set().union(*(_credentials(inner) for inner in value)) if isinstance(value, list) else set()


def _reply(response: Any, price: Price, known: _Once, model: Mapping[str, Any]) -> Reply:
    choices = getattr(response, "choices", None)
    choice = choices[0] if choices else None
    message = getattr(choice, "message", None)
    content = getattr(message, "content", None)
    text = redact(content if isinstance(content, str) else str(content or ""))
    calls = tuple(_asked_call(call) for call in getattr(message, "tool_calls", None) or ())
    refused = "filtered" if not text and getattr(message, "refusal", None) else None
    ended = refused or _OUTCOMES.get(str(getattr(choice, "finish_reason", None)))
    return Reply(
        text=text,
        content=content,
        calls=calls,
        usage=usage_of(response, price, lambda: known.most(price), model, text),
        outcome=ended or ("ok" if text or calls else "empty"),
        model=getattr(response, "model", None),
        fingerprint=getattr(response, "system_fingerprint", None),
    )


def _vectors(response: Any, price: Price, most: Amount, texts: int) -> Vectors:
    """Raises `ValueError` when there is not one vector for each text, all of one length."""
    vectors = _rows(getattr(response, "data", None), texts)
    listed = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    read = sound_usage({"input_tokens": getattr(getattr(response, "usage", None), "prompt_tokens", None), "usd": listed})
    sent, doubt = read.input_tokens, under_way().doubt or read.doubt
    if not sent or doubt:  # the provider did not say: the most is charged
        return Vectors(vectors, Usage(most.tokens, 0, price.of(most.tokens, 0), estimated=True, doubt=doubt))
    return Vectors(vectors, Usage(sent, 0, price.of(sent, 0) if price.given or read.usd is None else read.usd))


def _rows(data: Any, texts: int) -> tuple[tuple[float, ...], ...]:
    try:
        rows = [(row["index"], row["embedding"]) for row in data]
    except (TypeError, KeyError, IndexError):
        raise ValueError("the provider's answer holds no list of vectors") from None
    if len(rows) != texts:
        raise ValueError(f"{len(rows)} vectors came back for {texts} texts")
    placed = dict(rows) if all(isinstance(index, int) for index, _ in rows) else {}
    if set(placed) != set(range(texts)):
        raise ValueError("the provider's answer does not say which vector is of which text")
    vectors = tuple(_vector(placed[place]) for place in range(texts))
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("the provider's vectors are not of one length")
    return vectors


def _vector(given: Any) -> tuple[float, ...]:
    """Numbers, also where they are written as text."""
    try:
        found = () if isinstance(given, str | bytes) else tuple(math.nan if isinstance(x, bool) else float(x) for x in given)
    except (TypeError, ValueError, OverflowError):
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise ValueError("a vector of the provider's is not a list of finite numbers")
    return found


def _asked_call(call: Any) -> Asked:
    function = getattr(call, "function", None)
    return Asked(str(call.id), str(getattr(function, "name", None)), str(getattr(function, "arguments", None) or "{}"))


def _handler(found: Any) -> Any:
    return found if hasattr(found, "acompletion") and not isinstance(found, type) else found()


def _listed_provider(name: str) -> str:
    """The provider that a model's name or its entry in the list names."""
    head, slash, _ = name.partition("/")
    return head if slash else str(listed(name).get("litellm_provider", ""))


@lru_cache(maxsize=1024)
def _provider_of(litellm: Any, name: str, api_base: str | None) -> str:
    """The provider whose limits a model's calls fall under, as litellm reads its name."""
    try:
        return str(litellm.get_llm_provider(model=name, api_base=api_base)[1])
    except Exception:  # litellm says what is wrong with the name when it is called
        return name.partition("/")[0]
