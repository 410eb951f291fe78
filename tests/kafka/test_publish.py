"""Publishing an event on a real broker: stored, or an error that says so."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from redrive.clock import SYSTEM
from redrive.errors import KafkaUnavailableError, NotStoredError, RecordError
from redrive.events import EventHeaders, Payload, WorkflowEvent
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import publish_event
from redrive.testing.created_topics import Kafka, Topics, delete_topics


def event(**data: object) -> WorkflowEvent:
    return WorkflowEvent(
        event_id=str(uuid.uuid4()),
        timestamp=datetime.now(UTC),
        workflow_id="w",
        workflow_run_id="r",
        payload=Payload(data=data),
    )


@pytest.fixture
def settings(kafka: Kafka, topics: Topics) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, events_topic=topics.events)


@pytest.mark.invariant("P1")
def test_an_event_lies_where_the_broker_says(settings: KafkaSettings) -> None:
    sent = event(question="why")

    tp = publish_event(settings, sent, headers=EventHeaders(deadline=123))

    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "test"})
    consumer.assign([TopicPartition(tp.topic, tp.partition, tp.offset)])
    message = consumer.poll(10)
    consumer.close()
    assert message is not None
    assert message.error() is None
    value = message.value()
    assert isinstance(value, bytes)
    assert WorkflowEvent.from_bytes(value) == sent
    assert message.key() == sent.event_id.encode()
    assert message.headers() == [("redrive-deadline", b"123")]


@pytest.mark.invariant("P1")
def test_an_event_that_is_too_large_is_refused(settings: KafkaSettings) -> None:
    with pytest.raises(NotStoredError, match=settings.events_topic):
        publish_event(settings, event(text="x" * 2_000_000))


def test_an_event_larger_than_its_topic_takes_fails_at_once_and_says_what_to_raise(
    kafka: Kafka,
) -> None:
    topic = f"small-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    small = NewTopic(topic, 1, 1, config={"max.message.bytes": "100000"})
    admin.create_topics([small])[topic].result(timeout=30)
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, events_topic=topic)
    start = SYSTEM.monotonic()

    with pytest.raises(NotStoredError, match=rf"{topic}.*max\.message\.bytes"):
        publish_event(settings, event(text="x" * 200_000), timeout=timedelta(minutes=2))

    assert SYSTEM.monotonic() - start < 30
    delete_topics(kafka.bootstrap_servers, [topic])


def test_an_event_for_a_topic_that_is_not_there_fails_at_once_and_says_what_to_do(
    settings: KafkaSettings,
) -> None:
    missing = settings.model_copy(update={"events_topic": f"missing-{uuid.uuid4().hex[:8]}"})
    start = SYSTEM.monotonic()

    with pytest.raises(NotStoredError, match="redrive topics create"):
        publish_event(missing, event(), timeout=timedelta(minutes=2))

    assert SYSTEM.monotonic() - start < 30


@pytest.mark.invariant("P1")
def test_a_broker_that_is_not_there_is_named_in_time() -> None:
    nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1")

    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1 did not confirm event"):
        publish_event(nobody, event(), timeout=timedelta(milliseconds=300))


def test_data_that_is_not_json_is_named(settings: KafkaSettings) -> None:
    with pytest.raises(RecordError, match=r"payload\.data"):
        publish_event(settings, event(thing=object()))
