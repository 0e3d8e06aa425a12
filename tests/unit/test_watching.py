"""`onset` and `drift` from log to report: the verdict and its exit code, deploys about the onset, what is refused."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import ConfigError, InputError
from bisect_ai.report import html, junit, markdown, terminal

START = datetime(2026, 11, 12, tzinfo=UTC)


def scored_log(path: Path, *, drop: float = 0.3, at: int = 600, answers: int = 1000) -> Path:
    rng = np.random.default_rng(5)
    with path.open("w") as out:
        for i in range(answers):
            row = {"id": f"q{i}", "at": (START + timedelta(minutes=i)).isoformat(), "release": "v1"}
            row["scores"] = {"correct": bool(rng.random() < (0.9 if i < at else 0.9 - drop))}
            out.write(json.dumps(row) + "\n")
    return path


def test_an_onset_names_the_deploy_that_lies_inside(tmp_path: Path) -> None:
    log, deploys = scored_log(tmp_path / "live.jsonl"), tmp_path / "deploys.jsonl"
    events = [{"at": (START + timedelta(minutes=m)).isoformat(), "name": name} for m, name in ((100, "v40"), (599, "v41"))]
    deploys.write_text("".join(json.dumps(event) + "\n" for event in events))
    told = tmp_path / "report.json"
    done = CliRunner().invoke(main, ["onset", str(log), "--events", str(deploys), "--json", str(told)])
    assert done.exit_code == 1, done.output
    report = json.loads(told.read_text())
    onset = report["onset"]
    assert onset["low"] <= 601 <= onset["high"]
    assert onset["high"] - onset["low"] < 60
    assert [event["what"] for event in onset["deploys"]] == ["v41"]
    said = " ".join(done.output.split())
    assert re.match(
        r"correct falls from 9\d\.\d % to [56]\d\.\d %; it began between 2026-11-12 09:\d\d UTC and 2026-11-12 ", said
    )
    assert "the deploy of 2026-11-12 09:59 UTC (v41) lies inside." in said
    assert "Sure proved: less than 1 in 20 to be wrong" in said
    assert "Who who deployed v41: not recorded here Do now bisect-ai run with the releases before and after v41" in said
    assert (
        f"Cost no calls: read from the scores that were there More bisect-ai onset {log} --events {deploys} -v"
        in said.replace(" \\", "")
    )
    for render in (terminal.render, markdown.render, junit.render, html.render, html.render_cell):
        assert "v41" in render(report) or render is html.render_cell


def test_scores_that_rise_where_lower_is_better_are_an_onset_of_a_rise() -> None:
    rows = [{"id": f"q{i}", "input": f"q{i}?", "scores": {"wrong": float(i % 10 < (1 if i < 150 else 6))}} for i in range(300)]
    result = bisect_ai.onset(rows, metric="wrong", higher_is_better=False)
    assert result.verdict.sentence.startswith("wrong rises from 10.0 % to 60.0 %")


def test_a_log_that_is_steady_has_no_onset_and_few_scores_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["onset", str(scored_log(tmp_path / "live.jsonl", drop=0.0))])
    assert (done.exit_code, done.output.split("\n")[0]) == (0, "no onset of a loss is proved in 1,000 scores of correct.")
    with pytest.raises(InputError, match="too few answers with a score 'correct'"):
        bisect_ai.onset(scored_log(tmp_path / "few.jsonl", answers=30))
    with pytest.raises(InputError, match="the event has no time"):
        bisect_ai.onset(tmp_path / "live.jsonl", events=[{"name": "v1"}])


def test_tags_of_a_repository_are_deploys(tmp_path: Path) -> None:
    def git(*words: str, at: datetime) -> None:
        env = {
            "GIT_COMMITTER_DATE": at.isoformat(),
            "GIT_AUTHOR_DATE": at.isoformat(),
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
        }
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, env=env, capture_output=True)

    git("init", "-q", at=START)
    for minutes, name in ((30, "v1.2"), (597, "v1.3")):
        git("commit", "-q", "--allow-empty", "-m", name, at=START + timedelta(minutes=minutes))
        git("tag", name, at=START + timedelta(minutes=minutes))
    found = bisect_ai.onset(scored_log(tmp_path / "live.jsonl"), events="git", repository=tmp_path).report["onset"]
    assert found["events"] == 2
    assert (found["deploys"][0]["what"], found["deploys"][0]["who"]) == ("tag v1.3", "a")


def test_who_deployed_what_lies_inside_is_asked() -> None:
    """The file had the name, and the card said "not recorded here"."""
    rows = [
        {"at": (START + timedelta(minutes=i)).isoformat(), "scores": {"correct": i < 300 or bool(i % 2)}} for i in range(600)
    ]
    deploy = {"at": (START + timedelta(minutes=299)).isoformat(), "release": "v42"}
    for who, said in (
        ({"author": "Ann *Lee*"}, "Who Ann *Lee*: deployed v42"),
        ({}, "Who who deployed v42: not recorded here"),
    ):
        report = bisect_ai.onset(rows, events=[{**deploy, **who}]).report
        assert said in " ".join(terminal.render(report).split())
        assert ("who" in report["onset"]["deploys"][0]) == bool(who)
        assert "*Lee*" not in markdown.render(report).replace("`Ann *Lee*`", "")


def test_a_canary_says_since_when_it_loses() -> None:
    rng, rows = np.random.default_rng(2), []
    for i in range(3000):
        late, on_trial = i >= 1500, bool(rng.random() < 0.5)
        at = (START + timedelta(minutes=i)).isoformat()
        rows.append(
            {"release": f"v{1 + on_trial}", "at": at, "scores": {"ok": bool(rng.random() < 0.9 - 0.4 * (late and on_trial))}}
        )
    deploy = [{"at": (START + timedelta(minutes=1499)).isoformat(), "name": "flag on"}]
    report = bisect_ai.canary(rows, baseline="v1", canary="v2", events=deploy).report
    assert report["verdict"]["kind"] == "roll_back"
    assert report["onset"]["since"] <= "2026-11-13T01:00:00Z" <= report["onset"]["until"]
    assert report["onset"]["deploys"][0]["what"] == "flag on"
    assert "the deploy of 2026-11-13 00:59 UTC (flag on) lies inside" in " ".join(terminal.render(report).split())


# -- drift ---------------------------------------------------------------------------------------------------------------
class Provider:
    """Answers right but for the queries that it has come to fail."""

    def __init__(self, failing: set[str], model: str = "m-1") -> None:
        self.failing, self.model, self.calls = failing, model, 0

    def __call__(self, query: Any, release: Any) -> bisect_ai.Answer:
        self.calls += 1
        return bisect_ai.Answer(text="no" if query.id in self.failing else "yes", model_returned=self.model)


def logged(n: int = 400, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"q{i}", "input": f"question {i}", "output": "yes", "intent": "refund" if i % 4 == 0 else "other", **more}
        for i in range(n)
    ]


def check(provider: Provider, rows: list[dict[str, Any]], **given: Any) -> bisect_ai.Result:
    return bisect_ai.drift(
        good={"model": "m", "prompt": "p"},
        target=provider,
        scorers={"correct": lambda query, answer: answer.text == "yes"},
        queries=rows,
        **given,
    )


def test_a_release_that_answers_as_then_did_not_drift() -> None:
    provider = Provider(set())
    result = check(provider, logged())
    assert result.verdict.kind == "steady"
    assert provider.calls < 150
    assert result.verdict.sentence.startswith("no drift: good scored correct 100.0 % in its log and scores 100.0 % now")


def test_a_provider_that_changed_is_named_first_and_its_segment_is_told() -> None:
    provider = Provider({f"q{i}" for i in range(0, 400, 4)}, model="m-2")
    result = check(provider, logged(model_returned="m-1"), log={"sample": None, "segment": "intent"})
    assert result.verdict.kind == "drift"
    assert "the provider changed: the model is m-2 now, the log says m-1" in result.verdict.sentence
    worst = result.report["drift"]["segments"][0]
    assert (worst["column"], worst["level"], worst["proved"]) == ("intent", "refund", True)
    for render in (terminal.render, markdown.render, junit.render, html.render, html.render_cell):
        assert "m-2" in render(result.report)


PINNED = {"release": "good", "axes": {"model": "alias", "prompt": "p"}, "pinned": {"model": "dated"}}


def of_both(query: Any, release: Any) -> bisect_ai.Answer:
    """The alias has come to fail a quarter of the queries; a broken scorer's data would fail the dated model too."""
    fails = int(query.id[1:]) % 4 == 0 and release["model"] in query["moved"].split()
    return bisect_ai.Answer(text="no" if fails else "yes")


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (
            "alias",
            r"with the pinned model it scores 100\.0 % now on the same \d+ queries: \d\d.* points \(.*\) of the drift come",
        ),
        (
            "alias dated",
            r"with the pinned model it scores [78]\d.* % now .* what moved is probably something else that both share",
        ),
    ],
)
def test_the_models_part_is_told_by_asking_what_the_release_pins(moved: str, said: str) -> None:
    scorers = {"correct": lambda query, answer: answer.text == "yes"}
    result = bisect_ai.drift(good=PINNED, target=of_both, scorers=scorers, queries=logged(moved=moved))
    assert result.verdict.kind == "drift"
    assert re.search(said, " ".join(terminal.render(result.report).split())), terminal.render(result.report)
    pinned, calls = result.report["drift"]["pinned"], result.report["usage"]["calls"]
    assert calls == 2 * pinned["queries"] == 2 * result.report["drift"]["queries"]
    assert pinned["share"] == pytest.approx(1.0 if moved == "alias" else 0.0, abs=0.01)
    assert all("pinned" in render(result.report) for render in (markdown.render, html.render))


def test_without_a_pinned_model_its_part_is_said_to_be_unknown() -> None:
    result = check(Provider({f"q{i}" for i in range(0, 400, 4)}), logged())
    assert "pinned" not in result.report["drift"]
    assert "could not tell which part is the model's, because good pins no other model" in " ".join(
        terminal.render(result.report).split()
    )


@pytest.mark.parametrize(("calls", "said"), [(5000, "it gave no answers:"), (66, "the budget leaves no calls for it")])
def test_a_pinned_model_that_cannot_be_asked_takes_nothing_from_the_drift(calls: int, said: str) -> None:
    def gone(query: Any, release: Any) -> bisect_ai.Answer:
        if release["model"] == "dated":
            raise RuntimeError("no such model")
        return of_both(query, release)

    scorers = {"correct": lambda query, answer: answer.text == "yes"}
    rows = logged(moved="alias")
    result = bisect_ai.drift(good=PINNED, target=gone, scorers=scorers, queries=rows, budget={"calls": calls})
    assert result.verdict.kind == "drift" and result.usage.calls <= calls
    told = " ".join(terminal.render(result.report).split())
    assert "could not tell which part comes with model by asking what is pinned" in told and said in told


def test_what_a_release_pins_is_checked() -> None:
    for pinned, said in (({"modle": "x"}, "did you mean"), ("dated", "must be a mapping")):
        with pytest.raises(InputError, match=said):
            bisect_ai.drift(good={**PINNED, "pinned": pinned}, target=of_both, scorers={"c": len}, queries=logged(20))


def test_what_stood_in_the_way_is_said() -> None:
    rows = [{key: value for key, value in row.items() if key != "output"} for row in logged(50)]
    result = check(Provider(set()), rows)
    assert result.verdict.kind == "inconclusive"
    assert (
        "could not tell whether good drifted, because only 0 of 50 sampled queries have a score or an answer"
        in result.verdict.sentence
    )
    assert check(Provider(set()), logged(10)).verdict.kind == "inconclusive"


def test_queries_without_a_score_then_are_no_advice_to_raise_the_budget() -> None:
    rows = [
        row if i < 20 else {key: value for key, value in row.items() if key != "output"} for i, row in enumerate(logged(40))
    ]
    reason = check(Provider(set()), rows).verdict.sentence
    assert "because 20 queries are too few to tell, and the other 20 have no score then" in reason and "budget" not in reason
    assert (
        "because 20 queries are too few to tell; raise log.sample or the budget"
        in check(Provider(set()), logged(20)).verdict.sentence
    )


def test_a_drift_of_a_metric_with_a_unit_needs_a_loss_in_that_unit() -> None:
    asked = {"good": {"model": "m"}, "queries": logged(40), "scorers": [{"kind": "cost", "name": "money"}]}
    with pytest.raises(ConfigError, match=r"audit\.detect is not set"):
        bisect_ai.drift(**asked, target=Provider(set()))


def test_logged_scores_are_the_reference_where_no_answer_was_logged_and_the_log_says_since_when() -> None:
    rows = [
        {
            "id": f"q{i}",
            "input": f"question {i}",
            "scores": {"correct": float(i < 300 or i % 2)},
            "at": (START + timedelta(minutes=i)).isoformat(),
        }
        for i in range(500)
    ]
    result = check(Provider(set()), rows)
    assert result.report["drift"]["reference"] == "logged scores"
    assert result.report["onset"]["low"] <= 301 <= result.report["onset"]["high"] + 1


def test_one_release_in_run_and_audit_points_to_drift(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("release: same\naxes: {prompt: p}\n")
    (tmp_path / "log.jsonl").write_text(json.dumps({"id": "1", "input": "x"}) + "\n")
    base = "log: log.jsonl\ntarget: {kind: recorded}\nscorers: [{kind: contains, name: c}]\n"
    for text in ("good: a.yaml\nbad: b.yaml\n", "good: a.yaml\n"):
        (tmp_path / "bisect.yaml").write_text(text + base)
        for command in ("run", "audit"):
            done = CliRunner().invoke(main, [command, str(tmp_path / "bisect.yaml")])
            assert (done.exit_code, "bisect-ai drift" in done.output) == (2, True), done.output


def test_drift_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("release: v1\naxes: {prompt: p}\n")
    (tmp_path / "app.py").write_text("def answer(query, release):\n    return 'no' if int(query.id[1:]) % 3 == 0 else 'yes'\n")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({**row, "reference": "yes"}) + "\n" for row in logged(200)))
    (tmp_path / "bisect.yaml").write_text(
        "good: good.yaml\nlog: log.jsonl\ntarget: {kind: python, function: app:answer}\n"
        "scorers: [{kind: contains, name: correct, expected: reference}]\n"
    )
    told = tmp_path / "report.json"
    done = CliRunner().invoke(main, ["drift", str(tmp_path / "bisect.yaml"), "--json", str(told)])
    assert done.exit_code == 1, done.output
    report = json.loads(told.read_text())
    assert report["verdict"]["kind"] == "drift"
    assert report["usage"]["calls"] <= 100
    assert "drift: v1 scored correct 100 % in its log and scores" in " ".join(done.output.split())
    assert "Do now rolling back would not help; pin what can be pinned" in " ".join(done.output.split())
    assert f"More bisect-ai report {report['run'][:8]}" in " ".join(done.output.split())
    assert report["loss"]["interval"][0] > 0
    assert (report["level"], "Sure proved: less than 1 in 20" in " ".join(done.output.split())) == (90, True)
    assert not report["drift"]["repeated"]
    again = " ".join(CliRunner().invoke(main, ["drift", str(tmp_path / "bisect.yaml")]).output.split())
    assert ("0 calls made" in again) == ("nothing was asked anew: these are the answers of a check in this hour" in again)


def test_what_ends_a_watch_without_a_verdict_is_written_for_ci_too(tmp_path: Path) -> None:
    (tmp_path / "bisect.yaml").write_text("good: none.yaml\nlog: none.jsonl\ntarget: {kind: python, function: app:answer}\n")
    for words in (["drift", str(tmp_path / "bisect.yaml")], ["onset", str(tmp_path / "none.jsonl")]):
        told = tmp_path / f"{words[0]}.xml"
        done = CliRunner().invoke(main, [*words, "--junit", str(told)])
        assert done.exit_code == 2, done.output
        assert "none." in told.read_text()


BEHIND: dict[str, Provider] = {}
"""What the application calls now."""


def application(query: Any, release: Any) -> bisect_ai.Answer:
    """An application of one version, whatever its provider becomes: answers in the store are those of the same target."""
    return BEHIND["now"](query, release)


def incident(provider: Provider, rows: list[dict[str, Any]], store: Path) -> None:
    """A run whose answers of the release stay in the store."""
    BEHIND["now"] = provider
    bisect_ai.run(
        good={"model": "m", "prompt": "p"},
        bad={"model": "m", "prompt": "other"},
        target=application,
        scorers={"correct": lambda query, answer: answer.text == "yes"},
        queries=rows,
        store=store,
        budget={"calls": 200},
        drill=False,
        keep_going=True,
    )


def again(provider: Provider, rows: list[dict[str, Any]], store: Path) -> bisect_ai.Result:
    """A drift check of the application."""
    BEHIND["now"] = provider
    return bisect_ai.drift(
        good={"model": "m", "prompt": "p"},
        target=application,
        scorers={"correct": lambda query, answer: answer.text == "yes"},
        queries=rows,
        store=store,
    )


def bare(n: int = 200) -> list[dict[str, Any]]:
    """A log that says nothing of how good answers were."""
    return [{"id": f"q{i}", "input": f"question {i}"} for i in range(n)]


def test_stored_answers_are_the_reference_where_the_log_has_none(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", bare()
    assert again(Provider(set()), rows, store).verdict.kind == "inconclusive"
    incident(Provider(set(), "m-1"), rows, store)
    moved = Provider({f"q{i}" for i in range(0, 200, 3)}, "m-2")
    found = again(moved, rows, store).report
    assert found["verdict"]["kind"] == "drift", found["verdict"]
    today = datetime.now(UTC).date().isoformat()
    assert found["drift"]["stored_on"] == today
    assert found["drift"]["reference"].startswith(f"answers stored by {today}, scored now")
    assert found["drift"]["changes"] == ["the provider changed: the model is m-2 now, it was m-1"]
    assert moved.calls >= 8  # asked anew: what the store holds is then, not now


def test_a_release_that_answers_as_its_stored_answers_did_not_drift(tmp_path: Path) -> None:
    """What the log says, of other days and perhaps by another scorer, is not mixed in: it would look like a drift."""
    store, rows = tmp_path / "store", [{**row, "scores": {"correct": 1.0}} for row in bare()]
    failing = {f"q{i}" for i in range(0, 200, 3)}
    assert again(Provider(failing), rows, store).verdict.kind == "drift"
    incident(Provider(failing), rows, store)
    result = again(Provider(failing), rows, store)
    assert result.verdict.kind in ("steady", "inconclusive") and result.report["loss"]["estimate"] == 0
    assert f"stored until {datetime.now(UTC).date().isoformat()}" in " ".join(terminal.render(result.report).split())


def test_an_earlier_drift_is_told_again_not_taken_for_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bisect_ai.facts import drift_facts

    failing = {f"q{i}" for i in range(0, 400, 3)}
    for hour in (1, 2):
        monkeypatch.setattr(drift_facts.time, "time", lambda hour=hour: hour * 3600.0)
        assert again(Provider(failing), logged(), tmp_path / "store").verdict.kind == "drift"
