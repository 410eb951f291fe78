"""Outcomes that wait to be settled, in order; which of them go into the next batch.

Belongs to the poll thread. What cannot be stored now waits apart (`consumer/apart.py`), so that it
aborts nobody else's batch; what belongs to a partition that is away waits until it is back, or has
gone; and what no note could tell of waits for the events before it. [P2, P3, P7]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

from redrive.consumer.apart import Apart
from redrive.consumer.outcome import Outcome, PolledRecord
from redrive.kafka.log import TopicPartition

__all__ = ["PendingOutcomes"]

MAX_BATCH = 1_000


class PendingOutcomes:
    """The outcomes of one worker that are not in a batch.

    Args:
        holds: Whether the assignment under which an event came is the one that holds now.
        keeps: The same, or it may come to hold again.
        apart: Takes what cannot be stored now.
    """

    def __init__(
        self,
        *,
        holds: Callable[[PolledRecord], bool],
        keeps: Callable[[PolledRecord], bool],
        apart: Apart,
    ) -> None:
        self._holds = holds
        self._keeps = keeps
        self._apart = apart
        self._line: deque[Outcome] = deque()
        self._away: list[Outcome] = []
        self._beyond: dict[TopicPartition, list[Outcome]] = {}

    def __len__(self) -> int:
        beyond = sum(map(len, tuple(self._beyond.values())))
        return len(self._line) + len(self._away) + len(self._apart) + beyond

    @property
    def line(self) -> int:
        """How many wait for nothing but a batch; may be read from any thread."""
        return len(self._line)

    @property
    def has_next(self) -> bool:
        """Whether an outcome waits for nothing but the next batch."""
        return bool(self._line)

    def put(self, outcome: Outcome) -> None:
        """Let an outcome wait behind the others."""
        self._line.append(outcome)

    def put_back(self, outcome: Outcome) -> None:
        """Let an outcome wait before the others."""
        self._line.appendleft(outcome)

    def put_beyond(self, outcome: Outcome) -> None:
        """Let an outcome wait for those of its partition that come before it."""
        self._beyond.setdefault(outcome.polled.tp, []).append(outcome)

    def settled(self, tps: Iterable[TopicPartition]) -> None:
        """Let go on what waited for others of these partitions: some of them are settled."""
        for tp in tps:
            self._line.extendleft(reversed(self._beyond.pop(tp, ())))

    def resume(self, tps: Collection[TopicPartition]) -> None:
        """Let go on what waited for partitions that were away: they are back, or have gone."""
        self.settled(tps)
        for outcome in reversed(self._away):
            if outcome.polled.tp in tps:
                self._line.appendleft(outcome)
        self._away = [o for o in self._away if o.polled.tp not in tps]

    def take(self, max_bytes: int) -> list[Outcome]:
        """Return what to settle now: the first, and those behind it that fit with it."""
        outcomes: list[Outcome] = []
        size = 0
        while self._line and len(outcomes) < MAX_BATCH:
            size += self._line[0].size_bytes
            if outcomes and size > max_bytes:
                break
            outcome = self._line.popleft()
            if not self._may_go(outcome) or self._apart.takes(outcome):
                size -= outcome.size_bytes
            else:
                outcomes.append(outcome)
        return outcomes

    def _may_go(self, outcome: Outcome) -> bool:
        if self._holds(outcome.polled):
            return True
        # An outcome of an assignment that is over belongs to the next owner. [P2]
        if self._keeps(outcome.polled):
            self._away.append(outcome)
        return False
