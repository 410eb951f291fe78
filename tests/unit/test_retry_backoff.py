"""The strategies: the shapes they promise, and numbers far beyond any use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
from tests.rows import rows

from redrive.retry import Backoff, Custom, Decorrelated, Exponential, Fibonacci, Fixed, Linear

FIRST = range(1, 8)


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        (Exponential(initial=1, base=2, maximum=20, jitter=False), [1, 2, 4, 8, 16, 20, 20]),
        (Exponential(initial=3, base=1, maximum=20, jitter=False), [3, 3, 3, 3, 3, 3, 3]),
        (Linear(initial=1, step=2, maximum=10, jitter=False), [1, 3, 5, 7, 9, 10, 10]),
        (Linear(initial=4, step=0, maximum=10, jitter=False), [4, 4, 4, 4, 4, 4, 4]),
        (Fixed(2.5), [2.5] * 7),
        (Fibonacci(initial=1, maximum=9, jitter=False), [1, 1, 2, 3, 5, 8, 9]),
        (Fibonacci(initial=0, maximum=9, jitter=False), [0] * 7),
        (Custom(lambda number, _roll: number * 10), [10, 20, 30, 40, 50, 60, 70]),
    ],
)
def test_each_strategy_has_its_shape(strategy: Backoff, delays: list[float]) -> None:
    assert [strategy.delay(number, 0.5) for number in FIRST] == pytest.approx(delays)


def test_decorrelated_jitter_spreads_between_the_first_delay_and_a_threefold_top() -> None:
    strategy = Decorrelated(initial=1, maximum=20)

    assert [strategy.delay(number, 0.0) for number in (1, 2, 3)] == [1, 1, 1]
    assert [strategy.delay(number, 0.5) for number in (1, 2, 3)] == [2, 5, 10.5]


@pytest.mark.parametrize("number", [1_024, 10**6, 10**400])
@pytest.mark.parametrize(
    "strategy",
    [
        Exponential(jitter=False),
        Linear(jitter=False),
        Fibonacci(jitter=False),
        Exponential(initial=1e-300, maximum=1e300, base=1e300, jitter=False),
        Linear(initial=0, step=1e-300, maximum=1e-299, jitter=False),
    ],
)
def test_a_retry_far_beyond_any_use_waits_the_maximum(
    strategy: Exponential | Linear | Fibonacci, number: int
) -> None:
    assert strategy.delay(number, 0.5) == strategy.maximum


def test_a_step_too_small_to_reach_the_maximum_in_any_float_still_does() -> None:
    strategy = Linear(initial=0, step=5e-324, maximum=1e9, jitter=False)

    assert strategy.delay(10**400, 0.5) == strategy.maximum


def test_a_delay_in_reach_is_right_even_when_its_power_is_not() -> None:
    strategy = Exponential(initial=1e-300, base=1e200, maximum=1e300, jitter=False)

    assert strategy.delay(3, 0.5) == pytest.approx(1e100)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Exponential(initial=-1), "initial"),
        (lambda: Exponential(base=0.9), "base"),
        (lambda: Exponential(initial=2, maximum=1), "maximum"),
        (lambda: Linear(step=math.inf), "step"),
        (lambda: Fixed(math.nan), "seconds"),
        (lambda: Fibonacci(maximum=math.inf), "maximum"),
        (lambda: Decorrelated(initial=math.nan), "initial"),
    ],
)
def test_a_strategy_that_cannot_work_is_refused_by_name(
    make: Callable[[], Backoff], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field} is"):
        make()


async def seconds_later(number: int, roll: float) -> float:
    return number * roll


def seconds_one_by_one(number: int, roll: float) -> Iterator[float]:
    yield number * roll


@rows("function", [seconds_later, seconds_one_by_one, 5, None])
def test_a_function_that_cannot_return_its_seconds_at_once_is_refused(function: object) -> None:
    with pytest.raises(TypeError, match="give a plain function"):
        Custom(function)  # type: ignore[arg-type]  # that is the point
