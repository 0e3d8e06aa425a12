"""Where the parts of a release stand in a request to a provider, and tool calls in its answer: one class for each of three formats.

OpenAI chat completions, OpenAI responses, Anthropic messages. Nothing in here changes a body; it says where to look: a `TextSpot` is a
text in its container, a `ToolSpot` an offered tool, a `CallSpot` a tool call with its arguments, as text or as an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from bisect_ai.canonical import as_list, json_or

Body = dict[str, Any]
_SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True)
class TextSpot:
    """A text of a request: `holder[key]`. `role` is system, user, assistant or tool."""

    holder: Any
    key: str | int
    role: str

    @property
    def text(self) -> str:
        """What stands there."""
        return str(self.holder[self.key])

    def put(self, text: str) -> None:
        """Let it stand there."""
        self.holder[self.key] = text


@dataclass(frozen=True, slots=True)
class ToolSpot:
    """An offered tool: what holds its name and description, and the key of its schema in there."""

    holder: Body
    schema_key: str
    # In the list of tools.
    place: int
    # The key of that list in the request.
    within: str = "tools"

    @property
    def name(self) -> str:
        """What the model calls it by."""
        return str(self.holder.get("name"))


@dataclass(frozen=True, slots=True)
class CallSpot:
    """A tool call: `holder["name"]`, and its arguments under `key`, a JSON text or an object; None: only the name stands there."""

    holder: Body
    key: str | None
    # Empty: it has none.
    id: str


class RequestShape(Protocol):
    """One format of requests and answers. What is of no known form in a body is skipped."""

    def texts(self, body: Body) -> Iterator[TextSpot]:
        """Every text that the model is sent, but tool schemas and arguments."""

    def tools(self, body: Body) -> Iterator[ToolSpot]:
        """The tools of the user's that are offered."""

    def past_calls(self, body: Body) -> Iterator[CallSpot]:
        """Tool calls that a request repeats from earlier answers."""

    def calls(self, answer: Body) -> Iterator[CallSpot]:
        """The tool calls of an answer."""

    def said(self, answer: Body) -> str:
        """The text of an answer."""

    def whole(self, events: list[Body]) -> Body:
        """The answer that the events of a stream amount to, in the form of one that is not streamed."""


class ChatShape:
    """OpenAI chat completions, with `tools` or with the `functions` of before."""

    def texts(self, body: Body) -> Iterator[TextSpot]:
        """As `RequestShape.texts`."""
        for message in bodies_in(body.get("messages")):
            role = message.get("role")
            yield from _content(message, "content", "system" if role in _SYSTEM else str(role))

    def tools(self, body: Body) -> Iterator[ToolSpot]:
        """As `RequestShape.tools`."""
        for place, tool in enumerate(as_list(body.get("tools"))):
            function = tool.get("function") if isinstance(tool, dict) else None
            if isinstance(function, dict):
                yield ToolSpot(function, "parameters", place)
        for place, function in enumerate(as_list(body.get("functions"))):
            if isinstance(function, dict):
                yield ToolSpot(function, "parameters", place, "functions")

    def past_calls(self, body: Body) -> Iterator[CallSpot]:
        """As `RequestShape.past_calls`."""
        for message in bodies_in(body.get("messages")):
            yield from _functions_called(message)
            if message.get("role") in ("function", "tool") and isinstance(message.get("name"), str):
                yield CallSpot(message, None, "")

    def calls(self, answer: Body) -> Iterator[CallSpot]:
        """As `RequestShape.calls`."""
        for choice in bodies_in(answer.get("choices")):
            if isinstance(choice.get("message"), dict):
                yield from _functions_called(choice["message"], name=choice_name(choice))

    def said(self, answer: Body) -> str:
        """As `RequestShape.said`."""
        messages = (choice.get("message") for choice in bodies_in(answer.get("choices")))
        return "".join(str(m.get("content") or "") for m in messages if isinstance(m, dict))

    def whole(self, events: list[Body]) -> Body:
        """As `RequestShape.whole`."""
        messages: dict[int, Body] = {}
        calls: dict[tuple[Any, ...], Body] = {}
        answer: Body = {"choices": [], "usage": None, "model": None}
        for event in events:
            answer |= {key: event[key] for key in ("id", "model", "usage", "system_fingerprint") if event.get(key) is not None}
            for choice in bodies_in(event.get("choices")):
                index = choice.get("index", 0)
                if index not in messages:
                    messages[index] = {"role": "assistant", "content": "", "tool_calls": []}
                    answer["choices"].append({"index": index, "message": messages[index], "finish_reason": None})
                delta = choice.get("delta") or {}
                messages[index]["content"] += delta.get("content") or ""
                for part in bodies_in(delta.get("tool_calls")):
                    key = index, part.get("index", 0)
                    if key not in calls:
                        calls[key] = {"id": part.get("id"), "type": "function", "function": {"name": "", "arguments": ""}}
                        messages[index]["tool_calls"].append(calls[key])
                    _add_part(calls[key]["function"], part.get("function"))
                if isinstance(delta.get("function_call"), dict):
                    _add_part(
                        messages[index].setdefault("function_call", {"name": "", "arguments": ""}), delta["function_call"]
                    )
        return answer


class ResponsesShape:
    """OpenAI responses."""

    def texts(self, body: Body) -> Iterator[TextSpot]:
        """As `RequestShape.texts`."""
        if isinstance(body.get("instructions"), str):
            yield TextSpot(body, "instructions", "system")
        if isinstance(body.get("input"), str):
            yield TextSpot(body, "input", "user")
        for item in bodies_in(body.get("input")):
            role = item.get("role")
            if item.get("type") == "function_call_output":
                yield from _content(item, "output", "tool")
            elif role is not None:
                yield from _content(item, "content", "system" if role in _SYSTEM else str(role))

    def tools(self, body: Body) -> Iterator[ToolSpot]:
        """As `RequestShape.tools`."""
        for place, tool in enumerate(as_list(body.get("tools"))):
            if isinstance(tool, dict) and tool.get("type") == "function":
                yield ToolSpot(tool, "parameters", place)

    def past_calls(self, body: Body) -> Iterator[CallSpot]:
        """As `RequestShape.past_calls`."""
        return _function_items(body.get("input"))

    def calls(self, answer: Body) -> Iterator[CallSpot]:
        """As `RequestShape.calls`."""
        return _function_items(answer.get("output"))

    def said(self, answer: Body) -> str:
        """As `RequestShape.said`."""
        parts = (part for item in bodies_in(answer.get("output")) for part in bodies_in(item.get("content")))
        return "".join(str(part.get("text") or "") for part in parts)

    def whole(self, events: list[Body]) -> Body:
        """As `RequestShape.whole`: the last whole response that the stream tells."""
        return next((event["response"] for event in reversed(events) if isinstance(event.get("response"), dict)), {})


class MessagesShape:
    """Anthropic messages."""

    def texts(self, body: Body) -> Iterator[TextSpot]:
        """As `RequestShape.texts`."""
        yield from _content(body, "system", "system")
        for message in bodies_in(body.get("messages")):
            yield from _content(message, "content", str(message.get("role")))
            for block in bodies_in(message.get("content")):
                if block.get("type") == "tool_result":
                    yield from _content(block, "content", "tool")

    def tools(self, body: Body) -> Iterator[ToolSpot]:
        """As `RequestShape.tools`."""
        for place, tool in enumerate(as_list(body.get("tools"))):
            if isinstance(tool, dict) and "input_schema" in tool:
                yield ToolSpot(tool, "input_schema", place)

    def past_calls(self, body: Body) -> Iterator[CallSpot]:
        """As `RequestShape.past_calls`."""
        for message in bodies_in(body.get("messages")):
            yield from _tool_uses(message.get("content"))

    def calls(self, answer: Body) -> Iterator[CallSpot]:
        """As `RequestShape.calls`."""
        return _tool_uses(answer.get("content"))

    def said(self, answer: Body) -> str:
        """As `RequestShape.said`."""
        return "".join(str(block.get("text") or "") for block in bodies_in(answer.get("content")))

    def whole(self, events: list[Body]) -> Body:
        """As `RequestShape.whole`."""
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


def shape_of_path(path: str) -> RequestShape | None:
    """The format of requests to a path; None: one that is passed on as it is."""
    return next((shape for end, shape in _SHAPES.items() if path.rstrip("/").endswith(end)), None)


_SHAPES: dict[str, RequestShape] = {
    "/chat/completions": ChatShape(),
    "/responses": ResponsesShape(),
    "/messages": MessagesShape(),
}


def bodies_in(value: Any) -> list[Body]:
    """The objects of a list that somebody sent; none where it is no list."""
    return [each for each in as_list(value) if isinstance(each, dict)]


def _content(holder: Body, key: str, role: str) -> Iterator[TextSpot]:
    """A content that is a text, or a list of texts and of parts with texts."""
    value = holder.get(key)
    if isinstance(value, str):
        yield TextSpot(holder, key, role)
    for place, part in enumerate(as_list(value)):
        if isinstance(part, str):
            yield TextSpot(value, place, role)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            yield TextSpot(part, "text", role)


def _add_part(function: Body, part: Any) -> None:
    for key in ("name", "arguments"):
        function[key] += (part or {}).get(key) or ""


def choice_name(choice: Body) -> str:
    """What the one call of a choice goes by where calls have no ids."""
    return f"the function of choice {choice.get('index', 0)}"


def chosen_tools(body: Body) -> Iterator[Body]:
    """What in a request names tools that the model is to call, or may: `holder["name"]`, in every format."""
    for key in ("tool_choice", "function_call"):
        if isinstance(choice := body.get(key), dict):
            within = (choice, choice.get("function"), *bodies_in(choice.get("tools")))
            yield from (each for each in within if isinstance(each, dict) and isinstance(each.get("name"), str))


def _functions_called(message: Body, *, name: str = "") -> Iterator[CallSpot]:
    for call in bodies_in(message.get("tool_calls")):
        if isinstance(call.get("function"), dict):
            yield CallSpot(call["function"], "arguments", str(call.get("id")))
    if isinstance(message.get("function_call"), dict):
        yield CallSpot(message["function_call"], "arguments", name)


def _function_items(items: Any) -> Iterator[CallSpot]:
    for item in bodies_in(items):
        if item.get("type") == "function_call":
            yield CallSpot(item, "arguments", str(item.get("call_id")))


def _tool_uses(content: Any) -> Iterator[CallSpot]:
    for block in bodies_in(content):
        if block.get("type") == "tool_use":
            yield CallSpot(block, "input", str(block.get("id")))
