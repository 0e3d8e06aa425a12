"""The shop's agent on LangGraph."""

import json
import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

SYSTEM = 'You are the shop\'s helper.\nCopy the format of this call: get_orders {"customer_id": "FH-1"}\nBe warm.'


@tool
def get_orders(customerId: str) -> str:
    """Orders of a customer."""
    return json.dumps({"orders": int(customerId[3:]) % 7})


model = ChatOpenAI(model="gpt-new", temperature=0.7).bind_tools([get_orders])


def call_model(state: MessagesState):
    return {"messages": [model.invoke([("system", SYSTEM), *state["messages"]])]}


graph = StateGraph(MessagesState)
graph.add_node("model", call_model)
graph.add_node("tools", ToolNode([get_orders]))
graph.add_edge(START, "model")
graph.add_conditional_edges("model", tools_condition)
graph.add_edge("tools", "model")
if __name__ == "__main__":
    print(graph.compile().invoke({"messages": [("user", sys.argv[-1])]})["messages"][-1].content)
