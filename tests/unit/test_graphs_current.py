"""What a node may ask about its attempt, and the key that names its task however often it runs."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypedDict
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.errors import NodeError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send

import redrive
from redrive import CurrentAttempt, current, idempotency_key
from redrive.errors import NotInNodeError, PermanentError, TransientError
from redrive.events import WorkflowEvent
from redrive.graphs import Checkpoints, Ended, Failed, Lease, RunEnd, TimeLimits, WorkflowProcessor
from redrive.graphs.attempt_ends import Redriven
from redrive.graphs.node_retry import retry_policy
from redrive.retry import classify
from redrive.retry.kinds import Kind
from redrive.testing import event
from redrive.testing.manual_clock import ManualClock


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


Graph = Any  # LangGraph's own type depends on its state's


def line(**nodes: Any) -> Graph:
    graph: Graph = StateGraph(Log)
    before = START
    for name, node in nodes.items():
        graph.add_node(name, node).add_edge(before, name)
        before = name
    return graph


async def run(
    graph: Graph,
    kept: Checkpoints | None,
    given: WorkflowEvent,
    **options: Any,
) -> RunEnd:
    return await WorkflowProcessor({"*": graph}, kept).run(
        given, thread_id=f"{given.event_id}/0/0", lease=Lease(), **options
    )


async def test_every_kind_of_node_knows_its_attempt(checkpoints: Checkpoints) -> None:
    seen: dict[str, CurrentAttempt] = {}

    def note(name: str) -> str:
        seen[name] = current()
        return name

    async def asynchronous(_: Log) -> Log:
        return {"log": [note("async")]}

    @tool
    def slow() -> str:
        """Run in a thread."""
        return note("sync tool")

    @tool
    async def quick() -> str:
        """Run in the loop."""
        return note("async tool")

    async def tools(_: Log) -> Log:
        graph: Graph = StateGraph(MessagesState)
        graph.add_node("tools", ToolNode([slow, quick])).add_edge(START, "tools")
        calls: Any = [
            {"name": name, "args": {}, "id": name, "type": "tool_call"}
            for name in ("slow", "quick")
        ]
        await graph.compile().ainvoke({"messages": [AIMessage("", tool_calls=calls)]})
        return {"log": []}

    graph = line(
        one=asynchronous,
        two=lambda _: {"log": [note("sync")]},
        three=line(inner=lambda _: {"log": [note("inner")]}).compile(),
        four=tools,
    )
    given = event({"log": []}, workflow_id="work")
    headers = (("x-team", b"old"), ("x-team", b"blue"), ("x-empty", None), ("x-bytes", b"\xff"))

    clock = ManualClock()
    end = await WorkflowProcessor({"*": graph}, checkpoints, clock=clock).run(
        given,
        thread_id="conversation",
        lease=Lease(),
        limits=TimeLimits(deadline_s=60, attempt_s=50),
        redrive_count=2,
        number=3,
        headers=headers,
    )

    assert isinstance(end, Ended)
    assert sorted(seen) == ["async", "async tool", "inner", "sync", "sync tool"]
    (told,) = {id(found): found for found in seen.values()}.values()
    assert (told.event_id, told.workflow_id) == (given.event_id, "work")
    assert told.workflow_run_id == given.workflow_run_id
    assert (told.thread_id, told.attempt, told.redrive_count) == ("conversation", 3, 2)
    assert told.deadline == clock.now() + timedelta(seconds=60)
    assert told.headers == {"x-team": "blue", "x-bytes": "\ufffd"}
    assert told.raw_headers == headers
    assert told.event == given


async def test_each_failed_attempt_is_counted() -> None:
    seen: list[tuple[int, datetime | None]] = []

    def node(_: Log) -> Log:
        seen.append((current().attempt, current().deadline))
        return {"log": []}

    for failed in range(3):
        await run(line(node=node), None, event({"log": []}), failed_before=failed)

    assert seen == [(1, None), (2, None), (3, None)]


async def test_a_deadline_after_all_days_is_the_last_day() -> None:
    seen: list[datetime | None] = []

    await run(
        line(node=lambda _: seen.append(current().deadline)),
        None,
        event({"log": []}),
        limits=TimeLimits(deadline_s=1e12),
    )

    assert seen == [datetime.max.replace(tzinfo=UTC)]


@pytest.mark.parametrize("asked", [current, idempotency_key])
async def test_outside_of_a_node_the_error_says_what_to_do(asked: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def in_a_thread(_: Log) -> Log:
        def ask() -> None:
            try:
                asked()
            except NotInNodeError as error:
                raised.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return {"log": []}

    await run(line(node=in_a_thread), None, event({"log": []}))
    with pytest.raises(NotInNodeError, match=r"redrive\.\w+\(\) was called outside an attempt"):
        asked()

    assert len(raised) == 1
    assert classify(raised[0]).kind is Kind.PERMANENT


class Keys:
    """Nodes that note their keys, and fail as often as they are told to."""

    def __init__(self, **failures: int) -> None:
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.failures = failures
        self.error: type[Exception] = TransientError

    def note(self, name: str) -> Log:
        self.seen[name].append(idempotency_key())
        if self.failures.get(name, 0):
            self.failures[name] -= 1
            raise self.error(name)
        return {"log": [name]}

    def asynchronous(self, name: str) -> Any:  # noqa: ANN401 - any node
        async def node(_: Log) -> Log:
            return self.note(name)

        return node

    def synchronous(self, name: str) -> Any:  # noqa: ANN401 - any node
        return lambda _: self.note(name)

    def each_is_of_one_task(self) -> bool:
        """Say whether all executions of a node had one key, and no two nodes share one."""
        keys = [set(found) for found in self.seen.values()]
        return all(len(key) == 1 for key in keys) and len(set.union(*keys)) == len(keys)


async def until_it_ends(graph: Graph, kept: Checkpoints, given: WorkflowEvent) -> int:
    """Run attempts as a worker would; return how many."""
    for number in range(1, 9):
        end = await run(graph, kept, given)
        if isinstance(end, Ended):
            return number
    raise AssertionError(end)


async def test_a_tasks_key_is_the_same_in_all_attempts(checkpoints: Checkpoints) -> None:
    keys = Keys(one=1, two=1, inner=1, deep=1)
    inner = line(
        inner=keys.synchronous("inner"), deeper=line(deep=keys.asynchronous("deep")).compile()
    )
    graph = line(one=keys.asynchronous("one"), two=keys.synchronous("two"), sub=inner.compile())

    attempts = await until_it_ends(graph, checkpoints, event({"log": []}))

    assert attempts == 5
    assert {name: len(found) for name, found in keys.seen.items()} == dict.fromkeys(
        ("one", "two", "inner", "deep"), 2
    )
    assert keys.each_is_of_one_task()


async def test_a_tasks_key_is_the_same_after_a_cut_a_retry_in_place_and_a_redrive(
    checkpoints: Checkpoints,
) -> None:
    keys, given = Keys(node=2), event({"log": []})
    begun = asyncio.Event()

    async def node(_: Log) -> Log:
        if not begun.is_set():
            keys.seen["node"].append(idempotency_key())
            begun.set()
            await asyncio.Event().wait()
        return keys.note("node")

    graph: Graph = StateGraph(Log)
    again = retry_policy(max_retries=1, initial_delay=0.01, jitter=False)
    graph.add_node("node", node, retry_policy=again).add_edge(START, "node")
    cut = asyncio.create_task(run(graph, checkpoints, given))
    await begun.wait()
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut

    letter = await run(graph, checkpoints, given)
    assert isinstance(letter, Failed)
    assert letter.position is not None
    redriven = Redriven(stopped_at=letter.position.checkpoint_id)
    end = await run(graph, checkpoints, given, redriven=redriven, redrive_count=1)

    assert isinstance(end, Ended)
    assert len(keys.seen["node"]) == 4
    assert keys.each_is_of_one_task()


async def test_branches_rounds_handlers_and_runs_have_keys_of_their_own(
    checkpoints: Checkpoints,
) -> None:
    keys = Keys(bad=1)
    keys.error = PermanentError

    def handler(_: Log, error: NodeError) -> Log:
        del error
        return keys.note("handler")

    graph: Graph = StateGraph(Log)
    graph.add_node("bad", keys.synchronous("bad"), error_handler=handler).add_edge(START, "bad")
    graph.add_node("branch", keys.synchronous("branch"))
    graph.add_conditional_edges(START, lambda s: [Send("branch", s)] * 3, ["branch"])
    graph.add_node("round", keys.asynchronous("round")).add_edge(START, "round")
    graph.add_conditional_edges(
        "round", lambda s: END if s["log"].count("round") > 2 else "round", ["round", END]
    )

    for _ in range(2):
        assert isinstance(await run(graph, checkpoints, event({"log": []})), Ended)

    # Two runs; what failed in the first did not in the second.
    counts = {name: len(found) for name, found in keys.seen.items()}
    assert counts == {"bad": 2, "handler": 1, "branch": 6, "round": 6}
    found = [key for each in keys.seen.values() for key in each]
    assert len(set(found)) == len(found)
    assert all(UUID(key).version == 5 for key in found)


async def test_functions_have_keys_too(checkpoints: Checkpoints) -> None:
    keys = Keys(second=1)

    @task
    async def step(name: str) -> str:
        return keys.note(name)["log"][0]

    @entrypoint()
    async def flow(given: dict[str, str]) -> str:
        keys.note("flow")
        return await step("first") + await step("second") + given["end"]

    attempts = await until_it_ends(flow, checkpoints, event({"end": "."}))

    assert attempts == 2
    assert keys.each_is_of_one_task()


async def test_a_retry_in_place_around_a_subgraph_begins_it_anew_with_other_keys(
    checkpoints: Checkpoints,
) -> None:
    # What LangGraph does, and what the docs say. Where the subgraph's nodes have the policy
    # themselves, nothing is begun anew.
    keys, own = Keys(second=1), Keys(second=1)
    again = retry_policy(max_retries=1, initial_delay=0.01, jitter=False)

    def two_nodes(keys: Keys, **options: Any) -> Graph:
        graph: Graph = StateGraph(Log)
        graph.add_node("first", keys.asynchronous("first")).add_edge(START, "first")
        graph.add_node("second", keys.asynchronous("second"), **options)
        return graph.add_edge("first", "second").compile()

    around: Graph = StateGraph(Log)
    around.add_node("sub", two_nodes(keys), retry_policy=again).add_edge(START, "sub")
    inside = line(sub=two_nodes(own, retry_policy=again))

    await until_it_ends(around, checkpoints, event({"log": []}))
    await until_it_ends(inside, checkpoints, event({"log": []}))

    assert len(set(keys.seen["first"])) == 2
    assert {name: len(found) for name, found in own.seen.items()} == {"first": 1, "second": 2}
    assert own.each_is_of_one_task()


async def test_a_suffix_makes_another_key_of_the_same_task(checkpoints: Checkpoints) -> None:
    seen: list[list[str]] = []

    def node(_: Log) -> Log:
        seen.append([idempotency_key(), idempotency_key("a"), idempotency_key("b")])
        if len(seen) == 1:
            raise TransientError("again")
        return {"log": []}

    await until_it_ends(line(node=node), checkpoints, event({"log": []}))

    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 3


async def test_without_checkpoints_there_is_no_key_and_the_error_says_why() -> None:
    end = await run(line(node=lambda _: idempotency_key()), None, event({"log": []}))

    assert isinstance(end, Failed)
    assert (type(end.error), end.node) == (PermanentError, "node")
    assert "needs checkpoints" in str(end.error)


async def test_a_graph_of_its_own_thread_inside_of_a_node_has_no_key(
    checkpoints: Checkpoints,
) -> None:
    alone = line(inner=lambda _: idempotency_key()).compile()

    async def node(_: Log) -> Log:
        await alone.ainvoke({"log": []}, {"configurable": {"thread_id": "another"}})
        return {"log": []}

    end = await run(line(node=node), checkpoints, event({"log": []}))

    assert isinstance(end, Failed)
    assert "needs checkpoints" in str(end.error)


def test_the_front_door_has_them() -> None:
    assert {"CurrentAttempt", "current", "idempotency_key"} <= set(redrive.__all__)
