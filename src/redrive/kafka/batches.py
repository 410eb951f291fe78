"""What the settle thread is given, and what it reports: a batch in, one report out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import KafkaError, TopicPartition

__all__ = ["Batch", "InDoubt", "OutRecord", "Refused", "Report", "Stopped", "Stored"]


class OutRecord(NamedTuple):
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
    """

    number: int
    records: tuple[OutRecord, ...]
    offsets: tuple[TopicPartition, ...]
    group: object


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything of the batch is durable; at least once: its records, offsets are not sent."""

    number: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of the batch is durable; it may be settled again.

    `culprits` are the indices of records that the broker refused for what they are.
    """

    number: int
    error: KafkaError | str
    culprits: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The commit may have happened: read the committed offsets back to learn it."""

    number: int
    error: KafkaError | str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Settling cannot go on: another producer with this identity took over."""

    error: KafkaError | str


Report = Stored | Refused | InDoubt | Stopped
