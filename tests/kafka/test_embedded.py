from __future__ import annotations

import socket

from redrive.clock import SYSTEM
from redrive.dead_letter.queue import DeadLetterQueue
from redrive.kafka.client import consumer_config, producer_config
from redrive.kafka.connect import make_consumer, make_producer
from redrive.kafka.embedded import EmbeddedBroker
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_admin import verify_topics
from redrive.kafka.topic_rules import topic_names
from redrive.redriving.deciding import Refusal
from redrive.redriving.engine import redrive
from redrive.redriving.selection import Selection
from redrive.testing.kafka_env import event
from redrive.testing.reading import read_topic


def test_its_topics_are_there_with_four_partitions_each() -> None:
    given = KafkaSettings(events_topic="mine")

    with EmbeddedBroker(given) as broker:
        settings = broker.settings(given)
        report = verify_topics(settings)

    assert settings.events_topic == "mine"
    assert report.errors == ()
    assert report.partitions == dict.fromkeys(topic_names(given), 4)


def test_a_worker_reads_what_was_stored_on_it() -> None:
    given = KafkaSettings()
    with EmbeddedBroker(given) as broker:
        settings = broker.settings(given)
        producer = make_producer(producer_config(settings))
        producer.produce(settings.events_topic, b"hello", headers=[("h", b"1")])
        assert producer.flush(10) == 0
        consumer = make_consumer(consumer_config(settings, member="w"))
        consumer.subscribe([settings.events_topic])

        # Of partitions that hold nothing it hears first that it has read them to their end.
        message = consumer.poll(30)
        while message is not None and message.error() is not None:
            message = consumer.poll(30)
        consumer.close()

    assert message is not None
    assert message.value() == b"hello"
    assert message.headers() == [("h", b"1")]


async def test_a_letter_is_driven_again_on_it() -> None:
    asked = event({})
    with EmbeddedBroker(KafkaSettings()) as broker:
        settings = broker.settings(KafkaSettings())
        async with DeadLetterQueue(broker.bootstrap_servers) as queue:
            dlq_id = await queue.publish_failed_event(asked, ValueError("no"), 0)

        report = redrive(settings, Selection(), actor="anna")
        again = redrive(settings, Selection(), actor="anna")
        (sent,) = read_topic(broker.bootstrap_servers, settings.events_topic)

    assert [done.entry.dlq_id for done in report.done] == [dlq_id]
    assert [no.refusal for no in again.refused] == [Refusal.ALREADY_RUNNING]
    assert sent.value == asked.to_bytes()


def test_it_is_gone_after_the_end() -> None:
    given = KafkaSettings()
    with EmbeddedBroker(given) as broker:
        address = broker.bootstrap_servers

    deadline = SYSTEM.monotonic() + 10
    while _listens(address) and SYSTEM.monotonic() < deadline:
        SYSTEM.block(0.05)
    assert not _listens(address)
    assert broker.bootstrap_servers == ""


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
