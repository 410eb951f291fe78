"""A clock for tests: time stands still until a hand turns it; sleeps are recorded."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

__all__ = ["ManualClock"]

_START = datetime(2026, 1, 1, tzinfo=UTC)
# Rounds of the event loop that a woken task may need until it sleeps again.
_ROUNDS = 20


class ManualClock:
    """Implements `redrive.clock.Clock`; may be turned from any thread.

    Args:
        start: The wall time at the beginning, with a time zone.
        roll: What `random` returns; set the attribute to change it.
        hands_free: A sleep turns the clock itself and returns at once, for tests that only look
            at `sleeps`. `block` always does, because nobody else could turn the clock.
    """

    def __init__(
        self, *, start: datetime = _START, roll: float = 0.5, hands_free: bool = False
    ) -> None:
        self.roll = roll
        self.sleeps: list[float] = []
        """Seconds asked for by every `sleep` and `block` so far."""
        self._start = start
        self._passed_s = 0.0
        self._hands_free = hands_free
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    @property
    def sleeping(self) -> int:
        """Return how many tasks sleep now."""
        with self._lock:
            return sum(not future.done() for _, _, future in self._sleepers)

    def now(self) -> datetime:
        """Return the wall time, in UTC."""
        return (self._start + timedelta(seconds=self._passed_s)).astimezone(UTC)

    def monotonic(self) -> float:
        """Return the seconds that were turned so far."""
        return self._passed_s

    def random(self) -> float:
        """Return `roll`."""
        return self.roll

    def new_id(self) -> str:
        """Return a UUID as text: the first, the second, the third of this clock."""
        return str(uuid.UUID(int=next(self._numbers), version=4))

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been turned that far."""
        self.sleeps.append(seconds)
        if self._hands_free:
            self.advance(seconds)
        if self._hands_free or seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            heapq.heappush(self._sleepers, (self._passed_s + seconds, next(self._numbers), future))
        await future

    def block(self, seconds: float) -> None:
        """Turn the clock by that much; it does not wait."""
        self.sleeps.append(seconds)
        self.advance(max(seconds, 0.0))

    def advance(self, seconds: float) -> None:
        """Turn the clock, and wake what sleeps no longer than that."""
        if seconds < 0:
            raise ValueError(f"{seconds!r} s: this clock does not run backwards either")
        with self._lock:
            self._passed_s += seconds
            while self._sleepers and self._sleepers[0][0] <= self._passed_s:
                _, _, future = heapq.heappop(self._sleepers)
                if not future.get_loop().is_closed():
                    future.get_loop().call_soon_threadsafe(_wake, future)

    async def turn(self, seconds: float) -> None:
        """Turn the clock from one sleeper to the next, and let each run in its own time."""
        end = self._passed_s + seconds
        await self._settle()
        while (due := self._next_due()) is not None and due <= end:
            self.advance(max(due - self._passed_s, 0.0))
            await self._settle()
        self.advance(max(end - self._passed_s, 0.0))
        await self._settle()

    async def wait_for_sleepers(self, count: int = 1, *, within_s: float = 5.0) -> None:
        """Wait until `count` tasks sleep on this clock.

        Raises:
            TimeoutError: They do not, within that many real seconds.
        """
        deadline = time.monotonic() + within_s
        while self.sleeping < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.sleeping} of {count} tasks sleep after {within_s} s")
            await asyncio.sleep(0.001)

    def _next_due(self) -> float | None:
        with self._lock:
            return min(
                (due for due, _, future in self._sleepers if not future.done()), default=None
            )

    async def _settle(self) -> None:
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
