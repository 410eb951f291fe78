"""Nothing is skipped in odd places: graphs called in threads, tools, error handlers, questions."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.channels import LastValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import Command, Durability, Send, interrupt

from redrive.errors import GraphChangedError, PermanentError, UnknownNodeError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Failed,
    Lease,
    WorkflowProcessor,
)
from redrive.graphs.attempt_ends import Redriven, RunEnd
from redrive.retry.kinds import Reason
from redrive.testing.kafka_env import event

Graph = Any


class Log(MessagesState, total=False):
    log: Annotated[list[str], operator.add]


@dataclass
class Story:
    """What ran, and what is to fail at its next turn."""

    ran: Counter[str] = field(default_factory=Counter)
    fails: dict[str, BaseException] = field(default_factory=dict)
    given: WorkflowEvent = field(default_factory=lambda: event({"log": ["in"]}))

    def run(self, name: str) -> None:
        self.ran[name] += 1
        error = self.fails.pop(name, None)
        if error is not None:
            raise error

    def node(self, name: str, gives: object = None) -> Any:  # noqa: ANN401 - LangGraph's type of a node
        def run(_: Log) -> object:
            self.run(name)
            return {"log": [name]} if gives is None else gives

        return run

    def line(self, *names: str) -> Graph:
        graph: Graph = StateGraph(Log)
        for before, name in zip((START, *names), names, strict=False):
            graph.add_node(name, self.node(name)).add_edge(before, name)
        return graph

    def fan_out(self, *names: str) -> Graph:
        graph: Graph = StateGraph(Log)
        for name in names:
            graph.add_node(name, self.node(name)).add_edge(START, name)
        return graph

    def around(self, work: Any) -> Graph:  # noqa: ANN401 - as above
        graph: Graph = StateGraph(Log)
        graph.add_node("work", work).add_edge(START, "work")
        return graph.add_node("after", self.node("after")).add_edge("work", "after")


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    async with Checkpoints(CheckpointSettings(url=f"sqlite:///{tmp_path}/kept.db")) as opened:
        yield opened


async def attempt(
    graph: Graph,
    kept: Checkpoints | InMemorySaver,
    story: Story,
    *,
    redriven: Redriven | None = None,
) -> RunEnd:
    lease = Lease()
    processor = WorkflowProcessor({"*": graph}, kept)
    thread = f"{story.given.event_id}/0/0"
    try:
        return await processor.run(story.given, thread_id=thread, lease=lease, redriven=redriven)
    finally:
        lease.end()


def letter_of(end: RunEnd) -> Redriven:
    assert isinstance(end, Failed)
    assert end.position is not None
    return Redriven(stopped_at=end.position.checkpoint_id)


def awaited(inner: Graph) -> Any:  # noqa: ANN401 - LangGraph's type of a node
    async def call(_: Log) -> Log:
        found: Log = await inner.ainvoke({"log": []})
        return {"log": found["log"]}  # type: ignore[typeddict-item] # LangGraph takes a part

    return call


def in_a_pool(inner: Graph) -> Any:  # noqa: ANN401 - as above
    """Call it in a thread that knows of the run its config alone."""

    async def call(_: Log, config: RunnableConfig) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(inner.invoke, {"log": []}, config)
            return {"log": (await asyncio.wrap_future(running))["log"]}

    return call


def on_another_loop(inner: Graph) -> Any:  # noqa: ANN401 - as above
    def run(config: RunnableConfig) -> Any:  # noqa: ANN401 - a state
        return asyncio.run(inner.ainvoke({"log": []}, config))

    async def call(_: Log, config: RunnableConfig) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as pool:
            found = await asyncio.wrap_future(pool.submit(run, config))
        return {"log": found["log"]}

    return call


CALLS = [awaited, in_a_pool, on_another_loop]
Call = Callable[[Graph], Any]


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("call", CALLS)
async def test_a_breakpoint_holds_in_a_graph_that_is_called_in_a_thread(
    kept: Checkpoints, story: Story, call: Call
) -> None:
    graph = story.around(call(story.line("a", "b").compile(interrupt_before=["b"])))

    ends = [await attempt(graph, kept, story) for _ in range(3)]

    assert [end.reason for end in ends if isinstance(end, Ended)] == [Reason.INTERRUPT] * 3
    assert dict(story.ran) == {"a": 1}


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("call", CALLS)
async def test_a_renamed_node_is_refused_in_a_graph_that_is_called_in_a_thread(
    kept: Checkpoints, story: Story, call: Call
) -> None:
    story.fails["old"] = PermanentError("no")
    first = await attempt(story.around(call(story.line("a", "old").compile())), kept, story)

    renamed = story.around(call(story.line("a", "new").compile()))
    second = await attempt(renamed, kept, story, redriven=letter_of(first))

    assert isinstance(second, Failed)
    assert isinstance(second.error, GraphChangedError)
    assert dict(story.ran) == {"a": 1, "old": 1}


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("call", CALLS)
async def test_a_router_that_raises_runs_again_in_a_graph_that_is_called_in_a_thread(
    kept: Checkpoints, story: Story, call: Call
) -> None:
    def route(_: Log) -> str:
        story.run("route")
        return "b"

    inner = story.line("a")
    inner.add_node("b", story.node("b")).add_conditional_edges("a", route)
    story.fails["route"] = PermanentError("no")
    graph = story.around(call(inner.compile()))

    first = await attempt(graph, kept, story)
    second = await attempt(graph, kept, story, redriven=letter_of(first))

    assert isinstance(second, Ended)
    assert second.unverified == ()
    assert dict(story.ran) == {"a": 2, "route": 2, "b": 1, "after": 1}


def _goto_of_a_tool(_: Story) -> Graph:
    @tool
    def jump() -> Command[Any]:
        """Go on in the graph around the agent."""
        return Command(goto="nowhere", graph=Command.PARENT, update={"log": ["jumped"]})

    agent: Graph = StateGraph(Log)
    agent.add_node("tools", ToolNode([jump])).add_edge(START, "tools")
    call = {"name": "jump", "args": {}, "id": "1", "type": "tool_call"}
    said = AIMessage("", tool_calls=[call])
    graph: Graph = StateGraph(Log)
    graph.add_node("say", lambda _: {"messages": [said]}).add_edge(START, "say")
    return graph.add_node("agent", agent.compile()).add_edge("say", "agent")


def _goto_of_a_called_graph(story: Story) -> Graph:
    command: Command[Any] = Command(goto=Send("nowhere", {"log": []}), graph=Command.PARENT)
    inner: Graph = StateGraph(Log)
    inner.add_node("a", story.node("a", command)).add_edge(START, "a")
    return story.around(awaited(inner.compile()))


def _goto_of_two(story: Story) -> Graph:
    graph = story.line("b")
    return graph.add_node("a", story.node("a", Command(goto=["b", "nowhere"]))).add_edge(START, "a")


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("build", [_goto_of_a_tool, _goto_of_a_called_graph, _goto_of_two])
async def test_a_command_to_a_node_that_is_not_there_is_an_error(
    kept: Checkpoints, story: Story, build: Callable[[Story], Graph]
) -> None:
    end = await attempt(build(story), kept, story)

    assert isinstance(end, Failed)
    assert isinstance(end.error, UnknownNodeError)


@pytest.mark.invariant("P4")
async def test_graphs_that_one_node_calls_at_once_keep_their_branches(
    kept: Checkpoints, story: Story
) -> None:
    one, two = story.fan_out("p", "q").compile(), story.line("m", "n").compile()

    async def call(_: Log) -> dict[str, Any]:
        found = await asyncio.gather(one.ainvoke({"log": []}), two.ainvoke({"log": []}))
        return {"log": sorted(name for one in found for name in one["log"])}

    graph = story.around(call)
    story.fails["p"] = OSError("away")

    first = await attempt(graph, kept, story)
    second = await attempt(graph, kept, story)

    assert isinstance(first, Failed)
    assert isinstance(second, Ended)
    assert (story.ran["p"], story.ran["q"], story.ran["after"]) == (2, 1, 1)


@pytest.mark.invariant("P4")
@pytest.mark.parametrize("call", [lambda inner: inner, awaited], ids=["compiled", "called"])
async def test_an_error_handler_that_has_come_to_its_end_is_not_run_again(
    kept: Checkpoints, story: Story, call: Call
) -> None:
    def handle(_: Log) -> Command[Any]:
        story.run("handler")
        return Command(update={"log": ["handled"]}, goto="then")

    inner: Graph = story.fan_out("fails")
    inner.add_node("handled", story.node("handled"), error_handler=handle)
    inner.add_edge(START, "handled").add_node("then", story.node("then"))
    story.fails = {"handled": ValueError("no"), "fails": OSError("away")}
    graph = story.around(call(inner.compile()))

    first = await attempt(graph, kept, story)
    second = await attempt(graph, kept, story)

    assert isinstance(first, Failed)
    assert isinstance(second, Ended)
    assert dict(story.ran) == {"handled": 1, "handler": 1, "fails": 2, "then": 1, "after": 1}


@pytest.mark.invariant("P16")
async def test_a_question_beside_a_failure_waits_and_nothing_is_walked_over(
    kept: Checkpoints, story: Story
) -> None:
    def ask(_: Log) -> dict[str, Any]:
        return {"log": [interrupt("go on?")]}

    graph = story.fan_out("fails", "beside")
    graph.add_node("ask", ask).add_edge(START, "ask")
    graph.add_node("join", story.node("join")).add_edge(["fails", "beside", "ask"], "join")
    story.fails["fails"] = PermanentError("no")

    first = await attempt(graph, kept, story)
    second = await attempt(graph, kept, story, redriven=letter_of(first))

    assert isinstance(second, Ended)
    assert second.reason is Reason.INTERRUPT
    assert second.unverified == ()
    assert dict(story.ran) == {"fails": 2, "beside": 1}


def _of_channels(story: Story, *, last: str | None) -> Graph:
    """A graph without a builder: its channels do not name the nodes that come next."""

    def first(_: object) -> str:
        story.run("first")
        return "x"

    def second(_: object) -> str:
        story.run("second")
        return "y"

    nodes: dict[str, Any] = {
        "first": NodeBuilder().subscribe_only("log").do(first).write_to("between")
    }
    if last is not None:
        nodes[last] = NodeBuilder().subscribe_only("between").do(second).write_to("out")
    channels: dict[str, Any] = {name: LastValue(object) for name in ("log", "between", "out")}
    return Pregel(nodes=nodes, channels=channels, input_channels=["log"], output_channels="out")


def _of_a_function(story: Story, *, last: str | None) -> Graph:
    @task
    async def first() -> str:
        story.run("first")
        return "x"

    async def flow(_: object) -> str:
        await first()
        story.run("second")
        return "y"

    flow.__name__ = last or "gone"
    return entrypoint()(flow)


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("last", ["renamed", None])
@pytest.mark.parametrize("build", [_of_channels, _of_a_function])
@pytest.mark.parametrize("called", [False, True], ids=["root", "called"])
async def test_a_node_that_no_channel_names_may_not_be_gone(
    kept: Checkpoints,
    story: Story,
    build: Callable[..., Graph],
    last: str | None,
    *,
    called: bool,
) -> None:
    def make(last: str | None) -> Graph:
        inner = build(story, last=last)
        if not called:
            return inner

        async def work(_: Log) -> dict[str, Any]:
            return {"log": [await inner.ainvoke({"log": ["in"]})]}

        return story.around(work)

    story.fails["second"] = PermanentError("no")
    first = await attempt(make("second"), kept, story)
    second = await attempt(make(last), kept, story, redriven=letter_of(first))

    assert isinstance(second, Failed)
    assert isinstance(second.error, GraphChangedError)
    assert dict(story.ran) == {"first": 1, "second": 1}

    third = await attempt(make("second"), kept, story, redriven=letter_of(first))

    assert isinstance(third, Ended)
    assert (story.ran["first"], story.ran["second"]) == (1, 2)


class SlowSaver(InMemorySaver):
    """Takes as long for a checkpoint as several nodes for their work."""

    async def aput(self, *given: Any) -> RunnableConfig:
        for _ in range(200):
            await asyncio.sleep(0)
        return await super().aput(*given)


@pytest.mark.invariant("P16")
@pytest.mark.parametrize("durability", ["async", "exit", "sync"])
@pytest.mark.parametrize("in_thread", [False, True], ids=["awaited", "in a thread"])
async def test_a_graph_that_is_called_with_a_durability_of_its_own_ends_as_any_other(
    story: Story, durability: Durability, *, in_thread: bool
) -> None:
    """Its checkpoints are stored while its next nodes run: what those write comes before them."""
    inner = story.line(*"abcdef").compile()

    async def call(_: Log) -> dict[str, Any]:
        found = await inner.ainvoke({"log": []}, durability=durability)
        return {"log": found["log"]}

    def call_in_thread(_: Log) -> dict[str, Any]:
        return {"log": inner.invoke({"log": []}, durability=durability)["log"]}

    graph = story.around(call_in_thread if in_thread else call)
    story.fails = {"d": PermanentError("no"), "after": PermanentError("no")}
    kept = SlowSaver()

    first = await attempt(graph, kept, story)
    second = await attempt(graph, kept, story, redriven=letter_of(first))
    third = await attempt(graph, kept, story, redriven=letter_of(second))

    assert isinstance(third, Ended), third
    assert third.result == {"messages": [], "log": ["in", *"abcdef", "after"]}
    assert dict(story.ran) == dict.fromkeys("abcef", 1) | {"d": 2, "after": 2}
