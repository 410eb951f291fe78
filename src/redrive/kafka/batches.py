"""What the settle thread is given, and what it reports: a batch in, one report out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.kafka.log import TopicPartition

__all__ = [
    "Batch",
    "InDoubt",
    "ProducerRecord",
    "RefusedBatch",
    "Report",
    "Stopped",
    "Stored",
    "Tried",
]


class ProducerRecord(NamedTuple):
    """One record to produce; without a partition, the key chooses it."""

    # A tuple, as it is made for each record: a frozen dataclass takes five times as long.

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int | None = None

    @property
    def size_bytes(self) -> int:
        """What a broker counts against `max.message.bytes`, its own overhead included."""
        size = len(self.key or b"") + len(self.value or b"") + 128
        for name, value in self.headers:
            size += len(name) + len(value or b"") + 10
        return size


@dataclass(frozen=True, slots=True)
class Batch:
    """Records and offsets that become durable together, or not at all.

    `group` is the consumer's `consumer_group_metadata()`, taken in the same step as the offsets.
    `allowed_s` is how long its records may take where that is longer than usual: on a slow link.
    """

    number: int
    records: tuple[ProducerRecord, ...]
    offsets: tuple[KafkaTopicPartition, ...]
    group: object
    allowed_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        """What its records add to a transaction."""
        return sum(record.size_bytes for record in self.records)


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything of the batch is durable; at least once: its records, offsets are not sent.

    `took_s` is how long its records took to be confirmed.
    """

    number: int
    took_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class RefusedBatch:
    """The batch as a whole is not durable; it may be settled again, or parts of it.

    Args:
        number: The batch's.
        error: Why.
        culprits: Indices of the records that are refused for what they are, or for their topic.
        unsent: Where the records were to go that nobody confirmed, by index.
        leaderless: Which of these partitions have no leader.
        delivered: Indices of the records that were confirmed. In a transaction they are not
            durable all the same.
        late: Whether the batch's time was over.
        partitions: How many partitions the topics have, where that was looked at.
    """

    number: int
    error: KafkaError | str
    culprits: frozenset[int] = frozenset()
    unsent: Mapping[int, TopicPartition] = field(default_factory=dict)
    leaderless: frozenset[TopicPartition] = frozenset()
    delivered: frozenset[int] = field(default=frozenset(), compare=False)
    late: bool = False
    partitions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The commit may have happened: read the committed offsets back to learn it."""

    number: int
    error: KafkaError | str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Settling cannot go on: another producer with this identity took over."""

    error: KafkaError | str


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial came to: which records could not be stored, by index, and why.

    With transactions nothing of it is durable, at least once the others are. `error` says why it
    could not be made; then nothing is known.
    """

    number: int
    failed: Mapping[int, KafkaError] = field(default_factory=dict)
    error: KafkaError | str | None = None
    took_s: float = 0.0
    leaderless: frozenset[TopicPartition] = frozenset()


Report = Stored | RefusedBatch | InDoubt | Stopped | Tried
"""How a batch ended, or a trial."""
