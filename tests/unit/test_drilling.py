"""The drill-down of a run, end to end: what is named, shown, measured, spent, and what it does when nothing can be named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.attribution.search import standing
from bisect_ai.cli import main
from bisect_ai.errors import Infeasible
from bisect_ai.report import markdown, terminal
from bisect_ai.runs import drilling

QUERIES = [{"id": f"q{i:03d}", "input": f"question {i}", "reference": "yes"} for i in range(400)]


def prompt(side: str, rules: int = 12) -> str:
    return "".join(f"Section {i}.\nRule {i:04d} is {side}.\n" for i in range(rules))


def is_new(text: str, rule: int) -> bool:
    return f"Rule {rule:04d} is new." in text


def drawn(*what: object) -> float:
    """A number in [0, 1) that hangs on `what` only."""
    return int(hashlib.sha256(repr(what).encode()).hexdigest()[:8], 16) / 2**32


def target_of(breaks: Callable[[int, Any], bool], *, noise: float = 0.03) -> Callable[..., str]:
    def answer(query: Any, release: Any) -> str:
        wrong = breaks(int(query.id[1:]), release) or drawn(query.id, json.dumps(dict(release), sort_keys=True)) < noise
        return "no" if wrong else "yes"

    answer.version = "1"  # type: ignore[attr-defined]
    return answer


def run(breaks: Callable[[int, Any], bool], *, good: Any = None, bad: Any = None, **more: Any) -> bisect_ai.Result:
    return bisect_ai.run(
        good=good or {"prompt": prompt("old"), "model": "a"},
        bad=bad or {"prompt": prompt("new"), "model": "a"},
        queries=more.pop("queries", QUERIES),
        target=target_of(breaks, noise=more.pop("noise", 0.03)),
        scorers=[{"kind": "exact", "name": "correct", "expected": "reference"}],
        **{"budget": {"calls": 2500}} | more,
    )


def rule_three(query: int, release: Any) -> bool:
    return query % 4 == 0 and is_new(release["prompt"], 3)


def test_the_guilty_line_is_named_with_share_queries_and_a_measured_rollback() -> None:
    result = run(rule_three)
    (cause,) = result.verdict.causes
    (change,) = cause.changes
    assert (change.axis, change.path, change.mode) == ("prompt", "prompt:8", "alone")
    assert (change.before, change.after) == ("Rule 0003 is old.\n", "Rule 0003 is new.\n")
    assert change.share is not None and change.interval is not None
    assert change.interval[0] <= change.share <= change.interval[1]
    assert change.share > 0.8
    first = change.queries[0]
    assert int(first.query[1:]) % 4 == 0
    assert (first.good.text, first.bad.text) == ("yes", "no")
    rollback = result.verdict.rollback
    assert rollback is not None and rollback.finer is not None
    assert [c.path for c in rollback.changes] == ["prompt:8"]
    assert rollback.finer.interval is not None and rollback.finer.value is not None and rollback.finer.restores is not None
    assert rollback.finer.interval[0] <= rollback.finer.value <= rollback.finer.interval[1]
    assert rollback.finer.restores > 0.7
    assert result.usage.calls <= 2500


def test_the_report_shows_a_tree_with_the_guilty_leaf_open_and_the_table_has_a_row_a_change() -> None:
    result = run(rule_three)
    for text in (terminal.render(dict(result.report)), markdown.render(dict(result.report))):
        assert "1 of 12 changes to blame" in text
        assert "Rule 0003 is old." in text
        assert "Rule 0003 is new." in text
        assert "nobody owns it" in text
        assert "Rule 0005" not in text
    rows = result.changes
    assert list(rows[rows["guilty"] == True]["path"]) == ["prompt:8"]  # noqa: E712
    assert {"share", "low", "high", "summary", "kind", "provenance"} <= set(rows)
    assert len(rows) == 12
    assert rows["share"].notna().sum() == 1


def with_block(side: str, rules: int) -> str:
    """A prompt that begins with so many added rules."""
    added = "".join(f"- Added rule number {i:02d}.\n" for i in range(rules))
    return f"The shop's helper.\n{added}The sections:\n{prompt(side)}"


def test_one_rule_of_a_block_is_named() -> None:
    result = run(
        lambda query, release: query % 4 == 0 and "rule number 13" in release["prompt"],
        good={"prompt": with_block("old", 0), "model": "a"},
        bad={"prompt": with_block("old", 20), "model": "b"},
    )
    (change,) = result.verdict.causes[0].changes
    assert (change.path, change.after) == ("prompt:+15", "- Added rule number 13.\n")
    assert change.group == ("new lines 2–21",)


def test_a_loss_spread_over_a_block_names_no_rule_and_rolls_the_block_back() -> None:
    def breaks(query: int, release: Any) -> bool:
        return any(query % 50 == i and f"rule number {i:02d}" in release["prompt"]["system"] for i in range(20))

    good = {"prompt": {"system": with_block("old", 0), "user": "a"}, "model": "a"}
    bad = {"prompt": {"system": with_block("new", 20), "user": "b"}, "model": "b"}
    result = run(breaks, good=good, bad=bad)
    assert result.report["drill"]["kind"] == "no_single_change"
    rollback = result.verdict.rollback
    assert rollback is not None and rollback.finer is not None and rollback.finer.restores is not None
    assert [c.path for c in rollback.changes] == [f"system:+{i}" for i in range(2, 22)]
    assert rollback.finer.restores > 0.7
    assert "only the 20 changes of prompt in system, new lines 2–21" in " ".join(terminal.render(dict(result.report)).split())


def test_a_pair_across_two_axes_is_found_though_neither_half_costs_anything() -> None:
    def breaks(query: int, release: Any) -> bool:
        return query % 4 == 0 and is_new(release["prompt"], 5) and "b" in release["tools"]["one"]

    good = {"prompt": prompt("old"), "tools": {"one": "a", "two": "a", "three": "a"}, "model": "x"}
    bad = {"prompt": prompt("new"), "tools": {"one": "b", "two": "b", "three": "b"}, "model": "y"}
    result = run(breaks, good=good, bad=bad)
    (cause,) = result.verdict.causes
    assert {(c.axis, c.path, c.mode) for c in cause.changes} == {
        ("prompt", "prompt:12", "together"),
        ("tools", "one", "together"),
    }
    assert result.verdict.rollback is not None
    assert len(result.verdict.rollback.changes) == 1
    assert "only together with" in terminal.render(dict(result.report))


def test_an_axis_that_another_needs_is_gone_into_though_it_cannot_go_back_alone() -> None:
    """The new prompt does not run without one rule of the new code, and another rule of the code is to blame."""

    def breaks(query: int, release: Any) -> bool:
        if "tone" in release["prompt"] and not is_new(release["code"], 5):
            raise Infeasible("there is no tone")
        return query % 4 == 0 and is_new(release["code"], 3)

    good = {"prompt": prompt("old"), "code": prompt("old"), "model": "x"}
    bad = {"prompt": prompt("new") + "Use tone.\n", "code": prompt("new"), "model": "y"}
    result = run(breaks, good=good, bad=bad, noise=0.0)
    (cause,) = result.verdict.causes
    assert (tuple(cause.axes), [(c.axis, c.path) for c in cause.changes]) == (("code",), [("code", "code:8")])
    rollback = result.verdict.rollback
    assert rollback is not None and [c.path for c in rollback.changes] == ["code:8"]


def test_a_helpful_change_is_left_alone() -> None:
    def breaks(query: int, release: Any) -> bool:
        return (query % 3 == 0 and is_new(release["prompt"], 3)) or (query % 5 == 1 and not is_new(release["prompt"], 7))

    (cause,) = run(breaks).verdict.causes
    assert [c.path for c in cause.changes] == ["prompt:8"]


def test_different_queries_broken_by_different_lines() -> None:
    def breaks(query: int, release: Any) -> bool:
        return is_new(release["prompt"], {0: 2, 1: 9}.get(query % 6, 99))

    (cause,) = run(breaks).verdict.causes
    assert sorted(c.path for c in cause.changes) == ["prompt:20", "prompt:6"]
    assert all(c.share is not None and 0.1 < c.share < 0.9 for c in cause.changes)


@pytest.mark.parametrize("rules", [3, 12])
def test_a_hunk_that_only_shuffles_is_not_named_beside_the_guilty_line(rules: int) -> None:
    """Rule 1 breaks 6 % of the queries and mends as many; rule 0 costs 12 points."""

    def breaks(query: int, release: Any) -> bool:
        shuffled = 0.06 <= drawn("shuffle", query) < 0.12 if is_new(release["prompt"], 1) else drawn("shuffle", query) < 0.06
        return shuffled or (drawn("cost", query) < 0.13 and is_new(release["prompt"], 0))

    good, bad = ({"prompt": prompt(side, rules), "model": "a"} for side in ("old", "new"))
    queries = [{"id": f"q{i:04d}", "input": f"question {i}", "reference": "yes"} for i in range(1200)]
    named = []
    for seed in range(2):
        result = run(breaks, good=good, bad=bad, noise=0.0, queries=queries, log={"sample": 1200}, seed=seed)
        named.append([c.path for cause in result.verdict.causes for c in cause.changes])
    assert named == [["prompt:2"]] * 2


def test_an_innocent_axis_ends_with_no_single_change() -> None:
    good, bad = ({"prompt": prompt(side), "model": m} for side, m in (("old", "a"), ("new", "b")))
    result = run(lambda query, release: query % 4 == 0 and release["model"] == "b", good=good, bad=bad)
    (cause,) = result.verdict.causes
    assert [(c.axis, c.path) for c in cause.changes] == [("model", "model")]
    assert "no single change is to blame in prompt (12 changes)" in " ".join(terminal.render(dict(result.report)).split())
    drill = result.to_dict()["drill"]
    assert {i["axis"]: i["kind"] for i in drill["axes"]} == {"prompt": "no_single_change", "model": "found"}
    assert drill["calls"] == 0


def test_an_axis_of_many_small_culprits_is_never_pinned_on_a_few_as_if_they_were_all() -> None:
    def breaks(query: int, release: Any) -> bool:  # another line for every query
        return query % 3 == 0 and is_new(release["prompt"], query // 3 % 24)

    good, bad = ({"prompt": prompt(side, 24), "model": "a"} for side in ("old", "new"))
    result = run(breaks, good=good, bad=bad, budget={"calls": 500})
    assert result.verdict.kind == "cause"
    drill = result.to_dict()["drill"]
    assert drill["kind"] in ("no_single_change", "inconclusive") or "others may be missing" in drill["reason"]


def test_without_drill_the_axes_have_the_whole_error_budget_and_nothing_is_named_inside() -> None:
    result = run(rule_three, drill=False)
    assert result.verdict.causes[0].changes == ()
    assert result.to_dict()["drill"] is None
    assert "share alpha" not in result.to_dict()["decision"]
    assert "share alpha = 0.05" in run(rule_three).to_dict()["decision"]


def test_the_budget_holds_and_a_spent_one_says_so() -> None:
    for calls in (170, 220):
        result = run(rule_three, budget={"calls": calls})
        assert result.usage.calls <= calls
        named = [c.path for cause in result.verdict.causes for c in cause.changes]
        assert named in ([], ["prompt:8"])


def test_halves_that_cannot_run_are_left_out_and_the_culprit_is_found() -> None:
    def breaks(query: int, release: Any) -> bool:
        if is_new(release["prompt"], 1) != is_new(release["prompt"], 8):
            raise bisect_ai.Infeasible("rules 1 and 8 go together")
        return rule_three(query, release)

    (cause,) = run(breaks).verdict.causes
    assert [c.path for c in cause.changes] == ["prompt:8"]


@pytest.mark.parametrize("workers", [8, 64])
def test_a_target_that_refuses_every_mixture_is_told_so_within_a_few_calls(workers: int) -> None:
    def breaks(query: int, release: Any) -> bool:
        if len({is_new(release["prompt"], i) for i in range(12)}) > 1:
            raise bisect_ai.Infeasible("only whole releases")
        return rule_three(query, release)

    result = run(breaks, concurrency=workers)
    drill = result.to_dict()["drill"]
    assert result.verdict.kind == "cause"
    assert result.verdict.causes[0].changes == ()
    assert drill["kind"] == "inconclusive"
    assert "cannot run" in drill["reason"]
    assert drill["calls"] <= 60


def test_recorded_answers_say_nothing_about_mixtures() -> None:
    releases = {"good": {"prompt": prompt("old"), "model": "a"}, "bad": {"prompt": prompt("new"), "model": "a"}}
    records = [
        {"query": q["id"], "bad_axes": cell, "text": "no" if cell and i % 4 == 0 else "yes"}
        for i, q in enumerate(QUERIES)
        for cell in ([], ["prompt"])
    ]
    result = bisect_ai.run(
        **releases,
        queries=QUERIES,
        target={"kind": "recorded", "records": records},
        scorers={"correct": lambda query, answer: answer.text == query.reference},
    )
    assert result.verdict.causes[0].axes == ("prompt",)
    assert result.verdict.causes[0].changes == ()


def test_the_same_command_makes_no_call_and_the_same_bytes(tmp_path: Path) -> None:
    first = run(rule_three, store=str(tmp_path / "store"))
    again = run(rule_three, store=str(tmp_path / "store"))
    assert again.usage.calls == 0
    assert again.to_json() == first.to_json()


@pytest.mark.slow
def test_seeds_of_the_demo(tmp_path: Path) -> None:
    for seed in range(8):
        assert _demo(tmp_path / str(seed), f"seed: {seed}") == {"system:11", "get_orders.parameters.customer_id"}


def test_the_demo_ends_at_the_example_line_and_the_tool_field(tmp_path: Path) -> None:
    assert _demo(tmp_path / "demo", "seed: 0") == {"system:11", "get_orders.parameters.customer_id"}


def _demo(folder: Path, seed: str) -> set[str]:
    from bisect_ai.cli.starter import write_demo

    write_demo(folder)
    config = folder / "bisect.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("seed: 0", seed), encoding="utf-8")
    done = CliRunner().invoke(main, ["run", str(config), "--json", str(folder / "r.json")])
    assert done.exit_code == 0, done.output
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return {c["path"] for cause in report["verdict"]["causes"] for c in cause["changes"]}


def test_a_thousand_documents_are_mixed_without_hashing_every_text_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from bisect_ai.release.diff import diff
    from bisect_ai.release.load import load_release
    from bisect_ai.runs import trials
    from bisect_ai.runs.drilling import Mixtures

    texts = {f"d{i:04d}": f"text {i} " * 50 for i in range(1000)}
    good = load_release({"corpus": {"documents": texts}})
    bad = load_release(
        {"corpus": {"documents": {n: t + ("!" if i % 10 == 0 else "") for i, (n, t) in enumerate(texts.items())}}}
    )
    digests, ground = trials.Digests(), Mixtures(diff(good, bad), ["corpus"], trials.Digests())
    ends = ground.composed(0).digest, ground.composed((1 << 100) - 1).digest
    assert ends == (digests.of(good.axes), digests.of(bad.axes))
    hashed = list[int]()
    real = trials.digest
    monkeypatch.setattr(trials, "digest", lambda value: hashed.append(len(str(value))) or real(value))
    names = {ground.composed(5 << i).digest for i in range(20)}
    assert len(names) == 20
    assert not [n for n in hashed if 300 < n < 1000]  # no document's text: only mappings of digests


@pytest.mark.parametrize("guilty", [False, True])
def test_what_begins_inside_axes_that_are_not_named_leaves_a_whole_report(
    guilty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside axes in front it begins before they are proved: where others are named it begins anew, where none is it ends."""
    monkeypatch.setattr(standing, "HALFWAY", 0.0)  # as soon as it was explored
    seen: list[bool] = []

    def breaks(query: int, release: Any) -> bool:
        seen.append(any(text not in (prompt("old"), prompt("new"), "old", "new") for text in release.values()))
        shuffled = any(drawn(query, release[axis]) < 0.1 for axis in ("model", "corpus"))
        return shuffled or (guilty and query % 3 == 0 and is_new(release["prompt"], 3))

    sides = {x: {"prompt": prompt(x), "tools": prompt(x), "model": prompt(x), "corpus": x} for x in ("old", "new")}
    many = [{"id": f"q{i:03d}", "input": f"question {i}", "reference": "yes"} for i in range(800)]
    how = {"good": sides["old"], "bad": sides["new"], "store": str(tmp_path), "queries": many, "budget": {"calls": 8000}}
    first = run(breaks, **how)
    assert [cause.axes for cause in first.verdict.causes] == [("prompt",)] * guilty
    assert [c["path"] for cause in first.to_dict()["verdict"]["causes"] for c in cause["changes"]] == ["prompt:8"] * guilty
    assert first.usage.calls == len(seen)
    assert any(seen), "mixtures inside an axis ran"
    again = run(breaks, **how)
    assert again.usage.calls == 0
    assert again.to_json() == first.to_json()
    assert "prompt" in markdown.render(dict(again.report))


def test_what_is_tried_inside_axes_counts_in_the_budget_of_the_search_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the calls end before the search knows it: no last look is taken, and what was proved by then is not told."""
    monkeypatch.setattr(standing, "HALFWAY", 0.0)
    monkeypatch.setattr(drilling, "AHEAD_FROM", 1)
    monkeypatch.setattr(drilling, "EARLY_FROM", 1)
    sides = {x: {axis: prompt(x, 14) for axis in ("prompt", "code", "model", "tools")} for x in ("old", "new")}
    many = [{"id": f"q{i:04d}", "input": f"question {i}", "reference": "yes"} for i in range(1200)]
    for seed in range(3):

        def breaks(query: int, release: Any, seed: int = seed) -> bool:
            shuffled = any(drawn(seed, axis, query, is_new(text, 2)) < 0.05 for axis, text in release.items())
            part = drawn(seed, query)
            return shuffled or (is_new(release["prompt"], 3) if part < 0.1 else part < 0.18 and is_new(release["code"], 5))

        found = run(breaks, good=sides["old"], bad=sides["new"], queries=many, budget={"calls": 900}, seed=seed)
        assert 840 <= found.usage.calls <= 900
        assert found.to_dict()["drill"]["calls"] > 0
        assert not any("call cap" in warning for warning in found.to_dict()["warnings"])
        assert "stopped" not in found.verdict.reason


def test_the_examples_of_a_line_come_from_the_axes_that_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It began inside more axes than are named: there the same number stands for another set of changes."""
    monkeypatch.setattr(standing, "HALFWAY", 0.0)
    axes = [f"a{i}" for i in range(6)]
    sides = {x: {axis: prompt(x) for axis in axes} for x in ("old", "new")}
    many = [{"id": f"q{i:03d}", "input": f"question {i}", "reference": "yes"} for i in range(800)]

    def breaks(query: int, release: Any) -> bool:
        return drawn(query) < 0.2 and is_new(release["a3"], 3)

    found = run(breaks, good=sides["old"], bad=sides["new"], queries=many, budget={"calls": 8000})
    (change,) = [c for cause in found.to_dict()["verdict"]["causes"] for c in cause["changes"]]
    assert change["axis"] == "a3"
    assert change["queries"]
