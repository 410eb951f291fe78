"""Branches beside one that failed: they come to their end, whatever it failed by, and stay done."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.errors import NodeCancelledError, NodeTimeoutError
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, Send

from redrive.errors import NodeExitError, PermanentError
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Failed,
    GraphSettings,
    Lease,
    WorkflowProcessor,
    retry_policy,
)
from redrive.graphs.attempt_ends import RunEnd
from redrive.graphs.contained import contain_exits
from redrive.graphs.registry import Configured
from redrive.testing.kafka_env import event

EVENT = event({"log": ["in"]})
# LangGraph cancels the branches beside a failure within a few turns of the loop.
TURNS = 60

Graph = Any


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@dataclass
class Story:
    """One branch that fails at its first turn, and those beside it, which end later."""

    ran: Counter[str] = field(default_factory=Counter)
    failed: asyncio.Event = field(default_factory=asyncio.Event)

    def first(self, name: str) -> bool:
        self.ran[name] += 1
        return self.ran[name] == 1

    def fails(self, error: BaseException) -> Any:  # noqa: ANN401 - LangGraph's type of a node
        async def run(_: Log) -> Log:
            if self.first("fails"):
                self.failed.set()
                raise error
            return {"log": ["fails"]}

        return run

    async def hangs(self, _: Log) -> Log:
        if self.first("fails"):
            try:
                await asyncio.Event().wait()
            finally:
                self.failed.set()
        return {"log": ["fails"]}

    async def slow(self, _: Log) -> Log:
        self.first("slow")
        await self.failed.wait()
        for _turn in range(TURNS):
            await asyncio.sleep(0)
        self.first("slow ended")
        return {"log": ["slow"]}

    def beside(self, fails: Any, **options: Any) -> Graph:  # noqa: ANN401 - LangGraph's
        graph: Graph = StateGraph(Log)
        graph.add_node("fails", fails, **options).add_edge(START, "fails")
        return graph.add_node("slow", self.slow).add_edge(START, "slow")


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    async with Checkpoints(CheckpointSettings(url=f"sqlite:///{tmp_path}/kept.db")) as opened:
        yield opened


async def attempt(graph: Graph, kept: Checkpoints, **settings: Any) -> RunEnd:
    contain_exits(asyncio.get_running_loop())  # as a worker does
    lease = Lease()
    configured = Configured(graph, GraphSettings(**settings))
    processor = WorkflowProcessor({EVENT.workflow_id: configured}, kept)
    try:
        return await processor.run(EVENT, thread_id=f"{EVENT.event_id}/0/0", lease=lease)
    finally:
        lease.end()


@dataclass(frozen=True)
class Way:
    """A way to fail for good."""

    build: Callable[[Story], Graph]
    raises: type[BaseException]


def _timed(story: Story) -> Graph:
    return story.beside(story.hangs, timeout=0.05)


def _timed_and_failing(story: Story) -> Graph:
    return story.beside(story.fails(OSError("away")), timeout=60.0)


def _cancelled(story: Story) -> Graph:
    return story.beside(story.fails(asyncio.CancelledError()))


def _refused(story: Story) -> Graph:
    return story.beside(story.fails(PermanentError("no")), retry_policy=retry_policy())


def _refused_by_a_function(story: Story) -> Graph:
    policy = RetryPolicy(retry_on=lambda _: False)
    return story.beside(story.fails(PermanentError("no")), retry_policy=policy)


def _tried_in_place(story: Story) -> Graph:
    policy = RetryPolicy(max_attempts=1, retry_on=ValueError)
    return story.beside(story.fails(ValueError("no")), retry_policy=policy)


def _leaving(story: Story) -> Graph:
    return story.beside(story.fails(SystemExit(3)))


WAYS = {
    "its timeout": Way(_timed, NodeTimeoutError),
    "an error within its timeout": Way(_timed_and_failing, OSError),
    "its own cancellation": Way(_cancelled, NodeCancelledError),
    "an error that retry_policy() refuses": Way(_refused, PermanentError),
    "an error that a retry_on refuses": Way(_refused_by_a_function, PermanentError),
    "its last try in place": Way(_tried_in_place, ValueError),
    "SystemExit": Way(_leaving, NodeExitError),
}


@pytest.mark.invariant("P4")
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
async def test_a_branch_beside_one_that_fails_is_not_run_again(
    kept: Checkpoints, story: Story, way: Way
) -> None:
    graph = way.build(story)

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert isinstance(first.error, way.raises)
    assert first.lingering is None
    assert isinstance(second, Ended)
    assert dict(story.ran) == {"fails": 2, "slow": 1, "slow ended": 1}


@pytest.mark.invariant("P4")
async def test_a_call_beside_one_that_fails_is_not_run_again(
    kept: Checkpoints, story: Story
) -> None:
    state: Log = {"log": []}

    @task
    async def fails() -> Log:
        found: Log = await story.fails(OSError("away"))(state)
        return found

    @task
    async def slow() -> Log:
        return await story.slow(state)

    @entrypoint()
    async def graph(_: Log) -> list[str]:
        both = await asyncio.gather(fails(), slow())
        return [name for found in both for name in found["log"]]

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert isinstance(second, Ended)
    assert second.result == ["fails", "slow"]
    assert dict(story.ran) == {"fails": 2, "slow": 1, "slow ended": 1}


async def test_a_caller_goes_on_at_once_when_a_call_fails(kept: Checkpoints, story: Story) -> None:
    @task
    async def fails() -> None:
        raise OSError("away")

    @task
    async def waits() -> str:
        await story.failed.wait()
        return "waited"

    @entrypoint()
    async def graph(_: Log) -> str:
        waiting = waits()
        try:
            await fails()
        except OSError:
            story.failed.set()
        return str(await waiting)

    end = await attempt(graph, kept)

    assert isinstance(end, Ended)
    assert end.result == "waited"


def _called(inner: Graph) -> Graph:
    async def call(_: Log) -> Log:
        found: Log = await inner.ainvoke({"log": []})
        return found

    return call


def _compiled(inner: Graph) -> Graph:
    return inner


def _with_a_history(inner: Graph) -> Graph:
    inner.checkpointer = True
    return inner


@pytest.mark.invariant("P4")
@pytest.mark.parametrize("put", [_compiled, _called, _with_a_history])
async def test_the_same_holds_in_a_subgraph(
    kept: Checkpoints, story: Story, put: Callable[[Graph], Graph]
) -> None:
    graph: Graph = StateGraph(Log)
    graph.add_node("inner", put(story.beside(story.fails(OSError("away"))).compile()))
    graph.add_edge(START, "inner")

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert isinstance(second, Ended)
    assert dict(story.ran) == {"fails": 2, "slow": 1, "slow ended": 1}


@pytest.mark.invariant("P4")
async def test_of_many_branches_only_those_that_failed_run_again(
    kept: Checkpoints, story: Story
) -> None:
    async def branch(state: dict[str, int]) -> Log:
        number = state["number"]
        if story.first(f"branch {number}") and number % 3 == 0:
            raise OSError(f"{number} is away")
        return {"log": [f"{number}"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("branch", branch)
    graph.add_conditional_edges(START, lambda _: [Send("branch", {"number": n}) for n in range(9)])

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert isinstance(second, Ended)
    assert story.ran == {f"branch {n}": 2 if n % 3 == 0 else 1 for n in range(9)}


async def _waits(_: Log) -> Log:
    await asyncio.Event().wait()
    return {"log": []}


async def test_siblings_have_as_long_as_the_settings_say(kept: Checkpoints, story: Story) -> None:
    graph = story.beside(story.fails(OSError("away")))
    graph.add_node("waits", _waits).add_edge(START, "waits")

    end = await attempt(graph, kept, sibling_timeout=timedelta(milliseconds=500))

    assert isinstance(end, Failed)
    assert isinstance(end.error, OSError)
    assert story.ran["slow ended"] == 1


def test_siblings_have_ten_minutes_by_default() -> None:
    assert GraphSettings().sibling_timeout == timedelta(minutes=10)
