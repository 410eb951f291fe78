"""A graph whose one node is slow the first time that its event asks, over all workers."""

import asyncio
import os
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

BEGUN = Path(os.environ.get("BEGUN", "begun"))
"""A folder with one file an execution: `<name>.<number of the execution>`."""


class State(TypedDict, total=False):
    name: str
    seconds: float


def begin(name: str) -> int:
    """Note an execution of the event `name`, and return which one of its executions it is."""
    number = 1
    while True:
        try:
            (BEGUN / f"{name}.{number}").touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return number


async def work(state: State) -> State:
    if begin(state["name"]) == 1:
        await asyncio.sleep(state["seconds"])
    return {}


builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
