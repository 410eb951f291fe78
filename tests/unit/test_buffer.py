"""What events hold in memory: counted as it is, and shared so that nobody is shut out."""

import sys
import tracemalloc
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.consumer.buffer import EVENT_BYTES, LET_GO_BYTES, Buffer, event_bytes
from redrive.consumer.event_run import Run
from redrive.consumer.outcome import PolledRecord
from redrive.consumer.run_queue import RunQueue
from redrive.events import EventHeaders, WorkflowEvent
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.testing.kafka_env import event

PLACE = TopicPartition("events", 0)
LIMIT = 1_000


def record_of(data: Mapping[str, object], *, offset: int = 0) -> ConsumerRecord:
    value = event(data).to_bytes()
    return ConsumerRecord(PLACE, offset, b"key", value, (), None)


def held_by(data: Mapping[str, object], *, events: int) -> float:
    """Return what one waiting event takes, measured."""
    records = [record_of(data, offset=offset) for offset in range(events)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        share, turns = (
            Buffer(sys.maxsize).share(),
            RunQueue(in_flight=1, max_crashes=3, suspects_at_once=1),
        )
        runs = []
        for record in records:
            # A copy: what lies in `records` was there before.
            value = bytes(bytearray(record.value or b""))
            polled = PolledRecord(record._replace(value=value), 1, share=share)
            share.take(record.offset, 0)
            asked = WorkflowEvent.from_bytes(value)
            run = Run(polled, asked, EventHeaders(), f"{asked.event_id}/0/0")
            turns.put(run)
            runs.append(run)
        return (tracemalloc.get_traced_memory()[0] - before) / events
    finally:
        tracemalloc.stop()


PAYLOADS: Mapping[str, tuple[Mapping[str, object], int]] = {
    "small": ({"n": 1}, 300),
    "prose": ({"text": "One, two, and three. " * 20_000}, 3),
    "numbers": ({"vector": [number / 7 for number in range(50_000)]}, 3),
    "rows": ({"rows": [{"id": number, "to": f"u{number}"} for number in range(20_000)]}, 3),
    "accents": ({"text": "élan vital " * 30_000}, 3),
    "one emoji": ({"text": "plain " * 60_000 + "\U0001f600"}, 3),
    "lists": ({"grid": [[number, [number]] for number in range(20_000)]}, 3),
}


@pytest.mark.invariant("P11")
@rows("data, events", PAYLOADS.values(), ids=PAYLOADS)
def test_what_is_counted_is_what_is_held(data: Mapping[str, object], events: int) -> None:
    held = held_by(data, events=events)

    assert 0.75 * held <= event_bytes(record_of(data)) <= 3 * held


@pytest.mark.invariant("P11")
def test_a_partition_with_a_backlog_leaves_room_for_a_newcomer() -> None:
    buffer = Buffer(LIMIT)
    hogs, newcomer = [buffer.share() for _ in range(3)], buffer.share()
    for offset in range(LIMIT):
        for hog in hogs:
            if hog.may_fetch():
                hog.take(offset, 1)

    assert not any(hog.may_fetch() for hog in hogs)
    assert newcomer.may_fetch()
    assert buffer.size_bytes <= LIMIT // 2


def test_a_partition_that_was_paused_is_not_fetched_again_for_a_single_event() -> None:
    share = Buffer(LIMIT).share()
    offsets = range(LIMIT)
    for offset in offsets:
        if not share.may_fetch():
            break
        share.take(offset, 1)
    share.drop([0])

    assert share.may_fetch()
    assert not share.may_fetch(again=True)
    share.drop(offsets[1 : LIMIT // 4])
    assert share.may_fetch(again=True)


@pytest.mark.invariant("P7", "P11")
def test_what_waits_for_long_keeps_a_quarter_and_lets_go_of_the_rest() -> None:
    size = LET_GO_BYTES * 10
    buffer = Buffer(40 * size)
    share = buffer.share()
    for offset in range(30):
        share.take(offset, size)
    kept = [share.block(offset) for offset in range(30)]

    assert kept == [True] * 10 + [False] * 20
    assert buffer.let_go == 20
    assert buffer.size_bytes == 10 * size + 20 * LET_GO_BYTES
    # So there is room for those behind them, on the same partition.
    assert share.may_fetch()


@pytest.mark.invariant("P11")
def test_outcomes_that_are_not_durable_keep_others_from_starting() -> None:
    buffer = Buffer(LIMIT)
    share = buffer.share()
    share.take(0, 100)
    assert not buffer.is_full
    share.start(0, "w")
    share.end(0, LIMIT)

    assert buffer.is_full
    assert buffer.is_crowded("w")
    share.take(1, 1)
    assert not share.may_fetch()
    # Whoever has nothing may always take one.
    assert buffer.share().may_fetch()
    assert not buffer.is_crowded("another")
    share.drop([0, 1])
    assert not buffer.is_full
    assert buffer.size_bytes == 0


@pytest.mark.invariant("P7")
def test_a_workflow_whose_outcomes_pile_up_leaves_room_for_others() -> None:
    buffer = Buffer(LIMIT)
    share = buffer.share()
    started = 0
    for offset in range(100):
        if not share.may_fetch():
            break
        share.take(offset, 10)
        if not buffer.is_crowded("bad"):
            share.start(offset, "bad")
            share.end(offset, 40)
            started += 1

    assert buffer.is_crowded("bad")
    assert 1 < started < LIMIT // 50
    assert not buffer.is_crowded("good")
    assert not buffer.is_full


def test_as_much_is_counted_for_an_outcome_to_come_as_the_last_ones_had() -> None:
    buffer = Buffer(LIMIT)
    share = buffer.share()
    for offset in range(3):
        share.take(offset, 10)
    share.start(0, "w")
    share.end(0, 200)
    share.drop([0])
    share.start(1, "w")
    share.start(2, "other")

    assert buffer.size_bytes == 10 + 200 + 10


def test_one_larger_than_the_buffer_runs_alone() -> None:
    buffer = Buffer(LIMIT)
    share = buffer.share()
    share.take(0, 5 * LIMIT)

    assert not buffer.is_full
    assert not buffer.is_crowded("w")
    assert not share.may_fetch()
    share.start(0, "w")
    assert buffer.is_full


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "block", "start", "end", "drop", "close"]),
            st.integers(0, 2),
            st.integers(0, 5),
            st.integers(0, 3_000),
        ),
        max_size=60,
    )
)
def test_nothing_is_counted_of_what_has_gone(
    steps: list[tuple[str, int, int, int]],
) -> None:
    buffer = Buffer(10_000)
    shares = [buffer.share() for _ in range(3)]
    for step, number, offset, size in steps:
        share = shares[number]
        match step:
            case "take":
                share.take(offset, size)
            case "block":
                share.block(offset)
            case "start":
                share.start(offset, f"w{size % 2}")
            case "end":
                share.end(offset, size)
            case "drop":
                share.drop([offset])
            case _:
                share.close()
        assert buffer.size_bytes >= 0
    for share in shares:
        share.close()

    assert (buffer.size_bytes, buffer.let_go) == (0, 0)
    assert not buffer.is_full
    assert not any(buffer.is_crowded(f"w{n}") for n in range(2))


def test_what_is_no_json_is_measured_too() -> None:
    assert event_bytes(ConsumerRecord(PLACE, 0, None, None, (), None)) == EVENT_BYTES
    assert event_bytes(ConsumerRecord(PLACE, 0, None, b"{broken", (), None)) > EVENT_BYTES
