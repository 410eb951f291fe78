"""How runs of one workflow are tried: how often, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field

from redrive.retry import RetryConfig

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Retries and time limits; all times are in seconds, None is no limit.

    Args:
        retry: How often a failed attempt is followed by another, and when.
        run_s: From the begin of the first attempt in this worker to the end of the run.
        attempt_s: One attempt.
        idle_s: An attempt in which no node moves.
    """

    retry: RetryConfig = field(default_factory=RetryConfig)
    run_s: float | None = None
    attempt_s: float | None = None
    idle_s: float | None = None
