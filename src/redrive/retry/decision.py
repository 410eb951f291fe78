"""The one place that chooses what follows a failed attempt: `decide`. It does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

from redrive.retry.kinds import Failure, Kind, Reason
from redrive.retry.retry_config import RETRYABLE, RetryConfig

__all__ = ["Decision", "GiveUp", "Retry", "decide"]


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not before `after_s` seconds have passed."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop: `reason` is the code that is published, `why` a sentence for people."""

    reason: Reason
    why: str


Decision = Retry | GiveUp

_OWN_REASONS = {Kind.POISON: Reason.UNREADABLE}


def decide(
    failure: Failure,
    *,
    failed_attempts: int,
    policy: RetryConfig,
    roll: float,
    remaining_s: float | None = None,
    reason: Reason | None = None,
) -> Decision:
    """Choose what follows a failed attempt; pure, and total over all its arguments.

    Args:
        failure: The failure, judged.
        failed_attempts: How many attempts have failed, this one included. Below 1 counts as 1.
        policy: How often and how long to retry. The retries of a kind are compared with all
            retries made so far, whatever their kinds were.
        roll: A number of [0, 1), for the jitter.
        remaining_s: Seconds until nobody wants the result any more, or None.
        reason: The failure's own reason (`reason_of`), used when its kind is never retried.
    """
    kind = failure.kind
    if kind not in RETRYABLE:
        chosen = reason or _OWN_REASONS.get(kind, Reason.PERMANENT)
        told = f": {failure.why}" if failure.why else ""
        return GiveUp(chosen, f"{kind.value} failure: a retry cannot help{told}")
    if remaining_s is not None and not remaining_s > 0:
        return GiveUp(Reason.DEADLINE, "the deadline has passed")
    failed = max(failed_attempts, 1)
    retries = policy.retries_for(kind)
    if failed > retries:  # [P5]
        return GiveUp(
            Reason.RETRIES_EXHAUSTED, f"{kind.value} failure: {failed} of {retries + 1} attempts"
        )
    after_s = _wait(failure.retry_after, retry_number=failed, policy=policy, roll=roll)
    retry = Retry(after_s)
    return retry if remaining_s is None else within(retry, remaining_s)


def within(retry: Retry, remaining_s: float) -> Decision:
    """Keep a retry that begins before the deadline, which is `remaining_s` seconds away."""
    # Written so that a NaN gives up as well. [P8]
    if not retry.after_s < remaining_s:
        return GiveUp(
            Reason.DEADLINE,
            f"a retry in {retry.after_s:.3g} s, with {remaining_s:.3g} s to the deadline",
        )
    return retry


def _wait(told: float | None, *, retry_number: int, policy: RetryConfig, roll: float) -> float:
    delay = policy.delay(retry_number, roll)
    if told is None or not told > 0:
        return delay
    # Many callers are told the same moment: spread them after it, never before. [P10]
    spread = roll * policy.initial_delay if policy.jitter else 0.0
    return max(delay, told + spread)
