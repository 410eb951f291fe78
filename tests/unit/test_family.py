"""The workers of one parent as others see them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from redrive.consumer.family import Family
from redrive.consumer.health import Check
from redrive.consumer.report import Report, Reporter
from redrive.telemetry import metrics as figures
from redrive.telemetry.instruments import Figure, Reading
from redrive.testing.clock import TurnedClock
from redrive.testing.worker import wait_until

WORKING = Check(ok=True, why="working")
RUNS = ("report", "succeeded")
RETRY = ("retry",)


def said(
    number: int, *, alive: Check = WORKING, ready: Check = WORKING, runs: float = 0, held: float = 0
) -> bytes:
    """Return the line of a worker that stands so."""
    readings = (
        Reading(figures.RUNS, {RUNS: runs}),
        Reading(figures.WAITING, {RETRY: held}),
        Reading(figures.READY, {(str(number),): int(ready.ok)}),
    )
    return Report(alive, ready, readings).to_line()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def family(clock: TurnedClock) -> Family:
    """Two workers that have just been started."""
    family = Family(2, stall_s=30.0, clock=clock)
    for number in (0, 1):
        family.started(number, f"w-{number}")
    return family


def values(family: Family, figure: Figure) -> dict[tuple[str, ...], float]:
    (found,) = [reading for reading in family.readings() if reading.figure is figure]
    return dict(found.values)


def test_workers_that_say_nothing_yet_are_alive_and_not_ready(family: Family) -> None:
    assert family.alive() == Check(ok=True, why="starting")
    assert family.ready() == Check(ok=False, why="w-0: starting; w-1: starting")
    assert values(family, figures.READY) == {("0",): 0, ("1",): 0}


def test_all_are_ready_when_each_is_and_else_the_others_are_named(family: Family) -> None:
    family.heard(0, said(0))
    one_ready = family.ready(), values(family, figures.READY)
    family.heard(1, said(1))

    assert one_ready == (Check(ok=False, why="w-1: starting"), {("0",): 1, ("1",): 0})
    assert (family.ready(), values(family, figures.READY)) == (WORKING, {("0",): 1, ("1",): 1})


def test_one_that_stands_still_is_named_and_makes_all_dead(family: Family) -> None:
    family.heard(0, said(0))
    family.heard(1, said(1, alive=Check(ok=False, why="the event loop stands still for 31 s")))

    assert family.alive() == Check(ok=False, why="w-1: the event loop stands still for 31 s")
    assert not family.ready().ok


def test_one_that_falls_silent_stands_still(family: Family, clock: TurnedClock) -> None:
    for number in (0, 1):
        family.heard(number, said(number))
    clock.advance(20.0)
    family.heard(0, said(0))
    clock.advance(10.5)

    assert family.alive() == Check(ok=False, why="w-1: nothing was heard for 30 s")
    assert family.ready() == Check(ok=False, why="w-1: nothing was heard for 30 s")


def test_one_that_starts_has_a_minute_until_its_first_word(
    family: Family, clock: TurnedClock
) -> None:
    clock.advance(59.0)
    in_time = family.alive().ok
    clock.advance(2.0)

    assert (in_time, family.alive().ok) == (True, False)


def test_one_that_died_and_is_replaced_is_no_standstill_but_not_ready(family: Family) -> None:
    family.heard(0, said(0))
    family.ended(1, "exit code 75: starts again")

    assert family.alive() == Check(ok=True, why="w-0: working; w-1: exit code 75: starts again")
    assert family.ready() == Check(ok=False, why="w-1: exit code 75: starts again")
    assert values(family, figures.READY) == {("0",): 1, ("1",): 0}


def test_a_single_worker_speaks_for_itself(clock: TurnedClock) -> None:
    family = Family(1, stall_s=30.0, clock=clock)
    family.started(0, "w")
    draining = Check(ok=False, why="draining")
    family.heard(0, said(0, alive=Check(ok=True, why="draining"), ready=draining))

    assert (family.alive(), family.ready()) == (Check(ok=True, why="draining"), draining)


@pytest.mark.invariant("P14")
def test_what_a_worker_has_counted_outlives_it_and_how_it_stood_does_not(family: Family) -> None:
    family.heard(0, said(0, runs=5, held=2))
    family.heard(1, said(1, runs=7, held=3))
    both = values(family, figures.RUNS)[RUNS], values(family, figures.WAITING)[RETRY]

    family.ended(1, "exit code 75: starts again")
    one_dead = values(family, figures.RUNS)[RUNS], values(family, figures.WAITING)[RETRY]
    family.started(1, "w-1")
    family.heard(1, said(1, runs=1, held=0))
    replaced = values(family, figures.RUNS)[RUNS], values(family, figures.WAITING)[RETRY]

    assert (both, one_dead, replaced) == ((12, 5), (12, 2), (13, 2))


def test_a_report_that_cannot_be_read_costs_what_it_said_and_not_the_parent(
    family: Family,
) -> None:
    family.heard(0, said(0, runs=5))
    family.heard(1, b"nonsense")

    with capture_logs() as logs:
        family.ended(1, "exit code 1: starts again")

    assert [log["event"] for log in logs] == ["supervisor.report_unreadable"]
    assert values(family, figures.RUNS) == {RUNS: 5}


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
    told = lambda: Report(WORKING, WORKING, (Reading(figures.RUNS, {RUNS: runs[0]}),))  # noqa: E731
    reporter = Reporter(pipe[1], told)
    lines = bytearray()

    def heard() -> int:
        lines.extend(read(pipe))
        return lines.count(b"\n")

    wait_until(lambda: heard() >= 2, timeout_s=10, what="two reports")
    runs[0] = 2.0
    reporter.close()
    heard()

    last = Report.from_line(bytes(lines).splitlines()[-1])
    assert last == Report(WORKING, WORKING, (Reading(figures.RUNS, {RUNS: 2.0}),))


def test_a_report_that_fails_is_logged_once_and_others_follow(pipe: tuple[int, int]) -> None:
    calls: list[int] = []

    def report() -> Report:
        calls.append(1)
        if len(calls) < 3:
            raise ZeroDivisionError
        return Report(WORKING, WORKING)

    with capture_logs() as logs:
        reporter = Reporter(pipe[1], report)
        wait_until(lambda: read(pipe), timeout_s=10, what="a report")
        reporter.close()

    assert [log["event"] for log in logs] == ["metrics.report_failed"]


def test_a_reporter_ends_with_its_parent() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with capture_logs() as logs:
        reporter = Reporter(writing, lambda: Report(WORKING, WORKING))
        wait_until(lambda: not reporter.is_running, timeout_s=10, what="its end")
    os.close(writing)

    assert logs == []
