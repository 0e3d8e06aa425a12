"""Streamed answers (server-sent events): read as the whole answer they amount to, and their tool calls under other names.

An answer is complete here before the program gets any of it, so that a stream that breaks off can be asked for again. Arguments that
change stand whole in the first event that has a part of them; later parts are empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from bisect_ai.canonical import json_object, json_or
from bisect_ai.targets.wire.request_shapes import Body, ChatShape, MessagesShape, RequestShape, choice_name

# Changes a whole answer in place; gives whether it did.
Change = Callable[[Body], bool]
Key = tuple[Any, ...]


def whole_answer(stream: bytes, shape: RequestShape) -> Body:
    """The answer that a stream amounts to, in the form of one that is not streamed."""
    events = list(_events(stream))
    if isinstance(shape, ChatShape):
        return _chat(events)
    return _message(events) if isinstance(shape, MessagesShape) else _response(events)


def changed_stream(stream: bytes, shape: RequestShape, change: Change) -> bytes:
    """The stream with its tool calls as `change` makes them; the same bytes when it changes nothing."""
    answer = whole_answer(stream, shape)
    if not change(answer):
        return stream
    said = {call.id: (call.holder.get("name"), _as_text(call.holder.get(call.key or ""))) for call in shape.calls(answer)}
    put = _Rewritten(said)
    lines = [put.line(line) for line in stream.decode("utf-8", "replace").split("\n")]
    return "\n".join(lines).encode("utf-8")


def _events(stream: bytes) -> Iterator[Body]:
    for line in stream.decode("utf-8", "replace").split("\n"):  # not `splitlines`: JSON may hold other ends of line
        if (event := _event(line)) is not None:
            yield event


def _event(line: str) -> Body | None:
    return json_object(line[5:]) if line.startswith("data:") else None


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _list(value: Any) -> list[Any]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


# -- whole answers ---------------------------------------------------------------------------------------------------
def _chat(events: list[Body]) -> Body:
    messages: dict[int, Body] = {}
    calls: dict[Key, Body] = {}
    answer: Body = {"choices": [], "usage": None, "model": None}
    for event in events:
        answer |= {key: event[key] for key in ("id", "model", "usage", "system_fingerprint") if event.get(key) is not None}
        for choice in _list(event.get("choices")):
            index = choice.get("index", 0)
            if index not in messages:
                messages[index] = {"role": "assistant", "content": "", "tool_calls": []}
                answer["choices"].append({"index": index, "message": messages[index], "finish_reason": None})
            delta = choice.get("delta") or {}
            messages[index]["content"] += delta.get("content") or ""
            for part in _list(delta.get("tool_calls")):
                key = index, part.get("index", 0)
                if key not in calls:
                    calls[key] = {"id": part.get("id"), "type": "function", "function": {"name": "", "arguments": ""}}
                    messages[index]["tool_calls"].append(calls[key])
                _add_part(calls[key]["function"], part.get("function"))
            if isinstance(delta.get("function_call"), dict):
                _add_part(messages[index].setdefault("function_call", {"name": "", "arguments": ""}), delta["function_call"])
    return answer


def _add_part(function: Body, part: Any) -> None:
    for key in ("name", "arguments"):
        function[key] += (part or {}).get(key) or ""


def _response(events: list[Body]) -> Body:
    """The last whole response that the stream tells."""
    whole = [event["response"] for event in events if isinstance(event.get("response"), dict)]
    return dict(json.loads(json.dumps(whole[-1]))) if whole else {}


def _message(events: list[Body]) -> Body:
    answer: Body = {"content": []}
    blocks: dict[int, Body] = {}
    for event in events:
        kind, index = event.get("type"), event.get("index", 0)
        if kind == "message_start":
            answer |= {**(event.get("message") or {}), "content": []}
        elif kind == "content_block_start":
            blocks[index] = {**(event.get("content_block") or {}), "_": ""}
            answer["content"].append(blocks[index])
        elif kind == "content_block_delta" and index in blocks:
            delta = event.get("delta") or {}
            blocks[index]["_"] += delta.get("partial_json") or ""
            if isinstance(delta.get("text"), str):
                blocks[index]["text"] = f"{blocks[index].get('text') or ''}{delta['text']}"
        elif kind == "message_delta":
            answer["usage"] = {**(answer.get("usage") or {}), **(event.get("usage") or {})}
    for block in blocks.values():
        written = block.pop("_")
        if block.get("type") == "tool_use" and written:
            block["input"] = json_or({}, written, numbers="finite")
    return answer


# -- other names -----------------------------------------------------------------------------------------------------
class _Rewritten:
    """Rewrites a stream line by line; `said` is id of a call to its new name and arguments."""

    def __init__(self, said: dict[str, tuple[Any, str]]) -> None:
        self._said = said
        # Place of a call in the stream to its id.
        self._ids: dict[Key, str] = {}
        self._put: set[str] = set()

    def line(self, line: str) -> str:
        """The line with the new names and arguments."""
        event = _event(line)
        if event is None:
            return line
        for choice in _list(event.get("choices")):
            delta = choice.get("delta") or {}
            for part in _list(delta.get("tool_calls")):
                self._chat_part(part, (choice.get("index", 0), part.get("index", 0)))
            self._function_part(delta.get("function_call"), choice_name(choice))
        self._anthropic(event)
        self._responses(event)
        end = "\r" if line.endswith("\r") else ""
        return f"data: {json.dumps(event, ensure_ascii=False)}{end}"

    def _chat_part(self, part: Body, place: Key) -> None:
        if part.get("id"):
            self._ids[place] = str(part["id"])
        self._function_part(part.get("function"), self._ids.get(place, ""))

    def _function_part(self, function: Any, call: str) -> None:
        if call not in self._said or not isinstance(function, dict):
            return
        if function.get("name"):
            function["name"] = self._said[call][0]
        if function.get("arguments"):
            function["arguments"] = self._once(call)

    def _anthropic(self, event: Body) -> None:
        place, block, delta = ("block", event.get("index")), event.get("content_block"), event.get("delta")
        if isinstance(block, dict) and block.get("type") == "tool_use":
            self._ids[place] = str(block.get("id"))
            if self._ids[place] in self._said:
                block["name"] = self._said[self._ids[place]][0]
        elif isinstance(delta, dict) and delta.get("partial_json") and self._ids.get(place) in self._said:
            delta["partial_json"] = self._once(self._ids[place])

    def _responses(self, event: Body) -> None:
        if isinstance(event.get("response"), dict):
            for item in _list(event["response"].get("output")):
                self._item(item)
        if isinstance(event.get("item"), dict):
            self._item(event["item"])
        call = self._ids.get(("item", event.get("item_id")), "")
        if call in self._said:
            if event.get("delta"):
                event["delta"] = self._once(call)
            if "arguments" in event:
                event["arguments"] = self._said[call][1]
            if "name" in event:
                event["name"] = self._said[call][0]

    def _item(self, item: Body) -> None:
        call = str(item.get("call_id"))
        if item.get("type") != "function_call" or call not in self._said:
            return
        self._ids["item", item.get("id")] = call
        item["name"] = self._said[call][0]
        if item.get("arguments"):
            item["arguments"] = self._said[call][1]

    def _once(self, call: str) -> str:
        """The whole arguments the first time, nothing after it."""
        if call in self._put:
            return ""
        self._put.add(call)
        return self._said[call][1]
