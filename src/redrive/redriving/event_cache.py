"""The events of letters, kept from the first reading until they are sent, as many as may be."""

from __future__ import annotations

from typing import NamedTuple

from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving.extracts import LetterExtract

__all__ = ["MAX_KEPT_BYTES", "CachedEvent", "EventCache"]

MAX_KEPT_BYTES = 32 * 2**20
"""What the kept events of one partition take in memory at most, about."""

_OBJECTS_BYTES = 500


class CachedEvent(NamedTuple):
    """What of a letter goes into the records of a redrive.

    `tp` and `letter_key` are those of the letter's own record, the rest is the event's, byte for
    byte; `checkpoint_id` says where its run stopped, and `generation` on which of its event's own
    threads, where the letter knows.
    """

    tp: TopicPartition
    letter_key: bytes | None
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    checkpoint_id: str | None
    generation: int | None = None

    @classmethod
    def of(cls, record: ConsumerRecord, letter: LetterExtract) -> CachedEvent:
        """Take it out of a letter, and the record that holds it."""
        return cls(
            record.tp,
            record.key,
            letter.get("key"),
            tuple(letter.get("headers", ())),
            letter.get("value"),
            letter.get("checkpoint_id"),
            letter.get("generation"),
        )

    @property
    def size_bytes(self) -> int:
        """The bytes that it holds in memory, about."""
        size = len(self.letter_key or b"") + len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value or b"") + 150
        return size + _OBJECTS_BYTES


class EventCache:
    """Keeps originals by the offsets of their letters, within a limit.

    What finds no room is not kept: it lies on the topic, and is read again.
    """

    def __init__(self, limit_bytes: int = MAX_KEPT_BYTES) -> None:
        self._kept: dict[int, tuple[int, CachedEvent]] = {}
        self._left_bytes = limit_bytes

    def keep(self, offset: int, original: CachedEvent) -> None:
        """Keep it, where there is room."""
        size = original.size_bytes
        if size <= self._left_bytes:
            self._left_bytes -= size
            self._kept[offset] = size, original

    def take(self, offset: int) -> CachedEvent | None:
        """Give it away."""
        size, original = self._kept.pop(offset, (0, None))
        self._left_bytes += size
        return original

    def __contains__(self, offset: int) -> bool:
        return offset in self._kept
