"""The shop's agent on Pydantic AI."""

import json
import sys

from pydantic_ai import Agent

SYSTEM = 'You are the shop\'s helper.\nCopy the format of this call: get_orders {"customer_id": "FH-1"}\nBe warm.'
agent = Agent("openai:gpt-new", system_prompt=SYSTEM, model_settings={"temperature": 0.7})


@agent.tool_plain
def get_orders(customerId: str) -> str:
    """Orders of a customer."""
    return json.dumps({"orders": int(customerId[3:]) % 7})


if __name__ == "__main__":
    print(agent.run_sync(sys.argv[-1]).output)
