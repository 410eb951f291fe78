"""A three-node graph whose events say which nodes fail, how often, and which one kills its process.

Each node execution is written to a file before anything else happens, so that what was begun is
known outside of the process, whatever becomes of it.
"""

import asyncio
import ctypes
import os
from pathlib import Path
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

EXECUTIONS = Path(os.environ.get("EXECUTIONS", "executions.log"))
MEGABYTE = 2**20


class State(TypedDict, total=False):
    name: str
    fails: dict[str, int]
    kills: dict[str, str]
    steps: list[str]


def begin(name: str, node: str) -> int:
    """Note an execution, and return which one of its node in this run it is, from 1."""
    descriptor = os.open(EXECUTIONS, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name} {node} begun\n".encode())
    os.close(descriptor)
    return count_failures(name, node) + 1


def count_failures(name: str, node: str) -> int:
    return len(list(EXECUTIONS.parent.glob(f"failed.{name}.{node}.*")))


def die(how: str) -> None:
    """End this process, in one of the ways in which processes end."""
    match how:
        case "exit":
            os._exit(3)
        case "segv":
            ctypes.string_at(0)
        case "memory":
            # Until who watches over the memory of this process ends it.
            hoard: list[bytes] = []
            while True:
                hoard.append(b"x" * (8 * MEGABYTE))


async def step(node: str, state: State) -> State:
    name = state["name"]
    number = begin(name, node)
    await asyncio.sleep(0.03)
    if node in state.get("kills", {}):
        die(state["kills"][node])
    if number <= state.get("fails", {}).get(node, 0):
        (EXECUTIONS.parent / f"failed.{name}.{node}.{number}").touch()
        raise ConnectionError(f"{node} of {name} fails for the {number}. time")
    return {"steps": [*state.get("steps", []), node]}


async def plan(state: State, config: RunnableConfig) -> State:  # noqa: ARG001 - LangGraph's
    return await step("plan", state)


async def work(state: State, config: RunnableConfig) -> State:  # noqa: ARG001 - as above
    return await step("work", state)


async def write(state: State, config: RunnableConfig) -> State:  # noqa: ARG001 - as above
    return await step("write", state)


builder = StateGraph(State).add_sequence([plan, work, write])
builder.add_edge(START, "plan")
builder.add_edge("write", END)
