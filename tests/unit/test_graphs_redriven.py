"""A letter that is resumed: from where it stopped, or not at all; and what a witness saw of it."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy, interrupt

from redrive.errors import CheckpointGoneError, ThreadMovedOnError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    Ended,
    Failed,
    Lease,
    RunEnd,
    WorkflowProcessor,
)
from redrive.graphs.attempt_ends import Redriven
from redrive.graphs.current import CurrentAttempt
from redrive.graphs.node_progress import NodeProgress
from redrive.retry.kinds import Reason
from redrive.testing.kafka_env import event

OWN, NAMED = "own", "conversation-7"


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class Story:
    """A line of three nodes, whose failing ones are named; and two that go before the last."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.failing: set[str] = set()

    def node(self, name: str) -> Any:  # noqa: ANN401 - LangGraph's type of a node
        async def run(_: Log) -> Log:
            self.ran[name] += 1
            if name in self.failing:
                raise ValueError(f"{name} has no rights")
            return {"log": [name]}

        return run

    def sync(self, name: str) -> Any:  # noqa: ANN401 - as above
        return lambda state: asyncio.run(self.node(name)(state))

    def line(self) -> Any:  # noqa: ANN401 - LangGraph's type of a graph
        graph: Any = StateGraph(Log)
        for before, name in ((START, "plan"), ("plan", "work"), ("work", "write")):
            graph.add_node(name, self.node(name)).add_edge(before, name)
        return graph

    def fork(self) -> Any:  # noqa: ANN401 - as above
        graph: Any = StateGraph(Log)
        for name in ("plan", "left", "right", "join"):
            graph.add_node(name, self.node(name))
        graph.add_edge(START, "plan").add_edge("plan", "left").add_edge("plan", "right")
        return graph.add_edge(["left", "right"], "join")


class Forgetful(InMemorySaver):
    """A checkpointer that loses the writes of finished nodes once they have been seen."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_left: int | None = None

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        if found is None or self.reads_left is None:
            return found
        self.reads_left -= 1
        return found if self.reads_left >= 0 else found._replace(pending_writes=[])


async def run(
    graph: Any,  # noqa: ANN401 - LangGraph's type
    kept: Any,  # noqa: ANN401 - checkpoints, a checkpointer or none
    given: WorkflowEvent,
    *,
    thread: str = OWN,
    redriven: Redriven | None = None,
) -> RunEnd:
    return await WorkflowProcessor({"*": graph}, kept).run(
        given,
        thread_id=f"{given.event_id}/0/0" if thread == OWN else thread,
        lease=Lease(),
        redrive_count=0 if redriven is None else 1,
        redriven=redriven,
    )


async def stopped(
    graph: Any,  # noqa: ANN401 - LangGraph's type
    kept: Any,  # noqa: ANN401 - as in `run`
    given: WorkflowEvent,
    *,
    thread: str = OWN,
) -> Redriven:
    """Run it to the failure that makes a letter, and return what its redrive carries."""
    end = await run(graph, kept, given, thread=thread)
    assert isinstance(end, Failed)
    assert end.position is not None
    return Redriven(stopped_at=end.position.checkpoint_id)


@pytest.mark.parametrize("thread", [OWN, NAMED])
async def test_a_resume_runs_the_failed_node_and_no_finished_one(
    checkpoints: Checkpoints, thread: str
) -> None:
    story, given = Story(), event({"log": []})
    story.failing = {"write"}
    letter = await stopped(story.line(), checkpoints, given, thread=thread)
    story.failing = set()

    end = await run(story.line(), checkpoints, given, thread=thread, redriven=letter)

    assert isinstance(end, Ended)
    assert end.unverified == ()
    assert story.ran == {"plan": 1, "work": 1, "write": 2}


async def test_a_finished_neighbour_of_the_failed_node_does_not_run_again(
    checkpoints: Checkpoints,
) -> None:
    story, given = Story(), event({"log": []})
    story.failing = {"right"}
    letter = await stopped(story.fork(), checkpoints, given)
    story.failing = set()

    end = await run(story.fork(), checkpoints, given, redriven=letter)

    assert isinstance(end, Ended)
    assert end.unverified == ()
    assert story.ran == {"plan": 1, "left": 1, "right": 2, "join": 1}


async def test_a_finished_node_that_runs_again_is_told() -> None:
    story, given, saver = Story(), event({"log": []}), Forgetful()
    story.failing = {"right"}
    letter = await stopped(story.fork(), saver, given)
    story.failing = set()
    saver.reads_left = 2  # by us: the thread, and its snapshot

    end = await run(story.fork(), saver, given, redriven=letter)

    assert isinstance(end, Ended)
    assert story.ran["left"] == 2
    assert end.unverified == ("node 'left' had finished and ran again",)


async def test_a_node_that_did_not_run_is_told_only_when_the_run_is_over(
    checkpoints: Checkpoints,
) -> None:
    story, given = Story(), event({"log": []})
    story.failing = {"write"}
    letter = await stopped(story.line(), checkpoints, given)
    processor = WorkflowProcessor({"*": story.line()}, checkpoints)
    told = CurrentAttempt(given, f"{given.event_id}/0/0", redrive_count=1)
    attempt = processor._attempt(  # noqa: SLF001 - a run that ends without running is not to be had
        told, Lease(), 0, NodeProgress()
    )
    attempt.redriven = letter

    await attempt.look()

    assert attempt.unverified(ended=False) == ()
    assert attempt.unverified(ended=True) == ("node 'write' had not finished and did not run",)


async def test_a_run_that_had_ended_is_answered_and_runs_no_node(checkpoints: Checkpoints) -> None:
    story, given = Story(), event({"log": []})
    await run(story.line(), checkpoints, given)

    end = await run(story.line(), checkpoints, given, redriven=Redriven(stopped_at=None))

    assert isinstance(end, Ended)
    assert (end.unverified, story.ran.total()) == ((), 3)


async def test_a_resume_without_its_checkpoint_is_refused(checkpoints: Checkpoints) -> None:
    story, given = Story(), event({"log": []})

    end = await run(story.line(), checkpoints, given, redriven=Redriven("1f0e-gone"))
    unkept = await run(story.line(), None, given, redriven=Redriven("1f0e-gone"))

    for refused in (end, unkept):
        assert isinstance(refused, Failed)
        assert isinstance(refused.error, CheckpointGoneError)
    assert not story.ran


async def test_a_resume_on_a_thread_that_another_run_has_used_is_refused(
    checkpoints: Checkpoints,
) -> None:
    story, given = Story(), event({"log": []})
    story.failing = {"write"}
    letter = await stopped(story.line(), checkpoints, given, thread=NAMED)
    story.failing = set()
    await run(story.line(), checkpoints, event({"log": []}), thread=NAMED)
    before = story.ran.copy()

    end = await run(story.line(), checkpoints, given, thread=NAMED, redriven=letter)

    assert isinstance(end, Failed)
    assert isinstance(end.error, ThreadMovedOnError)
    assert story.ran == before


async def test_a_redriven_run_that_is_tried_again_goes_on_from_its_own_progress(
    checkpoints: Checkpoints,
) -> None:
    story, given = Story(), event({"log": []})
    story.failing = {"work"}
    letter = await stopped(story.line(), checkpoints, given, thread=NAMED)
    story.failing = {"write"}
    again = await run(story.line(), checkpoints, given, thread=NAMED, redriven=letter)
    story.failing = set()

    end = await run(story.line(), checkpoints, given, thread=NAMED, redriven=replace(letter))

    assert isinstance(again, Failed)
    assert isinstance(end, Ended)
    assert (again.unverified, end.unverified) == ((), ())
    assert story.ran == {"plan": 1, "work": 2, "write": 2}


@pytest.mark.parametrize("asks", [False, True], ids=["to the end", "up to a question"])
async def test_a_result_from_the_node_cache_counts_as_a_node_that_has_finished(
    checkpoints: Checkpoints, *, asks: bool
) -> None:
    story, given = Story(), event({"log": []})

    async def beside(_: Log) -> Log:
        if asks and "nobody" not in story.failing:
            interrupt("go on?")
        return {"log": ["beside"]}

    graph: Any = StateGraph(Log)
    graph.add_node("plan", story.node("plan")).add_edge(START, "plan")
    graph.add_node("work", story.node("work"), cache_policy=CachePolicy()).add_edge("plan", "work")
    graph.add_node("beside", beside).add_edge("plan", "beside")
    graph.add_node("write", story.node("write")).add_edge(["work", "beside"], "write")
    compiled = graph.compile(cache=InMemoryCache())
    story.failing = {"work"}
    letter = await stopped(compiled, checkpoints, given)
    story.failing = {"nobody"}
    await run(compiled, checkpoints, event({"log": []}))  # an equal one, which fills the cache
    assert story.ran["work"] == 2
    story.failing = set()

    end = await run(compiled, checkpoints, given, redriven=letter)

    assert isinstance(end, Ended)
    assert end.unverified == ()
    assert (end.reason is Reason.INTERRUPT) is asks
    assert story.ran["work"] == 2


def _on_a_thread_of_its_own(inner: Any) -> Any:  # noqa: ANN401 - LangGraph's types
    async def call(_: Log) -> Log:
        config: RunnableConfig = {"configurable": {"thread_id": "its own"}}
        return {"log": (await inner.ainvoke({"log": []}, config))["log"]}

    return call


def _in_a_system_thread(inner: Any) -> Any:  # noqa: ANN401 - as above
    def call(_: Log) -> Log:
        config: RunnableConfig = {"configurable": {"thread_id": "its own"}}
        return {"log": inner.invoke({"log": []}, config)["log"]}

    return call


def _with_the_callbacks_alone(inner: Any) -> Any:  # noqa: ANN401 - as above
    def called(callbacks: Any) -> Any:  # noqa: ANN401 - LangChain's
        return asyncio.run(inner.ainvoke({"log": []}, {"callbacks": callbacks}))

    async def call(_: Log, config: RunnableConfig) -> Log:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(called, config.get("callbacks"))
            found = await asyncio.wrap_future(running)
        return {"log": found["log"]}

    return call


CALLS = [_on_a_thread_of_its_own, _in_a_system_thread, _with_the_callbacks_alone]


@pytest.mark.parametrize("call", CALLS)
async def test_nodes_of_a_graph_that_is_called_apart_are_not_taken_for_those_of_the_thread(
    checkpoints: Checkpoints, call: Callable[[Any], Any]
) -> None:
    story, given = Story(), event({"log": []})
    inner: Any = StateGraph(Log)
    inner.add_node("inner", RunnableLambda(story.sync("inner"), story.node("inner")))
    inner.add_edge(START, "inner")
    graph: Any = StateGraph(Log)
    graph.add_node("plan", story.node("plan")).add_edge(START, "plan")
    graph.add_node("call", call(inner.compile())).add_edge("plan", "call")
    graph.add_node("write", story.node("write")).add_edge("plan", "write")
    story.failing = {"inner"}
    letter = await stopped(graph, checkpoints, given)
    story.failing = set()

    end = await run(graph, checkpoints, given, redriven=letter)

    assert isinstance(end, Ended)
    assert end.unverified == ()
    assert story.ran == {"plan": 1, "inner": 2, "write": 1}


async def test_what_waits_for_a_person_has_not_skipped_what_failed_beside_it(
    checkpoints: Checkpoints,
) -> None:
    story, given = Story(), event({"log": []})
    inner: Any = StateGraph(Log)
    inner.add_node("inner", story.node("inner")).add_edge(START, "inner")
    graph: Any = StateGraph(Log)
    graph.add_node("gated", inner.compile(interrupt_before=["inner"])).add_edge(START, "gated")
    graph.add_node("fails", story.node("fails")).add_edge(START, "fails")
    story.failing = {"fails"}
    letter = await stopped(graph, checkpoints, given)
    story.failing = set()

    end = await run(graph, checkpoints, given, redriven=letter)

    assert isinstance(end, Ended)
    assert end.reason is Reason.INTERRUPT
    assert end.unverified == ()
