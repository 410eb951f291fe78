"""The policy: its defaults, its limits, and what it refuses."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest
from tests.rows import rows

from redrive.retry import Backoff, Custom, Fixed, Kind, Linear, RetryConfig


class AsyncBackoff:
    async def delay(self, retry_number: int, roll: float) -> float:
        return retry_number * roll


RETRIED = (Kind.TRANSIENT, Kind.RATE_LIMITED, Kind.TIMEOUT)
NEVER_RETRIED = (Kind.PERMANENT, Kind.POISON, Kind.CANCELLED)


def test_the_five_known_names_keep_their_defaults() -> None:
    config = RetryConfig()

    assert (config.max_retries, config.initial_delay, config.max_delay) == (3, 1.0, 60.0)
    assert (config.exponential_base, config.jitter) == (2.0, True)


@pytest.mark.invariant("P5")
def test_unknown_failures_get_one_retry_and_hopeless_ones_none() -> None:
    config = RetryConfig(max_retries=5)

    assert {config.retries_for(kind) for kind in RETRIED} == {5}
    assert config.retries_for(Kind.UNKNOWN) == 1
    assert {config.retries_for(kind) for kind in NEVER_RETRIED} == {0}


def test_without_retries_unknown_failures_get_none_either() -> None:
    assert RetryConfig(max_retries=0).retries_for(Kind.UNKNOWN) == 0


def test_a_kind_may_have_retries_of_its_own() -> None:
    config = RetryConfig(kind_retries={Kind.RATE_LIMITED: 9, Kind.UNKNOWN: 0})

    assert config.retries_for(Kind.RATE_LIMITED) == 9
    assert config.retries_for(Kind.UNKNOWN) == 0
    assert config.retries_for(Kind.TIMEOUT) == 3
    assert config.most_retries == 9


def test_a_policy_does_not_change_with_the_mapping_it_was_made_from() -> None:
    given = {Kind.TIMEOUT: 1}
    config = RetryConfig(kind_retries=given)

    given[Kind.TIMEOUT] = 7

    assert config.retries_for(Kind.TIMEOUT) == 1


def test_a_policy_can_be_hashed_compared_and_pickled() -> None:
    config = RetryConfig(backoff=Linear(), kind_retries={Kind.TIMEOUT: 1})

    again = pickle.loads(pickle.dumps(config))  # noqa: S301 - our own bytes

    assert again == config
    assert hash(again) == hash(config)


def test_the_delay_grows_by_the_base_up_to_the_longest() -> None:
    config = RetryConfig(initial_delay=1, exponential_base=3, max_delay=20, jitter=False)

    assert [config.delay(number, 0.5) for number in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


def test_jitter_spreads_the_delay_over_its_upper_half() -> None:
    config = RetryConfig(initial_delay=8)

    assert config.delay(1, 0.0) == 4
    assert config.delay(1, 0.5) == 6


def test_another_strategy_replaces_the_exponential_one() -> None:
    assert RetryConfig(backoff=Fixed(7)).delay(4, 0.5) == 7


def _nonsense(_number: int, _roll: float) -> float:
    return math.nan


def _broken(_number: int, _roll: float) -> float:
    raise ZeroDivisionError


def _endless(_number: int, _roll: float) -> float:
    return math.inf


@pytest.mark.parametrize("function", [_nonsense, _broken, _endless])
def test_a_function_of_the_user_that_fails_makes_us_wait_longest(
    function: Callable[[int, float], float],
) -> None:
    assert RetryConfig(max_delay=9, backoff=Custom(function)).delay(1, 0.5) == 9


def test_a_negative_delay_of_the_users_function_is_none() -> None:
    assert RetryConfig(backoff=Custom(lambda _number, _roll: -5)).delay(1, 0.5) == 0


@pytest.mark.parametrize(
    ("limit", "seconds"), [(None, None), (2.5, 2.5), (timedelta(minutes=1), 60.0)]
)
def test_the_total_limit_is_given_in_seconds_or_as_a_timedelta(
    limit: timedelta | float | None, seconds: float | None
) -> None:
    assert RetryConfig(total_limit=limit).total_limit_s == seconds


@rows(
    ("make", "field"),
    [
        (lambda: RetryConfig(max_retries=-1), "max_retries"),
        (lambda: RetryConfig(max_retries=2.5), "max_retries"),  # type: ignore[arg-type] # the mistake
        (lambda: RetryConfig(max_retries=True), "max_retries"),
        (lambda: RetryConfig(initial_delay=-1), "initial_delay"),
        (lambda: RetryConfig(initial_delay=math.nan), "initial_delay"),
        (lambda: RetryConfig(initial_delay="1"), "initial_delay"),  # type: ignore[arg-type] # the mistake
        (lambda: RetryConfig(max_delay=math.inf), "max_delay"),
        (lambda: RetryConfig(max_delay=-math.inf), "max_delay"),
        (lambda: RetryConfig(initial_delay=10, max_delay=5), "max_delay"),
        (lambda: RetryConfig(exponential_base=0.5), "exponential_base"),
        (lambda: RetryConfig(exponential_base=math.nan), "exponential_base"),
        (lambda: RetryConfig(total_limit=-1), "total_limit"),
        (lambda: RetryConfig(total_limit=math.inf), "total_limit"),
        (lambda: RetryConfig(total_limit=timedelta(seconds=-1)), "total_limit"),
        (lambda: RetryConfig(kind_retries={Kind.TIMEOUT: -1}), "kind_retries[timeout]"),
        (lambda: RetryConfig(kind_retries={Kind.PERMANENT: 1}), "kind_retries[permanent]"),
        (lambda: RetryConfig(kind_retries={Kind.CANCELLED: 1}), "kind_retries[cancelled]"),
        (lambda: RetryConfig(max_delay=10, backoff=Linear(maximum=20)), "backoff"),
        (lambda: RetryConfig(max_delay=10, backoff=Fixed(20)), "backoff"),
        (lambda: RetryConfig(backoff=cast("Backoff", 5)), "backoff is 5"),
        (lambda: RetryConfig(backoff=cast("Backoff", Fixed)), "backoff is"),
        (lambda: RetryConfig(backoff=cast("Backoff", AsyncBackoff())), "backoff is"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(
    make: Callable[[], RetryConfig], field: str
) -> None:
    with pytest.raises(ValueError, match="^" + field.replace("[", r"\[")):
        make()


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="sometimes"):
        RetryConfig(kind_retries={"sometimes": 1})  # type: ignore[dict-item] # the mistake
