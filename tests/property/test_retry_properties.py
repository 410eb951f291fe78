"""What holds for any policy, any failure, any roll of the dice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
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
    attempts,
    decide,
    retry,
    retry_async,
)
from redrive.retry.retry_config import RETRYABLE
from redrive.testing.manual_clock import ManualClock

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


@given(st.data(), bounded(), COUNTS, ROLLS)
def test_a_strategy_keeps_its_own_bounds_without_a_policy_around_it(
    data: st.DataObject, bounds: tuple[float, float], number: int, roll: float
) -> None:
    initial, maximum = bounds
    jitter = data.draw(st.booleans())
    strategies: tuple[Exponential | Linear | Fixed | Fibonacci | Decorrelated, ...] = (
        Exponential(initial, data.draw(st.floats(1, 1e6)), maximum, jitter),
        Linear(initial, data.draw(SECONDS), maximum, jitter),
        Fixed(initial, jitter),
        Fibonacci(initial, maximum, jitter),
        Decorrelated(initial, maximum),
    )
    strategy = data.draw(st.sampled_from(strategies))

    delay = strategy.delay(number, roll)

    # What jitter leaves of the shortest delay is its half.
    lowest = initial if isinstance(strategy, Decorrelated) or not strategy.jitter else initial / 2
    assert lowest <= delay <= strategy.maximum


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


@given(
    policies(),
    st.integers(),
    ROLLS,
    st.sampled_from(Kind),
    st.none() | st.floats(),
    st.none() | st.floats(),
    st.none() | st.sampled_from(Reason),
)
def test_a_decision_is_made_whatever_the_numbers_are(
    policy: RetryConfig,
    failed: int,
    roll: float,
    kind: Kind,
    told: float | None,
    remaining_s: float | None,
    reason: Reason | None,
) -> None:
    decision = decide(
        Failure(kind, retry_after=told),
        failed_attempts=failed,
        policy=policy,
        roll=roll,
        remaining_s=remaining_s,
        reason=reason,
    )

    match decision:
        case Retry(after_s):
            assert kind in RETRYABLE
            assert after_s >= 0
            assert remaining_s is None or after_s < remaining_s
        case GiveUp(code, _) if kind not in RETRYABLE and reason is not None:
            assert code is reason
        case GiveUp(code, _) if kind not in RETRYABLE:
            assert code in {Reason.PERMANENT, Reason.UNREADABLE}
        case GiveUp(code, _):
            assert code in {Reason.DEADLINE, Reason.RETRIES_EXHAUSTED}


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


@given(policies(), st.integers(1, 20), ROLLS, st.sampled_from(sorted(RETRYABLE)), st.floats(0, 1e9))
def test_no_retry_comes_earlier_than_a_service_asked_for(
    policy: RetryConfig, failed: int, roll: float, kind: Kind, told: float
) -> None:
    policy = replace(policy, kind_retries={kind: failed})

    decision = decide(
        Failure(kind, retry_after=told), failed_attempts=failed, policy=policy, roll=roll
    )

    assert isinstance(decision, Retry)
    assert decision.after_s >= told
    assert decision.after_s <= max(policy.max_delay, told + policy.initial_delay)


@pytest.mark.invariant("P8")
@given(policies(), st.floats(0, 1e6), st.floats(0, 1e5), ROLLS)
def test_no_attempt_begins_after_the_total_limit(
    policy: RetryConfig, limit_s: float, work_s: float, roll: float
) -> None:
    clock = ManualClock(roll=roll, hands_free=True)
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


class BusyClock(ManualClock):
    """Wakes later than it was asked to."""

    def __init__(self, roll: float, late_s: float) -> None:
        super().__init__(roll=roll, hands_free=True)
        self._late_s = late_s

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self.advance(self._late_s)

    def block(self, seconds: float) -> None:
        super().block(seconds)
        self.advance(self._late_s)


@pytest.mark.parametrize("way", ["retry_async", "for", "async for", "@retry"])
@given(policies(), st.floats(0, 1e6), st.floats(0, 1e5), st.floats(0, 1e5), ROLLS)
def test_no_other_way_to_retry_begins_after_the_total_limit_either(
    way: str, policy: RetryConfig, limit_s: float, work_s: float, late_s: float, roll: float
) -> None:
    clock = BusyClock(roll, late_s)
    retrier = Retrier(replace(policy, total_limit=limit_s), clock=clock)
    begun: list[float] = []

    def work() -> None:
        begun.append(clock.monotonic())
        clock.advance(work_s)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        WAYS[way](work, retrier)

    assert all(moment <= limit_s for moment in begun[1:])
    assert sum(clock.sleeps) <= limit_s
    assert len(begun) <= policy.max_retries + 1


def by_call(work: Callable[[], None], retrier: Retrier) -> None:
    async def later() -> None:
        work()

    asyncio.run(retry_async(later, config=retrier))


def by_decorator(work: Callable[[], None], retrier: Retrier) -> None:
    retry(retrier)(work)()


def by_loop(work: Callable[[], None], retrier: Retrier) -> None:
    for attempt in attempts(retrier):
        with attempt:
            work()


def by_async_loop(work: Callable[[], None], retrier: Retrier) -> None:
    async def loop() -> None:
        async for attempt in attempts(retrier):
            with attempt:
                work()

    asyncio.run(loop())


WAYS: dict[str, Callable[[Callable[[], None], Retrier], None]] = {
    "@retry": by_decorator,
    "retry_async": by_call,
    "for": by_loop,
    "async for": by_async_loop,
}
