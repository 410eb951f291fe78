"""Batches of records that the client cannot unpack: finds where they end, and goes on behind them.

Whoever may write to a topic can send a few kilobytes that become more than librdkafka unpacks
(`receive.message.max.bytes`). It gives an error in their place, and asks for the same batch for
ever. Where the batch ends it does not say; but from an offset behind the batch it reads on. So that
is sought, in steps that double and then halve, and each offset before it is told to be unreadable:
it is not known which of them are records. [P1, P7]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaTopicPartition

__all__ = ["Gap", "UnreadableBatches"]

log = structlog.get_logger("redrive.kafka")

_CANNOT_UNPACK = KafkaError._BAD_COMPRESSION
_EOF = KafkaError._PARTITION_EOF
_TIMES = 2
"""So often in a row the client says it before it is believed: memory may have been short."""
WHY = (
    "its batch cannot be unpacked by the client: it becomes larger than receive.message.max.bytes, "
    "or is broken"
)


_Place = tuple[str, int]
Begins = Callable[[str, int], int | None]


class Gap(NamedTuple):
    """Offsets of one partition that cannot be read: from `first` on, before `end`."""

    topic: str
    partition: int
    first: int
    end: int


@dataclass(slots=True)
class _Search:
    """Where the end of one batch is sought.

    Attributes:
        first: The first offset that was not read.
        base: Where the batch begins, as the client says.
        within: The last offset that is known to lie in it.
        probe: From where it is being read; None until it is believed.
        behind: The first offset that is known to lie behind it.
        met: How often the client has said so.
    """

    first: int
    base: int
    within: int
    probe: int | None = None
    behind: int | None = None
    step: int = 1
    met: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the first offset behind it is known."""
        return self.behind == self.within + 1


class UnreadableBatches:
    """For one consumer, on its thread; it has to tell the ends of partitions."""

    def __init__(self) -> None:
        self._searches: dict[_Place, _Search] = {}

    def forget(self, tps: Iterable[_Place]) -> None:
        """Stop searching: these partitions go, or are read from elsewhere."""
        for tp in tps:
            self._searches.pop(tp, None)

    def concern(self, messages: Sequence[Message]) -> bool:
        """Say whether `sift` is needed."""
        return bool(self._searches) or any(map(_is_unreadable, messages))

    def sift(
        self, consumer: Consumer, messages: Sequence[Message], begins: Begins
    ) -> tuple[list[Gap], list[Message]]:
        """Return what was found to be unreadable, and the messages that go on from there.

        Args:
            consumer: Gave them.
            messages: What it gave in one turn.
            begins: Says from where a partition is read of which nothing was read yet.
        """
        gaps, kept, stale = list[Gap](), list[Message](), set[_Place]()
        for message in messages:
            tp = (message.topic() or "", message.partition() or 0)
            if tp in stale:
                continue
            search = self._searches.get(tp)
            if _is_unreadable(message):
                stale.add(tp)  # what else came before the next seek is of no use
                if search is None:
                    first = _first(consumer, tp, message.offset() or 0, begins)
                    search = _Search(first, message.offset() or 0, first)
                    self._searches[tp] = search
                gaps += self._met(consumer, tp, search, message.offset() or 0)
            elif search is None:
                kept.append(message)
            elif search.probe is None:
                self.forget([tp])  # this time it could be unpacked
                kept.append(message)
            elif (message.offset() or 0) >= search.probe and _tells(message):
                search.behind = search.probe
                if search.is_over:
                    gaps += self._ended(tp, search)
                    kept.append(message)
                else:
                    stale.add(tp)
                    self._probe(consumer, tp, search)
        return gaps, kept

    def _met(self, consumer: Consumer, tp: _Place, search: _Search, base: int) -> list[Gap]:
        """Take in that the client could not unpack what lies at `base`."""
        if search.probe is None or base <= search.base:
            search.met += 1
            if search.met >= _TIMES:
                search.within = search.within if search.probe is None else search.probe
                self._probe(consumer, tp, search)
            return []
        # It lies behind the first: another one.
        search.behind = search.probe
        if not search.is_over:
            self._probe(consumer, tp, search)
            return []
        gaps = self._ended(tp, search)
        first = max(base, search.probe)
        self._searches[tp] = _Search(first, base, first, met=1)
        return gaps

    def _probe(self, consumer: Consumer, tp: _Place, search: _Search) -> None:
        part = KafkaTopicPartition(*tp)
        if search.behind is None:
            search.probe = search.within + search.step
            search.step *= 2
            _, end = consumer.get_watermark_offsets(part, cached=True)
            search.probe = max(min(search.probe, end), search.within + 1)
        else:
            search.probe = (search.within + search.behind + 1) // 2
        try:
            consumer.seek(KafkaTopicPartition(*tp, search.probe))
        except KafkaException:
            self.forget([tp])  # it is only beginning, or going: the client will say it again

    def _ended(self, tp: _Place, search: _Search) -> list[Gap]:
        del self._searches[tp]
        topic, partition = tp
        log.error(
            "batch.unreadable",
            topic=topic,
            partition=partition,
            first=search.first,
            last=search.within,
        )
        return [Gap(topic, partition, search.first, search.within + 1)]


def _is_unreadable(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == _CANNOT_UNPACK


def _tells(message: Message) -> bool:
    """Say whether a message shows where the client reads: a record, or the end of a partition."""
    error = message.error()
    return error is None or error.code() == _EOF


def _first(consumer: Consumer, tp: _Place, base: int, begins: Begins) -> int:
    """Return the first offset of a batch that was not read: it may have been begun before."""
    (at,) = consumer.position([KafkaTopicPartition(*tp)])
    read_to = at.offset if at.offset >= 0 else begins(*tp)
    return max(base, read_to or 0)
