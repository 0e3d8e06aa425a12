"""The tools that an MCP server offers (`tools/list`), by its command (standard input and output) or its URL (streamable HTTP).

Only the list is asked for: no tool is called, and nothing of the server's but names, descriptions and schemas is kept.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bisect_ai.errors import ReleaseError
from bisect_ai.provider.failure_text import line_of
from bisect_ai.release.quoting import shown
from bisect_ai.targets.programs import Program, ProgramEnded

_SECONDS = 30.0
_MOST_PAGES = 50
_HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bisect-ai", "version": "1"}}
_KEPT = ("name", "description", "inputSchema")
Call = Callable[[str, Mapping[str, Any]], Any]
"""Method and parameters to the result."""


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


def _tools(call: Call) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    for _ in range(_MOST_PAGES):
        page = call("tools/list", cursor)
        tools += [{key: tool[key] for key in _KEPT if tool.get(key) is not None} for tool in page["tools"]]
        if not page.get("nextCursor"):
            return tools
        cursor = {"cursor": page["nextCursor"]}
    raise ValueError(f"its list has more than {_MOST_PAGES} pages")


def _result(reply: Mapping[str, Any]) -> Any:
    if "error" in reply:
        raise ValueError(f"it said: {reply['error']}")
    return reply["result"]


def _over_pipes(server: str, folder: Path) -> list[dict[str, Any]]:
    program = Program(shlex.split(server), folder=folder, environment={})
    numbers = iter(range(1, 1000))

    def call(method: str, params: Mapping[str, Any]) -> Any:
        number = next(numbers)
        program.send(_message(method, params, number))
        until = time.monotonic() + _SECONDS
        while (line := program.line(until)) is not None:
            reply = _object(line)
            if reply.get("id") == number and "method" not in reply:
                return _result(reply)
        raise ProgramEnded(f"it ended with {program.why()}")

    try:
        call("initialize", _HELLO)
        program.send(_message("notifications/initialized", {}))
        return _tools(call)
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
            text = post(_message(method, params, number)).text
            lines = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")] or [text]
            return _result(next(reply for line in lines if (reply := _object(line)).get("id") == number))

        call("initialize", _HELLO)
        post(_message("notifications/initialized", {}))
        return _tools(call)


def _message(method: str, params: Mapping[str, Any], number: int | None = None) -> bytes:
    told = {"jsonrpc": "2.0", "method": method, "params": dict(params), **({} if number is None else {"id": number})}
    return json.dumps(told).encode("ascii") + b"\n"


def _object(line: str) -> Mapping[str, Any]:
    """A line as a message; an empty one when it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}
