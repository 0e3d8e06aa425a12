"""Canary keys through many scenarios: no byte of store, report, log or error holds one, in whatever form it came back."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

import bisect_ai
from bisect_ai.errors import BisectError, ReleaseError
from bisect_ai.provider import retry
from bisect_ai.provider.completion import model_parameters
from bisect_ai.provider.redaction import redact
from bisect_ai.report import html, junit, markdown, terminal
from tests.faults.provider import Provider, Say, calls_tool

CANARY = 'sk-canary/01+2 3"4567'
FORMS: dict[str, str] = {
    "raw": CANARY,
    "url": quote(CANARY, safe=""),
    "form": quote_plus(CANARY),
    "json": json.dumps(CANARY)[1:-1],
    "base64": base64.b64encode(CANARY.encode()).decode(),
}
MARKS = [form.encode() for form in FORMS.values()] + [b"canary"]
HEADER = "canary-of-a-service-77"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-quiet-000000")
    monkeypatch.setenv("BILLING_SECRET_2", CANARY)
    monkeypatch.setenv("DATABASE_URL", "postgres://me:canary-password@db/x")
    monkeypatch.setenv("STAGING_HEADER", f"Bearer {HEADER}")
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.001)


Scenario = Callable[[str], dict[str, Any]]


def _says(form: str, status: int) -> Say:
    return Say(status, body={"error": {"message": f"bad key {form} given"}})


PROVIDED: dict[str, Callable[[str], list[Say]]] = {
    **{str(status): (lambda form, status=status: [_says(form, status)]) for status in (400, 401, 404, 500)},  # type: ignore[misc]
    "unreadable": lambda form: [Say(body=f"<html>{form}".encode())],
    "answer": lambda form: [Say(text=f"the key is {form}")],
    "tool": lambda form: [Say(change=calls_tool("look", {"page": 1})), Say(text=f"{form}")],
    "header": lambda form: [Say(429, headers={"retry-after": "1e9", "x-told": form.replace("\n", "")})],
}


@pytest.mark.parametrize("name", PROVIDED)
@pytest.mark.parametrize("form", FORMS)
def test_no_key_that_a_provider_tells_is_kept(name: str, form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Provider(PROVIDED[name](FORMS[form])) as provider:
        model = provider.model("openai")
        _scan(
            tmp_path,
            capfd,
            good={"model": model, "prompt": "a"},
            bad={"model": model, "prompt": "b"},
            target={"kind": "litellm", "attempts": 1},
        )


@pytest.mark.parametrize("status", [200, 400, 422, 500])
@pytest.mark.parametrize("form", [*FORMS, "header"])
def test_no_key_that_a_service_tells_is_kept(status: int, form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = {**FORMS, "header": HEADER}[form]
    with Provider([Say(status, body={"error": told, "reason": told})]) as provider:
        target = {"kind": "http", "url": f"{provider.host}/x", "headers": {"Authorization": "STAGING_HEADER"}, "attempts": 1}
        _scan(tmp_path, capfd, target=target)


@pytest.mark.parametrize("form", [*FORMS, "database"])
@pytest.mark.parametrize("kind", ["raises", "infeasible", "exits"])
def test_no_key_that_a_function_raises_is_kept(kind: str, form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = {**FORMS, "database": "postgres://me:canary-password@db/x refused"}[form]
    error = {"raises": ValueError, "infeasible": bisect_ai.Infeasible, "exits": SystemExit}[kind]

    def function(query: Any, release: Any) -> str:
        raise error(told)

    _scan(tmp_path, capfd, target=function)


def _scan(folder: Path, capfd: pytest.CaptureFixture[str], **study: Any) -> None:
    """Run, and look at every byte that came of it."""
    written = ""
    try:
        report = bisect_ai.run(
            **{
                "good": {"prompt": "a", "model": "m"},
                "bad": {"prompt": "b", "model": "m"},
                "queries": [{"id": f"q{i}", "input": "hi", "reference": "Hello."} for i in range(4)],
                "scorers": [{"kind": "exact", "name": "correct"}],
                "store": str(folder / "store"),
                "budget": {"calls": 8},
                "drill": False,
                **study,
            }
        ).to_dict()
        pages = (
            terminal.render(report),
            markdown.render(report),
            junit.render(report),
            html.render(report, pictures=html.sketch_all),
        )
        written = "".join((json.dumps(report), json.dumps(report, ensure_ascii=False), *pages))
    except BisectError as error:
        written = f"{error} {error!r}"
    out, err = capfd.readouterr()
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    everything = kept + (written + out + err).encode("utf-8", "replace")
    assert kept and not [mark for mark in MARKS if mark in everything]


def test_redaction_leaves_no_part_of_a_longer_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE_KEY", "canary")
    monkeypatch.setenv("OTHER_TOKEN", "canary-and-more")
    assert redact("a canary-and-more b canary") == "a [redacted] b [redacted]"


def test_a_key_in_a_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for release in (
        {"model": {"model": "openai/x", "extra_headers": {"Authorization": "Bearer x"}}},
        {"model": {"model": "openai/x", "aws_secret_access_key": "x"}},
    ):
        with pytest.raises(ReleaseError, match="does not belong in the model axis"):
            model_parameters(release)
    with pytest.raises(ReleaseError, match=r"the axis prompt of release bad holds the value of .* BILLING_SECRET_2") as refused:
        bisect_ai.run(
            good={"prompt": "a"},
            bad={"prompt": f"use {CANARY}"},
            queries=[{"id": "q", "input": "hi"}, {"id": "r", "input": "hi"}],
            target=lambda query, release: "x",
            scorers=[{"kind": "length", "name": "length"}],
        )
    assert "canary" not in str(refused.value)


OFFLINE = """
import os, socket, sys
def refuse(*a, **k): raise SystemExit(f'a name was looked up: {a}')
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
from bisect_ai.cli import main
for command in sys.argv[1].split(';'):
    try:
        main(command.split())
    except SystemExit as ended:
        assert ended.code in (0, None), (command, ended.code)
assert 'PLANTED' not in os.environ
"""


def test_no_command_but_run_looks_up_a_name_and_no_dotenv_is_loaded(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PLANTED=1\n")
    commands = "--help;init starter;diff starter/releases/good.yaml starter/releases/bad.yaml;plan starter/bisect.yaml"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OPENAI_API_KEY": "sk-quiet-000000"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, commands], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-600:]
