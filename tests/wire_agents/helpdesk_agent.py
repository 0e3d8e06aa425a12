"""The bundled help desk as a program: retrieves pages, asks its model, runs the tool that it calls. It knows nothing of bisect-ai.

Questions are lines of JSON on standard input, and its model is `stand_in.py` beside it.
"""

import json
import sys
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
light = types.ModuleType("litellm")  # of it the stand-in wants a class to inherit from
light.CustomLLM = object
sys.modules.setdefault("litellm", light)
import stand_in  # noqa: E402

MODEL = json.loads((HERE / "model.json").read_text())["model"]
SYSTEM = (HERE / "prompts/system.md").read_text()
TOOLS = json.loads((HERE / "tools.json").read_text())
CONTEXT = json.loads((HERE / "context.json").read_text())
PAGES = [(page.stem, page.read_text()) for page in sorted((HERE / "corpus").rglob("*.md"))]
WORDS = [stand_in.words(text, "helpdesk-1") for _, text in PAGES]
MIND = stand_in.StandIn()


def complete(messages):
    """The arguments of a call as (name, JSON), or None; and the text."""
    tools = [tool if "function" in tool else {"type": "function", "function": tool} for tool in TOOLS]
    call = None if messages[-1]["role"] == "tool" else stand_in.choose_call(messages, tools, MODEL)
    asked = json.dumps([MODEL, messages, tools], sort_keys=True)
    return call, None if call else MIND._noisy(stand_in.answer(messages, MODEL), asked)


def retrieve(question):
    wanted = stand_in.words(question, "helpdesk-1")
    best = sorted(range(len(PAGES)), key=lambda i: -len(wanted & WORDS[i]) / (1 + len(WORDS[i])) ** 0.5)[: CONTEXT["k"]]
    return "\n\n".join(f'<document id="{PAGES[i][0]}">\n{PAGES[i][1]}\n</document>' for i in best)


def run_tool(name, arguments, query):
    schema = next(tool for tool in (each.get("function", each) for each in TOOLS) if tool["name"] == name)["parameters"]
    if lacking := sorted(set(schema["required"]) - set(arguments)):
        return {"error": f"missing {', '.join(lacking)}"}
    for each in query.get("tool_results") or ():
        if each["name"] == name and set(each["arguments"].values()) == set(arguments.values()):
            return each["result"]
    return {"error": "not found"}


def answer(query):
    parts = [retrieve(query["input"]), query["input"]]
    asked = "\n\n".join(parts if CONTEXT["documents"] == "before_question" else parts[::-1])
    messages = [{"role": "system", "content": SYSTEM}, *(query.get("history") or []), {"role": "user", "content": asked}]
    call, text = complete(messages)
    if call:
        made = {"id": "c", "type": "function", "function": {"name": call[0], "arguments": call[1]}}
        result = json.dumps(run_tool(call[0], json.loads(call[1]), query))
        messages += [{"role": "assistant", "content": None, "tool_calls": [made]}]
        text = complete([*messages, {"role": "tool", "tool_call_id": "c", "content": result}])[1]
    return text


if __name__ == "__main__":
    for line in sys.stdin:
        query = json.loads(line)
        print(json.dumps({"id": query["id"], "text": answer(query)}), flush=True)
