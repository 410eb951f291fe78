"""Outcomes that wait to be settled, in order; which of them go into the next batch.

Belongs to the poll thread. What a topic refused waits apart, so that it aborts nobody else's batch;
what belongs to a partition that is away waits until it is back, or has gone. [P2, P7]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from redrive.consumer.outcome import Delivery, Outcome
from redrive.kafka.log import Place
from redrive.state.dues import Dues

__all__ = ["Waiting"]

MAX_BATCH = 1_000
MAX_BATCH_BYTES = 4 * 2**20


class Waiting:
    """The outcomes of one worker that are not in a batch.

    Args:
        holds: Whether the assignment under which an event came is the one that holds now.
        keeps: The same, or it may come to hold again.
    """

    def __init__(
        self, *, holds: Callable[[Delivery], bool], keeps: Callable[[Delivery], bool]
    ) -> None:
        self._holds = holds
        self._keeps = keeps
        self._line: deque[Outcome] = deque()
        self._alone: Dues[Outcome] = Dues()
        self._apart: list[Outcome] = []
        self._was_alone = False

    def __len__(self) -> int:
        return len(self._line) + len(self._alone) + len(self._apart)

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

    def put_alone(self, outcome: Outcome, *, due: float) -> None:
        """Let an outcome wait until `due`, for a batch of its own; in monotonic seconds."""
        self._alone.put(due, outcome)

    def back(self, places: Collection[Place]) -> None:
        """Let go on what waited for partitions that were away: they are back, or have gone."""
        for outcome in reversed(self._apart):
            if outcome.delivery.place in places:
                self._line.appendleft(outcome)
        self._apart = [o for o in self._apart if o.delivery.place not in places]

    def take(self, now: float) -> list[Outcome]:
        """Return what to settle now: a refused one by itself when it is due, else all that fit."""
        # They take turns with the others, else many that are refused would hold up all. [P7]
        if not (self._was_alone and self._line):
            while (due := self._alone.take(now)) is not None:
                if self._may_go(due):
                    self._was_alone = True
                    return [due]
        self._was_alone = False
        outcomes: list[Outcome] = []
        size = 0
        while self._line and len(outcomes) < MAX_BATCH and size < MAX_BATCH_BYTES:
            outcome = self._line.popleft()
            if self._may_go(outcome):
                outcomes.append(outcome)
                size += outcome.size_bytes
        return outcomes

    def _may_go(self, outcome: Outcome) -> bool:
        if self._holds(outcome.delivery):
            return True
        # An outcome of an assignment that is over belongs to the next owner. [P2]
        if self._keeps(outcome.delivery):
            self._apart.append(outcome)
        return False
