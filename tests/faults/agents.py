"""A scripted agent behind litellm, its incident and its log: two tool calls, then an answer made of their results.

Words in the system prompt say what a release's prompt makes it do; the model `worse` gets every fourth order wrong. The tools do not
care for arguments that they do not know, so a call with one more is answered in production as it was before.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

from bisect_ai.provider.litellm_calls import load_litellm

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")


def order(optional: dict[str, Any] | None = None, required: tuple[str, ...] = ("order_id",)) -> dict[str, Any]:
    fields = {"order_id": {"type": "string"}, **(optional or {})}
    return {"name": "get_order", "parameters": {"type": "object", "properties": fields, "required": list(required)}}


CUSTOMER = {
    "name": "find_customer",
    "parameters": {"type": "object", "properties": {"customer_id": {"type": "string"}}, "required": ["customer_id"]},
}
POLICY = {"name": "check_policy", "parameters": {"type": "object", "properties": {"topic": {"type": "string"}}}}


def release(system: str = "Look things up.", *, model: str = "plain", tools: Any = None, history: int = 4) -> dict[str, Any]:
    return {
        "model": {"model": f"agent/{model}", "max_tokens": 100},
        "prompt": {"system": system, "user": "{input}"},
        "tools": [CUSTOMER, order()] if tools is None else tools,
        "context": {"history": history},
    }


def queries(n: int, seed: int, *, of_new: float = 0.0) -> list[dict[str, Any]]:
    """The log: with a share `of_new` of the tapes from the new release, whose calls have a limit."""
    draw = random.Random(seed)
    log = []
    for i in range(n):
        customer, ordered, day = f"C-{1000 + i}", f"O-{5000 + i}", f"{draw.choice(DAYS)} {draw.randrange(1, 28)}"
        new = draw.random() < of_new
        asked = {"order_id": ordered, **({"limit": 5} if new else {})}
        log.append(
            {
                "id": f"q{i}",
                "input": f"Customer {customer}: when does my order arrive?",
                "reference": f"arrives {day}",
                "tool_results": [
                    {"name": "find_customer", "arguments": {"customer_id": customer}, "result": {"orders": [ordered]}},
                    {"name": "get_order", "arguments": asked, "result": {"arrives": day}},
                ],
            }
        )
    return log


def provider() -> Any:
    litellm = load_litellm()

    class Agent(litellm.CustomLLM):  # type: ignore[misc]
        async def acompletion(self, *args: Any, **request: Any) -> Any:
            message = _turn(request["messages"], request["model"])
            choice = litellm.Choices(finish_reason="stop", message=litellm.Message(role="assistant", **message))
            usage = litellm.Usage(prompt_tokens=200, completion_tokens=20, total_tokens=220)
            return litellm.ModelResponse(model=request["model"], choices=[choice], usage=usage)

    return Agent()


def _turn(messages: list[dict[str, Any]], model: str) -> dict[str, Any]:
    system = next((m["content"] for m in messages if m["role"] == "system"), "")
    number = int(re.findall(r"C-(\d+)", messages[-1]["content"] if messages[-1]["role"] == "user" else _asked(messages))[0])
    done = [m["content"] for m in messages if m["role"] == "tool"]
    plan: list[tuple[str, dict[str, Any]]] = [("find_customer", {_field(system): f"C-{number}"})]
    if "POLICY" in system:
        plan.append(("check_policy", {"topic": "refund"}))
    found = re.search(r"O-\d+", " ".join(done))
    limited = "LIMIT" in system and (("SOME" not in system) or number % 5 < 2)
    plan.append(("get_order", {"order_id": found and found.group(), **({"limit": 5} if limited else {})}))
    if len(done) < len(plan):
        name, arguments = plan[len(done)]
        if arguments.get("order_id", "") is None:
            return {"content": "I could not find the order."}
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"content": None, "tool_calls": [{"id": f"c{len(done)}", "type": "function", "function": function}]}
    arrives = re.search(r"arrives\W+([A-Za-z]+ \d+)", done[-1])
    wrong = ("worse" in model and number % 4 == 3) or ("RUDE" in system and number % 4 == 1)
    return {"content": "I do not know." if wrong or arrives is None else f"It arrives {arrives.group(1)}."}


def _asked(messages: list[dict[str, Any]]) -> str:
    return str([m for m in messages if m["role"] == "user"][-1]["content"])


def _field(system: str) -> str:
    found = re.search(r"pass (\w+)", system)
    return found.group(1) if found else "customer_id"
