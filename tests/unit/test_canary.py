"""`canary` from log to report: the verdict and its exit code, what is read, refused, counted and warned of."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import InputError
from bisect_ai.report import html, junit, markdown, terminal
from bisect_ai.report.canary_report import canary_places
from bisect_ai.report.card import card_of
from bisect_ai.report.headline import headline
from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import Report
from bisect_ai.report.untrusted_text import PLAIN
from tests.faults.payloads import HTML, SINGLE

LOSSES = {"promote": -0.2, "roll_back": 0.4, "wait": 0.0}


def traffic(
    loss: float = 0.0, *, answers: int = 600, seed: int = 1, labels: tuple[str, str] = ("v1", "v2")
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(answers):
        on_trial = bool(rng.random() < 0.3)
        passed = bool(rng.random() < 0.75 - loss * on_trial)
        rows.append({"id": f"q{i}", "release": labels[on_trial], "at": 1_790_000_000 + 5 * i, "scores": {"correct": passed}})
    return rows


def look(rows: Any, **given: Any) -> bisect_ai.Result:
    return bisect_ai.canary(rows, **{"baseline": "v1", "canary": "v2", "tolerance": 0.05, **given})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("kind", "code"), [("promote", 0), ("roll_back", 1), ("wait", 3)])
def test_the_verdict_is_the_first_line_and_the_exit_code(kind: str, code: int, tmp_path: Path) -> None:
    log = write(tmp_path / "live.jsonl", traffic(LOSSES[kind], answers=200 if kind == "wait" else 600))
    told = tmp_path / "report.json"
    arguments = ["canary", str(log), "--baseline", "v1", "--canary", "v2", "--metric", "correct", "--tolerance", "0.05"]
    done = CliRunner().invoke(main, [*arguments, "-v", "--json", str(told)])
    assert done.exit_code == code, done.output
    report = json.loads(told.read_text())
    assert report["verdict"]["kind"] == report["canary"]["kind"] == kind
    assert " ".join(done.output.split("\n\n")[0].split()) == report["verdict"]["sentence"]
    assert done.output.startswith({"promote": "promote v2:", "roll_back": "roll back v2:", "wait": "wait:"}[kind])


def test_evidence_and_interval_say_what_the_verdict_says() -> None:
    for kind, loss in LOSSES.items():
        report = look(traffic(loss, answers=200 if kind == "wait" else 600)).report
        (low, high), evidence = report["loss"]["interval"], report["canary"]["evidence"]
        assert (evidence["roll_back_bound"], evidence["promote_bound"]) == (20, 20)
        assert (evidence["roll_back"] >= 20) == (kind == "roll_back") == (low > 0)
        assert (evidence["promote"] >= 20) == (kind == "promote") == (high < 0.05)
        assert report["loss"]["good"] - report["loss"]["bad"] == pytest.approx(report["loss"]["estimate"], abs=1e-9)


def test_waiting_says_what_is_still_needed() -> None:
    result = look(traffic(0.0, answers=150))
    needed = result.report["canary"]["needed"]
    assert 0 < needed["roll_back"]["canary"] < needed["promote"]["canary"] < needed["promote"]["baseline"]
    assert needed["roll_back"]["if_loss"] == 0.1
    assert result.verdict.calls_needed == needed["promote"]["canary"] + needed["promote"]["baseline"]
    assert re.search(
        r"promoting it takes about [\d,]+ more scored answers of the canary and [\d,]+ of the baseline if it loses nothing",
        result.verdict.sentence,
    )


def test_a_log_that_grows_goes_on_where_it_was() -> None:
    rows = traffic(LOSSES["roll_back"])
    decided = look(rows).report["canary"]["decided_after"]
    seen = [look(rows[:n]).report for n in (decided - 1, decided, len(rows))]
    assert [r["verdict"]["kind"] for r in seen] == ["wait", "roll_back", "roll_back"]
    assert [r["canary"]["decided_after"] for r in seen] == [None, decided, decided]
    assert seen[1]["canary"]["evidence"] == seen[2]["canary"]["evidence"]
    assert (seen[1]["loss"]["n"], seen[2]["loss"]["n"]) == (decided, len(rows))  # the estimate is of all answers
    assert look(rows).to_json() == look(rows).to_json()


def test_the_same_answers_in_any_format_give_the_same_report(tmp_path: Path) -> None:
    import pandas as pd

    rows = traffic(0.1, answers=120)
    flat = pd.DataFrame([{**row, "correct": row["scores"]["correct"]} for row in rows]).drop(columns="scores")
    flat.to_csv(tmp_path / "live.csv", index=False)
    flat.to_parquet(tmp_path / "live.parquet")
    write(tmp_path / "live.jsonl", rows)
    sources = [rows, flat, *(tmp_path / f"live.{kind}" for kind in ("csv", "parquet", "jsonl"))]
    told = [look(source, metric="correct").to_dict() for source in sources]
    for report in told:
        del report["log"]["format"]
    assert all(report == told[0] for report in told)


def test_differing_traffic_is_adjusted_for_without_being_named() -> None:
    """The canary gets the hard traffic: by its mean it is far worse, among queries of one kind it is not."""
    rng, rows = np.random.default_rng(4), []
    for _ in range(4000):
        hard = bool(rng.random() < 0.5)
        on_trial = bool(rng.random() < (0.45 if hard else 0.1))
        score = float(rng.random() < (0.5 if hard else 0.95))
        rows.append({"release": "v2" if on_trial else "v1", "kind": "hard" if hard else "easy", "scores": {"ok": score}})
    blind, seen, named = (
        look([{k: v for k, v in row.items() if k != "kind"} for row in rows], tolerance=0.1).report,
        look(rows, tolerance=0.1).report,
        look(rows, tolerance=0.1, settings={"segment": "kind"}).report,
    )
    assert [r["verdict"]["kind"] for r in (blind, seen, named)] == ["roll_back", "promote", "promote"]
    (column,) = seen["canary"]["balance"]
    assert (column["name"], column["fate"]) == ("kind", "adjusted")
    assert sorted([column["baseline"], column["canary"]]) == pytest.approx([0.18, 0.61], abs=0.25)
    assert "post-stratified by kind" in seen["loss"]["method"]


def test_power_users_do_not_hide_a_loss_in_both_groups() -> None:
    """The canary answers mostly power users, who pass more; it loses 5 points among them and among the others."""
    kinds = Counter[str]()
    for seed in range(10):
        rng = np.random.default_rng([seed, 20])
        on_trial = rng.random(4000) < 0.5
        power = rng.random(4000) < np.where(on_trial, 0.8, 0.2)
        passed = rng.random(4000) < np.where(power, 0.95, 0.75) - 0.05 * on_trial
        rows = [
            {"release": f"v{1 + t}", "plan": "power" if p else "free", "scores": {"ok": bool(ok)}}
            for t, p, ok in zip(on_trial, power, passed, strict=True)
        ]
        report = look(rows, tolerance=0.02).report
        assert report["loss"]["good"] - report["loss"]["bad"] > 0
        assert "post-stratified by plan" in report["loss"]["method"]
        kinds[report["verdict"]["kind"]] += 1
    assert kinds["promote"] == 0
    assert kinds["roll_back"] >= 5


ASKED = {
    "en": "please tell me where the parcel {} is now, it should have been at my door this morning",
    "de": "bitte sagen Sie mir, wo das Paket {} jetzt ist, es sollte heute früh schon da sein",
    "fr": "dites-moi où est le colis {}, il devait arriver à ma porte déjà ce matin, s'il vous plaît",
}


def test_languages_of_one_script_do_not_hide_a_loss_in_each_of_them() -> None:
    """English questions pass more often, and nine in ten of the canary's are English; no column says so, the questions do."""
    rng, rows = np.random.default_rng(8), []
    for i in range(1200):
        on_trial = bool(rng.random() < 0.5)
        english = 0.9 if on_trial else 0.3
        language = str(rng.choice(["en", "de", "fr"], p=[english, (1 - english) / 2, (1 - english) / 2]))
        passed = bool(rng.random() < (0.9 if language == "en" else 0.6) - 0.1 * on_trial)
        asked = ASKED[language].format(rng.integers(10**6))
        rows.append({"id": f"q{i}", "release": f"v{1 + on_trial}", "at": i, "input": asked, "scores": {"correct": passed}})
    report = look(rows).report
    assert next(b["name"] for b in report["canary"]["balance"] if b["fate"] == "adjusted") == "language"
    assert {s["level"] for s in report["canary"]["segments"] if s["column"] == "language"} == {"en", "de", "fr"}
    assert report["loss"]["estimate"] == pytest.approx(0.1, abs=0.05)
    assert report["verdict"]["kind"] != "promote"


def test_a_column_that_the_releases_do_not_share_withholds_promoting() -> None:
    rows = [{**row, "region": "eu" if row["release"] == "v2" else "us"} for row in traffic(-0.2)]
    report = look(rows).report
    assert report["verdict"]["kind"] == "wait"
    (reason,) = report["canary"]["withheld"]
    assert (reason["by"], reason["name"]) == ("column", "region")
    assert re.match(
        r"wait: promoting is withheld because region differs between the releases and cannot be adjusted for: only 0% of the bas",
        report["verdict"]["sentence"],
    )
    assert look(rows, ignore=["region"]).verdict.kind == "promote"


def test_what_is_to_be_ignored_has_to_be_there() -> None:
    with pytest.raises(InputError, match=r"no column 'plann'; did you mean 'plan'\?"):
        look([{**row, "plan": "pro"} for row in traffic(0.0)], ignore="plann")
    for shape in ("hour", "earlier scores of the question"):
        assert shape not in {each["name"] for each in look(traffic(0.0), ignore=[shape]).report["canary"]["balance"]}


def test_in_python_a_card_names_no_options() -> None:
    rows = [{**row, "region": "eu" if row["release"] == "v2" else "us"} for row in traffic(-0.2)]
    told = str(look(rows)).replace("\n          ", " ")
    assert "name it with ignore=… if it does not say" in told and "then the same call again when the log has grown" in told
    assert not re.search(r" \(?--[a-z]", "".join(map(str, (look(traffic(0.3)), look(traffic(0.0)), told))))


def test_a_split_that_was_not_meant_withholds_promoting() -> None:
    rows = traffic(-0.2)
    assert look(rows, share=0.3).verdict.kind == "promote"
    report = look(rows, share=0.1).report
    assert report["verdict"]["kind"] == "wait"
    assert report["canary"]["split_p"] < 1e-3
    assert (
        "promoting is withheld because the canary was to get 0.1 of the traffic and got 0.29" in report["verdict"]["sentence"]
    )


def test_a_loss_in_one_segment_is_told_as_that_and_withholds_promoting() -> None:
    rng, rows = np.random.default_rng(6), []
    for _ in range(6000):
        refund, on_trial = bool(rng.random() < 0.05), bool(rng.random() < 0.5)
        passed = bool(rng.random() < (0.3 if refund and on_trial else 0.9))
        rows.append({"release": f"v{1 + on_trial}", "intent": "refund" if refund else "other", "scores": {"ok": passed}})
    report = look(rows, tolerance=0.1).report
    worst = report["canary"]["segments"][0]
    assert (worst["column"], worst["level"], worst["proved"]) == ("intent", "refund", True)
    assert worst["interval"][0] < 0.6 < worst["interval"][1]
    assert report["loss"]["estimate"] == pytest.approx(0.03, abs=0.02)
    assert (report["verdict"]["kind"], "intent = refund is proved to lose" in report["verdict"]["sentence"]) != (
        "promote",
        False,
    )


def test_a_loss_where_two_columns_meet_is_told_as_that() -> None:
    """German refunds break; German questions and refunds do not by themselves."""
    rng, rows = np.random.default_rng(6), []
    for i in range(3000):
        on_trial, tool, tongue = (
            bool(rng.random() < 0.5),
            str(rng.choice(["refund", "search", "track"])),
            str(rng.choice(["de", "en"])),
        )
        passed = bool(rng.random() < 0.85 - 0.4 * (on_trial and tool == "refund" and tongue == "de"))
        row = {
            "id": f"q{i}",
            "release": f"v{1 + on_trial}",
            "at": i,
            "tool": tool,
            "lang": tongue,
            "age": int(rng.integers(18, 80)),
        }
        rows.append({**row, "plan": str(rng.choice(["free", "paid"])), "scores": {"correct": passed}})
    result = look(rows, tolerance=0.2)
    worst = result.report["canary"]["segments"][0]
    assert {(worst["column"], worst["level"]), (worst["beside"]["column"], worst["beside"]["level"])} == {
        ("tool", "refund"),
        ("lang", "de"),
    }
    assert worst["proved"] and worst["loss"] == pytest.approx(0.4, abs=0.1)
    assert sum("beside" in segment for segment in result.report["canary"]["segments"]) == 1
    told = " ".join(terminal.render(result.report).split())
    assert re.search(r"(lang = de and tool = refund|tool = refund and lang = de) loses", told)
    ages = [segment["level"] for segment in result.report["canary"]["segments"] if segment["column"] == "age"]
    assert len(ages) == 5 and sum(" to " in age for age in ages) == 3


def test_a_loss_that_all_segments_share_is_told_of_none_and_a_guard_in_points_is_told_in_points() -> None:
    rng, rows = np.random.default_rng(12), []
    for i, row in enumerate(traffic(0.3, answers=1200)):
        refused = float(rng.random() < 0.1)
        rows.append({**row, "plan": ("free", "paid")[i % 2], "scores": {**row["scores"], "refusal": refused}})
    result = look(rows, metric="correct", guards=["refusal:+1p"])
    assert result.verdict.kind == "roll_back"
    plans = [segment["proved"] for segment in result.report["canary"]["segments"] if segment["column"] == "plan"]
    assert plans == [True, True]
    places = list(canary_places(read(Report, result.report), PLAIN))
    assert len(places) == 1
    assert re.fullmatch(r"refusal: rise of -?\d\.\d points \[-\d\.\d, \d\.\d\], 1 point allowed: open", places[0])


def guarded(rise: float, *, answers: int = 1500, seed: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = traffic(-0.1, answers=answers, seed=seed)
    return [{**row, "usage": {"usd": float(rng.gamma(8, 0.01) * (1 + rise * (row["release"] == "v2")))}} for row in rows]


def test_guards_roll_back_when_violated_and_wait_while_open() -> None:
    kept, violated = (look(guarded(rise), guards=["cost:+10%"]).report for rise in (0.0, 0.4))
    assert (kept["verdict"]["kind"], kept["canary"]["guards"][0]["kind"]) == ("promote", "kept")
    assert (violated["verdict"]["kind"], violated["canary"]["by_guard"]) == ("roll_back", "cost")
    assert violated["canary"]["guards"][0]["rise"] == pytest.approx(0.4, abs=0.06)
    assert re.search(r"cost rises by [\d.]+ % \[.*\], more than the 10 % allowed", violated["verdict"]["sentence"])
    open_ = look(guarded(0.1, answers=700), guards=["cost:+10%"]).report
    assert (open_["verdict"]["kind"], open_["canary"]["guards"][0]["kind"]) == ("wait", "open")
    assert open_["verdict"]["sentence"].startswith("wait: not yet known to keep its limit: cost (10 % allowed); ")


def test_a_guard_on_what_may_fall_and_in_points() -> None:
    rows = [{**row, "scores": {**row["scores"], "kind": float(row["release"] == "v1")}} for row in traffic(-0.2)]
    report = look(rows, metric="correct", guards=["kind:-2p"]).report
    (guard,) = report["canary"]["guards"]
    assert (guard["kind"], guard["limit"], guard["falls"]) == ("violated", 0.02, True)
    assert (guard["baseline"], guard["canary"], guard["rise"]) == (1, 0, 1)
    assert report["verdict"]["kind"] == "roll_back"
    relative = look(rows, metric="correct", guards=["kind:-50%"]).report["canary"]["guards"][0]
    assert (relative["kind"], relative["rise"]) == ("violated", pytest.approx(1, abs=0.01))


def test_refusals_are_read_from_answers_where_no_score_says_them() -> None:
    said = {"v1": "Your order is on its way.", "v2": "I'm sorry, but I can't help with that."}
    rows = [{**row, "output": said[row["release"]]} for row in traffic(-0.2)]
    (guard,) = look(rows, guards=["refusal:+1p"]).report["canary"]["guards"]
    assert (guard["kind"], guard["baseline"], guard["canary"]) == ("violated", 0, 1)


def test_a_covariate_that_foretells_the_score_saves_answers_and_says_so() -> None:
    rng, rows = np.random.default_rng(8), []
    for _ in range(1500):
        level, on_trial = float(rng.normal()), bool(rng.random() < 0.5)
        rows.append({"release": f"v{1 + on_trial}", "tenure": level, "scores": {"ok": bool(level + 0.4 * rng.normal() > -0.5)}})
    report = look(rows).report
    assert report["canary"]["saved"]["by"] == ["tenure"]
    assert report["canary"]["saved"]["share"] > 0.3
    assert "% of the answers unneeded" in terminal.render(report)


def test_clusters_are_weighted_and_not_thrown_away() -> None:
    """A user stays with one release and passes always or never: 40 of them are no 600 independent answers."""
    rows = [
        {
            **row,
            "user": f"u{i % 40}",
            "release": f"v{1 + i % 40 % 2}",
            "scores": {"correct": i % 40 % 2 == 0 or i % 40 % 6 == 1},
        }
        for i, row in enumerate(traffic(0.0))
    ]
    alone, grouped = look(rows).report, look(rows, settings={"cluster": "user"}).report
    assert (alone["loss"]["n"], grouped["loss"]["n"]) == (600, 600)
    widths = [r["loss"]["interval"][1] - r["loss"]["interval"][0] for r in (alone, grouped)]
    assert widths[1] > 1.8 * widths[0]
    assert any("user: each of its values belongs to one release" in w for w in alone["warnings"])


def test_a_machine_may_act_on_strong_evidence_only(tmp_path: Path) -> None:
    assert look(traffic(0.4)).report["canary"]["safe_to_revert"]
    told = tmp_path / "told.json"
    hook = f"{sys.executable} -c \"import sys; open(r'{told}', 'w').write(sys.stdin.read())\""
    arguments = ["--baseline", "v1", "--canary", "v2", "--on-rollback", hook]
    for name, loss, ran in (("worse", 0.4, True), ("same", 0.0, False)):
        told.unlink(missing_ok=True)
        log = write(tmp_path / f"{name}.jsonl", traffic(loss))
        CliRunner().invoke(main, ["canary", str(log), *arguments])
        assert told.exists() == ran
        assert not ran or json.loads(told.read_text())["canary"]["kind"] == "roll_back"
    done = CliRunner().invoke(main, ["canary", str(tmp_path / "worse.jsonl"), *arguments[:-1], "no-such-command-here"])
    assert (done.exit_code, "cannot run 'no-such-command-here'" in done.output) == (2, True)


def test_answers_without_a_score_are_counted_and_bounded() -> None:
    rows = traffic(LOSSES["promote"])
    few = [{**row, "scores": {"correct": None if i % 100 == 0 else row["scores"]["correct"]}} for i, row in enumerate(rows)]
    report = look(few).report
    assert report["verdict"]["kind"] == "promote"
    assert any("answers without a score" in w and "they are left out" in w for w in report["warnings"])
    many = [{**row, "scores": {} if row["release"] == "v2" and i % 3 else row["scores"]} for i, row in enumerate(rows)]
    report = look(many, metric="correct").report
    assert report["verdict"]["kind"] == "wait"
    assert report["canary"]["missing_bounded"]
    assert any("a verdict must hold whatever their scores would have been" in w for w in report["warnings"])
    told = report["canary"]["answers"]["canary"]
    assert told["answers"] == sum(row["release"] == "v2" for row in rows)
    assert told["unscored"] > told["answers"] / 2


def test_a_score_that_comes_later_completes_its_answer_and_a_copy_counts_once() -> None:
    rows = traffic(0.1, answers=100)
    pending = [{**row, "scores": {}} for row in rows]
    whole = look(rows).report
    for grown in ([*pending, *rows], [*rows, *rows], [*rows, *pending]):
        report = look(grown, metric="correct").report
        assert report["log"]["dropped"] == {"duplicate": 100}
        assert (report["loss"], report["canary"]) == (whole["loss"], whole["canary"])
    rows[0] = {**rows[0], "scores": {"correct": not rows[0]["scores"]["correct"]}}
    with pytest.raises(InputError, match=r"the id 'q0' names answers of one release with different scores"):
        look([*traffic(0.1, answers=100), rows[0]])


def test_a_cost_needs_bounds_and_a_direction() -> None:
    rng = np.random.default_rng(2)
    rows = [{"release": f"v{1 + i % 2}", "scores": {"seconds": float(rng.gamma(4, 1 + i % 2))}} for i in range(800)]
    with pytest.raises(
        InputError, match=r"the score 'seconds' has the value [\d.]+, and a canary is judged by scores between two"
    ):
        look(rows)
    report = look(rows, bounds=(0, 20), higher_is_better=False, tolerance=1.0).report
    assert report["verdict"]["kind"] == "roll_back"
    assert report["loss"]["bad"] > report["loss"]["good"] > 3
    assert not report["percent"]
    assert any("lie outside 0 to 20 and count as the bound" in w for w in report["warnings"])


def test_prices_far_below_the_tolerance_are_not_judged_as_shares() -> None:
    rng = np.random.default_rng(3)
    rows = [{"release": f"v{1 + i % 2}", "price": 0.003 + 0.001 * (i % 2) + 1e-4 * rng.random()} for i in range(800)]
    asked = {"baseline": "v1", "canary": "v2", "metric": "price", "higher_is_better": False}
    with pytest.raises(
        InputError, match=r"values of the score 'price' lie between 0.003 and 0.0041, so no loss .* \(--tolerance\)"
    ):
        bisect_ai.canary(rows, **asked)
    report = bisect_ai.canary(rows, **asked, bounds=(0, 0.01), tolerance=0.0005).report
    assert report["verdict"]["kind"] == "roll_back"


def test_releases_that_never_answer_at_one_time_cannot_be_compared() -> None:
    rows = [{"release": "v1" if i < 300 else "v2", "scores": {"ok": float(i < 300)}} for i in range(600)]
    report = look(rows).report
    assert report["verdict"]["kind"] == "wait"
    assert report["canary"]["apart"]
    assert report["loss"]["estimate"] is None
    assert report["verdict"]["sentence"].startswith("wait: the answers of v1 and v2 do not overlap in time")


def test_users_who_come_back_do_not_hide_that_the_releases_took_turns() -> None:
    rows = [{"release": "v1" if i < 300 else "v2", "scores": {"ok": 1.0}, "user": f"u{i % 90}"} for i in range(600)]
    rows += [{"release": "v2", "scores": {"ok": 1.0}, "user": f"late{i}"} for i in range(30)]
    report = look(rows, settings={"cluster": "user"}).report
    assert report["canary"]["apart"]


def test_a_bisect_yaml_names_everything(tmp_path: Path) -> None:
    for side, name in (("good", "v1"), ("bad", "v2")):
        (tmp_path / f"{side}.yaml").write_text(f"release: {name}\naxes: {{prompt: {side}}}\n")
    write(tmp_path / "live.jsonl", [{**row, "scores": {"grade": 4 * row["scores"]["correct"]}} for row in traffic(0.4)])
    config = tmp_path / "bisect.yaml"
    config.write_text(
        "good: good.yaml\nbad: bad.yaml\nlog: {path: live.jsonl}\ntarget: {kind: recorded}\nmetric: grade\ntolerance: 0.2\n"
        "canary: {bounds: [0, 4]}\n"
    )
    done = CliRunner().invoke(main, ["canary", str(config)])
    assert done.exit_code == 1, done.output
    assert done.output.startswith("roll back v2: grade falls from ")
    config.write_text(config.read_text() + "scorer: []\n")
    done = CliRunner().invoke(main, ["canary", str(config)])
    assert (done.exit_code, "unknown key 'scorer'" in done.output) == (2, True)


WRONG: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "label": (traffic(), {"canary": "v3"}, r"no answer of the release 'v3'; it has v1, v2"),
    "near": (
        traffic(labels=("2026-11-13", "2026-11-20")),
        {"baseline": "2026-11-13", "canary": "2026-11-2"},
        "did you mean '2026-11-20'",
    ),
    "metric": (traffic(), {"metric": "helpful"}, r"has a score 'helpful'; the log has the scores correct"),
    "which": ([{**r, "scores": {"a": 1, "b": 1}} for r in traffic()], {}, "which score decides.*the log has the scores a, b"),
    "text": ([{**r, "scores": {"a": "good"}} for r in traffic()], {}, r"queries\[0\]: the score 'a' is 'good', not a number"),
    "same": (traffic(), {"canary": "v1"}, "baseline and canary are both 'v1'"),
    "none": (traffic(), {"canary": None}, "which release is the canary"),
    "releases": ([{"scores": {"a": 1}}], {}, "no record names its release"),
    "empty": ([], {}, "holds no records"),
    "tolerance": (traffic(), {"tolerance": 1.5}, "a tolerance of 1.5 is no less than the whole scale"),
    "bounds": (traffic(), {"bounds": (1, 0)}, "not the lowest and then the highest"),
    "column": (traffic(), {"settings": {"segment": "intent"}}, "the log has no column 'intent'"),
    "guard": (traffic(), {"guards": ["cost+10"]}, "cannot use the guard 'cost\\+10': write METRIC:\\+10%"),
    "guarded": (traffic(), {"guards": ["cost:+10%"]}, "no answer of either release has a value 'cost'"),
    "share": (traffic(), {"share": 1.5}, "key 'canary.share'"),
    "setting": (traffic(), {"settings": {"segmnt": "intent"}}, "segmnt"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_line(name: str) -> None:
    rows, given, message = WRONG[name]
    with pytest.raises(InputError, match=message) as raised:
        look(rows, **given)
    assert "\n" not in str(raised.value)


def test_bad_usage_ends_with_2(tmp_path: Path) -> None:
    log = write(tmp_path / "live.jsonl", traffic(answers=20))
    for arguments in (["nowhere.jsonl"], [str(log)], [str(log), "--baseline", "v1", "--canary", "v2", "--column", "release"]):
        done = CliRunner().invoke(main, ["canary", *arguments])
        assert done.exit_code == 2, done.output


@pytest.mark.parametrize("payload", [*SINGLE[::6], *HTML[::60]])
def test_hostile_labels_stay_text(payload: str) -> None:
    label = payload.strip() or "x"
    rows = [{**row, "kind": label} for row in traffic(0.25, answers=80, labels=("v1", label))]
    report = bisect_ai.canary(rows, baseline="v1", canary=label, metric="correct", settings={"segment": "kind"}).report
    pages = {"terminal": terminal.render(report), "markdown": markdown.render(report), "junit": junit.render(report)}
    pages["html"] = html.render(report, pictures=html.sketch_all)
    for page in (*pages.values(), html.render_cell(report)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
        assert not re.search(r"(?m)^\s*(::|##\[|##vso)", page)
    assert "<script" not in pages["html"].lower().replace("&lt;", "")
    assert not re.search(r"<(img|iframe|a|svg onload)\b", pages["html"], re.I)


def test_a_notebook_shows_it() -> None:
    shown = look(traffic(0.4))._repr_html_()
    assert "(baseline)" in shown
    assert "Roll back" in shown


def test_a_loss_where_three_columns_meet_is_told_as_that_and_once() -> None:
    """German refunds by phone break, no two of the three do: three pairs were told, each of which loses a third of it."""
    rng, rows = np.random.default_rng(7), []
    for i in range(8000):
        where = {
            "lang": str(rng.choice(["de", "en"])),
            "tool": str(rng.choice(["refund", "search", "track"])),
            "channel": str(rng.choice(["phone", "web", "mail"])),
        }
        on_trial = bool(rng.random() < 0.5)
        broken = on_trial and list(where.values()) == ["de", "refund", "phone"]
        row = {"id": f"q{i}", "release": f"v{1 + on_trial}", "at": i, "age": int(rng.integers(18, 80)), **where}
        rows.append({**row, "scores": {"correct": bool(rng.random() < 0.9 - 0.6 * broken)}})
    report = look(rows, tolerance=0.2).report
    worst, *rest = report["canary"]["segments"]
    named = [worst, worst["beside"], worst["also"]]
    assert {(part["column"], part["level"]) for part in named} == {("lang", "de"), ("tool", "refund"), ("channel", "phone")}
    assert worst["proved"] and worst["loss"] == pytest.approx(0.6, abs=0.12)
    assert not any("beside" in segment for segment in rest)
    told = terminal.render(report)
    assert all(f"{column} = {level}" in " ".join(told.split()) for column, level in (("lang", "de"), ("channel", "phone")))


def with_costs(*, rise: float = 0.0, refusals: float = 0.02, answers: int = 3000) -> list[dict[str, Any]]:
    """A canary that is better, with a cost and a rate of refusals of its own."""
    rng, rows = np.random.default_rng(6), traffic(-0.2, answers=answers)
    for row in rows:
        on_trial = row["release"] == "v2"
        row["scores"] |= {"cost": float(rng.gamma(3, 1) * (1 + rise * on_trial)), "refusal": bool(rng.random() < refusals)}
    return rows


def test_a_canary_that_waits_for_a_guard_says_so_first_and_how_long() -> None:
    """It said "about 1 more scored answer would promote it": the metric's own, though it was the guard that was open."""
    report = look(with_costs(refusals=0.05), metric="correct", guards=["cost:+30%", "refusal:+1p"]).report
    promote = report["canary"]["needed"]["promote"]
    assert [guard["kind"] for guard in report["canary"]["guards"]] == ["kept", "open"]
    assert report["canary"]["evidence"]["promote"] > report["canary"]["evidence"]["promote_bound"]
    assert promote["canary"] + promote["baseline"] > 1000
    assert report["verdict"]["sentence"].startswith("wait: not yet known to keep its limit: refusal (1 point allowed); correct")
    assert headline(read(Report, report)).startswith(
        "wait: not yet known to keep its limit: refusal (1 point allowed); correct"
    )


def test_a_guard_that_moves_the_other_way_falls() -> None:
    report = read(Report, look(with_costs(rise=-0.2), metric="correct", guards=["cost:+10%"]).report)
    (place,) = [line for line in canary_places(report, PLAIN) if line.startswith("cost")]
    assert re.fullmatch(r"cost: fall of \d+\.\d % \[\d+\.\d %, \d+\.\d %\], a rise of 10 % allowed: kept", place)


def test_the_card_rests_on_all_answers_and_not_on_those_until_the_verdict() -> None:
    report = read(Report, look(with_costs(rise=0.4), metric="correct", guards=["cost:+10%"]).report)
    assert report.canary is not None
    assert report.canary.by_guard == "cost"
    assert (report.canary.decided_after or 0) < 2000
    assert card_of(report).loss.endswith(" over 3,000 answers")


def seconds(mean: float, *, answers: int = 600) -> list[dict[str, Any]]:
    """Live answers whose latency lies below one second, and is `mean` for the canary; 0.3 for the baseline."""
    rng = np.random.default_rng(3)
    rows = traffic(answers=answers)
    for row in rows:
        row["scores"] = {"latency": float((mean if row["release"] == "v2" else 0.3) + rng.uniform(-0.1, 0.1))}
    return rows


def test_a_metric_with_a_unit_is_told_in_it_and_needs_a_loss_that_counts(tmp_path: Path) -> None:
    write(tmp_path / "live.jsonl", seconds(0.6))
    config = "log: live.jsonl\nmetric: latency\nscorers: [{kind: latency, name: latency}]\ncanary: {baseline: v1, canary: v2}\n"
    (tmp_path / "bisect.yaml").write_text(config)
    with pytest.raises(
        InputError, match=r"0\.696 seconds, and the tolerance of 0.02 is made for scores between 0 and 1; name the lowest"
    ):
        bisect_ai.canary(config=tmp_path)
    with pytest.raises(InputError, match=r"0 and 1; name the loss that counts \(--tolerance\)"):
        bisect_ai.canary(config=tmp_path, bounds=(0, 2))
    result = bisect_ai.canary(config=tmp_path, bounds=(0, 2), tolerance=0.05)
    assert (result.verdict.kind, result.report["unit"], result.report["percent"]) == ("roll_back", "seconds", False)
    assert "rises from 0.299 seconds to 0.599 seconds (a loss of 0.301 seconds" in result.verdict.sentence
    for text in (terminal.render(result.report), terminal.card(result.report)):
        assert "points" not in text and "0.3" in text


def test_an_onset_in_a_metric_with_a_unit_is_told_in_it() -> None:
    rows = [{**row, "release": "v1", "at": 1_790_000_000 + 5 * i} for i, row in enumerate([*seconds(0.3), *seconds(0.9)])]
    for row, late in zip(rows, range(len(rows)), strict=True):
        row["id"] = f"r{late}"
        row["scores"]["latency"] += 0.3 * (late > 600)
    found = bisect_ai.onset(rows, metric="latency", higher_is_better=False, unit="seconds")
    assert found.verdict.kind == "onset" and "rises from 0.299 seconds to 0.775 seconds" in found.verdict.sentence
    assert "points" not in terminal.card(found.report)
