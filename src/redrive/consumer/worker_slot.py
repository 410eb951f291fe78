"""One worker that a parent keeps running: its lives, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from redrive.clock import Clock
from redrive.consumer.child import Child
from redrive.consumer.child_exit import Restart, Stop, after_exit, exit_code, how_it_ended
from redrive.consumer.launcher import Launcher, NotReadyError
from redrive.consumer.naming import unnamed
from redrive.consumer.parent_pipe import LAST_EXIT
from redrive.consumer.pool_status import PoolStatus

__all__ = ["LONG_LIFE_S", "Died", "WorkerSlot"]

log = structlog.get_logger("redrive.supervisor")

LONG_LIFE_S = 30.0
_NOT_STARTED_S = 10.0

Died = Callable[[str, int, str], None]
"""Told of each death that another child follows: the worker's name; how many deaths there were
since one last lived for half a minute; how the last one came. Must not block, nor raise."""


class WorkerSlot:
    """Keeps one worker running; belongs to the parent's main thread.

    Args:
        number: Which of the parent's workers it is, from 0.
        command: What to run as the child.
        worker_id: The worker's stable name; None if it has none.
        environ: Its environment.
        launcher: Starts its processes.
        pool: Is told what the worker says of itself; None when nobody asks.
        died: Is told of deaths.
        clock: For life times and waits.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        *,
        worker_id: str | None,
        environ: Mapping[str, str],
        launcher: Launcher,
        pool: PoolStatus | None,
        died: Died,
        clock: Clock,
    ) -> None:
        self._number = number
        self._command = command
        self._worker_id = worker_id
        self._environ = environ
        self._launcher = launcher
        self._pool = pool
        self._died = died
        self._clock = clock
        self._restarts = 0
        self._last_status: int | None = None
        self._began_s = 0.0
        self.child: Child | None = None
        """The worker of now; None while there is none."""
        self.due_s: float | None = clock.monotonic()
        """When the next one is to be started, by the clock; None when there is none to come."""
        self.code: int | None = None
        """The exit code of the last one; None while one runs, or another follows."""
        self.name = worker_id or f"worker {number}"
        """What people call the worker of now."""

    def start(self) -> None:
        """Start the next worker, unless that has to wait for the launcher.

        Raises:
            OSError: It could not be started, and none was there before it.
        """
        if not self._launcher.is_ready:
            return
        environ, last = dict(self._environ), self._last_status
        if last is not None:
            environ[LAST_EXIT] = how_it_ended(last)
        try:
            child = Child(
                lambda pipes: self._launcher.launch(self._command, environ=environ, pipes=pipes),
                reporting=self._pool is not None,
            )
        except NotReadyError:
            return
        except OSError as error:
            if last is None:
                raise
            # This machine is short of something; other workers of ours may go on all the same.
            log.warning("supervisor.child_not_started", worker=self.name, error=str(error))
            self.due_s = self._clock.monotonic() + _NOT_STARTED_S
            return
        self.child, self.due_s, self._began_s = child, None, self._clock.monotonic()
        self.name = self._worker_id or unnamed(child.pid)
        log.info("supervisor.child_started", pid=child.pid, worker=self.name)
        if self._pool is not None:
            self._pool.started(self._number, self.name)

    def look(self, *, stopping: bool) -> None:
        """Take in what the worker has reported, and what has become of it; start the next one.

        Args:
            stopping: Whether the parent has been told to stop.
        """
        if self.child is not None:
            status = self.child.status()
            self._listen(self.child)
            if status is not None:
                self._ended(self.child, status, stopping=stopping)
        elif self.due_s is not None and stopping:
            self._over(self._last_status or 0)
        elif self.due_s is not None and self._clock.monotonic() >= self.due_s:
            self.start()

    def _listen(self, child: Child) -> None:
        line = child.last_report()
        if line is not None and self._pool is not None:
            self._pool.heard(self._number, line)

    def _ended(self, child: Child, status: int, *, stopping: bool) -> None:
        child.close()
        now_s = self._clock.monotonic()
        lived_s = now_s - self._began_s
        restarts = 0 if lived_s >= LONG_LIFE_S else self._restarts
        first = self._last_status is None
        self.child, self._last_status = None, status
        match after_exit(status, first=first, restarts=restarts, asked_to_stop=stopping):
            case Restart(after_s):
                self._tell(status, lived_s, restart_in_s=after_s)
                self.due_s, self._restarts = now_s + after_s, restarts + 1
                self._died(self.name, self._restarts, how_it_ended(status))
                self._gone(f"{how_it_ended(status)}: starts again")
            case Stop():
                # A child that ends by itself for good has said why.
                if status < 0:
                    self._tell(status, lived_s, restart_in_s=None)
                self._over(status)

    def _over(self, status: int) -> None:
        self.due_s, self.code = None, exit_code(status)
        self._gone("stopped")

    def _gone(self, why: str) -> None:
        if self._pool is not None:
            self._pool.ended(self._number, why)

    def _tell(self, status: int, lived_s: float, *, restart_in_s: float | None) -> None:
        log.warning(
            "supervisor.child_died",
            worker=self.name,
            how=how_it_ended(status),
            lived_s=round(lived_s, 1),
            restart_in_s=restart_in_s,
        )
