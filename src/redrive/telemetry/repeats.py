"""What is said again and again, and logged once: one line when it is new, then a count a minute."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from redrive.clock import SYSTEM, Clock

__all__ = ["REPEATS", "Repeats"]

EVERY_S = 60.0
"""How often the count of something that goes on is logged, in seconds."""
MOST = 200
"""So many different things are remembered; the one that was logged first is forgotten first."""
_VARIES = re.compile(r"\(after [^)]*\)|\d+")


@dataclass(slots=True)
class _Said:
    logged_s: float
    times: int = 0


class Repeats:
    """Remembers what was said, without its numbers; for any thread.

    Args:
        clock: For the minutes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[tuple[str, ...], _Said] = {}
        self._lock = threading.Lock()

    def to_log(self, *what: object) -> dict[str, int] | None:
        """Say whether to log this, and with which count; None when a line has just said it.

        What has not been said for a minute is new again.
        """
        key = tuple(_VARIES.sub("#", str(part)) for part in what)
        now = self._clock.monotonic()
        with self._lock:
            said = self._said.get(key)
            if said is not None and now - said.logged_s < EVERY_S:
                said.times += 1
                return None
            self._said.pop(key, None)
            while len(self._said) >= MOST:
                del self._said[next(iter(self._said))]
            self._said[key] = _Said(now)
        return {} if said is None or not said.times else {"times": said.times + 1}

    def forget(self) -> None:
        """Let everything be new."""
        with self._lock:
            self._said.clear()


REPEATS = Repeats(SYSTEM)
"""That of all Kafka clients of this process: each new one meets what the one before it met."""
