from __future__ import annotations

import random
import uuid

import pytest
from aiokafka.partitioner import DefaultPartitioner  # type: ignore[import-untyped]  # no stubs
from confluent_kafka import KafkaError, Message
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.testing.created_topics import Kafka, MakeTopics, delete_topics


@pytest.mark.invariant("P9")
@pytest.mark.parametrize("partitions", [4, 7])
def test_a_key_meets_the_partition_where_java_and_aiokafka_put_it(
    kafka: Kafka, make_topics: MakeTopics, partitions: int
) -> None:
    topic = make_topics(partitions=partitions).events
    dice = random.Random(20261124)
    keys = [dice.randbytes(dice.randrange(1, 40)) for _ in range(300)]
    stored: dict[bytes, int | None] = {}

    def keep(error: KafkaError | None, message: Message) -> None:
        assert error is None
        stored[message.key() or b""] = message.partition()

    producer = make_producer(
        producer_config(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers))
    )
    for key in keys:
        producer.produce(topic, b"", key=key, on_delivery=keep)
    assert producer.flush(30) == 0

    numbers = list(range(partitions))
    expected = {key: DefaultPartitioner()(key, numbers, numbers) for key in keys}
    assert stored == expected
    assert len(set(expected.values())) == partitions


@pytest.mark.invariant("P6")
def test_many_small_records_pass_where_a_topic_takes_less_than_a_full_batch(kafka: Kafka) -> None:
    topic = f"small-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    small = NewTopic(topic, 1, 1, config={"max.message.bytes": "100000"})
    admin.create_topics([small])[topic].result(timeout=30)
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    errors: list[KafkaError | None] = []
    producer = make_producer(
        producer_config(settings, max_message_bytes=3_000_000, max_batch_bytes=100_000)
    )

    for _ in range(300):
        # Bytes that compression cannot make smaller: the broker measures what it gets.
        value = random.randbytes(1000)
        producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)

    delete_topics(kafka.bootstrap_servers, [topic])
    assert errors == [None] * 300
