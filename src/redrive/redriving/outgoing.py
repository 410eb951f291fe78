"""The records of a redrive: the letter's event, byte for byte with new headers, and its state."""

from __future__ import annotations

from datetime import datetime

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.errors import RecordError
from redrive.events import EventHeaders
from redrive.kafka.batches import OutRecord
from redrive.kafka.log import Record
from redrive.redriving.deciding import Mode, Send
from redrive.redriving.partition import Entry

__all__ = ["MAX_ACTOR_CHARS", "event_record", "state_record"]

MAX_ACTOR_CHARS = 200
# What belongs to one sending of an event. The thread, the trace and what is not ours stay.
_OF_ONE_SENDING = frozenset(
    f"redrive-{name}"
    for name in (
        "attempt",
        "checkpoint",
        "count",
        "deadline",
        "generation",
        "history",
        "mode",
        "not-before",
        "of",
        "source",
    )
)


def event_record(
    letter: DeadLetter,
    send: Send,
    *,
    topic: str,
    partition: int,
    actor: str,
    deadline: datetime | None = None,
    value: bytes | None = None,
) -> OutRecord:
    """Return the event that drives a letter again: key and value as they were.

    Args:
        letter: Holds the event.
        send: How it is driven.
        topic: The events topic.
        partition: The one that the event came from, since its thread bears that number.
        actor: Who drives it.
        deadline: Until when the result is wanted; the old one is never kept.
        value: Takes the place of the event's bytes.
    """
    source = letter.source
    restart = send.mode == "restart"
    ours = EventHeaders(
        generation=_generation(letter) + restart,
        deadline=None if deadline is None else round(deadline.timestamp() * 1000),
        of=letter.dlq_id,
        count=send.count,
        mode=send.mode,
        checkpoint=None if restart or not letter.checkpoint else letter.checkpoint.checkpoint_id,
        source=actor[:MAX_ACTOR_CHARS],
    )
    kept = [(name, text) for name, text in source.headers if name not in _OF_ONE_SENDING]
    return OutRecord(
        topic=topic,
        key=source.key,
        value=source.value if value is None else value,
        headers=(*kept, *ours.write()),
        partition=partition,
    )


def state_record(  # noqa: PLR0913 - one record's facts, each by its name
    record: Record,
    entry: Entry,
    state: State,
    *,
    actor: str,
    at: datetime,
    reason: str | None = None,
    mode: Mode | None = None,
    redrive_count: int | None = None,
    edited: bool = False,
) -> OutRecord:
    """Return the record that says where a letter stands now; it lies beside the letter.

    Args:
        record: The letter's.
        entry: The letter.
        state: Where it stands.
        actor: Who moved it.
        at: When.
        reason: Why, for people.
        mode: How it was driven, if it was.
        redrive_count: That of the event which was sent back.
        edited: Whether the event's payload was replaced; the letter keeps the original.
    """
    told = LetterState(
        dlq_id=entry.dlq_id,
        event_id=entry.event_id,
        state=state,
        timestamp=at,
        actor=actor[:MAX_ACTOR_CHARS],
        reason=reason,
        mode=mode,
        redrive_count=entry.redrive_count if redrive_count is None else redrive_count,
        **({"edited": True} if edited else {}),
    )
    return OutRecord(
        topic=record.place.topic,
        key=record.key,
        value=told.to_bytes(),
        headers=STATE_HEADERS,
        partition=record.place.partition,
    )


def _generation(letter: DeadLetter) -> int:
    try:
        return EventHeaders.read(letter.source.headers).generation
    except RecordError:
        return 0
