"""Who may run next: partitions take turns, and events of one thread run one after the other.

Pure bookkeeping of the event loop: items in, the next startable one out. Capacity over all
partitions (`worker.in_flight`) is the caller's; the limit per partition is here. [P7, P9]
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from redrive.state.commit_metadata import MAX_ENTRIES

__all__ = ["KeyOrderedQueue"]

Item = TypeVar("Item")


@dataclass(slots=True)
class _Partition(Generic[Item]):
    ready: deque[tuple[str, Item]] = field(default_factory=deque)
    parked: dict[str, deque[tuple[str, Item]]] = field(default_factory=dict)
    # None: nothing waits behind the first one of the thread, as for nearly all of them.
    ordered: dict[str, deque[Item] | None] = field(default_factory=dict)
    open: int = 0


class KeyOrderedQueue(Generic[Item]):
    """Items waiting to start, by partition and thread.

    Args:
        max_open: Items of one partition that may have started and not ended, held ones included.
    """

    def __init__(self, *, max_open: int = MAX_ENTRIES) -> None:
        self._max_open = max_open
        self._partitions: dict[Hashable, _Partition[Item]] = {}
        self._turns: deque[Hashable] = deque()
        self._parked = Counter[str]()
        self.behind = 0
        """How many items wait behind another one of their thread."""

    @property
    def ready(self) -> tuple[int, int]:
        """How many items wait for their turn; of how many more the partition has enough open."""
        counts = [0, 0]
        for home in self._partitions.values():
            counts[home.open >= self._max_open] += len(home.ready)
        return counts[0], counts[1]

    def parked(self, group: str) -> int:
        """Return how many items are parked in a group."""
        return self._parked[group]

    def __len__(self) -> int:
        """Return how many items wait to start."""
        return sum(1 for _ in self._waiting())

    def put(self, partition: Hashable, thread: str, item: Item) -> bool:
        """Let `item` wait for its turn; False if that is behind another one of its thread."""
        home = self._partitions.get(partition)
        if home is None:
            home = self._partitions[partition] = _Partition()
            self._turns.append(partition)
        if thread not in home.ordered:
            home.ordered[thread] = None
            home.ready.append((thread, item))
            return True
        self.behind += 1
        lane = home.ordered[thread]
        if lane is None:
            home.ordered[thread] = deque((item,))
        else:
            lane.append(item)
        return False

    def take(self, parks: Callable[[Item], str | None] = lambda _: None) -> Item | None:
        """Return the next item that may start, or None; partitions take turns.

        An item for which `parks` names a group waits, unstarted, until that group is let go.
        """
        for _ in range(len(self._turns)):
            home = self._partitions[self._turns[0]]
            self._turns.rotate(-1)
            while home.ready and home.open < self._max_open:
                thread, item = home.ready.popleft()
                group = parks(item)
                if group is None:
                    home.open += 1
                    return item
                home.parked.setdefault(group, deque()).append((thread, item))
                self._parked[group] += 1
        return None

    def take_parked(self, group: str, parks: Callable[[Item], str | None]) -> Item | None:
        """Return the next parked item of a group that may start, or None; partitions take turns."""
        for _ in range(len(self._turns)):
            home = self._partitions[self._turns[0]]
            self._turns.rotate(-1)
            waiting = home.parked.get(group)
            while waiting and home.open < self._max_open:
                thread, item = waiting.popleft()
                self._parked[group] -= 1
                other = parks(item)
                if other is None:
                    home.open += 1
                    return item
                home.parked.setdefault(other, deque()).append((thread, item))
                self._parked[other] += 1
                if other == group:
                    break
        return None

    def let_go(self, group: str, *, of: Hashable | None = None) -> None:
        """Let the parked items of a group have their turn again, before those that came later.

        Args:
            group: Which.
            of: The partition that has them all, where there is one.
        """
        self._parked.pop(group, None)
        homes = self._partitions.values() if of is None else [self._partitions.get(of)]
        for home in homes:
            if home is not None:
                home.ready.extendleft(reversed(home.parked.pop(group, ())))

    def release(self, partition: Hashable, thread: str) -> None:
        """Say that the started item of `thread` has ended: the next of its thread may start."""
        home = self._partitions.get(partition)
        if home is None or thread not in home.ordered:
            return
        home.open -= 1
        lane = home.ordered[thread]
        if lane:
            # Older offsets first: they are what holds the commit back.
            home.ready.appendleft((thread, lane.popleft()))
            self.behind -= 1
        else:
            del home.ordered[thread]

    def drop(self, partition: Hashable) -> None:
        """Forget everything of a partition that is no longer ours."""
        home = self._partitions.pop(partition, None)
        if home is not None:
            self._parked -= Counter({group: len(items) for group, items in home.parked.items()})
            self.behind -= sum(len(lane or ()) for lane in home.ordered.values())
            self._turns.remove(partition)

    def _waiting(self) -> Iterator[Item]:
        for home in self._partitions.values():
            for waiting in (home.ready, *home.parked.values()):
                yield from (item for _, item in waiting)
            for lane in home.ordered.values():
                yield from lane or ()
