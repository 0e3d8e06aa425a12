"""`compare` from result files to report: pairing, verdicts and exit codes, attribution, what is missing, hostile text."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import InputError
from bisect_ai.queries.result_files import read_results
from bisect_ai.report import html, junit, markdown, terminal
from tests.faults.payloads import HTML, SINGLE
from tests.unit.made_results import INTENTS, broken, inspect_log, passes, promptfoo, question, table

CASES = Path(__file__).parents[3] / "shared" / "cases" / "logs"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["compare", "-v", *map(str, arguments)])


def rows(results: Sequence[bool | float | None], **columns: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"q{i}", "input": question(i), "scores": {} if ok is None else {"correct": float(ok)}, **columns}
        for i, ok in enumerate(results)
    ]


def kind_of(good: Sequence[Any], bad: Sequence[Any], **given: Any) -> str:
    return bisect_ai.compare(rows(good), rows(bad), **given).verdict.kind


# -- end to end ----------------------------------------------------------------------------------------------------------
def test_a_planted_regression_is_the_first_line_and_exit_code_1(tmp_path: Path) -> None:
    good = passes(240)
    first, second = (
        inspect_log(tmp_path / "good.json", good),
        inspect_log(tmp_path / "bad.json", broken(good, 5), model="acme/two"),
    )
    told = tmp_path / "report.json"
    done = run(
        first,
        second,
        "--json",
        told,
        "--html",
        tmp_path / "r.html",
        "--markdown",
        tmp_path / "r.md",
        "--junit",
        tmp_path / "r.xml",
    )
    assert done.exit_code == 1, done.output
    report = json.loads(told.read_text())
    lost = sum(good) - sum(broken(good, 5))
    assert done.output.startswith("regression: match falls from ")
    assert " ".join(done.output.split("\n\n")[0].split()) == report["verdict"]["sentence"]
    assert report["loss"]["estimate"] == pytest.approx(lost / 240)
    assert (report["compare"]["pairs"][0]["lost"], report["compare"]["pairs"][0]["gained"]) == (lost, 0)
    assert len(report["compare"]["pairs"][0]["flips"]) == lost, "every query that flipped is listed"
    assert report["usage"]["calls"] == 0
    assert "acme/one → acme/two" in done.output
    assert report["verdict"]["sentence"][0:10].lower() in (tmp_path / "r.html").read_text().lower()
    assert (tmp_path / "r.md").read_text().startswith("## regression: `match` falls")
    assert ElementTree.parse(tmp_path / "r.xml").getroot().get("failures") == "1"


def test_equal_results_are_equivalent_and_exit_code_0(tmp_path: Path) -> None:
    good = passes(400)
    done = run(promptfoo(tmp_path / "a.json", {("m", "p"): good}), promptfoo(tmp_path / "b.json", {("m", "p"): good}))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("equivalent: success stays at ")
    assert "paired by test variables" in done.output


def test_the_other_way_round_is_an_improvement_and_exit_code_0(tmp_path: Path) -> None:
    good = passes(240)
    done = run(table(tmp_path / "old.jsonl", {"m": broken(good, 5)}), table(tmp_path / "new.jsonl", {"m": good}))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("improvement: correct rises from ")


def test_a_few_queries_are_too_little_to_tell_and_exit_code_3(tmp_path: Path) -> None:
    good = passes(30)
    done = run(table(tmp_path / "a.jsonl", {"m": good}), table(tmp_path / "b.jsonl", {"m": broken(good, 20)}))
    assert done.exit_code == 3, done.output
    said = " ".join(done.output.split("\n\n")[0].split())
    assert said.startswith("undecided: ")
    assert "this comparison can see " in said and " queries would see 2.0 points" in said


def test_one_file_with_three_configurations(tmp_path: Path) -> None:
    good = passes(240)
    done = run(table(tmp_path / "all.jsonl", {"a": good, "b": broken(good, 5), "c": good}), "--json", tmp_path / "r.json")
    assert done.exit_code == 1, done.output
    block = json.loads((tmp_path / "r.json").read_text())["compare"]
    assert [side["name"] for side in block["configurations"]] == ["a", "b", "c"]
    assert [pair["kind"] for pair in block["pairs"]] == ["regression", "equivalent"]
    assert done.output.startswith("regression in 1 of 2 (b): ")
    assert run(tmp_path / "all.jsonl", "--bad", "c").exit_code == 0
    assert run(tmp_path / "all.jsonl", "--good", "b", "--bad", "a").output.startswith("improvement: ")


def test_a_grid_of_providers_and_prompts_names_the_axis(tmp_path: Path) -> None:
    good = passes(240)
    bad = broken(good, 5)
    grid = promptfoo(tmp_path / "results.json", {("m1", "p1"): good, ("m1", "p2"): bad, ("m2", "p1"): good, ("m2", "p2"): bad})
    done = run(grid, "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert [cause["axes"] for cause in report["verdict"]["causes"]] == [["prompt"]]
    assert "By axis: prompt alone causes the drop" in report["verdict"]["sentence"]
    result = bisect_ai.attribute(grid)
    assert [cause.axes for cause in result.verdict.causes] == [("prompt",)]
    assert (result.report["good"], result.report["bad"]) == ("m1 · p1", "m2 · p2")
    assert done.exit_code == 1


@pytest.mark.parametrize("kind", ["promptfoo", "table"])
def test_what_stands_beside_an_error_scores_no_answer(tmp_path: Path, kind: str) -> None:
    good = passes(240)
    failed: list[bool | None] = [None if i % 9 == 0 else ok for i, ok in enumerate(good)]
    if kind == "promptfoo":
        source: Any = (promptfoo(tmp_path / "results.json", {("m", "p1"): good, ("m", "p2"): failed}),)
    else:
        second = [{**row, "scores": {"correct": 0}, "error": "429"} if not row["scores"] else row for row in rows(failed)]
        source = (rows(good), second)
    result = bisect_ai.compare(*source)
    assert result.report["verdict"]["kind"] != "regression"
    assert [side["unscored"] for side in result.report["compare"]["configurations"]] == [0, 27]
    assert bisect_ai.compare(*source, missing="failed").report["verdict"]["kind"] == "regression"


def test_a_test_whose_grader_failed_is_no_wrong_answer_of_promptfoo(tmp_path: Path) -> None:
    good = passes(240)
    first, second = (promptfoo(tmp_path / name, {("m", "p"): good}) for name in ("a.json", "b.json"))
    body = json.loads(second.read_text())
    for row in body["results"]["results"][::8]:
        graded = {"pass": False, "score": 0, "reason": "no JSON", "metadata": {"graderError": True}}
        row |= {"success": False, "score": 0, "failureReason": 1, "error": "no JSON", "gradingResult": graded}
    second.write_text(json.dumps(body))
    report = bisect_ai.compare(first, second).report
    assert (report["loss"]["n"], report["loss"]["estimate"], report["verdict"]["kind"]) == (210, 0.0, "undecided")


def deepeval_run(path: Path, results: Sequence[bool | None], times: int = 1) -> Path:
    """A test run of DeepEval; None: the metric failed."""
    cases = [
        {
            "name": f"case {i} {time}", "input": question(i), "actualOutput": "yes" if ok else "no", "success": bool(ok),
            "order": i * times + time,
            "metricsData": [{"name": "Same", "score": None if ok is None else float(ok), "error": "boom" if ok is None else None}],
        }
        for i, ok in enumerate(results)
        for time in range(times)
    ]  # fmt: skip
    path.write_text(json.dumps({"testRunData": {"testCases": cases, "hyperparameters": {}}}))
    return path


def test_a_case_whose_metric_failed_is_no_wrong_answer_of_deepeval(tmp_path: Path) -> None:
    good = passes(240)
    failed: list[bool | None] = [None if i % 8 == 0 else ok for i, ok in enumerate(good)]
    report = bisect_ai.compare(deepeval_run(tmp_path / "a.json", good), deepeval_run(tmp_path / "b.json", failed)).report
    assert (report["loss"]["n"], report["loss"]["estimate"], report["verdict"]["kind"]) == (210, 0.0, "undecided")


def test_cases_that_ask_the_same_count_as_one_cluster(tmp_path: Path) -> None:
    good = passes(60)
    files = [deepeval_run(tmp_path / f"{name}.json", side, 5) for name, side in (("a", good), ("b", broken(good, 20)))]
    report = bisect_ai.compare(*files).report
    assert "cluster-robust" in report["loss"]["method"] and report["verdict"]["kind"] == "undecided"


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize("case", ["01-inspect-two-logs", "14-promptfoo-two-runs"])
def test_files_as_tools_write_them(case: str) -> None:
    done = run(CASES / case / "good.json", CASES / case / "bad.json")
    assert done.exit_code in (0, 1, 3), done.output
    assert "5 paired queries" in " ".join(done.output.split())


# -- pairing -------------------------------------------------------------------------------------------------------------
def test_rows_are_paired_by_id_whatever_their_order() -> None:
    good = passes(300, share=0.5)
    shuffled = rows(good)
    random.Random(1).shuffle(shuffled)
    assert bisect_ai.compare(rows(good), shuffled).report["compare"]["pairs"][0]["flips"] == []


def test_row_numbers_of_differently_ordered_files_are_not_taken_for_ids() -> None:
    good = passes(300, share=0.5)
    other = [{**row, "id": f"q{i}"} for i, row in enumerate(reversed(rows(good)))]
    report = bisect_ai.compare(rows(good), other).report
    assert report["compare"]["paired_by"] == "question"
    assert report["compare"]["pairs"][0]["flips"] == []


def test_epochs_are_one_question() -> None:
    good = passes(60)
    doubled = [row for row in rows(good) for _ in range(5)]
    report = bisect_ai.compare(doubled, rows(good)).report
    assert report["loss"]["n"] == 60
    assert any("several times" in line for line in report["warnings"])


def test_questions_of_one_side_are_told_and_left_out() -> None:
    good = passes(300)
    report = bisect_ai.compare(rows(good), rows(good)[:260]).report
    assert report["loss"]["n"] == 260
    assert any("40 questions are only in table 1" in line for line in report["warnings"])


def test_nothing_to_pair_is_one_line_that_says_what_to_do() -> None:
    other = [{"id": f"x{i}", "input": f"else {i}", "scores": {"correct": 1}} for i in range(20)]
    with pytest.raises(InputError, match=r"cannot pair .*'q0'.*'x0'.*--pair"):
        bisect_ai.compare(rows(passes(20)), other)
    for row, named in zip(other, rows(passes(20)), strict=True):
        row["case"] = named["id"]
    assert (
        bisect_ai.compare([{**row, "case": row["id"]} for row in rows(passes(20))], other, pair="case").report["loss"]["n"]
        == 20
    )


def test_two_runs_of_one_grid_are_compared_like_with_like(tmp_path: Path) -> None:
    good = passes(200)
    old, new = (
        promptfoo(tmp_path / name, {("m1", "p1"): good, ("m2", "p1"): results})
        for name, results in (("old.json", broken(good, 3)), ("new.json", broken(good, 2)))
    )
    report = bisect_ai.compare(old, new).report
    assert [side["name"] for side in report["compare"]["configurations"]] == ["old.json", "new.json"]
    assert report["loss"]["n"] == 400 and "cluster-robust" in report["loss"]["method"]
    assert "\0" not in json.dumps(report)


# -- verdicts ------------------------------------------------------------------------------------------------------------
def test_no_worse_excludes_a_loss_but_not_a_gain() -> None:
    good = passes(1000, share=0.5)
    bad = [not ok if i % 100 == 0 or (not ok and i % 40 == 1) else ok for i, ok in enumerate(good)]
    assert kind_of(good, bad, tolerance=0.01) in ("no_worse", "improvement")


def test_a_tolerance_decides_what_is_worth_acting_on() -> None:
    good = passes(1000)
    bad = broken(good, 20)
    assert kind_of(good, bad, tolerance=0.02) == "regression"
    assert kind_of(good, bad, tolerance=0.1) == "equivalent"


def test_scores_that_are_all_alike_have_an_interval() -> None:
    low, high = bisect_ai.compare(rows([True] * 10), rows([True] * 10)).report["loss"]["interval"]
    assert high == -low == pytest.approx(1 - 0.025**0.1)


def test_clusters_widen_the_interval() -> None:
    good = passes(300)
    lost = {i // 30 for i in range(0, 300, 120)}
    bad = [ok and i // 30 not in lost for i, ok in enumerate(good)]
    together = [[{**row, "user": str(i // 30)} for i, row in enumerate(rows(side))] for side in (good, bad)]
    alone, clustered = (bisect_ai.compare(*together, settings=s).report for s in ({}, {"cluster": "user"}))
    widths = [r["loss"]["interval"][1] - r["loss"]["interval"][0] for r in (alone, clustered)]
    assert widths[1] > 2 * widths[0]
    assert "cluster-robust" in clustered["loss"]["method"]
    assert (alone["verdict"]["kind"], clustered["verdict"]["kind"]) == ("regression", "undecided")


def test_a_cost_is_better_when_it_is_lower() -> None:
    costs = [float(10 + i % 7) for i in range(200)]
    report = bisect_ai.compare(rows(costs), rows([c + 2 for c in costs]), higher_is_better=False).report
    assert report["verdict"]["kind"] == "regression"
    assert report["loss"]["estimate"] == pytest.approx(2)
    assert report["loss"]["bad"] > report["loss"]["good"]


def test_missing_scores_are_never_zero_and_many_of_them_leave_it_open() -> None:
    good = passes(400, share=1.0)
    few = [None if i < 4 else ok for i, ok in enumerate(good)]
    many = [None if i < 60 else ok for i, ok in enumerate(good)]
    assert kind_of(good, few) == "equivalent"
    report = bisect_ai.compare(rows(good), rows(many)).report
    assert report["verdict"]["kind"] == "undecided"
    assert report["loss"]["estimate"] == 0
    assert any("60 of table 2" in line for line in report["warnings"])


def test_failed_calls_count_as_the_worst_score_when_asked(tmp_path: Path) -> None:
    good = passes(240, share=1.0)
    failing = [None if i % 5 == 0 else ok for i, ok in enumerate(good)]
    first, second = inspect_log(tmp_path / "a.json", good), inspect_log(tmp_path / "b.json", failing)
    assert run(first, second).exit_code == 3
    assert run(first, second, "--missing", "failed").output.startswith("regression: match falls from 100.0 % to 80.0 %")


def test_segments_given_and_found(tmp_path: Path) -> None:
    good = passes(600)
    files = [
        promptfoo(tmp_path / name, {("m", "p"): results})
        for name, results in (("a.json", good), ("b.json", broken(good, 2, among=1)))
    ]
    report = bisect_ai.compare(*files, segment="intent").report
    given = {row["name"]: row for row in report["segments"] if row["found_by"] == "given"}
    assert set(given) == {f"intent = {intent}" for intent in INTENTS}
    assert given["intent = hours"]["loss"] > 0.3 > given["intent = refund"]["loss"] == 0
    assert any(row["found_by"] == "search" for row in bisect_ai.compare(*files).report["segments"])


def test_other_scores_are_told_beside_it() -> None:
    good = [{**row, "scores": {**row["scores"], "polite": 1.0}, "usd": 0.01} for row in rows(passes(100))]
    bad = [{**row, "scores": {**row["scores"], "polite": 0.5}, "usd": 0.02} for row in rows(passes(100))]
    report = bisect_ai.compare(good, bad, metric="correct").report
    told = {row["name"]: row for row in report["side_metrics"]}
    assert told["polite"]["change"] == pytest.approx(-0.5)
    assert told["usd"]["change"] == pytest.approx(0.01) and told["usd"]["higher_is_better"] is False
    assert list(bisect_ai.compare(good, bad, metric="correct").side_metrics["name"]) == ["polite", "usd"]


def test_a_data_frame_with_a_column_that_tells_configurations_apart() -> None:
    frame = pd.concat([pd.DataFrame(rows(passes(50), variant=v, plan=v)) for v in ("old", "new")])
    found = bisect_ai.compare(frame, by="plan").report["compare"]["configurations"]
    assert [side["name"] for side in found] == ["old", "new"]


# -- what the files say of themselves ------------------------------------------------------------------------------------
def test_parameters_and_system_prompts_are_axes() -> None:
    base = {"model": "m", "params": {"temperature": 0, "seed": 1}, "system": "Be brief."}
    other = {"model": "m", "params": {"temperature": 1, "seed": 1}, "system": "Be polite and long."}
    found = read_results([rows(passes(5), **base), rows(passes(5), **other)])
    assert found.axes == ("temperature", "system prompt")
    assert found.configurations[1].settings["temperature"] == "1"


def test_arguments_of_an_inspect_task_are_axes(tmp_path: Path) -> None:
    good = passes(200)
    logs = [
        inspect_log(
            tmp_path / f"{shots}-{model[5:]}.json",
            good if shots == 5 else broken(good, 4),
            model=model,
            task_args={"shots": shots},
        )
        for model in ("acme/one", "acme/two")
        for shots in (5, 0)
    ]
    result = bisect_ai.attribute([str(path) for path in logs])
    assert [cause.axes for cause in result.verdict.causes] == [("shots",)]
    assert result.report["axes"] == ["model", "shots"]


def test_releases_of_one_file_of_traces_are_in_the_order_of_time() -> None:
    late, early = (rows(passes(20), release=name, at=at) for name, at in (("v2", "2026-05-20"), ("v1", "2026-05-10")))
    found = bisect_ai.compare([*late, *early]).report["compare"]["configurations"]
    assert [side["name"] for side in found] == ["v1", "v2"]


def test_what_differs_from_row_to_row_makes_no_configuration() -> None:
    many = [{**row, "params": {"seed": i}} for i, row in enumerate(rows(passes(50)))]
    assert len(read_results([many, rows(passes(50))]).configurations) == 2


def test_axes_that_change_at_once_are_not_told_apart(tmp_path: Path) -> None:
    good = passes(60)
    files = [
        promptfoo(tmp_path / "a.json", {("m1", "p1"): good}),
        promptfoo(tmp_path / "b.json", {("m2", "p2"): broken(good, 3)}),
    ]
    assert [each["axis"] for each in bisect_ai.compare(*files).report["compare"]["pairs"][0]["differs"]] == ["model", "prompt"]
    result = bisect_ai.attribute([str(path) for path in files])
    assert [cause.axes for cause in result.verdict.causes] == [("model + prompt",)], "what always changes together is one axis"


# -- bad input -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metric": "corect"}, "no score 'corect'.*did you mean 'correct'"),
        ({"good": "nobody"}, "no configuration is called 'nobody'"),
        ({"good": "table 1", "bad": "table 1"}, "name two configurations"),
        ({"tolerance": 2.0}, "did you mean 0.02"),
        ({"tolerance": 0.0}, "must be above 0"),
        ({"alpha": 0.7}, "less than 0.5"),
        ({"by": "plam"}, "no column 'plam'"),
        ({"missing": "zero"}, "should be 'failed' or 'unscored'"),
    ],
)
def test_what_is_wrong_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        bisect_ai.compare(rows(passes(20)), rows(passes(20)), **given)


def test_a_file_with_one_configuration_says_how_to_go_on(tmp_path: Path) -> None:
    done = run(inspect_log(tmp_path / "a.json", passes(10)))
    assert done.exit_code == 2
    assert "holds one configuration" in done.output and "--by" in done.output
    assert run(tmp_path / "none.json", tmp_path / "a.json").exit_code == 2


def test_two_scores_want_a_choice() -> None:
    two = [{**row, "scores": {"a": 1, "b": 0}} for row in rows(passes(10))]
    with pytest.raises(InputError, match=r"which score decides\? .*a, b"):
        bisect_ai.compare(two, two)


def test_files_are_told_apart_by_their_paths_when_their_names_are_alike(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    good = passes(40)
    files = [table(tmp_path / name / "r.jsonl", {"m": good}) for name in ("one", "two")]
    assert len(bisect_ai.compare(*files).report["compare"]["configurations"]) == 2
    with pytest.raises(InputError, match="named twice"):
        bisect_ai.compare(files[0], files[0])


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    bad = [*SINGLE, *HTML]
    texts = [str(bad[i % len(bad)]) for i in range(80)]
    made = [
        [
            {"id": f"{texts[i]}{i}", "input": texts[i], "output": texts[-i], "model": texts[side], "tag": texts[i % 3],
             "scores": {texts[2][:20] or "s": float(i % 2 == 0 or side)}}
            for i in range(80)
        ]
        for side in (0, 1)
    ]  # fmt: skip
    report = bisect_ai.compare(*made).report
    for renderer in (terminal.render, markdown.render, html.render, junit.render):
        shown = renderer(report)
        assert "\x1b" not in shown
    assert "<script" not in html.render(report).lower()
    ElementTree.fromstring(junit.render(report))


def test_patterns_name_the_files_of_either_side(tmp_path: Path) -> None:
    good = [True] * 120
    for side, results in (("good", good), ("bad", broken(good, 4))):
        (tmp_path / side).mkdir()
        for part in range(3):
            shard = rows(results)[part * 40 : part * 40 + 40]
            (tmp_path / side / f"part-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shard))
    told = tmp_path / "report.json"
    done = run("--good", tmp_path / "good" / "*.jsonl", "--bad", tmp_path / "bad" / "*.jsonl", "--json", told)
    assert done.exit_code == 1, done.output
    report = json.loads(told.read_text())
    assert (report["loss"]["n"], report["loss"]["estimate"]) == (120, 0.25)
    one = bisect_ai.compare(
        tmp_path / "good" / "part-0.jsonl", tmp_path / "bad" / "part-*.jsonl", bad=str(tmp_path / "bad" / "part-*.jsonl")
    )
    assert one.report["loss"]["n"] == 40
    assert "is named twice" in run("--good", f"{tmp_path}/*/*.jsonl", "--bad", f"{tmp_path}/bad/*.jsonl").output
    assert "no file is named" in run().output


def test_scores_far_below_the_tolerance_of_shares_are_on_an_open_scale() -> None:
    sides = [
        [{"id": f"q{i}", "input": f"{i}?", "scores": {"toxicity": base + 1e-4 * (i % 7)}} for i in range(120)]
        for base in (0.002, 0.004)
    ]
    report = bisect_ai.compare(*sides, higher_is_better=False).report
    assert report["verdict"]["kind"] == "regression"
    assert any("no tolerance was set: losses below 0.000115, 5 % of" in warning for warning in report["warnings"])
