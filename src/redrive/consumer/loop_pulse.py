"""When the event loop last moved, for other threads to see."""

from __future__ import annotations

import asyncio

from redrive.clock import Clock
from redrive.kafka.log import Pulse

__all__ = ["LoopPulse"]

_EVERY_S = 0.5


class LoopPulse:
    """Beats on an event loop, as long as that turns.

    Args:
        clock: For the time between two beats.
    """

    def __init__(self, clock: Clock) -> None:
        self._pulse = Pulse(clock)
        self._next: asyncio.TimerHandle | None = None

    @property
    def still_s(self) -> float:
        """For how long the loop has not moved, in seconds; may be read from any thread."""
        return max(self._pulse.gap_s() - _EVERY_S, 0.0)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._beat()

    def stop(self) -> None:
        """Beat no more."""
        if self._next is not None:
            self._next.cancel()

    def _beat(self) -> None:
        self._pulse.beat()
        self._next = asyncio.get_running_loop().call_later(_EVERY_S, self._beat)
