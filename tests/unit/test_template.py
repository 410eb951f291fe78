"""A process that imports once and forks: what it refuses, when it is renewed, what a fork gets."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.scripted import WITHIN_S, Parent, StartParent, starting

from redrive.consumer.template import Template, TemplateError, TemplateStaleError
from redrive.testing.forking import ForkedProcess
from redrive.testing.worker_process import wait_until

STOPS = "sys.exit(0)"
WAITS = "import signal\nprint(1, flush=True)\nsignal.pause()"
UNSAFE = {
    "starts a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    ),
    "opens a socket": "import socket\nkept = socket.socket()\n",
    "opens an event loop": "import selectors\nkept = selectors.EpollSelector()\n",
    "cannot be imported": "raise SystemExit(3)\n",
}
TELLS = """
import json, os, random, sys, threading, uuid
print(json.dumps({
    "arguments": sys.argv[1:], "folder": os.getcwd(), "first": sys.path[0],
    "environ": dict(os.environ), "threads": len(os.listdir("/proc/self/task")),
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:-1], "session": os.getsid(0),
    "random": [random.random(), uuid.uuid4().hex, uuid.uuid1().hex],
}))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartParent]:
    yield from starting(tmp_path, modules="redrive.consumer.parent_pipe")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that processes started from here can import as `slow_library`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path / "slow_library.py"


@pytest.fixture
def template(module: Path) -> Iterator[Template]:
    module.write_text("VALUE = 1\n")
    made = Template([sys.executable], ["slow_library"], keeps=True)
    select.select((made,), (), (), WITHIN_S)
    made.hear()
    yield made
    made.close()


def fork(template: Template, folder: Path, *program: str, **environ: str) -> ForkedProcess:
    with (folder / "out").open("wb") as out:
        pipes = {"stdout": out.fileno(), "stderr": out.fileno()}
        command = [sys.executable, *program]
        pid = template.fork(command, environ=environ, pipes=pipes, folder=str(folder))
        return ForkedProcess(template, pid)


def templates(parent: Parent) -> list[object]:
    return [line["pid"] for line in parent.logged("supervisor.template_ready")]


def test_a_fork_is_what_a_new_interpreter_would_be(template: Template, tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLS)
    # Python itself would set the latter where it is missing.
    environ = {"ONLY": "this", "LC_CTYPE": "C.UTF-8"}
    told = {}
    for how in (["tells.py"], ["-m", "tells"], ["-c", TELLS]):
        forked = fork(template, tmp_path, *how, "a", "b c", **environ)
        assert forked.wait(WITHIN_S) == 0
        mine = json.loads((tmp_path / "out").read_text())
        plain = subprocess.run(
            [sys.executable, *how, "a", "b c"],
            cwd=tmp_path,
            env=environ,
            check=True,
            capture_output=True,
            start_new_session=True,
        )
        theirs = json.loads(plain.stdout)
        told[how[0]] = mine["random"]

        same = ("arguments", "folder", "environ", "threads", "descriptors")
        assert {name: mine[name] for name in same} == {name: theirs[name] for name in same}
        assert Path(mine["first"]).resolve() == Path(theirs["first"]).resolve()
        assert mine["session"] == forked.pid

    for drawn in zip(*told.values(), strict=True):
        assert len(set(drawn)) == len(told)


def test_a_template_that_keeps_its_workers_tells_their_exit_codes(
    template: Template, tmp_path: Path
) -> None:
    ended = fork(template, tmp_path, "-c", "raise SystemExit(75)")
    raised = fork(template, tmp_path, "-c", "1 / 0")
    waits = fork(template, tmp_path, "-c", "import signal\nsignal.pause()")

    assert (ended.wait(WITHIN_S), raised.wait(WITHIN_S), waits.poll()) == (75, 1, None)
    with pytest.raises(subprocess.TimeoutExpired):
        waits.wait(0.01)
    waits.kill()
    assert waits.wait(WITHIN_S) == -signal.SIGKILL


def test_a_fork_hears_signals_as_a_new_interpreter_does(template: Template, tmp_path: Path) -> None:
    codes = {}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        forked = fork(template, tmp_path, "-c", WAITS)
        wait_until((tmp_path / "out").read_text, timeout_s=WITHIN_S, what="its start")
        forked.send_signal(number)
        codes[number.name] = forked.wait(WITHIN_S)

    assert codes == {"SIGTERM": -15, "SIGHUP": -1, "SIGINT": -2}


def test_what_has_changed_on_disk_is_not_forked(
    template: Template, module: Path, tmp_path: Path
) -> None:
    module.write_text("VALUE = 1234567\n")

    with pytest.raises(TemplateStaleError, match=r"slow_library\.py has changed"):
        fork(template, tmp_path, "-c", "")


def test_a_template_that_is_frozen_or_gone_is_not_waited_for(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redrive.consumer.template._ANSWERS_WITHIN_S", 0.2)
    slow = Template([sys.executable], ["slow_library"])
    os.kill(slow.pid, signal.SIGSTOP)
    with pytest.raises(TemplateError, match="does not answer"):
        slow.hear()
    slow.close()

    os.kill(template.pid, signal.SIGKILL)
    with pytest.raises(TemplateError, match=r"has ended with -9|has gone"):
        fork(template, tmp_path, "-c", "")


@pytest.mark.parametrize("why", UNSAFE)
def test_a_module_that_is_not_to_be_forked_is_named_and_workers_start_without_a_template(
    start: StartParent, module: Path, why: str
) -> None:
    module.write_text(UNSAFE[why])

    parent = start(modules="json,slow_library", on_signal=STOPS)

    parent.wait_for("started after None")
    parent.process.terminate()
    assert parent.wait() == 0
    (unused,) = parent.logged("supervisor.template_unused")
    assert f"'slow_library' {why}" in str(unused["why"])
    assert templates(parent) == []


def test_what_changes_between_two_lives_is_read_anew(start: StartParent, module: Path) -> None:
    module.write_text("VALUE = 1\n")
    says = "import slow_library\nsay('value', slow_library.VALUE)"
    parent = start(modules="slow_library", body=says, on_signal=STOPS)
    parent.wait_for("started after None", "value 1")

    module.write_text("VALUE = 22\n")
    os.kill(parent.children[0], signal.SIGKILL)

    again = "started after killed by SIGKILL (possibly out of memory)"
    parent.wait_for("started after None", "value 1", again, "value 22")
    (renewed,) = parent.logged("supervisor.template_renewing")
    assert str(module) in str(renewed["why"])
    assert len(templates(parent)) == 2


def test_a_hang_up_without_a_terminal_renews_the_template_and_no_worker(start: StartParent) -> None:
    parent = start(on_signal=STOPS)
    parent.wait_for("started after None")

    parent.process.send_signal(signal.SIGHUP)

    wait_until(lambda: len(templates(parent)) == 2, timeout_s=WITHIN_S, what="another template")
    (first, second), (child,) = templates(parent), parent.children
    os.kill(child, 0)
    parent.process.terminate()
    assert parent.wait() == 0
    assert first != second
    assert parent.said == ["started after None", "heard SIGTERM asked 1"]


def test_a_template_that_dies_takes_no_worker_along_and_is_replaced_once(
    start: StartParent,
) -> None:
    parent = start(on_signal=STOPS)
    parent.wait_for("started after None")

    for count in (1, 2):
        os.kill(int(str(templates(parent)[-1])), signal.SIGKILL)
        news = ("supervisor.template_renewing", "supervisor.template_unused")[count - 1]
        wait_until(lambda: parent.logged(news), timeout_s=WITHIN_S, what=news)  # noqa: B023
        if count == 1:
            wait_until(lambda: len(templates(parent)) == 2, timeout_s=WITHIN_S, what="another")

    os.kill(parent.children[0], signal.SIGKILL)
    again = "started after killed by SIGKILL (possibly out of memory)"
    parent.wait_for("started after None", again)
    parent.process.terminate()
    assert parent.wait() == 0


def test_the_template_ends_with_its_parent_however_that_ends(start: StartParent) -> None:
    parent = start()
    parent.wait_for("started after None")
    (template,) = templates(parent)

    parent.process.kill()

    gone = lambda: not Path(f"/proc/{template}").exists()  # noqa: E731
    wait_until(gone, timeout_s=WITHIN_S, what="its end")


REAPS = """
import os, subprocess, sys
from redrive.consumer.adopted import OrphanReaper, become_subreaper
from redrive.testing.manual_clock import ManualClock

assert become_subreaper() is None
clock = ManualClock()
reaper = OrphanReaper(clock)
leaves = "import os\\npid = os.fork()\\nprint(pid) if pid else os._exit(7)"
left = int(subprocess.run([sys.executable, "-c", leaves], stdout=-1, check=True).stdout)
own = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])
for pid in (left, own.pid):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
seen = []
for number in range(6):
    reaper.reap([own.pid] if number < 3 else [])
    if number == 3:
        own.wait()
    seen.append(os.path.exists(f"/proc/{left}"))
    clock.advance(6.0)
print(own.returncode, seen[0], seen[-1])
"""


def test_orphans_that_have_ended_are_let_go_and_nobodys_child_is_taken() -> None:
    done = subprocess.run([sys.executable, "-c", REAPS], check=True, capture_output=True, text=True)

    assert done.stdout.split() == ["5", "True", "False"]
