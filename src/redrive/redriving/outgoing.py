"""The records of a redrive: the letter's event, byte for byte with new headers, and its state."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from pydantic_core import to_json, to_jsonable_python

from redrive.dead_letter.driven import sent_digest
from redrive.dead_letter.states import STATE_HEADERS, State
from redrive.errors import RecordError
from redrive.events import EventHeaders, readable_event_id
from redrive.kafka.batches import ProducerRecord
from redrive.redriving.deciding import Mode, Send
from redrive.redriving.event_cache import CachedEvent
from redrive.redriving.partition import Entry

__all__ = ["MAX_ACTOR_CHARS", "STATE_BYTES", "event_record", "state_record"]

MAX_ACTOR_CHARS = 200
STATE_BYTES = 600
"""What a state record has in bytes, about."""

# What belongs to one sending of an event. The thread, the trace and what is not ours stay.
_OF_ONE_SENDING = frozenset(
    f"redrive-{name}"
    for name in (
        "attempt",
        "checkpoint",
        "count",
        "deadline",
        "event",
        "generation",
        "history",
        "letters",
        "mode",
        "not-before",
        "of",
        "signature",
        "source",
    )
)


def event_record(  # noqa: PLR0913 - one record's facts, each by its name
    original: CachedEvent,
    send: Send,
    *,
    of: str,
    topic: str,
    partition: int,
    actor: str,
    deadline: datetime | None = None,
    value: bytes | None = None,
    letters: int = 0,
) -> ProducerRecord:
    """Return the event that drives a letter again: key and value as they were.

    Args:
        original: The event.
        send: How it is driven.
        of: The letter's dlq_id.
        topic: The events topic.
        partition: The one that the event came from, since its thread bears that number.
        actor: Who drives it.
        deadline: Until when the result is wanted; the old one is never kept.
        value: Takes the place of the event's bytes.
        letters: From which offset on its partition of the letters says that it was sent.
    """
    restart = send.mode == "restart"
    sent = original.value if value is None else value
    headers = [(name, text) for name, text in original.headers if name not in _OF_ONE_SENDING]
    if generation := _generation(original) + restart:
        headers.append(("redrive-generation", b"%d" % generation))
    if deadline is not None:
        headers.append(("redrive-deadline", b"%d" % round(deadline.timestamp() * 1000)))
    headers.append(("redrive-of", of.encode()))
    if (event_id := readable_event_id(sent)) is not None:
        headers.append(("redrive-event", event_id.encode()))
    headers.append(("redrive-count", b"%d" % send.count))
    headers.append(("redrive-mode", send.mode.encode()))
    if not restart and original.checkpoint_id is not None:
        headers.append(("redrive-checkpoint", original.checkpoint_id.encode()))
    headers.append(("redrive-source", actor[:MAX_ACTOR_CHARS].encode()))
    if letters:
        headers.append(("redrive-letters", b"%d" % letters))
    return ProducerRecord(topic, original.key, sent, tuple(headers), partition)


def state_record(  # noqa: PLR0913 - one record's facts, each by its name
    original: CachedEvent,
    entry: Entry,
    state: State,
    *,
    actor: str,
    at: datetime,
    reason: str | None = None,
    mode: Mode | None = None,
    redrive_count: int | None = None,
    edited: bool = False,
    sent: ProducerRecord | None = None,
) -> ProducerRecord:
    """Return the record that says where a letter stands now; it lies beside the letter.

    The bytes are those of a `LetterState`, which would take five times as long to make them.

    Args:
        original: Names the place and the key of the letter's record.
        entry: The letter.
        state: Where it stands.
        actor: Who moved it.
        at: When.
        reason: Why, for people.
        mode: How it was driven, if it was.
        redrive_count: That of the event which was sent back.
        edited: Whether the event's payload was replaced; the letter keeps the original.
        sent: The event that was sent back: no other one is believed to be it.
    """
    told = {
        "schema_version": 1,
        "dlq_id": entry.dlq_id,
        "event_id": entry.event_id,
        "state": str(state),
        "timestamp": _text(at),
        "actor": actor[:MAX_ACTOR_CHARS],
        "reason": reason,
        "mode": mode,
        "redrive_count": entry.redrive_count if redrive_count is None else redrive_count,
    }
    if edited:
        told["edited"] = True
    if sent is not None:
        told["sent"] = sent_digest(sent.key, sent.value, sent.headers)
    topic, partition = original.tp
    return ProducerRecord(topic, original.letter_key, to_json(told), STATE_HEADERS, partition)


def _generation(original: CachedEvent) -> int:
    if original.generation is not None:
        return original.generation
    # A version before did not say so, and believed what the event said.
    try:
        event_id = readable_event_id(original.value)
        claimed = EventHeaders.read(original.headers)
    except RecordError:
        return 0
    return claimed.generation if claimed.event in (None, event_id) else 0


@lru_cache(maxsize=8)
def _text(at: datetime) -> str:
    """Return a time as JSON has it; those of one transaction are all the same."""
    return str(to_jsonable_python(at))
