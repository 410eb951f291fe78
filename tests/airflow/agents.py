"""The graph that the DAGs of these tests start: one node that does what its input says."""

from __future__ import annotations

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from redrive.errors import PermanentError, TransientError


class State(TypedDict, total=False):
    do: str
    text: str
    answer: str


def think(state: State) -> State:
    match state["do"]:
        case "refuse":
            raise PermanentError("the model refuses this question")
        case "break":
            raise TransientError("the model is down")
        case _:
            return {"answer": state["text"].upper()}


agent = StateGraph(State)
agent.add_node("think", think)
agent.add_edge(START, "think")
agent.add_edge("think", END)
