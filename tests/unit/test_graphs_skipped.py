"""A success only if everything ran: routers that raise, nodes that are gone, breakpoints, typos."""

from __future__ import annotations

import asyncio
import functools
import operator
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained, GraphInterrupt
from langgraph.func import task
from langgraph.graph import END, START, StateGraph
from langgraph.pregel._runner import PregelRunner
from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from redrive.errors import (
    EmptyInterruptError,
    GraphChangedError,
    NodeExitError,
    PermanentError,
    UnknownNodeError,
)
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Failed,
    GraphSettings,
    Lease,
    TimeLimits,
    WorkflowProcessor,
)
from redrive.graphs.attempt_ends import Redriven, RunEnd
from redrive.graphs.contained import contain_exits
from redrive.graphs.guard import WRITES_KEY
from redrive.retry.kinds import Reason
from redrive.testing.kafka_env import event
from redrive.testing.worker_process import wait_until

EVENT = event({"log": ["in"]})
THREAD = f"{EVENT.event_id}/0/0"


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


Graph = Any
Build = Callable[["Story"], Graph]


class Story:
    """What ran, and what is to fail at its next turn."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.fails: dict[str, list[BaseException]] = {}

    def run(self, name: str) -> None:
        self.ran[name] += 1
        if planned := self.fails.get(name):
            raise planned.pop(0)

    def node(self, name: str, gives: Any = None, *, sync: bool = False) -> Any:  # noqa: ANN401 - LangGraph's
        def run(_: Log) -> Any:  # noqa: ANN401 - a state, or a Command
            self.run(name)
            return {"log": [name]} if gives is None else gives

        async def run_async(_: Log) -> Any:  # noqa: ANN401 - as above
            return run(_)

        return run if sync else run_async

    def router(self, name: str, to: Any) -> Any:  # noqa: ANN401 - a name, or Sends
        async def route(_: Log) -> Any:  # noqa: ANN401 - as above
            self.run(name)
            return to

        route.__name__ = name
        return route

    def line(self, *names: str) -> Graph:
        graph: Graph = StateGraph(Log)
        for before, name in zip((START, *names), names, strict=False):
            graph.add_node(name, self.node(name)).add_edge(before, name)
        return graph


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    async with Checkpoints(CheckpointSettings(url=f"sqlite:///{tmp_path}/kept.db")) as opened:
        yield opened


async def attempt(
    graph: Graph, kept: Checkpoints | None, *, redriven: Redriven | None = None
) -> RunEnd:
    """Run one attempt of the event as a process of its own would."""
    lease = Lease()
    processor = WorkflowProcessor({EVENT.workflow_id: graph}, kept)
    try:
        return await processor.run(EVENT, thread_id=THREAD, lease=lease, redriven=redriven)
    finally:
        lease.end()


def log_of(end: RunEnd) -> list[str]:
    assert isinstance(end, Ended), end
    assert isinstance(end.result, dict)
    return sorted(end.result["log"])


def routed(story: Story) -> Graph:
    graph = story.line("a")
    graph.add_node("b", story.node("b"))
    graph.add_conditional_edges("a", story.router("route", "b"), ["b"])
    return graph


def routed_at_start(story: Story) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("b", story.node("b"))
    graph.add_conditional_edges(START, story.router("route", "b"), ["b"])
    return graph


def routed_by_sends(story: Story) -> Graph:
    graph = story.line("a")
    graph.add_node("b", story.node("b"))
    sends = [Send("b", {"log": []}), Send("b", {"log": []})]
    graph.add_conditional_edges("a", story.router("route", sends), ["b"])
    return graph


def routed_beside_a_sibling(story: Story) -> Graph:
    graph = routed(story)
    graph.add_node("sibling", story.node("sibling", sync=True)).add_edge(START, "sibling")
    return graph


def routed_twice(story: Story) -> Graph:
    graph = routed(story)
    graph.add_node("c", story.node("c"))
    graph.add_conditional_edges("a", story.router("second", "c"), ["c"])
    return graph


def routed_in_a_subgraph(story: Story) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", routed(story).compile()).add_edge(START, "sub")
    graph.add_node("after", story.node("after")).add_edge("sub", "after")
    return graph


def routed_in_a_subgraph_that_a_node_calls(story: Story) -> Graph:
    inner = routed(story).compile()

    async def call(_: Log) -> Log:
        found = await inner.ainvoke({"log": []})
        return {"log": found["log"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("call", call).add_edge(START, "call")
    graph.add_node("after", story.node("after")).add_edge("call", "after")
    return graph


ROUTED: tuple[Build, ...] = (
    routed,
    routed_at_start,
    routed_by_sends,
    routed_beside_a_sibling,
    routed_twice,
    routed_in_a_subgraph,
    routed_in_a_subgraph_that_a_node_calls,
)


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("build", ROUTED)
async def test_a_router_that_raised_runs_again_and_nothing_is_left_out(
    build: Build, kept: Checkpoints, story: Story
) -> None:
    undisturbed = log_of(await attempt(build(story), None))
    story.ran.clear()
    story.fails["route"] = [ConnectionError("the model that routes is away")]
    graph = build(story)

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert log_of(second) == undisturbed
    assert story.ran["route"] == 2
    assert {name: n for name, n in story.ran.items() if n > 2} == {}


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("build", ROUTED)
async def test_a_router_that_always_raises_never_passes_for_a_success(
    build: Build, kept: Checkpoints, story: Story
) -> None:
    story.fails["route"] = [ConnectionError("away") for _ in range(9)]

    ends = [await attempt(build(story), kept) for _ in range(3)]

    assert all(isinstance(end, Failed) for end in ends)


@pytest.mark.invariant("P16")
async def test_what_a_second_try_wrote_counts_when_its_sibling_fails(
    kept: Checkpoints, story: Story
) -> None:
    """The first try left its own result beside the router's error: it must not come back."""
    tries = iter(("first", "second"))

    async def a(_: Log) -> Log:
        story.run("a")
        return {"log": [next(tries)]}

    graph: Graph = StateGraph(Log)
    graph.add_node("a", a).add_edge(START, "a")
    graph.add_node("b", story.node("b"))
    graph.add_conditional_edges("a", story.router("route", "b"), ["b"])
    graph.add_node("sibling", story.node("sibling")).add_edge(START, "sibling")
    story.fails = {
        "route": [ConnectionError("away")],
        "sibling": [ConnectionError("away"), ConnectionError("away")],
    }

    ends = [await attempt(graph, kept) for _ in range(3)]

    assert log_of(ends[-1]) == sorted(["in", "second", "b", "sibling"])
    assert (story.ran["a"], story.ran["route"]) == (2, 2)


@pytest.mark.invariant("P16")
async def test_what_the_version_before_stored_of_a_failed_router_is_not_believed(
    story: Story,
) -> None:
    """It stored a node's result beside its router's error, and left no mark."""
    saver = InMemorySaver()
    story.fails["route"] = [ConnectionError("away")]
    graph = routed(story)
    compiled = graph.compile(checkpointer=saver)
    metadata = {"redrive_run": f"{EVENT.event_id}/0"}
    with pytest.raises(ConnectionError):
        await compiled.ainvoke(
            {"log": ["in"]},
            {"configurable": {"thread_id": THREAD}, "metadata": metadata},
            durability="sync",
        )

    end = await WorkflowProcessor({EVENT.workflow_id: graph}, saver).run(
        EVENT, thread_id=THREAD, lease=Lease()
    )

    assert log_of(end) == ["a", "b", "in"]
    found = saver.get_tuple({"configurable": {"thread_id": THREAD}})
    assert found is not None
    assert dict(found.metadata)[WRITES_KEY] == 2


def compiled_in(story: Story, second: str) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", story.line("one", second).compile()).add_edge(START, "sub")
    graph.add_node("after", story.node("after")).add_edge("sub", "after")
    return graph


def called(story: Story, second: str) -> Graph:
    inner = story.line("one", second).compile()

    async def sub(state: Log) -> Log:
        found = await inner.ainvoke(state)
        return {"log": found["log"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("sub", sub).add_edge(START, "sub")
    graph.add_node("after", story.node("after")).add_edge("sub", "after")
    return graph


def called_where_nothing_can_be_seen(story: Story, second: str) -> Graph:
    async def sub(state: Log) -> Log:
        found = await story.line("one", second).compile().ainvoke(state)
        return {"log": found["log"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("sub", sub).add_edge(START, "sub")
    graph.add_node("after", story.node("after")).add_edge("sub", "after")
    return graph


def sent(story: Story, second: str) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", story.line("one", second).compile())
    graph.add_conditional_edges(START, lambda _: [Send("sub", {"log": []})], ["sub"])
    graph.add_node("after", story.node("after")).add_edge("sub", "after")
    return graph


def two_deep(story: Story, second: str) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("outer", compiled_in(story, second).compile()).add_edge(START, "outer")
    return graph


def with_one_history(story: Story, second: str) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", story.line("one", second).compile(checkpointer=True))
    graph.add_edge(START, "sub")
    return graph


def beside_one_that_stays(story: Story, second: str) -> Graph:
    inner = story.line("one")
    inner.add_node(second, story.node(second)).add_edge("one", second)
    inner.add_node("stays", story.node("stays")).add_edge("one", "stays")
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", inner.compile()).add_edge(START, "sub")
    return graph


def at_the_root(story: Story, second: str) -> Graph:
    return story.line("one", second)


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("redriven", [False, True], ids=["retried", "redriven"])
@pytest.mark.parametrize(
    "build",
    [
        compiled_in,
        called,
        called_where_nothing_can_be_seen,
        sent,
        two_deep,
        with_one_history,
        beside_one_that_stays,
        at_the_root,
    ],
)
async def test_a_node_that_is_gone_is_refused_at_any_depth(
    build: Callable[[Story, str], Graph], kept: Checkpoints, story: Story, *, redriven: bool
) -> None:
    story.fails["two"] = [PermanentError("the card is refused")]
    first = await attempt(build(story, "two"), kept)
    assert isinstance(first, Failed)
    assert first.position is not None
    letter = Redriven(first.position.checkpoint_id) if redriven else None

    gone = await attempt(build(story, "zwei"), kept, redriven=letter)
    back = await attempt(build(story, "two"), kept, redriven=letter)

    assert isinstance(gone, Failed)
    assert isinstance(gone.error, GraphChangedError)
    assert gone.error.missing == ("two",)
    assert "two" in log_of(back)
    assert (story.ran["one"], story.ran["two"], story.ran["zwei"]) == (1, 2, 0)
    assert story.ran["after"] <= 1


@pytest.mark.invariant("P16")
async def test_a_join_that_is_gone_is_refused_also_half_full(
    kept: Checkpoints, story: Story
) -> None:
    def build(last: str) -> Graph:
        graph = story.line("a")
        graph.add_node("b1", story.node("b1")).add_edge(START, "b1")
        graph.add_node("b2", story.node("b2")).add_edge("b1", "b2")
        graph.add_node(last, story.node(last)).add_edge(["a", "b2"], last)
        return graph

    story.fails["b2"] = [ConnectionError("away")]
    await attempt(build("c"), kept)

    end = await attempt(build("d"), kept)

    assert isinstance(end, Failed)
    assert isinstance(end.error, GraphChangedError)
    assert log_of(await attempt(build("c"), kept)) == sorted(["in", "a", "b1", "b2", "c"])


@pytest.mark.invariant("P16")
async def test_a_node_that_a_finished_task_sends_to_may_not_be_gone(
    kept: Checkpoints, story: Story
) -> None:
    def build(last: str) -> Graph:
        graph = story.line("a", last)
        graph.add_node("sibling", story.node("sibling")).add_edge(START, "sibling")
        return graph

    story.fails["sibling"] = [ConnectionError("away")]
    await attempt(build("c"), kept)

    end = await attempt(build("d"), kept)

    assert isinstance(end, Failed)
    assert isinstance(end.error, GraphChangedError)
    assert end.error.missing == ("c",)


async def test_a_deferred_node_that_waits_for_all_else_may_not_be_gone(
    kept: Checkpoints, story: Story
) -> None:
    def build(last: str) -> Graph:
        graph = story.line("a", "b")
        graph.add_node(last, story.node(last), defer=True).add_edge(START, last)
        return graph

    story.fails["b"] = [ConnectionError("away")]
    await attempt(build("c"), kept)

    end = await attempt(build("d"), kept)

    assert isinstance(end, Failed)
    assert isinstance(end.error, GraphChangedError)
    assert log_of(await attempt(build("c"), kept)) == sorted(["in", "a", "b", "c"])


async def test_who_comes_to_a_join_twice_before_it_is_complete_goes_to_a_node_that_is_there(
    kept: Checkpoints, story: Story
) -> None:
    graph = story.line("a", "b", "c")
    graph.add_edge("a", "c")
    graph.add_node("never", story.node("never")).add_node("last", story.node("last"))
    graph.add_edge(["c", "never"], "last")

    end = await attempt(graph, kept)

    assert log_of(end) == sorted(["in", "a", "b", "c", "c"])


def goto(story: Story) -> Graph:
    graph: Graph = StateGraph(Log)
    command: Command[str] = Command(goto="typo", update={"log": ["a"]})
    graph.add_node("a", story.node("a", command)).add_edge(START, "a")
    return graph


def goto_in_a_subgraph(story: Story) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", goto(story).compile()).add_edge(START, "sub")
    return graph


def goto_in_the_parent(story: Story) -> Graph:
    inner: Graph = StateGraph(Log)
    command: Command[str] = Command(goto="typo", graph=Command.PARENT)
    inner.add_node("a", story.node("a", command)).add_edge(START, "a")
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", inner.compile()).add_edge(START, "sub")
    return graph


def send(story: Story) -> Graph:
    graph = story.line("a")
    graph.add_conditional_edges("a", lambda _: [Send("typo", {})])
    return graph


def send_by_a_command(story: Story) -> Graph:
    graph: Graph = StateGraph(Log)
    command: Command[str] = Command(goto=[Send("typo", {}), "b"])
    graph.add_node("a", story.node("a", command)).add_edge(START, "a")
    graph.add_node("b", story.node("b"))
    return graph


def route(story: Story) -> Graph:
    graph = story.line("a")
    graph.add_conditional_edges("a", story.router("route", "typo"))
    return graph


def route_at_start(story: Story) -> Graph:
    graph = story.line("a")
    graph.add_conditional_edges(START, story.router("route", "typo"))
    return graph


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("keeps", [True, False], ids=["sqlite", "none"])
@pytest.mark.parametrize(
    "build",
    [
        goto,
        goto_in_a_subgraph,
        goto_in_the_parent,
        send,
        send_by_a_command,
        route,
        route_at_start,
    ],
)
async def test_a_run_that_is_sent_nowhere_is_no_success(
    build: Build, kept: Checkpoints, story: Story, *, keeps: bool
) -> None:
    ends = [await attempt(build(story), kept if keeps else None) for _ in range(2)]

    for end in ends:
        assert isinstance(end, Failed)
        assert isinstance(end.error, UnknownNodeError)
        assert end.error.targets == ("typo",)


@pytest.mark.invariant("P16")
async def test_a_command_to_the_parent_and_to_the_end_is_followed(
    kept: Checkpoints, story: Story
) -> None:
    inner: Graph = StateGraph(Log)
    command: Command[str] = Command(goto="after", graph=Command.PARENT, update={"log": ["up"]})
    inner.add_node("a", story.node("a", command)).add_edge(START, "a")
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", inner.compile()).add_edge(START, "sub")
    graph.add_node("after", story.node("after", Command(goto=END)))
    story.fails["a"] = [ConnectionError("away")]

    ends = [await attempt(graph, kept) for _ in range(3)]

    assert isinstance(ends[0], Failed)
    assert log_of(ends[1]) == log_of(ends[2]) == ["in", "up"]
    assert dict(story.ran) == {"a": 2, "after": 1}


def gate_before(story: Story) -> Graph:
    return story.line("a", "b").compile(interrupt_before=["b"])


def gate_after(story: Story) -> Graph:
    return story.line("a", "b").compile(interrupt_after=["a"])


def gates_everywhere(story: Story) -> Graph:
    return story.line("a", "b").compile(interrupt_before="*")


def gate_in_a_subgraph(story: Story) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", story.line("a", "b").compile(interrupt_before=["b"]))
    graph.add_edge(START, "sub")
    graph.add_node("after", story.node("after")).add_edge("sub", "after")
    return graph


def gate_after_in_a_subgraph(story: Story) -> Graph:
    graph: Graph = StateGraph(Log)
    graph.add_node("sub", story.line("a", "b").compile(interrupt_after=["a"]))
    graph.add_edge(START, "sub")
    return graph


def gate_in_a_subgraph_that_a_node_calls(story: Story) -> Graph:
    inner = story.line("a", "b").compile(interrupt_before=["b"])

    async def sub(state: Log) -> Log:
        found = await inner.ainvoke(state)
        return {"log": found["log"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("sub", sub).add_edge(START, "sub")
    return graph


@pytest.mark.invariant("P16")
@pytest.mark.parametrize(
    "build",
    [
        gate_before,
        gate_after,
        gates_everywhere,
        gate_in_a_subgraph,
        gate_after_in_a_subgraph,
        gate_in_a_subgraph_that_a_node_calls,
    ],
)
async def test_a_breakpoint_holds_and_the_same_event_is_answered_equally(
    build: Build, kept: Checkpoints, story: Story
) -> None:
    ends = [await attempt(build(story), kept) for _ in range(3)]

    assert {end.reason for end in ends if isinstance(end, Ended)} == {Reason.INTERRUPT}
    first, *others = ends
    assert isinstance(first, Ended)
    assert all(isinstance(end, Ended) and end.result == first.result for end in others)
    assert story.ran["b"] == 0
    assert story.ran["a"] <= 1


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("build", [gate_before, gate_after, gate_in_a_subgraph])
async def test_a_breakpoint_without_checkpoints_is_no_success(build: Build, story: Story) -> None:
    end = await attempt(build(story), None)

    assert isinstance(end, Ended)
    assert end.reason is Reason.INTERRUPT
    assert story.ran["b"] == 0


@pytest.mark.invariant("P16")
async def test_a_breakpoint_holds_while_a_sibling_of_its_subgraph_fails(
    kept: Checkpoints, story: Story
) -> None:
    graph = gate_in_a_subgraph(story)
    graph.add_node("sibling", story.node("sibling")).add_edge(START, "sibling")
    story.fails["sibling"] = [ConnectionError("away")]

    ends = [await attempt(graph, kept) for _ in range(2)]

    assert story.ran["b"] == 0
    assert isinstance(ends[-1], Ended)
    assert ends[-1].reason is Reason.INTERRUPT


@pytest.mark.invariant("P16")
async def test_a_run_that_a_node_before_a_breakpoint_failed_reaches_it(
    kept: Checkpoints, story: Story
) -> None:
    story.fails["a"] = [ConnectionError("away")]

    ends = [await attempt(gate_before(story), kept) for _ in range(3)]

    assert isinstance(ends[0], Failed)
    assert [end.reason for end in ends[1:] if isinstance(end, Ended)] == [Reason.INTERRUPT] * 2
    assert dict(story.ran) == {"a": 2}


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("keeps", [True, False], ids=["sqlite", "none"])
async def test_an_interrupt_that_asks_nothing_is_a_failure(
    kept: Checkpoints, story: Story, *, keeps: bool
) -> None:
    story.fails["b"] = [GraphInterrupt(()) for _ in range(3)]

    ends = [await attempt(story.line("a", "b"), kept if keeps else None) for _ in range(2)]

    assert all(isinstance(end, Failed) for end in ends)
    assert isinstance(ends[0], Failed)
    assert isinstance(ends[0].error, EmptyInterruptError)
    assert ends[0].node == "b"


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("keeps", [True, False], ids=["sqlite", "none"])
async def test_a_drain_that_nobody_asked_for_is_a_failure(
    kept: Checkpoints, story: Story, *, keeps: bool
) -> None:
    story.fails["b"] = [GraphDrained("an agent of its own was drained")]

    first = await attempt(story.line("a", "b"), kept if keeps else None)
    second = await attempt(story.line("a", "b"), kept if keeps else None)

    assert isinstance(first, Failed)
    assert log_of(second) == ["a", "b", "in"]


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, GeneratorExit, SystemExit])
async def test_what_would_end_a_process_ends_only_its_run(
    raised: type[BaseException], story: Story, *, sync: bool
) -> None:
    contain_exits(asyncio.get_running_loop())
    story.fails["n"] = [raised()]
    graph: Graph = StateGraph(Log)
    graph.add_node("n", story.node("n", sync=sync)).add_edge(START, "n")

    end = await attempt(graph, None)

    assert isinstance(end, Failed)
    assert isinstance(end.error, NodeExitError)


def fan_out(story: Story, *, sync: bool) -> Graph:
    """Three branches; the first fails while the others are on their way."""
    graph: Graph = StateGraph(Log)
    graph.add_node("fails", story.node("fails", sync=sync)).add_edge(START, "fails")
    graph.add_node("slow", slow(story, sync=sync)).add_edge(START, "slow")
    graph.add_node("inner", inner_fan_out(story)).add_edge(START, "inner")
    return graph


def slow(story: Story, *, sync: bool) -> Any:  # noqa: ANN401 - LangGraph's
    def run(_: Log) -> Log:
        # On its way, and not to be cancelled, as a call that is paid for.
        wait_until(lambda: story.ran["fails"], timeout_s=30, what="the failure", every_s=0.001)
        story.run("slow")
        return {"log": ["slow"]}

    async def run_async(state: Log) -> Log:
        await asyncio.to_thread(lambda: None)
        return await asyncio.to_thread(run, state)

    return run if sync else run_async


def inner_fan_out(story: Story) -> Graph:
    graph = story.line("one", "two")
    graph.add_node("beside", story.node("beside")).add_edge(START, "beside")
    return graph.compile()


@pytest.mark.invariant("P4")
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
async def test_siblings_of_a_failed_node_end_and_are_not_run_again(
    kept: Checkpoints, story: Story, *, sync: bool
) -> None:
    story.fails["fails"] = [ConnectionError("away")]
    graph = fan_out(story, sync=sync)

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert first.lingering is None
    assert isinstance(second, Ended)
    assert dict(story.ran) == {"fails": 2, "slow": 1, "one": 1, "two": 1, "beside": 1}


async def test_a_limit_ends_the_wait_for_siblings_and_the_failure_is_the_nodes_own(
    kept: Checkpoints, story: Story
) -> None:
    async def hang(_: Log) -> Log:
        await asyncio.Event().wait()
        return {"log": []}

    graph = story.line("fails")
    graph.add_node("hangs", hang).add_edge(START, "hangs")
    story.fails["fails"] = [ConnectionError("away")]
    processor = WorkflowProcessor({EVENT.workflow_id: graph}, kept)

    # On a busy machine a limit may pass before the node has begun.
    for limit_s in (0.2, 2.0, 20.0):
        limits = TimeLimits(attempt_s=limit_s)
        end = await processor.run(EVENT, thread_id=THREAD, lease=Lease(), limits=limits)
        if story.ran["fails"]:
            break

    assert isinstance(end, Failed)
    assert isinstance(end.error, ConnectionError)


async def test_siblings_are_cancelled_where_the_settings_say_so(
    kept: Checkpoints, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = asyncio.Event()

    async def hang(_: Log) -> Log:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return {"log": []}

    graph = story.line("fails")
    graph.add_node("hangs", hang).add_edge(START, "hangs")
    story.fails["fails"] = [ConnectionError("away")]
    module = ModuleType("graphs_of_this_test")
    module.__dict__["graph"] = graph
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings = GraphSettings(target="graphs_of_this_test:graph", on_failure="cancel")

    end = await WorkflowProcessor({EVENT.workflow_id: settings}, kept).run(
        EVENT, thread_id=THREAD, lease=Lease()
    )

    assert isinstance(end, Failed)
    assert isinstance(end.error, ConnectionError)
    assert cancelled.is_set()


@pytest.mark.invariant("P4")
async def test_a_sibling_whose_error_is_handled_ends_with_its_handler(
    kept: Checkpoints, story: Story
) -> None:
    async def handle(_: Log) -> Log:
        await asyncio.sleep(0)
        story.run("handler")
        return {"log": ["handled"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("handled", story.node("handled"), error_handler=handle)
    graph.add_edge(START, "handled")
    graph.add_node("fails", story.node("fails")).add_edge(START, "fails")
    story.fails = {"handled": [ValueError("no")], "fails": [ConnectionError("away")]}

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert log_of(second) == sorted(["in", "handled", "fails"])
    assert dict(story.ran) == {"handled": 1, "handler": 1, "fails": 2}


@pytest.mark.invariant("P16")
async def test_an_error_that_looks_like_a_handled_one_is_no_success(
    kept: Checkpoints, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangGraph knows handled errors by their `id()`: here, as if each later one had it again."""

    class All(set[int]):
        def __contains__(self, _: object) -> bool:
            return True

        def __bool__(self) -> bool:
            return True

    made = PregelRunner.__init__

    def forgetful(runner: PregelRunner, *args: Any, **named: Any) -> None:
        made(runner, *args, **named)
        runner._handled_exception_ids = All()  # noqa: SLF001 - what is shown

    monkeypatch.setattr(PregelRunner, "__init__", forgetful)
    graph = story.line("d", "e")
    graph.add_node("f", story.node("f")).add_edge("d", "f")
    story.fails["e"] = [ConnectionError("away")]

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert isinstance(first.error, ConnectionError)
    assert log_of(second) == sorted(["in", "d", "e", "f"])


def as_closure(inner: Graph) -> Any:  # noqa: ANN401 - LangGraph's
    async def call(state: Log) -> Log:
        found = await inner.ainvoke(state)
        return {"log": found["log"]}

    return call


class Holder:
    """Holds a graph where LangGraph does not look for it."""

    def __init__(self, inner: Graph) -> None:
        self.agents = {"inner": inner}

    async def call(self, state: Log) -> Log:
        found = await self.agents["inner"].ainvoke(state)
        return {"log": found["log"]}


CALLS: dict[str, Callable[[Graph], Any]] = {
    "compiled": lambda inner: inner,
    "closure": as_closure,
    "method": lambda inner: Holder(inner).call,
    "partial": lambda inner: functools.partial(Holder.call, Holder(inner)),
}


def around(story: Story, work: Any) -> Graph:  # noqa: ANN401 - LangGraph's
    graph: Graph = StateGraph(Log)
    graph.add_node("work", work).add_edge(START, "work")
    graph.add_node("after", story.node("after")).add_edge("work", "after")
    return graph


@pytest.mark.invariant("P16")
@pytest.mark.parametrize(
    "gates", [{"interrupt_before": ["b"]}, {"interrupt_after": ["a"]}, {"interrupt_after": ["b"]}]
)
@pytest.mark.parametrize("call", CALLS)
async def test_a_breakpoint_holds_wherever_its_graph_is_called(
    call: str, gates: dict[str, Any], kept: Checkpoints, story: Story
) -> None:
    graph = around(story, CALLS[call](story.line("a", "b").compile(**gates)))

    ends = [await attempt(graph, kept) for _ in range(3)]

    assert [end.reason for end in ends if isinstance(end, Ended)] == [Reason.INTERRUPT] * 3
    assert len({str(end.result) for end in ends if isinstance(end, Ended)}) == 1
    assert (story.ran["a"], story.ran["after"]) == (1, 0)
    assert story.ran["b"] == (1 if gates.get("interrupt_after") == ["b"] else 0)


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("keeps", [True, False], ids=["sqlite", "none"])
@pytest.mark.parametrize("build", [goto, send, send_by_a_command, route])
@pytest.mark.parametrize("call", CALLS)
async def test_a_run_is_sent_nowhere_by_no_graph_wherever_it_is_called(
    call: str, build: Build, kept: Checkpoints, story: Story, *, keeps: bool
) -> None:
    graph = around(story, CALLS[call](build(story).compile()))

    end = await attempt(graph, kept if keeps else None)

    assert isinstance(end, Failed)
    assert isinstance(end.error, UnknownNodeError)
    assert story.ran["after"] == 0


@pytest.mark.invariant("P4")
@pytest.mark.parametrize("call", CALLS)
async def test_a_graph_that_hands_over_to_its_parent_may_fail_before(
    call: str, kept: Checkpoints, story: Story
) -> None:
    inner = story.line("a")
    up: Command[str] = Command(goto="after", graph=Command.PARENT, update={"log": ["up"]})
    inner.add_node("b", story.node("b", up)).add_edge("a", "b")
    graph: Graph = StateGraph(Log)
    graph.add_node("work", CALLS[call](inner.compile())).add_edge(START, "work")
    graph.add_node("after", story.node("after"))
    story.fails["b"] = [ConnectionError("away")]

    ends = [await attempt(graph, kept) for _ in range(3)]

    assert log_of(ends[1]) == log_of(ends[2]) == ["after", "in", "up"]
    assert dict(story.ran) == {"a": 1, "b": 2, "after": 1}


async def test_a_node_may_go_on_without_the_graph_that_failed_in_it(
    kept: Checkpoints, story: Story
) -> None:
    inner = story.line("a", "b").compile()

    async def work(state: Log) -> Log:
        try:
            found = await inner.ainvoke(state)
        except ValueError:
            story.run("fallback")
            return {"log": ["fallback"]}
        return {"log": found["log"]}

    story.fails = {"b": [ValueError("no")] * 3, "fallback": [ConnectionError("away")]}
    graph = around(story, work)

    ends = [await attempt(graph, kept) for _ in range(2)]

    assert isinstance(ends[0], Failed)
    assert log_of(ends[1]) == ["after", "fallback", "in"]


@pytest.mark.parametrize("keeps", [True, False], ids=["sqlite", "none"])
async def test_what_a_task_raises_is_its_callers_affair(
    kept: Checkpoints, story: Story, *, keeps: bool
) -> None:
    @task
    async def risky() -> str:
        story.run("risky")
        raise ValueError("no")

    async def work(_: Log) -> Log:
        told = await asyncio.gather(risky(), return_exceptions=True)
        return {"log": [type(told[0]).__name__]}

    ends = [await attempt(around(story, work), kept if keeps else None) for _ in range(2)]

    assert log_of(ends[0]) == log_of(ends[1]) == ["ValueError", "after", "in"]


@pytest.mark.invariant("P16")
async def test_an_error_that_counts_as_false_is_a_failure(kept: Checkpoints, story: Story) -> None:
    class Problems(Exception):  # noqa: N818 - as someone named it
        def __len__(self) -> int:
            return 0

    story.fails["b"] = [Problems(), Problems()]

    ends = [await attempt(story.line("a", "b", "c"), kept) for _ in range(3)]

    assert [type(end).__name__ for end in ends] == ["Failed", "Failed", "Ended"]
    assert log_of(ends[2]) == ["a", "b", "c", "in"]


async def test_a_key_of_the_state_is_no_question(kept: Checkpoints) -> None:
    async def work(_: dict[str, Any]) -> dict[str, Any]:
        return {"__interrupt__": ["mine"], "x": 1}

    graph: Graph = StateGraph(dict)
    graph.add_node("work", work).add_edge(START, "work")

    first, second = [await attempt(graph, kept) for _ in range(2)]

    assert isinstance(first, Ended)
    assert first.reason is None
    assert isinstance(second, Ended)
    assert first.result == second.result


async def test_a_node_that_asks_for_a_drain_is_not_left_behind(
    kept: Checkpoints, story: Story
) -> None:
    async def asks(_: Log, runtime: Runtime[None]) -> Log:
        story.run("asks")
        assert runtime.control is not None
        if story.ran["asks"] == 1:
            runtime.control.request_drain()
        return {"log": ["asks"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("asks", asks).add_edge(START, "asks")
    graph.add_node("b", story.node("b")).add_edge("asks", "b")

    first = await attempt(graph, kept)
    second = await attempt(graph, kept)

    assert isinstance(first, Failed)
    assert log_of(second) == ["asks", "b", "in"]
    assert dict(story.ran) == {"asks": 1, "b": 1}


@pytest.mark.parametrize("keeps", [True, False], ids=["sqlite", "none"])
async def test_a_graph_with_a_checkpointer_of_its_own_stops_for_its_node_alone(
    kept: Checkpoints, story: Story, *, keeps: bool
) -> None:
    own = story.line("a", "b").compile(checkpointer=InMemorySaver(), interrupt_before=["b"])

    async def work(_: Log) -> Log:
        config: RunnableConfig = {"configurable": {"thread_id": "its own"}}
        await own.ainvoke({"log": []}, config)
        found = await own.ainvoke(None, config)
        return {"log": found["log"]}

    end = await attempt(around(story, work), kept if keeps else None)

    assert isinstance(end, Ended)
    assert end.reason is None
    assert log_of(end) == ["a", "after", "b", "in"]


@pytest.mark.invariant("P16")
async def test_a_graph_on_another_thread_hides_no_loss_of_this_one(
    kept: Checkpoints, story: Story
) -> None:
    """Another root that goes through the same checkpointer is not taken for the run's own."""
    inner = story.line("a", "b").compile(interrupt_before=["b"])

    async def call(_: Log, config: RunnableConfig) -> Log:
        own = {**config["configurable"], "thread_id": "another", "checkpoint_ns": ""}
        with suppress(GraphInterrupt):
            await inner.ainvoke({"log": []}, {"configurable": own})
        return {"log": ["call"]}

    graph: Graph = StateGraph(Log)
    graph.add_node("call", call).add_edge(START, "call")

    end = await attempt(graph, kept)

    assert log_of(end) == ["call", "in"]


async def test_a_node_that_is_cancelled_cleans_up_undisturbed(
    kept: Checkpoints, story: Story
) -> None:
    async def tidies(_: Log) -> Log:
        try:
            await asyncio.Event().wait()
        finally:
            story.run("begins to tidy")
            await asyncio.sleep(1.0)  # longer than an attempt is waited for
            story.run("has tidied")
        return {"log": []}

    graph: Graph = StateGraph(Log)
    graph.add_node("tidies", tidies).add_edge(START, "tidies")
    processor = WorkflowProcessor({EVENT.workflow_id: graph}, kept)

    end = await processor.run(
        EVENT, thread_id=THREAD, lease=Lease(), limits=TimeLimits(attempt_s=0.2)
    )

    assert isinstance(end, Failed)
    assert end.lingering is not None
    assert await end.lingering.ended(30)
    assert story.ran["begins to tidy"] == story.ran["has tidied"]
