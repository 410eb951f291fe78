"""Where checkpoints live: opened and closed by the settings, swept when a run is long over.

The guard that stands between a run and its checkpointer is in `redrive.graphs.guard`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from langgraph.checkpoint.base import BaseCheckpointSaver

from redrive.clock import SYSTEM, Clock
from redrive.errors import SettingsError
from redrive.graphs.options import CheckpointSettings
from redrive.graphs.sqlite_saver import GroupedSqliteSaver

__all__ = ["CheckpointFile", "Checkpoints", "look_at"]

_PREFIX = "sqlite:///"
# How long a write waits for another process that writes to the same file.
_BUSY_TIMEOUT_S = 10.0
_SWEPT_AT_ONCE = 200

_FINISHED_TABLE = """
CREATE TABLE IF NOT EXISTS redrive_finished (
    thread_id TEXT PRIMARY KEY,
    finished_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS redrive_finished_at ON redrive_finished (finished_at);
"""
_MARK = "INSERT OR REPLACE INTO redrive_finished (thread_id, finished_at) VALUES (?, ?)"
_KEEP = "DELETE FROM redrive_finished WHERE thread_id = ?"
_LONG_FINISHED = "SELECT thread_id FROM redrive_finished WHERE finished_at < ? LIMIT ?"
# The time is asked again: the thread may have been used since it was read.
_STILL = "(SELECT thread_id FROM redrive_finished WHERE thread_id = ? AND finished_at < ?)"
_SWEEP = (
    f"DELETE FROM writes WHERE thread_id IN {_STILL}",  # noqa: S608 - a constant
    f"DELETE FROM checkpoints WHERE thread_id IN {_STILL}",  # noqa: S608 - a constant
    "DELETE FROM redrive_finished WHERE thread_id = ? AND finished_at < ?",
)


class Checkpoints:
    """The checkpointer of a worker, and the life time of what it holds.

    Use it as an asynchronous context manager. Known URLs: `sqlite:///relative.db`,
    `sqlite:////absolute.db` (one host; WAL, `synchronous=NORMAL`: a commit survives the process,
    not the loss of power), and `none`.
    """

    def __init__(
        self, settings: CheckpointSettings | None = None, *, clock: Clock = SYSTEM
    ) -> None:
        self._settings = settings or CheckpointSettings()
        self._clock = clock
        self._path = _path(self._settings.url)
        self._sqlite: GroupedSqliteSaver | None = None
        self._foreign: BaseCheckpointSaver[Any] | None = None

    @classmethod
    def around(cls, saver: BaseCheckpointSaver[Any]) -> Checkpoints:
        """Use a checkpointer that someone else opens, closes and sweeps."""
        checkpoints = cls(CheckpointSettings(url="none"))
        checkpoints._foreign = saver
        return checkpoints

    @property
    def saver(self) -> BaseCheckpointSaver[Any] | None:
        """The open checkpointer, or None where no checkpoints are kept."""
        if self._path is not None and self._sqlite is None:
            raise SettingsError("the checkpoints are not open: use `async with checkpoints:`")
        return self._sqlite or self._foreign

    @property
    def kept(self) -> bool:
        """Whether a run can be resumed: not with `none`."""
        return self._path is not None or self._foreign is not None

    async def open(self) -> None:
        """Open the file, and make its tables where they are missing.

        Raises:
            SettingsError: It cannot be opened or written; names the path.
        """
        if self._path is not None and self._sqlite is None:
            self._sqlite = await asyncio.to_thread(_open, self._path)

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
        if self._sqlite is not None:
            row = (thread_id, self._clock.now().timestamp())
            await self._sqlite.group.write([(_MARK, [row])])

    async def keep(self, thread_id: str) -> None:
        """Take the mark back: the thread is used again, or an open letter needs it."""
        if self._sqlite is not None:
            await self._sqlite.group.write([(_KEEP, [(thread_id,)])])

    async def sweep(self, now: datetime | None = None) -> int:
        """Delete the threads that finished longer than `ttl` ago; return how many."""
        swept = 0
        before = ((now or self._clock.now()) - self._settings.ttl).timestamp()
        while threads := await self._long_finished(before):
            rows = [(thread, before) for thread in threads]
            if self._sqlite is not None:
                await self._sqlite.group.write([(sql, rows) for sql in _SWEEP])
            swept += len(threads)
        return swept

    async def _long_finished(self, before: float) -> list[str]:
        if self._sqlite is None:
            return []
        group = self._sqlite.group
        rows = await group.read(
            lambda: group.connection.execute(_LONG_FINISHED, (before, _SWEPT_AT_ONCE)).fetchall()
        )
        return [thread for (thread,) in rows]


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """Where checkpoints lie, as an absolute path; `there` is False while no worker has made it."""

    path: Path
    there: bool


def look_at(settings: CheckpointSettings) -> CheckpointFile | None:
    """Look whether a worker could open the checkpoints; makes no file. None: none are kept.

    Raises:
        SettingsError: They cannot be read or written, or their file cannot be made; names the path.
    """
    path = _path(settings.url)
    if path is None:
        return None
    path = path.absolute()
    if not path.exists():
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            raise _cannot_write(path, "its folder is missing, or may not be written to")
        return CheckpointFile(path, there=False)
    try:
        # `rw` opens what is there, and makes nothing.
        uri = f"{path.as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        ) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise _cannot_write(path, error) from error
    return CheckpointFile(path, there=True)


def _path(url: str) -> Path | None:
    if url == "none":
        return None
    if url.startswith(_PREFIX) and (name := url.removeprefix(_PREFIX)) not in ("", ":memory:"):
        return Path(name)
    raise SettingsError(
        f"checkpoints.url {url!r} is not known: write sqlite:///relative.db, "
        "sqlite:////absolute.db, or none for graphs that need no resume"
    )


def _open(path: Path) -> GroupedSqliteSaver:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_FINISHED_TABLE)
        # A file that can be read but not written would fail at the first run, not at start.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        return GroupedSqliteSaver(connection)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, why: object) -> SettingsError:
    return SettingsError(
        f"checkpoints.url: cannot write {str(path.absolute())!r} ({why}): "
        "name a file in a folder that exists and that this user may write"
    )
