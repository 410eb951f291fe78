"""What waits for its time: a heap by due time. Times are the caller's monotonic seconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

__all__ = ["DelayQueue"]

Item = TypeVar("Item")


class DelayQueue(Generic[Item]):
    """Items that may not go on before their due time; equal times keep their order."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._order = count()

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._heap)

    @property
    def next_due(self) -> float | None:
        """The earliest due time, in monotonic seconds, or None when nothing waits."""
        # Looked at once: another thread may ask while the last item is taken.
        first = self._heap[:1]
        return first[0][0] if first else None

    def put(self, due: float, item: Item) -> None:
        """Let `item` wait until `due` (monotonic seconds)."""
        heapq.heappush(self._heap, (due, next(self._order), item))

    def take(self, now: float) -> Item | None:
        """Return the item that has been due the longest, or None when none is due."""
        if self._heap and self._heap[0][0] <= now:
            return heapq.heappop(self._heap)[2]
        return None

    def drop(self, gone: Callable[[Item], bool]) -> list[Item]:
        """Take out every item that is `gone`, and return them."""
        out = [entry[2] for entry in self._heap if gone(entry[2])]
        self._heap = [entry for entry in self._heap if not gone(entry[2])]
        heapq.heapify(self._heap)
        return out
