"""Turns of speakers, as dialogue data sets and chat tools write them, where they differ from messages with a role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def with_assistant(turns: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Turns of a user and a dialogue system (`speaker: SYSTEM`), in which that one is the assistant; other messages as they are."""
    speakers = [str(each.get("speaker")).strip().lower() for each in turns]
    if set(speakers) != {"user", "system"} or speakers[0] != "user":
        return turns
    return [{**each, "speaker": "assistant" if who == "system" else who} for each, who in zip(turns, speakers, strict=True)]


def is_chat_line(each: Mapping[str, Any]) -> bool:
    """Whether an object is a line of a chat tool (`sender`, `message`); an answer with a `role` of its own is none."""
    return "role" not in each and isinstance(each.get("message"), str)
