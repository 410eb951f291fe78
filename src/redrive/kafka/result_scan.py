"""Reading the results topic: one consumer, where it stands, and how it goes back.

No group, no commits. For one thread only: `redrive.kafka.results` owns the thread and the waiters.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.errors import SettingsError
from redrive.kafka.growth import Growth
from redrive.kafka.recent_results import RecentResults, SeenResult
from redrive.kafka.retrying import advice, is_permanent, with_advice

__all__ = ["ResultScan"]

log = structlog.get_logger(__name__)

BATCH = 500
_CALL_S = 1.0


class ResultScan:
    """Reads forward from where its waiters need it; a late one takes it back.

    It goes back once at a time: the next step back waits until the reader is again where it was,
    so that waiters who keep joining late cannot keep it from the newest results. [P7]
    """

    def __init__(self, consumer: Consumer, topic: str, *, growth: Growth) -> None:
        self._consumer = consumer
        self._topic = topic
        self._growth = growth
        self._partitions: set[int] = set()
        # Where the client reads on. It goes back by itself only where the log does.
        self._next: dict[int, int] = {}
        self._anew: set[int] = set()
        self._recent = RecentResults()
        self._positions: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._were_at: dict[int, int] = {}
        self._last_error: str | None = None
        self._has_read = False
        self._refusal: KafkaError | None = None

    def known(self, key: bytes, offsets: Mapping[int, int]) -> list[SeenResult]:
        """Return what was read lately for `key`, from `offsets` on."""
        return self._recent.find(key, offsets)

    def need(self, offsets: Mapping[int, int]) -> None:
        """Arrange that everything from `offsets` on is read, again where it must be.

        Partitions that came after `offsets` were taken are read from their beginning.
        """
        self._partitions.update(offsets)
        for partition, offset in {**dict.fromkeys(self._partitions, 0), **offsets}.items():
            position = self._positions.get(partition)
            passed = position is not None and offset < position
            if position is None or (passed and not self._recent.covers(partition, offset)):
                self._starts[partition] = min(offset, self._starts.get(partition, offset))

    def read(self, timeout: timedelta) -> list[SeenResult]:
        """Return the next results with a key, in the order of their partitions.

        Raises:
            SettingsError: The broker refuses us. Not once something was read: that may pass, and
                what is waited for stays on the topic.
        """
        for partition in self._growth.look(self._partitions):
            log.info("results.new_partition", topic=self._topic, partition=partition)
            self._partitions.add(partition)
            self._starts[partition] = 0
        self._go_back()
        first = self._consumer.poll(timeout.total_seconds())
        if self._refusal is not None:
            raise SettingsError(
                f"Kafka refuses the reader of {self._topic!r}: {with_advice(self._refusal)}"
            )
        if first is None:
            return []
        # `consume` with a timeout waits for a full batch; with none it takes what is there.
        messages = [first, *self._consumer.consume(BATCH - 1, 0)]
        taken = (self._take(message) for message in messages)
        return [seen for seen in taken if seen is not None]

    def began_anew(self) -> frozenset[int]:
        """Return the partitions whose log has gone back since: what waiters counted from is gone.

        The topic was deleted and made anew, or a log has lost its end.
        """
        anew, self._anew = frozenset(self._anew), set()
        return anew

    @property
    def is_outdated(self) -> bool:
        """Whether the topic was made anew: another client is to read it, from its beginning."""
        return self._growth.is_outdated

    def beyond(self, partition: int, offset: int) -> bool:
        """Say whether `offset` lies beyond the end of a partition that is read to its end."""
        if self._next.get(partition, offset) >= offset or partition in self._starts:
            return False
        tp = KafkaTopicPartition(self._topic, partition)
        try:
            told = self._consumer.get_watermark_offsets(tp, timeout=_CALL_S, cached=False)
        except KafkaException:
            return False
        # The client's types leave out that it may not know.
        marks = cast("tuple[int, int] | None", told)
        return marks is not None and marks[1] < offset

    def hear(self, error: KafkaError) -> None:
        """Take in what the consumer says about itself: its `on_error`."""
        # Who reads without a group needs no right to one; librdkafka asks for it all the same.
        of_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
        if is_permanent(error) and not of_group and not self._has_read:
            self._refusal = error

    def rest(self) -> None:
        """Stop fetching: nobody waits. The next one who joins says where to begin."""
        if self._positions:
            self._consumer.unassign()
        self._positions.clear()
        self._starts.clear()
        self._were_at.clear()
        self._next.clear()
        self._recent.clear()

    def close(self) -> None:
        """Let the consumer go."""
        self._consumer.close()

    def _go_back(self) -> None:
        if not self._starts or self._were_at:
            return
        for partition, offset in self._starts.items():
            if partition in self._positions:
                self._were_at[partition] = self._positions[partition]
            self._positions[partition] = self._next[partition] = offset
            self._recent.start(partition, offset)
        self._starts.clear()
        self._consumer.assign(
            [KafkaTopicPartition(self._topic, p, o) for p, o in self._positions.items()]
        )

    def _take(self, message: Message) -> SeenResult | None:
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._note(error)
            return None
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None or partition not in self._positions:
            return None
        self._last_error, self._has_read = None, True
        if offset < self._next[partition]:
            self._begin_anew(partition, offset)
        if error is not None:
            # At its end there is nothing to catch up with, also where the log was cut short.
            self._move(partition, offset)
            self._were_at.pop(partition, None)
            self._next[partition] = offset
            return None
        self._move(partition, offset + 1)
        self._next[partition] = offset + 1
        key = message.key()
        if not key:
            return None
        seen = SeenResult(partition, offset, _bytes(key), _value(message))
        self._recent.add(seen)
        return seen

    def _begin_anew(self, partition: int, offset: int) -> None:
        log.error("results.log_began_anew", topic=self._topic, partition=partition, offset=offset)
        self._were_at.pop(partition, None)
        self._positions[partition] = offset
        self._recent.start(partition, offset)
        self._anew.add(partition)

    def _move(self, partition: int, position: int) -> None:
        self._positions[partition] = max(position, self._positions[partition])
        were_at = self._were_at.get(partition)
        if were_at is not None and self._positions[partition] >= were_at:
            del self._were_at[partition]

    def _note(self, error: KafkaError) -> None:
        # librdkafka repeats itself while it tries again: one line per change is enough.
        text = error.str()
        if text != self._last_error:
            if is_permanent(error):
                log.error("results.refused", topic=self._topic, error=text, advice=advice(error))
            else:
                log.warning("results.read_failed", topic=self._topic, error=text)
        self._last_error = text
        self.hear(error)


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _value(message: Message) -> bytes | None:
    value = message.value()
    return None if value is None else _bytes(value)
