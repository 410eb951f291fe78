"""Since when a partition stands at its lowest unfinished offset, and whether that one moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.unit.test_dispatcher import answers_of, covered, intake_of

from redrive.consumer.buffer import Buffer
from redrive.consumer.event_run import Run
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import OutcomeBuilder
from redrive.consumer.partition_status import PartitionStatus
from redrive.consumer.partitions import Partitions
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.runner import Again, NextStep
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.kafka.topic_ids import IdsAsOf
from redrive.state.rests import Rest
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

PLACE = TopicPartition("events", 0)


def test_a_partition_with_nothing_unfinished_is_neither_old_nor_stuck() -> None:
    seen = PartitionStatus(PLACE, None, since=0.0, window_used=0.0)

    assert (seen.unfinished_s(100.0), seen.stuck_s(100.0, moved=None)) == (0.0, 0.0)


def test_it_is_stuck_since_the_later_of_becoming_the_lowest_and_its_last_move() -> None:
    seen = PartitionStatus(PLACE, 7, since=40.0, window_used=0.0)

    assert seen.unfinished_s(100.0) == 60.0
    assert [seen.stuck_s(100.0, moved=moved) for moved in (None, 10.0, 70.0)] == [60.0, 60.0, 30.0]


def test_a_planned_wait_is_no_standstill_and_its_end_begins_one() -> None:
    seen = PartitionStatus(PLACE, 7, since=40.0, window_used=0.0)

    assert [seen.stuck_s(now, moved=150.0) for now in (100.0, 150.0, 160.0)] == [0.0, 0.0, 10.0]


class Kafka:
    """A log that begins at 0 and has no commits."""

    def committed(self, tps: Any, **_: object) -> dict[TopicPartition, Committed]:  # noqa: ANN401
        return dict.fromkeys(tps, Committed(None, None))

    def assignment(self) -> list[TopicPartition]:
        return []

    def ends(self, tps: Any, **_: object) -> dict[TopicPartition, int]:  # noqa: ANN401 - a stand-in
        return dict.fromkeys(tps, 0)

    def changed_ids(self, topics: Any, **_: object) -> IdsAsOf:  # noqa: ANN401 - a stand-in
        del topics
        return IdsAsOf()

    def topic_ids(self, topics: Any, **_: object) -> dict[str, bytes]:  # noqa: ANN401 - a stand-in
        return dict.fromkeys(topics, b"")

    def pause(self, tps: Any) -> None: ...  # noqa: ANN401 - a stand-in

    def resume(self, tps: Any) -> None: ...  # noqa: ANN401 - a stand-in


def test_the_poll_thread_notes_the_lowest_offset_and_since_when_it_is_that_one() -> None:
    clock, kafka = ManualClock(), Kafka()
    partitions = Partitions(buffer=Buffer(2**20), session_timeout_s=30, incarnation=1, clock=clock)
    log: Any = kafka
    partitions.expect([PLACE])
    partitions.read_committed(log)
    partitions.take([ConsumerRecord(PLACE, at, None, b"x", (), None) for at in range(3)])
    told = []

    # 1 is settled first: 0 stays the lowest. Then 0 is: 2 becomes it. Then nothing is left.
    for settled in ([1], [0], [], [2]):
        partitions.settle({PLACE: settled})
        clock.advance(10.0)
        partitions.look()
        (seen,) = partitions.status.partitions
        told.append((seen.lowest, seen.since, partitions.status.events))

    assert told == [(0, 10.0, 2), (2, 20.0, 1), (2, 20.0, 1), (None, 40.0, 0)]


class Scripted:
    """Runs one attempt for 5 s that moves in its middle, and asks for another in 60 s."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.moved = asyncio.Event()
        self.ends = asyncio.Event()

    def new_control(self) -> None:
        return None

    async def attempt(self, run: Run, **_: object) -> NextStep:
        run.begin(self.clock.monotonic(), limit_s=None)
        await self.moved.wait()
        run.moved = self.clock.monotonic()
        await self.ends.wait()
        run.moved = self.clock.monotonic()
        return NextStep(Again(60.0))


async def settle_down() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_run_tells_when_it_moved_and_until_when_it_waits() -> None:
    clock = ManualClock()
    runner = Scripted(clock)
    run_queue = RunQueue(in_flight=1, max_crashes=3, suspects_at_once=1, longest_rest_s=600)
    dispatcher = intake_of(
        answers_of(OutcomeBuilder), runner, lambda _: None, run_queue=run_queue, clock=clock
    )
    record = ConsumerRecord(PLACE, 0, None, event({}).to_bytes(), (), None)
    given = PolledRecord(record, 1, covered())
    told = []

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        steps: list[Callable[[], None]] = [
            lambda: dispatcher.accept([given]),
            runner.moved.set,
            runner.ends.set,
        ]
        for step in steps:
            clock.advance(10.0)
            step()
            await settle_down()
            clock.advance(1.0)
            told.append(dispatcher.moved(PLACE, 0))
        run_queue.rests.begin(Rest("fates", None, since=33.0, until=500.0, asked_s=467.0))
        told.append(dispatcher.moved(PLACE, 0))
        dispatcher.settled([Outcome(given, Ending.SUCCEEDED)])
        told.append(dispatcher.moved(PLACE, 0))
        waking.cancel()

    # Began at 10, moved at 21, ended at 32 with a retry at 92; its workflow rests until 500.
    assert told == [10.0, 21.0, 92.0, 500.0, None]
