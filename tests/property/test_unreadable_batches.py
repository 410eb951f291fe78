"""Batches that a client cannot unpack: every record beside them is read, once and in order."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from redrive.kafka.unreadable import UnreadableBatches

TOPIC = "t"
MAX_TURNS = 500


class Told:
    """A message, as far as it is asked."""

    def __init__(self, offset: int, code: int | None = None) -> None:
        self._offset = offset
        self._error = None if code is None else KafkaError(code)

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


class Log:
    """One partition as librdkafka reads it: `batches` are lengths, and whether they unpack."""

    def __init__(self, batches: list[tuple[int, bool]], *, at: int, refused_seeks: int) -> None:
        self.batches, base = list[tuple[int, int, bool]](), 0
        for length, is_good in batches:
            self.batches.append((base, base + length, is_good))
            base += length
        self.end = base
        self._at, self._read_to = at, -1001
        self._refused_seeks = refused_seeks

    def poll(self) -> list[Told]:
        """Return what the next fetch gives, up to something that cannot be unpacked."""
        told = list[Told]()
        for base, end, is_good in self.batches:
            if end <= self._at:
                continue
            if not is_good:
                return [*told, Told(base, KafkaError._BAD_COMPRESSION)]
            told += [Told(offset) for offset in range(max(base, self._at), end)]
            self._at = self._read_to = end
        return [*told, Told(self.end, KafkaError._PARTITION_EOF)]

    def position(self, parts: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, part.partition, self._read_to) for part in parts]

    def get_watermark_offsets(self, _: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self.end

    def seek(self, part: TopicPartition) -> None:
        if self._refused_seeks:
            self._refused_seeks -= 1
            raise KafkaException(KafkaError(KafkaError._STATE))
        assert 0 <= part.offset <= self.end
        self._at = part.offset


@pytest.mark.invariant("P1", "P7")
@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 60),
    st.integers(0, 2),
)
def test_what_lies_beside_unreadable_batches_is_read_once_and_in_order(
    batches: list[tuple[int, bool]], start: int, refused_seeks: int
) -> None:
    whole = sum(length for length, _ in batches)
    start = min(start, whole)
    log = Log(batches, at=start, refused_seeks=refused_seeks)
    sought, heard = UnreadableBatches(), list[tuple[int, bool]]()

    for _ in range(MAX_TURNS):
        messages = cast("list[Message]", log.poll())
        gaps, kept = sought.sift(cast("Any", log), messages, lambda _, __: start)
        heard += [(offset, False) for gap in gaps for offset in range(gap.first, gap.end)]
        at_end = False
        for message in kept:
            if message.error() is None:
                heard.append((message.offset() or 0, True))
            else:
                at_end = True
        if at_end:
            break

    there = [(at, good) for base, end, good in log.batches for at in range(base, end)]
    assert heard == [one for one in there if one[0] >= start]
    assert not sought.concern([])


def test_what_could_be_unpacked_the_second_time_is_no_gap() -> None:
    log = Log([(3, True), (2, False), (3, True)], at=0, refused_seeks=0)
    sought = UnreadableBatches()
    sought.sift(cast("Any", log), cast("list[Message]", log.poll()), lambda _, __: 0)
    log.batches[1] = (3, 5, True)

    gaps, kept = sought.sift(cast("Any", log), cast("list[Message]", log.poll()), lambda _, __: 0)

    assert gaps == []
    assert [message.offset() for message in kept] == [3, 4, 5, 6, 7, 8]
