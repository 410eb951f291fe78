"""An attempt comes back also when a node does not let go, and tells what goes on."""

from __future__ import annotations

import asyncio
import gc
import operator
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph

from redrive.errors import AttemptTimeoutError, StaleAttemptError
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Failed,
    Lease,
    TimeLimits,
    WorkflowProcessor,
)
from redrive.graphs.node_threads import WORK_IN_THREADS, NodeThreads, WorkInThreads
from redrive.testing import event

EVENT = event({"log": ["in"]})
THREAD = f"{EVENT.event_id}/0/0"
SHORT = TimeLimits(attempt_s=0.5)
SOON_S = 10.0
"""Far more than anything here may take; what hangs fails instead."""


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


Graph = StateGraph[Any, Any, Any, Any]


@pytest.fixture(params=["none", "sqlite"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Checkpoints]:
    url = "none" if request.param == "none" else f"sqlite:///{tmp_path}/checkpoints.db"
    async with Checkpoints(CheckpointSettings(url=url)) as found:
        yield found


@pytest.fixture(autouse=True)
async def complaints() -> AsyncIterator[list[str]]:
    """What asyncio complains of, and node threads as a worker has them."""
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(str(context)))
    loop.set_default_executor(NodeThreads(4, thread_name_prefix="node"))
    yield heard
    gc.collect()
    assert heard == []


class Stubborn:
    """An async node that swallows every cancellation until it is let go."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.free = asyncio.Event()

    async def __call__(self, _: Log) -> Log:
        self.inside.set()
        while not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                continue
        return {"log": ["stubborn"]}


def line(ran: list[str], first: Any) -> Graph:  # noqa: ANN401 - any node
    """Return a graph of that node, and of one that must not run after it."""
    graph: Graph = StateGraph(Log)
    graph.add_node("first", first)
    graph.add_node("after", lambda _: ran.append("after"))
    graph.add_edge(START, "first")
    graph.add_edge("first", "after")
    return graph


@pytest.mark.parametrize("siblings", [0, 2])
async def test_a_stubborn_async_node_is_left_behind_and_is_the_last_one(
    siblings: int, kept: Checkpoints
) -> None:
    ran: list[str] = []
    node = Stubborn()
    graph = line(ran, node)
    for number in range(siblings):
        graph.add_node(f"sibling{number}", lambda _: {"log": ["sibling"]})
        graph.add_edge(START, f"sibling{number}")
    processor = WorkflowProcessor({"*": graph}, kept)

    async with asyncio.timeout(SOON_S):
        end = await processor.run(EVENT, thread_id=THREAD, lease=Lease(), limits=SHORT)

    assert isinstance(end, Failed)
    assert isinstance(end.error, AttemptTimeoutError)
    assert end.lingering is not None
    assert end.lingering.alive
    before = await stored(kept)
    assert not await end.lingering.ended(0.1)
    node.free.set()
    assert await end.lingering.ended(SOON_S)
    assert not end.lingering.alive
    assert (await stored(kept), ran) == (before, [])


async def test_what_a_stubborn_node_left_behind_does_not_touch_the_next_attempt(
    checkpoints: Checkpoints,
) -> None:
    ran: list[str] = []
    node = Stubborn()
    processor = WorkflowProcessor({"*": line(ran, node)}, checkpoints)
    first = await processor.run(EVENT, thread_id=THREAD, lease=Lease(), limits=SHORT)
    assert isinstance(first, Failed)
    assert first.lingering is not None

    second = asyncio.create_task(
        processor.run(EVENT, thread_id=THREAD, lease=Lease(), limits=TimeLimits(attempt_s=60))
    )
    node.inside.clear()
    await node.inside.wait()
    node.free.set()
    end = await second

    assert end == Ended(result={"log": ["in", "stubborn"]}, resumed=True)
    assert await first.lingering.ended(SOON_S)
    assert ran == ["after"]


async def test_a_sync_node_that_outlives_its_attempt_is_seen_and_writes_nothing(
    checkpoints: Checkpoints, gate: threading.Event
) -> None:
    refused: list[BaseException] = []
    inner: Graph = StateGraph(Log)
    inner.add_node("inner", lambda _: {"log": ["inner"]})
    inner.add_edge(START, "inner")
    below = inner.compile()

    def outlive(state: Log, config: RunnableConfig) -> Log:
        gate.wait()
        try:
            below.invoke(state, config, durability="sync")
        except StaleAttemptError as error:
            refused.append(error)
        return {"log": ["late"]}

    ran: list[str] = []
    processor = WorkflowProcessor({"*": line(ran, outlive)}, checkpoints)
    end = await processor.run(EVENT, thread_id=THREAD, lease=Lease(), limits=SHORT)
    assert isinstance(end, Failed)
    assert end.lingering is not None
    before = await stored(checkpoints)
    alive = (end.lingering.alive, await end.lingering.ended(0.1))

    gate.set()
    ended = await end.lingering.ended(SOON_S)

    assert alive == (True, False)
    assert (ended, end.lingering.alive) == (True, False)
    assert len(refused) == 1
    assert await stored(checkpoints) == before
    assert ran == []


async def stored(checkpoints: Checkpoints) -> list[tuple[str, int]]:
    if checkpoints.saver is None:
        return []
    config: RunnableConfig = {"configurable": {"thread_id": THREAD}}
    return [
        (found.checkpoint["id"], len(found.pending_writes or ()))
        async for found in checkpoints.saver.alist(config)
    ]


async def test_a_sync_sibling_of_a_failed_node_is_a_leftover_where_nothing_is_kept(
    gate: threading.Event,
) -> None:
    inside = threading.Event()

    def outlive(_: Log) -> Log:
        inside.set()
        gate.wait()
        return {"log": []}

    def fail(_: Log) -> Log:
        inside.wait()
        raise RuntimeError("not today")

    nodes: dict[str, Any] = {"outlive": outlive, "fail": fail}
    graph: Graph = StateGraph(Log)
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)

    end = await WorkflowProcessor({"*": graph}).run(EVENT, thread_id=THREAD, lease=Lease())

    assert isinstance(end, Failed)
    assert isinstance(end.error, RuntimeError)
    assert end.lingering is not None
    gate.set()
    assert await end.lingering.ended(SOON_S)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_failure_with_nothing_left_has_no_leftover(kind: str) -> None:
    def fail(_: Log) -> Log:
        raise RuntimeError("not today")

    async def hang(_: Log) -> Log:
        await asyncio.Event().wait()
        return {"log": []}

    graph = line([], hang if kind == "async" else fail)

    end = await WorkflowProcessor({"*": graph}).run(
        EVENT, thread_id=THREAD, lease=Lease(), limits=SHORT
    )

    assert isinstance(end, Failed)
    assert end.lingering is None


@pytest.mark.parametrize(
    "limits", [TimeLimits(), TimeLimits(attempt_s=60, idle_s=60)], ids=["unlimited", "limited"]
)
async def test_a_stubborn_node_does_not_hold_back_a_cancellation(
    limits: TimeLimits, kept: Checkpoints
) -> None:
    ran: list[str] = []
    node = Stubborn()
    lease = Lease()
    processor = WorkflowProcessor({"*": line(ran, node)}, kept)
    task = asyncio.create_task(processor.run(EVENT, thread_id=THREAD, lease=lease, limits=limits))
    await node.inside.wait()

    task.cancel()
    await asyncio.wait((task,), timeout=SOON_S)

    assert task.cancelled()
    lease.end()
    node.free.set()
    await no_other_tasks()
    assert ran == []


async def no_other_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    done, pending = await asyncio.wait(others, timeout=SOON_S)
    assert done
    assert pending == set()


async def test_work_in_threads_belongs_to_who_asked_for_it(gate: threading.Event) -> None:
    mine, other = WorkInThreads(), WorkInThreads()
    loop = asyncio.get_running_loop()

    async def ask(work: WorkInThreads) -> asyncio.Future[bool]:
        WORK_IN_THREADS.set(work)
        return loop.run_in_executor(None, gate.wait)

    async def ask_for_nobody() -> asyncio.Future[bool]:
        await asyncio.sleep(0)
        return loop.run_in_executor(None, gate.wait)

    asked = [
        await asyncio.create_task(question)
        for question in (ask(mine), ask(mine), ask(other), ask_for_nobody())
    ]
    counts = (mine.open, other.open)
    gate.set()
    await asyncio.gather(*asked)

    assert counts == (2, 1)
    assert (mine.open, other.open) == (0, 0)


async def test_work_that_still_waits_for_a_thread_goes_with_its_asker(
    gate: threading.Event,
) -> None:
    work = WorkInThreads()
    WORK_IN_THREADS.set(work)
    loop = asyncio.get_running_loop()
    running = [loop.run_in_executor(None, gate.wait) for _ in range(4)]
    waiting = loop.run_in_executor(None, gate.wait)
    before = work.open

    waiting.cancel()
    await asyncio.sleep(0)
    after = work.open
    gate.set()
    await asyncio.gather(*running)

    assert (before, after) == (5, 4)
