"""The part of a topic that an audit reads: from where to where, and how far back that reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from redrive.auditing.read_since import ReadSince
from redrive.clock import SYSTEM, Clock
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.scan import scan
from redrive.kafka.watermarks import Watermarks, offsets_since, watermarks

__all__ = ["OnRead", "TopicPart", "TopicRead", "look_at"]

EVERY_RECORDS = 10_000
"""After so many records that were read, the caller is told."""
_LOOK_S = 0.2
# A broker ends a transaction that its producer has left after 10 s: `transaction.timeout.ms`.
_OPEN_TRANSACTIONS = timedelta(seconds=30)

OnRead = Callable[[str, int], object]


@dataclass(slots=True)
class TopicRead:
    """What was read of a topic.

    Attributes:
        topic: Its name.
        records: How many, of each partition that it has.
        oldest_ms: The smallest timestamp among them, in epoch milliseconds.
        newest_ms: The largest one.
    """

    topic: str
    records: dict[int, int] = field(default_factory=dict)
    oldest_ms: int | None = None
    newest_ms: int | None = None

    @property
    def total(self) -> int:
        """All records that were read."""
        return sum(self.records.values())

    def note(self, record: ConsumerRecord) -> None:
        """Count a record."""
        self.records[record.tp.partition] += 1
        at = record.timestamp_ms
        if at is not None:
            self.oldest_ms = at if self.oldest_ms is None else min(self.oldest_ms, at)
            self.newest_ms = at if self.newest_ms is None else max(self.newest_ms, at)


@dataclass(frozen=True, slots=True)
class TopicPart:
    """What is to be read of one topic.

    Attributes:
        watermarks: Where each partition begins, and where it ended when this was looked at, with
            what of open transactions lay there then.
        starts: From which offset on each is read.
        reach: How far back that reaches.
        hidden: Partitions whose end lies behind a transaction that did not end in time.
        read: Counts what `records` has yielded.
    """

    watermarks: Mapping[TopicPartition, Watermarks]
    starts: Mapping[TopicPartition, int]
    reach: ReadSince
    hidden: frozenset[int]
    read: TopicRead

    def records(
        self, settings: KafkaSettings, on_read: OnRead, *, clock: Clock = SYSTEM
    ) -> Iterator[ConsumerRecord]:
        """Yield its records, each partition in its order. Raises what `scan` raises."""
        topic = self.read.topic
        spans = {
            tp.partition: (start, self.watermarks[tp].end)
            for tp, start in self.starts.items()
            if start < self.watermarks[tp].end
        }
        if not spans:
            return
        with closing(scan(settings, topic, spans=spans, clock=clock)) as found:
            for count, record in enumerate(found, start=1):
                self.read.note(record)
                if count % EVERY_RECORDS == 0:
                    on_read(topic, count)
                yield record

    @property
    def deleted(self) -> int:
        """How many offsets the topic no longer holds, over all partitions."""
        return sum(span.first for span in self.watermarks.values())


def look_at(
    settings: KafkaSettings,
    admin: AdminClient,
    topic: str,
    since: datetime | None,
    *,
    clock: Clock = SYSTEM,
) -> TopicPart:
    """Look where a topic begins and ends, and wait for transactions that are open there now.

    One that is committed ends on each partition at its own time: its offsets may be seen before its
    records.

    Raises:
        KafkaUnavailableError: The broker did not say within `kafka.startup_timeout`.
        SettingsError: The topic does not exist.
    """
    tps = [TopicPartition(topic, n) for n in sorted(partitions_of(settings, topic, clock=clock))]
    uncommitted = IsolationLevel.READ_UNCOMMITTED
    where = watermarks(settings, admin, tps, isolation=uncommitted, clock=clock)
    hidden = _wait(settings, admin, where, clock)
    starts = {tp: span.first for tp, span in where.items()}
    cut: dict[int, float | None] = {p.partition: None for p, first in starts.items() if first}
    if since is not None:
        later = offsets_since(settings, admin, tps, since, clock=clock)
        for tp, span in where.items():
            start = span.end if (found := later[tp]) is None else found
            if start > span.first:
                starts[tp] = start
                cut[tp.partition] = since.timestamp() * 1000
    read = TopicRead(topic, records=dict.fromkeys((tp.partition for tp in tps), 0))
    return TopicPart(
        MappingProxyType(where),
        MappingProxyType(starts),
        ReadSince(cut, hidden=hidden),
        hidden,
        read,
    )


def _wait(
    settings: KafkaSettings,
    admin: AdminClient,
    where: Mapping[TopicPartition, Watermarks],
    clock: Clock,
) -> frozenset[int]:
    """Return the partitions that could not be read up to these ends."""
    deadline = clock.monotonic() + _OPEN_TRANSACTIONS.total_seconds()
    open_partitions = list(where)
    while True:
        readable = watermarks(settings, admin, open_partitions, clock=clock)
        open_partitions = [p for p, span in readable.items() if span.end < where[p].end]
        if not open_partitions or clock.monotonic() > deadline:
            return frozenset(tp.partition for tp in open_partitions)
        clock.block(_LOOK_S)
