"""The parent process and several workers, which are small scripts: each is seen to by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.unit.scripted import WITHIN_S, Parent, StartParent, starting

from redrive.consumer.launcher import Launcher
from redrive.consumer.worker_slot import Died, WorkerSlot
from redrive.testing.manual_clock import ManualClock
from redrive.testing.worker_process import wait_until

STOPS = "sys.exit(0)"
# What all of them say goes to one file.
ENDS_WHEN_BOTH_ARE_THERE = """
def look():
    if os.pread(1, 10_000, 0).count(b"started") == 2:
        os._exit({status})
    loop.call_later(0.02, look)
if child.number == 1:
    loop.call_soon(look)
"""


@pytest.fixture(params=["", "redrive.consumer.parent_pipe"], ids=["interpreters", "template"])
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartParent]:
    yield from starting(tmp_path, modules=request.param)


def wait_until_said(parent: Parent, *lines: str) -> None:
    """Wait until the children have said these, and nothing else, in whatever order."""
    said = lambda: sorted(parent.said) == sorted(lines)  # noqa: E731
    wait_until(said, timeout_s=WITHIN_S, what=str(lines))


def pids(parent: Parent, *, starts: int) -> dict[object, object]:
    """Return the newest process of each worker, once so many were started."""
    # A child may have said something before its parent says that it is there.
    said = lambda: len(parent.logged("supervisor.child_started")) == starts  # noqa: E731
    wait_until(said, timeout_s=WITHIN_S, what=f"{starts} starts")
    return {line["worker"]: line["pid"] for line in parent.logged("supervisor.child_started")}


FIRST = ("0: started after None", "1: started after None")


def test_only_the_child_that_was_killed_is_replaced(start: StartParent) -> None:
    parent = start(size=2, on_signal=STOPS)
    wait_until_said(parent, *FIRST)
    before = pids(parent, starts=2)

    os.kill(int(str(before["w-1"])), signal.SIGKILL)

    again = "1: started after killed by SIGKILL (possibly out of memory)"
    wait_until_said(parent, *FIRST, again)
    after = pids(parent, starts=3)
    parent.process.terminate()
    assert parent.wait() == 0
    assert after["w-0"] == before["w-0"]
    assert after["w-1"] != before["w-1"]
    assert [died["worker"] for died in parent.logged("supervisor.child_died")] == ["w-1"]


def test_each_child_waits_for_its_own_deaths_alone(start: StartParent) -> None:
    dies_once = "if child.number == 0 and last_exit() is None: sys.exit(75)"
    dies = f"{dies_once}\nif child.number == 1: sys.exit(3)"
    parent = start(size=2, body=dies, on_signal=STOPS)

    deaths = lambda: len(parent.logged("supervisor.child_died")) == 4  # noqa: E731
    wait_until(deaths, timeout_s=WITHIN_S, what="three deaths of one, and one of the other")
    parent.process.terminate()

    # The one that waits for its time is not started any more.
    assert parent.wait() == 3
    waits = [(one["worker"], one["restart_in_s"]) for one in parent.logged(DIED)]
    assert [wait for name, wait in waits if name == "w-0"] == [0.0]
    assert [wait for name, wait in waits if name == "w-1"] == [0.0, 1.0, 2.0]


DIED = "supervisor.child_died"


@pytest.mark.parametrize("status", [2, 4, 130])
def test_a_child_that_ends_for_good_ends_all(start: StartParent, status: int) -> None:
    ends = ENDS_WHEN_BOTH_ARE_THERE.format(status=status)
    parent = start(size=2, body=ends, on_signal=STOPS)

    code = parent.wait()

    assert code == status
    assert "0: heard SIGTERM asked 1" in parent.said
    (all_stop,) = parent.logged("supervisor.stopping_all")
    assert (all_stop["worker"], all_stop["code"]) == ("w-1", status)
    assert len(parent.children) == 2


def test_a_child_that_cannot_start_again_later_costs_none_of_the_others(
    start: StartParent,
) -> None:
    # A broker that is away, say: another start may find it.
    first_dies = "if child.number == 1 and last_exit() is None: os._exit(1)"
    then_two = "if child.number == 1 and last_exit() == 'exit code 1': os._exit(2)"
    parent = start(size=2, body=f"{first_dies}\n{then_two}", on_signal=STOPS)

    wait_until_said(parent, *FIRST, "1: started after exit code 1", "1: started after exit code 2")

    parent.process.terminate()
    assert parent.wait() == 0


def test_the_first_signal_while_one_has_ended_all_does_not_hurry_the_others(
    start: StartParent,
) -> None:
    ends = ENDS_WHEN_BOTH_ARE_THERE.format(status=4)
    parent = start(size=2, body=ends)
    wait_until_said(parent, *FIRST, "0: heard SIGTERM asked 1")

    parent.process.terminate()
    wait_until(lambda: parent.logged("supervisor.stopping"), timeout_s=WITHIN_S, what="the signal")
    parent.process.send_signal(signal.SIGINT)

    wait_until_said(parent, *FIRST, "0: heard SIGTERM asked 1", "0: heard SIGINT asked 2")


def test_a_signal_reaches_all_and_the_worst_exit_code_is_kept(start: StartParent) -> None:
    parent = start(size=3, on_signal="sys.exit([0, 75, 3][child.number])")
    wait_until_said(parent, *FIRST, "2: started after None")

    parent.process.terminate()

    assert parent.wait() == 3
    heard = [line for line in parent.said if "heard" in line]
    assert sorted(heard) == [f"{n}: heard SIGTERM asked 1" for n in range(3)]


def test_only_those_that_do_not_stop_in_time_are_killed(start: StartParent) -> None:
    parent = start(size=2, on_signal="child.number or sys.exit(0)", patience_s=0.5)
    wait_until_said(parent, *FIRST)

    parent.process.terminate()

    assert parent.wait() == 128 + signal.SIGKILL
    assert [one["worker"] for one in parent.logged("supervisor.child_killed")] == ["w-1"]


def test_all_hear_of_a_parent_that_was_killed(start: StartParent) -> None:
    parent = start(size=2)
    wait_until_said(parent, *FIRST)

    parent.process.kill()

    wait_until_said(parent, *FIRST, "0: parent gone", "1: parent gone")


def test_a_worker_that_cannot_be_started_again_is_tried_later(tmp_path: Path) -> None:
    clock, command, deaths = ManualClock(), tmp_path / "worker", list[str]()
    command.write_text("#!/bin/sh\nexit 3\n")
    command.chmod(0o700)
    died: Died = lambda _worker, _in_a_row, how: deaths.append(how)  # noqa: E731
    slot = WorkerSlot(
        0,
        [str(command)],
        worker_id=None,
        environ={},
        launcher=Launcher(clock=clock),
        pool=None,
        died=died,
        clock=clock,
    )

    def deaths_seen() -> int:
        slot.look(stopping=False)
        return len(deaths)

    slot.start()
    wait_until(deaths_seen, timeout_s=WITHIN_S, what="its end")
    kept = command.rename(tmp_path / "kept")
    with capture_logs() as logs:
        slot.look(stopping=False)
        kept.rename(command)
        slot.look(stopping=False)
    clock.advance(10.0)
    slot.look(stopping=False)

    assert [log["event"] for log in logs] == ["supervisor.child_not_started"]
    assert slot.child is not None
    wait_until(lambda: deaths_seen() == 2, timeout_s=WITHIN_S, what="its second end")
