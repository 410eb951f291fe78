"""What the code of a node may ask about the attempt that it runs in; set by the processor."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from redrive.clock import SYSTEM, Clock
from redrive.retry.config import RetryConfig

__all__ = ["CURRENT", "Current", "remaining_time"]


@dataclass(slots=True)
class Current:
    """One attempt, as its own nodes see it.

    Args:
        deadline: When it must have ended, in the clock's monotonic seconds; None for no limit.
        clock: Where time comes from.
        policy: The run's retry policy; None outside of a worker.
        failed_before: How many attempts of the run failed before this one.
        node_retries: How often a node of this attempt was tried again in place.
    """

    deadline: float | None = None
    clock: Clock = field(default=SYSTEM)
    policy: RetryConfig | None = None
    failed_before: int = 0
    node_retries: int = 0


CURRENT: ContextVar[Current | None] = ContextVar("redrive_attempt", default=None)
"""The attempt of this task, or of this thread of a sync node."""


def remaining_time() -> float | None:
    """Return the seconds that this attempt has left, 0 at least, or None when nothing limits it."""
    current = CURRENT.get()
    if current is None or current.deadline is None:
        return None
    return max(current.deadline - current.clock.monotonic(), 0.0)
