"""A three-node graph whose events carry their fate; each node execution is written to a file."""

import asyncio
import os
from pathlib import Path
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from redrive.clock import SYSTEM

EXECUTIONS = Path(os.environ.get("EXECUTIONS", "executions.log"))


class State(TypedDict, total=False):
    fate: str
    seconds: float
    steps: list[str]


class SilentError(Exception):
    """Asked for its text, it never answers."""

    def __str__(self) -> str:
        SYSTEM.block(600.0)
        return "too late"


def note(node: str, config: RunnableConfig) -> None:
    """Write down that `node` runs, so that executions are counted outside the process."""
    descriptor = os.open(EXECUTIONS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{config['configurable']['thread_id']} {node}\n".encode())
    os.close(descriptor)


def first_time(config: RunnableConfig) -> bool:
    """Say whether this thread asks for the first time, over all lives of the worker."""
    name = config["configurable"]["thread_id"].replace("/", "_")
    try:
        EXECUTIONS.with_name(f"asked-{name}").mkdir()
    except FileExistsError:
        return False
    return True


async def plan(state: State, config: RunnableConfig) -> State:  # noqa: ARG001 - LangGraph's
    note("plan", config)
    return {"steps": ["plan"]}


async def work(state: State, config: RunnableConfig) -> State:
    fate = state.get("fate", "success")
    note("work", config)
    if fate == "transient" and first_time(config):
        raise ConnectionError("the model's service closed the connection")
    if fate == "fail":
        raise ConnectionError("the model's service is down for good")
    if fate == "permanent":
        await asyncio.sleep(state.get("seconds", 0.0))
        raise ValueError("the prompt has no question")
    if fate == "silent":
        raise SilentError
    if fate == "sleep":
        await asyncio.sleep(state.get("seconds", 1.0))
    if fate == "block":
        SYSTEM.block(state.get("seconds", 1.0))  # blocking the loop is the point
    return {"steps": [*state.get("steps", []), "work"]}


def write(state: State, config: RunnableConfig) -> State:
    note("write", config)
    if state.get("fate") == "stuck":
        SYSTEM.block(state.get("seconds", 1.0))
    return {"steps": [*state.get("steps", []), "write"]}


quick = StateGraph(State)
quick.add_node("work", work)
quick.add_edge(START, "work")
quick.add_edge("work", END)

builder = StateGraph(State).add_sequence([plan, work, write])
builder.add_edge(START, "plan")
builder.add_edge("write", END)
