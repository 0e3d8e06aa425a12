"""What of a question a replay cannot send: images, files, audio, and texts that a tool cut off."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

TRUNCATED = "truncated"
IMAGE, AUDIO, VIDEO, FILE = "lost image", "lost audio", "lost video", "lost file"
KINDS = (TRUNCATED, IMAGE, AUDIO, VIDEO, FILE)
NOTHING_LOST = frozenset[str]()
_BY_WORD = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}
HINTS = ("runcated", "RUNCATED", ";base64,", "@@@langfuseMedia", " omitted")
_CUT = re.compile(
    r"litellm_truncated|<truncated\b|\[[\W_]{0,4}(?:content |text |output )?truncated\b|\((?:…|\.{3})? ?truncated\)"
    r"|(?:…|\.{3}) ?\[?truncated\b|\d (?:more )?char(?:acter)?s (?:truncated|omitted)",
    re.IGNORECASE,
)
_MEDIA = re.compile(r"@@@langfuseMedia:type=(\w{1,20})/|data:(\w{1,20})/[\w.+-]{1,80}(?:;[\w=.-]{1,80}){0,4};base64,")
MAYBE = (
    "runcated",
    "RUNCATED",
    "base64",
    "langfuseMedia",
    " omitted",
    "image",
    "audio",
    "video",
    "file",
    "blob",
    "uri",
    "document",
)
"""Words of which one is in every content that has lost anything: a cheap test before the exact one."""


def lost_in_text(text: str) -> frozenset[str]:
    """The kinds of loss that marks in a text tell of."""
    if not any(map(text.__contains__, HINTS)):
        return NOTHING_LOST
    media = {_BY_WORD.get(next(filter(None, found.groups())), FILE) for found in _MEDIA.finditer(text)}
    return frozenset(media | ({TRUNCATED} if _CUT.search(text) else set()))


def lost_in_messages(messages: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The kinds of loss in normalised messages: parts that are no text, and marks in their texts."""
    found = set[str]()
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            found |= _in_part(part) if isinstance(part, Mapping) else set()
    return frozenset(found)


def _in_part(part: Mapping[str, Any]) -> frozenset[str]:
    kind = str(part.get("type") or "")
    if kind == "text":
        return lost_in_text(str(part.get("text") or ""))
    told = f"{kind} {part.get('modality') or ''} {part.get('mime_type') or ''}"
    return frozenset({next((name for word, name in _BY_WORD.items() if word in told), FILE)})
