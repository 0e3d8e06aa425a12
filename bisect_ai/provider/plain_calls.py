"""litellm's handler layer for plain providers: a provider's own transforms and one client that keeps its connections, no wrapper.

Three quarters of the processor time of `litellm.acompletion` go into what surrounds the request: its copies, its books, its threads. A
provider with a chat config of its own needs none of that: `map_openai_params` once for a model and its tools, then `transform_request`,
one POST on our session (litellm's HTTP client takes as long as all of that together), `transform_response`. What litellm does besides
for some providers, parameters or settings is not done here, so that a call with any of these goes through `acompletion`: `plain_route`
gives None. Both ways send the same body and read the same answer (tests/conformance/test_plain_calls.py, at the installed litellm).
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from bisect_ai.canonical import json_object
from bisect_ai.provider.transport import ELSEWHERE, Unread, posted, proxy_for, readable, under_way

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
        from litellm.litellm_core_utils.litellm_logging import Logging
        from litellm.main import base_llm_http_handler

        books = Logging(
            model=self.model,
            messages=messages,
            stream=False,
            call_type="acompletion",
            start_time=datetime.now(UTC),
            litellm_call_id="",
            function_id="",
        )
        return await base_llm_http_handler.completion(
            model=self.model,
            messages=messages,
            api_base=self.base,
            custom_llm_provider=self.provider,
            model_response=litellm.ModelResponse(),
            encoding=None,
            logging_obj=books,
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
    return PlainRoute(name, provider, base, key, config, json.dumps(mapped), _client(litellm, base or "https:"))


def _client(litellm: Any, base: str) -> Any:
    """litellm's HTTP handler that posts on our session; None where settings of litellm's or a proxy ask for another way."""
    import httpx
    from litellm.llms.custom_httpx.aiohttp_transport import map_aiohttp_exceptions
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_default_headers, get_ssl_configuration

    verify, parts = get_ssl_configuration(), urlsplit(base)
    own = any(getattr(litellm, name, None) for name in _CLIENTS) or "SSL_CERTIFICATE" in os.environ
    if own or isinstance(verify, str) or proxy_for(parts.scheme, parts.hostname or ""):
        return None

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
            request, content = httpx.Request("POST", url), read if status >= 400 else readable(read, under_way())
            response = httpx.Response(status, headers=list(told.items()), content=content, request=request)
            return response.raise_for_status()

    return Direct()


def _endpoint_kind(litellm: Any, name: str, provider: str) -> str | None:
    """The kind of endpoint that litellm's list has for a model; None: the list does not have it."""
    try:
        mode = litellm.get_model_info(model=name, custom_llm_provider=provider).get("mode")
    except Exception:  # litellm raises many kinds of it for a model that it does not list
        return None
    return None if mode is None else str(mode)
