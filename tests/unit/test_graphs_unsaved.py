"""Subgraphs with `checkpointer=False`: they run, and run whole again, as LangGraph says of them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from redrive.errors import TransientError
from redrive.events import WorkflowEvent
from redrive.graphs import Checkpoints, Ended, Failed, Lease, RunEnd, WorkflowProcessor

EVENT_ID = "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e"


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


Build = Callable[["Nodes"], Any]


class Nodes:
    """Counts its nodes' executions; the one called `two` fails the first time."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()

    def line(self, *names: str) -> StateGraph[Log, None, Log, Log]:
        graph = StateGraph(Log)
        for index, name in enumerate(names):
            graph.add_node(name, lambda _, name=name: self._run(name))
            graph.add_edge(names[index - 1] if index else START, name)
        return graph

    def _run(self, name: str) -> Log:
        self.ran[name] += 1
        if name == "two" and self.ran[name] == 1:
            raise TransientError("two is away")
        return {"log": [name]}

    def around(self, inner: Any) -> StateGraph[Log, None, Log, Log]:  # noqa: ANN401 - any node
        graph = self.line("before")
        graph.add_node("sub", inner)
        graph.add_node("after", lambda _: self._run("after"))
        graph.add_edge("before", "sub")
        graph.add_edge("sub", "after")
        return graph


def compiled_in(nodes: Nodes) -> Any:  # noqa: ANN401 - any graph
    return nodes.around(nodes.line("one", "two", "three").compile(checkpointer=False))


def called_in_an_async_node(nodes: Nodes) -> Any:  # noqa: ANN401 - as above
    async def call(_: Log) -> Log:
        inner = nodes.line("one", "two", "three").compile(checkpointer=False)
        return {"log": (await inner.ainvoke({"log": []}))["log"]}

    return nodes.around(call)


def called_in_a_sync_node(nodes: Nodes) -> Any:  # noqa: ANN401 - as above
    def call(_: Log) -> Log:
        inner = nodes.line("one", "two", "three").compile(checkpointer=False)
        return {"log": inner.invoke({"log": []})["log"]}

    return nodes.around(call)


def with_a_subgraph_of_its_own(nodes: Nodes) -> Any:  # noqa: ANN401 - as above
    inner = nodes.line("one")
    inner.add_node("deep", nodes.line("two", "three").compile(checkpointer=False))
    inner.add_edge("one", "deep")
    return nodes.around(inner.compile(checkpointer=False))


async def attempt(graph: Any, checkpoints: Checkpoints) -> RunEnd:  # noqa: ANN401 - as above
    event = WorkflowEvent.model_validate(
        {
            "event_id": EVENT_ID,
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {"log": []}},
        }
    )
    processor = WorkflowProcessor({"work": graph}, checkpoints)
    return await processor.run(event, thread_id=f"{EVENT_ID}/0/0", lease=Lease())


@pytest.mark.parametrize(
    "build",
    [compiled_in, called_in_an_async_node, called_in_a_sync_node, with_a_subgraph_of_its_own],
)
async def test_a_subgraph_without_checkpoints_runs_whole_again_and_nothing_else(
    build: Build, checkpoints: Checkpoints
) -> None:
    nodes = Nodes()
    graph = build(nodes)

    first = await attempt(graph, checkpoints)
    second = await attempt(graph, checkpoints)

    assert isinstance(first, Failed)
    assert isinstance(first.error, TransientError)
    assert isinstance(second, Ended)
    assert second.reason is None
    assert nodes.ran == {"before": 1, "one": 2, "two": 2, "three": 1, "after": 1}
    assert isinstance(second.result, dict)
    assert second.result["log"][-1] == "after"
    assert second.resumed
