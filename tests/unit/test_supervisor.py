"""The parent process: what it decides, and what it does with a child that is a small script.

The child writes what it hears to the parent's standard output, which it inherits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.consumer.supervisor import (
    LAST_EXIT,
    Decision,
    Restart,
    Stop,
    after_exit,
    how_it_ended,
    last_exit,
)
from redrive.testing.worker import wait_until

WITHIN_S = 20

STATUSES = st.integers(-64, 255)


@pytest.mark.parametrize(
    ("status", "first", "asked_to_stop", "decision"),
    [
        (0, True, False, Restart(0.0)),
        (0, False, True, Stop(0)),
        (1, True, False, Restart(0.0)),
        (2, True, False, Stop(2)),
        (2, False, False, Restart(0.0)),
        (3, True, False, Restart(0.0)),
        (4, True, False, Stop(4)),
        (4, False, False, Stop(4)),
        (17, True, False, Restart(0.0)),
        (75, True, False, Restart(0.0)),
        (130, False, False, Stop(130)),
        (-signal.SIGKILL, True, False, Restart(0.0)),
        (-signal.SIGKILL, False, True, Stop(137)),
        (-signal.SIGTERM, False, True, Stop(143)),
        (75, False, True, Stop(75)),
    ],
)
def test_what_follows_the_end_of_a_child(
    status: int,
    first: bool,  # noqa: FBT001 - a parameter of the test
    asked_to_stop: bool,  # noqa: FBT001 - as above
    decision: Decision,
) -> None:
    assert after_exit(status, first=first, restarts=0, asked_to_stop=asked_to_stop) == decision


def test_the_first_restart_is_at_once_and_further_ones_wait_up_to_30_seconds() -> None:
    decisions = [after_exit(1, first=False, restarts=n, asked_to_stop=False) for n in range(8)]

    assert decisions == [Restart(s) for s in (0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0)]


@given(STATUSES, st.booleans(), st.integers(0, 10**6))
def test_a_parent_that_was_told_to_stop_never_starts_another_child(
    status: int,
    first: bool,  # noqa: FBT001 - as above
    restarts: int,
) -> None:
    decision = after_exit(status, first=first, restarts=restarts, asked_to_stop=True)

    assert decision == Stop(status if status >= 0 else 128 + abs(status))


@given(STATUSES, st.booleans(), st.integers(0, 10**6), st.booleans())
def test_every_end_has_a_decision_within_its_bounds(
    status: int,
    first: bool,  # noqa: FBT001 - as above
    restarts: int,
    asked_to_stop: bool,  # noqa: FBT001 - as above
) -> None:
    match after_exit(status, first=first, restarts=restarts, asked_to_stop=asked_to_stop):
        case Restart(after_s):
            assert 0 <= after_s <= 10
        case Stop(code):
            assert 0 <= code <= 255


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (75, "exit code 75"),
        (-signal.SIGKILL, "killed by SIGKILL (possibly out of memory)"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-40, "killed by signal 40"),
    ],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words


def test_a_worker_that_has_no_predecessor_knows_of_none() -> None:
    assert last_exit({}) is None
    assert last_exit({LAST_EXIT: ""}) is None
    assert last_exit({LAST_EXIT: "exit code 75"}) == "exit code 75"


PARENT = """
import sys
from redrive.consumer.supervisor import Supervisor
from redrive.telemetry.logging import configure_logging

configure_logging(json=True)
child = [sys.executable, "-c", sys.argv[2]]
sys.exit(Supervisor(child, patience_s=float(sys.argv[1])).run())
"""
# Says how it was started and what it hears, and ends with its parent.
CHILD = """
import asyncio, os, signal, sys
from redrive.consumer.parent import parent_pipe, times_asked
from redrive.consumer.supervisor import last_exit

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def hear(number):
    heard.append(number)
    pipe.read()
    asked = times_asked(signals=len(heard), forwarded=pipe.forwarded)
    say("heard", number.name, "asked", asked)
    {on_signal}

def hear_parent():
    pipe.read()
    if pipe.is_gone:
        say("parent gone")
        loop.stop()

heard = []
pipe = parent_pipe()
loop = asyncio.new_event_loop()
for number in (signal.SIGTERM, signal.SIGINT):
    loop.add_signal_handler(number, hear, number)
loop.add_reader(pipe.number, hear_parent)
say("pid", os.getpid())
say("started after", last_exit())
{body}
loop.run_forever()
"""


class Parent:
    """A supervisor in a process of its own, with a child that is a script."""

    def __init__(self, folder: Path, *, body: str, on_signal: str, patience_s: float) -> None:
        child = CHILD.format(body=body, on_signal=on_signal)
        self._out, self._log = folder / "out.txt", folder / "log.txt"
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PARENT, str(patience_s), child],
                stdout=out,
                stderr=log,
                env={**os.environ, LAST_EXIT: "exit code 1"},
                cwd=folder,
            )

    @property
    def said(self) -> list[str]:
        """What the children have said, but for their process ids."""
        lines = self._out.read_text().splitlines()
        return [line for line in lines if not line.startswith("pid ")]

    @property
    def children(self) -> list[int]:
        """The process ids of the children until now."""
        lines = self._out.read_text().splitlines()
        return [int(line.removeprefix("pid ")) for line in lines if line.startswith("pid ")]

    @property
    def log(self) -> str:
        """What the parent has logged, JSON lines."""
        return self._log.read_text()

    def wait_for(self, *words: str) -> None:
        """Wait until the children have said exactly this."""
        wait_until(lambda: self.said == list(words), timeout_s=WITHIN_S, what=str(words))

    def wait(self) -> int:
        """Return its exit code, once it has ended."""
        return self.process.wait(WITHIN_S)


StartParent = Callable[..., Parent]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartParent]:
    made: list[Parent] = []

    def start(*, body: str = "", on_signal: str = "", patience_s: float = 60.0) -> Parent:
        made.append(Parent(tmp_path, body=body, on_signal=on_signal, patience_s=patience_s))
        return made[-1]

    yield start
    for parent in made:
        parent.process.kill()
        parent.process.wait(WITHIN_S)


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
