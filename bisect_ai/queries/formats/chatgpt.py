"""ChatGPT's export: `conversations.json`, a tree of messages each, of which the branch that was last on screen is the conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai.canonical import as_mapping
from bisect_ai.queries.formats.call_records import Call, Format, Value, each_alone, whole_records
from bisect_ai.queries.messages import Message, asked_at, read_messages
from bisect_ai.queries.values import name_of

# Content that the model wrote for itself, or that stands for settings of the account.
_UNSAID = frozenset({"thoughts", "reasoning_recap", "user_editable_context", "model_editable_context"})
_MEDIA = {"image_asset_pointer": "image", "audio_asset_pointer": "audio", "real_time_user_audio_video_asset_pointer": "video"}


def _is_chatgpt(_path: str, value: Value) -> bool:
    nodes = list(as_mapping(value.get("mapping")).values())[:3]
    return bool(nodes) and all(isinstance(each, Mapping) and {"message", "parent"} <= set(each) for each in nodes)


def _chatgpt_call(value: Value) -> Call:
    spoken = list(_branch(as_mapping(value.get("mapping")), value.get("current_node")))
    messages, last = list[Message](), dict[str, Any]()
    for each in spoken:
        read = read_messages([each]) or []
        messages += read
        if any(message["role"] == "user" for message in read):
            last = each
    details = [held for each in spoken if isinstance(held := each.get("metadata"), Mapping)]
    models = [name for each in details if (name := name_of(each.get("model_slug")))]
    at = last.get("create_time") if asked_at(messages) is not None else None
    return Call(
        name_of(value.get("conversation_id")) or name_of(value.get("id")),
        at or value.get("create_time"),
        messages,
        fields={"model": models[-1] if models else None, "versions": {"model": models[-1]} if models else None},
        extra={"title": value["title"]} if value.get("title") else {},
    )


def _branch(tree: Mapping[str, Any], leaf: Any) -> Iterator[dict[str, Any]]:
    """The messages from the root to a node, in order; without a known node, to the last one that is there."""
    at = leaf if isinstance(leaf, str) and leaf in tree else next(reversed(list(tree)), None)
    found, seen = list[dict[str, Any]](), set[str]()
    while isinstance(at, str) and at in tree and at not in seen:  # a hostile tree may have circles
        seen.add(at)
        node = as_mapping(tree[at])
        message = node.get("message")
        if isinstance(message, Mapping) and (spoken := _spoken_message(message)) is not None:
            found.append(spoken)
        at = node.get("parent")
    yield from reversed(found)


def _spoken_message(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The message with its parts in a known form; None for one that says nothing, or was hidden."""
    content, details = message.get("content"), message.get("metadata")
    if not isinstance(content, Mapping) or str(content.get("content_type")) in _UNSAID:
        return None
    if as_mapping(details).get("is_visually_hidden_from_conversation"):
        return None
    parts = content.get("parts") if isinstance(content.get("parts"), list) else [content.get("text") or content.get("result")]
    known = [_plain_part(part) for part in parts or () if part]
    return {**message, "content": known} if known else None


def _plain_part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kind = str(part.get("content_type") or "")
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    return {**part, "type": _MEDIA.get(kind, kind or "part")}


PARTS = frozenset({"item", "conversations.item", ""})
CHATGPT = Format("chatgpt", PARTS, _is_chatgpt, whole_records(lambda _: None), each_alone(_chatgpt_call))
