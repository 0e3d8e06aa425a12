"""The shop's agent on the OpenAI Agents SDK."""

import sys

from agents import Agent, ModelSettings, Runner, function_tool, set_tracing_disabled

SYSTEM = 'You are the shop\'s helper.\nCopy the format of this call: get_orders {"customer_id": "FH-1"}\nBe warm.'


@function_tool
def get_orders(customerId: str) -> str:
    """Orders of a customer."""
    import json

    return json.dumps({"orders": int(customerId[3:]) % 7})


set_tracing_disabled(True)
agent = Agent(
    name="shop",
    instructions=SYSTEM,
    model="gpt-new",
    model_settings=ModelSettings(temperature=0.7),
    tools=[get_orders],
)
if __name__ == "__main__":
    print(Runner.run_sync(agent, sys.argv[-1]).final_output)
