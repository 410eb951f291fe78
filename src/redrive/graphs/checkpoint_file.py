"""The SQLite file of checkpoints as it lies there: its tables, its threads, its size.

Needs no LangGraph. `redrive.graphs.checkpoint_store` opens it, and writes it for runs.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redrive.clock import moment
from redrive.errors import SettingsError
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.graphs.retention import Kept, Mark, StoredThread
from redrive.private_files import check_private, make_private, warn_of_open_folder
from redrive.thread_names import owner_in

__all__ = [
    "PIECE_PAGES",
    "CheckpointFile",
    "Deployment",
    "Space",
    "compact",
    "connect",
    "deployments",
    "look_at",
    "path_of",
    "read_only",
    "space_of",
    "spare_pages",
    "stored_threads",
    "threads_after",
]

PIECE_PAGES = 256
"""So many free pages are given back at once: others write between two pieces."""

_PREFIX = "sqlite:///"
# How long a write waits for another process that writes to the same file.
_BUSY_TIMEOUT_S = 10.0
_ALONE_TIMEOUT_S = 0.2
_THREADS_AT_ONCE = 500
# What is deleted is overwritten: a state is not to be found in the file after its thread is gone.
_NOTHING_REMAINS = "PRAGMA secure_delete=ON"
# SQLite gives the files beside it the mode that the file itself has; it makes the first two.
_BESIDE = ("-wal", "-shm", "-journal")
_UUID_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)
_SORTABLE_BY_TIME = 6

_TABLES = {
    "redrive_finished": """
CREATE {temp} TABLE IF NOT EXISTS redrive_finished (
    thread_id TEXT PRIMARY KEY,
    finished_at REAL NOT NULL
) WITHOUT ROWID""",
    "redrive_marks": """
CREATE {temp} TABLE IF NOT EXISTS redrive_marks (
    thread_id TEXT PRIMARY KEY,
    mark TEXT NOT NULL,
    marked_at REAL NOT NULL
) WITHOUT ROWID""",
    "redrive_deployments": """
CREATE {temp} TABLE IF NOT EXISTS redrive_deployments (
    name TEXT PRIMARY KEY,
    events_kept_s REAL,
    letters_kept_s REAL,
    seen_at REAL NOT NULL
) WITHOUT ROWID""",
}
_INDEX = "CREATE INDEX IF NOT EXISTS redrive_finished_at ON redrive_finished (finished_at)"

# Each thread is one step in the index, however many checkpoints it has.
_IDS = """
WITH RECURSIVE thread(id) AS (
    SELECT min(thread_id) FROM checkpoints WHERE thread_id > ?1
    UNION ALL
    SELECT (SELECT min(thread_id) FROM checkpoints WHERE thread_id > thread.id)
    FROM thread WHERE thread.id IS NOT NULL
    LIMIT ?2
)
SELECT id, finished_at FROM thread LEFT JOIN redrive_finished ON thread_id = id
WHERE id IS NOT NULL ORDER BY id
"""
_FIRST_IDS = _IDS.replace("WHERE thread_id > ?1\n", "WHERE ?1 IS NULL\n", 1)
# What `redrive.graphs.access.RUN_KEY` names.
_RUN = """CASE WHEN json_valid(CAST(metadata AS TEXT))
    THEN json_extract(CAST(metadata AS TEXT), '$.redrive_run') END"""
# What `OWNER_KEY` names, there.
_OWNER = "json_extract(CAST(metadata AS TEXT), '$.redrive_owner')"
_THREAD = f"""
SELECT
    (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?1),
    (SELECT json_array({_RUN}, {_OWNER}) FROM checkpoints
     WHERE thread_id = ?1 AND checkpoint_ns = '' AND {_RUN} IS NOT NULL
     ORDER BY checkpoint_id DESC LIMIT 1),
    (SELECT mark FROM redrive_marks WHERE thread_id = ?1),
    (SELECT marked_at FROM redrive_marks WHERE thread_id = ?1),
    EXISTS (
        SELECT 1 FROM writes
        WHERE thread_id = ?1 AND checkpoint_ns = '' AND channel = '__interrupt__'
        AND checkpoint_id = (
            SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?1 AND checkpoint_ns = ''
        )
    )
"""  # noqa: S608 - constants
_SIZE = """
SELECT
    (SELECT count(*) FROM checkpoints WHERE thread_id = ?1),
    (SELECT ifnull(sum(length(CAST(checkpoint AS BLOB)) + ifnull(length(metadata), 0)), 0)
     FROM checkpoints WHERE thread_id = ?1)
    + (SELECT ifnull(sum(length(CAST(value AS BLOB))), 0) FROM writes WHERE thread_id = ?1)
"""


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """Where checkpoints lie, as an absolute path; `there` is False while no worker has made it."""

    path: Path
    there: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """Whose runs have their threads in a file: a cluster, a group, its topics, by one name.

    `kept` is what its topics were last seen to keep, at `seen_at`.
    """

    name: str
    kept: Kept
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Space:
    """What the file takes on disk, in pages of `page_bytes` bytes.

    `shrinks`: free pages can be given back piece by piece.
    """

    page_bytes: int
    pages: int
    free_pages: int
    shrinks: bool

    @property
    def size_bytes(self) -> int:
        """The size of the file, without its write-ahead log."""
        return self.page_bytes * self.pages

    @property
    def free_bytes(self) -> int:
        """How much of it holds nothing."""
        return self.page_bytes * self.free_pages


def path_of(settings: CheckpointSettings) -> Path | None:
    """Return the file that `checkpoints.url` names; None: none are kept.

    Raises:
        SettingsError: The URL is of no known kind.
    """
    url = settings.url
    if url == "none":
        return None
    if url.startswith(_PREFIX) and (name := url.removeprefix(_PREFIX)) not in ("", ":memory:"):
        return Path(name)
    raise SettingsError(
        f"checkpoints.url {url!r} is not known: write sqlite:///relative.db, "
        "sqlite:////absolute.db, or none for graphs that need no resume"
    )


def look_at(settings: CheckpointSettings) -> CheckpointFile | None:
    """Look whether a worker could open the checkpoints; makes no file. None: none are kept.

    Raises:
        SettingsError: They cannot be read or written, or their file cannot be made; names the path.
    """
    path = path_of(settings)
    if path is None:
        return None
    path = path.absolute()
    try:
        there = check_private(path) is not None
    except OSError as error:
        raise _cannot_write(path, error) from error
    if not there:
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            raise _cannot_write(path, "its folder is missing, or may not be written to")
        return CheckpointFile(path, there=False)
    try:
        with closing(_existing(path)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise _cannot_write(path, error) from error
    return CheckpointFile(path, there=True)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for a worker, and make it and our tables where they are missing.

    Raises:
        SettingsError: It cannot be opened or written; names the path.
        sqlite3.OperationalError: Another process holds its lock; see `is_locked`.
    """
    connection: sqlite3.Connection | None = None
    try:
        _close_to_others(path)
        connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        # Before all else: it holds for a file that is made now, and changes nothing in another.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(_NOTHING_REMAINS)
        for table in _TABLES.values():
            connection.execute(table.format(temp=""))
        connection.execute(_INDEX)
        # A file that can be read but not written would fail at the first run, not at start.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        if connection is not None:
            connection.close()
        if is_locked(error):
            raise
        raise _cannot_write(path, error) from error
    return connection


def is_locked(error: BaseException | None) -> bool:
    """Say whether an error tells that another process holds the lock: it passes by itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)


def read_only(path: Path) -> sqlite3.Connection:
    """Open a file that is there, for `stored_threads` and the like; disturbs nobody who writes.

    May be used from another thread. Tables that an older version has not made are empty.

    Raises:
        SettingsError: It cannot be read, or holds no checkpoints; names the path.
    """
    connection: sqlite3.Connection | None = None
    try:
        check_private(path)
        connection = _existing(path.absolute())
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        there = {name for (name,) in rows}
        if not {"checkpoints", "writes"} <= there:
            raise sqlite3.DatabaseError("it holds no checkpoints")
        for name in _TABLES.keys() - there:
            connection.execute(_TABLES[name].format(temp="TEMP"))
        connection.execute("PRAGMA query_only=ON")
    except (OSError, sqlite3.Error) as error:
        if connection is not None:
            connection.close()
        raise SettingsError(
            f"checkpoints.url: cannot read {str(path.absolute())!r} ({error}): name the file that "
            "the workers use"
        ) from error
    return connection


def stored_threads(connection: sqlite3.Connection) -> Iterator[StoredThread]:
    """Yield every thread of the file with its size, by name."""
    after: str | None = None
    while True:
        page, after = threads_after(connection, after, sizes=True)
        yield from page
        if after is None:
            return


def threads_after(
    connection: sqlite3.Connection, after: str | None, *, sizes: bool = False
) -> tuple[list[StoredThread], str | None]:
    """Return the next few threads by name, and where to go on; None there is the end.

    Args:
        connection: From `read_only`.
        after: Where the page before ended; None for the first one.
        sizes: Measure each thread, and return finished ones too: without it they are left out.
    """
    sql = _FIRST_IDS if after is None else _IDS
    rows = connection.execute(sql, (after, _THREADS_AT_ONCE)).fetchall()
    page = [
        thread
        for name, finished_at in rows
        if (sizes or finished_at is None)
        and (thread := _thread(connection, name, finished_at, sizes=sizes)) is not None
    ]
    return page, rows[-1][0] if rows else None


def deployments(connection: sqlite3.Connection) -> list[Deployment]:
    """Return whose workers have used the file."""
    rows = connection.execute(
        "SELECT name, events_kept_s, letters_kept_s, seen_at FROM redrive_deployments ORDER BY name"
    ).fetchall()
    return [
        Deployment(name, Kept(_span(events_s), _span(letters_s)), _time(seen_at))
        for name, events_s, letters_s, seen_at in rows
    ]


def space_of(connection: sqlite3.Connection) -> Space:
    """Return what the file takes on disk."""
    page_bytes, pages, free, mode = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count", "auto_vacuum")
    )
    return Space(page_bytes, pages, free, shrinks=mode != 0)


def spare_pages(space: Space) -> int:
    """Return how many free pages a worker leaves: what it writes next needs them again."""
    return max(PIECE_PAGES, (space.pages - space.free_pages) // 4)


def compact(path: Path) -> bool:
    """Write the whole file anew, so that it can shrink from now on; it takes twice its room.

    Nobody can open it meanwhile. False: somebody has it open, and nothing was done.

    Raises:
        sqlite3.Error: It could not be written, for want of room say; it is as it was.
    """
    with closing(_existing(path.absolute(), timeout_s=_ALONE_TIMEOUT_S)) as connection:
        try:
            # Leaving the write-ahead log takes the file for oneself.
            (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                return False
            raise
        if mode != "delete":
            return False
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute(_NOTHING_REMAINS)
            connection.execute("VACUUM")
        finally:
            connection.execute("PRAGMA journal_mode=WAL")
    return True


def _thread(
    connection: sqlite3.Connection, name: str, finished_at: float | None, *, sizes: bool
) -> StoredThread | None:
    last_id, stored_by, mark, marked_at, asks = connection.execute(_THREAD, (name,)).fetchone()
    if last_id is None:
        return None  # deleted since its name was read
    run, owner = (None, None) if stored_by is None else json.loads(stored_by)
    count, size_bytes = connection.execute(_SIZE, (name,)).fetchone() if sizes else (0, 0)
    return StoredThread(
        thread_id=name,
        event_id=str(run).rpartition("/")[0] or None if run is not None else None,
        last_id=last_id,
        last_at=_stored_at(last_id),
        finished_at=None if finished_at is None else _time(finished_at),
        # A later version may know other marks: what they keep is not for this one to judge.
        mark=None if mark is None else Mark(mark) if mark in set(Mark) else Mark.QUESTION,
        marked_at=None if marked_at is None else _time(marked_at),
        asks=bool(asks),
        checkpoints=count,
        size_bytes=size_bytes,
        workflow=owner_in(owner),
    )


def _stored_at(checkpoint_id: str) -> datetime | None:
    """Return the time that LangGraph puts into the id of a checkpoint (UUID version 6)."""
    try:
        number = uuid.UUID(checkpoint_id)
    except ValueError:
        return None
    if number.version != _SORTABLE_BY_TIME:
        return None
    ticks = number.time_low << 28 | number.time_mid << 12 | number.time_hi_version & 0x0FFF
    return _UUID_EPOCH + timedelta(microseconds=ticks // 10)


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _time(seconds: float) -> datetime:
    return moment(seconds * 1000)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _close_to_others(path: Path) -> None:
    warn_of_open_folder(path)
    make_private(path)
    for suffix in _BESIDE:
        beside = path.with_name(path.name + suffix)
        if check_private(beside) is not None:
            make_private(beside)


def _existing(path: Path, *, timeout_s: float = _BUSY_TIMEOUT_S) -> sqlite3.Connection:
    # `rw` opens what is there, and makes nothing.
    uri = f"{path.as_uri()}?mode=rw"
    return sqlite3.connect(
        uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
    )


def _cannot_write(path: Path, why: object) -> SettingsError:
    return SettingsError(
        f"checkpoints.url: cannot write {str(path.absolute())!r} ({why}): "
        "name a file in a folder that exists and that this user may write"
    )
