"""Taking events in: what one record does must not cost the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from redrive.clock import Clock
from redrive.consumer.admission import Admission
from redrive.consumer.dispatcher import Dispatcher
from redrive.consumer.event_run import Run
from redrive.consumer.letters_reader import LettersReader
from redrive.consumer.lingering import LingeringWatch
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.runner import Left, NextStep
from redrive.errors import OtherInputError, RecordError
from redrive.events import EventHeaders, WorkflowResultEvent
from redrive.graphs.attempt_ends import Ended
from redrive.graphs.lease import Lease, LeaseState
from redrive.graphs.retention import Mark
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.state.reservations import Reservations
from redrive.state.rests import Rest
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

PLACE = TopicPartition("events", 0)


class Broken(OutcomeBuilder):
    """Has a bug that one record meets."""

    def unreadable(
        self, polled: PolledRecord, error: RecordError, *, headers: EventHeaders | None = None
    ) -> Outcome:
        if polled.offset == 1:
            raise ZeroDivisionError
        return super().unreadable(polled, error, headers=headers)


class BuggyRunner:
    """Has a bug that one run meets."""

    def new_control(self) -> None:
        return None

    async def attempt(self, run: Run, **_: object) -> NextStep:
        if run.polled.offset == 1:
            raise ZeroDivisionError
        return NextStep(Outcome(run.polled, Ending.SUCCEEDED))


def intake_of(  # noqa: PLR0913 - what an intake is made of, each by its name
    outcomes: OutcomeBuilder,
    runner: Any,  # noqa: ANN401 - a stand-in
    finish: Callable[[Outcome], None],
    *,
    run_queue: RunQueue | None = None,
    clock: Clock | None = None,
    mark: Any = None,  # noqa: ANN401 - a stand-in
    admission: Admission | None = None,
    scope: str | None = None,
    letters: Any = None,  # noqa: ANN401 - a stand-in
) -> Dispatcher:
    return Dispatcher(
        runner,
        outcomes,
        run_queue or RunQueue(in_flight=4, max_crashes=3, suspects_at_once=2),
        LingeringWatch(lambda _: None, grace_s=1.0),
        finish=finish,
        new_lease=lambda _: Lease(),
        mark=mark,
        clock=clock or ManualClock(),
        admission=admission,
        thread_scope=scope,
        letters=letters,
    )


async def test_an_event_that_names_a_thread_and_not_whose_is_refused_as_it_was_driven() -> None:
    finished = list[Outcome]()
    letters = Mock(spec=LettersReader)
    dispatcher = intake_of(
        answers_of(OutcomeBuilder),
        BuggyRunner(),
        finished.append,
        scope="metadata.tenant",
        letters=letters,
    )
    asked = event({})
    driven = EventHeaders(thread="chat", of="letter", event=asked.event_id, count=2)
    record = ConsumerRecord(PLACE, 0, None, asked.to_bytes(), tuple(driven.write()), None)

    with capture_logs() as logs:
        dispatcher.accept([PolledRecord(record, 1, covered())])
        (claims,) = letters.ask.call_args.args
        dispatcher.judged(dict.fromkeys(claims, True))

    (outcome,) = finished
    told = WorkflowResultEvent.from_bytes(outcome.records[0].value)
    assert told.error_info is not None
    assert told.run is not None
    assert (outcome.ending, told.error_info.reason, told.run.redrive_count) == (
        Ending.DEAD_LETTERED,
        Reason.UNREADABLE,
        2,
    )
    assert [line["event"] for line in logs] == ["event.unreadable"]
    assert dispatcher.open_threads == []


def covered() -> Reservations:
    """Return starts of which a commit says that all may be."""
    starts = Reservations()
    starts.cover(0, 0, ahead=10)
    starts.stored()
    return starts


def answers_of(kind: type[OutcomeBuilder]) -> OutcomeBuilder:
    return kind(
        results_topic="results",
        dlq_topic="letters",
        max_bytes={"results": 10**6, "letters": 10**6},
        worker="w",
        clock=ManualClock(),
    )


@pytest.mark.invariant("P7")
async def test_a_run_that_meets_a_bug_leaves_the_others_alone() -> None:
    finished = list[Outcome]()
    dispatcher = intake_of(answers_of(OutcomeBuilder), BuggyRunner(), finished.append)
    starts = covered()
    polled_records = [
        PolledRecord(ConsumerRecord(PLACE, at, None, event({}).to_bytes(), (), None), 1, starts)
        for at in range(3)
    ]

    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            waking = dispatcher.begin(tasks)
            dispatcher.accept(polled_records)
            while len(finished) < 2 or dispatcher.running:  # noqa: ASYNC110 - of its own accord
                await asyncio.sleep(0)
            waking.cancel()

    assert [outcome.polled.offset for outcome in finished] == [0, 2]
    (told,) = [line for line in logs if line["event"] == "event.not_run"]
    assert (told["offset"], told["log_level"]) == (1, "error")


@pytest.mark.invariant("P1", "P8")
async def test_what_becomes_due_while_the_intake_looks_is_not_waited_for_in_vain() -> None:
    clock, run_queue, finished = (
        ManualClock(),
        RunQueue(in_flight=4, max_crashes=3, suspects_at_once=2),
        list[Outcome](),
    )
    dispatcher = intake_of(
        answers_of(OutcomeBuilder), BuggyRunner(), finished.append, run_queue=run_queue, clock=clock
    )
    now = clock.monotonic()
    run_queue.rests.begin(Rest("fates", None, since=now, until=now + 5, asked_s=5))
    take = run_queue.take

    def slowly(now: float) -> Run | None:
        # A busy machine: it becomes due after the look at what is due, and before the next step.
        taken = take(now)
        if taken is None and clock.monotonic() == now < 5:
            clock.advance(5.1)
        return taken

    record = ConsumerRecord(PLACE, 0, None, event({}).to_bytes(), (), None)
    async with asyncio.TaskGroup() as tasks:
        run_queue.take = slowly  # type: ignore[method-assign]  # slower
        dispatcher.accept([PolledRecord(record, 1, covered())])
        waking = dispatcher.begin(tasks)
        for _ in range(100):
            await asyncio.sleep(0)
        waking.cancel()

    assert [outcome.polled.offset for outcome in finished] == [0]


@pytest.mark.invariant("P8")
async def test_a_run_told_to_rest_is_told_at_its_deadline_that_it_comes_too_late() -> None:
    clock, run_queue, finished = (
        ManualClock(),
        RunQueue(in_flight=4, max_crashes=3, suspects_at_once=2),
        list[Outcome](),
    )
    dispatcher = intake_of(
        answers_of(OutcomeBuilder), BuggyRunner(), finished.append, run_queue=run_queue, clock=clock
    )
    now = clock.monotonic()
    run_queue.rests.begin(Rest("fates", None, since=now, until=now + 600, asked_s=600))
    late = round((clock.now().timestamp() + 5) * 1000)
    headers = (("redrive-deadline", str(late).encode()),)
    record = ConsumerRecord(PLACE, 0, None, event({}).to_bytes(), headers, None)

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        await clock.wait_for_sleepers()
        dispatcher.accept([PolledRecord(record, 1, covered())])
        await clock.turn(5.1)
        waking.cancel()

    assert [outcome.polled.offset for outcome in finished] == [0]


@pytest.mark.invariant("P7")
def test_a_record_that_meets_a_bug_leaves_those_behind_it_alone() -> None:
    finished = list[Outcome]()
    dispatcher = intake_of(answers_of(Broken), None, finished.append)
    polled_records = [
        PolledRecord(ConsumerRecord(PLACE, at, None, b"{", (), None), epoch=1) for at in range(3)
    ]

    with capture_logs() as logs:
        dispatcher.accept(polled_records)

    assert [outcome.polled.offset for outcome in finished] == [0, 2]
    (told,) = [line for line in logs if line["event"] == "event.not_taken"]
    assert (told["offset"], told["log_level"]) == (1, "error")


async def test_an_ending_of_an_earlier_assignment_does_not_release_the_run_of_this_one() -> None:
    finished = list[Outcome]()
    dispatcher = intake_of(answers_of(OutcomeBuilder), BuggyRunner(), finished.append)
    value, headers = event({}).to_bytes(), (("redrive-thread", b"one"),)
    record, next_one = (ConsumerRecord(PLACE, at, None, value, headers, None) for at in (0, 2))
    old, new = (PolledRecord(record, epoch, covered()) for epoch in (1, 2))

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        dispatcher.accept([new, PolledRecord(next_one, 2, covered())])
        while not finished or dispatcher.running:  # noqa: ASYNC110 - of its own accord
            await asyncio.sleep(0)
        dispatcher.settled([Outcome(old, Ending.SUCCEEDED)])
        for _ in range(10):
            await asyncio.sleep(0)
        waking.cancel()

    assert [outcome.polled.offset for outcome in finished] == [0]
    assert dispatcher.endings == {Ending.SUCCEEDED: 1}


class Waiter:
    """Runs until it is told to end, and says so; then writes, as the lease allows."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.begun = 0
        self.leases: list[Lease] = []

    def new_control(self) -> None:
        return None

    async def attempt(self, run: Run, *, lease: Lease, control: object) -> NextStep:
        del control
        self.begun += 1
        self.leases.append(lease)
        await self.may_end.wait()
        await lease.admit()
        return NextStep(Outcome(run.polled, Ending.SUCCEEDED))


class Hasty(Waiter):
    """Cannot wait to write: its first attempt is cut while its partition is away."""

    async def attempt(self, run: Run, *, lease: Lease, control: object) -> NextStep:
        step = await super().attempt(run, lease=lease, control=control)
        return NextStep(Left()) if self.begun == 1 else step


@pytest.mark.invariant("P1")
async def test_a_run_that_was_cut_and_unwinds_after_its_partition_is_back_begins_again() -> None:
    finished, runner, clock = list[Outcome](), Hasty(), ManualClock()
    dispatcher = intake_of(answers_of(OutcomeBuilder), runner, finished.append, clock=clock)
    record = ConsumerRecord(PLACE, 0, None, event({}).to_bytes(), (), None)

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        dispatcher.accept([PolledRecord(record, 1, covered())])
        await _until(lambda: runner.begun == 1)
        dispatcher.suspend({PLACE: 1})
        dispatcher.resume([PLACE])
        runner.may_end.set()
        await _until(lambda: dispatcher.running == 0)
        clock.advance(1.0)
        await _until(lambda: bool(finished))
        waking.cancel()

    assert runner.begun == 2


@pytest.mark.invariant("P4")
async def test_a_run_goes_on_when_its_partition_comes_back_and_ends_when_it_has_gone() -> None:
    finished, runner, other = list[Outcome](), Waiter(), TopicPartition("events", 1)
    dispatcher = intake_of(answers_of(OutcomeBuilder), runner, finished.append)
    polled_records = [
        PolledRecord(ConsumerRecord(tp, 0, None, event({}).to_bytes(), (), None), 1, covered())
        for tp in (PLACE, other)
    ]

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        dispatcher.accept(polled_records)
        await _until(lambda: runner.begun == 2)
        dispatcher.suspend({PLACE: 1, other: 1})
        runner.may_end.set()
        states = [lease.state for lease in runner.leases]
        dispatcher.resume([PLACE])
        dispatcher.revoke({other: 1})
        await _until(lambda: dispatcher.running == 0)
        waking.cancel()

    assert states == [LeaseState.AWAY, LeaseState.AWAY]
    assert [outcome.polled.tp for outcome in finished] == [PLACE]
    assert runner.begun == 2


@pytest.mark.invariant("P1")
async def test_a_run_that_was_cut_while_its_partition_was_away_is_tried_again() -> None:
    finished, runner = list[Outcome](), Hasty()
    dispatcher = intake_of(answers_of(OutcomeBuilder), runner, finished.append)
    polled = PolledRecord(
        ConsumerRecord(PLACE, 0, None, event({}).to_bytes(), (), None), 1, covered()
    )
    runner.may_end.set()

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        dispatcher.suspend({PLACE: 1})
        dispatcher.accept([polled])
        await _until(lambda: runner.begun == 1)
        runner.leases[0].resume()
        await _until(lambda: dispatcher.running == 0)
        dispatcher.resume([PLACE])
        await _until(lambda: bool(finished))
        waking.cancel()

    assert runner.begun == 2


class Giver:
    """Lets each event end as its data say."""

    def __init__(self, outcomes: OutcomeBuilder) -> None:
        self._outcomes = outcomes

    def new_control(self) -> None:
        return None

    async def attempt(self, run: Run, **_: object) -> NextStep:
        match run.event.payload.data["end"]:
            case "letter":
                error = ZeroDivisionError()
                why = GivenUp(error, Failure(Kind.PERMANENT), Reason.PERMANENT)
                return NextStep(self._outcomes.given_up(run, why))
            case "other":
                other = OtherInputError(event_id=run.event_id, workflow=run.workflow_id)
                why = GivenUp(other, Failure(Kind.PERMANENT), Reason.OTHER_INPUT)
                return NextStep(self._outcomes.given_up(run, why))
            case "question":
                ended = Ended(None, resumed=False, reason=Reason.INTERRUPT, error="may I?")
                return NextStep(self._outcomes.ended(run, ended))
            case _:
                return NextStep(self._outcomes.ended(run, Ended({}, resumed=False)))


async def test_once_settled_it_is_noted_what_the_threads_of_unfinished_runs_are_for() -> None:
    noted = list[tuple[Mark, list[str]]]()

    async def mark(threads: Collection[str], needed_for: Mark) -> None:
        noted.append((needed_for, list(threads)))

    finished, outcomes = list[Outcome](), answers_of(OutcomeBuilder)
    dispatcher = intake_of(outcomes, Giver(outcomes), finished.append, mark=mark)
    ends = [("success", None), ("letter", None), ("question", None), ("letter", b"shared")]
    # The thread of the last one is another event's.
    ends.append(("other", None))
    events = [event({"end": end}) for end, _ in ends]
    polled_records = [
        PolledRecord(
            ConsumerRecord(
                PLACE,
                at,
                None,
                events[at].to_bytes(),
                () if thread is None else (("redrive-thread", thread),),
                None,
            ),
            1,
            covered(),
        )
        for at, (_, thread) in enumerate(ends)
    ]

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        dispatcher.accept(polled_records)
        await _until(lambda: len(finished) == len(ends))
        open_before = dispatcher.open_threads
        await _until(lambda: bool(noted))
        noted_before, noted[:] = list(noted), []
        dispatcher.settled(finished)
        waking.cancel()

    own = [f"{one.event_id}/0/0" for one in events]
    assert open_before == [*own[:3], own[4]]
    assert dispatcher.open_threads == []
    assert noted_before == [(Mark.RUNNING, [own[1]])]
    assert noted == [(Mark.LETTER, [own[1]]), (Mark.QUESTION, [own[2]])]


async def test_a_thread_that_cannot_be_marked_is_told_and_costs_nothing_else() -> None:
    async def mark(_: Collection[str], __: Mark) -> None:
        raise OSError("disk gone")

    finished, outcomes = list[Outcome](), answers_of(OutcomeBuilder)
    dispatcher = intake_of(outcomes, Giver(outcomes), finished.append, mark=mark)
    record = ConsumerRecord(PLACE, 0, None, event({"end": "letter"}).to_bytes(), (), None)

    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            waking = dispatcher.begin(tasks)
            dispatcher.accept([PolledRecord(record, 1, covered())])
            await _until(lambda: bool(finished))
            dispatcher.settled(finished)
            waking.cancel()

    assert dispatcher.endings == {Ending.DEAD_LETTERED: 1}
    told = [line for line in logs if line["event"] == "checkpoints.not_kept"]
    assert [line["needed_for"] for line in told] == ["running", "letter"]
    assert {(line["threads"], line["error"]) for line in told} == {(1, "disk gone")}


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of its own accord
            await asyncio.sleep(0.01)
