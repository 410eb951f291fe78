"""A worker in whose Kafka client too many calls hang for ever stops in order, to be replaced."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from redrive.consumer.buffer import Buffer
from redrive.consumer.health import Phase
from redrive.consumer.partitions import Partitions
from redrive.consumer.sweeping import Sweeping
from redrive.consumer.waits import Amount, Wait
from redrive.consumer.worker_lifecycle import Worker, WorkerComponents
from redrive.errors import KafkaLostError, StandstillError
from redrive.graphs import Checkpoints, CheckpointSettings
from redrive.kafka.log import Pulse
from redrive.kafka.topic_ids import NOT_TOLD
from redrive.testing.manual_clock import ManualClock


class Thread:
    """A poll or a settle thread that does nothing, and leaves one more call behind at each look."""

    def __init__(self) -> None:
        self.looks = 0
        self.started = False

    @property
    def left_behind(self) -> int:
        self.looks += 1
        return self.looks

    def start(self, **_: float) -> None:
        self.started = True

    def stop(self) -> None: ...

    def join(self, _: float) -> None: ...

    is_open = True

    def close(self, **_: float) -> None: ...


class FakeDispatcher:
    running = 1

    def __init__(self) -> None:
        self.drained = False
        self.endings: Counter[Any] = Counter()

    def waiting(self) -> dict[Wait, Amount]:
        return {Wait.WINDOW: Amount(0)}

    def begin(self, tasks: asyncio.TaskGroup) -> asyncio.Task[Any]:
        return tasks.create_task(asyncio.Event().wait())

    async def drain(self, *, timeout_s: float) -> int:
        self.drained = timeout_s > 0
        return 0


class Beating(Pulse):
    """A poll thread's that moves all the time."""

    @property
    def last(self) -> float:
        return self.look()[0]


class Reached:
    problem = None


class Settler:
    idle = True
    is_member = True
    moves = 0
    owes: str | None = None

    def release(self) -> None: ...

    def counted(self) -> dict[Wait, Amount]:
        return {}


def parts_of(
    dispatcher: FakeDispatcher, settling: Thread, polling: Thread, clock: ManualClock
) -> WorkerComponents:
    checkpoints = Checkpoints(CheckpointSettings(url="none"))
    parts: Any = {
        "dispatcher": dispatcher,
        "settler": Settler(),
        "settling": settling,
        "polling": polling,
        "checkpoints": checkpoints,
        "sweeping": Sweeping(checkpoints, open_threads=list, deployment=lambda: None, clock=clock),
        "partitions": Partitions(
            buffer=Buffer(1), session_timeout_s=30.0, incarnation=1, cluster=None, clock=clock
        ),
        "pulse": Beating(clock),
        "link": Reached(),
        "topics": NOT_TOLD,
    }
    return WorkerComponents(**parts)


class Waiting(Thread):
    """A settle thread that waits for a coordinator until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self._closed = threading.Event(), threading.Event()

    def start(self, **_: float) -> None:
        self.is_asked.set()
        assert self._closed.wait(20)

    def close(self, **_: float) -> None:
        self._closed.set()


@pytest.mark.invariant("P12")
@pytest.mark.parametrize("how", ["asked", "given up"])
async def test_one_that_waits_for_a_coordinator_ends_when_asked_and_never_joins(how: str) -> None:
    settling, polling = Waiting(), Thread()
    worker = Worker(
        lambda _: parts_of(FakeDispatcher(), settling, polling, ManualClock()),
        startup_s=60.0,
        grace_s=30.0,
        standstill_s=10.0,
        rebalance_s=300.0,
        clock=ManualClock(),
    )
    starting = asyncio.create_task(worker.start())
    await asyncio.to_thread(settling.is_asked.wait, 20)

    if how == "asked":
        worker.request_stop()
        await starting
    else:
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    assert worker.phase is Phase.STOPPED
    assert not polling.started


async def test_it_drains_and_says_that_only_a_new_process_helps() -> None:
    dispatcher, settling, clock = FakeDispatcher(), Thread(), ManualClock(hands_free=True)
    worker = Worker(
        lambda _: parts_of(dispatcher, settling, Thread(), clock),
        startup_s=1.0,
        grace_s=30.0,
        standstill_s=500.0,
        rebalance_s=300.0,
        clock=clock,
    )

    with capture_logs() as logs:
        await worker.start()
        with pytest.raises(KafkaLostError, match="30 calls"):
            await worker.wait()

    assert dispatcher.drained
    assert settling.looks == 30
    assert {"calls": 30, "event": "worker.calls_left_behind", "log_level": "error"} in logs


@pytest.mark.invariant("P1")
async def test_one_in_which_nothing_is_settled_says_what_it_waits_for_and_ends_to_be_replaced() -> (
    None
):
    class Fast(Thread):
        left_behind = 0

    dispatcher, clock = FakeDispatcher(), ManualClock(hands_free=True)
    parts = parts_of(dispatcher, Fast(), Thread(), clock)
    parts.settler.owes = "batch 3 of 2 outcomes to be stored"
    worker = Worker(
        lambda _: parts,
        startup_s=1.0,
        grace_s=30.0,
        standstill_s=60.0,
        rebalance_s=300.0,
        clock=clock,
    )

    with capture_logs() as logs:
        await worker.start()
        with pytest.raises(StandstillError, match=r"60 s .* batch 3 of 2 outcomes"):
            await worker.wait()

    assert dispatcher.drained
    assert worker.progress.still == "nothing moves: it waits for batch 3 of 2 outcomes to be stored"
    (line,) = [line for line in logs if line["event"] == "worker.stands_still"]
    assert line["waits_for"] == "settling"
