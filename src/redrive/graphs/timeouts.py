"""How long one attempt may take, and what ends it there. What becomes of it is decided elsewhere.

Real time: a limit strikes by the machine's own clock, whatever clock the rest is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from redrive.clock import SYSTEM, later
from redrive.errors import AttemptTimeoutError, DeadlineError, IdleTimeoutError

__all__ = ["NO_LIMITS", "Limit", "TimeLimits", "hold"]

Limit = DeadlineError | AttemptTimeoutError | IdleTimeoutError

# Less than the second that a stopping worker gives to runs that it had to cut.
_UNWIND_S = 0.8


class Moves(Protocol):
    """Knows when a node last moved."""

    at: float
    """Real monotonic seconds."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long one attempt may take, in seconds from now; None for no limit.

    Args:
        deadline_s: Then nobody wants the run's result any more. It comes before the attempt's own
            limit where both fall together.
        attempt_s: The whole attempt.
        idle_s: Between two signs of progress: a checkpoint write, a callback event, a heartbeat.
    """

    deadline_s: float | None = None
    attempt_s: float | None = None
    idle_s: float | None = None

    def ends_at(self, now: float) -> float | None:
        """Return when the attempt must have ended: the earlier of deadline and its own limit."""
        given = [limit for limit in (self.deadline_s, self.attempt_s) if limit is not None]
        return now + min(given) if given else None

    def deadline(self, now: datetime) -> datetime | None:
        """Return the deadline as a time of day, from `now` on; the last one there is at most."""
        if self.deadline_s is None:
            return None
        return later(now, self.deadline_s)


NO_LIMITS = TimeLimits()


async def hold(
    task: asyncio.Task[Any], limits: TimeLimits, *, progress: Moves, stop: Callable[[], None]
) -> Limit | None:
    """Return None when the task is done, or the limit that it reached.

    At a limit, and when the caller is cancelled, the task is cancelled once and has a moment to
    unwind. After that it may still run: nothing waits for it, and what it raises is dropped.

    Args:
        task: One attempt.
        limits: Counted from now.
        progress: When a node last moved.
        stop: Asks a node that swallows its cancellation to be the last one.
    """
    task.add_done_callback(_take_notice)
    try:
        struck = await _wait(task, limits, progress)
    except asyncio.CancelledError:
        await _end(task, stop)
        raise
    if struck is not None:
        await _end(task, stop)
    return struck


async def _wait(task: asyncio.Task[Any], limits: TimeLimits, progress: Moves) -> Limit | None:
    began = SYSTEM.monotonic()
    while not task.done():
        now = SYSTEM.monotonic()
        idle_s = now - progress.at
        struck = _struck(limits, passed_s=now - began, idle_s=idle_s)
        if struck is not None:
            return struck
        left_s = _left_s(limits, passed_s=now - began, idle_s=idle_s)
        await asyncio.wait((task,), timeout=left_s)
    return None


def _struck(limits: TimeLimits, *, passed_s: float, idle_s: float) -> Limit | None:
    if limits.deadline_s is not None and passed_s >= limits.deadline_s:
        return DeadlineError()
    if limits.attempt_s is not None and passed_s >= limits.attempt_s:
        return AttemptTimeoutError(limits.attempt_s)
    if limits.idle_s is not None and idle_s >= limits.idle_s:
        return IdleTimeoutError(limits.idle_s)
    return None


def _left_s(limits: TimeLimits, *, passed_s: float, idle_s: float) -> float | None:
    left_s = [
        limit - used_s
        for limit, used_s in (
            (limits.deadline_s, passed_s),
            (limits.attempt_s, passed_s),
            (limits.idle_s, idle_s),
        )
        if limit is not None
    ]
    return min(left_s, default=None)


async def _end(task: asyncio.Task[Any], stop: Callable[[], None]) -> None:
    stop()
    # Once: a second one would tear LangGraph away from the nodes that it waits for.
    task.cancel()
    await asyncio.wait((task,), timeout=_UNWIND_S)


def _take_notice(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
