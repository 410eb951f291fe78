"""Reads topics the way a judge must: whole, read-committed, without a group of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
)
from confluent_kafka import (
    TopicPartition as KafkaTopicPartition,
)

from redrive.clock import SYSTEM
from redrive.kafka.client import admin_config, reader_config
from redrive.kafka.connect import make_admin, make_consumer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition, record_of
from redrive.kafka.watermarks import watermarks

__all__ = ["committed_offsets", "end_offsets", "high_watermarks", "read_topic"]

T = TypeVar("T")

_CALL_S = 10.0
_READ_S = 60.0


def read_topic(bootstrap_servers: str, topic: str, *, whole: bool = False) -> list[ConsumerRecord]:
    """Return every record of a topic that a read-committed reader sees, up to its end now.

    Args:
        bootstrap_servers: The broker.
        topic: All of its partitions.
        whole: Wait for transactions that have not ended yet. One that is committed ends on each
            partition at its own time: its offsets may be seen before its records.
    """
    with _reader(bootstrap_servers) as consumer:
        tps = _tps(consumer, topic)
        ends = _log_ends(bootstrap_servers, tps) if whole else {}
        consumer.assign([KafkaTopicPartition(*tp, OFFSET_BEGINNING) for tp in tps])
        return list(_until_end(consumer, set(tps), ends))


def end_offsets(bootstrap_servers: str, topic: str) -> dict[TopicPartition, int]:
    """Return the end of each partition: the offset after its last record, 0 without any.

    What transactions leave behind the last record, such as their markers, is not counted.
    """
    with _reader(bootstrap_servers) as consumer:
        marks = {tp: _watermarks(consumer, tp) for tp in _tps(consumer, topic)}
        ends = dict.fromkeys(marks, 0)
        open_partitions = {tp for tp, (low, high) in marks.items() if high > low}
        back = 1
        while open_partitions:
            starts = {tp: max(marks[tp][0], marks[tp][1] - back) for tp in open_partitions}
            consumer.assign([KafkaTopicPartition(*tp, start) for tp, start in starts.items()])
            for record in _until_end(consumer, set(open_partitions)):
                ends[record.tp] = record.offset + 1
            open_partitions = {
                p for p in open_partitions if not ends[p] and starts[p] > marks[p][0]
            }
            back *= 8
        return ends


def high_watermarks(bootstrap_servers: str, topic: str) -> dict[TopicPartition, int]:
    """Return where each partition ends for the broker, behind the markers of transactions."""
    with _reader(bootstrap_servers) as consumer:
        return {tp: _watermarks(consumer, tp)[1] for tp in _tps(consumer, topic)}


def committed_offsets(
    bootstrap_servers: str, topic: str, group: str
) -> dict[TopicPartition, Committed]:
    """Return what `group` has committed for each partition, with its metadata."""

    def ask() -> dict[TopicPartition, Committed]:
        with _reader(bootstrap_servers, group=group) as consumer:
            asked = [KafkaTopicPartition(*tp) for tp in _tps(consumer, topic)]
            return {
                TopicPartition(part.topic, part.partition): Committed(
                    part.offset if part.offset >= 0 else None, part.metadata
                )
                for part in consumer.committed(asked, timeout=_CALL_S)
            }

    return _until_told(ask)


@contextmanager
def _reader(bootstrap_servers: str, *, group: str = "redrive-testing") -> Iterator[Consumer]:
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers, group_id=group)
    consumer = make_consumer(reader_config(settings, partition_eof=True))
    try:
        yield consumer
    finally:
        consumer.close()


def _tps(consumer: Consumer, topic: str) -> list[TopicPartition]:
    metadata = _until_told(lambda: consumer.list_topics(timeout=_CALL_S))
    return [TopicPartition(topic, number) for number in metadata.topics[topic].partitions]


def _watermarks(consumer: Consumer, tp: TopicPartition) -> tuple[int, int]:
    part = KafkaTopicPartition(*tp)
    watermarks = _until_told(lambda: consumer.get_watermark_offsets(part, timeout=_CALL_S))
    if watermarks is None:
        raise TimeoutError(f"the broker did not say where {tp} ends")
    return watermarks


def _until_told(call: Callable[[], T]) -> T:
    """Ask again while the broker, or a group's coordinator, is not there yet."""
    deadline = SYSTEM.monotonic() + _READ_S
    while True:
        try:
            return call()
        except KafkaException:
            if SYSTEM.monotonic() > deadline:
                raise
            SYSTEM.block(0.2)


def _log_ends(bootstrap_servers: str, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Return where each partition ends, whether or not all of it can be read yet."""
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    admin = make_admin(admin_config(settings))
    found = watermarks(settings, admin, tps, isolation=IsolationLevel.READ_UNCOMMITTED)
    return {tp: span.end for tp, span in found.items()}


def _until_end(
    consumer: Consumer,
    open_partitions: set[TopicPartition],
    ends: Mapping[TopicPartition, int] = MappingProxyType({}),
) -> Iterator[ConsumerRecord]:
    deadline = SYSTEM.monotonic() + _READ_S
    while open_partitions:
        if SYSTEM.monotonic() > deadline:
            raise TimeoutError(f"{sorted(open_partitions)} not read to the end in {_READ_S:g} s")
        for message in consumer.consume(1000, 0.2):
            error = message.error()
            if error is None:
                yield record_of(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                tp = TopicPartition(message.topic() or "", message.partition() or 0)
                if (message.offset() or 0) >= ends.get(tp, 0):
                    open_partitions.discard(tp)
            else:
                raise KafkaException(error)
