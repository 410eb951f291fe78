"""`sys.exit()` in a node ends its run, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from redrive.errors import NodeExitError
from redrive.graphs import Ended, Failed, Lease, WorkflowProcessor
from redrive.graphs.contained import contain_exits
from redrive.testing import event


class State(TypedDict, total=False):
    leave: bool


def sync_node(state: State) -> State:
    if state.get("leave"):
        sys.exit(3)
    return {}


async def async_node(state: State) -> State:
    await asyncio.sleep(0)
    return sync_node(state)


def graph(node: Any) -> StateGraph[State, None, State, State]:  # noqa: ANN401 - sync or async
    built = StateGraph(State)
    built.add_node("node", node)
    built.add_edge(START, "node")
    return built


@pytest.mark.invariant("P7")
@pytest.mark.parametrize("node", [sync_node, async_node])
def test_a_node_that_exits_fails_its_run_and_the_others_go_on(node: object) -> None:
    processor = WorkflowProcessor({"fates": graph(node)})

    async def run(*, leave: bool) -> Ended | Failed:
        asked = event({"leave": leave})
        end = await processor.run(asked, thread_id=f"{asked.event_id}/0/0", lease=Lease())
        assert isinstance(end, Ended | Failed)
        return end

    async def both() -> tuple[Ended | Failed, Ended | Failed]:
        one, other = await asyncio.gather(run(leave=True), run(leave=False))
        return one, other

    with asyncio.Runner() as runner:
        contain_exits(runner.get_loop())
        left, stayed = runner.run(both())

    assert isinstance(left, Failed)
    assert isinstance(left.error, NodeExitError)
    assert isinstance(stayed, Ended)


def test_a_task_cancelled_before_its_first_step_leaves_nothing_behind() -> None:
    async def inner() -> None:
        await asyncio.sleep(0)

    async def cancel_at_once() -> bool:
        task = asyncio.create_task(inner())
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    with asyncio.Runner() as runner:
        contain_exits(runner.get_loop())
        assert runner.run(cancel_at_once())
