"""Publishing one event and knowing that it is stored: for Airflow and the command line.

A worker publishes through its transactions (`redrive.kafka.transaction`), not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from confluent_kafka import KafkaError, KafkaException, Message
from pydantic_core import PydanticSerializationError

from redrive.errors import KafkaUnavailableError, NotStoredError, RecordError
from redrive.events import EventHeaders, WorkflowEvent
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.options import KafkaSettings

__all__ = ["Published", "publish_event"]

GRACE_S = 5.0
"""What librdkafka gets beyond its own limit to say how the delivery went."""


@dataclass(frozen=True, slots=True)
class Published:
    """Where the broker stored an event."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


def publish_event(
    settings: KafkaSettings,
    event: WorkflowEvent,
    *,
    key: str | None = None,
    headers: EventHeaders | None = None,
    timeout: timedelta = timedelta(seconds=30),
) -> Published:
    """Store `event` on the events topic and return where; its key is the event's id by default.

    Returns only on the broker's own delivery report. After an error the event may still be stored:
    publishing it again, with the same id, is safe.

    Raises:
        KafkaUnavailableError: No report came within `timeout`.
        NotStoredError: The broker refused it.
        RecordError: Its data is not JSON.
        SettingsError: librdkafka refuses one of the client's options.
    """
    value = _json(event)
    reports: list[tuple[KafkaError | None, Message]] = []
    limit_ms = round(timeout.total_seconds() * 1000)
    producer = make_producer(producer_config(settings) | {"message.timeout.ms": limit_ms})
    try:
        producer.produce(
            settings.events_topic,
            value=value,
            key=(key or event.event_id).encode(),
            headers=[*(headers or EventHeaders()).write()],
            on_delivery=lambda error, message: reports.append((error, message)),
        )
    except KafkaException as error:
        raise _refused(settings, event, error.args[0]) from error
    producer.flush(timeout.total_seconds() + GRACE_S)
    if not reports:
        producer.purge()
        raise _silent(settings, event, timeout, "no delivery report")
    refusal, message = reports[0]
    if refusal is not None:
        raise _failed(settings, event, timeout, refusal)
    return _place(settings.events_topic, message)


def _json(event: WorkflowEvent) -> bytes:
    try:
        return event.to_bytes()
    except PydanticSerializationError as error:
        raise RecordError(
            f"field 'payload.data' is not JSON: {error}", field="payload.data"
        ) from error


def _place(topic: str, message: Message) -> Published:
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise NotStoredError(f"the broker's delivery report for {topic!r} names no offset")
    return Published(topic, partition, offset)


# Codes after which nobody knows whether the event is stored: the broker could not be asked.
_NO_ANSWER = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,  # noqa: SLF001 - the client's name for it
        KafkaError._TIMED_OUT,  # noqa: SLF001 - the client's name for it
        KafkaError._TRANSPORT,  # noqa: SLF001 - the client's name for it
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - the client's name for it
    }
)


def _failed(
    settings: KafkaSettings, event: WorkflowEvent, timeout: timedelta, error: KafkaError
) -> KafkaUnavailableError | NotStoredError:
    if error.code() in _NO_ANSWER:
        return _silent(settings, event, timeout, error.str())
    return _refused(settings, event, error)


def _silent(
    settings: KafkaSettings, event: WorkflowEvent, timeout: timedelta, why: str
) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"Kafka at {settings.bootstrap_servers} did not confirm event {event.event_id} on "
        f"{settings.events_topic!r} within {timeout.total_seconds():g} s: {why}. Check the "
        "address, and that the broker is up; sending the event again with this id is safe"
    )


def _refused(settings: KafkaSettings, event: WorkflowEvent, error: KafkaError) -> NotStoredError:
    return NotStoredError(
        f"event {event.event_id} is not stored on {settings.events_topic!r} at "
        f"{settings.bootstrap_servers}: {error.str()}"
    )
