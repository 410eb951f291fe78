"""Reading the letters topic: from its beginning to its end, with no group and no commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from pydantic import ValidationError

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.record import DeadLetter
from redrive.errors import KafkaUnavailableError
from redrive.events import readable_event_id
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.existing import partitions_of
from redrive.kafka.options import KafkaSettings

__all__ = ["StoredLetter", "event_id_of", "find_letters"]

BATCH = 500
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter, and where it lies."""

    partition: int
    offset: int
    letter: DeadLetter


def find_letters(
    settings: KafkaSettings, wanted: str, *, clock: Clock = SYSTEM
) -> list[StoredLetter]:
    """Return the letters whose `dlq_id` or `event_id` is `wanted`, oldest first.

    Reads the whole topic, to where it ends now. A record that is no letter is passed by.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: The topic does not exist, or the client's options cannot work.
    """
    found = []
    with _reading(settings) as consumer:
        for message in _all_records(consumer, settings, clock):
            stored = _letter(message)
            if stored and _is(stored.letter, wanted):
                found.append(stored)
    return sorted(found, key=lambda stored: (stored.letter.timestamp, stored.offset))


def event_id_of(letter: DeadLetter) -> str | None:
    """Return the id of the event that ended in this letter, if it can be read."""
    return readable_event_id(letter.source.value)


def _is(letter: DeadLetter, wanted: str) -> bool:
    return wanted in (letter.dlq_id, event_id_of(letter))


@contextmanager
def _reading(settings: KafkaSettings) -> Iterator[Consumer]:
    consumer = make_consumer(reader_config(settings, partition_eof=True))
    try:
        yield consumer
    except KafkaException as error:
        raise _silent(settings, str(error)) from error
    finally:
        consumer.close()


def _all_records(
    consumer: Consumer, settings: KafkaSettings, clock: Clock
) -> Iterator[KafkaMessage]:
    limit_s = settings.startup_timeout.total_seconds()
    topic = settings.dlq_topic
    unread = set(partitions_of(settings, topic, clock=clock))
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
    patience = clock.monotonic() + limit_s
    while unread:
        first = consumer.poll(POLL_S)
        if first is None:
            if clock.monotonic() > patience:
                raise _silent(settings, f"{len(unread)} partition(s) are not read to the end")
            continue
        for message in (first, *consumer.consume(BATCH, 0)):
            error = message.error()
            if error is None:
                patience = clock.monotonic() + limit_s
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
                unread.discard(message.partition() or 0)


def _letter(message: KafkaMessage) -> StoredLetter | None:
    value, partition, offset = message.value(), message.partition(), message.offset()
    if value is None or partition is None or offset is None:
        return None
    if ("redrive-record", b"state") in (message.headers() or ()):
        return None
    try:
        return StoredLetter(partition, offset, DeadLetter.model_validate_json(value))
    except ValidationError:
        return None


def _silent(settings: KafkaSettings, why: str) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"Kafka at {settings.bootstrap_servers} did not give the letters of "
        f"{settings.dlq_topic!r} within {settings.startup_timeout.total_seconds():g} s: {why}. "
        "Check the address, and that it is up"
    )
