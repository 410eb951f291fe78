"""A graph on a pool that its lifespan opens: an asyncio queue, which belongs to one event loop."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph

TOLD = Path(os.environ.get("TOLD", "told"))
"""A file with one line for each thing that happened: what, process, event loop."""


class State(TypedDict, total=False):
    name: str
    connection: int


def tell(what: str) -> None:
    with TOLD.open("a") as file:
        file.write(f"{what} {os.getpid()} {id(asyncio.get_running_loop())}\n")


@asynccontextmanager
async def lifespan() -> AsyncIterator[asyncio.Queue[int]]:
    # A task group, as sessions have one, is left by the task that entered it, or raises.
    async with asyncio.TaskGroup() as tasks:
        beat = tasks.create_task(asyncio.Event().wait())
        pool: asyncio.Queue[int] = asyncio.Queue()
        for connection in range(2):
            pool.put_nowait(connection)
        tell("opened")
        yield pool
        tell("closed")
        beat.cancel()


async def make_graph(lifespan: asyncio.Queue[int]) -> StateGraph[State, None, State, State]:
    async def work(state: State) -> State:
        # More runs than connections: those that wait do so on the loop of the pool.
        connection = await lifespan.get()
        try:
            tell("ran")
            await asyncio.sleep(0.01)
        finally:
            lifespan.put_nowait(connection)
        return {"name": state["name"], "connection": connection}

    tell("made")
    graph = StateGraph(State)
    graph.add_node("work", work)
    graph.add_edge(START, "work")
    return graph


@contextmanager
def blocks() -> Iterator[None]:
    threading.Event().wait()
    yield


@contextmanager
def never_closes() -> Iterator[None]:
    yield
    threading.Event().wait()


@asynccontextmanager
async def refuses() -> AsyncIterator[None]:
    raise ConnectionRefusedError("nobody at db:5432")
    yield
