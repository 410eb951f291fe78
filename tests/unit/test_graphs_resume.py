"""What is done again by the next attempt, and what is not: real LangGraph, a real SQLite file."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Protocol, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import NodeError
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from redrive.errors import DeadHandlerError, GraphChangedError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Failed,
    Lease,
    RunEnd,
    WorkflowProcessor,
)
from redrive.graphs.registry import GraphSource

EVENT_ID = "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e"
THREAD = f"{EVENT_ID}/0/0"


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


Graph = StateGraph[Log, Any, Log, Log]


class Node(Protocol):
    def __call__(self, state: Log) -> object: ...


class Nodes:
    """Makes nodes that count how often each ran, and fails those that it is told to fail."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.failing: dict[str, BaseException] = {}

    def sync_node(self, name: str) -> Node:
        return lambda state: self.count(name, state)

    def async_node(self, name: str) -> Node:
        async def run(state: Log) -> Log:
            await asyncio.sleep(0)
            return self.count(name, state)

        return run

    def count(self, name: str, _: Log) -> Log:
        self.ran[name] += 1
        if name in self.failing:
            raise self.failing[name]
        return {"log": [name]}

    def line(self, *names: str) -> Graph:
        """A graph of these nodes, one after the other; every second one is a plain function."""
        graph: Graph = StateGraph(Log)
        for index, name in enumerate(names):
            graph.add_node(name, self.sync_node(name) if index % 2 else self.async_node(name))
            graph.add_edge(names[index - 1] if index else START, name)
        return graph


def saver_of(checkpoints: Checkpoints) -> BaseCheckpointSaver[Any]:
    assert checkpoints.saver is not None
    return checkpoints.saver


def event(data: dict[str, Any] | None = None, event_id: str = EVENT_ID) -> WorkflowEvent:
    return WorkflowEvent.model_validate(
        {
            "event_id": event_id,
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {"log": ["in"]} if data is None else data},
        }
    )


async def run(
    graph: GraphSource,
    checkpoints: Checkpoints | None,
    *,
    thread_id: str = THREAD,
    given: WorkflowEvent | None = None,
    generation: int = 0,
) -> RunEnd:
    processor = WorkflowProcessor({"work": graph}, checkpoints)
    return await processor.run(
        given or event(), thread_id=thread_id, lease=Lease(), generation=generation
    )


@pytest.mark.invariant("P4")
async def test_a_resume_runs_the_failing_node_again_and_none_before_it(
    checkpoints: Checkpoints,
) -> None:
    nodes = Nodes()
    nodes.failing["two"] = RuntimeError("not today")
    graph = nodes.line("one", "two", "three")
    first = await run(graph, checkpoints)
    nodes.failing.clear()

    second = await run(graph, checkpoints)

    assert isinstance(first, Failed)
    assert (str(first.error), first.node, first.resumed) == ("not today", "two", False)
    assert second == Ended(result={"log": ["in", "one", "two", "three"]}, resumed=True)
    assert nodes.ran == {"one": 1, "two": 2, "three": 1}


@pytest.mark.invariant("P4")
async def test_a_resume_works_from_the_file_alone(tmp_path: Path) -> None:
    nodes = Nodes()
    nodes.failing["two"] = RuntimeError("not today")
    settings = CheckpointSettings(url=f"sqlite:///{tmp_path}/checkpoints.db")
    async with Checkpoints(settings) as before:
        await run(nodes.line("one", "two"), before)
    nodes.failing.clear()

    async with Checkpoints(settings) as after:
        end = await run(nodes.line("one", "two"), after)

    assert end == Ended(result={"log": ["in", "one", "two"]}, resumed=True)
    assert nodes.ran == {"one": 1, "two": 2}


@pytest.mark.invariant("P4")
async def test_a_finished_sibling_is_not_run_again(checkpoints: Checkpoints) -> None:
    nodes = Nodes()
    failing_may_start = asyncio.Event()

    async def slow(state: Log) -> Log:
        await failing_may_start.wait()
        await asyncio.sleep(0)
        return nodes.count("slow", state)

    async def quick(state: Log) -> Log:
        failing_may_start.set()
        return nodes.count("quick", state)

    graph: Graph = StateGraph(Log)
    graph.add_node("quick", quick)
    graph.add_node("slow", slow)
    graph.add_edge(START, "quick")
    graph.add_edge(START, "slow")
    nodes.failing["slow"] = RuntimeError("not today")
    await run(graph, checkpoints)
    nodes.failing.clear()

    end = await run(graph, checkpoints)

    assert isinstance(end, Ended)
    assert nodes.ran == {"quick": 1, "slow": 2}


@pytest.mark.invariant("P4")
async def test_a_finished_thread_answers_without_running(checkpoints: Checkpoints) -> None:
    nodes = Nodes()
    graph = nodes.line("one", "two")
    first = await run(graph, checkpoints)

    second = await run(graph, checkpoints)

    assert isinstance(first, Ended)
    assert isinstance(second, Ended)
    assert first.result == second.result == {"log": ["in", "one", "two"]}
    assert (first.resumed, second.resumed) == (False, True)
    assert nodes.ran == {"one": 1, "two": 1}


async def test_a_finished_thread_answers_with_the_output_schema_only(
    checkpoints: Checkpoints,
) -> None:
    class All(TypedDict):
        question: str
        answer: str

    class Out(TypedDict):
        answer: str

    graph = StateGraph(All, output_schema=Out)
    graph.add_node("reply", lambda state: {"answer": state["question"].upper()})
    graph.add_edge(START, "reply")
    asked = event({"question": "why"})
    first = await run(graph, checkpoints, given=asked)

    second = await run(graph, checkpoints, given=asked)

    assert isinstance(first, Ended)
    assert isinstance(second, Ended)
    assert first.result == second.result == {"answer": "WHY"}


async def test_another_event_on_a_shared_thread_is_a_new_turn(checkpoints: Checkpoints) -> None:
    nodes = Nodes()
    graph = nodes.line("one")
    other = event({"log": ["again"]}, event_id="11111111-7a0e-4b5e-8f0a-0d6b1f1d2c3e")
    await run(graph, checkpoints, thread_id="conversation")

    second = await run(graph, checkpoints, thread_id="conversation", given=other)
    repeated = await run(graph, checkpoints, thread_id="conversation", given=other)

    assert second == Ended(result={"log": ["in", "one", "again", "one"]}, resumed=False)
    assert repeated == Ended(result={"log": ["in", "one", "again", "one"]}, resumed=True)
    assert nodes.ran == {"one": 2}


async def test_a_restart_on_a_shared_thread_is_a_new_turn_too(checkpoints: Checkpoints) -> None:
    nodes = Nodes()
    nodes.failing["one"] = RuntimeError("not today")
    graph = nodes.line("one")
    await run(graph, checkpoints, thread_id="conversation")
    nodes.failing.clear()

    end = await run(graph, checkpoints, thread_id="conversation", generation=1)

    assert end == Ended(result={"log": ["in", "in", "one"]}, resumed=False)


async def test_a_failure_tells_where_the_thread_stands(checkpoints: Checkpoints) -> None:
    nodes = Nodes()
    nodes.failing["two"] = RuntimeError("not today")

    end = await run(nodes.line("one", "two"), checkpoints)

    config: RunnableConfig = {"configurable": {"thread_id": THREAD}}
    stored = await saver_of(checkpoints).aget_tuple(config)
    assert isinstance(end, Failed)
    assert end.position is not None
    assert stored is not None
    assert end.position.thread_id == THREAD
    assert end.position.checkpoint_id == stored.config["configurable"]["checkpoint_id"]
    assert (end.position.checkpoint_ns, end.position.next) == ("", ("two",))


async def test_a_node_inside_a_subgraph_is_named_with_its_way(checkpoints: Checkpoints) -> None:
    nodes = Nodes()
    nodes.failing["inner"] = RuntimeError("deep down")
    graph: Graph = StateGraph(Log)
    graph.add_node("outer", nodes.line("inner").compile())
    graph.add_edge(START, "outer")

    end = await run(graph, checkpoints)

    assert isinstance(end, Failed)
    assert end.node == "outer/inner"


@pytest.mark.invariant("P4")
async def test_a_subgraph_resumes_at_its_own_node(checkpoints: Checkpoints) -> None:
    nodes = Nodes()
    nodes.failing["second"] = RuntimeError("not today")
    graph: Graph = StateGraph(Log)
    graph.add_node("outer", nodes.line("first", "second").compile())
    graph.add_edge(START, "outer")
    await run(graph, checkpoints)
    nodes.failing.clear()

    end = await run(graph, checkpoints)

    assert isinstance(end, Ended)
    assert nodes.ran == {"first": 1, "second": 2}


@pytest.mark.parametrize("shape", ["edge", "join", "send"])
async def test_a_node_that_is_gone_makes_the_graph_changed(
    checkpoints: Checkpoints, shape: str
) -> None:
    nodes = Nodes()

    def build(last: str) -> Graph:
        graph: Graph = StateGraph(Log)
        for name in ("a", "b", last):
            graph.add_node(name, nodes.async_node(name))
        graph.add_edge(START, "a")
        match shape:
            case "edge":
                graph.add_edge("a", last)
                graph.add_edge(last, "b")
            case "join":
                graph.add_edge(START, "b")
                graph.add_edge(["a", "b"], last)
            case _:
                graph.add_conditional_edges("a", lambda _: [Send(last, {"log": []})], [last])
        return graph

    nodes.failing["old"] = RuntimeError("not today")
    await run(build("old"), checkpoints)
    nodes.failing.clear()

    end = await run(build("new"), checkpoints)

    assert isinstance(end, Failed)
    assert isinstance(end.error, GraphChangedError)
    assert end.error.missing == ("old",)
    assert (end.resumed, nodes.ran["new"]) == (False, 0)


def _with_handler(nodes: Nodes) -> Graph:
    async def handle(state: Log, error: NodeError) -> Log:
        return nodes.count(f"handler of {error.node}", state)

    graph: Graph = StateGraph(Log)
    graph.add_node("one", nodes.async_node("one"))
    graph.add_node("two", nodes.async_node("two"), error_handler=handle)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    return graph


async def test_an_error_handler_that_raised_is_run_again_and_not_its_node(
    checkpoints: Checkpoints,
) -> None:
    nodes = Nodes()
    nodes.failing = {"two": RuntimeError("a"), "handler of two": RuntimeError("b")}
    first = await run(_with_handler(nodes), checkpoints)
    del nodes.failing["handler of two"]

    second = await run(_with_handler(nodes), checkpoints)

    assert isinstance(first, Failed)
    assert (str(first.error), first.node) == ("b", "__error_handler__two")
    assert second == Ended(result={"log": ["in", "one", "handler of two"]}, resumed=True)
    assert nodes.ran == {"one": 1, "two": 1, "handler of two": 2}


@pytest.mark.invariant("P4")
async def test_a_thread_that_only_looks_finished_is_not_answered(checkpoints: Checkpoints) -> None:
    # What LangGraph 1.2.22 leaves behind: nothing to do next, and the dead handler's trace.
    await run(Nodes().line("one"), checkpoints)
    config: RunnableConfig = {"configurable": {"thread_id": THREAD}}
    saver = saver_of(checkpoints)
    stored = await saver.aget_tuple(config)
    assert stored is not None
    await saver.aput_writes(stored.config, [("__error_source_node__", "two")], "task")

    end = await run(Nodes().line("one"), checkpoints)

    assert isinstance(end, Failed)
    assert isinstance(end.error, DeadHandlerError)
    assert "'two'" in str(end.error)
