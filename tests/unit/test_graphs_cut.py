"""A run cut at any of its writes, as kill -9 cuts it, goes on to the same end."""

from __future__ import annotations

import operator
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Protocol, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from redrive.events import Payload, WorkflowEvent
from redrive.graphs import Checkpoints, CheckpointSettings, Ended, Failed, Lease, WorkflowProcessor
from redrive.testing.kafka_env import event as make_event

NAMES = ("one", "two", "three")
# An input, three supersteps, and the writes of each: more cuts than a run has writes.
CUTS = 14


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class Node(Protocol):
    def __call__(self, state: Log) -> Log: ...


class CutLease(Lease):
    """A lease that lets a number of writes pass, and none after them."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self._left = writes

    async def admit(self) -> None:
        if self._left == 0:
            self.end("the process was killed")
        self._left -= 1
        await super().admit()


def line(ran: Counter[str]) -> StateGraph[Log, Any, Log, Log]:
    graph: StateGraph[Log, Any, Log, Log] = StateGraph(Log)
    for before, name in zip((START, *NAMES), NAMES, strict=False):
        graph.add_node(name, node_of(name, ran))
        graph.add_edge(before, name)
    return graph


def node_of(name: str, ran: Counter[str]) -> Node:
    def node(state: Log) -> Log:  # noqa: ARG001 - LangGraph's signature
        ran[name] += 1
        return {"log": [name]}

    return node


def event() -> WorkflowEvent:
    return make_event({}).model_copy(update={"payload": Payload(data={"log": ["in"]})})


@pytest.mark.invariant("P2", "P4")
@pytest.mark.parametrize("writes", range(CUTS))
async def test_a_run_cut_after_any_write_goes_on_to_the_same_end(
    writes: int, tmp_path: Path
) -> None:
    ran: Counter[str] = Counter()
    asked = event()
    thread = f"{asked.event_id}/0/0"
    settings = CheckpointSettings(url=f"sqlite:///{tmp_path}/checkpoints.db")
    async with Checkpoints(settings) as checkpoints:
        processor = WorkflowProcessor({"fates": line(ran)}, checkpoints)
        cut = await processor.run(asked, thread_id=thread, lease=CutLease(writes))

        end = await processor.run(asked, thread_id=thread, lease=Lease())

    assert isinstance(end, Ended)
    assert end.result == {"log": ["in", *NAMES]}
    # Only the node in flight at the cut may have run twice.
    assert sum(ran.values()) <= len(NAMES) + 1
    assert isinstance(cut, Failed) or writes >= CUTS // 2


async def test_the_cuts_reach_from_the_first_write_to_past_the_last(tmp_path: Path) -> None:
    settings = CheckpointSettings(url=f"sqlite:///{tmp_path}/checkpoints.db")
    asked = event()
    async with Checkpoints(settings) as checkpoints:
        processor = WorkflowProcessor({"fates": line(Counter())}, checkpoints)
        thread = f"{asked.event_id}/0/0"

        end = await processor.run(asked, thread_id=thread, lease=CutLease(CUTS - 1))

    assert isinstance(end, Ended)
