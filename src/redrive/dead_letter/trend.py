"""How a cause of letters develops: new, rising, falling, or as before. Pure."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LEAST_RISING", "Trend", "trend_of"]

LEAST_RISING = 3
"""Fewer than so many in a window are no rise, whatever came before."""

_RISING_TIMES = 3
_FALLING_TIMES = 2


class Trend(StrEnum):
    """How a window compares with the time before it.

    `new`: nothing of the cause came before the window. `rising`: at least three times as many as
    in as long a time before. `falling`: less than half as many. `steady`: all else.
    """

    NEW = "new"
    RISING = "rising"
    FALLING = "falling"
    STEADY = "steady"


def trend_of(*, recent: int, before: float, known: bool, least_rising: int = LEAST_RISING) -> Trend:
    """Say how a cause develops.

    Args:
        recent: How many came in the window.
        before: How many came before it, in a time as long; an average over a longer time will do.
        known: Whether any came before the window, however long ago.
        least_rising: With fewer than these it does not rise.
    """
    if recent and not known:
        return Trend.NEW
    if recent >= max(least_rising, _RISING_TIMES * before):
        return Trend.RISING
    if _FALLING_TIMES * recent < before:
        return Trend.FALLING
    return Trend.STEADY
