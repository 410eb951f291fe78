"""Reading a topic, or a part of it, to where it ends now: read-committed, no group, no commits."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
)
from confluent_kafka import (
    TopicPartition as KafkaTopicPartition,
)

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError
from redrive.kafka.client import READ_AHEAD, reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, TopicPartition, record_of, unreadable_records
from redrive.kafka.retrying import Said, ask, error_of, is_permanent, refused, until, with_advice
from redrive.kafka.unreadable import Gap, UnreadableBatches
from redrive.retry import retry
from redrive.units import format_duration

__all__ = ["first_records", "scan"]

BATCH = 500
POLL_S = 0.5
_CALL_S = 3.0
_FIRSTS_S = 5.0
_UNKNOWN = 2**63


def scan(
    settings: KafkaSettings,
    topic: str,
    *,
    since: datetime | None = None,
    spans: Mapping[int, tuple[int, int]] | None = None,
    clock: Clock = SYSTEM,
) -> Generator[ConsumerRecord, None, None]:
    """Yield the records of a topic, each partition in its order, up to where it ends now.

    Args:
        settings: How to reach Kafka.
        topic: Whose records.
        since: Only those that bear this time or a later one, and what follows them.
        spans: Per partition, the first offset to read and the one to stop before; other
            partitions are left out.
        clock: Measures how long nothing came.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: The topic does not exist, the client's options cannot work, or the broker
            refuses who we say we are.
    """
    said = Said(settings.bootstrap_servers)
    config = {**reader_config(settings, partition_eof=True), **READ_AHEAD}
    consumer = make_consumer(config, on_error=said)
    try:
        numbers = partitions_of(settings, topic, clock=clock)
        if spans is not None:
            starts = {number: span[0] for number, span in spans.items() if number in numbers}
        elif since is not None:
            starts = _starts(consumer, said, settings, topic, numbers, since, clock=clock)
        else:
            starts = dict.fromkeys(numbers, OFFSET_BEGINNING)
        consumer.assign([KafkaTopicPartition(topic, *start) for start in starts.items()])
        ends = {number: span[1] for number, span in (spans or {}).items()}
        yield from _to_the_end(consumer, settings, topic, starts, ends, clock)
    except KafkaException as error:
        raise _silent(settings, topic, with_advice(error_of(error))) from error
    finally:
        consumer.close()


def first_records(
    settings: KafkaSettings, at: Mapping[TopicPartition, int], *, clock: Clock = SYSTEM
) -> dict[TopicPartition, ConsumerRecord]:
    """Return the first record from these offsets on, whether or not it is committed.

    A partition that gives none within a few seconds is left out.
    """
    if not at:
        return {}
    config = {
        **reader_config(settings, partition_eof=True),
        "isolation.level": "read_uncommitted",
    }
    consumer = make_consumer(config, on_error=Said(settings.bootstrap_servers))
    found: dict[TopicPartition, ConsumerRecord] = {}
    deadline = clock.monotonic() + _FIRSTS_S
    try:
        consumer.assign([KafkaTopicPartition(*tp, offset) for tp, offset in at.items()])
        while len(found) < len(at) and clock.monotonic() < deadline:
            message = consumer.poll(POLL_S)
            if message is not None and message.error() is None:
                record = record_of(message)
                found.setdefault(record.tp, record)
    finally:
        consumer.close()
    return found


def _starts(
    consumer: Consumer,
    said: Said,
    settings: KafkaSettings,
    topic: str,
    numbers: frozenset[int],
    since: datetime,
    *,
    clock: Clock,
) -> dict[int, int]:
    # Before 1970 are numbers that mean something else.
    at_ms = max(round(since.timestamp() * 1000), 0)
    asked = [KafkaTopicPartition(topic, number, at_ms) for number in numbers]
    policy = until(
        settings.startup_timeout.total_seconds(), asking="which offset bears a time", clock=clock
    )
    told = retry(policy)(
        lambda: ask(consumer, said, lambda: consumer.offsets_for_times(asked, timeout=_CALL_S))
    )()
    return {part.partition: part.offset for part in told}


def _to_the_end(
    consumer: Consumer,
    settings: KafkaSettings,
    topic: str,
    starts: Mapping[int, int],
    ends: dict[int, int],
    clock: Clock,
) -> Iterator[ConsumerRecord]:
    limit_s, unread = settings.startup_timeout.total_seconds(), set(starts)
    patience = clock.monotonic() + limit_s
    unreadable = UnreadableBatches()
    while unread:
        first = consumer.poll(POLL_S)
        if first is not None:
            # `consume` with a timeout waits for a full batch; with none it takes what is there.
            batch = [first, *consumer.consume(BATCH - 1, 0)]
            moved, gaps = False, list[Gap]()
            if unreadable.concern(batch):
                gaps, batch = unreadable.sift(consumer, batch, lambda _, number: starts.get(number))
            missing = chain.from_iterable(map(unreadable_records, gaps))
            for record in chain(missing, _records(batch, settings, unread)):
                moved = True
                if _is_wanted(record, consumer, unread, ends):
                    yield record
            if moved:  # only now: the caller may take its time with a batch
                patience = clock.monotonic() + limit_s
        elif clock.monotonic() > patience:
            raise _silent(settings, topic, f"{len(unread)} partition(s) are not read to the end")


def _records(
    batch: Iterable[Message], settings: KafkaSettings, unread: set[int]
) -> Iterator[ConsumerRecord]:
    for message in batch:
        error = message.error()
        if error is None:
            yield record_of(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            unread.discard(message.partition() or 0)
        # Who reads without a group needs no right to one; librdkafka asks for it all the same.
        elif is_permanent(error) and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise refused(settings.bootstrap_servers, error)


def _is_wanted(
    record: ConsumerRecord, consumer: Consumer, unread: set[int], ends: dict[int, int]
) -> bool:
    number = record.tp.partition
    if number not in unread:
        return False
    if number not in ends:
        # A busy topic may never be at its end: what comes from now on is not for us.
        ends[number] = _end(consumer, record)
    if record.offset + 1 >= ends[number]:
        unread.discard(number)
    return record.offset < ends[number]


def _end(consumer: Consumer, record: ConsumerRecord) -> int:
    """Return where the partition ended when its records were fetched, as the fetch told."""
    _, end = consumer.get_watermark_offsets(KafkaTopicPartition(*record.tp), cached=True)
    return end if end > record.offset else _UNKNOWN


def _silent(settings: KafkaSettings, topic: str, why: str) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"Kafka at {settings.bootstrap_servers} did not give the records of {topic!r} within "
        f"{format_duration(settings.startup_timeout)}: {why}. "
        "Check the address, and that it is up"
    )
