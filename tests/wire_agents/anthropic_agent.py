"""The same agent on Anthropic's messages, by its client where that is installed, else by plain HTTP."""

import json
import os
import sys

from openai_agent import SYSTEM, TOOLS, get_orders

FUNCTION = TOOLS[0]["function"]
TOOL = {"name": FUNCTION["name"], "description": FUNCTION["description"], "input_schema": FUNCTION["parameters"]}


def plain(asked):
    import httpx

    headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}
    url = f"{os.environ['ANTHROPIC_BASE_URL']}/v1/messages"
    reply = httpx.post(url, json=asked, headers=headers, timeout=60)
    reply.raise_for_status()
    if not asked.get("stream"):
        return reply.json()["content"]
    blocks, written = {}, {}
    for line in reply.text.split("\n"):
        event = json.loads(line[5:]) if line.startswith("data:") else {}
        if event.get("type") == "content_block_start":
            blocks[event["index"]], written[event["index"]] = event["content_block"], ""
        if event.get("type") == "content_block_delta":
            delta = event["delta"]
            written[event["index"]] += delta.get("partial_json", "")
            blocks[event["index"]]["text"] = blocks[event["index"]].get("text", "") + delta.get("text", "")
    for index, block in blocks.items():
        if block["type"] == "tool_use":
            block["input"] = json.loads(written[index])
            del block["text"]
    return list(blocks.values())


def by_client(asked):
    import anthropic

    client = anthropic.Anthropic()
    asked.pop("temperature")  # its newest version knows no such argument
    if asked.pop("stream", False):
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    return [block.model_dump(exclude_none=True, include={"type", "text", "id", "name", "input"}) for block in message.content]


def answer(question, stream, ask):
    messages = [{"role": "user", "content": question}]
    for _ in range(4):
        asked = {
            "model": "gpt-new",
            "max_tokens": 100,
            "temperature": 0.7,
            "system": SYSTEM,
            "messages": messages,
            "tools": [TOOL],
        }
        content = ask({**asked, "stream": True} if stream else asked)
        messages.append({"role": "assistant", "content": content})
        calls = [block for block in content if block["type"] == "tool_use"]
        if not calls:
            return "".join(block.get("text", "") for block in content)
        results = []
        for call in calls:
            try:
                out = get_orders(**call["input"])
            except TypeError as error:
                out = {"error": str(error)}
            results.append({"type": "tool_result", "tool_use_id": call["id"], "content": json.dumps(out)})
        messages.append({"role": "user", "content": results})
    return ""


if __name__ == "__main__":
    print(answer(sys.argv[-1], "--stream" in sys.argv, by_client if "--client" in sys.argv else plain))
