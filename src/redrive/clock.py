"""Time, sleep, dice and ids: the one file that asks the machine for them.

Everything else takes a `Clock`, so that a test turns it by hand (`redrive.testing.ManualClock`).
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "SystemClock", "later", "moment"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


class Clock(Protocol):
    """What redrive asks of the machine it runs on."""

    def now(self) -> datetime:
        """Return the wall time, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...

    def random(self) -> float:
        """Return a number of [0, 1)."""
        ...

    def new_id(self) -> str:
        """Return a random UUID as text."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        ...

    def block(self, seconds: float) -> None:
        """Wait in this thread."""
        ...


class SystemClock:
    """The machine's own clock and dice."""

    def now(self) -> datetime:
        """Return the wall time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    def random(self) -> float:
        """Return a number of [0, 1)."""
        return random.random()  # noqa: S311 - jitter, not a secret

    def new_id(self) -> str:
        """Return a random UUID as text."""
        return str(uuid.uuid4())

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        await asyncio.sleep(seconds)

    def block(self, seconds: float) -> None:
        """Wait in this thread."""
        time.sleep(seconds)


SYSTEM = SystemClock()


def moment(epoch_ms: float) -> datetime:
    """Return a time that was counted in milliseconds since 1970, whatever was counted.

    Producers have written microseconds, and times before 1 or after 9999 are none that a date can
    hold: of these it is the first or the last one, but for a day, so that one can reckon with it.
    """
    return within_reach(later(_EPOCH, epoch_ms / 1000))


def within_reach(at: datetime) -> datetime:
    """Return a time with a zone as it is, unless one could not reckon with it.

    Whoever writes a record chooses its times and their zones: one at the edge of what a date can
    hold has none in UTC, and an hour later there is none at all. (P7)
    """
    return _FIRST if at < _FIRST else min(at, _LAST)


def later(at: datetime, seconds: float) -> datetime:
    """Return the time so long after another; the first or the last one that there is at most."""
    try:
        return at + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        if seconds < 0:
            return datetime.min.replace(tzinfo=at.tzinfo)
        return datetime.max.replace(tzinfo=at.tzinfo)
