"""A graph of one node whose events say what goes wrong."""

import asyncio
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from redrive.clock import SYSTEM


class State(TypedDict, total=False):
    fate: str
    gate: str
    ballast: str


def there(name: str) -> bool:
    return Path(name).exists()


def first_time(name: str) -> bool:
    """Say whether nobody has asked with this name before."""
    first = not there(name)
    Path(name).touch()
    return first


async def work(state: State) -> State:
    match state.get("fate"):
        case "permanent":
            raise ValueError("the prompt has no question")
        case "transient" if first_time(state["gate"]):
            raise ConnectionError("the model's service closed the connection")
        case "block":
            SYSTEM.block(6)  # blocking the loop is the point
        case "gate":
            # Meanwhile nothing moves: no node ends, no token comes.
            while not there(state["gate"]):  # noqa: ASYNC110 - another process opens it
                await asyncio.sleep(0.1)
    return {"ballast": ""}


builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
