"""How fast letters go: so many, so many a second, and only while the first ones end well."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from redrive.clock import Clock
from redrive.redriving.redrive_report import Done
from redrive.redriving.transaction_pages import MAX_PAGE

__all__ = ["BatchPacer", "Pacing"]

GUARDED_PAGE = 500
"""Letters that go between two looks at how the first ones end, at most."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How fast letters are to go.

    Args:
        limit: How many at most.
        rate: How many a second.
        canary: How many go first; the others follow when all of these have succeeded.
        stop_on_same_fingerprint: Stop when a run comes back with the failure of its letter.
        patience: How long canaries may take, counted from the latest end of one.
    """

    limit: int | None = None
    rate: float | None = None
    canary: int = 0
    stop_on_same_fingerprint: bool = False
    patience: timedelta = timedelta(minutes=5)


class Guard(Protocol):
    """Says whether the work may go on."""

    def may_go_on(self, *, wait: bool) -> bool:
        """Say so, by what is known now; `wait`: when all that went has ended."""
        ...


class BatchPacer:
    """Gives pages their size and their time.

    Args:
        clock: For the waits.
        limit: How many letters at most, or None.
        rate: How many a second, or None.
        canary: How many go first; 0 for none.
        guard: Asked before each page but the first, and to wait when the canaries are out.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limit: int | None = None,
        rate: float | None = None,
        canary: int = 0,
        guard: Guard | None = None,
    ) -> None:
        self._clock = clock
        self._left = limit
        self._rate = rate
        self._canaries = canary
        self._canary = canary > 0
        self._guard = guard
        self._next_at = 0.0
        self._went = 0

    def most(self) -> int:
        """Return how many letters may follow, once they may; 0 ends the work."""
        if self._left == 0 or not self._may_go_on():
            self._left = 0
            return 0
        self._wait()
        limits = [self._left, self._canaries or None]
        if self._guard is not None:
            limits.append(GUARDED_PAGE)
        if self._rate is not None:
            limits.append(max(1, int(self._rate)))
        return min((limit for limit in limits if limit is not None), default=MAX_PAGE)

    def went(self, done: list[Done]) -> None:
        """Hear what was done."""
        self._went += len(done)
        if self._left is not None:
            self._left = max(0, self._left - len(done))
        self._canaries = max(0, self._canaries - len(done))
        if self._rate is not None:
            begun = max(self._next_at, self._clock.monotonic())
            self._next_at = begun + len(done) / self._rate

    def _may_go_on(self) -> bool:
        if self._guard is None or not self._went:
            return True
        canaries_are_out = self._canary and self._canaries == 0
        self._canary = self._canary and not canaries_are_out
        return self._guard.may_go_on(wait=canaries_are_out)

    def _wait(self) -> None:
        wait_s = self._next_at - self._clock.monotonic()
        if wait_s > 0:
            self._clock.block(wait_s)
