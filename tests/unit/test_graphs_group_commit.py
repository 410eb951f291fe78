"""Many writers, one commit: who gets which answer when something goes wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from redrive.errors import StaleAttemptError
from redrive.graphs import group_commit
from redrive.graphs.group_commit import GroupCommit, Statement
from redrive.graphs.lease import Lease, LeaseSuspendedError
from redrive.testing.worker_process import wait_until

INSERT = "INSERT INTO t (n) VALUES (?)"


def connect(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        folder / "t.db", timeout=0, isolation_level=None, check_same_thread=False
    )


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A second connection, as another process would have."""
    connection = connect(tmp_path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    yield connection
    connection.close()


@pytest.fixture
def group(tmp_path: Path, other: sqlite3.Connection) -> Iterator[GroupCommit]:
    assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)
    opened = GroupCommit(connect(tmp_path))
    yield opened
    opened.close()


def insert(*numbers: int) -> list[Statement]:
    return [(INSERT, [(number,) for number in numbers])]


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n")]


async def test_what_was_written_can_be_seen_by_others(
    group: GroupCommit, other: sqlite3.Connection
) -> None:
    await asyncio.gather(*(group.write(insert(n)) for n in range(50)))

    assert numbers(other) == list(range(50))


async def test_a_write_that_fails_leaves_nothing_and_spares_the_others(
    group: GroupCommit, other: sqlite3.Connection
) -> None:
    await group.write(insert(7))

    ends = await asyncio.gather(
        group.write(insert(1)),
        group.write(insert(2, 7)),
        group.write(insert(3)),
        return_exceptions=True,
    )

    assert [type(end) for end in ends] == [type(None), sqlite3.IntegrityError, type(None)]
    assert numbers(other) == [1, 3, 7]


@pytest.mark.invariant("P1")
async def test_while_another_process_holds_the_file_writes_wait_and_are_not_told(
    group: GroupCommit, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_TELL_LOCKED_S", 0.0)
    other.execute("BEGIN IMMEDIATE")

    with capture_logs() as logs:
        writes = [asyncio.create_task(group.write(insert(n))) for n in range(3)]
        gone = asyncio.create_task(group.write(insert(7)))
        told = lambda: logs and group.waiting  # noqa: E731
        await asyncio.to_thread(wait_until, told, timeout_s=60, what="the lock is told")
        gone_cancelled = gone.cancel()
        assert await group.read(lambda: "read meanwhile") == "read meanwhile"
        assert not any(write.done() for write in writes)
        other.execute("ROLLBACK")
        await asyncio.wait_for(asyncio.gather(*writes), 60)

    assert (gone_cancelled, group.waiting) == (True, 0)
    assert numbers(other) == [0, 1, 2]
    assert [log["event"] for log in logs] == ["checkpoints.locked", "checkpoints.unlocked"]


@pytest.mark.invariant("P4")
@pytest.mark.parametrize(
    ("end", "raised"),
    [(Lease.end, StaleAttemptError), (Lease.suspend, LeaseSuspendedError)],
    ids=["gone", "away"],
)
async def test_what_waited_for_a_lock_asks_its_lease_again(
    group: GroupCommit,
    other: sqlite3.Connection,
    end: Callable[[Lease], None],
    raised: type[Exception],
) -> None:
    lease = Lease()
    other.execute("BEGIN IMMEDIATE")
    ended = asyncio.create_task(group.write(insert(1), lease=lease))
    held = asyncio.create_task(group.write(insert(2), lease=Lease()))
    await asyncio.to_thread(wait_until, lambda: group.waiting, timeout_s=60, what="both wait")

    end(lease)
    other.execute("ROLLBACK")
    ends = await asyncio.wait_for(asyncio.gather(ended, held, return_exceptions=True), 60)

    assert [type(end) for end in ends] == [raised, type(None)]
    assert numbers(other) == [2]


@pytest.mark.invariant("P7")
@pytest.mark.parametrize("on_thread", [False, True], ids=["on the loop", "on a thread"])
async def test_a_lock_keeps_no_event_loop_waiting_for_ever(
    group: GroupCommit,
    other: sqlite3.Connection,
    on_thread: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    lease = Lease()
    other.execute("BEGIN IMMEDIATE")

    def write() -> None:
        group.write_now(insert(1), lease=lease)

    with ThreadPoolExecutor(1) as pool, pytest.raises(StaleAttemptError, match="event loop"):
        # As LangGraph's `invoke()` does: it writes on a thread, and waits for it where it is.
        pool.submit(write).result() if on_thread else write()

    other.execute("ROLLBACK")
    await group.write(insert(2))
    assert numbers(other) == [2]


async def test_a_read_that_fails_is_told_and_the_next_one_works(group: GroupCommit) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await group.read(lambda: group.connection.execute("SELECT * FROM gone").fetchall())

    assert await group.read(lambda: 7) == 7


def test_a_loop_that_is_gone_stops_no_one(group: GroupCommit, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    loop = asyncio.new_event_loop()
    task = loop.create_task(group.write(insert(1)))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    other.execute("ROLLBACK")

    group.write_now(insert(2))

    assert 2 in numbers(other)
    assert group.read_now(lambda: "still here") == "still here"


async def give_room(group: GroupCommit, pages: int) -> None:
    pragma = f"PRAGMA max_page_count={pages}"
    await group.read(lambda: group.connection.execute(pragma).fetchone())


async def test_a_write_that_finds_no_room_waits_for_it_and_what_fits_goes_on(
    group: GroupCommit, other: sqlite3.Connection
) -> None:
    await group.read(lambda: group.connection.execute("CREATE TABLE big (text)"))
    await give_room(group, 8)
    large: list[Statement] = [("INSERT INTO big VALUES (?)", [("x" * 100_000,)])]

    with capture_logs() as logs:
        waits = asyncio.create_task(group.write(large))
        gone = asyncio.create_task(group.write([*large, *insert(1)]))
        await asyncio.to_thread(wait_until, lambda: logs, timeout_s=60, what="the disk is full")
        await group.write(insert(2))
        assert (waits.done(), numbers(other)) == (False, [2])
        gone.cancel()
        await give_room(group, 1_000)
        await asyncio.wait_for(waits, 60)
        await group.write(insert(3))

    # Who gave up waiting may have lost its thread to somebody else.
    assert numbers(other) == [2, 3]
    assert other.execute("SELECT count(*) FROM big").fetchone() == (1,)
    told = [log["event"] for log in logs]
    assert told == ["checkpoints.disk_full", "checkpoints.disk_has_room"]


async def test_who_waits_for_room_at_the_end_is_told_that_there_is_none(
    group: GroupCommit,
) -> None:
    await give_room(group, 2)

    with capture_logs() as logs:
        waits = asyncio.create_task(group.write(insert(*range(10_000))))
        await asyncio.to_thread(wait_until, lambda: logs, timeout_s=60, what="the disk is full")
        await asyncio.to_thread(group.close)

    with pytest.raises(sqlite3.OperationalError, match="full"):
        await waits
