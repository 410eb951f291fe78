"""What holds for any policy, any failure, any roll of the dice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from redrive.retry import (
    Backoff,
    Custom,
    Decorrelated,
    Exponential,
    Failure,
    Fibonacci,
    Fixed,
    GiveUp,
    Kind,
    Linear,
    Reason,
    Retrier,
    Retry,
    RetryConfig,
    decide,
    retry,
)
from redrive.testing.clock import TurnedClock

ROLLS = st.floats(0, 1, exclude_max=True)
SECONDS = st.floats(0, 1e9)
COUNTS = st.integers(1, 50) | st.integers(1, 10**400)


@st.composite
def bounded(draw: st.DrawFn) -> tuple[float, float]:
    first, second = draw(SECONDS), draw(SECONDS)
    return min(first, second), max(first, second)


@st.composite
def backoffs(draw: st.DrawFn, maximum: float) -> Backoff | None:
    initial = draw(st.floats(0, maximum))
    jitter = draw(st.booleans())
    wild = draw(st.floats())
    return draw(
        st.sampled_from(
            (
                None,
                Exponential(initial, draw(st.floats(1, 1e6)), maximum, jitter),
                Linear(initial, draw(SECONDS), maximum, jitter),
                Fixed(initial, jitter),
                Fibonacci(initial, maximum, jitter),
                Decorrelated(initial, maximum),
                Custom(lambda _number, _roll: wild),
            )
        )
    )


@st.composite
def policies(draw: st.DrawFn) -> RetryConfig:
    initial, maximum = draw(bounded())
    return RetryConfig(
        max_retries=draw(st.integers(0, 20)),
        initial_delay=initial,
        max_delay=maximum,
        exponential_base=draw(st.floats(1, 1e6)),
        jitter=draw(st.booleans()),
        backoff=draw(backoffs(maximum)),
        kind_retries=draw(
            st.dictionaries(
                st.sampled_from((Kind.TIMEOUT, Kind.RATE_LIMITED, Kind.UNKNOWN)),
                st.integers(0, 20),
            )
        ),
    )


FAILURES = st.builds(
    Failure, st.sampled_from(Kind), retry_after=st.none() | st.floats(0, 1e9), why=st.just("")
)


@given(policies(), COUNTS, ROLLS)
def test_a_delay_is_never_below_zero_nor_above_the_longest(
    policy: RetryConfig, number: int, roll: float
) -> None:
    assert 0 <= policy.delay(number, roll) <= policy.max_delay


@given(policies(), COUNTS, ROLLS, FAILURES, st.none() | st.floats())
def test_every_failure_gets_a_decision(
    policy: RetryConfig, failed: int, roll: float, failure: Failure, remaining_s: float | None
) -> None:
    decision = decide(
        failure, failed_attempts=failed, policy=policy, roll=roll, remaining_s=remaining_s
    )

    if isinstance(decision, Retry):
        assert remaining_s is None or decision.after_s < remaining_s
    else:
        assert decision.reason in Reason
        assert decision.why


@pytest.mark.invariant("P5")
@given(policies(), st.lists(FAILURES, min_size=1, max_size=30), ROLLS)
def test_whatever_fails_how_attempts_never_exceed_the_policy(
    policy: RetryConfig, failures: list[Failure], roll: float
) -> None:
    attempts = 0
    for failure in failures:
        attempts += 1
        decision = decide(failure, failed_attempts=attempts, policy=policy, roll=roll)
        if isinstance(decision, GiveUp):
            break

    assert attempts <= policy.most_retries + 1


@given(policies(), st.integers(1, 20), ROLLS, st.sampled_from(Kind), st.floats(0, 1e9))
def test_no_retry_comes_earlier_than_a_service_asked_for(
    policy: RetryConfig, failed: int, roll: float, kind: Kind, told: float
) -> None:
    decision = decide(
        Failure(kind, retry_after=told), failed_attempts=failed, policy=policy, roll=roll
    )

    assume(isinstance(decision, Retry))
    assert isinstance(decision, Retry)
    assert decision.after_s >= told
    assert decision.after_s <= max(policy.max_delay, told + policy.initial_delay)


@pytest.mark.invariant("P8")
@given(policies(), st.floats(0, 1e6), st.floats(0, 1e5), ROLLS)
def test_no_attempt_begins_after_the_total_limit(
    policy: RetryConfig, limit_s: float, work_s: float, roll: float
) -> None:
    clock = TurnedClock(roll=roll, hands_free=True)
    begun: list[float] = []

    @retry(Retrier(replace(policy, total_limit=limit_s), clock=clock))
    def work() -> None:
        begun.append(clock.monotonic())
        clock.advance(work_s)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        work()

    assert all(moment <= limit_s for moment in begun[1:])
    assert sum(clock.sleeps) <= limit_s
    assert len(begun) <= policy.max_retries + 1
