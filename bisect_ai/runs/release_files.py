"""A release as it is now, frozen in a file: a snapshot; and what changed between two releases.

A snapshot resolves every reference and notes digests, the git commit and the time. The tools that an MCP server
offers (`tools/list`) are asked for by its command (standard input and output) or its URL (streamable HTTP): only the list, no tool is
called, and nothing of the server's but names, descriptions and schemas is kept.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bisect_ai.canonical import digest, json_object
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.provider.redaction import line_of, shown
from bisect_ai.release.check import diff_releases, reference_root, tree_of
from bisect_ai.release.load import Release, check_pair, load_release
from bisect_ai.release.pair import load_pair, revision_of
from bisect_ai.release.source_files import git_output
from bisect_ai.runs.release_writer import check_no_key, write_release
from bisect_ai.store.artefacts import making_folder
from bisect_ai.targets.programs import Program, ProgramEnded


def diff_of(good: Any, bad: Any, *, config: Path) -> dict[str, Any]:
    """The tree of changes between two releases as plain JSON; `config` says what the axes of git revisions are."""
    if not any(revision_of(side, folder=Path()) for side in (good, bad)):
        return diff_releases(good, bad)
    from bisect_ai.config import RepositorySettings, checked_part, heed_secrets_of

    written = heed_secrets_of(config)
    rules = checked_part(
        RepositorySettings, {k: written[k] for k in RepositorySettings.model_fields if k in written}, where=str(config)
    )
    pair = load_pair(good, bad, folder=config.resolve().parent, rules=rules.repository)
    check_pair(pair.good, pair.bad)
    return tree_of(pair.good, pair.bad)


FOLDER = "snapshots"
_STAMP = "%Y-%m-%dT%H%M%SZ"
_NAMED = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{6}Z)")  # the time in the name of a snapshot
_WHEN = re.compile(r"@(now|yesterday|\d{4}-\d{2}-\d{2})")  # which snapshot is asked for


def take_snapshot(source: Path, to: Path, *, now: datetime | None = None) -> tuple[Release, Path]:
    """The frozen release and the file that it was written to (`to`, or in a folder `to` one named by the time).

    MCP servers are asked for their tools (`{mcp: "command or URL"}`). Raises `ReleaseError`.
    """
    taken = (now or datetime.now(UTC)).replace(microsecond=0)
    release = load_release(source, root=reference_root(source), mcp=list_tools)
    check_no_key(release)
    commit = _commit(source)
    provenance = {
        axis: MappingProxyType(
            {
                **({"source": f"git:{commit}"} if commit else {}),
                **release.provenance.get(axis, {}),
                "digest": digest(value),
                "taken": taken.isoformat(),
            }
        )
        for axis, value in release.axes.items()
    }
    frozen = replace(release, provenance=MappingProxyType(provenance))
    path = to / f"{taken.strftime(_STAMP)}.yaml" if to.is_dir() or not to.suffix else to
    with making_folder(path.parent, what="the snapshot", then="name another place with -o"):
        write_release(frozen, path)
    return frozen, path


def snapshot_named(text: str, folder: Path, *, today: date | None = None) -> Path | None:
    """The snapshot in `folder` that `@now` (the newest), `@yesterday` or `@2026-11-20` (the newest of then or before) means.

    None: the text means something else. Raises `InputError` when there is no such snapshot.
    """
    found = _WHEN.fullmatch(text)
    if found is None:
        return None
    today = today or datetime.now(UTC).date()
    until = today if found[1] == "now" else today - timedelta(days=1) if found[1] == "yesterday" else _day(found[1])
    taken = sorted((_time_taken(path), path) for path in folder.glob("*.yaml")) if folder.is_dir() else []
    fitting = [path for at, path in taken if found[1] == "now" or at.date() <= until]
    if not fitting:
        oldest = f": the oldest is @{taken[0][0].date()}" if taken else ""
        what = f"no snapshot for {text} in {shown(folder)}{oldest}"
        raise InputError(f"{what}; `bisect-ai snapshot release.yaml -o {FOLDER}/` takes one")
    return fitting[-1]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as bad:
        raise InputError(f"cannot look up the snapshot @{text}: {bad}") from bad


def _time_taken(path: Path) -> datetime:
    named = _NAMED.search(path.name)
    if named is not None:
        return datetime.strptime(named[1], _STAMP).replace(tzinfo=UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _commit(source: Path) -> str | None:
    """The commit that the release file's folder is at; with `-dirty` when something there is not committed; None: no repository."""
    folder = source.resolve().parent
    try:
        commit = git_output(folder, "rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
        changed = git_output(folder, "status", "--porcelain", "--", ".").strip()
    except ReleaseError:
        return None
    return f"{commit}-dirty" if changed else commit


def summary_of(release: Release, path: Path) -> Mapping[str, Any]:
    """What is told of a snapshot: `file`, `release`, `digest`, and the axes with theirs."""
    axes = {axis: record["digest"] for axis, record in release.provenance.items()}
    return {"file": str(path), "release": release.name, "digest": release.digest, "axes": axes}


# That a server may take for one answer.
_SECONDS = 30.0
# Pages of a list of tools: a server that names a next one for ever is left.
_MOST_PAGES = 50
_HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bisect-ai", "version": "1"}}
_KEPT = ("name", "description", "inputSchema")
# Method and parameters to the result.
Call = Callable[[str, Mapping[str, Any]], Any]


def list_tools(server: str, folder: Path) -> list[dict[str, Any]]:
    """The tools of a server, in its order; `folder`: where its command runs. Raises `ReleaseError` naming the server."""
    try:
        if server.startswith(("http://", "https://")):
            return _over_http(server)
        return _over_pipes(server, folder)
    except (ProgramEnded, TimeoutError, ValueError, KeyError, TypeError, OSError) as failure:
        why = f"no answer within {_SECONDS:g} s" if isinstance(failure, TimeoutError) else line_of(failure)
        raise ReleaseError(
            f"cannot list the tools of the MCP server {shown(server)}: {why}; start it by hand to see why"
        ) from failure


def _tools_by_pages(call: Call) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    for _ in range(_MOST_PAGES):
        page = call("tools/list", cursor)
        tools += [{key: tool[key] for key in _KEPT if tool.get(key) is not None} for tool in page["tools"]]
        if not page.get("nextCursor"):
            return tools
        cursor = {"cursor": page["nextCursor"]}
    raise ValueError(f"its list has more than {_MOST_PAGES} pages")


def _reply_result(reply: Mapping[str, Any]) -> Any:
    if "error" in reply:
        raise ValueError(f"it said: {reply['error']}")
    return reply["result"]


def _over_pipes(server: str, folder: Path) -> list[dict[str, Any]]:
    program = Program(shlex.split(server), folder=folder, environment={})
    numbers = iter(range(1, 1000))

    def call(method: str, params: Mapping[str, Any]) -> Any:
        number = next(numbers)
        program.send(_request_line(method, params, number))
        until = time.monotonic() + _SECONDS
        while (line := program.line(until)) is not None:
            reply = _message_object(line)
            if reply.get("id") == number and "method" not in reply:
                return _reply_result(reply)
        raise ProgramEnded(f"it ended with {program.why()}")

    try:
        call("initialize", _HELLO)
        program.send(_request_line("notifications/initialized", {}))
        return _tools_by_pages(call)
    finally:
        program.end()


def _over_http(server: str) -> list[dict[str, Any]]:
    import httpx

    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    numbers = iter(range(1, 1000))
    with httpx.Client(timeout=_SECONDS, follow_redirects=False, headers=headers) as client:

        def post(message: bytes) -> httpx.Response:
            try:
                response = client.post(server, content=message)
            except httpx.HTTPError as failure:
                raise ValueError(str(failure) or type(failure).__name__) from failure
            if response.status_code >= 300:
                raise ValueError(f"it answered with status {response.status_code}: {response.text[:200]}")
            if session := response.headers.get("mcp-session-id"):
                client.headers["mcp-session-id"] = session
            return response

        def call(method: str, params: Mapping[str, Any]) -> Any:
            number = next(numbers)
            text = post(_request_line(method, params, number)).text
            lines = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")] or [text]
            return _reply_result(next(reply for line in lines if (reply := _message_object(line)).get("id") == number))

        call("initialize", _HELLO)
        post(_request_line("notifications/initialized", {}))
        return _tools_by_pages(call)


def _request_line(method: str, params: Mapping[str, Any], number: int | None = None) -> bytes:
    told = {"jsonrpc": "2.0", "method": method, "params": dict(params), **({} if number is None else {"id": number})}
    return json.dumps(told).encode("ascii") + b"\n"


def _message_object(line: str) -> Mapping[str, Any]:
    """A line as a message; an empty one when it is none."""
    return json_object(line) or {}
