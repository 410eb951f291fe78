"""The lease of one attempt: may it still write? Nothing here knows what is written, or where."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum

from redrive.errors import StaleAttemptError

__all__ = ["Lease", "LeaseState"]


class LeaseState(StrEnum):
    """What an attempt may do with its thread."""

    HELD = "held"
    STALE = "stale"


class Lease:
    """One attempt's right to write to its thread; once stale, stale for ever.

    It goes stale when the attempt ended, when its partition went to another worker (both through
    `end`), or when the poll thread has not polled for longer than the session timeout: then the
    partition may have gone without our knowing.

    Safe from any thread: the only change is one reference, from None to the reason.

    Args:
        gap_s: Seconds since the poll thread last polled; None where no partition is held.
        limit_s: The session timeout, in seconds.
    """

    __slots__ = ("_gap_s", "_limit_s", "_why")

    def __init__(
        self, *, gap_s: Callable[[], float] | None = None, limit_s: float = math.inf
    ) -> None:
        self._gap_s = gap_s
        self._limit_s = limit_s
        self._why: str | None = None

    def end(self, why: str = "the attempt has ended") -> None:
        """Refuse every write from now on; the first reason stays."""
        if self._why is None:
            self._why = why

    @property
    def state(self) -> LeaseState:
        """Whether the attempt may write now."""
        if self._why is None and self._gap_s is not None:
            gap_s = self._gap_s()
            if gap_s > self._limit_s:
                self.end(
                    f"the broker was not polled for {gap_s:.1f} s, "
                    f"more than the session timeout of {self._limit_s:g} s"
                )
        return LeaseState.HELD if self._why is None else LeaseState.STALE

    def check(self) -> None:
        """Return while the attempt may write.

        Raises:
            StaleAttemptError: It may not; the message says why.
        """
        if self.state is LeaseState.STALE:
            raise StaleAttemptError(f"nothing of this attempt may be written: {self._why}")

    async def admit(self) -> None:
        """Return as soon as the attempt may write.

        Raises:
            StaleAttemptError: It never may again.
        """
        self.check()
