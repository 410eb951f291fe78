"""Real worker processes: started, watched by what they log, killed at will."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from redrive.clock import SYSTEM
from redrive.testing.forking import ForkedProcess, can_fork, fork_program

__all__ = ["WorkerProcess", "wait_until"]

Process = subprocess.Popen[bytes] | ForkedProcess

_MOST_STRETCHED = 10
_MOST_LENIENT = 0.8
_PRESSURE = Path("/proc/pressure/cpu")


def wait_until(
    condition: Callable[[], object],
    *,
    timeout_s: float,
    what: str,
    every_s: float = 0.05,
    progress: Callable[[], object] | None = None,
) -> None:
    """Return once `condition` is true.

    On a busy machine it waits for longer, up to ten times: seconds in which others wait for a
    processor count for less, and with `progress` none count before something stands still.

    Args:
        condition: What is waited for.
        timeout_s: How long to wait, in seconds; with `progress`, since it last changed.
        what: Names it in the error.
        every_s: How often to look, in seconds.
        progress: Something that changes as long as things move.

    Raises:
        TimeoutError: It was not true in time.
    """
    began = looked = SYSTEM.monotonic()
    waited_s = 0.0
    seen = None if progress is None else progress()
    while not condition():
        now = SYSTEM.monotonic()
        waited_s += (now - looked) * (1.0 - _MOST_LENIENT * processor_pressure())
        looked = now
        if progress is not None and (found := progress()) != seen:
            seen, waited_s = found, 0.0
        if waited_s > timeout_s or now > began + _MOST_STRETCHED * timeout_s:
            still = "" if progress is None else f", and nothing moved for {waited_s:.0f} s"
            raise TimeoutError(f"{what}: not within {now - began:.0f} s{still}")
        SYSTEM.block(every_s)


def processor_pressure() -> float:
    """Return the share of the last ten seconds in which something waited for a processor.

    As Linux tells it (pressure stall information); 0 where it does not.
    """
    try:
        told = _PRESSURE.read_text(encoding="ascii")
    except OSError:
        return 0.0
    found = re.search(r"some avg10=([0-9.]+)", told)
    return float(found[1]) / 100 if found else 0.0


class WorkerProcess:
    """One `redrive worker`, as a process of its own.

    Args:
        folder: Where it runs: the graphs' modules and its relative paths are found there.
        environ: Its settings, as REDRIVE_… variables.
        arguments: Further flags of `redrive worker`.
        name: Tells its log files apart.
        supervised: Whether a parent process watches it and replaces it. `pid`, and what is sent or
            killed here, is the parent then, and the log holds the lines of all its children.
        program: What Python runs instead of `redrive`, such as a script that changes something of
            it first; gets the same arguments.
        own_interpreter: Whether it is started as a user starts it. Otherwise it is forked from a
            process that has imported all of it, which saves seconds; see `redrive.testing.forking`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environ: Mapping[str, str],
        arguments: tuple[str, ...] = (),
        name: str = "worker",
        supervised: bool = False,
        program: tuple[str, ...] = ("-m", "redrive"),
        own_interpreter: bool = False,
    ) -> None:
        self._folder = folder
        self._environ = {**os.environ, **environ}
        self._supervised = supervised
        processes = ("--processes", "1" if supervised else "0")
        self._program = (*program, "worker", *processes, *arguments, "--log-format", "json")
        self._is_forked = not own_interpreter and can_fork(self._environ)
        self._name = name
        self._process: Process | None = None
        self._lives = 0

    @property
    def log_file(self) -> Path:
        """The log of its current life, JSON lines."""
        return self._folder / f"{self._name}.{self._lives}.log"

    @property
    def name(self) -> str:
        """What tells its log files apart."""
        return self._name

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    @property
    def running_now(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def child_pid(self) -> int:
        """The process id of the parent's newest child.

        Raises:
            LookupError: It has started none yet, or is no parent.
        """
        pids = [started["pid"] for started in self.events("supervisor.child_started")]
        if not pids:
            raise LookupError(f"{self._name} has no child")
        return int(str(pids[-1]))

    @property
    def child_pids(self) -> dict[str, int]:
        """The process ids of the parent's newest children, by the names of the workers."""
        started = self.events("supervisor.child_started")
        return {str(one["worker"]): int(str(one["pid"])) for one in started}

    def start(self) -> None:
        """Start it, or start it again."""
        self._lives += 1
        with self.log_file.open("wb") as out:
            if self._is_forked:
                self._process = fork_program(
                    self._program, environ=self._environ, folder=self._folder, output=out.fileno()
                )
                return
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, *self._program],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Kill it with -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(timeout_s=10)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._running().send_signal(number)

    def stop(self, *, timeout_s: float = 40.0) -> int:
        """Ask it to stop, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float) -> int:
        """Return its exit code once it has ended."""
        return self._running().wait(timeout_s)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            if self._supervised:
                self._stop_at_once()
            self._process.kill()
            self._process.wait(10)

    def events(self, name: str | None = None) -> Iterator[dict[str, object]]:
        """Go over what its current life has logged; with a name, only such events."""
        for line in self.log_file.read_bytes().splitlines():
            if not line.startswith(b"{"):
                continue
            event = json.loads(line)
            if name is None or event.get("event") == name:
                yield event

    def wait_for(self, event: str, *, timeout_s: float = 60.0) -> dict[str, object]:
        """Return the first such event of its current life; fail when it ends before."""

        def seen() -> bool:
            if any(True for _ in self.events(event)):
                return True
            if self._running().poll() is not None:
                raise RuntimeError(
                    f"{self._name} ended with {self._running().poll()} before {event!r}:\n"
                    + self.log_file.read_text(errors="replace")[-4000:]
                )
            return False

        size = lambda: self.log_file.stat().st_size  # noqa: E731
        wait_until(seen, timeout_s=timeout_s, what=f"{self._name}: {event!r}", progress=size)
        return next(self.events(event))

    @contextmanager
    def running(self) -> Iterator[WorkerProcess]:
        """Start it, and end it at the end of the block."""
        self.start()
        try:
            yield self
        finally:
            self.close()

    def _stop_at_once(self) -> None:
        # Killed, a parent would leave its child to drain. Two different signals: of two equal ones
        # that wait, the system keeps one.
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.wait(timeout_s=15)

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self._name} was not started")
        return self._process
