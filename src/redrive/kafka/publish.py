"""Publishing one event and knowing that it is stored: for Airflow and the command line.

A worker publishes through its transactions (`redrive.kafka.producer_thread`), not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic_core import PydanticSerializationError, to_json

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError, NotStoredError, RecordError
from redrive.events import EventHeaders, WorkflowEvent, extra_headers
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.client import producer_config
from redrive.kafka.connect import OnError, make_producer
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.key_partition import partition_of_key
from redrive.kafka.retrying import Said, error_of, until, with_advice
from redrive.kafka.signed import signed
from redrive.payloads import CLEAR, Payloads
from redrive.retry import Kind, Rule, retry
from redrive.sealed_records import sealed_event
from redrive.signatures import Signer, Subject

__all__ = [
    "GRACE_S",
    "NO_ANSWER",
    "TOO_LARGE",
    "MakeProducer",
    "Published",
    "place_of",
    "publish_event",
]

GRACE_S = 5.0
"""What librdkafka gets beyond its own limit to say how the delivery went."""

NO_ANSWER = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
    }
)
"""Codes after which nobody knows whether a record is stored: the broker could not be asked."""

TOO_LARGE = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
    }
)
"""Codes that say that a record, or the batch that it was sent in, is too large for its topic."""

_ANY_PARTITION = -1
_LEAST_S = 0.1
# librdkafka has waited for the topic already (`topic.metadata.propagation.max.ms`).
_NO_TOPIC = Rule(
    Kind.PERMANENT,
    error=KafkaException,
    message=r"code=(UNKNOWN_TOPIC_OR_PART|_UNKNOWN_TOPIC|_UNKNOWN_PARTITION),",
    name="kafka:no_topic",
)


class MakeProducer(Protocol):
    """Makes a producer of its options, as `redrive.kafka.connect.make_producer` does."""

    def __call__(self, config: Mapping[str, object], *, on_error: OnError) -> Producer:
        """Return a producer that tells `on_error` of its errors."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """Where the broker stored an event."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


def publish_event(  # noqa: PLR0913 - an event and how it is stored, each by its name
    settings: KafkaSettings,
    event: WorkflowEvent,
    *,
    key: str | None = None,
    headers: EventHeaders | None = None,
    extra: Mapping[str, str] | None = None,
    timeout: timedelta = timedelta(seconds=30),
    signer: Signer | None = None,
    payloads: Payloads = CLEAR,
    clock: Clock = SYSTEM,
    make: MakeProducer = make_producer,
) -> Published:
    """Store `event` on the events topic and return where; `extra` are headers of the caller's own.

    Its payload is encrypted where `payloads` encodes.

    Its key is by default its thread's name, so that events of one thread share a partition, else
    its id. With a `signer` it is signed, for the partition of that key.

    Returns only on the broker's own delivery report. What can pass is tried again, by a new
    producer, until `timeout` is over: should the first try have been stored after all, the event
    lies there twice with one id, which is answered equally. After an error the event may be stored
    as well: publishing it again, with the same id, is safe.

    Raises:
        KafkaUnavailableError: No report came within `timeout`, or no broker said which partitions
            there are (`kafka.startup_timeout`).
        NotStoredError: The broker refused it.
        RecordError: Something of it is not JSON, or a header is redrive's own or not text.
        SettingsError: librdkafka refuses one of the client's options, or the broker refuses who we
            say we are; with a signer also: the topic does not exist.
    """
    headers = headers or EventHeaders()
    key = key or headers.thread or event.event_id
    all_headers = (*headers.write(), *extra_headers(extra or {}))
    value = _json(event)
    if payloads.label is not None:
        value = sealed_event(event, payloads).to_bytes()
    record = ProducerRecord(settings.events_topic, key.encode(), value, all_headers)
    if signer is not None:
        record = _signed(settings, record, signer, clock)
    deadline = clock.monotonic() + timeout.total_seconds()
    said = Said(settings.bootstrap_servers)

    def store() -> Published:
        return _store(settings, record, said, make, deadline=deadline, clock=clock)

    policy = until(
        timeout.total_seconds(),
        asking=f"to store {event.event_id}",
        clock=clock,
        rules=(_NO_TOPIC,),
    )
    try:
        return retry(policy)(store)()
    except KafkaException as error:
        kind = policy.classifier.classify(error).kind
        raise _failed(settings, event, timeout, error_of(error), kind) from error


def _store(
    settings: KafkaSettings,
    record: ProducerRecord,
    said: Said,
    make: MakeProducer,
    *,
    deadline: float,
    clock: Clock,
) -> Published:
    """Try once, with a producer of its own; `deadline` is in the clock's monotonic seconds."""
    left_s = max(_LEAST_S, deadline - clock.monotonic())
    options = producer_config(settings) | {"message.timeout.ms": round(left_s * 1000)}
    said.forget()
    producer = make(options, on_error=said)
    reports: list[tuple[KafkaError | None, Message]] = []
    producer.produce(
        record.topic,
        value=record.value,
        key=record.key,
        headers=list(record.headers),
        partition=_ANY_PARTITION if record.partition is None else record.partition,
        on_delivery=lambda error, message: reports.append((error, message)),
    )
    _wait(producer, reports, said, left_s=left_s + GRACE_S, clock=clock)
    error, message = reports[0]
    if error is not None:
        raise KafkaException(error)
    return place_of(record.topic, message)


def _signed(
    settings: KafkaSettings, record: ProducerRecord, signer: Signer, clock: Clock
) -> ProducerRecord:
    """Sign an event for the partition that its key goes to now: on another it does not count."""
    there = partitions_of(settings, record.topic, clock=clock)
    partition = partition_of_key(record.key or b"", partitions=len(there))
    return signed(record._replace(partition=partition), Subject.EVENT, signer)


def _wait(
    producer: Producer,
    reports: list[tuple[KafkaError | None, Message]],
    said: Said,
    *,
    left_s: float,
    clock: Clock,
) -> None:
    """Return once there is a report. A poll returns with each thing that is told."""
    end = clock.monotonic() + left_s
    while not reports:
        wait_s = end - clock.monotonic()
        if said.refusal is not None or wait_s <= 0:
            producer.purge()
            raise said.refusal or _no_report()
        producer.poll(wait_s)


def _no_report() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT, "no delivery report"))


def _json(event: WorkflowEvent) -> bytes:
    try:
        return event.to_bytes()
    except PydanticSerializationError as error:
        parts = {"payload.data": event.payload.data, "metadata": event.metadata}
        field = next((name for name, part in parts.items() if not _is_json(part)), "payload")
        raise RecordError(f"field {field!r} is not JSON: {error}", field=field) from error


def _is_json(value: object) -> bool:
    try:
        to_json(value)
    except PydanticSerializationError:
        return False
    return True


def place_of(topic: str, message: Message) -> Published:
    """Return where a confirmed record lies.

    Raises:
        NotStoredError: The delivery report does not say.
    """
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise NotStoredError(f"the broker's delivery report for {topic!r} names no offset")
    return Published(topic, partition, offset)


def _failed(
    settings: KafkaSettings, event: WorkflowEvent, timeout: timedelta, error: KafkaError, kind: Kind
) -> KafkaUnavailableError | NotStoredError:
    if error.code() in NO_ANSWER:
        return _silent(settings, event, timeout, with_advice(error))
    return NotStoredError(
        f"event {event.event_id} is not stored on {settings.events_topic!r} at "
        f"{settings.bootstrap_servers}: {with_advice(error)}",
        kind=kind,
    )


def _silent(
    settings: KafkaSettings, event: WorkflowEvent, timeout: timedelta, why: str
) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"Kafka at {settings.bootstrap_servers} did not confirm event {event.event_id} on "
        f"{settings.events_topic!r} within {timeout.total_seconds():g} s: {why}. Check the "
        "address, and that the broker is up; sending the event again with this id is safe"
    )
