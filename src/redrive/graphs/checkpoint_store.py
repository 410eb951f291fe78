"""Where checkpoints live: opened and closed by the settings, swept when nothing needs them.

The guard that stands between a run and its checkpointer is in `redrive.graphs.guard`; when a thread
may go is decided in `redrive.graphs.retention`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol

from redrive.clock import SYSTEM, Clock
from redrive.errors import SettingsError
from redrive.graphs.checkpoint_file import (
    PIECE_PAGES,
    Deployment,
    Space,
    connect,
    deployments,
    is_locked,
    path_of,
    read_only,
    space_of,
    spare_pages,
    threads_after,
)
from redrive.graphs.fidelity import StateVerifier
from redrive.graphs.foreign_saver import ForeignThreads
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.graphs.group_commit import Statement
from redrive.graphs.lease import Lease
from redrive.graphs.retention import Kept, Mark, StoredThread, free_at, longest
from redrive.graphs.serializers import serializer_of
from redrive.graphs.sqlite_saver import GroupedSqliteSaver
from redrive.graphs.state_types import AllowedTypes, GraphTypes

__all__ = ["Checkpoints"]

log = structlog.get_logger("redrive.checkpoints")

_LOCKED_AGAIN_S = 0.5

_Item = TypeVar("_Item")

# A thread may hold megabytes, and who writes meanwhile waits.
_SWEPT_AT_ONCE = 50
_FREED = 0.0
"""When a thread has "finished" that nothing needs: long before any `ttl`."""

_IS_THERE = "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE thread_id = ?)"
_FINISH = "INSERT OR REPLACE INTO redrive_finished (thread_id, finished_at) VALUES (?, ?)"
_NOT_FINISHED = "DELETE FROM redrive_finished WHERE thread_id = ?"
_NO_MARK = "DELETE FROM redrive_marks WHERE thread_id = ?"
_MARK = "INSERT OR REPLACE INTO redrive_marks (thread_id, mark, marked_at) VALUES (?, ?, ?)"
# Of an open run: what waits for a person's answer goes on waiting, and a run that has ended is kept
# until its ending is settled; a named thread on which one has, until the next one starts.
_RENEW = (
    """
INSERT INTO redrive_marks (thread_id, mark, marked_at)
SELECT ?1, 'running', ?2
WHERE EXISTS (SELECT 1 FROM checkpoints WHERE thread_id = ?1)
AND NOT EXISTS (SELECT 1 FROM redrive_finished WHERE thread_id = ?1)
ON CONFLICT (thread_id) DO UPDATE SET
    mark = CASE mark WHEN 'ended' THEN mark ELSE excluded.mark END, marked_at = excluded.marked_at
WHERE mark <> 'question'
""",
    "UPDATE redrive_finished SET finished_at = max(finished_at, ?2) WHERE thread_id = ?1",
)
_LONG_FINISHED = "SELECT thread_id FROM redrive_finished WHERE finished_at < ? LIMIT ?"
# The time is asked again: the thread may have been used since it was read.
_STILL = "(SELECT thread_id FROM redrive_finished WHERE thread_id = ? AND finished_at < ?)"
_SWEEP = (
    f"DELETE FROM writes WHERE thread_id IN {_STILL}",  # noqa: S608 - a constant
    f"DELETE FROM checkpoints WHERE thread_id IN {_STILL}",  # noqa: S608 - a constant
    f"DELETE FROM redrive_marks WHERE thread_id IN {_STILL}",  # noqa: S608 - a constant
    "DELETE FROM redrive_finished WHERE thread_id = ? AND finished_at < ?",
)
# Only if nothing of the thread has changed since it was judged.
_FREE = f"""
INSERT INTO redrive_finished (thread_id, finished_at)
SELECT ?1, {_FREED}
WHERE (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?1) IS ?2
AND abs(ifnull((SELECT marked_at FROM redrive_marks WHERE thread_id = ?1), -1) - ?3) < 0.001
AND abs(ifnull((SELECT finished_at FROM redrive_finished WHERE thread_id = ?1), -1) - ?4) < 0.001
ON CONFLICT (thread_id) DO UPDATE SET finished_at = excluded.finished_at
"""  # noqa: S608 - a constant
# Of threads that have no checkpoint here, any more or yet.
_STALE_MARKS = """
DELETE FROM redrive_marks WHERE thread_id IN (
    SELECT thread_id FROM redrive_marks AS mark WHERE marked_at < ?
    AND NOT EXISTS (SELECT 1 FROM checkpoints WHERE checkpoints.thread_id = mark.thread_id)
    LIMIT 1000
)
"""
_LEARN = """
INSERT OR REPLACE INTO redrive_deployments (name, events_kept_s, letters_kept_s, seen_at)
VALUES (?, ?, ?, ?)
"""


class Checkpoints:
    """The checkpointer of a worker, and the life time of what it holds.

    Use it as an asynchronous context manager. Known URLs: `sqlite:///relative.db`,
    `sqlite:////absolute.db` (one host; WAL, `synchronous=NORMAL`: a commit survives the process,
    not the loss of power), and `none`.

    Args:
        settings: `checkpoints.*`.
        named_ttl: `threads.ttl`: how long what a producer named is kept.
        clock: Where time comes from.
    """

    def __init__(
        self,
        settings: CheckpointSettings | None = None,
        *,
        named_ttl: timedelta | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings or CheckpointSettings()
        self._named_ttl = named_ttl
        self._clock = clock
        self._path = path_of(self._settings)
        self._allowed = AllowedTypes(self._settings.allowed_types)
        self._serializer = (
            None if self._path is None else serializer_of(self._settings, self._allowed)
        )
        self._sqlite: GroupedSqliteSaver | None = None
        self._foreign: ForeignThreads | None = None
        self.verifier = StateVerifier(self._settings.verify)
        """Reads back what nodes write, for all runs of this process."""

    @classmethod
    def around(cls, saver: BaseCheckpointSaver[Any], *, clock: Clock = SYSTEM) -> Checkpoints:
        """Use a checkpointer that someone else opens and closes.

        Threads that finish while this object lives are swept after 24 hours, where the checkpointer
        can delete a thread (`adelete_thread`); all others are for its owner to delete.
        """
        checkpoints = cls(CheckpointSettings(url="none"), clock=clock)
        checkpoints._foreign = ForeignThreads(saver)
        return checkpoints

    @property
    def saver(self) -> BaseCheckpointSaver[Any] | None:
        """The open checkpointer, or None where no checkpoints are kept."""
        if self._path is not None and self._sqlite is None:
            raise SettingsError("the checkpoints are not open: use `async with checkpoints:`")
        return self._sqlite or (None if self._foreign is None else self._foreign.saver)

    def saver_under(self, lease: Lease) -> BaseCheckpointSaver[Any] | None:
        """Return the same for one attempt: of ours, one that asks its lease under the lock."""
        return self.saver if self._sqlite is None else self._sqlite.under(lease)

    def allow(self, types: GraphTypes) -> None:
        """Let checkpoints hold what a graph may keep in its state; of ours, not of a foreign one.

        Before anything of that graph is read or written.
        """
        self._allowed.add(types)

    @property
    def waiting(self) -> int:
        """How many reads and writes wait for room or a lock; may be read from any thread."""
        sqlite = self._sqlite
        return 0 if sqlite is None else sqlite.group.waiting

    @property
    def kept(self) -> bool:
        """Whether a run can be resumed: not with `none`."""
        return self._path is not None or self._foreign is not None

    async def open(self) -> None:
        """Open the file, and make its tables where they are missing; waits while it is locked.

        Raises:
            SettingsError: It cannot be opened or written; names the path.
        """
        if self._path is not None and self._sqlite is None:
            self._sqlite = await self._opened(self._path)
        if self._foreign is not None:
            log.warning("checkpoints.foreign", **self._foreign.limits())

    async def _opened(self, path: Path) -> GroupedSqliteSaver:
        is_told = False
        while True:
            try:
                opened = await asyncio.to_thread(_open, path, self._serializer)
            except sqlite3.OperationalError as error:
                if not is_locked(error):
                    raise
                if not is_told:
                    # No trace: what happened is known.
                    log.error("checkpoints.locked", waiting=0, error=str(error))  # noqa: TRY400
                is_told = True
                await self._clock.sleep(_LOCKED_AGAIN_S)
            else:
                if is_told:
                    log.info("checkpoints.unlocked")
                return opened

    async def close(self) -> None:
        """Finish the writes that were asked for, and close the file."""
        opened, self._sqlite = self._sqlite, None
        if opened is not None:
            await asyncio.to_thread(opened.group.close)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def mark_finished(self, thread_id: str) -> None:
        """Let the thread be swept when its `ttl` is over, counted from now."""
        now = self._now()
        if self._foreign is not None:
            self._foreign.finished(thread_id, now)
        await self._write([(_FINISH, [(thread_id, now)]), (_NO_MARK, [(thread_id,)])])

    async def keep(self, thread_id: str) -> None:
        """Take note that a run works on the thread again."""
        await self.mark([thread_id], Mark.RUNNING)

    async def use_named(self, thread_id: str) -> None:
        """Take note that a run goes on from what others have left on a thread of that name."""
        if self._named_ttl is not None:
            await self.mark([thread_id], Mark.RUNNING)

    async def mark_named_ended(self, thread_id: str) -> None:
        """Let a thread that a producer named be swept when its time is over, counted from now."""
        if self._named_ttl is not None:
            await self.mark([thread_id], Mark.ENDED)

    async def mark(self, threads: Collection[str], mark: Mark) -> None:
        """Take note of what these threads are needed for; none of them has finished."""
        if self._foreign is not None:
            self._foreign.used(threads)
        now = self._now()
        unfinished = (_NOT_FINISHED, [(thread,) for thread in threads])
        await self._write([unfinished, (_MARK, [(thread, mark.value, now) for thread in threads])])

    async def renew(self, threads: Collection[str]) -> None:
        """Take note that the runs of these threads are open at this moment."""
        now = self._now()
        if self._foreign is not None:
            self._foreign.renew(threads, now)
        for some in _pieces(list(threads)):
            rows = [(thread, now) for thread in some]
            await self._write([(sql, rows) for sql in _RENEW])

    async def learn(self, deployment: Deployment) -> None:
        """Take note of whose runs have their threads here, and how long its topics keep records."""
        kept, seen_at = deployment.kept, deployment.seen_at.timestamp()
        events_s, letters_s = (
            None if span is None else span.total_seconds() for span in (kept.events, kept.letters)
        )
        await self._write([(_LEARN, [(deployment.name, events_s, letters_s, seen_at)])])

    async def sweep(self, now: datetime | None = None) -> int:
        """Delete the threads that nothing can need any more; return how many.

        Those of runs that finished longer than `ttl` ago, of letters that retention took, of runs
        that nobody can take up again: by the time alone, see `redrive.graphs.retention`. What waits
        for a person's answer stays, and what a producer named, unless that has a time of its own.
        """
        now = now or self._clock.now()
        swept = 0
        async for page in self._freed(now):
            swept += await self.delete(page)
        return swept + await self.sweep_finished(now)

    async def sweep_finished(self, now: datetime | None = None) -> int:
        """Delete the threads that finished longer than `ttl` ago; return how many."""
        before = ((now or self._clock.now()) - self._settings.ttl).timestamp()
        if self._foreign is not None:
            return await self._foreign.sweep(before)
        return await self._delete_finished(before)

    async def delete(self, threads: Sequence[StoredThread]) -> int:
        """Delete threads of which nothing has changed since they were read; return how many."""
        deleted = 0
        for some in _pieces(list(threads)):
            free = [_as_read(thread) for thread in some]
            rows = [(thread.thread_id, _FREED + 1) for thread in some]
            # In one transaction: no run takes up between them what is about to go.
            await self._write([(_FREE, free), *((sql, rows) for sql in _SWEEP)])
            deleted += len(some) - await self._count_left(some)
        return deleted

    async def _count_left(self, threads: Sequence[StoredThread]) -> int:
        if self._sqlite is None:
            return len(threads)
        connection = self._sqlite.group.connection

        def count() -> int:
            rows = (connection.execute(_IS_THERE, (one.thread_id,)).fetchone() for one in threads)
            return sum(there for (there,) in rows)

        return await self._sqlite.group.read(count)

    async def shrink(self, *, wholly: bool = False) -> int:
        """Give free pages of the file back to the disk, in pieces; return how many bytes.

        Some stay, as what is written next needs them again, unless it is to be done `wholly`. A
        file that an older version has made does not shrink before `compact` has rewritten it.
        """
        if self._sqlite is None:
            return 0
        group, given = self._sqlite.group, 0
        space = await self._space()
        while space.shrinks and space.free_pages > (0 if wholly else spare_pages(space)):
            await group.read(lambda: _give_back(group.connection))
            before, space = space, await self._space()
            if space.pages >= before.pages:
                break
            given += (before.pages - space.pages) * space.page_bytes
        if given:
            await group.read(
                lambda: group.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            )
        return given

    async def _space(self) -> Space:
        assert self._sqlite is not None  # noqa: S101 - for the type checker
        group = self._sqlite.group
        return await group.read(lambda: space_of(group.connection))

    async def _freed(self, now: datetime) -> AsyncIterator[list[StoredThread]]:
        """Yield, page by page, the threads that have not finished and that time has freed."""
        if self._sqlite is None or self._path is None:
            return
        # A connection of its own, on another thread: reading keeps no run from writing.
        with closing(await asyncio.to_thread(read_only, self._path)) as connection:
            seen = await asyncio.to_thread(deployments, connection)
            kept = longest(one.kept for one in seen)
            if kept is None:
                return  # No worker has said yet what the topics keep.
            after: str | None = None
            while True:
                page, after = await asyncio.to_thread(threads_after, connection, after)
                yield [
                    thread
                    for thread in page
                    if (at := self._free_at(thread, now, kept)) is not None and at <= now
                ]
                if after is None:
                    break
        oldest = min((one for one in (kept.events, kept.letters) if one), default=None)
        if oldest is not None:
            await self._write([(_STALE_MARKS, [((now - oldest).timestamp(),)])])

    def _free_at(self, thread: StoredThread, now: datetime, kept: Kept) -> datetime | None:
        return free_at(thread, now, ttl=self._settings.ttl, kept=kept, named_ttl=self._named_ttl)

    async def _delete_finished(self, before: float) -> int:
        deleted = 0
        while threads := await self._finished(before):
            rows = [(thread, before) for thread in threads]
            await self._write([(sql, rows) for sql in _SWEEP])
            deleted += len(threads)
        return deleted

    async def _finished(self, before: float) -> list[str]:
        if self._sqlite is None:
            return []
        group = self._sqlite.group
        rows = await group.read(
            lambda: group.connection.execute(_LONG_FINISHED, (before, _SWEPT_AT_ONCE)).fetchall()
        )
        return [thread for (thread,) in rows]

    async def _write(self, statements: Sequence[Statement]) -> None:
        if self._sqlite is not None:
            await self._sqlite.group.write(statements)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _open(path: Path, serializer: SerializerProtocol | None) -> GroupedSqliteSaver:
    connection = connect(path)
    try:
        return GroupedSqliteSaver(connection, serializer)
    except sqlite3.Error as error:
        connection.close()
        if is_locked(error):
            raise
        raise SettingsError(
            f"checkpoints.url: cannot write {str(path.absolute())!r} ({error}): "
            "name a file in a folder that exists and that this user may write"
        ) from error


def _give_back(connection: sqlite3.Connection) -> None:
    # It stops at each page. `execute` would go no further; this goes on to the end.
    connection.executescript(f"PRAGMA incremental_vacuum({PIECE_PAGES})")


def _as_read(thread: StoredThread) -> tuple[object, ...]:
    times = (-1 if at is None else at.timestamp() for at in (thread.marked_at, thread.finished_at))
    return (thread.thread_id, thread.last_id, *times)


def _pieces(items: list[_Item]) -> Iterator[list[_Item]]:
    for start in range(0, len(items), _SWEPT_AT_ONCE):
        yield items[start : start + _SWEPT_AT_ONCE]
