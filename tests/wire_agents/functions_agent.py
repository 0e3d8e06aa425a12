"""The shop's agent with the `functions` of before `tools`. It knows nothing of bisect-ai."""

import json
import sys

from openai import OpenAI
from openai_agent import SYSTEM, TOOLS, get_orders

FUNCTIONS = [TOOLS[0]["function"]]


def answer(question, stream=False):
    client = OpenAI()
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    for _ in range(4):
        message = complete(client, messages, stream)
        called = message.get("function_call")
        if not called:
            return message["content"]
        messages.append(message)
        try:
            out = get_orders(**json.loads(called["arguments"]))
        except TypeError as error:
            out = {"error": str(error)}
        messages.append({"role": "function", "name": called["name"], "content": json.dumps(out)})
    return ""


def complete(client, messages, stream):
    asked = {"model": "gpt-new", "temperature": 0.7, "messages": messages, "functions": FUNCTIONS, "function_call": "auto"}
    if not stream:
        return client.chat.completions.create(**asked).choices[0].message.model_dump(exclude_none=True)
    text, called = "", {"name": "", "arguments": ""}
    for chunk in client.chat.completions.create(**asked, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        if delta.function_call:
            called["name"] += delta.function_call.name or ""
            called["arguments"] += delta.function_call.arguments or ""
    return {"role": "assistant", "content": text, **({"function_call": called} if called["name"] else {})}


if __name__ == "__main__":
    print(answer(sys.argv[-1], stream="--stream" in sys.argv))
