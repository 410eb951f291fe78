"""Whose turn it is: order, due times, rests, suspicion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.consumer.event_run import Run
from redrive.consumer.outcome import PolledRecord
from redrive.consumer.run_queue import RunQueue
from redrive.events import EventHeaders
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.state.commit_metadata import MAX_ENTRIES, OffsetEntry
from redrive.state.reservations import Reservations
from redrive.state.rests import Rest
from redrive.testing.kafka_env import event

PLACE = TopicPartition("events", 0)


def run(
    offset: int,
    *,
    workflow: str = "a",
    crashes: int = 0,
    deadline: float | None = None,
    starts: Reservations | None = None,
    due: float | None = None,
) -> Run:
    record = ConsumerRecord(PLACE, offset, None, b"", (), None)
    return Run(
        polled=PolledRecord(record, epoch=1, starts=starts or Reservations()),
        event=event({}, workflow_id=workflow),
        headers=EventHeaders(),
        thread_id=f"thread-{offset}",
        deadline=deadline,
        crashes=crashes,
        due=due,
    )


def run_queue(*, in_flight: int = 10, suspects_at_once: int = 2) -> RunQueue:
    return RunQueue(in_flight=in_flight, max_crashes=3, suspects_at_once=suspects_at_once)


def rest(
    waiting: RunQueue,
    workflow: str,
    *,
    until: float,
    dependency: str | None = None,
    since: float = 0,
) -> None:
    """Let a run of the workflow be told to come back then."""
    asked_s = until - since
    waiting.rests.begin(Rest(workflow, dependency, since=since, until=until, asked_s=asked_s))


def taken(waiting: RunQueue, now: float = 0.0) -> list[int]:
    found = []
    while (next_run := waiting.take(now)) is not None:
        found.append(next_run.polled.offset)
    return found


def test_no_more_run_than_may() -> None:
    waiting = run_queue(in_flight=2)
    first = [run(0), run(1), run(2)]
    for new in first:
        waiting.put(new)

    assert taken(waiting) == [0, 1]
    waiting.ended(first[0])
    assert taken(waiting) == [2]


def test_what_is_due_comes_before_what_is_new_and_never_early() -> None:
    waiting, held, new = run_queue(), run(0), run(1)
    waiting.put(held)
    assert waiting.take(0.0) is held
    waiting.ended(held)
    waiting.hold(held, until=5.0)
    waiting.put(new)

    assert waiting.next_due() == 5.0
    assert taken(waiting, 4.9) == [1]
    assert taken(waiting, 5.0) == [0]


def test_a_workflow_rests_and_others_go_on() -> None:
    waiting, held = run_queue(), run(0, workflow="limited")
    waiting.put(held)
    waiting.take(0.0)
    waiting.ended(held)
    waiting.hold(held, until=1.0)
    rest(waiting, "limited", until=5.0)
    for offset in (1, 2):
        waiting.put(run(offset, workflow="limited"))
    waiting.put(run(3, workflow="free"))

    assert taken(waiting, 2.0) == [3]
    assert taken(waiting, 4.9) == []
    assert sorted(taken(waiting, 5.0)) == [0, 1, 2]


def test_the_longer_of_two_waits_holds() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=5.0)
    rest(waiting, "limited", until=3.0)
    waiting.put(run(0, workflow="limited"))

    assert taken(waiting, 4.0) == []
    assert taken(waiting, 5.0) == [0]


def test_one_that_rests_longer_than_it_is_wanted_has_its_turn_at_its_deadline() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=50.0)
    waiting.put(run(0, workflow="limited", deadline=10.0))

    assert taken(waiting, 0.0) == []
    assert waiting.next_due() == 10.0
    assert taken(waiting, 10.0) == [0]


@pytest.mark.invariant("P5", "P7")
def test_few_suspects_run_beside_each_other_and_the_unsuspected_go_on() -> None:
    waiting = run_queue(suspects_at_once=2)
    suspects = [run(offset, crashes=1) for offset in range(4)]
    for new in (*suspects, run(9)):
        waiting.put(new)

    assert taken(waiting) == [0, 1, 9]
    waiting.ended(suspects[1])
    assert taken(waiting) == [2]


@pytest.mark.invariant("P5")
def test_a_run_on_its_last_chance_runs_alone() -> None:
    waiting, before, last, after = run_queue(), run(0), run(1, crashes=2), run(2)
    for new in (before, last, after):
        waiting.put(new)

    assert taken(waiting) == [0]
    waiting.ended(before)
    assert taken(waiting) == [1]
    waiting.ended(last)
    assert taken(waiting) == [2]


def test_a_condemned_run_is_no_danger_and_waits_for_nobody() -> None:
    waiting, condemned = run_queue(), run(0, crashes=3)
    waiting.put(condemned)
    waiting.put(run(1))

    assert waiting.is_condemned(condemned)
    assert taken(waiting) == [0, 1]


@pytest.mark.invariant("P5", "P9")
@given(
    crashes=st.lists(st.integers(0, 3), max_size=12),
    data=st.data(),
)
def test_every_run_has_its_turn_and_the_lonely_are_alone(
    crashes: list[int], data: st.DataObject
) -> None:
    waiting = run_queue(in_flight=4)
    for offset, count in enumerate(crashes):
        waiting.put(run(offset, crashes=count))
    running: list[Run] = []
    had: list[int] = []

    while len(had) < len(crashes) or running:
        next_run = waiting.take(0.0)
        if next_run is not None:
            running.append(next_run)
            had.append(next_run.polled.offset)
            lonely = [other for other in running if other.crashes == 2]
            assert len(running) <= 4
            assert not lonely or len(running) == 1
            assert sum(other.crashes == 1 for other in running) <= 2
        else:
            assert running, "nothing runs, and nothing may start"
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            waiting.ended(ended)
            waiting.release(ended)

    assert sorted(had) == list(range(len(crashes)))


@pytest.mark.invariant("P10")
def test_a_suspect_that_was_set_aside_rests_with_its_workflow() -> None:
    waiting = run_queue(suspects_at_once=1)
    first, second = (run(offset, workflow="limited", crashes=1) for offset in range(2))
    for new in (first, second):
        waiting.put(new)
    assert taken(waiting) == [0]
    rest(waiting, "limited", until=100.0)
    waiting.ended(first)

    assert taken(waiting, 1.0) == []
    assert taken(waiting, 100.0) == [1]


@pytest.mark.invariant("P7", "P11")
def test_who_finds_no_room_in_the_note_holds_no_slot_from_those_who_have_it() -> None:
    history = {offset: OffsetEntry(failed=1) for offset in range(1000, 1000 + MAX_ENTRIES)}
    starts = Reservations(history)
    waiting = run_queue(in_flight=4)
    for offset in (*range(8), 1000):
        waiting.put(run(offset, starts=starts))

    assert taken(waiting) == [1000]


def test_who_found_no_room_has_its_turn_once_there_is_some() -> None:
    starts = Reservations(
        {offset: OffsetEntry(failed=1) for offset in range(1000, 1000 + MAX_ENTRIES)}
    )
    waiting, owner = run_queue(in_flight=4), run(1000, starts=starts)
    waiting.put(run(0, starts=starts))
    waiting.put(owner)
    assert taken(waiting) == [1000]

    starts.finish(1001, 0)
    waiting.ended(owner)
    waiting.release(owner)

    assert taken(waiting) == [0]


@pytest.mark.invariant("P7")
def test_a_day_holds_others_no_longer_than_the_longest_rest() -> None:
    waiting, told = run_queue(), run(0, workflow="limited")
    waiting.put(told)
    waiting.take(0.0)
    waiting.ended(told)
    rest(waiting, "limited", until=86_400.0)
    told.due = 86_400.0
    waiting.hold(told, until=told.due)
    for offset in (1, 2, 3):
        waiting.put(run(offset, workflow="limited"))

    assert taken(waiting, 109.9) == []
    # One goes first, to see whether the service has come back.
    assert waiting.next_due() == 110.0
    assert taken(waiting, 110.0) == [1]
    assert taken(waiting, 119.9) == []
    assert taken(waiting, 120.0) == [2, 3]
    assert taken(waiting, 86_399.0) == []
    assert taken(waiting, 86_400.0) == [0]


@pytest.mark.invariant("P10")
def test_a_workflow_rests_with_a_dependency_that_its_own_runs_have_named_and_no_other_does() -> (
    None
):
    waiting = run_queue()
    waiting.rests.calls("twin", "api.example")
    rest(waiting, "limited", until=10.0, dependency="api.example")
    for offset, workflow in enumerate(("limited", "twin", "stranger")):
        waiting.put(run(offset, workflow=workflow))

    assert taken(waiting, 1.0) == [2]
    waiting.rests.calls("stranger", "api.example")
    waiting.put(run(3, workflow="stranger"))
    assert taken(waiting, 2.0) == []
    assert waiting.resting == 3
    assert taken(waiting, 10.0) == [0, 1, 3]
    assert waiting.resting == 0


def test_an_event_that_was_told_to_wait_before_a_restart_waits_for_its_time_and_holds_nobody() -> (
    None
):
    waiting = run_queue()
    waiting.put(run(0, due=30.0))
    waiting.put(run(1))

    assert taken(waiting, 0.0) == [1]
    assert (waiting.next_due(), waiting.resting) == (30.0, 0)
    assert taken(waiting, 30.0) == [0]


def test_what_goes_with_its_partition_rests_no_more() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=10.0)
    for offset, deadline in enumerate((None, 5.0)):
        waiting.put(run(offset, workflow="limited", deadline=deadline))
    assert taken(waiting, 1.0) == []
    assert waiting.resting == 2

    waiting.drop(PLACE, lambda _: True)

    assert waiting.resting == 0
    assert taken(waiting, 10.0) == []


@pytest.mark.invariant("P7", "P11")
def test_more_that_rest_than_may_have_started_delay_nobody_and_each_is_told_at_its_deadline() -> (
    None
):
    waiting = run_queue(in_flight=2 * MAX_ENTRIES)
    rest(waiting, "limited", until=100.0)
    late = [run(n, workflow="limited", deadline=10.0 + n % 5) for n in range(MAX_ENTRIES + 50)]
    for each in late:
        waiting.put(each)
    waiting.put(run(1000))

    assert taken(waiting, 0.0) == [1000]
    told: list[int] = []
    while (due := waiting.next_due()) is not None and due < 100.0:
        now = taken(waiting, due)
        assert {late[offset].deadline for offset in now} == {due}
        told += now
        for offset in now:
            waiting.ended(late[offset])
            waiting.release(late[offset])
    assert sorted(told) == list(range(MAX_ENTRIES + 50))


@pytest.mark.invariant("P8")
def test_a_rest_that_grows_longer_makes_nobody_wait_past_its_deadline() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=20.0)
    waiting.put(run(0, workflow="limited", deadline=30.0))
    assert taken(waiting, 0.0) == []

    rest(waiting, "limited", until=90.0, since=1.0)

    assert waiting.next_due() == 30.0
    assert taken(waiting, 29.0) == []
    assert taken(waiting, 30.0) == [0]


def test_what_a_rest_has_parked_is_forgotten_with_it() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=20.0)
    for offset in range(3):
        waiting.put(run(offset, workflow="limited", deadline=1_000.0 + offset))
    assert taken(waiting, 0.0) == []

    assert taken(waiting, 20.0) == [0, 1, 2]
    assert waiting.next_due() is None


@pytest.mark.invariant("P7", "P10")
def test_when_the_one_that_goes_first_is_refused_the_others_rest_on() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=86_400.0)
    for offset in range(3):
        waiting.put(run(offset, workflow="limited"))
    assert taken(waiting, 110.0) == [0]

    rest(waiting, "limited", until=86_400.0, since=112.0)

    assert taken(waiting, 221.9) == []
    assert taken(waiting, 222.0) == [1]
    assert taken(waiting, 232.0) == [2]


def test_a_run_that_comes_too_late_is_not_the_one_that_goes_first() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=86_400.0)
    waiting.put(run(0, workflow="limited", deadline=110.0))
    waiting.put(run(1, workflow="limited"))

    assert taken(waiting, 110.0) == [0, 1]


def test_nobody_goes_first_where_the_service_said_when_it_comes_back() -> None:
    waiting = run_queue()
    rest(waiting, "limited", until=120.0)
    waiting.put(run(0, workflow="limited"))

    assert taken(waiting, 119.9) == []
    assert taken(waiting, 120.0) == [0]
