"""Tool calls that the log does not have: a replay that is not the application claims nothing, and says what to record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.report.headline import headline
from bisect_ai.report.json_edge import read
from bisect_ai.report.planning_text import render_plan
from bisect_ai.report.report_values import Report
from bisect_ai.runs.plan_run import plan_of
from bisect_ai.runs.prepare import prepare, settle
from bisect_ai.targets.tool_results import ResultTooLarge, check_size
from tests.faults.agents import CUSTOMER, POLICY, order, provider, queries, release

LIMIT = {"limit": {"type": "integer"}}
TENFOLD = {"limit": {"type": "integer", "default": 10}}
SEEDS = [pytest.param(seed, marks=[pytest.mark.slow] if seed else []) for seed in range(20)]
Bad = Callable[..., dict[str, Any]]


def settings(
    bad: dict[str, Any], *, seed: int = 0, calls: int = 400, good: Any = None, keep_going: bool = False, **target: Any
) -> dict[str, Any]:
    return {
        "good": good or release(),
        "bad": bad,
        "target": {"kind": "litellm", "custom_providers": {"agent": provider()}, **target},
        "scorers": [{"kind": "contains", "name": "correct", "expected": "reference"}],
        "metric": "correct",
        "budget": {"calls": calls},
        "seed": seed,
        "keep_going": keep_going,
    }


def run(bad: dict[str, Any], *, seed: int = 0, log: list[dict[str, Any]] | None = None, store: Any = None, **more: Any) -> Any:
    log = queries(80, seed) if log is None else log
    return bisect_ai.run(queries=log, store=store, **settings(bad, seed=seed, **more))


def told(result: Any) -> tuple[str, list[list[str]], str]:
    verdict = result.to_dict()["verdict"]
    return verdict["kind"], [cause["axes"] for cause in verdict["causes"]], verdict["sentence"]


CANNOT_TELL: dict[str, tuple[dict[str, Any], str]] = {
    "the schema requires what is new": (
        release("LIMIT.", model="other", tools=[CUSTOMER, order(LIMIT, ("order_id", "limit"))], history=8),
        "the new prompt asks for calls that the log never saw (100 % of its queries): get_order(limit, order_id)",
    ),
    "no schema knows what is new": (
        release("LIMIT.", model="other", history=8),
        "the new prompt asks for calls that the log never saw (100 % of its queries): get_order(limit, order_id)",
    ),
    "what is new is not the default": (
        release("LIMIT.", model="other", tools=[CUSTOMER, order(TENFOLD)], history=8),
        "the new prompt asks for calls that the log never saw (100 % of its queries): get_order(limit, order_id)",
    ),
    "in some queries only": (
        release("LIMIT SOME.", model="other", history=8),
        "the new prompt asks for calls that the log never saw (4",  # 40 % of its queries, as far as they were drawn
    ),
    "in some queries, and a loss beside it": (
        release("RUDE LIMIT SOME.", model="other", history=8),
        "the new prompt asks for calls that the log never saw",
    ),
    "a tool more": (
        release("POLICY.", model="other", tools=[CUSTOMER, order(), POLICY], history=8),
        "the new prompt and tools together ask for calls that the log never saw (100 % of its queries): check_policy(topic)",
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CANNOT_TELL)
def test_no_cause_is_claimed_from_what_the_log_never_saw(case: str, seed: int) -> None:
    bad, said = CANNOT_TELL[case]
    result = run(bad, seed=seed, log=queries(80, seed))
    kind, causes, sentence = told(result)
    assert (kind, causes) == ("inconclusive", [])
    assert said in sentence and "target.tools_missing" in sentence
    assert said in headline(read(Report, result.report)), "who reads the card alone must know which calls are meant"
    assert result.to_dict()["drill"] is None


@pytest.mark.parametrize("seed", SEEDS)
def test_misses_of_the_good_release_alone_make_no_cause(seed: int) -> None:
    """Half the tapes are of either release, and the bad one's are all answered: whatever good would have said, bad is no worse.

    The old prompt misses, or the old tools: the new prompt's calls are not in their schema.
    """
    bad = release("LIMIT.", model="other", tools=[CUSTOMER, order(LIMIT)], history=8)
    result = run(bad, seed=seed, log=queries(80, seed, of_new=0.5))
    kind, causes, sentence = told(result)
    assert (kind, causes) in (("inconclusive", []), ("no_regression", []))
    report = result.to_dict()
    said = "the old prompt"
    assert said in sentence if kind == "inconclusive" else report["loss"]["interval"][1] <= 0.02
    assert any(said in line and "target.tools_missing" in line for line in report["warnings"])
    assert report["drill"] is None


@pytest.mark.parametrize("seed", SEEDS)
def test_an_optional_argument_more_is_the_recorded_call(seed: int) -> None:
    bad = release("LIMIT.", model="other", tools=[CUSTOMER, order(LIMIT)], history=8)
    result = run(bad, seed=seed, log=queries(300, seed), calls=600)
    assert told(result)[:2] == ("no_regression", [])
    report = result.to_dict()
    most = max(len(c["bad_axes"]) for c in report["cells"])
    assert all(c["missing"] == 0 for c in report["cells"] if len(c["bad_axes"]) in (0, most))  # mixtures lack the new schema
    assert report["tape"]["rules"]["added"] > 0
    assert any("added (" in line for line in report["warnings"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("bad", "axis"),
    [
        (release("LIMIT.", model="worse", tools=[CUSTOMER, order(LIMIT)], history=8), "model"),
        (release("RUDE LIMIT.", model="other", tools=[CUSTOMER, order(LIMIT)], history=8), "prompt"),
        (release("LIMIT SOME.", model="worse", history=8), "model"),
    ],
)
def test_a_cause_is_still_found_beside_what_is_answered_or_missing_elsewhere(bad: dict[str, Any], axis: str, seed: int) -> None:
    kind, causes, _ = told(run(bad, seed=seed))
    assert (kind, causes) in (("cause", [[axis]]), ("inconclusive", []))
    if seed == 0:
        assert kind == "cause"


def stub(order_id: str, limit: int) -> dict[str, str]:
    for query in queries(80, 0):
        if query["tool_results"][1]["arguments"]["order_id"] == order_id:
            return {**query["tool_results"][1]["result"], "limit": str(limit)}
    raise LookupError(order_id)


def test_a_stub_answers_what_the_log_cannot() -> None:
    result = run(release("RUDE LIMIT.", model="other", history=8), tools_missing={"get_order": stub})
    assert told(result)[:2] == ("cause", [["prompt"]])
    tape = result.to_dict()["tape"]
    assert tape["missing"] == 0 and tape["rules"]["stub"] > 0


HUGE: dict[str, Callable[..., Any]] = {
    "text": lambda **_: "x" * (60 << 20),
    "texts": lambda **_: {"rows": ["y" * 1000] * 60_000},
    "list": lambda **_: [[{}] * 4_000_000],
    "mapping": lambda **_: dict.fromkeys(range(3_000_000)),
}


@pytest.mark.parametrize("shape", HUGE)
@pytest.mark.parametrize("how", ["tools_missing", "allow_tools"])
def test_a_result_that_no_model_reads_is_a_failed_trial_at_once(how: str, shape: str) -> None:
    bad = release("RUDE LIMIT.", model="other", history=8)
    settings: dict[str, Any] = {how: {"get_order": HUGE[shape]}}
    seen = run(bad, calls=40, keep_going=True, **settings).observations
    failed = seen[seen["error"].notna()]
    assert len(failed) >= 10
    assert all(
        "get_order" in error and "larger than 4 MiB, which no model reads; return less" in error for error in failed["error"]
    )


def test_a_large_result_that_a_model_reads_is_given_back() -> None:
    check_size({"rows": ["y" * 1000] * 3_000, "more": [1, 2, None]})
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ResultTooLarge):
        check_size(loop)


def test_the_report_counts_misses_by_cell_and_not_as_wrong_answers() -> None:
    result = run(release("LIMIT SOME.", model="other", history=8))
    report = result.to_dict()
    cells = {tuple(cell["bad_axes"]): cell for cell in report["cells"]}
    bad = cells["model", "prompt", "context"]
    assert bad["errors"] == 0 and bad["missing"] / bad["trials"] == pytest.approx(0.4, abs=0.05)
    assert cells[()]["missing"] == 0
    assert bad["value"] == 1.0  # of the answers that there are
    assert report["loss"]["interval"][1] >= 0.35  # whatever the missing would have been
    assert report["tape"]["leans"] == {
        "axes": ["prompt"],
        "side": "bad",
        "every": True,
        "told_apart": True,
        "rate": pytest.approx(0.4, abs=0.05),
        "elsewhere": 0.0,
    }
    assert report["usage"]["errors"] == 0
    assert all("failures count as 0" not in metric["name"] for metric in report["side_metrics"])
    assert set(result.observations["outcome"]) == {"ok", "missing"}
    assert any("the new prompt asks for calls" in line for line in report["warnings"])


def test_a_log_without_tool_results_ends_early_and_says_so() -> None:
    log = [{key: value for key, value in query.items() if key != "tool_results"} for query in queries(200, 0)]
    result = run(release("Kindly.", model="other"), log=log)
    kind, causes, sentence = told(result)
    assert (kind, causes) == ("inconclusive", [])
    assert "replay asks for calls that the log never saw (100 % of all queries): find_customer(customer_id)" in sentence
    assert result.usage.calls <= 4 * 40 + 32  # forty queries in four combinations, and what is under way meanwhile


def test_a_miss_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    bad = release("LIMIT SOME.", model="other", history=8)
    first, again = (run(bad, store=tmp_path / "store") for _ in range(2))
    assert first.usage.calls > 0 and again.usage.calls == 0
    assert told(first) == told(again) and first.to_dict()["tape"] == again.to_dict()["tape"]


def test_a_stub_added_later_asks_again_what_was_missing(tmp_path: Path) -> None:
    bad = release("RUDE LIMIT.", model="other", history=8)
    assert told(run(bad, store=tmp_path / "store"))[0] == "inconclusive"
    assert told(run(bad, store=tmp_path / "store", tools_missing={"get_order": stub}))[:2] == ("cause", [["prompt"]])


def planned(bad: dict[str, Any], log: list[dict[str, Any]], **target: Any) -> dict[tuple[str, ...], tuple[float, float]]:
    config, folder = settle(settings(bad, **target), config=None, queries=log)
    plan = plan_of(prepare(config, folder=folder, queries=log))
    assert "Tool calls that the log cannot answer" in render_plan(plan)
    return {tuple(cell["bad_axes"]): (round(cell["missing"], 2), round(cell["most"], 2)) for cell in plan["tape"]["cells"]}


def labelled(n: int, *, of_new: float) -> list[dict[str, Any]]:
    log = queries(n, 0, of_new=of_new)
    return [{**q, "release": "bad" if "limit" in q["tool_results"][1]["arguments"] else "good"} for q in log]


def test_the_plan_says_what_will_be_missing_before_a_call_is_paid() -> None:
    optional, required = [CUSTOMER, order(LIMIT)], [CUSTOMER, order(LIMIT, ("order_id", "limit"))]
    log = queries(100, 0)
    assert planned(release("LIMIT.", tools=optional), log)["prompt", "tools"] == (0, 0)
    assert planned(release("LIMIT.", tools=required), log) == {
        (): (0, 0),
        ("prompt", "tools"): (1, 1),
        ("prompt",): (0, 0),
        ("tools",): (1, 1),
    }
    assert planned(release("POLICY.", tools=[CUSTOMER, order(), POLICY]), log)["prompt", "tools"] == (0, 1)
    stubs = {"check_policy": stub}
    assert planned(release("POLICY.", tools=[CUSTOMER, order(), POLICY]), log, tools_missing=stubs)["prompt", "tools"] == (0, 0)


def test_the_plan_knows_the_habits_of_both_releases_where_the_log_does() -> None:
    log = labelled(100, of_new=0.5)
    share = sum(q["release"] == "bad" for q in log) / 100
    found = planned(release("LIMIT.", tools=[CUSTOMER, order(LIMIT)]), log)
    assert found[()] == (share, share) and found["prompt", "tools"] == (0, 0)


def test_what_was_planned_is_what_is_seen() -> None:
    log = labelled(80, of_new=0.5)
    bad = release("LIMIT.", tools=[CUSTOMER, order(LIMIT)])
    good = run(bad, log=log).to_dict()["tape"]["cells"][0]
    assert good["bad_axes"] == [] and planned(bad, log)[()][0] == pytest.approx(good["rate"], abs=0.05)


RENAMED = {
    "name": "find_customer",
    "parameters": {"type": "object", "properties": {"customerId": {"type": "string"}}, "required": ["customerId"]},
}


def as_mcp(tools: list[dict[str, Any]]) -> dict[str, Any]:
    return {"tools": [{"name": t["name"], "inputSchema": t["parameters"]} for t in tools]}


def as_openapi(tools: list[dict[str, Any]]) -> dict[str, Any]:
    def operation(tool: dict[str, Any]) -> dict[str, Any]:
        needed = tool["parameters"]["required"]
        fields = tool["parameters"]["properties"].items()
        listed = [{"name": n, "in": "query", "required": n in needed, "schema": s} for n, s in fields]
        return {"operationId": tool["name"], "parameters": listed}

    return {"openapi": "3.0.0", "paths": {f"/{tool['name']}": {"get": operation(tool)} for tool in tools}}


TOOL_LISTS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "plain": lambda tools: tools,
    "OpenAI": lambda tools: [{"type": "function", "function": tool} for tool in tools],
    "OpenAI Responses": lambda tools: [{"type": "function", **tool} for tool in tools],
    "Anthropic": lambda tools: [{"name": t["name"], "input_schema": t["parameters"]} for t in tools],
    "MCP": as_mcp,
    "Gemini": lambda tools: {"functionDeclarations": tools},
    "LangChain": lambda tools: [{"name": t["name"], "args_schema": t["parameters"]} for t in tools],
    "OpenAPI 3": as_openapi,
}


@pytest.mark.parametrize("shape", TOOL_LISTS)
def test_one_incident_has_one_verdict_in_every_shape_of_its_tools(shape: str) -> None:
    """The field is renamed and the prompt keeps the old name: prompt and tools together."""
    write = TOOL_LISTS[shape]
    good = release("pass customer_id", tools=write([CUSTOMER, order()]))
    bad = release("Do pass customer_id", tools=write([RENAMED, order()]), model="other")
    result = run(bad, good=good)
    assert told(result)[:2] == ("cause", [["tools"]])
    changes = result.to_dict()["verdict"]["causes"][0]["changes"]
    assert [(change["kind"], change["before"], change["after"]) for change in changes] == [
        ("renamed", "customer_id", "customerId")
    ]


def test_a_tool_list_that_nobody_knows_stops_the_run_before_a_call() -> None:
    bad = release(tools=[{"name": "get_order", "schema": {"order_id": "string"}}])
    with pytest.raises(bisect_ai.InputError, match=r"tools\[0\] \('get_order'\)"):
        run(bad)
