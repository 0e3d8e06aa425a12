"""The shop's two releases, and a rule-based model of its provider on loopback: all three formats, streamed and not.

The model calls the tool by the field that its schema names, unless the prompt shows an example under another name, which two of three
times is copied. So the loss comes from the prompt and the tools together.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from tests.faults.provider import Request, Say
from tests.wire_agents.openai_agent import SYSTEM, TOOLS

BAD: dict[str, Any] = {
    "model": {"model": "openai/gpt-new", "temperature": 0.7},
    "prompt": {"system": SYSTEM},
    "tools": [copy.deepcopy(TOOLS[0])],
}
EXAMPLE = 'Copy the format of this call: get_orders {"customer_id": "FH-1"}\n'
GOOD: dict[str, Any] = {
    "model": {"model": "openai/gpt-old", "temperature": 0.2},
    "prompt": {"system": SYSTEM.replace(EXAMPLE, "Fill in the fields that the schema names.\n")},
    "tools": json.loads(
        json.dumps(BAD["tools"]).replace("customerId", "customer_id").replace("Orders of a", "All orders of a")
    ),
}
QUERIES = [
    {
        "id": f"q{i}",
        "input": f"How many orders has FH-{i}?" if i % 2 else f"Hi {i}",
        "reference": f"{i % 7} orders" if i % 2 else "Hello",
    }
    for i in range(1, 401)
]


def shop(request: Request) -> Say:
    """What the model says."""
    body, path = request.body, request.path
    if "chat/completions" in path:
        return _sent(_chat(body), _chat_events, body)
    if "responses" in path:
        return _sent(_responses(body), _response_events, body)
    return _sent(_messages(body), _message_events, body)


def _sent(answer: dict[str, Any], events: Any, body: dict[str, Any]) -> Say:
    if not body.get("stream"):
        return Say(body=answer)
    return Say(body="".join(events(answer)).encode(), headers={"content-type": "text/event-stream"})


def _decide(system: str, last: str, result: str | None, fields: list[str]) -> str | dict[str, str]:
    """A text, or the arguments of a call of get_orders."""
    if result is not None:
        orders = re.search(r'"orders": (\d+)', result)  # frameworks word a wrong call each in their own way
        return f"You have {orders[1]} orders." if orders else "Sorry, I cannot look that up."
    who = re.search(r"FH-(\d+)", last)
    if who is None:
        return "Hello!"
    field = "customer_id" if "customer_id" in system and int(who[1]) % 3 else fields[0]
    return {field: who[0]}


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    messages = body["messages"]
    last, system = messages[-1], messages[0]["content"]
    offered = body["functions"][0] if "functions" in body else body["tools"][0]["function"]
    fields = list(offered["parameters"]["properties"])
    said = _decide(system, last["content"], last["content"] if last["role"] in ("tool", "function") else None, fields)
    message: dict[str, Any] = {"role": "assistant", "content": said if isinstance(said, str) else None}
    if not isinstance(said, str):
        function = {"name": offered["name"], "arguments": json.dumps(said)}
        called = (
            {"function_call": function}
            if "functions" in body
            else {"tool_calls": [{"id": "c1", "type": "function", "function": function}]}
        )
        message |= called
    ended = "stop" if isinstance(said, str) else "function_call" if "functions" in body else "tool_calls"
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    choices = [{"index": 0, "message": message, "finish_reason": ended}]
    return {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices, "usage": usage}


def _chat_events(answer: dict[str, Any]) -> list[str]:
    choice = answer["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]  # as OpenAI begins, before a tool call too
    deltas += [{"content": part} for part in _halves(message["content"] or "")]
    for call in message.get("tool_calls", ()):
        function = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": 0, "id": call["id"], "type": "function", "function": function}]})
        parts = _halves(call["function"]["arguments"])
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts]
    if "function_call" in message:
        called = message["function_call"]
        deltas.append({"function_call": {"name": called["name"], "arguments": ""}})
        deltas += [{"function_call": {"arguments": part}} for part in _halves(called["arguments"])]
    head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": answer["model"]}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}], "usage": answer["usage"]}
    )
    return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]


def _responses(body: dict[str, Any]) -> dict[str, Any]:
    items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    last = items[-1]
    system = "".join([body.get("instructions") or "", *(item["content"] for item in items if item.get("role") == "system")])
    text = last.get("content", "")
    text = text if isinstance(text, str) else "".join(part["text"] for part in text)
    said = _decide(system, text, last.get("output"), list(body["tools"][0]["parameters"]["properties"]))
    if isinstance(said, str):
        content = [{"type": "output_text", "text": said, "annotations": []}]
        output: dict[str, Any] = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}
    else:
        output = {
            "type": "function_call",
            "id": "f1",
            "call_id": "c1",
            "name": body["tools"][0]["name"],
            "arguments": json.dumps(said),
        }
        output["status"] = "completed"
    usage = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    made = {"id": "r1", "object": "response", "created_at": 0, "model": body["model"], "output": [output], "usage": usage}
    return {**made, "status": "completed", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}


def _response_events(answer: dict[str, Any]) -> list[str]:
    item = answer["output"][0]
    place = {"output_index": 0, "item_id": item["id"]}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {**answer, "output": [], "usage": None}}]
    if item["type"] == "function_call":
        events.append({"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}})
        parts = _halves(item["arguments"])
        events += [{"type": "response.function_call_arguments.delta", "delta": part, **place} for part in parts]
        done = {"type": "response.function_call_arguments.done", "arguments": item["arguments"], "name": item["name"]}
        events.append({**done, **place})
    else:
        text = item["content"][0]["text"]
        events.append({"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}})
        part = {"type": "output_text", "text": "", "annotations": []}
        events.append({"type": "response.content_part.added", "content_index": 0, "part": part, **place})
        more = {"type": "response.output_text.delta", "content_index": 0, "logprobs": [], **place}
        events += [{**more, "delta": half} for half in _halves(text)]
        events.append({"type": "response.output_text.done", "content_index": 0, "text": text, "logprobs": [], **place})
        events.append({"type": "response.content_part.done", "content_index": 0, "part": {**part, "text": text}, **place})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events.append({"type": "response.completed", "response": answer})
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered]


def _messages(body: dict[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]["content"]
    result = last[0]["content"] if isinstance(last, list) and last[0].get("type") == "tool_result" else None
    if isinstance(result, list):
        result = result[0]["text"]
    text = last if isinstance(last, str) else last[0].get("text", "")
    system = body["system"] if isinstance(body["system"], str) else body["system"][0]["text"]
    said = _decide(system, text, result, list(body["tools"][0]["input_schema"]["properties"]))
    block: dict[str, Any] = {"type": "text", "text": said}
    if not isinstance(said, str):
        block = {"type": "tool_use", "id": "c1", "name": body["tools"][0]["name"], "input": said}
    head = {"id": "m1", "type": "message", "role": "assistant", "model": body["model"], "content": [block]}
    ended = "end_turn" if isinstance(said, str) else "tool_use"
    return {**head, "stop_reason": ended, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 4}}


def _message_events(answer: dict[str, Any]) -> list[str]:
    block = answer["content"][0]
    is_text = block["type"] == "text"
    start = {"type": "text", "text": ""} if is_text else {**block, "input": {}}
    written = block["text"] if is_text else json.dumps(block["input"])
    kind, key = ("text_delta", "text") if is_text else ("input_json_delta", "partial_json")
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**answer, "content": [], "stop_reason": None}}]
    events.append({"type": "content_block_start", "index": 0, "content_block": start})
    events += [{"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: part}} for part in _halves(written)]
    events.append({"type": "content_block_stop", "index": 0})
    ended = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": answer["usage"]})
    events.append({"type": "message_stop"})
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [part for part in (text[:middle], text[middle:]) if part]
