"""The graph of a soak: the three nodes of `fates`, in a process that tells how many tasks it has.

A figure of the worker for that does not exist. Its loop is asked every five seconds, by a timer
and not by a task: a line `<tasks> <runs begun>` is appended to `tasks-<process id>.log`.
"""

import asyncio
import os
from pathlib import Path

from fates import State, work, write  # type: ignore[import-not-found]  # beside it, where it runs
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

EVERY_S = 5.0
TOLD = Path(f"tasks-{os.getpid()}.log")
begun = 0


async def plan(state: State, config: RunnableConfig) -> State:  # noqa: ARG001 - LangGraph's
    global begun  # noqa: PLW0603 - of the process
    if not begun:
        tell(asyncio.get_running_loop())
    begun += 1
    return {"steps": ["plan"]}


def tell(loop: asyncio.AbstractEventLoop) -> None:
    with TOLD.open("a") as out:
        out.write(f"{len(asyncio.all_tasks(loop))} {begun}\n")
    loop.call_later(EVERY_S, tell, loop)


builder = StateGraph(State).add_sequence([plan, work, write])
builder.add_edge(START, "plan")
builder.add_edge("write", END)
