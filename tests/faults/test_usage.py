"""What an answer says that it cost: read where the meaning is clear, not believed where it cannot be, and then said."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.provider.prices import Price
from bisect_ai.provider.redaction import describe, line_of
from bisect_ai.provider.usage import Usage, sound_usage
from bisect_ai.queries.query import Query
from bisect_ai.runs.prepare import build_target
from bisect_ai.targets.answer import as_answer
from bisect_ai.targets.promptfoo_target import answer_in_results
from bisect_ai.targets.wire.exchanges import PaidExchange, usage_of_exchange
from tests.faults.provider import Provider, Request, Say
from tests.wire_shop import BAD, GOOD, shop
from tests.wire_shop import QUERIES as SHOP_QUERIES

ABSURD: list[Any] = [-3, -1e-9, 1e18, float("nan"), float("inf"), "much", True, [1], {"a": 1}]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def study(target: Any, budget: dict[str, Any], **more: Any) -> bisect_ai.Result:
    given: dict[str, Any] = {
        "good": {"prompt": "a", "model": "m"},
        "bad": {"prompt": "b", "model": "n"},
        "queries": [{"id": f"q{i}", "input": f"hi {i}", "reference": "Hello."} for i in range(30)],
        "target": target,
        "scorers": [{"kind": "exact", "name": "correct"}],
        "metric": "correct",
        "budget": {"calls": 120, **budget},
        "drill": False,
    }
    return bisect_ai.run(**{**given, **more})


def asked_of(provider: Provider, budget: dict[str, Any]) -> bisect_ai.Result:
    model = provider.model("openai", max_tokens=50)
    sides = {"good": {"prompt": "a", "model": model}, "bad": {"prompt": "b", "model": {**model, "temperature": 0}}}
    return study({"kind": "litellm", "concurrency": 8}, budget, **sides)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ({"usd": "0.5", "input_tokens": " 12 "}, Usage(12, 0, 0.5)),
        ({"prompt_tokens": 3, "completion_tokens": 4.0, "total": 7}, Usage(3, 4)),
        ({"input_tokens": 1.2}, Usage(2, 0)),
        (None, Usage()),
        (Usage(1, 2, 0.25), Usage(1, 2, 0.25)),
    ],
)
def test_what_is_clear_is_read(said: Any, read: Usage) -> None:
    assert sound_usage(said) == read


@pytest.mark.parametrize("value", ABSURD, ids=repr)
def test_what_cannot_be_is_not_said(value: Any) -> None:
    for said in ({"usd": value}, Usage(usd=value)):
        read = as_answer({"text": "x", "usage": said}).usage
        assert read.usd is None and read.estimated and read.doubt == f"usage.usd is {str(value)[:40]}"
    tokens = sound_usage({"input_tokens": value, "usd": 0.5})
    assert (tokens.input_tokens, tokens.usd) == (0, 0.5) and "usage.input_tokens" in str(tokens.doubt)


@pytest.mark.parametrize("value", ABSURD, ids=repr)
def test_a_function_that_says_it_is_charged_the_most_and_told_of(value: Any) -> None:
    asked: list[str] = []

    def answer(query: Any, release: Any) -> dict[str, Any]:
        asked.append(query.id)
        said = 0.001 if len(asked) % 4 else value
        return {"text": "Hello.", "usage": {"usd": said}}

    result = study(answer, {"usd": 0.02})
    assert 15 <= len(asked) <= 21 and "stopped at the money cap" in result.verdict.sentence
    usage = result.to_dict()["usage"]
    assert 0 <= usage["usd"] <= 0.02 and 0 < usage["unsettled_usd"] <= 0.02
    assert any("what cannot be of their cost, first: usage.usd is" in line for line in result.report["warnings"])


def test_who_never_says_what_can_be_has_spent_the_cap_with_one_answer() -> None:
    with Provider([Say(body={"text": "Hello.", "usage": {"usd": -3}})]) as provider:
        result = study({"kind": "http", "url": f"{provider.host}/answer"}, {"usd": 0.02})
        assert len(provider.requests) == 1 and "stopped at the money cap" in result.verdict.sentence


def test_without_a_cap_it_is_only_told() -> None:
    result = study(lambda query, release: {"text": "Hello.", "usage": {"usd": -3}}, {})
    assert result.usage.calls > 50 and result.to_dict()["usage"]["usd"] == 0
    assert any("usage.usd is -3" in line for line in result.report["warnings"])


def _usage(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda answer: answer["usage"].update(fields)


@pytest.mark.parametrize("value", [-5, 10**18, "many", float("nan"), True, [1]], ids=repr)
def test_a_model_that_says_it_is_charged_at_the_upper_bound(value: Any) -> None:
    with Provider([Say(change=_usage(prompt_tokens=value))]) as provider:
        result = asked_of(provider, {"usd": 0.01})
        # At most 50 tokens of output each, at 10 USD a million.
        assert 5 < len(provider.requests) <= 0.01 / (50 * 10e-6)
    assert 0 < result.to_dict()["usage"]["usd"] <= 0.01
    assert any("usage.prompt_tokens is" in line for line in result.report["warnings"])


def test_counts_as_text_and_an_answer_in_parts_are_read() -> None:
    def change(answer: dict[str, Any]) -> None:
        answer["usage"] = {"prompt_tokens": "10", "completion_tokens": "4", "total_tokens": "14"}
        parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}]
        answer["choices"][0]["message"]["content"] = parts

    with Provider([Say(change=change)]) as provider:
        result = asked_of(provider, {})
        usage = result.to_dict()["usage"]
        assert usage["errors"] == 0 and usage["tokens"] == 14 * len(provider.requests)
    assert set(result.observations["correct"]) == {1.0} and not any("cannot be" in w for w in result.report["warnings"])


@pytest.mark.parametrize("said", [[10, 4], "14", 14, True], ids=repr)
def test_a_model_whose_usage_is_no_mapping_is_charged_the_most_and_told_of(said: Any) -> None:
    with Provider([Say(change=lambda answer: answer.update(usage=said))]) as provider:
        result = asked_of(provider, {"usd": 0.01})
        assert 5 < len(provider.requests) <= 0.01 / (50 * 10e-6)
    assert result.usage.errors == 0 and result.to_dict()["usage"]["usd"] > 0
    assert any(f"usage is a {type(said).__name__}" in line for line in result.report["warnings"])


PARTS: list[Any] = [
    ["Hel", "lo."],
    [{"type": "text", "text": {"value": "Hello.", "annotations": []}}],
    [
        {"type": "reasoning", "text": "He said"},
        {"type": "thinking", "thinking": [{"text": "hm"}]},
        {"type": "text", "text": "Hello."},
    ],
    [{"type": "message", "content": [{"type": "output_text", "text": "Hel"}, {"text": "lo."}]}],
    [{"type": "text", "content": "Hello."}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": None}],
]


@pytest.mark.parametrize("text", PARTS, ids=repr)
@pytest.mark.parametrize("kind", ["http", "python"])
def test_an_answer_in_parts_is_its_text_whoever_gives_it(text: Any, kind: str) -> None:
    with Provider([Say(body={"text": text})]) as provider:
        own = (
            (lambda query, release: {"text": text}) if kind == "python" else {"kind": "http", "url": f"{provider.host}/answer"}
        )
        result = study(own, {}, design="full")
    assert set(result.observations["correct"]) == {1.0} and result.usage.errors == 0


@pytest.mark.parametrize("text", [[], [3], [{"type": "thinking", "thinking": "hm"}], [{"a": 1}], {"text": "Hello."}], ids=repr)
def test_parts_that_say_nothing_are_no_answer_and_named(text: Any) -> None:
    with pytest.raises(bisect_ai.TargetFailure, match=r"the answer's text is a (list|dict), not a string"):
        study(lambda query, release: {"text": text}, {})


@pytest.mark.parametrize("content", [*PARTS, {"type": "text", "text": "Hello."}], ids=repr)
def test_whole_numbers_with_a_point_and_a_part_on_its_own_are_read(content: Any) -> None:
    def change(answer: dict[str, Any]) -> None:
        answer["usage"] = {"prompt_tokens": 10.0, "completion_tokens": "4.0", "prompt_tokens_details": "none"}
        answer["choices"][0]["message"]["content"] = content

    with Provider([Say(change=change)]) as provider:
        result = asked_of(provider, {})
        usage = result.to_dict()["usage"]
        assert usage["errors"] == 0 and usage["tokens"] == 14 * len(provider.requests)
    assert set(result.observations["correct"]) == {1.0} and not any("cost" in w for w in result.report["warnings"])


@pytest.mark.parametrize("unsaid", [{"completion_tokens": 0}, {"completion_tokens": None}, {"prompt_tokens": None}], ids=repr)
def test_who_says_half_of_it_is_charged_the_most_and_told_of(unsaid: dict[str, Any]) -> None:
    with Provider([Say(change=_usage(**unsaid))]) as provider:
        result = asked_of(provider, {"usd": 0.01})
        assert 5 < len(provider.requests) <= 0.01 / (50 * 10e-6)
    assert any("answers do not say what they cost" in line for line in result.report["warnings"])


def test_a_traceback_inside_a_message_is_told_by_its_last_line() -> None:
    try:
        raise KeyError("choices")
    except KeyError as error:
        wrapped = ValueError(f"Invalid response {traceback.format_exc()}")
        assert line_of(wrapped) == "Invalid response KeyError: 'choices'" and describe(error) == "KeyError: 'choices'"


@pytest.mark.parametrize("choices", [{}, "none", [5], [{"message": "hi"}]], ids=repr)
def test_what_is_no_answer_is_told_without_traceback_and_paths(choices: Any) -> None:
    script = [Say(change=lambda answer: answer.update(choices=choices))]
    with Provider(script) as provider, pytest.raises(bisect_ai.TargetFailure) as told:
        asked_of(provider, {})
    line = str(told.value)
    assert "\n" not in line and "Traceback" not in line and "site-packages" not in line and "File" not in line


WRITTEN: dict[str, str] = {"NaN": "NaN", "Infinity": "Infinity", "1e999": "1e999", "9" * 5000: "9" * 40}


@pytest.mark.parametrize(("written", "said"), WRITTEN.items(), ids=["nan", "infinity", "1e999", "5000 digits"])
def test_a_service_that_writes_what_json_forbids_has_answered_and_is_charged_the_most(written: str, said: str) -> None:
    body = f'{{"text": "Hello.", "usage": {{"usd": {written}}}}}'.encode()
    with Provider([Say(body=body)]) as provider:
        result = study({"kind": "http", "url": f"{provider.host}/answer"}, {"usd": 0.02})
        assert len(provider.requests) == 1 and "stopped at the money cap" in result.verdict.sentence
    usage = result.to_dict()["usage"]
    assert (usage["errors"], usage["unsettled_usd"]) == (0, 0.02)
    assert any(f"first: usage.usd is {said}" in line for line in result.report["warnings"])


def test_a_number_that_json_forbids_elsewhere_in_an_answer_is_named() -> None:
    scores = b'{"text": "Hello.", "scores": {"polite": 1e999}}'
    with Provider([Say(body=scores)]) as provider, pytest.raises(bisect_ai.TargetFailure, match="the answer's score 'polite'"):
        study({"kind": "http", "url": f"{provider.host}/answer"}, {})


@pytest.mark.parametrize("value", [Decimal("0.001"), Fraction(1, 1000)], ids=repr)
def test_exact_numbers_of_python_are_numbers(value: Any) -> None:
    assert sound_usage({"usd": value}) == Usage(usd=0.001)


PROGRAM = """
import json, sys
for line in sys.stdin:
    print('{"id": %s, "text": "Hello.", "usage": {"usd": USD}}' % json.dumps(json.loads(line)["id"]), flush=True)
"""


@pytest.mark.parametrize(("written", "read"), [("NaN", "NaN"), ("1e999", "1e999"), ("-3", "-3"), ("1e18", "1e+18")])
def test_a_program_that_says_what_cannot_be_has_answered_and_is_charged_the_most(
    written: str, read: str, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "answer.py").write_text(PROGRAM.replace("USD", written))
    for side in ("good", "bad"):
        (repo / "prompt.md").write_text(side)
        git = ["git", "-C", str(repo), "-c", "user.name=x", "-c", "user.email=x@example.org"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", side], ["tag", side]):
            subprocess.run([*git, *words], check=True)
    releases = {"repo": str(repo), "good": "good", "bad": "bad", "axes": {"prompt": "prompt.md"}}
    result = study({"kind": "command", "run": f"{sys.executable} answer.py"}, {"usd": 0.02}, **releases)
    usage = result.to_dict()["usage"]
    assert (usage["calls"], usage["errors"], usage["unsettled_usd"]) == (1, 0, 0.02)
    assert any(f"first: usage.usd is {read}" in line for line in result.report["warnings"])


def test_a_result_of_promptfoo_that_says_it_counts_as_not_said() -> None:
    row = b'{"results": {"results": [{"response": {"output": "Hello.", "cost": NaN, "tokenUsage": {"prompt": -5}}}]}}'
    answer = answer_in_results(row)
    assert (answer.text, answer.error, answer.usage.usd, answer.usage.estimated) == ("Hello.", None, None, True)
    assert "usage.input_tokens is -5" in str(answer.usage.doubt)


PRICE = Price(input=1e-6, output=1e-5, longest=1000)
SAID: list[tuple[Any, Usage]] = [
    ({"prompt_tokens": 10, "completion_tokens": 4}, Usage(10, 4, 5e-5)),
    ({"input_tokens": "10", "output_tokens": 4.0}, Usage(10, 4, 5e-5)),
    ({"input_tokens": 3, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 2}, Usage(10, 0, 1e-5)),
    (None, Usage(200, 50, 7e-4, estimated=True)),
    ({}, Usage(200, 50, 7e-4, estimated=True)),
    ({"prompt_tokens": -5}, Usage(200, 50, 7e-4, estimated=True, doubt="usage.input_tokens is -5")),
    (
        {"prompt_tokens": 10, "completion_tokens": 1e18},
        Usage(200, 50, 7e-4, estimated=True, doubt="usage.output_tokens is 1e+18"),
    ),
    ({"prompt_tokens": float("nan")}, Usage(200, 50, 7e-4, estimated=True, doubt="usage.input_tokens is nan")),
    ([1], Usage(200, 50, 7e-4, estimated=True, doubt="usage is a list")),
]


@pytest.mark.parametrize(("said", "read"), SAID)
def test_an_answer_on_the_wire_costs_what_it_says_or_the_most(said: Any, read: Usage) -> None:
    found = usage_of_exchange(PaidExchange("m", said, sent=200, longest=50), PRICE)
    assert dataclasses.replace(found, usd=None) == dataclasses.replace(read, usd=None)
    assert found.usd == pytest.approx(read.usd)
    unpriced = usage_of_exchange(PaidExchange("m", said, sent=200, longest=None), Price())
    assert unpriced.usd is None


@pytest.mark.parametrize(
    "said", [{"prompt_tokens": 10**18, "completion_tokens": 4}, {"prompt_tokens": -5}, None, [1]], ids=repr
)
def test_a_program_on_the_wire_is_charged_what_its_provider_may_have_charged(
    said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def talk(request: Request) -> Say:
        answer = shop(request)
        answer.body["usage"] = said
        return answer

    agent = Path(__file__).parent.parent / "wire_agents" / "plain_agent.py"
    with Provider(talk) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        prices = {"gpt-old": {"input": 1, "output": 10, "max_output": 90}}
        settings = {"kind": "wire", "run": [sys.executable, str(agent)], "prices": prices}
        target: Any = build_target(settings, folder=tmp_path, good=GOOD, bad=BAD)[0]
        usage = target(Query(SHOP_QUERIES[4]), GOOD, 0).usage
        target.close()
        sent = sum(len(json.dumps(request.body)) for request in provider.requests)
    assert len(provider.requests) == 2 and usage.estimated
    assert 0.5 * sent < usage.input_tokens <= sent and usage.output_tokens == 2 * 90
    assert usage.usd == pytest.approx(usage.input_tokens * 1e-6 + 180 * 1e-5)
    assert (usage.doubt is None) == (said is None)
