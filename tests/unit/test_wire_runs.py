"""Whole runs on the wire: the releases learnt from two programs, and the incident named right in few calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.runs.learn_releases import axes_sent, common_texts
from bisect_ai.targets.wire.composing import SeenOnWire, WireCell
from bisect_ai.targets.wire.release_pieces import pieces_of
from bisect_ai.targets.wire.request_shapes import ChatShape
from tests.faults.provider import Provider
from tests.wire_shop import BAD, EXAMPLE, GOOD, QUERIES, shop

AGENT = Path(__file__).parent.parent / "wire_agents" / "plain_agent.py"


@pytest.fixture
def incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    monkeypatch.chdir(tmp_path)
    code = AGENT.read_text()
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "agent.py").write_text(code)
    shown = json.dumps(EXAMPLE)[1:-1].replace('\\"', '"')
    (tmp_path / "v1").mkdir()
    good = code.replace(shown, "Fill in the fields that the schema names.\\n").replace("customerId", "customer_id")
    (tmp_path / "v1" / "agent.py").write_text(good.replace("gpt-new", "gpt-old"))
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    scorers = [{"kind": "contains", "name": "correct", "expected": "reference"}]
    settings = {"log": "log.jsonl", "scorers": scorers, "budget": {"calls": 2000}, "concurrency": 4}
    (tmp_path / "bisect.yaml").write_text(json.dumps(settings))
    return tmp_path


def test_releases_are_learnt_and_the_incident_is_named_in_three_hundred_calls(
    incident: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", "--learn", f"{sys.executable} v1/agent.py", "--json", "report.json", "--", sys.executable, "v2/agent.py"]
    with Provider(shop) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        asked = len(provider.requests)
        again = CliRunner().invoke(main, command)
        assert again.exit_code == 0 and "learnt before" in again.output and len(provider.requests) == asked
    good, bad = (yaml.safe_load((incident / f"releases/learned-{side}.yaml").read_text())["axes"] for side in ("good", "bad"))
    assert bad["prompt"] == BAD["prompt"] and bad["model"] == {"model": "gpt-new", "temperature": 0.7}
    assert good["model"]["model"] == "gpt-old" and "schema names" in good["prompt"]["system"]
    assert list(good["tools"][0]["parameters"]["properties"]) == ["customer_id"]
    report = json.loads((incident / "report.json").read_text())
    assert report["verdict"]["kind"] == "cause"
    assert [(cause["axes"], cause["mode"]) for cause in report["verdict"]["causes"]] == [(["prompt", "tools"], "together")]
    assert "model" in report["verdict"]["keep"] and report["usage"]["calls"] <= 300


def test_a_program_that_sends_nothing_or_crashes_teaches_nothing(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider(shop) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        for words, why in (
            (["silent"], "sent nothing through the base URL"),
            (["crash"], "the good release's program does not run"),
        ):
            program = " ".join([sys.executable, "v1/agent.py", *words])
            done = CliRunner().invoke(main, ["run", "--learn", program, "--", sys.executable, "v2/agent.py"])
            assert done.exit_code == 4 and why in done.output
        done = CliRunner().invoke(main, ["run", "--learn", "python v1/agent.py"])
        assert done.exit_code == 2 and "write it after --" in done.output
    done = CliRunner().invoke(main, ["run", "--"])
    assert done.exit_code == 2 and "there is no program after --" in done.output


def test_check_tells_a_program_that_asks_nobody(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side, release in (("good", GOOD), ("bad", BAD)):
        (incident / f"{side}.yaml").write_text(yaml.safe_dump({"release": side, "axes": release}))
    with Provider(shop) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        for words, why in (
            (
                "silent",
                "the program sent nothing through the base URL that it was given, in 2 trials: it has to read OPENAI_BASE_URL",
            ),
            ("mute", "it said nothing and asked nothing; exit code 0: nothing on standard error"),
        ):
            target = {"kind": "wire", "run": f"{sys.executable} v2/agent.py {words}"}
            settings = yaml.safe_load((incident / "bisect.yaml").read_text()) | {
                "good": "good.yaml",
                "bad": "bad.yaml",
                "target": target,
            }
            (incident / f"{words}.yaml").write_text(yaml.safe_dump(settings))
            done = CliRunner().invoke(main, ["check", f"{words}.yaml"])
            assert why in " ".join(done.output.split()), done.output
        assert provider.requests == []


def test_what_differs_from_question_to_question_is_no_part_of_a_release() -> None:
    texts = [
        "Today is Monday.\nYou are the shop's helper.\nBe warm.\nDocument 1",
        "Today is Friday.\nYou are the shop's helper.\nBe warm.",
    ]
    assert common_texts(texts) == ["You are the shop's helper.\nBe warm."]
    assert common_texts(["Be kind.", "Be kind."]) == ["Be kind."] and common_texts(["", ""]) == []
    chat = {
        "model": "m",
        "top_p": 0.5,
        "messages": [{"role": "developer", "content": texts[0]}, {"role": "user", "content": "Hi"}],
    }
    side = {"model": "small", "messages": [{"role": "system", "content": "Classify."}]}
    found = axes_sent([[("/chat/completions", body)] for body in (chat, side, {**chat, "top_p": 0.6})])
    assert found == {"model": {"model": "m"}, "prompt": {"system": texts[0]}}


def test_an_answer_of_two_requests_teaches_both_prompts_and_both_models() -> None:
    """One small model puts the question in other words, another answers it, in a loop of tool calls."""

    def requests(day: str, documents: str) -> list[tuple[str, dict[str, Any]]]:
        first = {
            "model": "small",
            "temperature": 0,
            "messages": [{"role": "system", "content": "Say the question in other words."}],
        }
        system = f"Today is {day}.\nYou are the shop's helper.\nBe warm.\n{documents}"
        second = {"model": "large", "temperature": 1, "messages": [{"role": "system", "content": system}]}
        return [("/chat/completions", body) for body in (first, second, second)]

    found = axes_sent([requests("Monday", "One."), requests("Friday", "Two."), requests("Sunday", "Three.")[:2]])
    assert found == {
        "model": {"model": "small", "temperature": 0},
        "model_2": {"model": "large", "temperature": 1},
        "prompt": {"system_1": "Say the question in other words.", "system_2": "You are the shop's helper.\nBe warm."},
    }


def test_a_setting_goes_to_the_requests_of_its_own_model() -> None:
    good, bad = ({"model": {"model": "small"}, "model_2": {"model": "large", "temperature": t}} for t in (0.1, 0.9))
    cell = WireCell(pieces_of(good, bad), good)
    for model, there in (("small", None), ("large", 0.1)):
        body = {"model": model, "messages": [{"role": "user", "content": "?"}]}
        cell.compose(body, ChatShape(), SeenOnWire())
        assert body.get("temperature") == there
