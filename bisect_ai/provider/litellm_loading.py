"""litellm as it is used here: imported without network or `.env`, silent, and what of it is switched off.

Before import: fetching prices over the network, loading a `.env`, fetching tokenizers, telemetry. After: its cache, callbacks,
fallbacks, retries (ours are the only ones: `wire`), dropping or changing of parameters (a dropped one would make another release), its
log lines (they hold text of users and providers), its success and failure loggers (`_unlogged`): they run after each call, callbacks
or not. Its price of a response stays on: that is what a run is charged; only a model that its list does not have is looked up
once, not after each call (`look_once`): in vain, that search takes a quarter of a call's CPU time. A request that it has prepared
for a caller who has gone is dropped in silence (`_dropped_in_silence`).
"""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from typing import Any

from bisect_ai.provider.transport import install

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
    """The litellm module, imported without network or `.env`, silent, without cache, callbacks or retries of its own."""
    os.environ.update(_ENVIRONMENT)
    import litellm
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    litellm.suppress_debug_info = True
    litellm.drop_params = litellm.modify_params = False
    litellm.cache = None
    litellm.num_retries = 0
    litellm.callbacks, litellm.success_callback, litellm.failure_callback = [], [], []
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
    """What a call of litellm answers, which it logs to nobody."""
    with _unlogged()():
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
