"""Each limit ends an attempt, whatever its nodes do; what they show is theirs to know."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeTimeoutError
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

from redrive import remaining_time
from redrive.clock import SYSTEM
from redrive.errors import (
    AttemptTimeoutError,
    DeadlineError,
    IdleTimeoutError,
    NodeExitError,
    TransientError,
)
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Failed,
    GraphSettings,
    GuardedSaver,
    Lease,
    RunEnd,
    TimeLimits,
    WorkflowProcessor,
)
from redrive.graphs.current import CURRENT
from redrive.retry.retry_config import RetryConfig
from redrive.testing import event
from redrive.testing.manual_clock import ManualClock

EVENT = event({"log": ["in"]})
THREAD = f"{EVENT.event_id}/0/0"
GENEROUS = TimeLimits(deadline_s=60, attempt_s=60, idle_s=60)
IDLE_S = 0.3
LONGER_THAN_IDLE_S = 0.7


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


Graph = StateGraph[Any, Any, Any, Any]


def line(*, timeout_s: float | None = None, **nodes: Any) -> Graph:
    """Return a graph of nodes in a row; `timeout_s` is LangGraph's own limit of each."""
    graph: Graph = StateGraph(Log)
    before = START
    for name, node in nodes.items():
        graph.add_node(name, node, timeout=timeout_s)
        graph.add_edge(before, name)
        before = name
    return graph


@pytest.fixture(params=["none", "memory", "sqlite"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Checkpoints]:
    if request.param == "memory":
        yield Checkpoints.around(InMemorySaver())
        return
    url = "none" if request.param == "none" else f"sqlite:///{tmp_path}/checkpoints.db"
    async with Checkpoints(CheckpointSettings(url=url)) as found:
        yield found


async def run(
    graph: Graph,
    limits: TimeLimits,
    checkpoints: Checkpoints | None = None,
    **options: Any,
) -> RunEnd:
    processor = WorkflowProcessor({"*": graph}, checkpoints)
    return await processor.run(EVENT, thread_id=THREAD, lease=Lease(), limits=limits, **options)


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (TimeLimits(deadline_s=0.1), DeadlineError),
        (TimeLimits(deadline_s=60, attempt_s=0.1), AttemptTimeoutError),
        (TimeLimits(deadline_s=60, attempt_s=60, idle_s=0.1), IdleTimeoutError),
        (TimeLimits(deadline_s=0.1, attempt_s=0.1, idle_s=60), DeadlineError),
    ],
    ids=["deadline", "attempt", "idle", "together"],
)
async def test_an_attempt_fails_at_the_limit_that_it_reaches_first(
    limits: TimeLimits, error: type[Exception], kind: str, kept: Checkpoints, gate: threading.Event
) -> None:
    async def hang(_: Log) -> Log:
        await asyncio.Event().wait()
        return {"log": []}

    def block(_: Log) -> Log:
        gate.wait()
        return {"log": []}

    end = await run(line(node=hang if kind == "async" else block), limits, kept)

    assert isinstance(end, Failed)
    assert type(end.error) is error


async def test_a_limit_that_is_not_reached_changes_nothing(kept: Checkpoints) -> None:
    async def wait(_: Log) -> Log:
        await asyncio.sleep(0)
        return {"log": ["two"]}

    graph = line(one=lambda _: {"log": ["one"]}, two=wait)

    end = await run(graph, GENEROUS, kept)

    assert end == Ended(result={"log": ["in", "one", "two"]}, resumed=False)


async def test_nothing_is_run_when_the_deadline_has_passed_already() -> None:
    ran: list[str] = []

    end = await run(line(one=lambda _: ran.append("one")), TimeLimits(deadline_s=-1.0))

    assert isinstance(end, Failed)
    assert isinstance(end.error, DeadlineError)
    assert ran == []


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_after_an_attempts_limit_finished_nodes_are_not_run_again(
    kind: str, checkpoints: Checkpoints, gate: threading.Event
) -> None:
    ran: list[str] = []
    hanging = [True]

    def one(_: Log) -> Log:
        ran.append("one")
        return {"log": ["one"]}

    async def hang(_: Log) -> Log:
        if hanging[0]:
            await asyncio.Event().wait()
        return {"log": ["two"]}

    def block(_: Log) -> Log:
        if hanging[0]:
            gate.wait()
        return {"log": ["two"]}

    graph = line(one=one, two=hang if kind == "async" else block)

    first = await run(graph, TimeLimits(attempt_s=1.0), checkpoints)
    hanging[0] = False
    second = await run(graph, GENEROUS, checkpoints)

    assert isinstance(first, Failed)
    assert first.position is not None
    assert (first.node, first.position.next) == ("two", ("two",))
    assert second == Ended(result={"log": ["in", "one", "two"]}, resumed=True)
    assert ran == ["one"]


class Sign:
    """What a node may do while it works for longer than it may be idle."""

    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate

    @staticmethod
    def _working() -> Iterator[None]:
        until = SYSTEM.monotonic() + LONGER_THAN_IDLE_S
        while SYSTEM.monotonic() < until:
            yield

    def heartbeat_sync(self, _: Log, runtime: Runtime[None]) -> Log:
        for _now in self._working():
            runtime.heartbeat()
            self._gate.wait(0.02)
        return {"log": ["done"]}

    async def heartbeat_async(self, _: Log, runtime: Runtime[None]) -> Log:
        for _now in self._working():
            runtime.heartbeat()
            await asyncio.sleep(0.02)
        return {"log": ["done"]}

    def tools_sync(self, _: Log) -> Log:
        for _now in self._working():
            slow.invoke({"seconds": 0.02})
        return {"log": ["done"]}

    async def tools_async(self, _: Log) -> Log:
        for _now in self._working():
            await slow.ainvoke({"seconds": 0.02})
        return {"log": ["done"]}

    async def tokens(self, _: Log) -> Log:
        model = GenericFakeChatModel(
            messages=iter([AIMessage(" ".join("token" for _ in range(25)))])
        )
        async for _token in model.astream("say a lot"):
            await asyncio.sleep(LONGER_THAN_IDLE_S / 50)  # the blanks are tokens too
        return {"log": ["done"]}

    async def subgraph(self, _: Log) -> Log:
        beats = line(beat=self.heartbeat_sync).compile()
        await beats.ainvoke({"log": []})
        return {"log": ["done"]}

    def a_part(self, _: Log) -> Log:
        self._gate.wait(LONGER_THAN_IDLE_S / 4)
        return {"log": ["done"]}


@tool
def slow(seconds: float) -> str:
    """Take some time."""
    SYSTEM.block(seconds)
    return "done"


@pytest.mark.parametrize(
    "sign",
    ["heartbeat_sync", "heartbeat_async", "tools_sync", "tools_async", "tokens", "subgraph"],
)
@pytest.mark.parametrize("resumable", [False, True])
async def test_a_node_that_shows_signs_of_life_is_not_idle(
    sign: str, checkpoints: Checkpoints, gate: threading.Event, *, resumable: bool
) -> None:
    kept = checkpoints if resumable else None

    end = await run(line(busy=getattr(Sign(gate), sign)), TimeLimits(idle_s=IDLE_S), kept)

    assert isinstance(end, Ended), end


async def test_a_run_that_goes_from_node_to_node_is_not_idle(
    kept: Checkpoints, gate: threading.Event
) -> None:
    nodes: dict[str, Any] = {f"n{number}": Sign(gate).a_part for number in range(4)}

    end = await run(line(**nodes), TimeLimits(idle_s=IDLE_S), kept)

    assert isinstance(end, Ended), end


async def test_every_write_of_a_checkpoint_is_a_sign_of_life() -> None:
    signs: list[None] = []
    saver = GuardedSaver(InMemorySaver(), Lease(), wrote=lambda: signs.append(None))
    at: RunnableConfig = {"configurable": {"thread_id": THREAD, "checkpoint_ns": ""}}

    first = saver.put(at, empty_checkpoint(), {}, {})
    second = await saver.aput(at, empty_checkpoint(), {}, {})
    saver.put_writes(first, [("log", ["one"])], "task")
    await saver.with_allowlist([]).aput_writes(second, [("log", ["two"])], "task")
    await saver.aget_tuple(at)

    assert len(signs) == 4


async def test_the_callbacks_of_the_graph_itself_are_called_under_an_idle_limit() -> None:
    class Counted(BaseCallbackHandler):
        ends = 0

        def on_chain_end(self, *_: object, **__: object) -> None:
            self.ends += 1

    counted = Counted()
    graph = line(one=lambda _: {"log": ["one"]}).compile().with_config({"callbacks": [counted]})
    processor = WorkflowProcessor({"*": graph})

    end = await processor.run(EVENT, thread_id=THREAD, lease=Lease(), limits=GENEROUS)

    assert isinstance(end, Ended)
    assert counted.ends > 0


@pytest.mark.parametrize(
    "error", [TimeoutError("its own"), DeadlineError("its own"), AttemptTimeoutError(7)], ids=repr
)
async def test_a_timeout_that_a_node_raises_is_its_own(error: Exception, kept: Checkpoints) -> None:
    def node(_: Log) -> Log:
        raise error

    end = await run(line(node=node), GENEROUS, kept)

    assert isinstance(end, Failed)
    # asyncio hands a TimeoutError out of a thread as a new one.
    assert (type(end.error), str(end.error)) == (type(error), str(error))
    assert end.node == "node"


async def test_a_node_timeout_of_the_graph_is_the_graphs(kept: Checkpoints) -> None:
    async def hang(_: Log) -> Log:
        await asyncio.Event().wait()
        return {"log": []}

    theirs = await run(line(hang=hang, timeout_s=0.05), GENEROUS, kept)
    ours = await run(line(hang=hang), TimeLimits(attempt_s=0.05))

    assert isinstance(theirs, Failed)
    assert isinstance(theirs.error, NodeTimeoutError)
    assert isinstance(ours, Failed)
    assert isinstance(ours.error, AttemptTimeoutError)


async def test_a_node_that_fails_while_it_is_ended_does_not_hide_the_limit() -> None:
    async def clean_up_badly(_: Log) -> Log:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TransientError("the connection would not close") from None
        return {"log": []}

    end = await run(line(node=clean_up_badly), TimeLimits(attempt_s=0.1))

    assert isinstance(end, Failed)
    assert isinstance(end.error, AttemptTimeoutError)


async def test_every_node_knows_how_much_time_is_left(kept: Checkpoints) -> None:
    clock = ManualClock()
    seen: dict[str, float | None] = {}

    def sync_node(_: Log) -> Log:
        seen["sync"] = remaining_time()
        clock.advance(10)
        return {"log": []}

    async def async_node(_: Log) -> Log:
        await asyncio.sleep(0)
        seen["async"] = remaining_time()
        clock.advance(10)
        return {"log": []}

    def inner(_: Log) -> Log:
        seen["inner"] = remaining_time()
        clock.advance(100)
        return {"log": []}

    def last(_: Log) -> Log:
        seen["last"] = remaining_time()
        return {"log": []}

    graph = line(
        sync=sync_node, asynchronous=async_node, below=line(inner=inner).compile(), last=last
    )
    processor = WorkflowProcessor({"*": graph}, kept, clock=clock)

    await processor.run(
        EVENT, thread_id=THREAD, lease=Lease(), limits=TimeLimits(deadline_s=90, attempt_s=60)
    )

    assert seen == {"sync": 60, "async": 50, "inner": 40, "last": 0}
    assert remaining_time() is None


async def test_an_attempt_without_limits_has_no_remaining_time() -> None:
    seen: list[float | None] = []

    await run(line(one=lambda _: seen.append(remaining_time())), TimeLimits(idle_s=60))

    assert seen == [None]


async def test_a_node_knows_the_policy_and_how_many_attempts_failed() -> None:
    seen: list[object] = []

    def node(_: Log) -> Log:
        current = CURRENT.get()
        assert current is not None
        seen.extend((current.policy, current.failed_before))
        return {"log": []}

    policy = RetryConfig(max_retries=7)

    await run(line(node=node), TimeLimits(), policy=policy, failed_before=2)

    assert seen == [policy, 2]
    assert CURRENT.get() is None


async def test_a_mapper_that_exits_ends_its_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving_graph.py").write_text(
        "import sys\n"
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "graph = StateGraph(MessagesState)\n"
        "graph.add_node('n', lambda state: state)\n"
        "graph.add_edge(START, 'n')\n"
        "def given(event):\n    sys.exit(3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = GraphSettings(target="leaving_graph:graph", input="leaving_graph:given")

    end = await WorkflowProcessor({"*": settings}).run(EVENT, thread_id=THREAD, lease=Lease())

    assert isinstance(end, Failed)
    assert isinstance(end.error, NodeExitError)


async def test_a_cancellation_from_outside_is_none_of_the_limits(kept: Checkpoints) -> None:
    inside = asyncio.Event()

    async def hang(_: Log) -> Log:
        inside.set()
        await asyncio.Event().wait()
        return {"log": []}

    task = asyncio.create_task(run(line(hang=hang), GENEROUS, kept))
    await inside.wait()

    task.cancel()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.wait((task,))), 10)

    assert task.cancelled()
