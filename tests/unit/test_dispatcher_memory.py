"""Taking events in when memory is short: what waits is let go, and what has no room waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from redrive.consumer.buffer import Buffer, event_bytes
from redrive.consumer.dispatcher import Dispatcher
from redrive.consumer.event_run import Run
from redrive.consumer.lingering import LingeringWatch
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import OutcomeBuilder
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.runner import NextStep
from redrive.events import WorkflowEvent
from redrive.graphs.lease import Lease
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.rereading import RecordReader
from redrive.state.reservations import Reservations
from redrive.state.rests import Rest
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

PLACE, OTHER = TopicPartition("events", 0), TopicPartition("events", 1)
RESULT_BYTES = 100_000


class Reader:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[TopicPartition, int]] = []
        self.forgotten: list[TopicPartition] = []

    def ask(self, tp: TopicPartition, offset: int) -> None:
        self.asked.append((tp, offset))

    def forget(self, tps: Iterable[TopicPartition]) -> None:
        self.forgotten.extend(tps)

    def close(self) -> None: ...


class Runner:
    """Ends each run at once, with a large result."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, WorkflowEvent, ConsumerRecord]] = []

    def new_control(self) -> None:
        return None

    async def attempt(self, run: Run, **_: object) -> NextStep:
        self.ran.append((run.polled.offset, run.event, run.polled.record))
        result = ProducerRecord("results", None, bytes(RESULT_BYTES))
        return NextStep(Outcome(run.polled, Ending.SUCCEEDED, (result,)))


class World:
    """An intake, and all that it stands on."""

    def __init__(self, *, buffer_bytes: int, in_flight: int = 4) -> None:
        self.buffer = Buffer(buffer_bytes)
        self.shares = {tp: self.buffer.share() for tp in (PLACE, OTHER)}
        self.clock, self.reader, self.runner = ManualClock(), Reader(), Runner()
        self.run_queue = RunQueue(
            in_flight=in_flight, max_crashes=3, suspects_at_once=2, buffer=self.buffer
        )
        self.finished: list[Outcome] = []
        outcomes = OutcomeBuilder(
            results_topic="results",
            dlq_topic="letters",
            max_bytes={"results": 10**6, "letters": 10**6},
            worker="w",
            clock=self.clock,
        )
        self.dispatcher = Dispatcher(
            cast("Any", self.runner),
            outcomes,
            self.run_queue,
            LingeringWatch(lambda _: None, grace_s=1.0),
            finish=self._finish,
            new_lease=lambda _: Lease(),
            mark=_mark,
            clock=self.clock,
            reader=cast("RecordReader", self.reader),
        )

    def _finish(self, outcome: Outcome) -> None:
        self.finished.append(outcome)

    def polled(
        self, offset: int, sent: WorkflowEvent, *, tp: TopicPartition = PLACE
    ) -> PolledRecord:
        headers = (("traceparent", b"00-1"),)
        record = ConsumerRecord(tp, offset, b"key", sent.to_bytes(), headers, 5)
        starts = Reservations()
        starts.cover(0, 0, ahead=100)
        starts.stored()
        self.shares[tp].take(offset, event_bytes(record))
        return PolledRecord(record, 1, starts, self.shares[tp])

    def rest(self, workflow_id: str) -> None:
        now = self.clock.monotonic()
        self.run_queue.rests.begin(Rest(workflow_id, None, since=now, until=now + 5, asked_s=5))

    def settle(self) -> None:
        """Let what has ended be durable."""
        done, self.finished = self.finished, []
        for outcome in done:
            self.shares[outcome.polled.tp].drop([outcome.polled.offset])
        self.dispatcher.settled(done)


async def _mark(*_: object) -> None: ...


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of its own accord
        await asyncio.sleep(0)


def large(number: int, *, workflow_id: str = "limited") -> WorkflowEvent:
    return event({"number": number, "text": "x" * 10_000}, workflow_id=workflow_id)


@pytest.mark.invariant("P6", "P11")
async def test_what_rests_without_its_bytes_runs_with_them_once_they_are_read_again() -> None:
    world = World(buffer_bytes=200_000)
    polled_records = [world.polled(offset, large(offset)) for offset in range(6)]
    records = [polled.record for polled in polled_records]
    world.rest("limited")

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.dispatcher.accept(polled_records)
        let_go = world.buffer.let_go
        await world.clock.wait_for_sleepers()
        await world.clock.turn(5.1)
        while world.finished or len(world.runner.ran) < 6:
            world.dispatcher.read_again(
                {at: records[at[1]] for at in world.reader.asked if at[0] == PLACE}
            )
            world.settle()
            await asyncio.sleep(0)
        waking.cancel()

    assert let_go == 5
    assert sorted(offset for _, offset in world.reader.asked) == [1, 2, 3, 4, 5]
    assert [(offset, record) for offset, _, record in world.runner.ran] == list(enumerate(records))
    numbers = [ran.payload.data["number"] for _, ran, _ in world.runner.ran]
    assert numbers == list(range(6))
    assert (world.buffer.size_bytes, world.buffer.let_go) == (0, 0)


@pytest.mark.invariant("P1")
@pytest.mark.parametrize("instead", [None, event({"another": "event"})])
async def test_an_event_that_is_gone_from_its_log_is_answered_and_told(
    instead: WorkflowEvent | None,
) -> None:
    world, sent = World(buffer_bytes=10_000), large(0)
    polled = world.polled(3, sent)
    world.rest("limited")

    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            waking = world.dispatcher.begin(tasks)
            world.dispatcher.accept([polled])
            await world.clock.wait_for_sleepers()
            await world.clock.turn(5.1)
            await _until(lambda: bool(world.reader.asked))
            value = None if instead is None else instead.to_bytes()
            found = ConsumerRecord(PLACE, 3, None, value, (), None)
            world.dispatcher.read_again({(PLACE, 3): None if instead is None else found})
            waking.cancel()

    (outcome,) = world.finished
    assert outcome.ending is Ending.DEAD_LETTERED
    result, letter = (json.loads(record.value or b"") for record in outcome.records)
    assert (result["correlation_id"], result["status"]) == (sent.event_id, "error")
    assert result["answers"] == {"topic": PLACE.topic, "partition": PLACE.partition, "offset": 3}
    assert "not on its topic any more" in result["error"]
    assert (letter["reason"], letter["source"]["value"]) == ("unreadable", None)
    assert [line["event_id"] for line in logs if line["event"] == "event.gone"] == [sent.event_id]
    assert not world.runner.ran


@pytest.mark.invariant("P2")
async def test_what_is_being_read_again_is_forgotten_when_its_partition_goes() -> None:
    world = World(buffer_bytes=10_000, in_flight=1)
    polled = world.polled(0, large(0))
    healthy = world.polled(0, event({}, workflow_id="free"), tp=OTHER)
    world.rest("limited")

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.dispatcher.accept([polled])
        await world.clock.wait_for_sleepers()
        await world.clock.turn(5.1)
        await _until(lambda: bool(world.reader.asked))
        world.shares[PLACE].close()
        world.dispatcher.revoke({PLACE: 1})
        world.dispatcher.read_again({(PLACE, 0): polled.record})
        # Its slot is free again.
        world.dispatcher.accept([healthy])
        await _until(lambda: bool(world.finished))
        waking.cancel()

    assert world.reader.forgotten == [PLACE]
    assert [outcome.polled.tp for outcome in world.finished] == [OTHER]


@pytest.mark.invariant("P11")
async def test_nothing_starts_while_outcomes_that_are_not_durable_fill_the_memory() -> None:
    world = World(buffer_bytes=6 * RESULT_BYTES)
    sent = [event({}, workflow_id=f"w{number % 3}") for number in range(40)]
    polled_records = [world.polled(offset, each) for offset, each in enumerate(sent)]
    sizes = list[int]()

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.dispatcher.accept(polled_records)
        while len(world.runner.ran) < len(sent):
            before = None
            while before != len(world.finished) or world.dispatcher.running:
                before = len(world.finished)
                for _ in range(20):
                    await asyncio.sleep(0)
            assert world.finished
            sizes.append(len(world.finished))
            world.settle()
        waking.cancel()

    # At first nobody knows how large they will be: as many as may run end beside each other.
    assert max(sizes) <= 6 + 4
    # Each of the three workflows may have one beyond the limit.
    assert max(sizes[1:]) <= 6 + 3
    for number in range(3):
        ran = [offset for offset, _, _ in world.runner.ran if offset % 3 == number]
        assert ran == sorted(ran)
    assert world.buffer.size_bytes <= 6 * RESULT_BYTES


@pytest.mark.invariant("P7")
async def test_a_workflow_whose_outcomes_are_refused_leaves_others_running() -> None:
    world = World(buffer_bytes=6 * RESULT_BYTES)
    bad = [world.polled(n, event({}, workflow_id="bad")) for n in range(30)]
    good = [world.polled(30 + n, event({}, workflow_id="good")) for n in range(10)]

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.dispatcher.accept([*bad, *good])
        ended = list[Outcome]()
        while sum(o.polled.offset >= 30 for o in ended) < 10:
            await asyncio.sleep(0)
            # Of the bad one nothing is ever durable.
            durable = [o for o in world.finished if o.polled.offset >= 30]
            ended += durable
            world.shares[PLACE].drop([o.polled.offset for o in durable])
            world.finished = [o for o in world.finished if o not in durable]
            world.dispatcher.settled(durable)
        waking.cancel()

    assert 0 < len(world.finished) < 10
