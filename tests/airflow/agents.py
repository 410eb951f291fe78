"""The graph that the DAGs of these tests start: one node that does what its input says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from redrive import remaining_time
from redrive.errors import PermanentError, TransientError


class State(TypedDict, total=False):
    do: str
    text: str
    answer: str


async def think(state: State) -> State:
    match state["do"]:
        case "refuse":
            raise PermanentError("the model refuses this question")
        case "break":
            raise TransientError("the model is down")
        case "linger":
            Path("remaining_s").write_text(str(remaining_time()))  # noqa: ASYNC240 - a short one
            await asyncio.sleep(600)
            return {"answer": "too late"}
        case _:
            return {"answer": state["text"].upper()}


agent = StateGraph(State)
agent.add_node("think", think)
agent.add_edge(START, "think")
agent.add_edge("think", END)
