"""The shop's agent without any client, so that it starts at once; words after the question's place say what goes wrong."""

import json
import os
import sys
import time
import urllib.request

SYSTEM = 'You are the shop\'s helper.\nCopy the format of this call: get_orders {"customer_id": "FH-1"}\nBe warm.'
SCHEMA = {"type": "object", "properties": {"customerId": {"type": "string"}}, "required": ["customerId"]}
TOOL = {"type": "function", "function": {"name": "get_orders", "description": "Orders of a customer.", "parameters": SCHEMA}}


def post(body):
    headers = {"content-type": "application/json", "authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    url = f"{os.environ['OPENAI_BASE_URL']}/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def answer(question, system=SYSTEM):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    for _ in range(4):
        asked = {"model": "gpt-new", "temperature": 0.7, "messages": messages, "tools": [TOOL]}
        message = post(asked)["choices"][0]["message"]
        if not message.get("tool_calls"):
            return message["content"]
        messages.append(message)
        for call in message["tool_calls"]:
            given = json.loads(call["function"]["arguments"])
            out = {"orders": int(given["customerId"][3:]) % 7} if "customerId" in given else {"error": "unknown field"}
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(out)})
    return ""


def main(words):
    question = sys.stdin.read().strip() if "stdin" in words else words[-1]
    if "crash" in words:
        raise SystemExit("no configuration found")
    if "silent" in words:
        return print("forty-two")
    if "mute" in words:
        return None
    if "hang" in words:
        time.sleep(600)
    if "reworded" in words:
        return print(answer(question, SYSTEM.replace("helper", "assistant").replace("Be warm", "Be very warm")))
    if "json" in words:
        print("loading")
        return print(json.dumps({"text": answer(question), "usage": {"input_tokens": 1, "output_tokens": 2, "usd": 0.5}}))
    return print(answer(question))


if __name__ == "__main__":
    main(sys.argv[1:])
