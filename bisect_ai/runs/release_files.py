"""Releases as files that load as exactly these releases, and a release as it is now, frozen in one.

A file with a `digest` is frozen: its values stand for themselves (no reference in it is resolved), and loading it fails when the
content was changed. A snapshot resolves every reference and notes digests, the git commit and the time. The tools that an MCP server
offers (`tools/list`) are asked for by its command (standard input and output) or its URL (streamable HTTP): only the list, no tool is
called, and nothing of the server's but names, descriptions and schemas is kept.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bisect_ai.canonical import canonical, digest, json_object, plain
from bisect_ai.errors import BisectError, InputError, ReleaseError
from bisect_ai.provider.redaction import holds_key, line_of, redact, secret_values
from bisect_ai.provider.redaction.key_shapes import is_random
from bisect_ai.release.check import diff_releases, reference_root, tree_of
from bisect_ai.release.file_text import shown
from bisect_ai.release.git import git_output
from bisect_ai.release.load import Release, check_pair, compose, load_release
from bisect_ai.release.pair import load_pair, revision_of
from bisect_ai.store.artefacts import fill, making_folder, writing
from bisect_ai.targets.programs import Program, ProgramEnded

# What turns text around or does not show: a file that people review must not hold it raw.
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb]"
)
# Characters of a credential, and of one of letters and digits, below which finding it in a release is taken for chance.
SHORTEST_KEY, SHORTEST_RANDOM = 12, 8


def rolled_back(good: Release, bad: Release, axes: Collection[str], *, measured: str) -> Release:
    """`bad` with `axes` taken back to `good`; the provenance of each axis says where it is from, and of those, what `measured` it."""
    content = compose(good, bad, [axis for axis in dict.fromkeys((*good.axes, *bad.axes)) if axis not in axes])
    provenance = {axis: _whence(axis, good if axis in axes else bad, measured if axis in axes else None) for axis in content}
    name = f"{bad.name}, {' and '.join(sorted(axes))} of {good.name}"
    return Release(name, content, provenance, digest(dict(content)))


def _whence(axis: str, side: Release, measured: str | None) -> Mapping[str, Any]:
    known = dict(side.provenance.get(axis, {}))
    return {**known, "release": side.name, **({} if measured is None else {"why": measured})}


def check_no_key(release: Release) -> None:
    """Raises `ReleaseError` when an axis holds the value of a credential: it would be stored, and shown in reports."""
    for axis, value in release.axes.items():
        text = canonical([axis, plain(value)])
        for where, secrets in secret_values().items():
            if any(_is_telling_secret(secret) and json.dumps(secret)[1:-1] in text for secret in secrets):
                raise ReleaseError(
                    f"the axis {redact(axis)} of release {redact(release.name)} holds the value of {where}; a release is stored and "
                    "shown: take the credential out, targets read it from the environment (what is no credential: name its variable "
                    "under secrets.ignore)"
                )


def _is_telling_secret(secret: str) -> bool:
    return len(secret) >= SHORTEST_KEY or is_random(secret, shortest=SHORTEST_RANDOM)


def write_release(release: Release, path: Path) -> None:
    """Write a frozen release file: JSON where the name ends in .json, else YAML. Raises `ReleaseError`, the old file kept.

    It is read back before it takes the place of an older one.
    """
    envelope = {
        "release": release.name,
        "digest": release.digest,
        "axes": _plain_for_yaml(release.axes),
        "provenance": _plain_for_yaml(release.provenance),
        **({"pinned": _plain_for_yaml(release.pinned)} if release.pinned else {}),
    }
    if holds_key(json.dumps(envelope, ensure_ascii=False)):
        raise ReleaseError(
            f"cannot write the release {shown(path)}: it holds what looks like a key and would spread it; take it out of the release, "
            "or say `secrets: {shapes: false}` in bisect.yaml if it is none"
        )
    try:
        with writing(path, what="the release") as beside:
            fill(beside, _yaml_text(envelope, path))
            if beside.is_file() and load_release(beside).digest != release.digest:
                raise ReleaseError("it does not read back as what was written; give it a name that ends in .json")
    except (ReleaseError, ValueError) as error:
        raise ReleaseError(f"cannot write the release {shown(path)}: {error}") from error
    except BisectError as error:
        raise ReleaseError(str(error)) from error


def _yaml_text(envelope: dict[str, Any], path: Path) -> str:
    if path.suffix.lower() == ".json":
        return json.dumps(envelope, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    return yaml_text(envelope)


def yaml_text(value: Mapping[str, Any]) -> str:
    """The YAML of plain JSON that people review: letters as they are, hidden characters as escapes in double quotes."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes text with hidden characters in double quotes, where escapes mean what they say."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = '"' if _HIDDEN.search(text) else "|" if "\n" in text else None  # a block, where YAML can have the text as one
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    dumped: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04X}", dumped)


def _plain_for_yaml(value: Any) -> Any:
    """Ordinary dicts and lists, as the YAML writer wants them."""
    if isinstance(value, Mapping):
        return {key: _plain_for_yaml(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_for_yaml(item) for item in value]
    return value


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
