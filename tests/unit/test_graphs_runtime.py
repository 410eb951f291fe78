"""A node's `Runtime` is the one that LangGraph alone would give it, whatever redrive adds."""

from __future__ import annotations

import itertools
import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import TimeoutPolicy

from redrive.errors import PermanentError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    DrainControl,
    Ended,
    Failed,
    Lease,
    TimeLimits,
    WorkflowProcessor,
)
from redrive.graphs.attempt_ends import Redriven
from redrive.testing import event

CONTEXT = {"user": "u1"}
GENEROUS = TimeLimits(deadline_s=60, attempt_s=60, idle_s=60)


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class Context(TypedDict):
    user: str


class Nodes:
    """A graph of async and sync nodes, also in a subgraph, that note what they are given."""

    def __init__(self) -> None:
        self.store = InMemoryStore()
        self.seen: dict[str, dict[str, object]] = {}
        self.failing = False

    def graph(self) -> Any:  # noqa: ANN401 - LangGraph's type of a graph
        inner: Any = StateGraph(Log, context_schema=Context)
        inner.add_node("inner_async", self.asynchronous("inner_async"))
        inner.add_node("inner_sync", self.synchronous("inner_sync"))
        inner.add_edge(START, "inner_async").add_edge("inner_async", "inner_sync")
        outer: Any = StateGraph(Log, context_schema=Context)
        outer.add_node("async", self.asynchronous("async"))
        outer.add_node("sync", self.synchronous("sync"))
        outer.add_node("inner", inner.compile())
        outer.add_edge(START, "async").add_edge("async", "sync").add_edge("sync", "inner")
        return outer.compile(store=self.store)

    def asynchronous(self, name: str) -> Any:  # noqa: ANN401 - any node
        async def node(_: Log, runtime: Runtime[Context], *, store: BaseStore) -> Log:
            return self.note(name, runtime, store)

        return node

    def synchronous(self, name: str) -> Any:  # noqa: ANN401 - any node
        def node(_: Log, runtime: Runtime[Context], *, store: BaseStore) -> Log:
            return self.note(name, runtime, store)

        return node

    def note(self, name: str, runtime: Runtime[Context], store: BaseStore) -> Log:
        if self.failing:
            raise PermanentError("not now")
        runtime.heartbeat()
        runtime.stream_writer({"any": "thing"})
        get_stream_writer()({"any": "thing"})
        info = runtime.execution_info
        assert info is not None
        self.seen[name] = {
            "stores": [found is self.store for found in (runtime.store, store, get_store())],
            "contexts": [runtime.context, get_runtime(Context).context],
            "previous": runtime.previous,
            "server_info": runtime.server_info,
            "control": runtime.control is not None,
            "drain_requested": runtime.drain_requested,
            "thread_ids": [info.thread_id, get_config()["configurable"]["thread_id"]],
            "attempt": info.node_attempt,
            "task": bool(info.task_id and info.checkpoint_id and name in info.checkpoint_ns),
        }
        return {"log": [name]}


async def alone(thread_id: str) -> dict[str, dict[str, object]]:
    """Return what the nodes are given by LangGraph alone."""
    nodes = Nodes()
    config: Any = {"configurable": {"thread_id": thread_id}}
    await nodes.graph().ainvoke({"log": []}, config, context=CONTEXT)
    return nodes.seen


def given_context() -> WorkflowEvent:
    return event({"log": []}).model_copy(update={"metadata": {"langgraph": {"context": CONTEXT}}})


@pytest.mark.parametrize("kept", ["none", "sqlite"])
async def test_every_field_is_there_with_every_option(kept: str, tmp_path: Path) -> None:
    url = "none" if kept == "none" else f"sqlite:///{tmp_path}/checkpoints.db"
    options = itertools.product(
        (False, True), (TimeLimits(), GENEROUS), (False, True), (False, True)
    )
    different = []

    async with Checkpoints(CheckpointSettings(url=url)) as checkpoints:
        for follow, limits, drainable, redriven in options:
            nodes, asked = Nodes(), given_context()
            thread_id, graph = f"{asked.event_id}/0/0", nodes.graph()
            processor = WorkflowProcessor({"*": graph}, checkpoints, follow=follow)
            letter = None
            if redriven:
                nodes.failing = True
                end = await processor.run(asked, thread_id=thread_id, lease=Lease())
                assert isinstance(end, Failed)
                nodes.failing = False
                stopped_at = None if end.position is None else end.position.checkpoint_id
                letter = Redriven(stopped_at=stopped_at)
            end = await processor.run(
                asked,
                thread_id=thread_id,
                lease=Lease(),
                limits=limits,
                control=processor.new_control() if drainable else None,
                redriven=letter,
            )
            assert isinstance(end, Ended)
            if nodes.seen != await alone(thread_id):
                different.append((follow, limits, drainable, redriven, nodes.seen))

    assert different == []


@pytest.mark.parametrize("follow", [False, True])
async def test_a_node_sees_that_its_run_is_asked_to_drain(
    checkpoints: Checkpoints, *, follow: bool
) -> None:
    asked, control, seen = event({"log": []}), DrainControl(), list[object]()

    def node(_: Log, runtime: Runtime[None]) -> Log:
        seen.append(runtime.drain_requested)
        control.request_drain("soon")
        seen.append(runtime.drain_reason)
        return {"log": []}

    graph: Any = StateGraph(Log)
    graph.add_node("node", node).add_edge(START, "node")

    await WorkflowProcessor({"*": graph}, checkpoints, follow=follow).run(
        asked, thread_id=f"{asked.event_id}/0/0", lease=Lease(), limits=GENEROUS, control=control
    )

    assert seen == [False, "soon"]


@pytest.mark.parametrize("follow", [False, True])
async def test_a_function_is_given_what_its_thread_returned_before(
    checkpoints: Checkpoints, *, follow: bool
) -> None:
    store, seen = InMemoryStore(), []

    @entrypoint(store=store)
    async def flow(given: dict[str, int], *, previous: int | None = None) -> int:
        seen.append((previous, get_store() is store))
        return given["n"]

    processor = WorkflowProcessor({"*": flow}, checkpoints, follow=follow)
    for number in (1, 2):
        await processor.run(
            event({"n": number}), thread_id="conversation", lease=Lease(), limits=GENEROUS
        )

    assert seen == [(None, True), (1, True)]


@pytest.mark.parametrize("own", [None, TimeoutPolicy(idle_timeout=60, refresh_on="heartbeat")])
async def test_a_heartbeat_is_a_move_of_the_run(own: TimeoutPolicy | None) -> None:
    moves: list[None] = []
    heard = []

    async def node(_: Log, runtime: Runtime[None]) -> Log:
        before = len(moves)
        runtime.heartbeat()
        heard.append(len(moves) - before)
        return {"log": []}

    graph: Any = StateGraph(Log)
    graph.add_node("node", node, timeout=own).add_edge(START, "node")

    await WorkflowProcessor({"*": graph}).run(
        event({"log": []}),
        thread_id="any",
        lease=Lease(),
        limits=GENEROUS,
        moved=lambda: moves.append(None),
    )

    assert heard == [1]
