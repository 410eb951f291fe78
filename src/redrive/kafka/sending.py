"""The records of one batch on their way: produced, confirmed or not, and what stood in their way.

While they are not confirmed, the cluster's metadata is looked at: what goes to a partition without
a leader, or to a topic that is gone, is given up at once; the client itself would wait for it until
the batch's time is over, and everything else of the batch with it. [P7]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from redrive.clock import Clock
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.key_partition import partition_of_key
from redrive.kafka.log import TopicPartition

__all__ = ["RECORD_ERRORS", "SIZE_ERRORS", "TOPIC_ERRORS", "UNSENT", "Bounded", "Sending", "target"]

TOPIC_ERRORS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""Any record would be refused there, until the topic or the rights on it are mended."""
SIZE_ERRORS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})
"""A smaller record would be taken."""
RECORD_ERRORS = (
    TOPIC_ERRORS
    | SIZE_ERRORS
    | {
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
    }
)
UNSENT = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
    }
)
"""How records end that nobody confirmed before they were given up."""

_ANY_PARTITION = -1
_NO_LEADER = -1
_LOOK_AFTER_S = 0.5
_LOOK_EVERY_S = 1.0
_LOOK_S = 1.0
_FULL_S = 0.1
_PURGED_S = 1.0


class Bounded(Protocol):
    """Makes a call that is to return within a limit, or is abandoned."""

    def __call__(
        self, name: str, limit_s: float, call: Callable[..., object], *args: object
    ) -> object:
        """Make the call and return what it returns."""
        ...


class Sending:
    """Records that are produced once, in order.

    Args:
        producer: Through whom.
        records: What.
        allowed_s: Within how many seconds all are to be confirmed.
        together: Whether one that fails fails all, as in a transaction.
        bounded: Makes the calls.
        clock: For the time.
    """

    def __init__(
        self,
        producer: Producer,
        records: tuple[ProducerRecord, ...],
        *,
        allowed_s: float,
        together: bool,
        bounded: Bounded,
        clock: Clock,
    ) -> None:
        self._producer = producer
        self._records = records
        self._allowed_s = allowed_s
        self._together = together
        self._bounded = bounded
        self._clock = clock
        self._began = clock.monotonic()
        self.failed: dict[int, KafkaError] = {}
        """Of each record that is not stored: why, by its index."""
        self.confirmed = False
        """Whether all are stored."""
        self.late = False
        """Whether the time was over before."""
        self.took_s = 0.0
        self.leaderless: frozenset[TopicPartition] = frozenset()
        """Those of their partitions that have no leader."""
        self.partitions: Mapping[str, int] = {}
        """How many partitions their topics have, where that had to be looked at."""
        self._tps: dict[int, TopicPartition] = {}
        self._is_known = False

    @property
    def culprits(self) -> frozenset[int]:
        """Those that are refused for what they are, or for where they go."""
        return frozenset(i for i, e in self.failed.items() if e.code() in RECORD_ERRORS)

    @property
    def unsent(self) -> dict[int, TopicPartition]:
        """Those that nobody has confirmed, and where they were to go, as far as that is known."""
        return {
            index: self._tps.get(index)
            or TopicPartition(self._records[index].topic, _ANY_PARTITION)
            for index, error in self.failed.items()
            if error.code() in UNSENT
        }

    @property
    def delivered(self) -> frozenset[int]:
        """Those that are confirmed, once it is known of all of them."""
        return frozenset(range(len(self._records))) - self.failed.keys() if self._is_known else _NO

    def produce(self) -> None:
        """Hand all records to the client."""
        for index, record in enumerate(self._records):
            while True:
                try:
                    self._produce_one(index, record)
                    break
                except KafkaException as exception:
                    # What the client itself refuses, such as a topic that it knows to be gone.
                    if exception.args[0].code() not in RECORD_ERRORS:
                        raise
                    self.failed[index] = exception.args[0]
                    break
                except BufferError:
                    self._bounded("poll", _FULL_S, self._producer.poll, _FULL_S)
                    if self._left_s() <= 0:
                        raise KafkaException(
                            KafkaError(KafkaError._TIMED_OUT, "the client's queue stays full")
                        ) from None

    def confirm(self) -> None:
        """Wait until all are confirmed; give up what cannot be."""
        step_s = min(_LOOK_AFTER_S, self._allowed_s)
        while self._bounded("flush", step_s, self._producer.flush, step_s):
            self.late = self._left_s() <= 0
            if (self.failed and self._together) or self.late or self._looks_hopeless():
                self.give_up()
                break
            step_s = max(min(_LOOK_EVERY_S, self._left_s()), 0.0)
        else:
            self._is_known = True
        self.confirmed = self._is_known and not (self.failed or self.late)
        self.took_s = self._clock.monotonic() - self._began

    def give_up(self) -> None:
        """Drop what is not confirmed yet, and learn which records these are.

        Nothing but throwing the producer away may follow.
        """
        self._bounded("purge", _PURGED_S, self._producer.purge)
        self._is_known = not self._bounded("flush", _PURGED_S, self._producer.flush, _PURGED_S)

    def _left_s(self) -> float:
        return self._began + self._allowed_s - self._clock.monotonic()

    def _produce_one(self, index: int, record: ProducerRecord) -> None:
        self._producer.produce(
            record.topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            partition=_ANY_PARTITION if record.partition is None else record.partition,
            on_delivery=partial(self._ended, index),
        )

    def _ended(self, index: int, error: KafkaError | None, message: Message | None) -> None:
        if error is not None:
            # What is purged is no reason where there is one already.
            self.failed.setdefault(index, error)
            partition = None if message is None else message.partition()
            if partition is not None and partition >= 0:
                self._tps[index] = TopicPartition(self._records[index].topic, partition)

    def _looks_hopeless(self) -> bool:
        """Say whether one of the records cannot be stored as the cluster stands now."""
        try:
            seen = self._look()
        except KafkaException:
            return False
        self.partitions = {
            record.topic: len(seen[record.topic].partitions)
            for record in self._records
            if record.topic in seen
        }
        gone = [index for index, record in enumerate(self._records) if record.topic not in seen]
        for index in gone:
            self.failed.setdefault(index, KafkaError(KafkaError._UNKNOWN_TOPIC))
        tps = {tp for record in self._records if (tp := target(record, self.partitions))}
        self.leaderless = frozenset(
            tp
            for tp in tps
            if tp.topic in seen
            and (found := seen[tp.topic].partitions.get(tp.partition)) is not None
            and found.leader == _NO_LEADER
        )
        return bool(gone or self.leaderless)

    def _look(self) -> Mapping[str, Any]:
        # All topics: who asks for one by its name creates it.
        look = partial(self._producer.list_topics, timeout=_LOOK_S)
        found: Any = self._bounded("list_topics", _LOOK_S, look)
        return {name: topic for name, topic in found.topics.items() if topic.partitions}


def target(record: ProducerRecord, partitions: Mapping[str, int]) -> TopicPartition | None:
    """Return the partition that a record goes to; None where that cannot be known before.

    Args:
        record: The record.
        partitions: How many partitions each topic has, as far as that is known.
    """
    if record.partition is not None:
        return TopicPartition(record.topic, record.partition)
    count = partitions.get(record.topic)
    if record.key is None or not count:
        return None
    return TopicPartition(record.topic, partition_of_key(record.key, partitions=count))


_NO: frozenset[int] = frozenset()
