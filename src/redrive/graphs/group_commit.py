"""One thread, one SQLite connection: the writes of many callers go into one commit.

What a commit costs (a thread hop, a transaction) is paid once for all who wait at that moment, not
once for each. A caller gets its answer after the commit, never before. Nothing here knows what the
statements mean.

A write that finds the disk full waits until there is room: that is no failure of the run which
writes, and it passes for all at once. [P1]
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import structlog

from redrive.clock import SYSTEM, Clock

__all__ = ["GroupCommit", "Statement"]

Statement = tuple[str, Sequence[tuple[object, ...]]]
"""SQL and its rows of parameters, for `executemany`."""

T = TypeVar("T")

log = structlog.get_logger("redrive.checkpoints")

_AGAIN_S = 1.0
"""How often it is looked whether a full disk has room."""
# Readers behind a group wait for its commit: a bound keeps that short.
_MAX_GROUP = 256


class _Job(Generic[T]):
    """Work that someone waits for: statements to write, or something to read."""

    __slots__ = ("error", "future", "loop", "read", "result", "statements")

    def __init__(
        self,
        *,
        statements: Sequence[Statement] = (),
        read: Callable[[], T] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.statements = statements
        self.read = read
        self.loop = loop
        # One of two kinds of future, by who waits; both take an answer in the same way.
        self.future: Any = Future() if loop is None else loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        if self.future.done():
            return  # The caller was cancelled and waits no more.
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
        self._room = _Room(clock)
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="redrive-checkpoints", daemon=True)
        self._closed = False
        self._thread.start()

    async def write(self, statements: Sequence[Statement]) -> None:
        """Return when the statements are committed.

        Raises:
            sqlite3.Error: They are not; nothing of them is.
        """
        job = _Job[None](statements=statements, loop=asyncio.get_running_loop())
        self._give(job)
        await job.future

    async def read(self, work: Callable[[], T]) -> T:
        """Return what `work` read, on the connection's thread, of committed rows only."""
        job = _Job(read=work, loop=asyncio.get_running_loop())
        self._give(job)
        found: T = await job.future
        return found

    def write_now(self, statements: Sequence[Statement]) -> None:
        """Block this thread until the statements are committed."""
        job = _Job[None](statements=statements)
        self._give(job)
        job.future.result()

    def read_now(self, work: Callable[[], T]) -> T:
        """Block this thread until `work` has read."""
        job = _Job(read=work)
        self._give(job)
        found: T = job.future.result()
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
            reads = [job for job in group if job.read is not None]
            writes = [job for job in group if job.read is None]
            # At the end, once more at once: who still waits then is told.
            writes = self._room.due(at_once=not open_for_jobs) + writes
            self._commit(writes)
            for job in reads:
                _read(job)
            if open_for_jobs:
                writes = self._room.without_full(writes)
            _answer(reads + writes)
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

    def _transaction(self, jobs: Sequence[_Job[Any]]) -> None:
        connection = self.connection
        try:
            # IMMEDIATE: wait for another process's lock now, not in the middle.
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _NotBegunError from error
        try:
            for job in jobs:
                for sql, rows in job.statements:
                    connection.executemany(sql, rows)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


class _NotBegunError(Exception):
    """The transaction could not begin: no job is to blame, and none would fare better alone."""


class _Room:
    """The writes that found the disk full, until they are tried again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: list[_Job[Any]] = []
        self._again = 0.0
        self._told = False

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

    def without_full(self, writes: list[_Job[Any]]) -> list[_Job[Any]]:
        """Keep the writes that found the disk full; return the others."""
        full = [job for job in writes if _is_full(job.error)]
        if full:
            if not self._held:
                self._again = self._clock.monotonic() + _AGAIN_S
            self._held += full
            self._tell(str(full[0].error))
        elif writes and not self._held:
            self._tell(None)
        return [job for job in writes if not _is_full(job.error)]

    def _tell(self, error: str | None) -> None:
        if error is not None and not self._told:
            log.error("checkpoints.disk_full", error=error)
        elif error is None and self._told:
            log.info("checkpoints.disk_has_room")
        self._told = error is not None


def _is_full(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_FULL


def _read(job: _Job[Any]) -> None:
    if job.read is not None:
        try:
            job.result = job.read()
        except Exception as error:  # noqa: BLE001 - data for the caller, who waits in another thread
            job.error = error


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
