"""What a model costs: a name that litellm's list lacks is looked up once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bisect_ai.provider.prices import look_once


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
