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
    TopicPartition,
)

from redrive.clock import SYSTEM
from redrive.kafka.client import admin_config, reader_config
from redrive.kafka.connect import make_admin, make_consumer
from redrive.kafka.edges import edges
from redrive.kafka.log import Committed, Place, Record, record_of
from redrive.kafka.options import KafkaSettings

__all__ = ["committed_offsets", "end_offsets", "high_watermarks", "read_topic"]

T = TypeVar("T")

_CALL_S = 10.0
_READ_S = 60.0


def read_topic(bootstrap_servers: str, topic: str, *, whole: bool = False) -> list[Record]:
    """Return every record of a topic that a read-committed reader sees, up to its end now.

    Args:
        bootstrap_servers: The broker.
        topic: All of its partitions.
        whole: Wait for transactions that have not ended yet. One that is committed ends on each
            partition at its own time: its offsets may be seen before its records.
    """
    with _reader(bootstrap_servers) as consumer:
        places = _places(consumer, topic)
        ends = _log_ends(bootstrap_servers, places) if whole else {}
        consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
        return list(_until_end(consumer, set(places), ends))


def end_offsets(bootstrap_servers: str, topic: str) -> dict[Place, int]:
    """Return the end of each partition: the offset after its last record, 0 without any.

    What transactions leave behind the last record, such as their markers, is not counted.
    """
    with _reader(bootstrap_servers) as consumer:
        marks = {place: _watermarks(consumer, place) for place in _places(consumer, topic)}
        ends = dict.fromkeys(marks, 0)
        open_places = {place for place, (low, high) in marks.items() if high > low}
        back = 1
        while open_places:
            starts = {place: max(marks[place][0], marks[place][1] - back) for place in open_places}
            consumer.assign([TopicPartition(*place, start) for place, start in starts.items()])
            for record in _until_end(consumer, set(open_places)):
                ends[record.place] = record.offset + 1
            open_places = {p for p in open_places if not ends[p] and starts[p] > marks[p][0]}
            back *= 8
        return ends


def high_watermarks(bootstrap_servers: str, topic: str) -> dict[Place, int]:
    """Return where each partition ends for the broker, behind the markers of transactions."""
    with _reader(bootstrap_servers) as consumer:
        return {place: _watermarks(consumer, place)[1] for place in _places(consumer, topic)}


def committed_offsets(bootstrap_servers: str, topic: str, group: str) -> dict[Place, Committed]:
    """Return what `group` has committed for each partition, with its metadata."""

    def ask() -> dict[Place, Committed]:
        with _reader(bootstrap_servers, group=group) as consumer:
            asked = [TopicPartition(*place) for place in _places(consumer, topic)]
            return {
                Place(part.topic, part.partition): Committed(
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


def _places(consumer: Consumer, topic: str) -> list[Place]:
    metadata = _until_told(lambda: consumer.list_topics(timeout=_CALL_S))
    return [Place(topic, number) for number in metadata.topics[topic].partitions]


def _watermarks(consumer: Consumer, place: Place) -> tuple[int, int]:
    part = TopicPartition(*place)
    watermarks = _until_told(lambda: consumer.get_watermark_offsets(part, timeout=_CALL_S))
    if watermarks is None:
        raise TimeoutError(f"the broker did not say where {place} ends")
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


def _log_ends(bootstrap_servers: str, places: list[Place]) -> dict[Place, int]:
    """Return where each partition ends, whether or not all of it can be read yet."""
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    admin = make_admin(admin_config(settings))
    found = edges(settings, admin, places, isolation=IsolationLevel.READ_UNCOMMITTED)
    return {place: span.end for place, span in found.items()}


def _until_end(
    consumer: Consumer, open_places: set[Place], ends: Mapping[Place, int] = MappingProxyType({})
) -> Iterator[Record]:
    deadline = SYSTEM.monotonic() + _READ_S
    while open_places:
        if SYSTEM.monotonic() > deadline:
            raise TimeoutError(f"{sorted(open_places)} not read to the end in {_READ_S:g} s")
        for message in consumer.consume(1000, 0.2):
            error = message.error()
            if error is None:
                yield record_of(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own
                place = Place(message.topic() or "", message.partition() or 0)
                if (message.offset() or 0) >= ends.get(place, 0):
                    open_places.discard(place)
            else:
                raise KafkaException(error)
