"""Who speaks in a message, by whatever word a producer, a help desk or a dialogue data set says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROLES = {
    **dict.fromkeys(("human", "humanmessage", "humanmessagechunk", "customer"), "user"),
    **dict.fromkeys(("ai", "model", "gpt", "bot", "chatbot", "chatgpt", "aimessage", "aimessagechunk"), "assistant"),
    **dict.fromkeys(("developer", "systemmessage"), "system"),
    **dict.fromkeys(("function", "ipython", "toolmessage", "functionmessage"), "tool"),
}
# Roles of logs of help desks; not words that a `type` would be told by.
SPEAKERS = {
    **dict.fromkeys(("client", "caller", "visitor", "end_user", "enduser", "inquirer"), "user"),
    **dict.fromkeys(("agent", "operator", "support", "advisor", "representative", "chat_bot", "llm"), "assistant"),
}
KNOWN = frozenset({"user", "assistant", "system", "tool"})
# Where a message says who speaks, besides its role and its author's.
SENDERS = ("from", "speaker", "sender")
# What makes an object with a role a message; an answer such as `{"role": "admin"}` has none of them.
HELD = ("content", "parts", "value", "blocks", "data", "kwargs", "tool_calls", "text", "function_call", "utterance")


def role_of(each: Mapping[str, Any]) -> str | None:
    """The role in our words (or the producer's own, where we have none); None: it is no message."""
    author = each.get("author")
    named = each.get("role", author.get("role") if isinstance(author, Mapping) else _sender(each))
    if named is None and each.get("type") == "constructor" and isinstance(each.get("id"), list) and each["id"]:
        named = each["id"][-1]
    if named is None and str(each.get("type")).lower() in {*ROLES, *KNOWN}:
        named = each["type"]
    if not isinstance(named, str) or not (any(name in each for name in HELD) or is_chat_line(each)):
        return None
    low = named.strip().lower()
    ours = ROLES.get(low, low if low in KNOWN else named)
    return ours if "from" in each else SPEAKERS.get(low, ours)  # mails have a `from`, too


def _sender(each: Mapping[str, Any]) -> Any:
    return next((each[name] for name in SENDERS if name in each), None)


def with_assistant(turns: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Turns of a user and a dialogue system (`speaker: SYSTEM`), in which that one is the assistant; other messages as they are."""
    speakers = [str(each.get("speaker")).strip().lower() for each in turns]
    if set(speakers) != {"user", "system"} or speakers[0] != "user":
        return turns
    return [{**each, "speaker": "assistant" if who == "system" else who} for each, who in zip(turns, speakers, strict=True)]


def is_chat_line(each: Mapping[str, Any]) -> bool:
    """Whether an object is a line of a chat tool (`sender`, `message`); an answer with a `role` of its own is none."""
    return "role" not in each and isinstance(each.get("message"), str)
