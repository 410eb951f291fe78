"""What the group has yet to finish, in offsets that hold an event and in those that do not."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from redrive.clock import SYSTEM
from redrive.kafka.broker_wait import reach
from redrive.kafka.client import producer_config, reader_config
from redrive.kafka.connect import make_consumer, make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.redriving.backlog import Backlog, backlog_of
from redrive.state.commit_metadata import CommitMetadata, OffsetEntry, encode
from redrive.testing.created_topics import Kafka, MakeTopics


@pytest.fixture
def settings(kafka: Kafka, make_topics: MakeTopics) -> KafkaSettings:
    topics = make_topics(partitions=1)
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        events_topic=topics.events,
        results_topic=topics.results,
        retry_topic=topics.retry,
        dlq_topic=topics.dlq,
        group_id=topics.group,
    )


def send(settings: KafkaSettings, count: int, *, transactional: bool = False) -> None:
    """Store events in one batch; a transaction's end takes an offset of its own."""
    name = f"test.{settings.events_topic}" if transactional else None
    producer = make_producer(producer_config(settings, transactional_id=name))
    if transactional:
        producer.init_transactions(30)
        producer.begin_transaction()
    for _ in range(count):
        producer.produce(settings.events_topic, b"{}", partition=0)
    if transactional:
        producer.commit_transaction(30)
    assert producer.flush(30) == 0


def commit(settings: KafkaSettings, offset: int, metadata: str = "") -> None:
    consumer: Consumer = make_consumer(reader_config(settings))
    part = TopicPartition(settings.events_topic, 0, offset, metadata)
    consumer.commit(offsets=[part], asynchronous=False)
    consumer.close()


def backlog(settings: KafkaSettings) -> Backlog:
    return backlog_of(settings, reach(settings)[0], partitions=[0])


def test_a_group_that_never_committed_has_all_before_it(settings: KafkaSettings) -> None:
    send(settings, 3)

    found = backlog(settings)

    assert (found.unfinished, found.deleted, found.members) == (3, 0, 0)
    assert found.oldest is not None
    assert abs((SYSTEM.now() - found.oldest).total_seconds()) < 60


def test_the_end_of_a_transaction_is_no_event(settings: KafkaSettings) -> None:
    send(settings, 2, transactional=True)
    commit(settings, 2)

    assert backlog(settings) == Backlog(unfinished=0, oldest=None, deleted=0, members=0)


def test_what_is_finished_past_a_gap_is_not_waited_for(settings: KafkaSettings) -> None:
    send(settings, 5)
    commit(
        settings,
        1,
        encode(CommitMetadata(1, 1, finished=0b1010, entries={0: OffsetEntry(failed=1)})),
    )

    assert backlog(settings).unfinished == 2


def test_a_long_backlog_is_counted_by_offsets(settings: KafkaSettings) -> None:
    send(settings, 250)
    commit(settings, 50)

    assert backlog(settings).unfinished == 200


def test_what_was_deleted_unfinished_is_told(settings: KafkaSettings) -> None:
    send(settings, 5)
    commit(settings, 1)
    admin, _ = reach(settings)
    before = TopicPartition(settings.events_topic, 0, 4)
    admin.delete_records([before])[before].result(timeout=30)

    found = backlog(settings)

    assert (found.unfinished, found.deleted) == (1, 3)
