"""No graph takes all the slots: whatever hangs, every other graph goes on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redrive.consumer.event_run import Run
from redrive.consumer.outcome import PolledRecord
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.shares import Shares
from redrive.events import EventHeaders
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.testing.kafka_env import event

EVENTS = 300


def run_of(graph: str, offset: int, partition: int = 0, *, due: float | None = None) -> Run:
    tp = TopicPartition("events", partition)
    return Run(
        polled=PolledRecord(ConsumerRecord(tp, offset, None, b"", (), None), epoch=1),
        event=event({}, workflow_id=graph),
        headers=EventHeaders(),
        thread_id=f"{partition}-{offset}",
        due=due,
    )


def turns_of(in_flight: int, graphs: list[str], limits: dict[str, int] | None = None) -> RunQueue:
    shares = Shares(in_flight, graph_of=str, graphs=graphs, limits=limits)
    return RunQueue(in_flight=in_flight, max_crashes=3, suspects_at_once=2, shares=shares)


def turns_of_many(in_flight: int, limits: dict[str, int] | None = None) -> RunQueue:
    """Return those of a worker with a graph for every workflow, and one for `alone`."""
    shares = Shares(
        in_flight,
        graph_of=lambda workflow: workflow if workflow == "alone" else "*",
        graphs=["*", "alone"],
        of_many=["*"],
        limits=limits,
    )
    return RunQueue(in_flight=in_flight, max_crashes=3, suspects_at_once=2, shares=shares)


def started(waiting: RunQueue, now: float = 0.0) -> list[Run]:
    found = []
    while (run := waiting.take(now)) is not None:
        found.append(run)
    return found


@pytest.mark.invariant("P7")
@settings(max_examples=25)
@given(
    in_flight=st.integers(4, 80),
    others=st.integers(1, 3),
    partitions=st.integers(1, 4),
    order=st.sampled_from(["it hangs first", "mixed"]),
    data=st.data(),
)
def test_whatever_one_graph_does_every_other_one_ends_all_its_runs(
    in_flight: int, others: int, partitions: int, order: str, data: st.DataObject
) -> None:
    names = [f"good-{number}" for number in range(others)]
    waiting = turns_of(in_flight, ["hangs", *names])
    wanted, offset = 0, 0
    events = ["hangs"] * EVENTS + names * 5
    if order == "mixed":
        events = data.draw(st.permutations(events))
    ended = 0
    for graph in events:
        waiting.put(run_of(graph, offset, offset % partitions))
        offset, wanted = offset + 1, wanted + (graph != "hangs")
    hanging: list[Run] = []

    # Each of the good ones ends as soon as it began; none of the others ever does.
    while batch := started(waiting):
        for run in batch:
            if run.workflow_id == "hangs":
                hanging.append(run)
            else:
                ended += 1
                waiting.ended(run)
                waiting.release(run)

    assert ended == wanted
    assert 0 < len(hanging) < in_flight


@pytest.mark.invariant("P7")
@settings(max_examples=25)
@given(
    in_flight=st.integers(4, 80),
    limit=st.none() | st.integers(2, 80),
    others=st.integers(1, 3),
    partitions=st.integers(1, 4),
    data=st.data(),
)
def test_whatever_one_workflow_of_a_graph_does_every_other_one_ends_all_its_runs(
    in_flight: int, limit: int | None, others: int, partitions: int, data: st.DataObject
) -> None:
    waiting = turns_of_many(in_flight, None if limit is None else {"*": limit})
    good = [f"good-{number}" for number in range(others)] * 5 + ["alone"] * 5
    first = data.draw(st.booleans())
    events = ["hangs"] * EVENTS + good
    if not first:
        events = data.draw(st.permutations(events))
    for offset, workflow in enumerate(events):
        waiting.put(run_of(workflow, offset, offset % partitions))
    ended, hanging = 0, 0

    while batch := started(waiting):
        for run in batch:
            if run.workflow_id == "hangs":
                hanging += 1
            else:
                ended += 1
                waiting.ended(run)
                waiting.release(run)

    assert ended == len(good)
    assert 0 < hanging < in_flight


@pytest.mark.invariant("P7")
def test_workflows_of_one_graph_that_are_tried_again_leave_room_for_others() -> None:
    waiting = turns_of_many(16)
    for offset in range(50):
        waiting.hold(run_of("hangs", offset, due=1.0), until=1.0)
    begun = started(waiting, now=2.0)
    waiting.put(run_of("good", 99))
    waiting.put(run_of("alone", 100))

    # One of sixteen is kept for the other graph, one of the fifteen for other workflows.
    assert len(begun) == 14
    assert {run.workflow_id for run in started(waiting, now=2.0)} == {"good", "alone"}


def test_a_workflow_has_what_is_kept_as_soon_as_others_have_ended() -> None:
    waiting = turns_of_many(16, {"*": 4})
    for offset in range(8):
        waiting.put(run_of("a" if offset < 6 else "b", offset))
    first = started(waiting)

    assert [run.workflow_id for run in first] == ["a", "a", "a", "b"]
    waiting.ended(first[0])
    waiting.release(first[0])
    # One slot of the graph is free, and kept: both workflows have one already.
    assert started(waiting) == []
    waiting.ended(first[3])
    waiting.release(first[3])
    assert [run.workflow_id for run in started(waiting)] == ["a", "b"]


@pytest.mark.invariant("P7")
@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=60), st.integers(3, 40))
def test_nothing_waits_while_its_graph_has_room_and_a_slot_is_free(
    graphs: list[str], in_flight: int
) -> None:
    waiting = turns_of(in_flight, ["a", "b", "c"], {"b": 2})
    for offset, graph in enumerate(graphs):
        waiting.put(run_of(graph, offset))
    running, seen = started(waiting), 0

    while running:
        kept = [run.workflow_id for run in running]
        assert len(running) <= in_flight
        assert kept.count("b") <= 2
        run = running.pop(0)
        seen += 1
        waiting.ended(run)
        waiting.release(run)
        running += started(waiting)

    assert seen == len(graphs)


@pytest.mark.invariant("P7")
def test_runs_of_one_graph_that_are_tried_again_leave_room_for_others() -> None:
    waiting = turns_of(8, ["hangs", "good"])
    for offset in range(50):
        waiting.hold(run_of("hangs", offset, due=1.0), until=1.0)
    begun = started(waiting, now=2.0)
    waiting.put(run_of("good", 99))

    assert len(begun) == 7
    assert [run.workflow_id for run in started(waiting, now=2.0)] == ["good"]


@pytest.mark.parametrize("graphs", [["only"], ["only", "another"]])
def test_a_graph_alone_has_every_slot_but_those_that_are_kept(graphs: list[str]) -> None:
    waiting = turns_of(64, graphs)
    for offset in range(100):
        waiting.put(run_of("only", offset))

    assert len(started(waiting)) == (64 if len(graphs) == 1 else 60)


def test_a_limit_of_its_own_is_never_passed_and_delays_nobody() -> None:
    waiting = turns_of(10, ["few", "many"], {"few": 1})
    for offset in range(10):
        waiting.put(run_of("few" if offset < 5 else "many", offset))

    first = started(waiting)

    assert [run.workflow_id for run in first] == ["few", *["many"] * 5]
    waiting.ended(first[0])
    waiting.release(first[0])
    assert [run.polled.offset for run in started(waiting)] == [1]
