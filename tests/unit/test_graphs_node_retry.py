"""Retries of a node in place: our judgement, one count with the worker, waits and deadlines."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeCancelledError
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, interrupt

from redrive.errors import (
    DeadlineError,
    PermanentError,
    RateLimitedError,
    StaleAttemptError,
    TransientError,
)
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    Ended,
    Failed,
    Lease,
    RunEnd,
    WorkflowProcessor,
    retry_policy,
)
from redrive.retry import (
    Classifier,
    GiveUp,
    Kind,
    Retry,
    RetryConfig,
    Rule,
    classify,
    decide,
    reason_of,
)
from redrive.testing.manual_clock import ManualClock

EVENT_ID = "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e"


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class Unheard(Exception):  # noqa: N818 - no table knows it
    """An exception of kind `unknown`."""


def at_once(max_retries: int = 2, **more: Any) -> RetryPolicy:
    return retry_policy(max_retries, initial_delay=0, max_delay=0, jitter=False, **more)


class Calls:
    """Nodes that count their calls and raise what they are told to, as often as they are told."""

    def __init__(self, errors: Callable[[str, int], BaseException | None]) -> None:
        self.made: dict[str, int] = {}
        self._errors = errors

    def sync(self, name: str) -> Any:  # noqa: ANN401 - LangGraph's types of nodes are its own
        return lambda _: self._call(name)

    def awaited(self, name: str) -> Any:  # noqa: ANN401 - as above
        async def node(_: Log) -> Log:
            await asyncio.sleep(0)
            return self._call(name)

        return node

    def _call(self, name: str) -> Log:
        self.made[name] = self.made.get(name, 0) + 1
        error = self._errors(name, self.made[name])
        if error is not None:
            raise error
        return {"log": [name]}


def always(error: Callable[[], BaseException]) -> Calls:
    return Calls(lambda _, number: error())  # noqa: ARG005 - however often


def times(count: int, error: Callable[[], BaseException]) -> Calls:
    return Calls(lambda _, number: error() if number <= count else None)


def graph_of(calls: Calls, *names: str, policy: RetryPolicy, parallel: bool = False) -> Any:  # noqa: ANN401
    """Nodes in a row, or all at once; every second one is async."""
    graph = StateGraph(Log)
    for index, name in enumerate(names):
        node: Any = calls.awaited(name) if index % 2 else calls.sync(name)
        graph.add_node(name, node, retry_policy=policy)
        graph.add_edge(START if parallel or not index else names[index - 1], name)
    return graph


def event() -> WorkflowEvent:
    return WorkflowEvent.model_validate(
        {
            "event_id": EVENT_ID,
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {"log": []}},
        }
    )


async def attempt(graph: Any, clock: ManualClock | None = None, **more: Any) -> RunEnd:  # noqa: ANN401
    """Run one attempt, as a worker with four attempts for each run would."""
    processor = WorkflowProcessor({"work": graph}, clock=clock or ManualClock())
    given = {"policy": RetryConfig(max_retries=3), **more}
    return await processor.run(event(), thread_id=f"{EVENT_ID}/0/0", lease=Lease(), **given)


async def whole_run(
    graph: Any,  # noqa: ANN401
    checkpoints: Checkpoints,
    policy: RetryConfig,
) -> tuple[RunEnd, int, list[float]]:
    """Do what the worker does: attempts, each judged by `decide`, until the run ends."""
    processor = WorkflowProcessor({"work": graph}, checkpoints)
    tries, waits = 0, list[float]()
    while True:
        end = await processor.run(
            event(),
            thread_id=f"{EVENT_ID}/0/0",
            lease=Lease(),
            policy=policy,
            failed_before=tries,
        )
        if not isinstance(end, Failed):
            return end, tries, waits
        tries += 1 + end.node_retries
        decision = decide(
            classify(end.error),
            failed_attempts=tries,
            policy=policy,
            roll=0.0,
            reason=reason_of(end.error),
        )
        if isinstance(decision, GiveUp):
            return end, tries, waits
        assert isinstance(decision, Retry)
        waits.append(decision.after_s)


async def test_a_passing_failure_is_retried_in_place() -> None:
    calls = times(2, TransientError)

    end = await attempt(graph_of(calls, "write", policy=at_once()))

    assert isinstance(end, Ended)
    assert (calls.made, end.node_retries) == ({"write": 3}, 2)


@pytest.mark.parametrize(
    "error",
    [
        PermanentError,
        StaleAttemptError,
        DeadlineError,
        FileNotFoundError,
        lambda: NodeCancelledError("write"),
        asyncio.CancelledError,
    ],
)
async def test_what_cannot_pass_is_not_retried_in_place(
    error: Callable[[], BaseException],
) -> None:
    calls = always(error)

    end = await attempt(graph_of(calls, "write", policy=at_once()))

    assert isinstance(end, Failed)
    assert (calls.made, end.node_retries) == ({"write": 1}, 0)


async def test_an_interrupt_passes_and_is_not_counted() -> None:
    asked = []

    def ask(_: Log) -> Log:
        asked.append("?")
        return {"log": [interrupt("may I?")]}

    node: Any = ask
    graph = StateGraph(Log).add_node("ask", node, retry_policy=at_once()).add_edge(START, "ask")

    end = await attempt(graph)

    assert isinstance(end, Ended)
    assert (end.reason, end.node_retries, asked) == ("interrupt", 0, ["?"])


async def test_an_unknown_failure_is_retried_once() -> None:
    calls = always(Unheard)

    end = await attempt(graph_of(calls, "write", policy=at_once(5)))

    assert isinstance(end, Failed)
    assert (calls.made, end.node_retries) == ({"write": 2}, 1)


async def test_rules_of_your_own_are_asked_first() -> None:
    calls = times(1, lambda: FileNotFoundError("not there yet"))
    late = Classifier(rules=(Rule(Kind.TRANSIENT, error=FileNotFoundError),))

    end = await attempt(graph_of(calls, "write", policy=at_once(classifier=late)))

    assert isinstance(end, Ended)
    assert end.node_retries == 1


@pytest.mark.parametrize("in_place", range(6))
@pytest.mark.parametrize("most", range(5))
async def test_node_and_worker_together_keep_to_the_policy(
    checkpoints: Checkpoints, in_place: int, most: int
) -> None:
    calls = always(TransientError)

    end, tries, _ = await whole_run(
        graph_of(calls, "write", policy=at_once(in_place)),
        checkpoints,
        RetryConfig(max_retries=most),
    )

    assert isinstance(end, Failed)
    assert (calls.made, tries) == ({"write": most + 1}, most + 1)


async def test_an_unknown_failure_gets_one_retry_over_node_and_worker(
    checkpoints: Checkpoints,
) -> None:
    calls = always(Unheard)

    _, tries, _ = await whole_run(
        graph_of(calls, "write", policy=at_once()), checkpoints, RetryConfig()
    )

    assert (calls.made, tries) == ({"write": 2}, 2)


@pytest.mark.parametrize("most", range(5))
async def test_parallel_nodes_share_the_retries_of_their_run(
    checkpoints: Checkpoints, most: int
) -> None:
    calls = always(TransientError)
    names = ("a", "b", "c")

    end, tries, _ = await whole_run(
        graph_of(calls, *names, policy=at_once(), parallel=True),
        checkpoints,
        RetryConfig(max_retries=most),
    )

    assert isinstance(end, Failed)
    assert tries == most + 1
    assert max(calls.made.values()) <= most + 1


async def test_nodes_in_a_row_share_the_retries_of_their_run(checkpoints: Checkpoints) -> None:
    # Each fails twice: the first uses two of the three retries, the second the last one.
    calls = times(2, TransientError)

    end, tries, _ = await whole_run(
        graph_of(calls, "one", "two", policy=at_once()), checkpoints, RetryConfig(max_retries=3)
    )

    assert isinstance(end, Failed)
    assert (end.node, calls.made, tries) == ("two", {"one": 3, "two": 2}, 4)


async def test_the_worker_goes_on_at_the_node_with_what_is_left(checkpoints: Checkpoints) -> None:
    calls = times(3, TransientError)

    end, tries, waits = await whole_run(
        graph_of(calls, "write", policy=at_once(1)),
        checkpoints,
        RetryConfig(max_retries=3, jitter=False),
    )

    assert isinstance(end, Ended)
    # The second attempt began with two tries used: its wait is that of the second retry.
    assert (calls.made, tries, end.node_retries, waits) == ({"write": 4}, 2, 1, [2.0])


async def test_nested_nodes_do_not_multiply() -> None:
    calls = always(TransientError)
    inner = graph_of(calls, "write", policy=at_once()).compile()
    outer = StateGraph(Log).add_node("inner", inner, retry_policy=at_once(5))
    outer.add_edge(START, "inner")

    end = await attempt(outer)

    assert isinstance(end, Failed)
    assert (calls.made, end.node_retries) == ({"write": 4}, 3)


@pytest.mark.parametrize("told", [0.6, 1.5, 600.0])
async def test_a_longer_wait_that_was_told_rises_to_the_worker(
    checkpoints: Checkpoints, told: float
) -> None:
    calls = times(1, lambda: RateLimitedError(retry_after=told))
    policy = retry_policy(initial_delay=0.5, jitter=False)

    end, _, waits = await whole_run(
        graph_of(calls, "one", "two", policy=policy),
        checkpoints,
        RetryConfig(initial_delay=0.1, max_retries=5, jitter=False),
    )

    assert isinstance(end, Ended)
    assert (waits, end.resumed) == ([told, told], True)
    assert calls.made == {"one": 2, "two": 2}


async def test_a_wait_of_more_than_a_second_rises_though_the_node_would_wait_longer() -> None:
    calls = always(lambda: RateLimitedError(retry_after=1.5))

    end = await attempt(graph_of(calls, "write", policy=retry_policy(initial_delay=5.0)))

    assert isinstance(end, Failed)
    assert calls.made == {"write": 1}


async def test_a_wait_that_is_kept_in_place_is_waited_in_place() -> None:
    calls = times(1, lambda: RateLimitedError(retry_after=0.01))

    end = await attempt(
        graph_of(calls, "write", policy=retry_policy(initial_delay=0.01, jitter=False))
    )

    assert isinstance(end, Ended)
    assert end.node_retries == 1


@pytest.mark.parametrize("in_place", range(4))
def test_outside_of_a_worker_its_own_limit_holds(in_place: int) -> None:
    calls = always(TransientError)
    graph = graph_of(calls, "write", policy=at_once(in_place)).compile()

    with pytest.raises(TransientError):
        graph.invoke({"log": []})

    assert calls.made == {"write": in_place + 1}


async def test_outside_of_a_worker_each_node_and_each_call_begins_anew() -> None:
    calls = Calls(lambda _, number: TransientError() if number % 3 else None)
    graph = StateGraph(Log).set_node_defaults(retry_policy=at_once())
    graph.add_sequence([(name, calls.sync(name)) for name in ("a", "b", "c")]).add_edge(START, "a")
    compiled = graph.compile(InMemorySaver())

    for _ in range(2):
        compiled.invoke({"log": []}, {"configurable": {"thread_id": "1"}})
        await compiled.ainvoke({"log": []}, {"configurable": {"thread_id": "1"}})

    assert calls.made == {"a": 12, "b": 12, "c": 12}


async def test_a_thread_that_is_resumed_begins_anew() -> None:
    calls = Calls(lambda _, number: TransientError() if number < 6 else None)
    graph = graph_of(calls, "write", policy=at_once()).compile(InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}

    with pytest.raises(TransientError):
        await graph.ainvoke({"log": []}, config)
    await graph.ainvoke(None, config)

    assert calls.made == {"write": 6}


async def test_parallel_nodes_are_counted_apart_for_their_own_limits() -> None:
    calls = times(2, TransientError)
    names = tuple("abcdef")
    graph = graph_of(calls, *names, policy=at_once(2), parallel=True)

    end = await attempt(graph, policy=RetryConfig(max_retries=100))

    assert isinstance(end, Ended)
    assert calls.made == dict.fromkeys(names, 3)
    assert end.node_retries == 12
