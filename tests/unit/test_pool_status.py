"""The workers of one parent as others see them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from redrive.consumer.health import Check
from redrive.consumer.pool_status import PoolStatus
from redrive.consumer.report import Reporter, WorkerReport
from redrive.telemetry import metrics as definitions
from redrive.telemetry.instruments import Metric, Sample
from redrive.testing.manual_clock import ManualClock
from redrive.testing.worker_process import wait_until

WORKING = Check(ok=True, why="working")
RUNS = ("report", "succeeded")
RETRY = ("retry",)


def said(
    number: int, *, alive: Check = WORKING, ready: Check = WORKING, runs: float = 0, held: float = 0
) -> bytes:
    """Return the line of a worker that stands so."""
    samples = (
        Sample(definitions.RUNS, {RUNS: runs}),
        Sample(definitions.WAITING, {RETRY: held}),
        Sample(definitions.READY, {(str(number),): int(ready.ok)}),
    )
    return WorkerReport(alive, ready, samples).to_line()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pool(clock: ManualClock) -> PoolStatus:
    """Two workers that have just been started."""
    pool = PoolStatus(2, stall_s=30.0, clock=clock)
    for number in (0, 1):
        pool.started(number, f"w-{number}")
    return pool


def values(pool: PoolStatus, metric: Metric) -> dict[tuple[str, ...], float]:
    (found,) = [sample for sample in pool.samples() if sample.metric is metric]
    return dict(found.values)


def test_workers_that_say_nothing_yet_are_alive_and_not_ready(pool: PoolStatus) -> None:
    assert pool.alive() == Check(ok=True, why="starting")
    assert pool.ready() == Check(ok=False, why="w-0: starting; w-1: starting")
    assert values(pool, definitions.READY) == {("0",): 0, ("1",): 0}


def test_all_are_ready_when_each_is_and_else_the_others_are_named(pool: PoolStatus) -> None:
    pool.heard(0, said(0))
    one_ready = pool.ready(), values(pool, definitions.READY)
    pool.heard(1, said(1))

    assert one_ready == (Check(ok=False, why="w-1: starting"), {("0",): 1, ("1",): 0})
    assert (pool.ready(), values(pool, definitions.READY)) == (WORKING, {("0",): 1, ("1",): 1})


def test_one_that_stands_still_is_named_and_makes_all_dead(pool: PoolStatus) -> None:
    pool.heard(0, said(0))
    pool.heard(1, said(1, alive=Check(ok=False, why="the event loop stands still for 31 s")))

    assert pool.alive() == Check(ok=False, why="w-1: the event loop stands still for 31 s")
    assert not pool.ready().ok


def test_one_that_falls_silent_stands_still(pool: PoolStatus, clock: ManualClock) -> None:
    for number in (0, 1):
        pool.heard(number, said(number))
    clock.advance(20.0)
    pool.heard(0, said(0))
    clock.advance(10.5)

    assert pool.alive() == Check(ok=False, why="w-1: nothing was heard for 30 s")
    assert pool.ready() == Check(ok=False, why="w-1: nothing was heard for 30 s")


def test_one_that_starts_has_a_minute_until_its_first_word(
    pool: PoolStatus, clock: ManualClock
) -> None:
    clock.advance(59.0)
    in_time = pool.alive().ok
    clock.advance(2.0)

    assert (in_time, pool.alive().ok) == (True, False)


def test_one_that_died_and_is_replaced_is_no_standstill_but_not_ready(pool: PoolStatus) -> None:
    pool.heard(0, said(0))
    pool.ended(1, "exit code 75: starts again")

    assert pool.alive() == Check(ok=True, why="w-0: working; w-1: exit code 75: starts again")
    assert pool.ready() == Check(ok=False, why="w-1: exit code 75: starts again")
    assert values(pool, definitions.READY) == {("0",): 1, ("1",): 0}


def test_a_single_worker_speaks_for_itself(clock: ManualClock) -> None:
    pool = PoolStatus(1, stall_s=30.0, clock=clock)
    pool.started(0, "w")
    draining = Check(ok=False, why="draining")
    pool.heard(0, said(0, alive=Check(ok=True, why="draining"), ready=draining))

    assert (pool.alive(), pool.ready()) == (Check(ok=True, why="draining"), draining)


@pytest.mark.invariant("P14")
def test_what_a_worker_has_counted_outlives_it_and_how_it_stood_does_not(pool: PoolStatus) -> None:
    pool.heard(0, said(0, runs=5, held=2))
    pool.heard(1, said(1, runs=7, held=3))
    both = values(pool, definitions.RUNS)[RUNS], values(pool, definitions.WAITING)[RETRY]

    pool.ended(1, "exit code 75: starts again")
    one_dead = values(pool, definitions.RUNS)[RUNS], values(pool, definitions.WAITING)[RETRY]
    pool.started(1, "w-1")
    pool.heard(1, said(1, runs=1, held=0))
    replaced = values(pool, definitions.RUNS)[RUNS], values(pool, definitions.WAITING)[RETRY]

    assert (both, one_dead, replaced) == ((12, 5), (12, 2), (13, 2))


def test_a_report_that_cannot_be_read_costs_what_it_said_and_not_the_parent(
    pool: PoolStatus,
) -> None:
    pool.heard(0, said(0, runs=5))
    pool.heard(1, b"nonsense")

    with capture_logs() as logs:
        pool.ended(1, "exit code 1: starts again")

    assert [log["event"] for log in logs] == ["supervisor.report_unreadable"]
    assert values(pool, definitions.RUNS) == {RUNS: 5}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


def read(pipe: tuple[int, int]) -> bytes:
    try:
        return os.read(pipe[0], 2**16)
    except BlockingIOError:
        return b""


def test_a_worker_reports_again_and_again_and_once_more_at_its_end(pipe: tuple[int, int]) -> None:
    runs = [1.0]
    told = lambda: WorkerReport(WORKING, WORKING, (Sample(definitions.RUNS, {RUNS: runs[0]}),))  # noqa: E731
    reporter = Reporter(pipe[1], told)
    lines = bytearray()

    def heard() -> int:
        lines.extend(read(pipe))
        return lines.count(b"\n")

    wait_until(lambda: heard() >= 2, timeout_s=10, what="two reports")
    runs[0] = 2.0
    reporter.close()
    heard()

    last = WorkerReport.from_line(bytes(lines).splitlines()[-1])
    assert last == WorkerReport(WORKING, WORKING, (Sample(definitions.RUNS, {RUNS: 2.0}),))


def test_a_report_that_fails_is_logged_once_and_others_follow(pipe: tuple[int, int]) -> None:
    calls: list[int] = []

    def report() -> WorkerReport:
        calls.append(1)
        if len(calls) < 3:
            raise ZeroDivisionError
        return WorkerReport(WORKING, WORKING)

    with capture_logs() as logs:
        reporter = Reporter(pipe[1], report)
        wait_until(lambda: read(pipe), timeout_s=10, what="a report")
        reporter.close()

    assert [log["event"] for log in logs] == ["metrics.report_failed"]


def test_a_reporter_ends_with_its_parent() -> None:
    sample, writing = os.pipe()
    os.close(sample)
    with capture_logs() as logs:
        reporter = Reporter(writing, lambda: WorkerReport(WORKING, WORKING))
        wait_until(lambda: not reporter.is_running, timeout_s=10, what="its end")
    os.close(writing)

    assert logs == []
