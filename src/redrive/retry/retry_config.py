"""How often and how long one thing is retried: `RetryConfig`. Whether to, `decision.py` says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from redrive.retry.backoff import Backoff, Exponential, check_number
from redrive.retry.kinds import Kind
from redrive.retry.shapes import is_async

__all__ = ["RETRYABLE", "RetryConfig"]

RETRYABLE = frozenset({Kind.TRANSIENT, Kind.RATE_LIMITED, Kind.TIMEOUT, Kind.UNKNOWN})


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """A policy of retries. All times are in seconds.

    Args:
        max_retries: Retries after the first attempt; attempts are one more.
        initial_delay: The wait before the first retry.
        max_delay: No wait is longer, unless a service asked for more (Retry-After).
        exponential_base: The wait is multiplied by this for each further retry.
        jitter: Spread the waits, so that many failures do not come back at once.
        backoff: Another strategy; it replaces the exponential one and its jitter. `max_delay`
            still holds, and `jitter` still spreads what follows a Retry-After.
        kind_retries: Retries of single kinds. By default `unknown` gets one (or none, when
            `max_retries` is 0) and `permanent`, `poison` and `cancelled` get none, which cannot be
            raised: give such an error another kind with a `Rule` instead.
        total_limit: No retry begins later than this after the first attempt began.

    Raises:
        ValueError: A value cannot work; the message names the field.
    """

    max_retries: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True
    backoff: Backoff | None = None
    kind_retries: Mapping[Kind, int] = field(default_factory=dict, hash=False)
    total_limit: timedelta | float | None = None

    def __post_init__(self) -> None:
        _check_count("max_retries", self.max_retries)
        check_number("initial_delay", self.initial_delay)
        check_number("max_delay", self.max_delay)
        check_number("exponential_base", self.exponential_base, at_least=1)
        if self.max_delay < self.initial_delay:
            raise ValueError(
                f"max_delay is {self.max_delay!r}: it must be at least initial_delay, "
                f"{self.initial_delay!r}"
            )
        if self.total_limit_s is not None:
            check_number("total_limit", self.total_limit_s)
        _check_backoff(self.backoff, self.max_delay)
        # A copy: the caller's mapping may change, a policy may not.
        object.__setattr__(self, "kind_retries", _checked_kinds(self.kind_retries))

    @property
    def total_limit_s(self) -> float | None:
        """Return `total_limit` in seconds."""
        if isinstance(self.total_limit, timedelta):
            return self.total_limit.total_seconds()
        return self.total_limit

    @property
    def most_retries(self) -> int:
        """Return the retries of the kind that gets the most: no run has more."""
        return max(self.retries_for(kind) for kind in RETRYABLE)

    def retries_for(self, kind: Kind) -> int:
        """Return how many retries a failure of this kind gets."""
        if kind not in RETRYABLE:
            return 0
        if kind in self.kind_retries:
            return self.kind_retries[kind]
        return min(self.max_retries, 1) if kind is Kind.UNKNOWN else self.max_retries

    def delay(self, retry_number: int, roll: float) -> float:
        """Return the seconds before retry `retry_number` (from 1): within 0 and `max_delay`."""
        strategy = self.backoff
        if strategy is None:
            strategy = Exponential(
                self.initial_delay, self.exponential_base, self.max_delay, self.jitter
            )
        try:
            seconds = float(strategy.delay(retry_number, roll))
        except Exception:  # noqa: BLE001 - a user's function: the longest wait is the safe answer
            return self.max_delay
        return self.max_delay if math.isnan(seconds) else min(max(seconds, 0.0), self.max_delay)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}: it must be a whole number, 0 or more")


def _check_backoff(backoff: Backoff | None, max_delay: float) -> None:
    if backoff is None:
        return
    delay = getattr(backoff, "delay", None)
    if isinstance(backoff, type) or not callable(delay) or is_async(delay):
        # Else each wait would be the longest: what a strategy raises is no reason to stop.
        raise ValueError(
            f"backoff is {backoff!r}: give an object with a plain method `delay`, such as Fixed(5) "
            "or Custom(function)"
        )
    maximum = getattr(backoff, "maximum", None)
    if isinstance(maximum, int | float) and maximum > max_delay:
        # Cutting it silently would cut its jitter too: all long waits would be equal.
        raise ValueError(
            f"backoff waits up to {maximum!r}, longer than max_delay, {max_delay!r}: "
            "lower the one or raise the other"
        )


def _checked_kinds(given: Mapping[Kind, int]) -> dict[Kind, int]:
    checked: dict[Kind, int] = {}
    for name, retries in given.items():
        kind = Kind(name)
        _check_count(f"kind_retries[{kind.value}]", retries)
        if retries and kind not in RETRYABLE:
            raise ValueError(
                f"kind_retries[{kind.value}] is {retries}: such a failure is never retried; "
                "give the error another kind with a Rule"
            )
        checked[kind] = retries
    return checked
