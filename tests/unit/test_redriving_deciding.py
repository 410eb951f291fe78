"""What may be done with a letter, and what its partition tells of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from tests.rows import rows

from redrive.dead_letter.record import (
    CheckpointRef,
    DeadLetter,
    LetterContext,
    LetterError,
    Source,
    dlq_id,
)
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.events import EventHeaders, WorkflowEvent
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving.deciding import (
    Decision,
    Move,
    Refusal,
    Refuse,
    Send,
    decide_redrive,
    decide_state,
)
from redrive.redriving.event_cache import CachedEvent
from redrive.redriving.extracts import read_slimly
from redrive.redriving.jobs import Redriving
from redrive.redriving.outgoing import event_record, state_record
from redrive.redriving.partition import Entry, PartitionFold
from redrive.redriving.selection import Selection
from redrive.retry.kinds import Kind, Reason
from redrive.testing.kafka_env import event

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LETTERS = TopicPartition("letters", 2)


def letter(sent: WorkflowEvent, *, count: int = 0, offset: int = 41, **given: Any) -> DeadLetter:
    facts: dict[str, Any] = {
        "original_event": sent.model_dump(mode="json"),
        "reason": Reason.PERMANENT,
        "headers": [],
        "value": sent.to_bytes(),
        "checkpoint": CheckpointRef(thread_id="t", checkpoint_id="c-1"),
    } | given
    return DeadLetter(
        dlq_id=dlq_id("events", 2, offset, count=count),
        timestamp=NOW,
        original_event=facts["original_event"],
        error=LetterError(type="ValueError", message="no"),
        retry_count=0,
        context=LetterContext(workflow_id=sent.workflow_id, workflow_run_id="run"),
        kind=Kind.PERMANENT,
        reason=facts["reason"],
        node="write",
        source=Source(
            topic="events",
            partition=2,
            offset=offset,
            key=b"\xffkey",
            headers=facts["headers"],
            value=facts["value"],
        ),
        checkpoint=facts["checkpoint"],
        redrive_count=count,
    )


def letter_record(found: DeadLetter, offset: int = 0) -> ConsumerRecord:
    return ConsumerRecord(LETTERS, offset, b"\xffkey", found.to_bytes(), (), 1)


def original_of(found: DeadLetter) -> CachedEvent:
    record = letter_record(found)
    letter = read_slimly(record)
    assert isinstance(letter, dict)
    return CachedEvent.of(record, letter)


def stored(record: ProducerRecord, offset: int) -> ConsumerRecord:
    return ConsumerRecord(LETTERS, offset, record.key, record.value, record.headers, 1)


def state(found: DeadLetter, wanted: State, *, count: int = 0, actor: str = "anna") -> bytes:
    return LetterState(
        dlq_id=found.dlq_id,
        event_id=None,
        state=wanted,
        timestamp=NOW,
        actor=actor,
        redrive_count=count,
    ).to_bytes()


def fold(*values: DeadLetter | bytes) -> list[Entry]:
    folded = PartitionFold()
    for offset, value in enumerate(values):
        if isinstance(value, bytes):
            folded.add(ConsumerRecord(LETTERS, offset, None, value, STATE_HEADERS, 1))
        else:
            folded.add(letter_record(value, offset))
    return list(folded)


def entry(**changed: Any) -> Entry:
    return fold(letter(event({})))[0]._replace(**changed)


def refusal(decision: Decision) -> Refusal | None:
    return decision.refusal if isinstance(decision, Refuse) else None


def test_an_open_letter_is_sent_with_the_next_count() -> None:
    assert decide_redrive(entry(), mode="resume", most=3) == Send("resume", 1)
    assert decide_redrive(entry(redrive_count=2), mode="restart", most=3) == Send("restart", 3)


@rows(
    ("changed", "wanted"),
    [
        ({"state": State.REDRIVEN}, Refusal.ALREADY_RUNNING),
        ({"state": State.RESOLVED}, Refusal.RESOLVED),
        ({"state": State.DISCARDED}, Refusal.DISCARDED),
        ({"state": State.PARKED}, Refusal.PARKED),
        ({"superseded_by": "x", "state": State.REDRIVEN}, Refusal.SUPERSEDED),
        ({"redrive_count": 3}, Refusal.TOO_MANY),
        ({"can_read": False}, Refusal.NOT_READABLE),
        ({"reason": Reason.THREAD_MOVED_ON}, Refusal.THREAD_MOVED_ON),
        ({"reason": Reason.CHECKPOINT_GONE}, Refusal.CHECKPOINT_GONE),
        ({"reason": Reason.OTHER_INPUT}, Refusal.OTHER_INPUT),
        ({"reason": Reason.THREAD_OF_ANOTHER}, Refusal.THREAD_OF_ANOTHER),
    ],
)
def test_what_is_not_sent_says_why(changed: dict[str, Any], wanted: Refusal) -> None:
    assert refusal(decide_redrive(entry(**changed), mode="resume", most=3)) is wanted


@rows(
    "reason",
    [
        Reason.THREAD_MOVED_ON,
        Reason.CHECKPOINT_GONE,
        Reason.OTHER_INPUT,
        Reason.THREAD_OF_ANOTHER,
    ],
)
def test_what_cannot_be_resumed_can_be_restarted(reason: Reason) -> None:
    assert decide_redrive(entry(reason=reason), mode="restart", most=3) == Send("restart", 1)


def test_an_edited_event_begins_anew_also_where_the_original_cannot_be_read() -> None:
    unreadable = entry(can_read=False, reason=Reason.UNREADABLE)

    assert decide_redrive(unreadable, mode="resume", most=3, edited=True) == Send("restart", 1)


def test_letters_are_parked_taken_back_and_discarded_but_not_while_they_run() -> None:
    parked = entry(state=State.PARKED)

    assert decide_state(entry(), State.PARKED) == Move(State.PARKED)
    assert decide_state(parked, State.OPEN) == Move(State.OPEN)
    assert decide_state(parked, State.DISCARDED) == Move(State.DISCARDED)
    assert refusal(decide_state(entry(), State.OPEN)) is Refusal.NOT_PARKED
    assert refusal(decide_state(parked, State.PARKED)) is Refusal.PARKED
    running = entry(state=State.REDRIVEN)
    assert refusal(decide_state(running, State.DISCARDED)) is Refusal.ALREADY_RUNNING


def test_the_last_state_of_a_letter_wins_and_the_highest_count() -> None:
    found = letter(event({}))

    (told,) = fold(
        found,
        state(found, State.REDRIVEN, count=1),
        state(found, State.OPEN, count=1, actor="worker w"),
        state(found, State.PARKED, actor="bob"),
    )

    assert (told.state, told.actor, told.redrive_count) == (State.PARKED, "bob", 1)


def test_a_newer_letter_of_the_same_event_takes_the_place_of_the_older() -> None:
    sent = event({})
    old, new = letter(sent), letter(sent, count=1, offset=77)

    first, second = fold(old, state(old, State.REDRIVEN, count=1), new)

    assert (first.superseded_by, second.superseded_by) == (new.dlq_id, None)
    assert (second.state, second.redrive_count) == (State.OPEN, 1)


def test_the_same_letter_written_twice_stands_where_it_stood() -> None:
    found = letter(event({}))

    (told,) = fold(found, state(found, State.DISCARDED), found)

    assert told.state is State.DISCARDED
    assert told.superseded_by is None


def test_a_run_that_is_given_up_again_after_its_letter_was_closed_opens_it() -> None:
    found = letter(event({}))
    again = found.model_copy(update={"timestamp": NOW + timedelta(days=1), "node": "later"})
    closed = (found, state(found, State.REDRIVEN, count=1), state(found, State.RESOLVED, count=1))

    (told,) = fold(*closed, again)
    (running,) = fold(*closed[:2], again)

    assert (told.state, told.redrive_count, told.node, told.offset) == (State.OPEN, 1, "later", 3)
    assert (running.state, running.node) == (State.REDRIVEN, "later")


def test_an_older_letter_that_fails_again_takes_the_place_of_a_closed_newer_one() -> None:
    sent = event({})
    old, new = letter(sent), letter(sent, count=1, offset=77)
    again = old.model_copy(update={"timestamp": NOW + timedelta(days=1)})

    told = fold(old, state(old, State.REDRIVEN, count=1), new, state(new, State.DISCARDED), again)

    assert {one.dlq_id: (one.state, one.superseded_by) for one in told} == {
        new.dlq_id: (State.DISCARDED, old.dlq_id),
        old.dlq_id: (State.OPEN, None),
    }


@pytest.mark.invariant("P13")
def test_a_state_counts_only_if_its_event_is_the_letters() -> None:
    found = letter(event({}))
    copied = LetterState.model_validate_json(state(found, State.RESOLVED))
    copied = copied.model_copy(update={"event_id": event({}).event_id})
    own = copied.model_copy(update={"event_id": json.loads(found.source.value or b"")["event_id"]})

    assert [one.state for one in fold(found, copied.to_bytes())] == [State.OPEN]
    assert [one.state for one in fold(found, own.to_bytes())] == [State.RESOLVED]


@pytest.mark.invariant("P13")
def test_letters_of_two_events_with_one_id_are_two_letters() -> None:
    """The id of earlier versions was of the position alone, and a topic may begin anew."""
    one, other = event({}), event({})
    letters = [letter(sent, headers=[]) for sent in (one, other)]
    ids = {found.dlq_id for found in letters}
    assert len(ids) == 1
    closed = LetterState.model_validate_json(state(letters[0], State.DISCARDED))
    closed = closed.model_copy(update={"event_id": one.event_id})

    told = fold(*letters, closed.to_bytes())

    assert [(each.event_id, each.state) for each in told] == [
        (one.event_id, State.DISCARDED),
        (other.event_id, State.OPEN),
    ]
    assert all(each.shares_id for each in told)


def test_what_is_neither_letter_nor_state_is_passed_by() -> None:
    found = letter(event({}))

    assert fold(b"{no state", found, state(letter(event({}), offset=9), State.PARKED)) == fold(
        b"{no state", found
    )


def test_the_event_goes_back_as_it_came_with_headers_of_its_own() -> None:
    sent = event({})
    came = [
        ("tenant", b"\xfe"),
        ("redrive-thread", b"chat-7"),
        ("redrive-deadline", b"1767268800000"),
        ("redrive-generation", b"2"),
        ("redrive-of", b"older"),
        ("redrive-count", b"1"),
        ("traceparent", b"00-ab"),
    ]
    found = letter(sent, count=1, headers=came)

    original = original_of(found)
    send = partial(
        event_record, original, of=found.dlq_id, topic="events", partition=2, actor="anna"
    )

    resumed = send(Send("resume", 2))
    restarted = send(Send("restart", 2), deadline=NOW, value=b"{}")

    assert (resumed.topic, resumed.partition) == ("events", 2)
    assert (resumed.key, resumed.value) == (b"\xffkey", sent.to_bytes())
    assert resumed.headers[:3] == (came[0], came[1], came[6])
    assert EventHeaders.read(resumed.headers) == EventHeaders(
        thread="chat-7",
        generation=2,
        of=found.dlq_id,
        event=sent.event_id,
        count=2,
        mode="resume",
        checkpoint="c-1",
        source="anna",
        traceparent="00-ab",
    )
    told = EventHeaders.read(restarted.headers)
    assert (told.generation, told.checkpoint, told.mode) == (3, None, "restart")
    assert told.deadline == round(NOW.timestamp() * 1000)
    assert restarted.value == b"{}"


def test_a_state_lies_beside_its_letter_and_says_that_the_event_was_edited() -> None:
    found = letter(event({}))
    (told,) = fold(found)

    record = state_record(
        original_of(found), told, State.REDRIVEN, actor="anna", at=NOW, edited=True
    )

    assert (record.topic, record.partition, record.key) == ("letters", 2, b"\xffkey")
    assert LetterState.model_validate_json(record.value or b"").model_extra == {"edited": True}


@pytest.mark.parametrize("at", [NOW, NOW.replace(microsecond=120_000), NOW.astimezone()])
def test_a_state_is_written_as_the_model_of_states_writes_it(at: datetime) -> None:
    found = letter(event({}))
    (told,) = fold(found)
    write = partial(state_record, original_of(found), actor="anna", at=at)

    sent = write(told, State.REDRIVEN, mode="resume", redrive_count=4, reason="\u2603 mended")
    parked = write(told._replace(event_id=None), State.PARKED, edited=True)

    for record in (sent, parked):
        model = LetterState.model_validate_json(record.value or b"")
        assert model.to_bytes() == record.value
        assert model.model_fields_set >= LetterState.model_fields.keys() - {"sent", "ended"}
    told_with_it = write(told, State.REDRIVEN, sent=sent).value or b""
    assert LetterState.model_validate_json(told_with_it).to_bytes() == told_with_it


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"{}", Refusal.NOT_READABLE),
        (event({}).to_bytes(), Refusal.OTHER_EVENT),
    ],
)
def test_an_edit_is_an_event_and_the_same_event(value: bytes, wanted: Refusal) -> None:
    told = entry()
    job = Redriving(Selection(), "anna", "events", frozenset({2}), replace={told.dlq_id: value})

    assert refusal(job.decide(told)) is wanted


def test_an_event_goes_to_no_partition_that_is_not_there_or_not_its_letters() -> None:
    job = Redriving(Selection(), "anna", "events", frozenset({0, 1}))

    assert refusal(job.decide(entry())) is Refusal.NO_PARTITION
    assert refusal(job.decide(entry(source_partition=1))) is Refusal.NO_PARTITION
    assert job.decide(entry(partition=1, source_partition=1)) == Send("resume", 1)


def test_a_letter_that_does_not_say_from_where_its_event_came_is_driven_where_it_lies() -> None:
    found = letter(event({}))
    source = found.source.model_copy(update={"partition": -1})

    (told,) = fold(found.model_copy(update={"source": source}))

    assert told.source_partition == told.partition == 2


def test_ids_mean_a_letter_by_its_own_or_the_newest_of_an_event() -> None:
    sent = event({})
    old, new = fold(letter(sent), letter(sent, count=1, offset=77))

    by_event, by_letter = Selection.of([sent.event_id]), Selection.of([old.dlq_id])

    assert [by_event.means(old), by_event.means(new)] == [False, True]
    assert [by_letter.means(old), by_letter.means(new)] == [True, False]


def test_without_ids_only_what_waits_is_meant_and_all_that_is_given_must_fit() -> None:
    means = Selection(workflow="fates", kind="permanent", reason="permanent", node="write").means

    assert means(entry())
    assert means(entry(state=State.REDRIVEN))
    assert not means(entry(state=State.RESOLVED))
    assert not means(entry(superseded_by="newer"))
    assert not means(entry(node="plan"))
    assert not Selection(fingerprint="f").means(entry())
