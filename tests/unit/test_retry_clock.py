"""The clock for tests: it stands still until it is turned."""

from __future__ import annotations

import asyncio
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from redrive.clock import Clock
from redrive.testing.manual_clock import ManualClock


def test_it_is_a_clock_and_stands_still() -> None:
    clock: Clock = ManualClock(start=datetime(2026, 3, 1, tzinfo=UTC), roll=0.25)

    assert clock.now() == datetime(2026, 3, 1, tzinfo=UTC)
    assert clock.monotonic() == 0
    assert clock.random() == 0.25
    assert [uuid.UUID(clock.new_id()).version, clock.new_id() == clock.new_id()] == [4, False]


def test_both_times_are_turned_together() -> None:
    clock = ManualClock()
    before = clock.now()

    clock.advance(90)

    assert clock.now() - before == timedelta(seconds=90)
    assert clock.monotonic() == 90


async def test_a_sleeper_wakes_when_its_time_has_come_and_not_before() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(10))
    await clock.wait_for_sleepers()

    await clock.turn(9.9)
    assert not task.done()
    await clock.turn(0.1)

    assert task.done()
    assert clock.sleeping == 0
    assert clock.sleeps == [10]


async def test_turning_far_wakes_each_sleeper_at_its_own_time() -> None:
    clock = ManualClock()
    woke: list[float] = []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(10)
            woke.append(clock.monotonic())

    task = asyncio.create_task(tick())
    await clock.turn(100)

    assert task.done()
    assert woke == [10, 20, 30]
    assert clock.monotonic() == 100


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(10))
    await clock.wait_for_sleepers()

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await clock.turn(20)

    assert clock.sleeping == 0
    assert clock.monotonic() == 20


async def test_it_may_be_turned_from_another_thread() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(10))
    await clock.wait_for_sleepers()

    turner = threading.Thread(target=clock.advance, args=(10,))
    turner.start()

    await asyncio.wait_for(task, timeout=5)
    turner.join()


async def test_waiting_for_sleepers_that_never_come_ends() -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        await ManualClock().wait_for_sleepers(within_s=0)


async def test_without_hands_a_sleep_turns_the_clock_itself() -> None:
    clock = ManualClock(hands_free=True)

    await clock.sleep(5)

    assert clock.monotonic() == 5


def test_blocking_turns_the_clock_and_does_not_wait() -> None:
    clock = ManualClock()

    clock.block(5)

    assert clock.monotonic() == 5
    assert clock.sleeps == [5]


def test_it_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        ManualClock().advance(-1)
