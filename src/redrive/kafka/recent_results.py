"""The results that a reader saw last, so that a late waiter need not make it read them again.

Pure: no Kafka, no threads. Bounded by bytes; what falls out only costs a second reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["RecentResults", "SeenResult"]

MAX_BYTES = 16 * 2**20
ENTRY_BYTES = 200  # what an entry weighs beside its key and value


@dataclass(frozen=True, slots=True)
class SeenResult:
    """One record of the results topic, as it was read."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None

    def is_for(self, offsets: Mapping[int, int]) -> bool:
        """Return whether someone who waits from `offsets` on waits for this record too.

        A partition that they do not name was not there yet when they were taken.
        """
        return self.offset >= offsets.get(self.partition, 0)

    @property
    def weight_bytes(self) -> int:
        """What it costs to keep it."""
        return ENTRY_BYTES + len(self.key) + len(self.value or b"")


class RecentResults:
    """All results of each partition from its floor on, in the order in which they were read."""

    def __init__(self, *, limit_bytes: int = MAX_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._order: deque[SeenResult] = deque()
        self._by_key: dict[bytes, list[SeenResult]] = {}
        self._floors: dict[int, int] = {}

    def start(self, partition: int, offset: int) -> None:
        """Begin `partition` anew at `offset`: forget what was seen of it."""
        self._floors[partition] = offset
        kept = [seen for seen in self._order if seen.partition != partition]
        self._order.clear()
        self._by_key.clear()
        self._bytes = 0
        for seen in kept:
            self._keep(seen)

    def add(self, seen: SeenResult) -> None:
        """Keep a result; the oldest ones make room for it."""
        self._keep(seen)
        while self._bytes > self._limit_bytes:
            self._drop_oldest()

    def find(self, key: bytes, offsets: Mapping[int, int]) -> list[SeenResult]:
        """Return the kept results for `key` from `offsets` on, in the order they were read."""
        return [seen for seen in self._by_key.get(key, ()) if seen.is_for(offsets)]

    def covers(self, partition: int, offset: int) -> bool:
        """Return whether everything from `offset` to where the reader is now is still kept."""
        floor = self._floors.get(partition)
        return floor is not None and offset >= floor

    def clear(self) -> None:
        """Forget everything."""
        self._order.clear()
        self._by_key.clear()
        self._floors.clear()
        self._bytes = 0

    def _keep(self, seen: SeenResult) -> None:
        self._order.append(seen)
        self._by_key.setdefault(seen.key, []).append(seen)
        self._bytes += seen.weight_bytes

    def _drop_oldest(self) -> None:
        seen = self._order.popleft()
        self._bytes -= seen.weight_bytes
        same_key = self._by_key[seen.key]
        same_key.pop(0)
        if not same_key:
            del self._by_key[seen.key]
        self._floors[seen.partition] = seen.offset + 1
