"""The parent process: starts a worker, watches it, and starts another when it dies.

It has no Kafka client and runs no graph, so that what kills the worker spares it. What a worker
knows of its parent is in `parent.py`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.consumer.parent import PARENT_PIPE
from redrive.retry.backoff import Exponential

__all__ = [
    "LAST_EXIT",
    "LONG_LIFE_S",
    "STOP_MARGIN_S",
    "Decision",
    "Restart",
    "Stop",
    "Supervisor",
    "after_exit",
    "how_it_ended",
    "last_exit",
]

log = structlog.get_logger("redrive.supervisor")

LAST_EXIT = "REDRIVE_LAST_EXIT"
LONG_LIFE_S = 30.0
# Beyond `worker.grace`: at worst a worker leaves the group, and its stuck nodes, after it.
STOP_MARGIN_S = 8.0
# From the second signal on; a worker whose event loop is blocked never hears it.
_AT_ONCE_S = 5.0
_BACKOFF = Exponential(initial=1.0, base=2.0, maximum=10.0, jitter=False)
# The exit codes of `redrive worker` after which no other follows: another worker has its identity
# (the two would end each other for ever), or it was stopped at once. Not 0, unless the parent was
# asked to stop: a node that calls `os._exit(0)` looks like that.
_FINAL = (4, 130)
_CANNOT_START = 2


@dataclass(frozen=True, slots=True)
class Restart:
    """Start another child in `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End with the exit code `code`."""

    code: int


Decision = Restart | Stop


def after_exit(status: int, *, first: bool, restarts: int, asked_to_stop: bool) -> Decision:
    """Choose what follows when a child has ended.

    Args:
        status: Its exit code, or minus the number of the signal that killed it.
        first: No child was there before it. What then cannot start never could; later the broker
            may be away.
        restarts: How many there were since a child last lived for half a minute.
        asked_to_stop: Whether the parent was told to stop.
    """
    if asked_to_stop or status in _FINAL or (status == _CANNOT_START and first):
        return Stop(status if status >= 0 else 128 - status)
    return Restart(_BACKOFF.delay(restarts, 0.0) if restarts else 0.0)


def how_it_ended(status: int) -> str:
    """Say in words what an exit status means; statuses are as in `after_exit`."""
    if status >= 0:
        return f"exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    # The kernel's way to free memory; it leaves no other trace in the process.
    hint = " (possibly out of memory)" if -status == signal.SIGKILL else ""
    return f"killed by {name}{hint}"


def last_exit(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return how the worker before this one ended, in words; None if there was none."""
    return environ.get(LAST_EXIT) or None


class Supervisor:
    """Keeps one child running until it is told to stop.

    Args:
        command: What to run as the child, in this directory and with these standard streams.
        patience_s: How long a child that is told to stop may take, in seconds; then it is killed.
        environ: The environment of this process; what it tells of an earlier child is not passed
            on to the first one.
        died: Told of each death that another child follows: how many there were since a child last
            lived for half a minute, and how the last one came. Must not block, nor raise.
        clock: For life times and deadlines.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        patience_s: float,
        environ: Mapping[str, str] = os.environ,
        died: Callable[[int, str], None] = lambda _in_a_row, _how: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._command = tuple(command)
        self._patience_s = patience_s
        self._environ = {name: value for name, value in environ.items() if name != LAST_EXIT}
        self._died = died
        self._clock = clock
        self._signals = _Signals()
        self._asked = 0
        self._kill_at: float | None = None

    def run(self) -> int:
        """Start children one after the other, and return the exit code to end with.

        To be called in the main thread: it takes SIGTERM and SIGINT over while it runs.
        """
        first, restarts = True, 0
        environ = self._environ
        with self._signals:
            while True:
                child = _Child(self._command, environ=environ)
                began = self._clock.monotonic()
                log.info("supervisor.child_started", pid=child.pid)
                status = self._until_it_ends(child)
                lived_s = self._clock.monotonic() - began
                restarts = 0 if lived_s >= LONG_LIFE_S else restarts
                decision = self._decide(status, first=first, restarts=restarts)
                _tell(status, decision, lived_s=lived_s)
                if isinstance(decision, Restart):
                    self._died(restarts + 1, how_it_ended(status))
                    self._pause(decision.after_s)
                    decision = self._decide(status, first=first, restarts=restarts)
                if isinstance(decision, Stop):
                    return decision.code
                first, restarts = False, restarts + 1
                environ = {**self._environ, LAST_EXIT: how_it_ended(status)}

    def _decide(self, status: int, *, first: bool, restarts: int) -> Decision:
        stop = self._asked > 0
        return after_exit(status, first=first, restarts=restarts, asked_to_stop=stop)

    def _until_it_ends(self, child: _Child) -> int:
        while (status := child.status()) is None:
            for number in self._signals.wait(self._left_s(self._kill_at)):
                self._ask(number)
                child.forward(number)
            if self._left_s(self._kill_at) == 0:
                log.warning("supervisor.child_killed", pid=child.pid)
                child.kill()
                self._kill_at = None
        child.close()
        return status

    def _pause(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        # Looks at least once: a signal may have come together with the end of the child.
        while True:
            left_s = self._left_s(end)
            for number in self._signals.wait(left_s):
                self._ask(number)
            if self._asked or not left_s:
                return

    def _ask(self, number: int) -> None:
        self._asked += 1
        log.info("supervisor.stopping", signal=signal.Signals(number).name)
        patience_s = self._patience_s if self._asked == 1 else _AT_ONCE_S
        kill_at = self._clock.monotonic() + patience_s
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _left_s(self, end: float | None) -> float | None:
        return None if end is None else max(end - self._clock.monotonic(), 0.0)


def _tell(status: int, decision: Decision, *, lived_s: float) -> None:
    # A child that ends by itself for good has said why.
    if isinstance(decision, Restart) or status < 0:
        log.warning(
            "supervisor.child_died",
            how=how_it_ended(status),
            lived_s=round(lived_s, 1),
            restart_in_s=decision.after_s if isinstance(decision, Restart) else None,
        )


class _Child:
    """One process, and the pipe by which it knows that its parent lives.

    It leads a session of its own: a Ctrl-C on the terminal reaches it through the parent alone.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str]) -> None:
        theirs, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                env={**environ, PARENT_PIPE: str(theirs)},
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> int | None:
        """Return its exit status as in `after_exit`; None while it lives."""
        return self._process.poll()

    def forward(self, number: int) -> None:
        """Send a signal on, after a byte that tells it from one that came straight to the child."""
        with suppress(BrokenPipeError):  # it has ended, or does not listen
            os.write(self._pipe, bytes((number,)))
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        os.close(self._pipe)


class _Signals:
    """SIGTERM, SIGINT, and the death of a child, as something to wait for with a deadline."""

    def __enter__(self) -> Self:
        self._reading, self._writing = os.pipe()
        for end in (self._reading, self._writing):
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        # Without a handler in Python no byte is written.
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        self._before: dict[int, Any] = {n: signal.signal(n, _nothing) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._reading)
        os.close(self._writing)

    def wait(self, timeout_s: float | None) -> list[int]:
        """Return the signals that came, SIGCHLD left out; empty after one, or the timeout."""
        ready, _, _ = select.select((self._reading,), (), (), timeout_s)
        if not ready:
            return []
        return [number for number in os.read(self._reading, 512) if number != signal.SIGCHLD]


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass
