"""A parent process whose workers are small scripts, for tests of what the two do together.

A child writes what it hears to the parent's standard output, which it inherits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from redrive.consumer.parent_pipe import LAST_EXIT
from redrive.testing.worker_process import wait_until

WITHIN_S = 20

PARENT = """
import signal, sys
from redrive.consumer.adopted import become_subreaper
from redrive.consumer.launcher import Launcher
from redrive.consumer.supervisor import Supervisor, WorkerSpec
from redrive.consumer.template import Template
from redrive.telemetry.logging import configure_logging

# It stays ignored where the tests themselves are run under `nohup`.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
configure_logging(json=True)
patience_s, size, script, modules = float(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
workers = [WorkerSpec([sys.executable, "-c", script], f"w-{number}") for number in range(size)]
make_template = None
if modules:
    assert become_subreaper() is None
    make_template = lambda: Template([sys.executable], modules.split(","))
supervisor = Supervisor(workers, patience_s=patience_s, launcher=Launcher(make_template))
sys.exit(supervisor.run())
"""
# Says how it was started and what it hears, and ends with its parent.
CHILD = """
import asyncio, os, signal, sys
from redrive.consumer.parent_pipe import handover, last_exit, parent_pipe, times_asked

child = handover()

def say(*words):
    who = [] if child.of == 1 or words[0] == "pid" else [f"{{child.number}}:"]
    os.write(1, (" ".join(map(str, [*who, *words])) + "\\n").encode())

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
    """A supervisor in a process of its own, with children that are a script.

    Args:
        folder: Where it works.
        body: What a child does once it listens.
        on_signal: What it does when it hears a signal.
        patience_s: How long children may take to stop, in seconds.
        size: How many there are.
        modules: What its template imports, with commas between; empty for no template.
    """

    def __init__(
        self,
        folder: Path,
        *,
        body: str,
        on_signal: str,
        patience_s: float,
        size: int,
        modules: str,
    ) -> None:
        child = CHILD.format(body=body, on_signal=on_signal)
        self._out, self._log = folder / "out.txt", folder / "log.txt"
        with self._out.open("w+b") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PARENT, str(patience_s), str(size), child, modules],
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
        return self.process.wait(WITHIN_S * 5)

    def logged(self, event: str) -> list[dict[str, object]]:
        """Return the lines of this event that the parent has logged."""
        lines = (json.loads(line) for line in self.log.splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == event]


StartParent = Callable[..., Parent]


def starting(folder: Path, *, modules: str) -> Iterator[StartParent]:
    """Yield what starts parents, and end them all."""
    made: list[Parent] = []

    def start(
        *,
        body: str = "",
        on_signal: str = "",
        patience_s: float = 60.0,
        size: int = 1,
        modules: str = modules,
    ) -> Parent:
        made.append(
            Parent(
                folder,
                body=body,
                on_signal=on_signal,
                patience_s=patience_s,
                size=size,
                modules=modules,
            )
        )
        return made[-1]

    yield start
    for parent in made:
        parent.process.kill()
        parent.process.wait(WITHIN_S)
