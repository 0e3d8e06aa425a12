"""The same agent on OpenAI's responses."""

import json
import sys

from openai import OpenAI
from openai_agent import SYSTEM, TOOLS, get_orders

FLAT = [{"type": "function", **TOOLS[0]["function"], "strict": True}]


def answer(question, stream):
    client, items = OpenAI(), [{"role": "user", "content": question}]
    for _ in range(4):
        asked = {"model": "gpt-new", "temperature": 0.7, "instructions": SYSTEM, "input": items, "tools": FLAT}
        if stream:
            events = list(client.responses.create(**asked, stream=True))
            response = events[-1].response
            written = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
            assert all(item.arguments == written for item in response.output if item.type == "function_call"), written
        else:
            response = client.responses.create(**asked)
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        for call in calls:
            items.append(call.model_dump(exclude_none=True))
            try:
                out = get_orders(**json.loads(call.arguments))
            except TypeError as error:
                out = {"error": str(error)}
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": json.dumps(out)})
    return ""


if __name__ == "__main__":
    print(answer(sys.argv[-1], "--stream" in sys.argv))
