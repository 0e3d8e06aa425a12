"""A release as it is now, frozen in a file that people can read and that loads as exactly that release."""

from __future__ import annotations

import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.release.load import load_release
from bisect_ai.runs.release_files import list_tools, snapshot_named, take_snapshot
from tests.unit.test_git_releases import commit, git

SYSTEM = "You answer for a shop.\n\nBe brief: no more than 1.10 lines.\n"
PARAMETER = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
ORDER = {"operationId": "getOrder", "summary": "An order", "parameters": [PARAMETER]}
OPENAPI = {"openapi": "3.0.0", "paths": {"/orders/{id}": {"get": ORDER}}}
TOOL = {"name": "search", "description": "Search", "inputSchema": {"type": "object", "properties": {"q": {"type": "string"}}}}
SERVER = """
import json, sys
print("a greeting that is no message")
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        said = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
    elif asked["method"] == "tools/list":
        first = {"tools": [TOOL], "nextCursor": "2"}
        said = {"tools": [{"name": "second", "inputSchema": {"type": "object"}, "annotations": {}}]} if asked["params"] else first
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
""".replace("TOOL", repr(TOOL))
RELEASE = """release: '1.10'
axes:
  prompt: {system: {file: prompts/system.md}, tone: {env: TONE}}
  tools: {openapi: api.json}
provenance: {prompt: {owner: writers}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(tmp_path, "init", "-q")
    files = {"prompts/system.md": SYSTEM, "api.json": json.dumps(OPENAPI), "server.py": SERVER, "release.yaml": RELEASE}
    commit(tmp_path, {**files})
    monkeypatch.setenv("TONE", "dry")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_snapshot_is_readable_and_loads_as_what_the_release_was(project: Path) -> None:
    done = CliRunner().invoke(main, ["snapshot", "release.yaml", "-o", "now.yaml"])
    assert done.exit_code == 0, done.output
    text = (project / "now.yaml").read_text()
    assert "system: |\n      You answer for a shop.\n\n      Be brief: no more than 1.10 lines.\n" in text
    before = load_release("release.yaml")
    (project / "prompts/system.md").unlink()
    frozen = load_release("now.yaml")
    assert frozen.digest == before.digest and frozen.name == "1.10"
    assert frozen.axes["prompt"] == {"system": SYSTEM, "tone": "dry"}
    assert [tool["name"] for tool in frozen.axes["tools"]] == ["getOrder"]  # type: ignore[index,call-overload,union-attr]
    told = frozen.provenance["prompt"]
    assert told["owner"] == "writers" and told["source"] == f"git:{git(project, 'rev-parse', 'HEAD')}"
    assert f"prompt  {str(told['digest'])[:12]}" in done.output


def test_references_reach_as_far_as_in_a_run(project: Path) -> None:
    (project / "bisect.yaml").write_text("good: releases/v1.yaml\n", encoding="utf-8")
    (project / "releases").mkdir()
    (project / "releases/v1.yaml").write_text("axes: {prompt: {system: {file: ../prompts/system.md}}}\n", encoding="utf-8")
    done = CliRunner().invoke(main, ["snapshot", "releases/v1.yaml", "-o", "now.yaml"])
    assert done.exit_code == 0, done.output
    assert load_release("now.yaml").axes["prompt"] == {"system": SYSTEM}


def test_what_is_not_committed_is_told(project: Path) -> None:
    (project / "prompts/system.md").write_text("Other\n")
    frozen, _ = take_snapshot(Path("release.yaml"), project / "x.yaml")
    assert str(frozen.provenance["prompt"]["source"]).endswith("-dirty")


def test_snapshots_of_a_folder_are_compared_by_day(project: Path) -> None:
    folder = project / "snapshots"
    folder.mkdir()
    take_snapshot(Path("release.yaml"), folder, now=datetime(2026, 11, 18, 9, tzinfo=UTC))
    (project / "prompts/system.md").write_text(SYSTEM.replace("brief", "kind"))
    take_snapshot(Path("release.yaml"), folder, now=datetime(2026, 11, 20, 9, tzinfo=UTC))
    today = date(2026, 11, 20)
    names = [snapshot_named(f"@{when}", folder, today=today) for when in ("now", "yesterday", "2026-11-19", "2026-11-20")]
    assert [path and path.name[:10] for path in names] == ["2026-11-20", "2026-11-18", "2026-11-18", "2026-11-20"]
    assert snapshot_named("@", folder) is snapshot_named("v1", folder) is None
    with pytest.raises(InputError, match=r"no snapshot for @2020-01-01 in .*: the oldest is @2026-11-18;"):
        snapshot_named("@2020-01-01", folder)
    done = CliRunner().invoke(main, ["diff", "@2026-11-18", "@now"])
    assert done.exit_code == 0 and "system:3" in done.output, done.output


def test_an_mcp_server_is_asked_by_snapshot_and_never_when_a_release_is_loaded(project: Path) -> None:
    (project / "release.yaml").write_text(f"axes: {{tools: {{mcp: '{sys.executable} server.py'}}}}\n")
    with pytest.raises(ReleaseError, match="are asked for by `bisect-ai snapshot` alone"):
        load_release("release.yaml")
    frozen, path = take_snapshot(Path("release.yaml"), project / "snapshots")
    assert frozen.axes["tools"] == [TOOL, {"name": "second", "inputSchema": {"type": "object"}}]
    assert load_release(path).digest == frozen.digest


class _Mcp(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result: dict[str, Any] = {"tools": [TOOL]} if asked["method"] == "tools/list" else {"capabilities": {}}
        if asked["method"] == "tools/list" and self.headers["mcp-session-id"] != "s1":
            self.send_error(400)
            return
        reply = json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": result})
        body = f"event: message\ndata: {reply}\n\n".encode() if "id" in asked else b""
        self.send_response(200 if "id" in asked else 202)
        self.send_header("mcp-session-id", "s1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Mcp)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_mcp_server_is_asked_over_http(served: str, tmp_path: Path) -> None:
    assert list_tools(served, tmp_path) == [TOOL]


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("no-such-server", "cannot start no-such-server"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"broken\")'", "it ended with exit code 1: broken"),
        ("http://127.0.0.1:1/mcp", "refused"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(server: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"cannot list the tools of the MCP server") as raised:
        list_tools(server, tmp_path)
    assert said in str(raised.value)


LANGFUSE = {
    "name": "support",
    "version": 3,
    "type": "chat",
    "config": {"model": "gpt-4o"},
    "labels": ["production"],
    "tags": [],
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "{{question}}"},
]


@pytest.mark.parametrize(
    ("name", "content", "axis"),
    [
        (
            "langfuse.json",
            {**LANGFUSE, "prompt": CHAT},
            {"system": "Be brief.", "user": "{{question}}", "examples": [{"input": "Hi", "output": "Hello."}]},
        ),
        ("text.json", {**LANGFUSE, "type": "text", "prompt": "Be brief."}, {"system": "Be brief."}),
        ("asked.json", {**LANGFUSE, "type": "text", "prompt": "Answer {{ question }}"}, {"user": "Answer {{ question }}"}),
        ("promptfoo.json", CHAT[:1] + CHAT[3:], {"system": "Be brief.", "user": "{{question}}"}),
        ("prompt.txt", "Answer {{question}}\n", {"user": "Answer {{question}}\n"}),
    ],
)
def test_a_registrys_export_is_the_prompt(project: Path, name: str, content: Any, axis: dict[str, Any]) -> None:
    (project / name).write_text(content if isinstance(content, str) else json.dumps(content))
    (project / "release.yaml").write_text(f"axes: {{prompt: {{registry: {name}}}, model: {{model: m}}}}\n")
    release, _ = take_snapshot(project / "release.yaml", project / "now.yaml")
    assert release.axes["prompt"] == axis
    assert load_release(project / "now.yaml").axes["prompt"] == axis


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("one\n---\ntwo\n", "'export.txt' holds 2 prompts; a release has one"),
        (
            '[{"type": "placeholder", "name": "history"}]',
            "message 1 of 'export.json' is a placeholder, which a release cannot hold",
        ),
        ('[{"role": "assistant", "content": "x"}]', "do not take turns"),
        ("[1]", "'export.json' is no prompt"),
    ],
)
def test_an_export_that_is_no_prompt_is_one_line(project: Path, content: str, said: str) -> None:
    name = "export.json" if content.startswith("[") else "export.txt"
    (project / name).write_text(content)
    (project / "release.yaml").write_text(f"axes: {{prompt: {{registry: {name}}}, model: {{model: m}}}}\n")
    with pytest.raises(ReleaseError, match=re.escape(said)):
        take_snapshot(project / "release.yaml", project / "now.yaml")
