"""Prompts as a registry exports them, as the `prompt` axis: Langfuse's prompt object, chat messages (promptfoo's JSON), or a text.

A text with a variable (`{{question}}`) is what is asked, one without is the system's. Of chat messages those of the system come first,
the last one of the user is what is asked, and the turns between are worked examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bisect_ai.canonical import Json
from bisect_ai.errors import ReleaseError
from bisect_ai.release.quoting import shown

_VARIABLE = re.compile(r"\{\{\s*[A-Za-z_][\w.]*\s*\}\}")
_SEPARATOR = re.compile(r"^---\s*$", re.MULTILINE)
_SYSTEM = ("system", "developer")


def exported_prompt(value: Json, name: str) -> dict[str, Json]:
    """The prompt axis of an export: `system`, `user`, `examples`. Raises `ReleaseError` naming what it cannot carry."""
    if isinstance(value, dict) and "prompt" in value:
        value = value["prompt"]
    if isinstance(value, str):
        if (parts := [part for part in _SEPARATOR.split(value) if part.strip()]) and len(parts) > 1:
            raise ReleaseError(f"{shown(name)} holds {len(parts)} prompts; a release has one: name a file for each")
        return {"user" if _VARIABLE.search(value) else "system": value}
    if isinstance(value, list) and value and all(isinstance(message, Mapping) for message in value):
        return _of_messages([dict(message) for message in value if isinstance(message, Mapping)], name)
    raise ReleaseError(
        f"{shown(name)} is no prompt: it is Langfuse's export, a list of messages with role and content, or a text"
    )


def _of_messages(messages: Sequence[Mapping[str, Any]], name: str) -> dict[str, Json]:
    for number, message in enumerate(messages):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            kind = "a placeholder" if message.get("type") == "placeholder" else "no text with a role"
            raise ReleaseError(
                f"message {number + 1} of {shown(name)} is {kind}, which a release cannot hold; export it filled"
            )
    system = "\n\n".join(m["content"] for m in messages if m["role"] in _SYSTEM)
    spoken = [m for m in messages if m["role"] not in _SYSTEM]
    asked = {"user": spoken.pop()["content"]} if spoken and spoken[-1]["role"] == "user" else {}
    return {**({"system": system} if system else {}), **asked, **_examples(spoken, name)}


def _examples(spoken: Sequence[Mapping[str, Any]], name: str) -> dict[str, Json]:
    pairs = list(zip(spoken[::2], spoken[1::2], strict=False))
    if len(spoken) % 2 or any((first["role"], second["role"]) != ("user", "assistant") for first, second in pairs):
        raise ReleaseError(
            f"the messages of {shown(name)} do not take turns between user and assistant; write the prompt by hand"
        )
    return {"examples": [{"input": q["content"], "output": a["content"]} for q, a in pairs]} if pairs else {}
