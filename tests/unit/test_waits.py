"""Each way to wait is counted, told once it lasts, told each minute, and told when it is over."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from tests.unit.test_dispatcher_memory import World
from tests.unit.test_run_queue import PLACE, rest, run, run_queue, taken

from redrive.consumer.apart import Obstacle, ObstacleCause, ObstacleStatus
from redrive.consumer.buffer import Buffer
from redrive.consumer.partition_status import PartitionsStatus, PartitionStatus
from redrive.consumer.partitions import Partitions
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.settle import Settler
from redrive.consumer.waits import KINDS, Amount, Wait, Waits
from redrive.consumer.worker_lifecycle import WorkerComponents, waiting_in
from redrive.kafka.log import TopicPartition
from redrive.kafka.topic_ids import Absent
from redrive.state.commit_metadata import MAX_ENTRIES, OffsetEntry
from redrive.state.key_ordered_queue import KeyOrderedQueue
from redrive.state.reservations import Reservations
from redrive.testing.manual_clock import ManualClock


def looked(
    found: Mapping[Wait, Amount], *, clock: ManualClock, waits: Waits, seconds: int
) -> list[MutableMapping[str, Any]]:
    """Look once a second, as a worker does; return what was logged."""
    with capture_logs() as logs:
        for _ in range(seconds):
            waits.look(found)
            clock.advance(1.0)
    return logs


@pytest.mark.invariant("P1")
def test_every_way_to_wait_is_told_once_then_each_minute_and_when_it_is_over() -> None:
    for wait, kind in KINDS.items():
        clock = ManualClock()
        waits = Waits(clock)
        found = {wait: Amount(3)}

        begun = looked(found, clock=clock, waits=waits, seconds=10)
        first = looked(found, clock=clock, waits=waits, seconds=60)
        more = looked(found, clock=clock, waits=waits, seconds=120)
        over = looked({wait: Amount(0)}, clock=clock, waits=waits, seconds=5)

        told = [(line["event"], line["waits_for"]) for line in (*begun, *first, *more, *over)]
        if kind.is_told:
            assert told == [], wait
            continue
        assert begun == [], wait
        assert told == [
            ("worker.waits", wait.value),
            *[("worker.still_waits", wait.value)] * 2,
            ("worker.waits_no_more", wait.value),
        ], wait
        assert (first[0]["count"], first[0]["since_s"]) == (3, 10.0)
        assert first[0]["log_level"] == ("info" if kind.is_planned else "warning")


def test_it_is_counted_and_timed_from_when_it_began() -> None:
    clock = ManualClock()
    waits = Waits(clock)

    looked({Wait.MEMORY: Amount(2)}, clock=clock, waits=waits, seconds=7)
    waits.look({Wait.MEMORY: Amount(5)})

    assert waits.counts == {**dict.fromkeys(Wait, 0), Wait.MEMORY: 5}
    assert waits.lasting_s == {**dict.fromkeys(Wait, 0.0), Wait.MEMORY: 7.0}


def test_what_goes_on_all_the_time_does_not_stand_still() -> None:
    clock = ManualClock()
    waits = Waits(clock)

    with capture_logs() as logs:
        for second in range(100):
            waits.look({Wait.BATCH: Amount(9, mark=second // 5)})
            clock.advance(1.0)

    assert logs == []
    assert waits.counts[Wait.BATCH] == 9


def test_an_obstacle_is_a_way_to_wait_and_tells_itself() -> None:
    assert {Wait(cause.value) for cause in ObstacleCause} == {
        w for w, kind in KINDS.items() if kind.is_told
    }
    assert KINDS.keys() == set(Wait)


def test_lanes_count_what_waits_behind_others_what_is_parked_and_what_has_no_room() -> None:
    ordered: KeyOrderedQueue[int] = KeyOrderedQueue(max_open=1)
    for item, (partition, thread) in enumerate([(0, "a"), (0, "a"), (0, "b"), (1, "c"), (1, "c")]):
        ordered.put(partition, thread, item)
    told = [(ordered.ready, ordered.behind, ordered.parked("rest"))]

    ordered.take()
    told.append((ordered.ready, ordered.behind, ordered.parked("rest")))
    ordered.take(lambda _: "rest")
    told.append((ordered.ready, ordered.behind, ordered.parked("rest")))
    ordered.release(0, "a")
    told.append((ordered.ready, ordered.behind, ordered.parked("rest")))
    ordered.drop(1)
    told.append((ordered.ready, ordered.behind, ordered.parked("rest")))

    assert told == [((3, 0), 2, 0), ((1, 1), 2, 0), ((0, 1), 2, 1), ((2, 0), 1, 1), ((2, 0), 0, 0)]


def waiting_for(waiting: RunQueue) -> dict[Wait, int]:
    return {wait: amount.count for wait, amount in waiting.waiting().items() if amount.count}


def test_runs_that_wait_for_their_turn_are_counted_by_what_they_wait_for() -> None:
    slots, thread, suspects, alone, resting, held = (
        run_queue(in_flight=1),
        *(run_queue() for _ in range(5)),
    )
    for offset in range(3):
        slots.put(run(offset))
        suspects.put(run(offset, crashes=1))
        alone.put(run(offset, crashes=2))
        resting.put(run(offset))
        held.put(run(offset, due=60.0))
        one = run(offset)
        one.thread_id = "the same"
        thread.put(one)
    suspects.put(run(3, crashes=1))
    rest(resting, "a", until=60.0)
    for each in (slots, thread, suspects, alone, resting, held):
        taken(each)

    assert waiting_for(slots) == {Wait.SLOT: 2}
    assert waiting_for(thread) == {Wait.THREAD: 2}
    assert waiting_for(suspects) == {Wait.SUSPICION: 2}
    assert waiting_for(alone) == {Wait.SUSPICION: 2}
    assert waiting_for(resting) == {Wait.REST: 3}
    assert waiting_for(held) == {Wait.RETRY: 3}


def test_what_waits_for_memory_or_for_room_in_a_commit_is_counted() -> None:
    buffer = Buffer(1_000)
    share = buffer.share()
    cramped = RunQueue(in_flight=9, max_crashes=3, suspects_at_once=2, buffer=buffer)
    for offset in range(4):
        share.take(offset, 800)
        one = run(offset)
        cramped.put(replace(one, polled=replace(one.polled, share=share)))
    starts = Reservations(
        {offset: OffsetEntry(failed=1) for offset in range(1000, 1000 + MAX_ENTRIES)}
    )
    barred = run_queue()
    barred.put(run(0, starts=starts))
    taken(cramped)
    taken(barred)

    assert waiting_for(barred) == {Wait.WINDOW: 1}
    assert waiting_for(cramped) == {Wait.MEMORY: 3}
    cramped.drop(PLACE, lambda _: True)
    assert waiting_for(cramped) == {}


def test_a_worker_looks_at_every_way_to_wait() -> None:
    held = PartitionStatus(TopicPartition("events", 0), 7, 0.0, 0.5, outside=6)
    status = PartitionsStatus((held,), suspended=2, paused=3, unchecked=4)
    absent = Absent(frozenset({"other"}), frozenset({("events", 0), ("events", 1)}))
    apart = [
        ObstacleStatus(Obstacle("results"), cause, since=0.0, waiting=9) for cause in ObstacleCause
    ]
    settler = Settler(
        cast("Any", None),
        cast("Any", None),
        Partitions(buffer=Buffer(1_000), session_timeout_s=30, incarnation=1, clock=ManualClock()),
        incarnation=1,
        transactional=True,
        clock=ManualClock(),
    )
    settler.apart.status = tuple(apart)
    parts = SimpleNamespace(
        dispatcher=World(buffer_bytes=1_000).dispatcher,
        settler=settler,
        partitions=SimpleNamespace(status=status, expected=5),
        checkpoints=SimpleNamespace(waiting=8),
        topics=SimpleNamespace(absent=absent),
        link=SimpleNamespace(problem="away"),
        settling=SimpleNamespace(is_open=False),
    )

    found = waiting_in(cast("WorkerComponents", parts))

    assert found.keys() == set(Wait)
    assert {wait: amount.count for wait, amount in found.items() if amount.count} == {
        Wait.WINDOW: 6,
        Wait.CHECKPOINTS: 8,
        Wait.OFFSETS: 5,
        Wait.LOG_CHECK: 4,
        Wait.REBALANCE: 2,
        Wait.PAUSED: 3,
        Wait.LEADER: 1,
        Wait.TOPIC: 1,
        Wait.GROUP: 1,
        Wait.COORDINATOR: 1,
        Wait.PRODUCER: 1,
        **dict.fromkeys((Wait(cause.value) for cause in ObstacleCause), 9),
    }


PAGE = Path(__file__).parents[2] / "docs" / "running-a-worker.md"


def test_the_page_lists_every_way_to_wait_and_each_of_its_log_events() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("## What a worker waits for")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    named = set(re.findall(r"`((?:[a-z]+)\.[a-z_]+)`", table))
    events = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", page, flags=re.MULTILINE))

    assert listed == ["for", *(wait.value for wait in Wait)]
    assert {name for name in named if not is_setting(name)} - events == set()


def is_setting(name: str) -> bool:
    return f"| `{name}` |" in PAGE.with_name("settings.md").read_text(encoding="utf-8")
