"""Retrying a block of code, in both kinds of loop."""

from __future__ import annotations

import asyncio

import pytest

from redrive.retry import Hooks, Retrier, RetryConfig, attempts
from redrive.testing.manual_clock import ManualClock


def _retrier(clock: ManualClock, hooks: Hooks | None = None) -> Retrier:
    return Retrier(RetryConfig(jitter=False), hooks=hooks or Hooks(), clock=clock)


async def test_an_async_block_is_retried_until_it_succeeds() -> None:
    clock = ManualClock(hands_free=True)
    numbers: list[int] = []

    async for attempt in attempts(_retrier(clock)):
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise ConnectionError

    assert numbers == [1, 2, 3]
    assert clock.sleeps == [1, 2]


def test_a_block_is_retried_until_it_succeeds() -> None:
    clock = ManualClock()
    numbers: list[int] = []

    for attempt in attempts(_retrier(clock)):
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise ConnectionError

    assert numbers == [1, 2, 3]
    assert clock.sleeps == [1, 2]


def test_a_block_that_returns_ends_the_loop() -> None:
    def work() -> int:
        for attempt in attempts():
            with attempt:
                return attempt.number
        raise AssertionError("an attempt returned")

    assert work() == 1


@pytest.mark.invariant("P5")
def test_a_failure_that_stays_leaves_the_loop_with_a_note() -> None:
    clock = ManualClock()
    count = 0

    with pytest.raises(ConnectionError) as caught:  # noqa: PT012 - the loop is the act
        for attempt in attempts(_retrier(clock)):
            with attempt:
                count += 1
                raise ConnectionError

    assert count == 4
    assert "after 4 attempts (retries_exhausted)" in caught.value.__notes__[0]


@pytest.mark.parametrize("stop", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_what_stops_the_program_leaves_the_loop_at_once(stop: type[BaseException]) -> None:
    count = 0

    with pytest.raises(stop):  # noqa: PT012 - the loop is the act
        for attempt in attempts():
            with attempt:
                count += 1
                raise stop

    assert count == 1


def test_the_total_limit_holds_over_a_loop() -> None:
    clock = ManualClock()
    retrier = Retrier(RetryConfig(max_retries=9, jitter=False, total_limit=5), clock=clock)

    with pytest.raises(ConnectionError, match="deadline"):  # noqa: PT012 - the loop is the act
        for attempt in attempts(retrier):
            with attempt:
                raise ConnectionError

    assert clock.sleeps == [1, 2]


def test_a_loop_without_with_is_told_what_to_write() -> None:
    with pytest.raises(RuntimeError, match="with attempt:"):
        for _ in attempts():
            pass


def test_hooks_are_told_of_each_attempt() -> None:
    told: list[int] = []
    retrier = _retrier(ManualClock(), Hooks(before_attempt=told.append))

    for attempt in attempts(retrier):
        with attempt:
            if attempt.number < 3:
                raise ConnectionError

    assert told == [1, 2, 3]


async def test_an_async_block_may_be_entered_with_async_with() -> None:
    clock = ManualClock(hands_free=True)

    async for attempt in attempts(_retrier(clock)):
        async with attempt:
            if attempt.number < 3:
                raise ConnectionError

    assert attempt.number == 3
    assert clock.sleeps == [1, 2]


async def test_what_stops_the_program_leaves_async_with_at_once() -> None:
    count = 0

    with pytest.raises(asyncio.CancelledError):  # noqa: PT012 - the loop is the act
        async for attempt in attempts():
            async with attempt:
                count += 1
                raise asyncio.CancelledError

    assert count == 1


async def test_a_plain_loop_is_refused_where_an_event_loop_runs_before_its_block_runs() -> None:
    count = 0

    with pytest.raises(RuntimeError, match="write `async for`"):  # noqa: PT012 - the loop is the act
        for attempt in attempts():
            with attempt:
                count += 1

    assert count == 0


async def test_a_plain_loop_in_a_thread_beside_an_event_loop_works() -> None:
    def work() -> int:
        for attempt in attempts():
            with attempt:
                return attempt.number
        raise AssertionError("an attempt returned")

    assert await asyncio.to_thread(work) == 1


def test_attempts_that_had_their_loop_are_refused_for_a_second_one() -> None:
    used = attempts()
    for attempt in used:
        with attempt:
            pass

    with pytest.raises(RuntimeError, match=r"call attempts\(\) for each loop"):
        iter(used)
    with pytest.raises(RuntimeError, match=r"call attempts\(\) for each loop"):
        aiter(used)


def test_an_attempt_is_entered_once() -> None:
    with pytest.raises(RuntimeError, match="entered before"):  # noqa: PT012 - the loop is the act
        for attempt in attempts(_retrier(ManualClock())):
            with attempt:
                raise ConnectionError
            with attempt:
                pass
