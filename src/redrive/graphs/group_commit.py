"""One thread, one SQLite connection: the writes of many callers go into one commit.

What a commit costs (a thread hop, a transaction) is paid once for all who wait at that moment, not
once for each. A caller gets its answer after the commit, never before. Nothing here knows what the
statements mean.

What finds the disk full, or the file locked by somebody else, waits until that is over: it is no
failure of the run which reads or writes, and it passes for all at once. [P1] A lease is asked under
the file's lock, as that may take long to get: what has gone stale meanwhile is not written. [P4]
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.errors import StaleAttemptError
from redrive.graphs.checkpoint_file import is_locked
from redrive.graphs.lease import Lease, LeaseSuspendedError

__all__ = ["GroupCommit", "Statement"]

Statement = tuple[str, Sequence[tuple[object, ...]]]
"""SQL and its rows of parameters, for `executemany`."""

T = TypeVar("T")

log = structlog.get_logger("redrive.checkpoints")

_FULL_AGAIN_S = 1.0
"""How often it is looked whether a full disk has room."""
_LOCKED_AGAIN_S = 0.05
_LOCK_MS = 1_000
"""For so long one try waits for a lock: what only reads waits behind it."""
_TELL_LOCKED_S = 5.0
_LOOP_WAITS_S = 2.0
"""For so long a call of a graph may keep the event loop waiting for the file."""
_LOOK_S = 0.05
# Readers behind a group wait for its commit: a bound keeps that short.
_MAX_GROUP = 256


class _Job(Generic[T]):
    """Work that someone waits for: statements to write, or something to read."""

    __slots__ = ("error", "future", "lease", "loop", "read", "result", "statements")

    def __init__(
        self,
        *,
        statements: Sequence[Statement] = (),
        read: Callable[[], T] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.statements = statements
        self.lease = lease
        self.read = read
        self.loop = loop
        # One of two kinds of future, by who waits; both take an answer in the same way.
        self.future: Any = Future() if loop is None else loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        # The caller was cancelled, or waits no more; from another thread it may do so any time.
        with contextlib.suppress(asyncio.InvalidStateError, futures.InvalidStateError):
            if self.error is not None:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(self.result)


class GroupCommit:
    """Runs statements and reads on one connection, in the order given; writes commit in groups.

    The queue needs no limit of its own: each caller waits for its answer, so it holds at most what
    the runs in flight have asked for.
    """

    def __init__(self, connection: sqlite3.Connection, *, clock: Clock = SYSTEM) -> None:
        self.connection = connection
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_MS}")
        self._room = _Room(clock)
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="redrive-checkpoints", daemon=True)
        self._closed = False
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many reads and writes wait for room or for a lock; may be read from any thread."""
        return self._room.held

    async def write(self, statements: Sequence[Statement], *, lease: Lease | None = None) -> None:
        """Return when the statements are committed.

        Raises:
            sqlite3.Error: They are not; nothing of them is.
            StaleAttemptError: As above: `lease` had ended when the file's lock was got.
            LeaseSuspendedError: As above: its partition was away.
        """
        job = _Job[None](statements=statements, loop=asyncio.get_running_loop(), lease=lease)
        self._give(job)
        await job.future

    async def read(self, work: Callable[[], T]) -> T:
        """Return what `work` read, on the connection's thread, of committed rows only."""
        job = _Job(read=work, loop=asyncio.get_running_loop())
        self._give(job)
        found: T = await job.future
        return found

    def write_now(self, statements: Sequence[Statement], *, lease: Lease | None = None) -> None:
        """Block this thread until the statements are committed.

        Raises:
            sqlite3.Error: They are not; nothing of them is.
            StaleAttemptError: As above: `lease` had ended when the file's lock was got; or that
                took too long, and blocks the event loop of the attempt.
            LeaseSuspendedError: They are not: its partition was away.
        """
        job = _Job[None](statements=statements, lease=lease)
        self._give(job)
        _wait(job)

    def read_now(self, work: Callable[[], T], *, lease: Lease | None = None) -> T:
        """Block this thread until `work` has read.

        Raises:
            StaleAttemptError: That took too long, and blocks the event loop of the attempt.
        """
        job = _Job(read=work, lease=lease)
        self._give(job)
        found: T = _wait(job)
        return found

    def close(self) -> None:
        """Finish what was asked for, then close the connection; block until it is done."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()

    def _give(self, job: _Job[Any]) -> None:
        if self._closed:
            raise sqlite3.ProgrammingError("the checkpoints are closed")
        self._jobs.put(job)

    def _work(self) -> None:
        open_for_jobs = True
        while open_for_jobs:
            taken = self._take()
            open_for_jobs = None not in taken
            group = [job for job in taken if job is not None]
            # At the end, once more at once: who still waits then is told.
            group = self._room.due(at_once=not open_for_jobs) + group
            self._commit([job for job in group if job.read is None])
            self._read([job for job in group if job.read is not None])
            if open_for_jobs:
                group = self._room.without_waiting(group)
            _answer(group)
        self.connection.close()

    def _take(self) -> list[_Job[Any] | None]:
        """Wait for a job, as long as no other is due; return what there is. None is the end."""
        taken: list[_Job[Any] | None] = []
        with contextlib.suppress(queue.Empty):
            taken.append(self._jobs.get(timeout=self._room.wait_s))
            while taken[-1] is not None and len(taken) < _MAX_GROUP:
                taken.append(self._jobs.get_nowait())
        return taken

    def _commit(self, jobs: Sequence[_Job[Any]]) -> None:
        if not jobs:
            return
        try:
            self._transaction(jobs)
        except _NotBegunError as error:
            for job in jobs:
                job.error = error.__cause__
        except Exception as error:  # noqa: BLE001 - data for the caller, who waits in another thread
            if len(jobs) == 1:
                jobs[0].error = error
                return
            # One bad write must not take the others with it: each one again, alone.
            for job in jobs:
                self._commit([job])

    def _read(self, jobs: Sequence[_Job[Any]]) -> None:
        locked: BaseException | None = None
        for job in jobs:
            # One try waits for a lock: all others would find the same.
            if locked is None and job.read is not None:
                try:
                    job.result = job.read()
                except Exception as error:  # noqa: BLE001 - data for the caller, as in a commit
                    job.error = error
                    locked = error if is_locked(error) else None
            else:
                job.error = locked

    def _transaction(self, jobs: Sequence[_Job[Any]]) -> None:
        connection = self.connection
        try:
            # IMMEDIATE: wait for another process's lock now, not in the middle.
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _NotBegunError from error
        try:
            for job in jobs:
                if _may_write(job):
                    for sql, rows in job.statements:
                        connection.executemany(sql, rows)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


class _NotBegunError(Exception):
    """The transaction could not begin: no job is to blame, and none would fare better alone."""


def _may_write(job: _Job[Any]) -> bool:
    """Say whether a job is to be written, now that the lock is there; if not, it is told why."""
    job.error = None
    if job.future.done():
        return False  # Who waits no more may have lost its thread to another worker. [P2]
    if job.lease is not None:
        try:
            job.lease.check_now()
        except (StaleAttemptError, LeaseSuspendedError) as error:
            job.error = error
    return job.error is None


class _Room:
    """What found the disk full or the file locked, until it is tried again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: list[_Job[Any]] = []
        self._again = 0.0
        self._told_full = False
        self._told_locked = False
        self._locked_since: float | None = None

    @property
    def held(self) -> int:
        """How many wait."""
        return len(self._held)

    @property
    def wait_s(self) -> float | None:
        """In how many seconds they are to be tried again; None where there are none."""
        return max(0.0, self._again - self._clock.monotonic()) if self._held else None

    def due(self, *, at_once: bool) -> list[_Job[Any]]:
        """Return those to try now."""
        if not self._held or not (at_once or self.wait_s == 0):
            return []
        # Of who waits no more, another worker may have the thread by now: not written. [P2]
        held, self._held = [job for job in self._held if not job.future.done()], []
        for job in held:
            job.error = None
        return held

    def without_waiting(self, group: list[_Job[Any]]) -> list[_Job[Any]]:
        """Keep what found the disk full or the file locked; return the others."""
        full = [job for job in group if _is_full(job.error)]
        locked = [job for job in group if is_locked(job.error)]
        if full or locked:
            again_s = _LOCKED_AGAIN_S if locked else _FULL_AGAIN_S
            if not self._held or locked:
                self._again = self._clock.monotonic() + again_s
            self._held += full + locked
        wrote = any(job.read is None and not job.error for job in group)
        self._tell_full(full, room=wrote and not self._held)
        self._tell_locked(locked, free=wrote)
        return [job for job in group if not (_is_full(job.error) or is_locked(job.error))]

    def _tell_full(self, full: Sequence[_Job[Any]], *, room: bool) -> None:
        if full and not self._told_full:
            log.error("checkpoints.disk_full", error=str(full[0].error))
            self._told_full = True
        elif room and self._told_full:
            log.info("checkpoints.disk_has_room")
            self._told_full = False

    def _tell_locked(self, locked: Sequence[_Job[Any]], *, free: bool) -> None:
        now = self._clock.monotonic()
        if locked:
            since = self._locked_since = self._locked_since or now
            if now - since >= _TELL_LOCKED_S and not self._told_locked:
                log.error("checkpoints.locked", waiting=self.held, error=str(locked[0].error))
                self._told_locked = True
        elif free:
            if self._told_locked:
                log.info("checkpoints.unlocked")
            self._told_locked, self._locked_since = False, None


def _is_full(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_FULL


def _wait(job: _Job[Any]) -> Any:  # noqa: ANN401 - what the job's caller asked for
    """Block this thread until a job is answered, but not an event loop for long."""
    if job.lease is None:
        return job.future.result()
    probe, waited_s = job.lease.probe(), 0.0
    while True:
        done, _ = futures.wait([job.future], timeout=_LOOK_S)
        if done:
            return job.future.result()
        waited_s += _LOOK_S
        is_blocked = probe.is_blocked(_LOOP_WAITS_S)
        if is_blocked and waited_s >= _LOOP_WAITS_S and job.future.cancel():
            raise StaleAttemptError(
                f"the checkpoints could not be reached for {_LOOP_WAITS_S:g} s, and a graph's "
                "synchronous call keeps the event loop waiting: the attempt is to begin again"
            )


def _answer(group: Sequence[_Job[Any]]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Job[Any]]] = defaultdict(list)
    for job in group:
        if job.loop is None:
            job.answer()
        else:
            by_loop[job.loop].append(job)
    for loop, jobs in by_loop.items():
        # RuntimeError: the loop was closed, so nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer_here, jobs)


def _answer_here(jobs: Sequence[_Job[Any]]) -> None:
    for job in jobs:
        job.answer()
