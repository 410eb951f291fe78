"""What would follow if an error came again and again: the waits before its retries, and the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from redrive.retry.decision import GiveUp, Retry, decide
from redrive.retry.kinds import Failure, Reason
from redrive.retry.retry_config import RetryConfig

__all__ = ["Outlook", "OutlookWait", "outlook"]

_HIGHEST_ROLL = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, slots=True)
class OutlookWait:
    """The seconds before one retry, between these two: the jitter decides."""

    least_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """The waits before all retries, and what ends them."""

    waits: tuple[OutlookWait, ...]
    end: GiveUp


def outlook(failure: Failure, *, policy: RetryConfig, reason: Reason | None = None) -> Outlook:
    """Ask `decide` about attempts that all fail with this failure, at once.

    Args:
        failure: The failure, judged.
        policy: How often and how long to retry. Of a `total_limit` the attempts themselves use
            nothing here, and the waits their least: there may be fewer retries, never more.
        reason: The failure's own reason (`reason_of`).
    """
    waits: list[OutlookWait] = []
    left_s = policy.total_limit_s
    while True:
        failed = len(waits) + 1
        soonest = decide(
            failure,
            failed_attempts=failed,
            policy=policy,
            roll=0.0,
            remaining_s=left_s,
            reason=reason,
        )
        if isinstance(soonest, GiveUp):
            return Outlook(tuple(waits), soonest)
        latest = decide(failure, failed_attempts=failed, policy=policy, roll=_HIGHEST_ROLL)
        assert isinstance(latest, Retry)  # noqa: S101 - the roll changes the wait, not the choice
        waits.append(OutlookWait(soonest.after_s, latest.after_s))
        left_s = None if left_s is None else left_s - soonest.after_s
