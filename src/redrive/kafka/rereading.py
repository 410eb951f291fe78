"""Reads single records again by their positions: what was let go from memory while it waited.

What cannot be read now is read later; only a record that its log has passed by is told to be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.clock import Clock
from redrive.kafka.log import ConsumerRecord, TopicPartition, record_of
from redrive.kafka.reader_thread import ReaderThread

__all__ = ["Found", "RecordReader"]

log = structlog.get_logger("redrive.kafka")

Found = Mapping[tuple[TopicPartition, int], ConsumerRecord | None]
"""Records by their positions; None where the log has none any more."""

_BATCH = 100
_POLL_S = 0.1
_NO_NEWS_S = 10.0
_EDGES_S = 3.0
_SEEK_PAST = 1_000
"""So many records are read and thrown away rather than another fetch begun."""
_EOF = KafkaError._PARTITION_EOF
_OUT_OF_RANGE = (
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._AUTO_OFFSET_RESET,
)


class _Wanted(NamedTuple):
    tp: TopicPartition
    offsets: list[int]
    """From the last to the first."""


class RecordReader:
    """Reads records again; `ask`, `forget` and `close` may be called from any thread.

    Args:
        make_consumer: Builds a consumer that is assigned by hand, tells the end of a partition,
            and resets no position by itself; called on the reader's thread.
        found: Takes what was read, on the reader's thread.
        clock: For waits and limits.
    """

    def __init__(
        self,
        make_consumer: Callable[[], Consumer],
        *,
        found: Callable[[Found], None],
        clock: Clock,
    ) -> None:
        self._found = found
        self._clock = clock
        self._wanted: dict[TopicPartition, set[int]] = {}
        self._failing = False
        self._thread = ReaderThread(
            "redrive-reread",
            make_consumer,
            wanted=lambda: bool(self._wanted),
            read=self._read,
            failed=self._has_failed,
            clock=clock,
        )

    def ask(self, tp: TopicPartition, offset: int) -> None:
        """Read a record, as soon as that can be."""
        with self._thread.changed:
            if not self._thread.is_closed:
                self._wanted.setdefault(tp, set()).add(offset)
                self._thread.wake()

    def forget(self, tps: Iterable[TopicPartition]) -> None:
        """Read nothing more of these partitions."""
        with self._thread.changed:
            for tp in tps:
                self._wanted.pop(tp, None)

    def close(self) -> None:
        """Read nothing more at all; the thread ends by itself."""
        with self._thread.changed:
            self._wanted.clear()
            self._thread.close()

    def join(self) -> None:
        """Wait until its thread has ended, for two seconds at most."""
        self._thread.join()

    def _read(self, consumer: Consumer) -> None:
        """Read what is wanted now: one assignment, each partition from its first one on."""
        with self._thread.changed:
            wanted = {
                tp: _Wanted(tp, sorted(offsets, reverse=True))
                for tp, offsets in self._wanted.items()
            }
        consumer.assign([KafkaTopicPartition(*tp, one.offsets[-1]) for tp, one in wanted.items()])
        news, failed = False, None
        patience = self._clock.monotonic() + _NO_NEWS_S
        while wanted and not self._thread.is_closed:
            first = consumer.poll(_POLL_S)
            found: dict[tuple[TopicPartition, int], ConsumerRecord | None] = {}
            for message in () if first is None else (first, *consumer.consume(_BATCH - 1, 0)):
                failed = self._take(consumer, message, wanted, found) or failed
            if found:
                self._tell(found)
                news = True
                patience = self._clock.monotonic() + _NO_NEWS_S
            elif self._clock.monotonic() > patience:
                raise TimeoutError(f"{len(wanted)} partition(s) gave nothing for {_NO_NEWS_S:g} s")
        if failed is not None and not news:
            raise KafkaException(failed)

    def _take(
        self,
        consumer: Consumer,
        message: Message,
        wanted: dict[TopicPartition, _Wanted],
        found: dict[tuple[TopicPartition, int], ConsumerRecord | None],
    ) -> KafkaError | None:
        """Take a message; return why its partition is left for the next time, if it is."""
        one = wanted.get(TopicPartition(message.topic() or "", message.partition() or 0))
        if one is None:
            return None
        part = KafkaTopicPartition(*one.tp)
        error = message.error()
        if error is None:
            self._pass_by(one, message.offset() or 0, found)
            if one.offsets and one.offsets[-1] == message.offset():
                found[one.tp, one.offsets.pop()] = record_of(message)
        elif error.code() == _EOF:
            self._pass_by(one, message.offset() or 0, found)
        elif error.code() in _OUT_OF_RANGE:
            edges = consumer.get_watermark_offsets(part, timeout=_EDGES_S)
            if edges is not None:
                self._pass_by(one, edges[0], found)
        # What lies beyond its end is there again when the leaders agree, or its owner learns that
        # the log has begun anew.
        failed = error if one.offsets and error is not None else None
        if failed is not None or not one.offsets:
            del wanted[one.tp]
            consumer.incremental_unassign([part])
        elif one.offsets[-1] > (message.offset() or 0) + _SEEK_PAST:
            consumer.seek(KafkaTopicPartition(*one.tp, one.offsets[-1]))
        return failed

    def _pass_by(
        self, one: _Wanted, at: int, found: dict[tuple[TopicPartition, int], ConsumerRecord | None]
    ) -> None:
        """Tell what lies before the position at which the log goes on: it is gone."""
        while one.offsets and one.offsets[-1] < at:
            found[one.tp, one.offsets.pop()] = None

    def _tell(self, found: Found) -> None:
        with self._thread.changed:
            for tp, offset in found:
                offsets = self._wanted.get(tp)
                if offsets is not None:
                    offsets.discard(offset)
                    if not offsets:
                        del self._wanted[tp]
        if self._failing:
            self._failing = False
            log.info("events.read_again", events=len(found))
        self._found(found)

    def _has_failed(self, error: Exception) -> None:
        """Say so once, until something was read again."""
        if not self._failing:
            self._failing = True
            with self._thread.changed:
                waiting = sum(map(len, self._wanted.values()))
            log.warning("events.not_read_again", error=str(error), waiting=waiting)
