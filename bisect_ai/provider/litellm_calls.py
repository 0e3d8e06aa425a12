"""litellm as it is used here: imported without network or `.env`, silent, and for plain providers without its wrapper.

Before import: fetching prices over the network, loading a `.env`, fetching tokenizers, telemetry. After: its cache, fallbacks, retries
(ours are the only ones: `retry`), dropping or changing of parameters (a dropped one would make another release), its log lines (they
hold text of users and providers), its success and failure loggers (`_unlogged`), which run after each call even where no callback is
registered. Its price of a response stays on: that is what a run is charged; only a model that its list does not have is looked up
once, not after each call (`look_once`): in vain, that search takes a quarter of a call's CPU time. A request that it has prepared for
a caller who has gone is dropped in silence (`_dropped_in_silence`).

Three quarters of the processor time of `litellm.acompletion` go into what surrounds the request: its copies, its books, its threads. A
provider with a chat config of its own needs none of that: `map_openai_params` once for a model and its tools, then `transform_request`,
one POST on our session (litellm's HTTP client takes as long as all of that together), `transform_response`. What litellm does besides
for some providers, parameters or settings is not done here, so that a call with any of these goes through `acompletion`: `plain_route`
gives None. Both ways send the same body and read the same answer (tests/conformance/test_plain_calls.py, at the installed litellm).
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import os
import re
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, partial, wraps
from typing import Any
from urllib.parse import urlsplit

from bisect_ai.canonical import json_object
from bisect_ai.provider.transport import ELSEWHERE, Unread, install, posted, proxy_for, readable, under_way

# Those whose requests differ between the two ways in no byte that they can see but headers that name the client.
PROVIDERS = frozenset({"openai", "deepseek", "groq", "mistral", "xai"})
PARAMETERS = frozenset(
    {
        "model",
        "api_base",
        "temperature",
        "top_p",
        "n",
        "seed",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "presence_penalty",
        "frequency_penalty",
        "response_format",
        "tool_choice",
        "parallel_tool_calls",
        "logprobs",
        "top_logprobs",
        "user",
    }
)
# Texts to stop at; litellm cuts a longer list.
MOST_STOPS = 4
# Models that litellm sends to another endpoint, some only with tools.
_ELSEWHERE = re.compile(r".*(?:responses/|gpt-(?:[5-9]|\d\d))")
# Settings of the environment that become headers in OpenAI's own client.
_ACCOUNT = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_GLOBAL = ("api_base", "api_key", "openai_key", "organization", "headers", "modify_params", "drop_params")
# What users register with litellm, looked at before each call: `acompletion` calls it, the plain route would pass it by.
CALLBACKS = tuple(
    f"{way}_callback" for way in ("input", "success", "failure", "_async_input", "_async_success", "_async_failure")
)
CALLBACKS += ("callbacks", "pre_call_rules", "post_call_rules")
# Settings of litellm's that ask for an HTTP client of their own.
_CLIENTS = ("aclient_session", "disable_aiohttp_transport", "force_ipv4", "ssl_certificate")
_OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class PlainRoute:
    """Where calls of one model with one set of tools go, and their parameters as the provider takes them, as JSON text."""

    model: str
    provider: str
    base: str | None
    key: str
    config: Any
    parameters: str
    # litellm's HTTP handler over our session; None: its own, which knows proxies and the user's clients.
    client: Any
    # litellm's books of a call, in which nothing is written: one for all calls.
    books: Any

    async def send(self, litellm: Any, messages: Sequence[Mapping[str, Any]], timeout: float) -> Any:
        """litellm's response, its price included. Raises what `acompletion` raises."""
        try:
            sent = litellm.utils.validate_and_fix_openai_messages(messages=copy.deepcopy(list(messages)))
            response = await self._request(litellm, sent, json.loads(self.parameters), timeout)
        except Exception as error:  # whatever the client raises becomes what litellm would have raised
            raise self._as_told(litellm, error) from error
        response._hidden_params["response_cost"] = self._cost(litellm, response)
        return response

    async def _request(self, litellm: Any, messages: list[Any], optional: dict[str, Any], timeout: float) -> Any:
        from litellm.main import base_llm_http_handler

        return await base_llm_http_handler.completion(
            model=self.model,
            messages=messages,
            api_base=self.base,
            custom_llm_provider=self.provider,
            model_response=litellm.ModelResponse(),
            encoding=None,
            logging_obj=self.books,
            optional_params=optional,
            timeout=timeout,
            litellm_params={"api_base": self.base, "custom_llm_provider": self.provider},
            acompletion=True,
            stream=False,
            api_key=self.key,
            headers={},
            provider_config=self.config,
            client=self.client,
        )

    def _as_told(self, litellm: Any, error: Exception) -> Exception:
        """The exception that litellm's users see for an error of the provider or of the way to it."""
        told = _as_openai_says(error) if self.provider == "openai" else error
        try:
            raised = litellm.exception_type(
                model=self.model,
                original_exception=told,
                custom_llm_provider=self.provider,
                completion_kwargs={},
                extra_kwargs={},
            )
        except Exception as named:  # litellm gives the translated error by raising it
            return named
        return raised if isinstance(raised, Exception) else error

    def _cost(self, litellm: Any, response: Any) -> float | None:
        """USD by litellm's list; None: it has no price."""
        try:
            found = litellm.response_cost_calculator(
                response_object=response,
                model=self.model,
                custom_llm_provider=self.provider,
                call_type="acompletion",
                optional_params={},
            )
        except Exception:  # litellm raises many kinds of it for a model that it has no price for
            return None
        return None if found is None else float(found)


def _as_openai_says(error: Exception) -> Exception:
    """An error of status with the body that OpenAI's client gives it, of which `acompletion` passes on what the provider says."""
    body = json_object(str(getattr(error, "message", "")))
    if body is not None:
        error.body = body.get("error", body)  # type: ignore[attr-defined]  # an attribute of litellm's errors
    return error


def plain_route(litellm: Any, model: Mapping[str, Any], tools: str) -> PlainRoute | None:
    """The route for calls with these parameters and tools (JSON text); None: they go through `acompletion`, as do doubtful ones."""
    try:
        return _route(litellm, model, tools) if _is_plain_model(litellm, model) else None
    except Exception:  # acompletion says what is wrong with the parameters
        return None


def has_callbacks(litellm: Any) -> bool:
    """Whether somebody wants litellm to tell them of calls, or to check them."""
    return any(getattr(litellm, name, None) for name in CALLBACKS)


def _is_plain_model(litellm: Any, model: Mapping[str, Any]) -> bool:
    stops, choice = model.get("stop"), model.get("tool_choice")
    return (
        set(model) <= PARAMETERS
        and not _ELSEWHERE.match(str(model["model"]))
        and not (isinstance(stops, list) and len(stops) > MOST_STOPS)
        and not (isinstance(choice, dict) and "function" not in choice)
        and not any(getattr(litellm, name, None) for name in _GLOBAL)
        and not any(name in os.environ for name in _ACCOUNT)
    )


def _route(litellm: Any, model: Mapping[str, Any], tools: str) -> PlainRoute | None:
    from litellm.utils import ProviderConfigManager, get_optional_params

    name, provider, key, base = litellm.get_llm_provider(model["model"], api_base=model.get("api_base"))
    if provider not in PROVIDERS or _endpoint_kind(litellm, name, provider) not in (None, "chat"):
        return None
    if provider == "openai":
        key = os.environ.get("OPENAI_API_KEY")
        base = base or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or _OPENAI
    config = ProviderConfigManager.get_provider_chat_config(model=name, provider=litellm.LlmProviders(provider))
    if not key or config is None:
        return None
    own = {parameter: value for parameter, value in model.items() if parameter not in ("model", "api_base")}
    offered = {"tools": json.loads(tools)} if tools else {}
    mapped = get_optional_params(model=name, custom_llm_provider=provider, stream=None, drop_params=False, **own, **offered)
    mapped.pop("max_retries", None)
    return PlainRoute(name, provider, base, key, config, json.dumps(mapped), _client(litellm, base or "https:"), _books(name))


def _books(model: str) -> Any:
    """What litellm's handler notes requests and answers in, for loggers that there are none of here."""
    from litellm.litellm_core_utils.litellm_logging import Logging

    call: dict[str, Any] = {"litellm_call_id": "", "function_id": "", "call_type": "acompletion"}
    books: Any = Logging(model=model, messages=[], stream=False, start_time=datetime.now(UTC), **call)
    books.pre_call = books.post_call = lambda *_, **__: None
    return books


def _client(litellm: Any, base: str) -> Any:
    """litellm's HTTP handler that posts on our session; None where settings of litellm's or a proxy ask for another way."""
    import httpx
    from litellm.llms.custom_httpx.aiohttp_transport import map_aiohttp_exceptions
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_default_headers, get_ssl_configuration

    verify, parts = get_ssl_configuration(), urlsplit(base)
    own = any(getattr(litellm, name, None) for name in _CLIENTS) or "SSL_CERTIFICATE" in os.environ
    if own or isinstance(verify, str) or proxy_for(parts.scheme, parts.hostname or ""):
        return None

    request_to = lru_cache(maxsize=4)(partial(httpx.Request, "POST"))  # names the address in errors, and takes long to parse it

    class Direct(AsyncHTTPHandler):
        def __init__(self) -> None:
            """Makes no client of its own."""

        def __del__(self) -> None:
            """Has none to close."""

        async def post(self, url: str, data: str | bytes = b"", headers: Mapping[str, str] | None = None, **_: Any) -> Any:
            body = data.encode() if isinstance(data, str) else data
            sent = {**get_default_headers(), **(headers or {}), "accept-encoding": "identity"}
            with map_aiohttp_exceptions():
                try:
                    status, told, read = await posted(url, body, sent, instead=ELSEWHERE, ssl=verify)
                except Unread as unread:
                    raise httpx.ReadError(str(unread)) from unread
            content = read if status >= 400 else readable(read, under_way())
            response = httpx.Response(status, headers=list(told.items()), content=content, request=request_to(url))
            if "charset" not in told.get("content-type", "").lower():
                response.encoding = "utf-8"  # as it would be found to be, by reading the header as a mail's
            return response.raise_for_status()

    return Direct()


def _endpoint_kind(litellm: Any, name: str, provider: str) -> str | None:
    """The kind of endpoint that litellm's list has for a model; None: the list does not have it."""
    try:
        mode = litellm.get_model_info(model=name, custom_llm_provider=provider).get("mode")
    except Exception:  # litellm raises many kinds of it for a model that it does not list
        return None
    return None if mode is None else str(mode)


# What litellm looks a price up by, besides the model that the response names.
_NAMES = ("model", "custom_llm_provider", "base_model", "router_model_id", "pricing_provider", "region_name", "call_type")

_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else importing it fetches prices over the network
    "LITELLM_MODE": "PRODUCTION",  # else importing it loads a .env file
    "PYTHON_DOTENV_DISABLED": "1",
    "HF_HUB_OFFLINE": "1",  # else counting tokens may fetch a tokenizer
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@cache
def load_litellm() -> Any:
    """The litellm module, imported without network or `.env`, silent, without cache or retries of its own.

    What callbacks it has been given stay: they are the user's.
    """
    os.environ.update(_ENVIRONMENT)
    import litellm
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    litellm.suppress_debug_info = True
    litellm.drop_params = litellm.modify_params = False
    litellm.cache = None
    litellm.num_retries = 0
    # Its log lines hold text of users and providers; what failed is told by the answer.
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Pydantic serializer warnings")  # quotes the provider
    litellm.response_cost_calculator = look_once(litellm)
    for name in ("completion", "embedding"):
        setattr(litellm.main, name, _dropped_in_silence(getattr(litellm.main, name)))
    install(LiteLLMAiohttpTransport)
    return litellm


@cache
def _unlogged() -> Callable[[], AbstractContextManager[None]]:
    """Inside it litellm does not log calls: its own mark of a call whose caller keeps the books, as ours does."""
    try:
        from litellm._internal_context import internal_sub_call
    except ImportError:  # a litellm without the mark logs to nobody: slower, nothing else
        return nullcontext
    return internal_sub_call


class _Prepared:
    """A coroutine that is closed, not warned of, when nobody awaits it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._coroutine.__await__())

    def __del__(self) -> None:
        self._coroutine.close()


Coroutine.register(_Prepared)  # litellm awaits what `asyncio.iscoroutine` says is one


def _dropped_in_silence(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """litellm prepares a request in a thread, which goes on when the caller's time is over or the run ends: nobody awaits it then."""

    @wraps(prepare)
    def prepared(*given: Any, **named: Any) -> Any:
        made = prepare(*given, **named)
        return _Prepared(made) if inspect.iscoroutine(made) else made

    return prepared


async def call_quietly(call: Callable[..., Awaitable[Any]], request: Mapping[str, Any]) -> Any:
    """What a call of litellm answers, which it logs to nobody but to callbacks of the user's."""
    with nullcontext() if has_callbacks(load_litellm()) else _unlogged()():
        return await call(**request)


def look_once(litellm: Any) -> Callable[..., Any]:
    """litellm's pricing of a response, which looks a model up that its list does not have once, not at every response.

    Going in vain through all names that such a model may be listed under takes a quarter of the CPU time of a call. A model that is
    registered later makes the list longer, and is found. What goes by more than names (a price of one's own) is not remembered.
    """
    calculate, missing = litellm.response_cost_calculator, set()

    def cost(**asked: Any) -> Any:
        response = asked.get("response_object")
        named = (*(str(asked.get(name)) for name in _NAMES), str(getattr(response, "model", None)), len(litellm.model_cost))
        known_missing = not asked.get("custom_pricing") and named in missing
        try:
            return None if known_missing else calculate(**asked)
        except Exception as error:
            if "isn't mapped" in str(error):
                missing.add(named)
            raise

    return cost
