"""Letters that wait too long to be stored: each is offered elsewhere, and goes on waiting.

Belongs to the poll thread. Why a letter waits does not matter: its topic is gone or forbidden, it
is too large, or no broker answers. Its partition's offset does not move either way. [P6]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from redrive.clock import Clock
from redrive.consumer.outcome import Ending, Outcome, PolledRecord

__all__ = ["Overdue"]


class Overdue:
    """The outcomes with a letter that are not durable yet, the longest waiting first.

    Args:
        offer: Called with each one that has waited for `after_s`, and again after as long; must
            not block.
        after_s: How long is too long, in seconds.
        clock: For that.
    """

    def __init__(self, offer: Callable[[Outcome], None], *, after_s: float, clock: Clock) -> None:
        self._offer = offer
        self._after_s = after_s
        self._clock = clock
        self._due: dict[Outcome, float] = {}

    def waits(self, outcome: Outcome) -> None:
        """Take note of an outcome that is to be settled."""
        if outcome.ending is Ending.DEAD_LETTERED:
            self._due[outcome] = self._clock.monotonic() + self._after_s

    def stored(self, outcomes: Iterable[Outcome]) -> None:
        """Forget outcomes that are durable."""
        if self._due:
            for outcome in outcomes:
                self._due.pop(outcome, None)

    def look(self, holds: Callable[[PolledRecord], bool]) -> None:
        """Offer what is due; forget what belongs to the next owner of its partition.

        Args:
            holds: Whether the assignment under which an event came is still the one that holds.
        """
        now = self._clock.monotonic()
        while self._due:
            outcome, due = next(iter(self._due.items()))
            if due > now:
                return
            del self._due[outcome]
            if holds(outcome.polled):
                self._offer(outcome)
                self._due[outcome] = now + self._after_s
