"""The watchdog sees an event loop that stands still, and nothing else."""

from __future__ import annotations

import asyncio
import threading

from structlog.testing import capture_logs

from redrive.consumer.watchdog import Watchdog


async def test_a_loop_that_turns_is_left_alone() -> None:
    ended = threading.Event()
    watchdog = Watchdog(asyncio.get_running_loop(), limit_s=0.4, end=ended.set)
    watchdog.start()

    for _ in range(100):
        await asyncio.sleep(0.01)
    watchdog.stop()

    assert not ended.is_set()


async def test_a_loop_that_is_blocked_is_ended_and_told_where() -> None:
    ended = threading.Event()
    with capture_logs() as logs:
        watchdog = Watchdog(asyncio.get_running_loop(), limit_s=0.2, end=ended.set)
        watchdog.start()

        block_until(ended)

    (told,) = logs
    assert ended.is_set()
    assert told["event"] == "worker.loop_blocked"
    assert told["still_s"] >= 0.2
    assert "block_until" in told["where"]


def block_until(ended: threading.Event) -> None:
    assert ended.wait(10)
