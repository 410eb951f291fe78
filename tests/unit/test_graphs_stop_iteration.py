"""A StopIteration ends the run of the node that let it out, wherever it was raised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from tests.rows import rows

from redrive.events import WorkflowResultEvent
from redrive.graphs import WorkflowProcessor
from redrive.graphs.node_threads import hear_stop_iterations
from redrive.testing import event


class State(TypedDict, total=False):
    rows: list[str]
    first: str


def next_row(state: State) -> State:
    return {"first": next(iter(state["rows"]))}


async def of_a_coroutine(state: State) -> State:
    await asyncio.sleep(0)
    return next_row(state)


async def of_a_thread(state: State) -> State:
    return await asyncio.to_thread(next_row, state)


async def of_a_pool_of_ones_own(state: State) -> State:
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, next_row, state)


async def of_a_wrapped_future(state: State) -> State:
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.wrap_future(pool.submit(next_row, state))


async def beside_another(state: State) -> State:
    await asyncio.gather(asyncio.to_thread(next_row, state), asyncio.sleep(0))
    return {}


Node = Callable[[State], State | Awaitable[State]]


@pytest.mark.invariant("P1")
@rows(
    "node",
    [
        next_row,
        of_a_coroutine,
        of_a_thread,
        of_a_pool_of_ones_own,
        of_a_wrapped_future,
        beside_another,
    ],
)
def test_a_stop_iteration_fails_its_run(node: Node) -> None:
    graph = StateGraph(State)
    graph.add_node("pick", _as_node(node))
    graph.add_edge(START, "pick")
    processor = WorkflowProcessor({"fates": graph})

    answered = asyncio.run(_within_a_minute(processor.process_workflow_event(event({"rows": []}))))

    assert answered.status == "error"
    assert answered.error_info is not None
    assert answered.error_info.type == "RuntimeError"


def test_what_else_a_thread_ends_in_is_heard_as_before() -> None:
    async def asked() -> tuple[object, object]:
        hear_stop_iterations()
        return await asyncio.gather(
            asyncio.to_thread(int, "1"), asyncio.to_thread(int, "x"), return_exceptions=True
        )

    one, error = asyncio.run(asked())

    assert one == 1
    assert isinstance(error, ValueError)


async def _within_a_minute(waiting: Awaitable[WorkflowResultEvent]) -> WorkflowResultEvent:
    async with asyncio.timeout(60):
        return await waiting


def _as_node(node: Node) -> Any:  # noqa: ANN401 - sync or async
    return node
