"""`--notify`: places are told, no address or key is shown, and what fails or never answers changes no verdict."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bisect_ai.cli import main, notifying

ROWS = "".join(
    json.dumps({"id": f"{i}", "input": f"{i}?", "release": side, "scores": {"correct": int(side == "good" or i % 2)}}) + "\n"
    for i in range(80)
    for side in ("good", "bad <!channel> *x*")
)


@dataclass
class Place:
    """A server on this machine: what came, and what it answers by method."""

    came: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    status: int = 200
    answers: dict[str, Any] = field(default_factory=dict)
    hang: float = 0.0
    refused: set[str] = field(default_factory=set)
    address: str = ""


@pytest.fixture
def place() -> Iterator[Place]:
    told = Place()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            told.came.append((self.command, self.path, dict(self.headers), json.loads(body) if body else None))
            time.sleep(told.hang)
            text = json.dumps(told.answers.get(self.command, {})).encode()
            self.send_response(403 if self.path in told.refused else told.status)
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 (the names that http.server looks for)

        def log_message(self, *words: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def compare(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    log = tmp_path / "scores.jsonl"
    log.write_text(ROWS)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(*sinks: str) -> Result:
        return CliRunner().invoke(main, ["compare", str(log), "--by", "release", *(w for s in sinks for w in ("--notify", s))])

    return run


def test_a_webhook_gets_the_verdict_as_json(place: Place, compare: Any) -> None:
    done = compare(f"webhook:{place.address}/hook")
    assert done.exit_code == 1, done.output
    ((method, path, _, body),) = place.came
    assert (method, path) == ("POST", "/hook")
    assert (body["schema"], body["question"], body["outcome"], body["kind"]) == (
        "bisect-ai/verdict@1",
        "compare",
        "worse",
        "regression",
    )
    assert body["loss"] == pytest.approx(0.5) and body["interval"][0] > 0 and "falls" in body["sentence"]


def test_slack_gets_plain_text_that_calls_nobody(place: Place, compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"{place.address}/services/T0/B0/verysecretpart")
    done = compare("slack:HOOK")
    assert done.exit_code == 1 and "verysecret" not in done.output
    ((_, path, _, body),) = place.came
    assert path.endswith("verysecretpart")
    assert body["text"] == "bisect-ai compare: worse" and body["blocks"][0]["text"]["type"] == "plain_text"


@pytest.mark.parametrize("trouble", ["status", "redirect", "refused", "unset", "hang", "no address"])
def test_a_place_that_fails_changes_nothing_and_shows_nothing(
    place: Place, compare: Any, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(notifying, "SECONDS", 1.0)
    where = {"refused": "http://127.0.0.1:1", "no address": "verysecret"}.get(trouble, place.address)
    if trouble != "unset":
        monkeypatch.setenv("HOOK", f"{where}/verysecret")
    place.status = {"status": 500, "redirect": 302}.get(trouble, 200)
    place.hang = 3.0 if trouble == "hang" else 0.0
    start = time.monotonic()
    done = compare("slack:HOOK")
    assert done.exit_code == 1, done.output
    assert "--notify slack: not told: " in done.stderr and "the verdict stands" in done.stderr
    assert "verysecret" not in done.output and "Traceback" not in done.output
    assert time.monotonic() - start < 30
    assert len(place.came) <= 1


@pytest.mark.parametrize(
    "sink", ["slack:https://hooks.example.org/x", "mail", "webhook:", "github:x", "webhook:file:///etc/passwd"]
)
def test_what_is_no_place_is_one_line_before_anything_is_done(compare: Any, sink: str) -> None:
    done = compare(sink)
    assert done.exit_code == 2 and "cannot use --notify" in done.output and "hooks.example" not in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.fixture
def github(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("GITHUB_API_URL", place.address)
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_verysecret")
    monkeypatch.setenv("GITHUB_REF", "refs/pull/7/merge")
    return place


def test_the_comment_of_a_pull_request_is_edited_not_repeated(github: Place, compare: Any) -> None:
    github.answers["GET"] = []
    assert compare("github").exit_code == 1
    assert [(m, p.partition("?")[0]) for m, p, _, _ in github.came] == [
        ("GET", "/repos/o/r/issues/7/comments"),
        ("POST", "/repos/o/r/issues/7/comments"),
    ]
    body = github.came[-1][3]["body"]
    assert body.startswith("<!-- bisect-ai compare -->\n") and github.came[-1][2]["Authorization"] == "Bearer ghs_verysecret"
    github.came.clear()
    github.answers["GET"] = [{"id": 4, "body": "hello"}, {"id": 5, "body": body}, {"id": 6, "body": body}]
    github.refused = {"/repos/o/r/issues/comments/5"}  # somebody else copied the marker
    assert compare("github").exit_code == 1
    assert [(m, p) for m, p, _, _ in github.came[1:]] == [("PATCH", f"/repos/o/r/issues/comments/{n}") for n in (5, 6)]


def test_without_a_pull_request_a_commit_gets_a_check(github: Place, compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
    monkeypatch.setenv("GITHUB_SHA", "f" * 40)
    monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)
    assert compare("github").exit_code == 1
    ((method, path, _, body),) = github.came
    assert (method, path) == ("POST", "/repos/o/r/check-runs")
    assert (body["head_sha"], body["conclusion"], body["name"]) == ("f" * 40, "failure", "bisect-ai compare")


def test_langfuse_gets_a_trace_with_the_verdict_as_score(place: Place, compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOST", place.address), ("PUBLIC_KEY", "pk-lf-1"), ("SECRET_KEY", "sk-lf-verysecret")):
        monkeypatch.setenv(f"LANGFUSE_{name}", value)
    place.status = 207
    place.answers["POST"] = {"successes": [], "errors": []}
    done = compare("langfuse")
    assert done.exit_code == 1 and "not told" not in done.output
    ((_, path, headers, body),) = place.came
    assert path == "/api/public/ingestion" and headers["Authorization"].startswith("Basic ")
    kinds = [(event["type"], event["body"]["name"]) for event in body["batch"]]
    assert kinds == [("trace-create", "bisect-ai compare"), ("score-create", "verdict"), ("score-create", "loss")]
    place.answers["POST"] = {"successes": [], "errors": [{"id": "x", "status": 400}]}
    assert "1 events were refused" in compare("langfuse").stderr


def test_phoenix_gets_annotations_on_a_span_that_is_made_once(
    place: Place, compare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", f"{place.address}/v1/traces")
    monkeypatch.setenv("PHOENIX_API_KEY", "px-verysecret")
    monkeypatch.setenv("PHOENIX_PROJECT", "support bot/2")
    place.refused = {"/v1/span_annotations?sync=true"}  # there is no such span yet
    done = compare("phoenix")
    assert done.exit_code == 1 and "not told" not in done.output and "verysecret" not in done.output
    first, made, told = place.came
    assert [first[1], made[1], told[1]] == [
        "/v1/span_annotations?sync=true",
        "/v1/projects/support%20bot%2F2/spans",
        "/v1/span_annotations",
    ]
    assert told[2]["Authorization"] == "Bearer px-verysecret"
    (span,) = made[3]["data"]
    notes = told[3]["data"]
    assert [(note["name"], note["span_id"]) for note in notes] == [(n, span["context"]["span_id"]) for n in ("verdict", "loss")]
    assert notes[0]["result"]["label"] == "worse" and notes[1]["result"]["score"] == pytest.approx(0.5)
    place.came.clear()
    place.refused = set()
    assert compare("phoenix").exit_code == 1
    ((_, path, _, body),) = place.came  # told again: the same span, the same identifiers
    assert path.endswith("sync=true") and body == told[3]


def test_a_variable_that_is_missing_is_told_before_the_work(compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOOK", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    done = compare("slack:HOOK", "langfuse")
    assert done.exit_code == 1, done.output
    first, second = done.stderr.splitlines()[:2]
    assert first == (
        "bisect-ai: --notify slack: will not be told, as the variable HOOK is not set: set it and begin again, or go on without"
    )
    assert "the variables LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are not set" in second
