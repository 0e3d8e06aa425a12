"""The shop's agent as deployed today (the bad release). It knows nothing of bisect-ai."""

import json
import sys

from openai import OpenAI

SYSTEM = 'You are the shop\'s helper.\nCopy the format of this call: get_orders {"customer_id": "FH-1"}\nBe warm.'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_orders",
            "description": "Orders of a customer.",
            "parameters": {
                "type": "object",
                "properties": {"customerId": {"type": "string", "title": "Customerid"}},
                "required": ["customerId"],
                "additionalProperties": False,
            },
        },
    }
]


def get_orders(customerId):
    return {"orders": int(customerId[3:]) % 7}


def answer(question, stream=False):
    client = OpenAI()
    messages = [{"role": "system", "content": f"Today is Monday.\n\n{SYSTEM}\n"}, {"role": "user", "content": question}]
    for _ in range(4):
        message = complete(client, messages, stream)
        if not message.get("tool_calls"):
            return message["content"]
        messages.append(message)
        for call in message["tool_calls"]:
            try:
                out = get_orders(**json.loads(call["function"]["arguments"]))
            except TypeError as error:
                out = {"error": str(error)}
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(out)})
    return ""


def complete(client, messages, stream):
    asked = {"model": "gpt-new", "temperature": 0.7, "messages": messages, "tools": TOOLS}
    if not stream:
        return client.chat.completions.create(**asked).choices[0].message.model_dump(exclude_none=True)
    text, calls = "", {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for part in delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
            call["id"] += part.id or ""
            call["function"]["name"] += part.function.name or ""
            call["function"]["arguments"] += part.function.arguments or ""
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls.values())} if calls else {})}


if __name__ == "__main__":
    print(answer(sys.argv[-1], stream="--stream" in sys.argv))
