"""How long to wait before a retry, as small values: exponential, linear, fixed, Fibonacci and more.

Each is pure: the dice come in as `roll`. What a service asked for (Retry-After) is added in
`decision.py`, which never comes earlier than that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from redrive.retry.shapes import is_async, is_generator

__all__ = [
    "Backoff",
    "Custom",
    "Decorrelated",
    "Exponential",
    "Fibonacci",
    "Fixed",
    "Linear",
    "check_number",
]


class Backoff(Protocol):
    """A strategy: how many seconds to wait before retry 1, 2, 3 and so on."""

    def delay(self, retry_number: int, roll: float) -> float:
        """Return the seconds before retry `retry_number` (from 1); `roll` is of [0, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class Exponential:
    """`initial` seconds, times `base` for each further retry, up to `maximum`.

    With jitter the wait is spread over the upper half of the delay: [delay / 2, delay).
    """

    initial: float = 1.0
    base: float = 2.0
    maximum: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        _check_bounds(self.initial, self.maximum)
        check_number("base", self.base, at_least=1)

    def delay(self, retry_number: int, roll: float) -> float:
        """Return the seconds before retry `retry_number`."""
        height = _power(self.initial, self.base, retry_number - 1, self.maximum)
        return _spread(height, roll, jitter=self.jitter)


@dataclass(frozen=True, slots=True)
class Linear:
    """`initial` seconds, plus `step` for each further retry, up to `maximum`."""

    initial: float = 1.0
    step: float = 1.0
    maximum: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        _check_bounds(self.initial, self.maximum)
        check_number("step", self.step)

    def delay(self, retry_number: int, roll: float) -> float:
        """Return the seconds before retry `retry_number`."""
        if self.step == 0:
            return _spread(self.initial, roll, jitter=self.jitter)
        # Compared before it is multiplied: an int too large for a float is allowed here.
        steps_to_maximum = min((self.maximum - self.initial) / self.step, sys.float_info.max)
        if retry_number - 1 >= steps_to_maximum:
            return _spread(self.maximum, roll, jitter=self.jitter)
        height = min(self.initial + self.step * max(retry_number - 1, 0), self.maximum)
        return _spread(height, roll, jitter=self.jitter)


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same `seconds` before every retry."""

    seconds: float = 1.0
    jitter: bool = False

    def __post_init__(self) -> None:
        check_number("seconds", self.seconds)

    @property
    def maximum(self) -> float:
        """Return the longest delay: the only one there is."""
        return self.seconds

    def delay(self, retry_number: int, roll: float) -> float:  # noqa: ARG002 - the door's signature
        """Return the seconds before any retry."""
        return _spread(self.seconds, roll, jitter=self.jitter)


@dataclass(frozen=True, slots=True)
class Fibonacci:
    """`initial` seconds times 1, 1, 2, 3, 5, 8, … up to `maximum`."""

    initial: float = 1.0
    maximum: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        _check_bounds(self.initial, self.maximum)

    def delay(self, retry_number: int, roll: float) -> float:
        """Return the seconds before retry `retry_number`."""
        return _spread(self._height(retry_number), roll, jitter=self.jitter)

    def _height(self, retry_number: int) -> float:
        before, now = 0.0, self.initial
        for _ in range(retry_number - 1):
            # Also what ends this loop: it is reached after some thousand steps at most.
            if now >= self.maximum or now == 0:
                break
            before, now = now, before + now
        return min(now, self.maximum)


@dataclass(frozen=True, slots=True)
class Decorrelated:
    """A wide spread that grows threefold: between `initial` and `initial * 3 ** retry_number`.

    The published form (AWS Architecture Blog, "Exponential Backoff And Jitter") draws from
    [initial, 3 * previous delay). A pure value does not know the previous delay, so the upper end
    here is the highest that one could reach.
    """

    initial: float = 1.0
    maximum: float = 60.0

    def __post_init__(self) -> None:
        _check_bounds(self.initial, self.maximum)

    def delay(self, retry_number: int, roll: float) -> float:
        """Return the seconds before retry `retry_number`."""
        top = _power(self.initial, 3.0, retry_number, self.maximum)
        return self.initial + (top - self.initial) * roll


@dataclass(frozen=True, slots=True)
class Custom:
    """Your own function of the retry's number and the roll.

    What it returns is held between 0 and the policy's `max_delay`; when it raises, or returns
    something that is no number, the wait is `max_delay`.

    Raises:
        TypeError: It cannot be called, is async, or is a generator function.
    """

    function: Callable[[int, float], float]

    def __post_init__(self) -> None:
        function: object = self.function
        if not callable(function) or is_async(function) or is_generator(function):
            raise TypeError(f"function is {function!r}: give a plain function that returns seconds")

    def delay(self, retry_number: int, roll: float) -> float:
        """Return what the function says, as it says it."""
        return self.function(retry_number, roll)


def check_number(name: str, value: float, *, at_least: float = 0) -> None:
    """Refuse a number that is negative, infinite, or not a number at all.

    Raises:
        ValueError: It cannot work; the message names the field.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r}: it must be a number")  # noqa: TRY004 - one error for a bad value
    if not math.isfinite(value) or value < at_least:
        raise ValueError(f"{name} is {value!r}: it must be finite and at least {at_least:g}")


def _check_bounds(initial: float, maximum: float) -> None:
    check_number("initial", initial)
    check_number("maximum", maximum)
    if maximum < initial:
        raise ValueError(f"maximum is {maximum!r}: it must be at least initial, {initial!r}")


def _power(initial: float, base: float, exponent: int, maximum: float) -> float:
    """Return `initial * base ** exponent`, held at `maximum`, without overflow."""
    if initial == 0 or base == 1 or exponent <= 0:
        return min(initial, maximum)
    # Logarithms decide first: `base ** exponent` overflows from about 2 ** 1024 on.
    most = (math.log(maximum) - math.log(initial)) / math.log(base)
    if exponent > most:
        return maximum
    try:
        return min(initial * base**exponent, maximum)
    except OverflowError:
        return min(math.exp(math.log(initial) + exponent * math.log(base)), maximum)


def _spread(delay: float, roll: float, *, jitter: bool) -> float:
    # Equal jitter: half of the delay is kept, so that a retry never follows at once.
    return delay * (0.5 + 0.5 * roll) if jitter else delay
