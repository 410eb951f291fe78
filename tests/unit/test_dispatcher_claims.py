"""Taking in events that say of themselves that they drive a letter: nothing is decided by that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from tests.rows import rows

from redrive.consumer.dispatcher import Dispatcher
from redrive.consumer.event_run import Run
from redrive.consumer.letters_reader import LettersReader
from redrive.consumer.lingering import LingeringWatch
from redrive.consumer.outcome import Outcome, PolledRecord
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.runner import NextStep
from redrive.consumer.waits import Wait
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.events import EventHeaders, WorkflowEvent
from redrive.graphs.attempt_ends import Ended
from redrive.graphs.lease import Lease
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.state.reservations import Reservations
from redrive.telemetry.repeats import REPEATS
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

PLACE = TopicPartition("events", 0)
DRIVEN = EventHeaders(of="L", generation=3, count=2, mode="restart", source="anna", letters=5)


class Claims:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: dict[tuple[TopicPartition, int], ClaimedRedrive] = {}
        self.forgotten: list[TopicPartition] = []

    def ask(self, claims: Mapping[tuple[TopicPartition, int], ClaimedRedrive]) -> None:
        self.asked.update(claims)

    def forget(self, tps: Iterable[TopicPartition]) -> None:
        self.forgotten.extend(tps)


class Runner:
    """Ends each run as its data say, and notes on which thread."""

    def __init__(self, outcomes: OutcomeBuilder) -> None:
        self.ran: list[tuple[int, str]] = []
        self._outcomes = outcomes

    def new_control(self) -> None:
        return None

    async def attempt(self, run: Run, **_: object) -> NextStep:
        self.ran.append((run.polled.offset, run.thread_id))
        if run.event.payload.data.get("fails"):
            why = GivenUp(ZeroDivisionError(), Failure(Kind.PERMANENT), Reason.PERMANENT)
            return NextStep(self._outcomes.given_up(run, why))
        return NextStep(self._outcomes.ended(run, Ended({}, resumed=False)))


class World:
    """An intake with one slot, and the letters that it asks."""

    def __init__(self) -> None:
        clock = ManualClock()
        outcomes = OutcomeBuilder(
            results_topic="results",
            dlq_topic="letters",
            max_bytes={"results": 10**6, "letters": 10**6},
            worker="w",
            clock=clock,
        )
        self.runner, self.claims, self.finished = Runner(outcomes), Claims(), list[Outcome]()
        self.dispatcher = Dispatcher(
            cast("Any", self.runner),
            outcomes,
            RunQueue(in_flight=1, max_crashes=3, suspects_at_once=1),
            LingeringWatch(lambda _: None, grace_s=1.0),
            finish=self.finished.append,
            new_lease=lambda _: Lease(),
            mark=_mark,
            clock=clock,
            letters=cast("LettersReader", self.claims),
        )

    def accept(self, *sent: tuple[bytes | WorkflowEvent, EventHeaders]) -> None:
        starts = Reservations()
        starts.cover(0, 0, ahead=100)
        starts.stored()
        for offset, (one, headers) in enumerate(sent):
            value = one.to_bytes() if isinstance(one, WorkflowEvent) else one
            record = ConsumerRecord(PLACE, offset, b"key", value, tuple(headers.write()), 5)
            self.dispatcher.accept([PolledRecord(record, 1, starts)])

    def judge(self, offset: int, *, is_redrive: bool) -> None:
        self.dispatcher.judged({(PLACE, offset): is_redrive})

    async def until_ended(self, count: int) -> None:
        await _until(lambda: len(self.finished) >= count and not self.dispatcher.running)

    def waiting(self) -> dict[Wait, int]:
        return {w: n.count for w, n in self.dispatcher.waiting().items() if n.count}

    def told(self, number: int, topic: str) -> list[dict[str, Any]]:
        records = self.finished[number].records
        return [json.loads(one.value or b"") for one in records if one.topic == topic]


async def _mark(*_: object) -> None: ...


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of its own accord
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    REPEATS.forget()


@pytest.mark.invariant("P7", "P13")
async def test_what_claims_to_be_a_redrive_waits_for_the_letters_and_the_others_run() -> None:
    world, driven, other = World(), event({}), event({})

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.accept((driven, DRIVEN), (other, EventHeaders()))
        await world.until_ended(1)
        waited, ran = world.waiting(), list(world.runner.ran)
        world.judge(0, is_redrive=True)
        await world.until_ended(2)
        waking.cancel()

    assert (waited, ran) == ({Wait.LETTERS: 1}, [(1, f"{other.event_id}/0/0")])
    assert world.runner.ran[1:] == [(0, f"{driven.event_id}/0/3")]
    (claim,) = world.claims.asked.values()
    assert (claim.of, claim.event_id, claim.count) == ("L", driven.event_id, 2)
    assert (claim.letters, claim.at_ms, claim.tp.offset) == (5, 5, 0)
    (state,) = world.told(1, "letters")
    assert (state["dlq_id"], state["state"], state["redrive_count"]) == ("L", "resolved", 2)
    assert state["ended"] == {"topic": "events", "partition": 0, "offset": 0}
    assert world.told(1, "results")[0]["run"]["redrive_count"] == 2
    assert (world.waiting(), world.dispatcher.disbelieved) == ({}, 0)


@pytest.mark.invariant("P13")
async def test_one_that_the_letters_do_not_know_is_an_event_as_any_other() -> None:
    world, well, badly = World(), event({}), event({"fails": True})

    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            waking = world.dispatcher.begin(tasks)
            world.accept((well, DRIVEN), (badly, DRIVEN))
            await _until(lambda: len(world.claims.asked) == 2)
            world.dispatcher.judged({(PLACE, 0): False, (PLACE, 1): False})
            await world.until_ended(2)
            waking.cancel()

    assert world.runner.ran == [(0, f"{well.event_id}/0/0"), (1, f"{badly.event_id}/0/0")]
    assert world.told(0, "letters") == []
    assert world.told(0, "results")[0]["run"]["redrive_count"] == 0
    (letter,) = world.told(1, "letters")
    assert (letter["redrive_count"], letter["redrive_of"], letter["generation"]) == (0, None, 0)
    assert dict(letter["source"]["headers"]).keys() >= {"redrive-of", "redrive-generation"}
    assert world.dispatcher.disbelieved == 2
    (told,) = [line for line in logs if line["event"] == "event.no_redrive"]
    assert (told["letter"], told["count"], told["offset"]) == ("L", 2, 0)


async def test_a_letter_of_a_redrive_says_of_which_and_on_which_thread() -> None:
    world = World()

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.accept((event({"fails": True}), DRIVEN))
        await _until(lambda: bool(world.claims.asked))
        world.judge(0, is_redrive=True)
        await world.until_ended(1)
        waking.cancel()

    (letter,) = world.told(0, "letters")
    assert (letter["redrive_count"], letter["redrive_of"], letter["generation"]) == (2, "L", 3)


@pytest.mark.invariant("P9", "P13")
async def test_a_copy_of_a_redrive_is_asked_about_only_when_the_first_one_is_durable() -> None:
    world, driven = World(), event({})

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.accept((driven, DRIVEN), (driven, DRIVEN), (driven, EventHeaders()))
        await _until(lambda: bool(world.claims.asked))
        world.judge(0, is_redrive=True)
        await world.until_ended(1)
        asked_before = list(world.claims.asked)
        world.dispatcher.settled(world.finished)
        await _until(lambda: len(world.claims.asked) == 2)
        ran_before = list(world.runner.ran)
        world.judge(1, is_redrive=False)
        await world.until_ended(2)
        world.dispatcher.settled(world.finished[1:])
        await world.until_ended(3)
        waking.cancel()

    assert asked_before == [(PLACE, 0)]
    own = f"{driven.event_id}/0"
    assert ran_before == [(0, f"{own}/3")]
    assert world.runner.ran[1:] == [(1, f"{own}/0"), (2, f"{own}/0")]


async def test_those_that_are_judged_together_run_in_their_order() -> None:
    world = World()

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.accept(*[(event({}), DRIVEN) for _ in range(5)])
        await _until(lambda: len(world.claims.asked) == 5)
        world.dispatcher.judged(dict.fromkeys([(PLACE, n) for n in (3, 0, 4, 1, 2)], True))
        await world.until_ended(5)
        waking.cancel()

    assert [offset for offset, _ in world.runner.ran] == [0, 1, 2, 3, 4]


@pytest.mark.invariant("P2")
async def test_what_is_asked_is_forgotten_when_its_partition_goes() -> None:
    world, broken = World(), b'{"event_id": "e"}'

    async with asyncio.TaskGroup() as tasks:
        waking = world.dispatcher.begin(tasks)
        world.accept((event({}), DRIVEN), (broken, DRIVEN))
        await _until(lambda: len(world.claims.asked) == 2)
        world.dispatcher.revoke({PLACE: 1})
        world.dispatcher.judged({(PLACE, 0): True, (PLACE, 1): True})
        for _ in range(10):
            await asyncio.sleep(0)
        waking.cancel()

    assert (world.finished, world.runner.ran, world.waiting()) == ([], [], {})
    assert world.claims.forgotten == [PLACE]


BROKEN = b'{"event_id": "7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10", "payload": 1}'


@pytest.mark.invariant("P13")
@rows("is_redrive, count, of", [(True, 2, "L"), (False, 0, None)])
def test_one_that_cannot_be_read_ends_when_the_letters_have_said_of_which_it_is(
    *, is_redrive: bool, count: int, of: str | None
) -> None:
    world = World()
    world.accept((BROKEN, DRIVEN))
    before = list(world.finished)
    world.judge(0, is_redrive=is_redrive)

    assert before == []
    (letter,) = world.told(0, "letters")
    assert (letter["reason"], letter["redrive_count"]) == ("unreadable", count)
    assert (letter["redrive_of"], letter["generation"]) == (of, 3 if is_redrive else 0)


def test_one_that_cannot_be_read_and_claims_nothing_ends_at_once() -> None:
    world = World()
    world.accept((BROKEN, EventHeaders(generation=3, count=2)))

    (letter,) = world.told(0, "letters")
    assert (letter["redrive_count"], world.claims.asked) == (0, {})
