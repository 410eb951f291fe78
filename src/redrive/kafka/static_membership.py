"""A static member's seat in its group: whether who took it may have been ourselves.

A broker that stood still finds two requests to join of one worker, which gave up on the first, and
may take them in either order; the later one then fences the other, and nothing tells that from
another worker with the same id. A worker that has just joined, for the first time or after a
silence, therefore joins once more. Of two workers with one id that take the seat from each other,
one ends.

With KIP-848 nobody takes a seat: who comes second is refused while the first one's session lasts,
also when the first one is dead. So it waits for as long as a session may last.
"""

from __future__ import annotations

from redrive.clock import Clock

__all__ = ["ECHO_S", "HELD_S", "StaticMembership"]

ECHO_S = 30.0
"""A member that has been in the group for longer, in seconds, is fenced by another worker."""

HELD_S = 75.0
"""A seat that is still another's after so many seconds is that of a worker that lives.

The broker's `group.consumer.max.session.timeout.ms` is 60 s by default.
"""


class StaticMembership:
    """What a member knows of its own joining; used on the poll thread only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._may_echo = True
        self._refused_since: float | None = None

    @property
    def was_taken(self) -> bool:
        """Whether this member has ever been in the group."""
        return self._since is not None

    def taken(self) -> None:
        """Note that the group has let us in, or has dealt its partitions anew."""
        self._since = self._clock.monotonic()
        self._refused_since = None

    def lost(self) -> None:
        """Note that the group has heard nothing of us for too long: we ask to join anew."""
        self._may_echo = True

    def may_join_again(self) -> bool:
        """Say whether a fence may be the echo of our own joining; yes once for each joining."""
        long_ago = self._since is not None and self._clock.monotonic() - self._since > ECHO_S
        may, self._may_echo = self._may_echo and not long_ago, False
        return may

    def may_wait(self) -> bool:
        """Say whether who holds our seat may be dead: its session has not ended for sure."""
        now = self._clock.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since < HELD_S
