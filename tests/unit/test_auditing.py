"""`audit` end to end: quiet when all is well, an alarm with the cause when not, evidence carried from week to week."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import ConfigError, TargetFailure

GOOD = {"prompt": "short", "model": "a", "tools": "x"}
BAD = {"prompt": "long", "model": "b", "tools": "y"}


def week(number: int, *, size: int = 200) -> list[dict[str, Any]]:
    return [{"id": f"w{number}-{i}", "input": f"{number} {i}", "reference": str(i)} for i in range(size)]


class App:
    """The application; `broken` says which queries the long prompt breaks."""

    version = "1"

    def __init__(self, share: float = 0.2) -> None:
        self.share, self.calls = share, 0

    def __call__(self, query: Any, release: Any) -> str:
        self.calls += 1
        breaks = release["prompt"] == "long" and int(query.reference) % 100 < 100 * self.share
        return "no" if breaks else str(query.reference)


def correct(query: Any, answer: Any) -> bool:
    return bool(answer.text == query.reference)


correct.version = "1"  # type: ignore[attr-defined]


def audit(app: App, store: Path | None, number: int = 0, size: int = 200, **given: Any) -> bisect_ai.Result:
    return bisect_ai.audit(
        good=GOOD,
        bad=BAD,
        queries=week(number, size=size),
        target=app,
        scorers={"correct": correct},
        store=store,
        **given,
    )


def test_all_well_is_said_after_few_calls() -> None:
    app = App(share=0.0)
    result = audit(app, None)
    assert result.report["audit"]["kind"] == "healthy"
    assert result.verdict.kind == "no_regression"
    assert "a loss of 5.0 points would have shown" in result.verdict.sentence
    assert result.usage.calls == app.calls == result.report["audit"]["calls"] <= 200


def test_a_regression_goes_on_to_its_cause() -> None:
    app = App()
    result = audit(app, None)
    assert result.report["audit"]["kind"] == "regression"
    assert [c.axes for c in result.verdict.causes] == [("prompt",)]
    assert result.report["audit"]["evidence"] >= result.report["audit"]["bound"] == 52 / 0.05
    assert app.calls <= 5000
    assert result.usage.calls == result.report["usage"]["calls"] == app.calls


def test_the_cap_on_calls_holds_for_audit_and_bisection_together() -> None:
    app = App()
    audit(app, None, budget={"calls": 150})
    assert app.calls <= 150


def test_a_second_audit_of_the_same_queries_costs_nothing_and_says_the_same(tmp_path: Path) -> None:
    app = App(share=0.0)
    first, calls = audit(app, tmp_path / "store"), app.calls
    again = audit(app, tmp_path / "store")
    assert app.calls == calls
    assert again.to_json() == first.to_json()


def test_evidence_is_carried_over_new_queries_only(tmp_path: Path) -> None:
    app = App()
    first = audit(app, tmp_path / "store", 0, size=12)
    assert first.report["audit"]["kind"] == "undecided"
    assert not first.report["audit"]["carried"]
    assert "the next audit of the same releases goes on from here" in first.verdict.sentence
    same = audit(app, tmp_path / "store", 0, size=11)  # queries that were audited before
    assert not same.report["audit"]["carried"]
    fresh = audit(app, tmp_path / "store", 1, size=12)
    assert fresh.report["audit"]["carried"]
    assert fresh.report["audit"]["evidence"] > first.report["audit"]["evidence"]


def test_another_release_starts_from_nothing(tmp_path: Path) -> None:
    app = App()
    audit(app, tmp_path / "store", 0, size=12)
    other = bisect_ai.audit(
        good=GOOD,
        bad={**BAD, "tools": "z"},
        queries=week(1, size=12),
        target=app,
        scorers={"correct": correct},
        store=tmp_path / "store",
    )
    assert not other.report["audit"]["carried"]


def test_history_tells_what_moved_the_metric(tmp_path: Path) -> None:
    app = App()
    audit(App(share=0.0), tmp_path / "store", 0)
    audit(app, tmp_path / "store", 1)
    told = bisect_ai.history(tmp_path / "store")
    assert list(told["kind"]) == ["healthy", "regression"]  # the search for the cause is part of its audit
    assert list(told["axes"]) == [(), ("prompt",)]
    assert list(told["question"]) == ["audit", "audit"] and list(told["carried"]) == [False, True]
    assert told["at"].is_monotonic_increasing
    assert (told["bad_value"] <= told["good_value"]).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(
        "def answer(query, release):\n"
        "    breaks = release['prompt'] == 'long' and int(query.reference) % 100 < 20\n"
        "    return 'no' if breaks else query.reference\n"
    )
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(q) for q in week(0)))
    for side, axes in (("good", GOOD), ("bad", BAD)):
        (tmp_path / f"{side}.yaml").write_text(json.dumps({"release": side, "axes": axes}))
    (tmp_path / "bisect.yaml").write_text(
        "good: good.yaml\nbad: bad.yaml\nlog: {path: log.jsonl}\ntarget: {kind: python, function: app:answer}\n"
        "scorers: [{kind: exact, name: correct, expected: reference}]\n"
    )
    return tmp_path


def test_on_the_command_line(folder: Path) -> None:
    config, lines, junit = str(folder / "bisect.yaml"), folder / "history.jsonl", folder / "junit.xml"
    done = CliRunner().invoke(main, ["audit", config, "--history", str(lines), "--junit", str(junit)])
    assert done.exit_code == 1, done.output
    assert "prompt" in done.stdout.splitlines()[0]
    row = json.loads(lines.read_text())
    assert (row["question"], row["kind"], row["axes"]) == ("audit", "regression", ["prompt"])
    assert (row["good"], row["bad"]) == ("good", "bad")
    assert "<failure" in junit.read_text()
    told = CliRunner().invoke(main, ["runs", "--history", "--store", str(folder / ".bisect-ai")])
    assert told.exit_code == 0
    assert "regression" in told.stdout
    assert "prompt" in told.stdout


def test_a_healthy_release_ends_with_0(folder: Path) -> None:
    (folder / "bad.yaml").write_text(json.dumps({"release": "bad", "axes": {**BAD, "prompt": "shorter"}}))
    done = CliRunner().invoke(main, ["audit", str(folder / "bisect.yaml")])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("no regression:")


def test_undecided_ends_with_3(folder: Path) -> None:
    done = CliRunner().invoke(main, ["audit", str(folder / "bisect.yaml"), "--max-calls", "12"])
    assert done.exit_code == 3, done.output
    assert done.stdout.startswith("undecided:")


def test_the_history_fits_80_columns(folder: Path) -> None:
    CliRunner().invoke(main, ["audit", str(folder / "bisect.yaml")])
    told = CliRunner().invoke(main, ["runs", "--history", "--store", str(folder / ".bisect-ai")]).stdout
    assert max(map(len, told.splitlines())) <= 80
    assert "regression:" in told and "prompt" in told


def test_the_same_audit_twice_adds_no_row_and_another_one_does(folder: Path) -> None:
    lines = folder / "audits.jsonl"
    lines.write_text('not ours\n{"run": 7}\n[]\n')
    asked = ["audit", str(folder / "bisect.yaml"), "--history", str(lines)]
    for _ in range(2):
        CliRunner().invoke(main, asked)
    assert len(lines.read_text().splitlines()) == 4
    CliRunner().invoke(main, [*asked, "--seed", "5", "--max-calls", "12"])
    assert [json.loads(line)["kind"] for line in lines.read_text().splitlines()[3:]] == ["regression", "undecided"]


def test_the_history_says_what_was_asked_of_which_releases(folder: Path) -> None:
    CliRunner().invoke(main, ["audit", str(folder / "bisect.yaml")])
    told = CliRunner().invoke(main, ["runs", "--history", "--store", str(folder / ".bisect-ai")]).stdout
    (row,) = [line for line in told.splitlines() if line.lstrip().startswith("20")]
    assert row.split()[1:4] == ["audit", "good", "→"]


class Priced(App):
    """The long prompt makes every answer dearer by a third."""

    def __call__(self, query: Any, release: Any) -> Any:
        dollars = 0.004 if release["prompt"] == "long" else 0.003
        return {"text": super().__call__(query, release), "usage": {"usd": dollars + int(query.reference) % 7 * 1e-4}}


def test_a_metric_with_a_unit_needs_a_loss_in_that_unit() -> None:
    asked: dict[str, Any] = {"good": GOOD, "bad": BAD, "queries": week(0), "scorers": [{"kind": "cost", "name": "money"}]}
    app = Priced(0.0)
    with pytest.raises(ConfigError, match=r"audit\.detect is not set, .* to the loss in USD that must not pass"):
        bisect_ai.audit(**asked, target=app)
    assert app.calls == 0
    for given in ({"audit": {"detect": 0.0005}}, {"tolerance": 0.0005}):
        result = bisect_ai.audit(**asked, target=app, **given)
        assert result.report["audit"]["detect"] == 0.0005
        assert [cause.axes for cause in result.verdict.causes] == [("prompt",)]


class Unreliable(App):
    """Breaks nothing by its prompt, and answers only the queries that `down` leaves."""

    down = 0.7

    def __call__(self, query: Any, release: Any) -> str:
        if int(query.reference) % 10 < 10 * self.down:
            raise ConnectionError("no route to the provider")
        return super().__call__(query, release)


def points(scale: float) -> dict[str, Any]:
    """A scorer of correct answers in points up to `scale`, which it does not declare."""
    return {"points": lambda query, answer: scale * (0.5 + 0.4 * (answer.text == query.reference))}


@pytest.mark.parametrize(("detect", "scale"), [(5, 1.0), (1.0, 1.0), (0.05, 0.01)])
def test_a_loss_that_no_score_seen_could_have_is_refused_before_all_is_called_well(detect: float, scale: float) -> None:
    """One of 5 points on scores between 0 and 1: any release would be well."""
    app = App(share=1.0)
    with pytest.raises(ConfigError, match=f"audit.detect {detect:g} .*points.*all scores so far lie between 0 and"):
        bisect_ai.audit(good=GOOD, bad=BAD, queries=week(0), target=app, scorers=points(scale), audit={"detect": detect})
    assert app.calls <= 64


@pytest.mark.parametrize(("settings", "told"), [({"audit": {"detect": 0.05}}, 1), ({}, 1), ({"audit": {"detect": 5}}, 0)])
def test_a_loss_that_is_next_to_nothing_on_the_scale_of_the_scores_is_told(settings: dict[str, Any], told: int) -> None:
    def jumbled(query: Any, answer: Any) -> float:
        return float(40 + int(query.reference) % 50)

    result = bisect_ai.audit(good=GOOD, bad=BAD, queries=week(0), target=App(), scorers={"points": jumbled}, **settings)
    notes = [w for w in result.report["warnings"] if w.startswith("audit.detect")]
    assert len(notes) == told
    assert all("whose first scores lie between 4" in w for w in notes)


def test_calls_that_fail_do_not_say_that_all_is_well(tmp_path: Path) -> None:
    app = Unreliable(share=0.0)
    with pytest.raises(
        TargetFailure, match=r"calls failed: \d+ of \d+ under good, .* no route .* cannot be said that nothing is lost"
    ):
        audit(app, tmp_path)
    assert audit(app, None, keep_going=True).report["audit"]["kind"] == "healthy"
    app.down = 0.0  # mended: the same audit goes on, what answered is not asked again
    before, app.calls = app.calls, 0
    assert audit(app, tmp_path).report["audit"]["kind"] == "healthy"
    assert before and app.calls


@pytest.mark.parametrize("wrong", [7, 1000], ids=["some wrong", "all right"])
def test_an_audit_of_answers_that_are_all_alike_has_an_interval(wrong: int) -> None:
    queries = [{"id": f"q{i}", "input": "?", "reference": "yes"} for i in range(1, 401)]
    answer = {
        "good": {"prompt": "a"},
        "bad": {"prompt": "b"},
        "queries": queries,
        "scorers": [{"kind": "exact", "name": "correct"}],
    }
    result = bisect_ai.audit(target=lambda query, release: "yes" if int(query.id[1:]) % wrong else "no", **answer)
    low, high = result.to_dict()["loss"]["interval"]
    assert result.verdict.kind == "no_regression" and -0.05 < low < 0 < high < 0.05
    assert bisect_ai.run(target=lambda query, release: "yes", **answer).to_dict()["loss"]["interval"][1] > 0
