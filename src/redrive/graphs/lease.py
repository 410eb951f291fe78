"""The lease of one attempt: may it still write? Nothing here knows what is written, or where."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from enum import StrEnum

from redrive.errors import StaleAttemptError

__all__ = ["Lease", "LeaseState", "LeaseSuspendedError", "LoopProbe"]

_LOOK_S = 0.05
_LOOP_ANSWERS_S = 0.5
"""An event loop that takes longer to answer is blocked: by the call that waits, as it seems."""


class LeaseSuspendedError(Exception):
    """The partition is away: the write is to wait. Never leaves the guard."""


class LeaseState(StrEnum):
    """What an attempt may do with its thread."""

    HELD = "held"
    AWAY = "away"
    STALE = "stale"


class Lease:
    """One attempt's right to write to its thread; once stale, stale for ever.

    It is away while its partition is between two assignments: then every write waits, until the
    partition is back or has gone. It goes stale when the attempt ended (`end`), when its partition
    went to another worker, or when the poll thread has not polled for longer than the session
    timeout: then the partition may have gone without our knowing. The poll thread is asked itself:
    what it tells the event loop comes later.

    Safe from any thread. It belongs to the event loop on which it was made, if it was on one: a
    thread that waits must not keep that loop from hearing what would end its waiting.

    Args:
        gap_s: Seconds since the poll thread last polled; None where no partition is held.
        kept: Says whether the assignment still holds, or may come to hold again. A gap has ended
            only after what it cost can be seen here.
        limit_s: The session timeout, in seconds.
    """

    __slots__ = ("_changed", "_gap_s", "_kept", "_limit_s", "_loop", "_why")

    def __init__(
        self,
        *,
        gap_s: Callable[[], float] | None = None,
        kept: Callable[[], bool] | None = None,
        limit_s: float = math.inf,
    ) -> None:
        self._gap_s = gap_s
        self._kept = kept
        self._limit_s = limit_s
        self._why: str | None = None
        # Set by what ends the time away; None while held.
        self._changed: threading.Event | None = None
        self._loop = _running_loop()

    def suspend(self) -> None:
        """Let writes wait."""
        if self._changed is None:
            self._changed = threading.Event()

    def resume(self) -> None:
        """Let writes pass again."""
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    def end(self, why: str = "the attempt has ended") -> None:
        """Refuse every write from now on; the first reason stays."""
        if self._why is None:
            self._why = why
        self.resume()

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
        if self._why is None and self._kept is not None and not self._kept():
            self.end("its partition has gone to another worker")
        if self._why is not None:
            return LeaseState.STALE
        return LeaseState.HELD if self._changed is None else LeaseState.AWAY

    def check(self) -> None:
        """Return while the attempt may write; a thread waits here until it may.

        A graph's `invoke()` in async code blocks the event loop for as long as its writes wait, on
        whatever thread they do: such an attempt is ended, and tried again later.

        Raises:
            StaleAttemptError: It may not; the message says why. Also while it is away, where
                waiting would block an event loop.
        """
        probe: LoopProbe | None = None
        while (state := self.state) is LeaseState.AWAY:
            probe = probe or self.probe()
            if probe.is_blocked(_LOOP_ANSWERS_S):
                self.end("its partition is between two assignments, and waiting blocks the loop")
                continue
            changed = self._changed
            if changed is not None:
                changed.wait(_LOOK_S)
        if state is LeaseState.STALE:
            raise StaleAttemptError(f"{_NOTHING}: {self._why}")

    def check_now(self) -> None:
        """Return if the attempt may write at this moment; never wait.

        Raises:
            StaleAttemptError: It never may again.
            LeaseSuspendedError: Its partition is away.
        """
        state = self.state
        if state is LeaseState.AWAY:
            raise LeaseSuspendedError
        if state is LeaseState.STALE:
            raise StaleAttemptError(f"{_NOTHING}: {self._why}")

    def probe(self) -> LoopProbe:
        """Return what finds out whether a thread that waits for this attempt blocks its loop."""
        return LoopProbe(self._loop)

    async def admit(self) -> None:
        """Return as soon as the attempt may write.

        Raises:
            StaleAttemptError: It never may again.
        """
        await self.confirm()

    async def confirm(self) -> None:
        """Return as soon as it is known that what was written just now still counts.

        Raises:
            StaleAttemptError: It does not: the attempt is to go no further.
        """
        # Any thread may end it, and so may time.
        while self.state is LeaseState.AWAY:  # noqa: ASYNC110 - as said
            await asyncio.sleep(_LOOK_S)
        self.check()


_NOTHING = "nothing of this attempt may be written"


class LoopProbe:
    """Finds out, for a thread that waits, whether an event loop still moves meanwhile.

    Args:
        loop: The loop; None for no loop but that of the thread itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._asked_at: float | None = None
        self._answered = threading.Event()

    def is_blocked(self, patience_s: float) -> bool:
        """Say whether this thread runs a loop, or the loop has not answered for so many seconds.

        Ask it again and again while waiting: the first time says nothing about the loop yet.
        """
        if _running_loop() is not None:
            return True
        # A loop's patience is real time, whatever clock the worker has.
        now = time.monotonic()
        if self._loop is None:
            return False
        if self._asked_at is None or self._answered.is_set():
            self._answered.clear()
            self._asked_at = now
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # It was closed: nobody waits on it.
                self._answered.set()
            return False
        return now - self._asked_at > patience_s


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
