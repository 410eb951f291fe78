"""What a producer had to give up does not cost the records of the batch that comes after it.

librdkafka gives the next records the sequence numbers of those that an abort has purged. Where the
broker holds these already, and only their acknowledgement was lost, it takes the next ones for
them: the commit succeeds, and nothing is stored. With a producer that is kept after its abort, this
fails in about two of five runs; that none is kept is also what `tests/unit/test_settle_thread.py`
checks.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.clock import SYSTEM
from redrive.kafka.batches import Batch, ProducerRecord, RefusedBatch, Report, Stored
from redrive.kafka.client import admin_config, producer_config
from redrive.kafka.connect import make_admin, make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import TopicPartition
from redrive.kafka.settle_thread import SettleThread
from redrive.kafka.watermarks import watermarks
from redrive.testing.created_topics import Kafka, Topics
from redrive.testing.proxy import Proxy, Way
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import wait_until

NOTICED_AFTER_S = 1.0
UNKNOWN_MEMBER = KafkaError(KafkaError.UNKNOWN_MEMBER_ID, txn_requires_abort=True)


class CutOffProducer:
    """In its second transaction it loses the acknowledgements, and then the group refuses it."""

    def __init__(self, proxy: Proxy, servers: str, topics: Topics) -> None:
        self._direct = KafkaSettings(bootstrap_servers=servers)
        self._place = TopicPartition(topics.results, 0)
        self._proxy = proxy
        through = KafkaSettings(bootstrap_servers=proxy.address)
        config = producer_config(through, transactional_id=topics.group)
        self._producer: Any = make_producer(config)
        self._transactions = 0

    def begin_transaction(self) -> None:
        self._transactions += 1
        self._producer.begin_transaction()
        if self._transactions == 2:
            # Once the partition is of the transaction, records go without any other request.
            self._producer.produce(self._place.topic, b"first", partition=0)
            assert self._producer.flush(10) == 0
            self._awaited = self._end() + 2
            self._proxy.hold(Way.TO_CLIENT)

    def send_offsets_to_transaction(self, *_: object) -> None:
        wait_until(lambda: self._end() == self._awaited, timeout_s=60, what="the record there")
        self._proxy.cut()
        SYSTEM.block(NOTICED_AFTER_S)
        threading.Timer(NOTICED_AFTER_S, self._proxy.mend).start()
        raise KafkaException(UNKNOWN_MEMBER)

    def __getattr__(self, name: str) -> object:
        return getattr(self._producer, name)

    def _end(self) -> int:
        admin = make_admin(admin_config(self._direct))
        uncommitted = IsolationLevel.READ_UNCOMMITTED
        return watermarks(self._direct, admin, [self._place], isolation=uncommitted)[
            self._place
        ].end


@pytest.fixture
def proxy(kafka: Kafka) -> Iterator[Proxy]:
    with Proxy(kafka.bootstrap_servers) as proxy:
        yield proxy


@pytest.mark.invariant("P1", "P2")
def test_the_batch_after_one_that_was_given_up_is_stored_whole(
    kafka: Kafka, topics: Topics, proxy: Proxy
) -> None:
    reports: list[Report] = []
    thread = SettleThread(
        lambda _: CutOffProducer(proxy, kafka.bootstrap_servers, topics),  # type: ignore[arg-type, return-value]  # stands in for a Producer
        transactional=True,
        report=reports.append,
        clock=SYSTEM,
    )

    def settle(number: int, *values: bytes, refused: bool = False) -> Report:
        records = tuple(ProducerRecord(topics.results, None, value, (), 0) for value in values)
        offsets = (KafkaTopicPartition(topics.events, 0, 5),) if refused else ()
        thread.submit(Batch(number, records, offsets, "group" if refused else None))
        wait_until(lambda: len(reports) == number, timeout_s=60, what="a report")
        return reports[-1]

    thread.start(timeout_s=30)
    try:
        assert settle(1, b"before") == Stored(1)
        assert settle(2, b"given up", b"given up", refused=True) == RefusedBatch(2, UNKNOWN_MEMBER)
        assert settle(3, b"after", b"after") == Stored(3)
    finally:
        thread.close(timeout_s=5)

    stored = read_topic(kafka.bootstrap_servers, topics.results, whole=True)
    assert [record.value for record in stored] == [b"before", b"after", b"after"]
