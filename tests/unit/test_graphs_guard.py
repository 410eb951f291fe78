"""A stale attempt writes nothing: leases, and the guard around a real checkpointer."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph

from redrive.errors import StaleAttemptError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    Ended,
    Failed,
    GuardedSaver,
    Lease,
    WorkflowProcessor,
)
from redrive.graphs.lease import LeaseState

EVENT_ID = "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e"
THREAD = f"{EVENT_ID}/0/0"
CONFIG: RunnableConfig = {"configurable": {"thread_id": THREAD, "checkpoint_ns": ""}}


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


EVENT = WorkflowEvent.model_validate(
    {
        "event_id": EVENT_ID,
        "timestamp": "2026-01-01T00:00:00Z",
        "workflow_id": "work",
        "workflow_run_id": "run",
        "payload": {"data": {"log": ["in"]}},
    }
)


async def stored_ids(checkpoints: Checkpoints) -> list[str]:
    assert checkpoints.saver is not None
    return [found.checkpoint["id"] async for found in checkpoints.saver.alist(CONFIG)]


def test_a_lease_is_held_until_it_ends() -> None:
    lease = Lease()
    before = lease.state

    lease.end("partition 3 went to another worker")

    assert (before, lease.state) == (LeaseState.HELD, LeaseState.STALE)
    with pytest.raises(StaleAttemptError, match="partition 3 went to another worker"):
        lease.check()


def test_the_first_reason_stays() -> None:
    lease = Lease()
    lease.end("timeout")

    lease.end("partition lost")

    with pytest.raises(StaleAttemptError, match="timeout"):
        lease.check()


def test_a_gap_in_polling_makes_a_lease_stale_for_ever() -> None:
    gaps = [29.9, 30.1, 0.0]
    lease = Lease(gap_s=lambda: gaps.pop(0), limit_s=30)

    states = [lease.state, lease.state, lease.state]

    assert states == [LeaseState.HELD, LeaseState.STALE, LeaseState.STALE]
    with pytest.raises(StaleAttemptError, match=r"30\.1 s.*session timeout of 30 s"):
        lease.check()


def test_a_partition_that_has_gone_makes_a_lease_stale_for_ever() -> None:
    kept = [True, False, True]
    lease = Lease(kept=lambda: kept.pop(0))

    states = [lease.state, lease.state, lease.state]

    assert states == [LeaseState.HELD, LeaseState.STALE, LeaseState.STALE]
    with pytest.raises(StaleAttemptError, match="another worker"):
        lease.check()


async def test_while_its_partition_is_away_a_write_waits() -> None:
    lease = Lease()
    lease.suspend()
    write = asyncio.create_task(lease.admit())
    done, _ = await asyncio.wait({write}, timeout=0.2)

    lease.resume()
    await asyncio.wait_for(write, timeout=5)

    assert not done
    assert lease.state is LeaseState.HELD


@pytest.mark.parametrize(
    "wait", [Lease.admit, lambda lease: asyncio.to_thread(lease.check)], ids=["loop", "thread"]
)
async def test_a_write_that_waits_is_refused_when_the_partition_has_gone(
    wait: Callable[[Lease], Coroutine[None, None, None]],
) -> None:
    lease = Lease()
    lease.suspend()
    write = asyncio.create_task(wait(lease))
    done, _ = await asyncio.wait({write}, timeout=0.2)

    lease.end("its partition has gone to another worker")

    assert not done
    with pytest.raises(StaleAttemptError, match="gone to another worker"):
        await asyncio.wait_for(write, timeout=5)


async def test_what_would_block_the_event_loop_is_refused_while_the_partition_is_away() -> None:
    lease = Lease()
    lease.suspend()

    with pytest.raises(StaleAttemptError, match="between two assignments"):
        lease.check()


@pytest.mark.invariant("P7")
async def test_a_thread_that_waits_lets_an_event_loop_go_that_waits_for_it() -> None:
    lease = Lease()
    lease.suspend()

    with ThreadPoolExecutor(1) as pool, pytest.raises(StaleAttemptError, match="blocks the loop"):
        pool.submit(lease.check).result()

    assert lease.state is LeaseState.STALE


@pytest.mark.invariant("P4")
async def test_a_run_whose_partition_comes_back_goes_on_and_no_node_runs_again(
    checkpoints: Checkpoints,
) -> None:
    ran: list[str] = []
    lease = Lease()

    def one(state: Log) -> Log:
        ran.append("one")
        lease.suspend()
        return {"log": [f"one after {state['log']}"]}

    def two(state: Log) -> Log:
        ran.append("two")
        return {"log": [f"two after {state['log']}"]}

    graph = StateGraph(Log)
    graph.add_node("one", one)
    graph.add_node("two", two)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    processor = WorkflowProcessor({"work": graph}, checkpoints)

    run = asyncio.create_task(processor.run(EVENT, thread_id=THREAD, lease=lease))
    done, _ = await asyncio.wait({run}, timeout=0.5)
    kept = await stored_ids(checkpoints)
    lease.resume()
    end = await asyncio.wait_for(run, timeout=10)

    assert not done
    assert isinstance(end, Ended)
    assert ran == ["one", "two"]
    assert len(await stored_ids(checkpoints)) > len(kept)


@pytest.mark.invariant("P4", "P8")
async def test_a_stale_attempt_stops_before_the_next_node_and_leaves_no_trace(
    checkpoints: Checkpoints,
) -> None:
    ran: list[str] = []
    lease = Lease()
    before: list[str] = []

    async def one(state: Log) -> Log:
        ran.append("one")
        before.extend(await stored_ids(checkpoints))
        lease.end("the partition went to another worker")
        return {"log": [f"zombie's work on {state['log']}"]}

    graph = StateGraph(Log)
    graph.add_node("one", one)
    graph.add_node("two", lambda _: ran.append("two"))
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    processor = WorkflowProcessor({"work": graph}, checkpoints)

    end = await processor.run(EVENT, thread_id=THREAD, lease=lease)

    assert isinstance(end, Failed)
    assert isinstance(end.error, StaleAttemptError)
    assert end.position is None
    assert ran == ["one"]
    assert await stored_ids(checkpoints) == before
    assert checkpoints.saver is not None
    stored = await checkpoints.saver.aget_tuple(CONFIG)
    assert stored is not None
    assert not stored.pending_writes


@pytest.mark.invariant("P4", "P8")
async def test_an_older_attempt_of_the_same_thread_is_refused(checkpoints: Checkpoints) -> None:
    may_end = asyncio.Event()
    inside = asyncio.Event()
    calls: list[str] = []

    async def work(state: Log) -> Log:
        calls.extend(state["log"])
        if len(calls) == 1:
            inside.set()
            await may_end.wait()
            return {"log": ["old"]}
        return {"log": ["new"]}

    graph = StateGraph(Log)
    graph.add_node("work", work)
    graph.add_edge(START, "work")
    processor = WorkflowProcessor({"work": graph}, checkpoints)
    old_lease = Lease()
    old = asyncio.create_task(processor.run(EVENT, thread_id=THREAD, lease=old_lease))
    await inside.wait()
    old_lease.end("it ran into its timeout")

    new_end = await processor.run(EVENT, thread_id=THREAD, lease=Lease())
    may_end.set()
    old_end = await old
    again = await processor.run(EVENT, thread_id=THREAD, lease=Lease())

    assert isinstance(old_end, Failed)
    assert isinstance(old_end.error, StaleAttemptError)
    assert new_end == Ended(result={"log": ["in", "new"]}, resumed=True)
    assert again == Ended(result={"log": ["in", "new"]}, resumed=True)


@pytest.mark.invariant("P4")
async def test_a_subgraph_of_a_stale_attempt_writes_nothing_either(
    checkpoints: Checkpoints,
) -> None:
    lease = Lease()
    ran: list[str] = []

    inner = StateGraph(Log)
    inner.add_node("first", lambda _: lease.end())
    inner.add_node("second", lambda _: ran.append("second"))
    inner.add_edge(START, "first")
    inner.add_edge("first", "second")
    outer = StateGraph(Log)
    outer.add_node("outer", inner.compile())
    outer.add_edge(START, "outer")

    end = await WorkflowProcessor({"work": outer}, checkpoints).run(
        EVENT, thread_id=THREAD, lease=lease
    )

    assert isinstance(end, Failed)
    assert isinstance(end.error, StaleAttemptError)
    assert ran == []


def _blocking_writes(saver: GuardedSaver) -> list[Callable[[], object]]:
    checkpoint = empty_checkpoint()
    return [
        lambda: saver.put(CONFIG, checkpoint, {}, {}),
        lambda: saver.put_writes({**CONFIG}, [("log", "x")], "task"),
        lambda: saver.delete_thread(THREAD),
    ]


def _async_writes(saver: GuardedSaver) -> list[Callable[[], Any]]:
    checkpoint = empty_checkpoint()
    return [
        lambda: saver.aput(CONFIG, checkpoint, {}, {}),
        lambda: saver.aput_writes({**CONFIG}, [("log", "x")], "task"),
        lambda: saver.adelete_thread(THREAD),
    ]


@pytest.mark.invariant("P4")
async def test_every_way_to_write_asks_the_lease(checkpoints: Checkpoints) -> None:
    assert checkpoints.saver is not None
    lease = Lease()
    guarded = GuardedSaver(checkpoints.saver, lease)
    await guarded.aput(CONFIG, empty_checkpoint(), {}, {})
    before = await stored_ids(checkpoints)

    lease.end()

    for blocking in _blocking_writes(guarded):
        with pytest.raises(StaleAttemptError):
            blocking()
    for write in _async_writes(guarded):
        with pytest.raises(StaleAttemptError):
            await write()
    assert await stored_ids(checkpoints) == before


async def test_a_guard_reads_what_its_checkpointer_holds(checkpoints: Checkpoints) -> None:
    assert checkpoints.saver is not None
    lease = Lease()
    guarded = GuardedSaver(checkpoints.saver, lease)
    checkpoint = empty_checkpoint()
    await guarded.aput(CONFIG, checkpoint, {}, {})
    lease.end()

    read = await guarded.aget_tuple(CONFIG)
    blocking = guarded.get_tuple(CONFIG)
    listed = [found async for found in guarded.alist(CONFIG)]
    history = await guarded.aget_delta_channel_history(config=CONFIG, channels=["log"])

    assert read is not None
    assert read == blocking
    assert read.checkpoint["id"] == checkpoint["id"]
    assert listed == list(guarded.list(CONFIG)) == [read]
    assert history == guarded.get_delta_channel_history(config=CONFIG, channels=["log"])
    assert guarded.get_next_version(None, None).startswith("00000000000000000000000000000001.")


@pytest.mark.invariant("P4")
async def test_a_write_during_which_the_lease_ended_starts_no_further_node(
    checkpoints: Checkpoints,
) -> None:
    # The process froze between the question and the commit.
    assert checkpoints.saver is not None
    gaps = [0.0, 60.0]
    guarded = GuardedSaver(checkpoints.saver, Lease(gap_s=lambda: gaps.pop(0), limit_s=30))

    with pytest.raises(StaleAttemptError):
        await guarded.aput(CONFIG, empty_checkpoint(), {}, {})


async def test_a_longer_list_of_types_keeps_the_guard(checkpoints: Checkpoints) -> None:
    assert checkpoints.saver is not None
    lease = Lease()
    guarded = GuardedSaver(checkpoints.saver, lease).with_allowlist({("builtins", "complex")})
    await guarded.aput(CONFIG, empty_checkpoint(), {}, {})

    lease.end()

    with pytest.raises(StaleAttemptError):
        await guarded.aput(CONFIG, empty_checkpoint(), {}, {})
    assert await guarded.aget_tuple(CONFIG) is not None
