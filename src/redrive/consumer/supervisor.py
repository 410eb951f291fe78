"""The parent process: starts workers, watches them, and replaces each that dies.

It has no Kafka client and runs no graph, so that what kills a worker spares it. One worker and its
lives are in `slot.py`, how their processes are started in `launcher.py`, what follows a death in
`child_exit.py`, what a worker knows of its parent in `parent.py`.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.consumer.adopted import OrphanReaper
from redrive.consumer.child_exit import worst
from redrive.consumer.launcher import Launcher
from redrive.consumer.parent_pipe import LAST_EXIT, PARENT_CHILD
from redrive.consumer.pool_status import PoolStatus
from redrive.consumer.signals import Signals, has_terminal
from redrive.consumer.worker_slot import Died, WorkerSlot

__all__ = ["STOP_MARGIN_S", "Supervisor", "WorkerSpec"]

log = structlog.get_logger("redrive.supervisor")

# Beyond `worker.grace`: at worst a worker leaves the group, and its stuck nodes, after it.
STOP_MARGIN_S = 8.0
# From the second signal on; a worker whose event loop is blocked never hears it.
_AT_ONCE_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker that is to run.

    Args:
        command: What to run as the child, in this directory and with these standard streams.
        worker_id: The worker's stable name; None if it has none.
    """

    command: Sequence[str]
    worker_id: str | None = None


class Supervisor:
    """Keeps workers running until it is told to stop, or one of them ends for good.

    Args:
        workers: What is to run; at least one.
        patience_s: How long they may take together when they are told to stop, in seconds; then
            they are killed.
        environ: The environment of this process; what it tells of an earlier child is not passed
            on.
        pool: Is told what the workers say of themselves; None when nobody asks.
        died: Is told of each death that another child follows.
        launcher: Starts the workers; each in an interpreter of its own by default. Closed at the
            end.
        clock: For life times and deadlines.
    """

    def __init__(
        self,
        workers: Sequence[WorkerSpec],
        *,
        patience_s: float,
        environ: Mapping[str, str] = os.environ,
        pool: PoolStatus | None = None,
        died: Died = lambda _worker, _in_a_row, _how: None,
        launcher: Launcher | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        own = {name: value for name, value in environ.items() if name != LAST_EXIT}
        # Of this parent alone: another one on this host has numbers as well.
        token = secrets.token_hex(8)
        self._launcher = launcher or Launcher(clock=clock)
        self._slots = [
            WorkerSlot(
                number,
                worker.command,
                worker_id=worker.worker_id,
                environ={**own, PARENT_CHILD: f"{number}/{len(workers)}/{token}"},
                launcher=self._launcher,
                pool=pool,
                died=died,
                clock=clock,
            )
            for number, worker in enumerate(workers)
        ]
        self._patience_s = patience_s
        self._clock = clock
        self._signals = Signals()
        self._orphans = OrphanReaper(clock)
        # A terminal that is closed means what it means to any program; without one, SIGHUP is what
        # it is to a daemon.
        self._stops_on_hangup = has_terminal()
        self._asked = 0
        self._stopping = False
        self._kill_at: float | None = None

    def run(self) -> int:
        """Keep the workers running, and return the exit code to end with.

        To be called in the main thread: it takes SIGTERM, SIGINT and SIGHUP over while it runs.
        """
        try:
            with self._signals:
                while any(slot.code is None for slot in self._slots):
                    self._turn()
        finally:
            self._launcher.close()
        return worst(slot.code for slot in self._slots if slot.code is not None)

    def _turn(self) -> None:
        for slot in self._slots:
            slot.look(stopping=self._stopping)
        self._stop_with_others()
        self._kill_late()
        self._orphans.reap(self._children())
        if all(slot.code is not None for slot in self._slots):
            return
        for number in self._wait():
            if number == signal.SIGHUP and not self._stops_on_hangup:
                self._launcher.renew("SIGHUP")
            else:
                self._ask(number)

    def _children(self) -> list[int]:
        slots = [slot.child.pid for slot in self._slots if slot.child is not None]
        return [*slots, *self._launcher.pids]

    def _wait(self) -> list[int]:
        """Wait until there is something to do; return the signals that came."""
        starts = [slot.due_s for slot in self._slots] if self._launcher.is_ready else []
        ends = [end for end in (self._kill_at, self._launcher.due_s, *starts) if end is not None]
        pipes = (slot.child.reports for slot in self._slots if slot.child is not None)
        numbers, readable = self._signals.wait(
            max(min(ends) - self._clock.monotonic(), 0.0) if ends else None,
            pipes=[*(pipe for pipe in pipes if pipe is not None), *self._launcher.pipes],
        )
        self._launcher.look(readable)
        return numbers

    def _ask(self, number: int) -> None:
        """Take a signal from outside: the first one stops, the second one ends at once."""
        self._asked += 1
        log.info("supervisor.stopping", signal=signal.Signals(number).name)
        if self._asked > 1 or not self._stopping:
            self._tell_all(number)
        self._give_time(self._patience_s if self._asked == 1 else _AT_ONCE_S)

    def _stop_with_others(self) -> None:
        """Stop all once one has ended for good: it has an identity or settings like the others."""
        over = next((slot for slot in self._slots if slot.code is not None), None)
        if over is None or self._stopping:
            return
        if any(slot.code is None for slot in self._slots):
            log.warning("supervisor.stopping_all", worker=over.name, code=over.code)
        self._tell_all(signal.SIGTERM)
        self._give_time(self._patience_s)

    def _tell_all(self, number: int) -> None:
        self._stopping = True
        for slot in self._slots:
            if slot.child is not None:
                slot.child.forward(number)

    def _give_time(self, seconds: float) -> None:
        kill_at = self._clock.monotonic() + seconds
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _kill_late(self) -> None:
        if self._kill_at is None or self._clock.monotonic() < self._kill_at:
            return
        for slot in self._slots:
            if slot.child is not None:
                log.warning("supervisor.child_killed", pid=slot.child.pid, worker=slot.name)
                slot.child.kill()
        self._kill_at = None
