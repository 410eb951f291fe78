"""Time, sleep, dice and ids: the one file that asks the machine for them.

Everything else takes a `Clock`, so that a test turns it by hand (`redrive.testing.TurnedClock`).
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "SystemClock"]


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
