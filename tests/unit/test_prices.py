"""What a model costs: a name that litellm's list lacks is looked up once."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from bisect_ai.provider.completion import _KEYS_OF, Completions
from bisect_ai.provider.litellm_calls import load_litellm, look_once
from bisect_ai.provider.prices import listed, price_of
from bisect_ai.provider.retry import Wire


class Listed:
    """litellm as far as prices go: a list, and a pricing that counts its searches."""

    def __init__(self, **prices: float) -> None:
        self.model_cost = dict(prices)
        self.searched: list[str] = []

    def response_cost_calculator(self, *, model: str, response_object: Any = None, **_: Any) -> float:
        self.searched.append(model)
        for name in (model, getattr(response_object, "model", None)):
            if name in self.model_cost:
                return self.model_cost[name]
        raise ValueError(f"This model isn't mapped yet. model={model}")


def unpriced(cost: Any, model: str, **more: Any) -> None:
    with pytest.raises(ValueError, match="mapped"):
        cost(model=model, **more)


def test_a_model_without_a_price_is_searched_for_once_and_has_none() -> None:
    litellm = Listed()
    cost = look_once(litellm)
    unpriced(cost, "own")
    assert [cost(model="own") for _ in range(3)] == [None] * 3
    assert litellm.searched == ["own"]


def test_a_listed_model_is_priced_at_every_response() -> None:
    litellm = Listed(known=0.5)
    cost = look_once(litellm)
    assert [cost(model="known") for _ in range(2)] == [0.5, 0.5]
    assert len(litellm.searched) == 2


def test_the_model_that_a_response_names_may_have_a_price() -> None:
    cost = look_once(Listed(known=0.5))
    unpriced(cost, "deployment")
    assert cost(model="deployment", response_object=SimpleNamespace(model="known")) == 0.5


def test_a_model_that_is_registered_later_is_found() -> None:
    litellm = Listed()
    cost = look_once(litellm)
    unpriced(cost, "own")
    litellm.model_cost["own"] = 0.25
    assert cost(model="own") == 0.25


def test_prices_that_come_with_the_call_are_asked_for_each_time() -> None:
    litellm = Listed()
    cost = look_once(litellm)
    for _ in range(2):
        unpriced(cost, "own", custom_pricing=True)
    assert len(litellm.searched) == 2


def test_another_failure_is_not_remembered() -> None:
    def fails(**_: Any) -> float:
        raise KeyError("usage")

    cost = look_once(SimpleNamespace(response_cost_calculator=fails, model_cost={}))
    for _ in range(2):
        with pytest.raises(KeyError, match="usage"):
            cost(model="known")


def test_the_list_read_as_data_prices_models_as_litellm_does() -> None:
    """litellm says 0 where its list has no price of a kind; that is not known here, and no cap in USD rests on it."""
    litellm = load_litellm()
    names = [name for name, entry in litellm.model_cost.items() if entry.get("mode") == "chat" and name != "sample_spec"]
    prefixed = {f"{litellm.model_cost[name]['litellm_provider']}/{name}" for name in names if "/" not in name}
    compared = 0
    for name in (*names, *prefixed, "nobody/knows-it", "ft:gpt-4o-mini-2024-07-18:org::id"):
        try:
            info = litellm.get_model_info(name)
        except Exception:  # names that litellm takes for another provider's
            continue
        ours, theirs = price_of(name, {}, listed), price_of(name, {}, {name: info}.__getitem__)
        if theirs.input or theirs.output:  # litellm says 0 where its list has no price; here none is known then
            assert ours.input in (None, theirs.input) and ours.output in (None, theirs.output), name
            assert len({ours.longest, theirs.longest} - {None}) < 2, name
        compared += None not in (ours.input, ours.output, ours.longest)
    assert compared > 1000


@pytest.mark.parametrize("keys", [{}, {"ANTHROPIC_AUTH_TOKEN": "t"}, {"OPENAI_API_KEY": "k", "MISTRAL_API_KEY": "k"}])
def test_the_keys_that_are_missing_are_those_that_litellm_misses(keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_AUTH_TOKEN")):
            monkeypatch.delenv(name)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    completions, litellm = Completions(Wire(), timeout=1.0), load_litellm()
    for model in (
        "gpt-4o",
        "claude-sonnet-4-5",
        *(f"{provider}/any" for provider in _KEYS_OF),
        "gemini/gemini-2.5-pro",
        "nobody",
    ):
        missing = completions.missing_keys({"model": model})
        theirs = litellm.validate_environment(model=model)["missing_keys"]
        assert missing == theirs[:1] or (missing == ["GEMINI_API_KEY"] and missing[0] in theirs), model
