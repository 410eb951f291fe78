"""The parent process and its one worker, which is a small script."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.scripted import WITHIN_S, StartParent, starting

from redrive.testing.worker_process import wait_until


@pytest.fixture(params=["", "redrive.consumer.parent_pipe"], ids=["interpreters", "template"])
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartParent]:
    yield from starting(tmp_path, modules=request.param)


FIRST = "started after None"


def test_a_child_that_is_killed_is_replaced_and_the_new_one_knows_how(start: StartParent) -> None:
    parent = start(on_signal="sys.exit(0)")
    parent.wait_for(FIRST)

    os.kill(parent.children[0], signal.SIGKILL)

    second = "started after killed by SIGKILL (possibly out of memory)"
    parent.wait_for(FIRST, second)
    parent.process.terminate()
    code = parent.wait()
    assert code == 0
    assert parent.log.count("supervisor.child_started") == 2
    assert '"restart_in_s": 0.0' in parent.log


def test_a_child_that_ends_with_75_is_replaced_at_once_and_then_after_a_second(
    start: StartParent,
) -> None:
    parent = start(body="sys.exit(75 if last_exit() is None else 3 if '75' in last_exit() else 4)")

    code = parent.wait()

    assert code == 4
    assert parent.said == [FIRST, "started after exit code 75", "started after exit code 3"]
    waits = [line for line in parent.log.splitlines() if "supervisor.child_died" in line]
    assert ['"restart_in_s": 0.0' in waits[0], '"restart_in_s": 1.0' in waits[1]] == [True, True]


@pytest.mark.parametrize("status", [2, 4, 130])
def test_a_child_that_ends_for_good_is_not_replaced(start: StartParent, status: int) -> None:
    parent = start(body=f"sys.exit({status})")

    code = parent.wait()

    assert (code, parent.said) == (status, [FIRST])
    assert "supervisor.child_died" not in parent.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_sent_on_once_and_the_childs_exit_code_is_kept(
    start: StartParent, number: signal.Signals
) -> None:
    parent = start(on_signal="sys.exit(75)")
    parent.wait_for(FIRST)

    parent.process.send_signal(number)

    code = parent.wait()
    assert code == 75
    assert parent.said == [FIRST, f"heard {number.name} asked 1"]
    assert parent.log.count("supervisor.stopping") == 1


def test_a_second_signal_is_sent_on_as_well(start: StartParent) -> None:
    parent = start(on_signal="if asked == 2: os._exit(130)")
    parent.wait_for(FIRST)
    parent.process.terminate()
    parent.wait_for(FIRST, "heard SIGTERM asked 1")

    parent.process.terminate()

    code = parent.wait()
    assert code == 130
    assert parent.said[-1] == "heard SIGTERM asked 2"


def test_a_signal_to_the_whole_group_of_processes_asks_once(start: StartParent) -> None:
    parent = start()
    parent.wait_for(FIRST)
    os.kill(parent.children[0], signal.SIGTERM)
    parent.wait_for(FIRST, "heard SIGTERM asked 1")

    parent.process.terminate()

    parent.wait_for(FIRST, "heard SIGTERM asked 1", "heard SIGTERM asked 1")


def test_a_ctrl_c_on_the_terminal_reaches_the_child_through_the_parent_alone(
    start: StartParent,
) -> None:
    parent = start(on_signal="sys.exit(0)")
    parent.wait_for(FIRST)

    assert os.getpgid(parent.children[0]) != os.getpgid(parent.process.pid)
    assert os.getsid(parent.children[0]) == parent.children[0]


def test_a_child_that_does_not_stop_is_killed_when_the_patience_is_over(
    start: StartParent,
) -> None:
    parent = start(patience_s=0.5)
    parent.wait_for(FIRST)

    parent.process.terminate()

    code = parent.wait()
    assert code == 128 + signal.SIGKILL
    assert parent.said == [FIRST, "heard SIGTERM asked 1"]
    assert parent.log.count("supervisor.child_killed") == 1


def test_a_parent_that_is_told_to_stop_while_it_waits_starts_no_other_child(
    start: StartParent,
) -> None:
    parent = start(body="sys.exit(3)")
    wait_until(
        lambda: '"restart_in_s": 2.0' in parent.log, timeout_s=WITHIN_S, what="the third death"
    )

    # Two seconds pass until the next one.
    parent.process.terminate()

    code = parent.wait()
    assert code == 3
    assert len(parent.children) == 3
    assert parent.log.count("supervisor.stopping") == 1


def test_a_child_hears_of_a_parent_that_was_killed(start: StartParent) -> None:
    parent = start()
    parent.wait_for(FIRST)

    parent.process.kill()

    parent.wait_for(FIRST, "parent gone")
