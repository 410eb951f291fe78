"""A worker in whose Kafka client too many calls hang for ever stops in order, to be replaced."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from redrive.consumer.consumer import Parts, Upward, Worker
from redrive.consumer.sweeping import Sweeping
from redrive.errors import KafkaLostError
from redrive.graphs import Checkpoints, CheckpointSettings
from redrive.testing.clock import TurnedClock


class Thread:
    """A poll or a settle thread that does nothing, and leaves one more call behind at each look."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def left_behind(self) -> int:
        self.looks += 1
        return self.looks

    def start(self, **_: float) -> None: ...

    def stop(self) -> None: ...

    def join(self, _: float) -> None: ...

    def close(self, **_: float) -> None: ...


class Intake:
    running = 1

    def __init__(self) -> None:
        self.drained = False
        self.endings: Counter[Any] = Counter()

    def begin(self, tasks: asyncio.TaskGroup) -> asyncio.Task[Any]:
        return tasks.create_task(asyncio.Event().wait())

    async def drain(self, *, timeout_s: float) -> int:
        self.drained = timeout_s > 0
        return 0


class Settler:
    idle = True

    def release(self) -> None: ...


async def test_it_drains_and_says_that_only_a_new_process_helps() -> None:
    intake, settling, clock = Intake(), Thread(), TurnedClock(hands_free=True)
    checkpoints = Checkpoints(CheckpointSettings(url="none"))

    def build(_: Upward) -> Parts:
        parts: Any = {
            "intake": intake,
            "settler": Settler(),
            "settling": settling,
            "polling": Thread(),
            "checkpoints": checkpoints,
            "sweeping": Sweeping(
                checkpoints, open_threads=list, deployment=lambda: None, clock=clock
            ),
            "partitions": None,
            "pulse": None,
            "link": None,
        }
        return Parts(**parts)

    worker = Worker(build, startup_s=1.0, grace_s=30.0, clock=clock)

    with capture_logs() as logs:
        await worker.start()
        with pytest.raises(KafkaLostError, match="30 calls"):
            await worker.wait()

    assert intake.drained
    assert settling.looks == 30
    assert {"calls": 30, "event": "worker.calls_left_behind", "log_level": "error"} in logs
