"""A static member's seat in its group: whether who took it may have been ourselves.

A broker that stood still finds two requests to join of one worker, which gave up on the first, and
may take them in either order; the later one then fences the other, and nothing tells that from
another worker with the same id. A worker that joined a moment ago therefore joins once more. Two
workers with one id take the seat from each other at most once each, and then one of them ends.
"""

from __future__ import annotations

from redrive.clock import Clock

__all__ = ["ECHO_S", "Seat"]

ECHO_S = 30.0
"""A member that has been in the group for longer, in seconds, is fenced by another worker."""


class Seat:
    """What a member knows of its own joining; used on the poll thread only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._joined_again = False

    @property
    def was_taken(self) -> bool:
        """Whether this member has ever been in the group."""
        return self._since is not None

    def taken(self) -> None:
        """Note that the group has let us in, or has dealt its partitions anew."""
        if self._is_steady():
            self._joined_again = False
        self._since = self._clock.monotonic()

    def may_join_again(self) -> bool:
        """Say whether a fence may be the echo of our own joining; the answer is yes once."""
        may = not (self._is_steady() or self._joined_again)
        self._joined_again = True
        return may

    def _is_steady(self) -> bool:
        return self._since is not None and self._clock.monotonic() - self._since > ECHO_S
