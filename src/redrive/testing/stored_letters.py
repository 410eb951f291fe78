"""Letters without a worker that wrote them: made, and stored where they belong."""

from __future__ import annotations

import json
from collections.abc import Iterable

from redrive.clock import SYSTEM
from redrive.dead_letter.record import (
    DeadLetter,
    LetterContext,
    LetterError,
    Source,
    dlq_id,
    event_name,
)
from redrive.events import WorkflowEvent
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.retry.kinds import Kind, Reason

__all__ = ["dead_letter", "store_letters"]

_LARGEST_BYTES = 3_000_000
_IN_FLIGHT = 10_000
_STORED_S = 60.0


def dead_letter(
    sent: WorkflowEvent, *, topic: str, partition: int = 0, offset: int = 0, **fields: object
) -> DeadLetter:
    """Return the letter of an event that was given up at once.

    Args:
        sent: The event.
        topic: Where it lay, with `partition` and `offset`.
        partition: The letter is stored on the one of this number.
        offset: Tells letters of one partition apart.
        fields: Fields of the letter that are to be otherwise.
    """
    value = sent.to_bytes()
    letter = DeadLetter(
        dlq_id=dlq_id(topic, partition, offset, count=0, event=event_name(value)),
        timestamp=SYSTEM.now(),
        original_event=json.loads(value),
        error=LetterError(type="ValueError", message="no"),
        retry_count=0,
        context=LetterContext(workflow_id=sent.workflow_id, workflow_run_id=sent.workflow_run_id),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(
            topic=topic,
            partition=partition,
            offset=offset,
            key=sent.event_id.encode(),
            value=value,
        ),
    )
    return letter.model_copy(update=fields)


def store_letters(kafka: KafkaSettings, letters: Iterable[DeadLetter]) -> int:
    """Write letters as workers do: to their event's partition, with its key; return their bytes.

    Raises:
        TimeoutError: They were not all stored within a minute after the last one.
    """
    producer = make_producer(producer_config(kafka, max_message_bytes=_LARGEST_BYTES))
    written = 0
    for letter in letters:
        value = letter.to_bytes()
        written += len(value)
        producer.produce(
            kafka.dlq_topic,
            value,
            letter.source.key,
            partition=letter.source.partition,
            headers=[*letter.headers()],
        )
        while len(producer) > _IN_FLIGHT:
            producer.poll(0.1)
    if left := producer.flush(_STORED_S):
        raise TimeoutError(f"{left} letters were not stored in {_STORED_S:g} s")
    return written
