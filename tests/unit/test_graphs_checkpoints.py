"""Where checkpoints live: the SQLite file, its commits, and what is swept."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import aiosqlite
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from structlog.testing import capture_logs

from redrive.errors import SettingsError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Lease,
    WorkflowProcessor,
    checkpoint_file,
)
from redrive.testing.manual_clock import ManualClock
from redrive.testing.worker_process import wait_until


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def graph(ran: list[str], *, failing: bool = False) -> StateGraph[Log, Any, Log, Log]:
    def work(state: Log) -> Log:
        ran.append("work")
        if failing:
            raise RuntimeError(f"not today: {state['log']}")
        return {"log": ["work"]}

    built = StateGraph(Log)
    built.add_node("work", work)
    built.add_edge(START, "work")
    return built


def event(number: int = 0) -> WorkflowEvent:
    return WorkflowEvent.model_validate(
        {
            "event_id": f"0b0f7a44-7a0e-4b5e-8f0a-{number:012d}",
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {"log": ["in"]}},
        }
    )


def settings(folder: Path, ttl: str = "24h") -> CheckpointSettings:
    return CheckpointSettings.model_validate(
        {"url": f"sqlite:///{folder}/checkpoints.db", "ttl": ttl}
    )


def config(thread_id: str = "thread") -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def checkpoint(**values: object) -> Checkpoint:
    return {**empty_checkpoint(), "channel_values": values}


async def run(checkpoints: Checkpoints, given: WorkflowEvent, ran: list[str]) -> object:
    processor = WorkflowProcessor({"work": graph(ran)}, checkpoints)
    return await processor.run(given, thread_id=f"{given.event_id}/0/0", lease=Lease())


async def test_a_relative_url_is_a_file_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async with Checkpoints(CheckpointSettings(url="sqlite:///here.db")) as checkpoints:
        kept = checkpoints.kept

    assert kept
    assert (tmp_path / "here.db").is_file()


async def test_the_file_is_written_ahead(tmp_path: Path) -> None:
    async with Checkpoints(settings(tmp_path)):
        with sqlite3.connect(tmp_path / "checkpoints.db") as other:
            mode = other.execute("PRAGMA journal_mode").fetchone()
        other.close()

    assert mode == ("wal",)


async def test_none_keeps_nothing() -> None:
    async with Checkpoints(CheckpointSettings(url="none")) as checkpoints:
        await checkpoints.mark_finished("thread")
        swept = await checkpoints.sweep()

    assert (checkpoints.saver, checkpoints.kept, swept) == (None, False, 0)


@pytest.mark.parametrize(
    "url", ["postgres://db/x", "sqlite:///", "sqlite://x.db", "sqlite:///:memory:", ""]
)
def test_an_unknown_url_is_refused_with_what_is_known(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite:///relative\.db.*none"):
        Checkpoints(CheckpointSettings(url=url))


@pytest.mark.parametrize("place", ["no/such/folder/c.db", "a_folder"])
async def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "a_folder").mkdir()
    checkpoints = Checkpoints(CheckpointSettings(url=f"sqlite:///{tmp_path}/{place}"))

    with pytest.raises(SettingsError, match=place):
        await checkpoints.open()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints.db").write_text("not a database, but long enough to be taken for one")

    with pytest.raises(SettingsError, match=r"checkpoints\.db.*not a database"):
        await Checkpoints(settings(tmp_path)).open()


def test_checkpoints_that_are_not_open_say_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="async with"):
        _ = Checkpoints(settings(tmp_path)).saver


async def test_a_saver_of_ones_own_may_be_used() -> None:
    ran: list[str] = []
    saver = InMemorySaver()
    processor = WorkflowProcessor({"work": graph(ran)}, saver)
    await processor.run(event(), thread_id="conversation", lease=Lease())

    end = await processor.run(event(), thread_id="conversation", lease=Lease())

    assert end == Ended(result={"log": ["in", "work"]}, resumed=True)
    assert (ran, processor.drainable) == (["work"], True)


async def test_a_finished_thread_is_swept_after_its_ttl(tmp_path: Path) -> None:
    clock, ran = ManualClock(), list[str]()
    async with Checkpoints(settings(tmp_path, ttl="1h"), clock=clock) as checkpoints:
        await run(checkpoints, event(), ran)
        early = await checkpoints.sweep(clock.now() + timedelta(minutes=59))
        again = await run(checkpoints, event(), ran)

        late = await checkpoints.sweep(clock.now() + timedelta(minutes=61))
        anew = await run(checkpoints, event(), ran)

    assert (early, late) == (0, 1)
    assert again == Ended(result={"log": ["in", "work"]}, resumed=True)
    assert anew == Ended(result={"log": ["in", "work"]}, resumed=False)
    assert ran == ["work", "work"]


async def test_a_sweep_takes_checkpoints_writes_and_marks(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Checkpoints(settings(tmp_path, ttl="1h"), clock=clock) as checkpoints:
        for number in range(250):
            await checkpoints.mark_finished(f"thread {number}")
        await run(checkpoints, event(), [])

        swept = await checkpoints.sweep(clock.now() + timedelta(hours=2))

    with sqlite3.connect(tmp_path / "checkpoints.db") as connection:
        left = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - constants
            for table in ("checkpoints", "writes", "redrive_finished")
        ]
    connection.close()
    assert swept == 251
    assert left == [(0,), (0,), (0,)]


async def test_a_thread_that_is_used_again_is_not_swept(tmp_path: Path) -> None:
    clock = ManualClock()
    given = event()
    thread = f"{given.event_id}/0/0"
    async with Checkpoints(settings(tmp_path, ttl="1h"), clock=clock) as checkpoints:
        failing = WorkflowProcessor({"work": graph([], failing=True)}, checkpoints)
        await failing.run(given, thread_id=thread, lease=Lease())
        await checkpoints.mark_finished(thread)

        await failing.run(given, thread_id=thread, lease=Lease())
        swept = await checkpoints.sweep(clock.now() + timedelta(days=9))

    assert swept == 0


async def test_what_a_letter_or_a_producer_holds_is_not_swept(tmp_path: Path) -> None:
    clock, ran = ManualClock(), list[str]()
    async with Checkpoints(settings(tmp_path, ttl="1h"), clock=clock) as checkpoints:
        await run(checkpoints, event(), ran)
        await checkpoints.keep(f"{event().event_id}/0/0")
        processor = WorkflowProcessor({"work": graph(ran)}, checkpoints)
        await processor.run(event(1), thread_id="a conversation", lease=Lease())

        swept = await checkpoints.sweep(clock.now() + timedelta(days=9))

    assert swept == 0


async def test_files_are_interchangeable_with_langgraphs_own(tmp_path: Path) -> None:
    built = graph([])
    thread: RunnableConfig = {"configurable": {"thread_id": "t"}}
    async with Checkpoints(settings(tmp_path)) as checkpoints:
        ours = built.compile(checkpointer=checkpoints.saver)
        await ours.ainvoke({"log": ["in"]}, thread, durability="sync")
    async with aiosqlite.connect(tmp_path / "checkpoints.db") as connection:
        theirs = built.compile(checkpointer=AsyncSqliteSaver(connection))
        read = await theirs.aget_state(thread)
        await theirs.ainvoke({"log": ["more"]}, thread, durability="sync")
    async with Checkpoints(settings(tmp_path)) as checkpoints:
        ours = built.compile(checkpointer=checkpoints.saver)

        back = await ours.aget_state(thread)

    assert read.values == {"log": ["in", "work"]}
    assert back.values == {"log": ["in", "work", "more", "work"]}


async def test_writes_of_many_runs_come_back_each_to_its_own(tmp_path: Path) -> None:
    ran: list[str] = []
    async with Checkpoints(settings(tmp_path)) as checkpoints:
        ends = await asyncio.gather(*(run(checkpoints, event(n), ran) for n in range(40)))

    assert ends == [Ended(result={"log": ["in", "work"]}, resumed=False)] * 40
    assert len(ran) == 40


async def test_one_bad_write_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    async with Checkpoints(settings(tmp_path)) as checkpoints:
        saver = checkpoints.saver
        assert saver is not None
        good = [saver.aput(config(f"t{n}"), checkpoint(n=n), {}, {}) for n in range(5)]
        # Half a character: SQLite cannot bind it.
        bad = saver.aput(config("\ud800"), checkpoint(n=-1), {}, {})

        *stored, failed = await asyncio.gather(*good, bad, return_exceptions=True)
        read = [await saver.aget_tuple(config(f"t{n}")) for n in range(5)]

    assert isinstance(failed, UnicodeEncodeError)
    assert not any(isinstance(found, BaseException) for found in stored)
    assert [found and found.checkpoint["channel_values"] for found in read] == [
        {"n": n} for n in range(5)
    ]


async def test_a_writer_waits_for_another_process(tmp_path: Path) -> None:
    async with Checkpoints(settings(tmp_path)) as checkpoints:
        assert checkpoints.saver is not None
        other = sqlite3.connect(tmp_path / "checkpoints.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        put = asyncio.create_task(checkpoints.saver.aput(config(), checkpoint(n=1), {}, {}))
        early, _ = await asyncio.wait({put}, timeout=0.1)

        other.execute("COMMIT")
        other.close()
        await put
        stored = await checkpoints.saver.aget_tuple(config())

    assert not early
    assert stored is not None


async def test_a_caller_that_was_cancelled_disturbs_no_one(tmp_path: Path) -> None:
    async with Checkpoints(settings(tmp_path)) as checkpoints:
        assert checkpoints.saver is not None
        put = asyncio.create_task(checkpoints.saver.aput(config(), checkpoint(n=1), {}, {}))
        await asyncio.sleep(0)

        put.cancel()
        await checkpoints.saver.aput(config("other"), checkpoint(n=2), {}, {})
        stored = await checkpoints.saver.aget_tuple(config("other"))

    assert put.cancelled()
    assert stored is not None


async def test_nodes_in_threads_write_too(tmp_path: Path) -> None:
    async with Checkpoints(settings(tmp_path)) as checkpoints:
        saver = checkpoints.saver
        assert saver is not None
        inner = graph([]).compile(checkpointer=saver)
        thread: RunnableConfig = {"configurable": {"thread_id": "t"}}

        end = await asyncio.to_thread(lambda: inner.invoke({"log": ["in"]}, thread))
        state = await asyncio.to_thread(inner.get_state, thread)
        await asyncio.to_thread(saver.delete_thread, "t")
        gone = await saver.aget_tuple(thread)

    assert end == state.values == {"log": ["in", "work"]}
    assert gone is None


async def test_closing_finishes_what_was_asked_for_and_ends_the_thread(tmp_path: Path) -> None:
    checkpoints = Checkpoints(settings(tmp_path))
    await checkpoints.open()
    saver = checkpoints.saver
    assert saver is not None
    put = asyncio.create_task(saver.aput(config(), checkpoint(n=1), {}, {}))
    await asyncio.sleep(0)

    await checkpoints.close()
    await checkpoints.close()
    await put

    assert "redrive-checkpoints" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await saver.aget_tuple(config())


_PUTS_AND_WAITS = """
import asyncio, sys
from langgraph.checkpoint.base import empty_checkpoint
from redrive.graphs import Checkpoints, CheckpointSettings

async def main():
    async with Checkpoints(CheckpointSettings(url=sys.argv[1])) as checkpoints:
        for number in range(1_000_000):
            await asyncio.gather(*(
                checkpoints.saver.aput(
                    {"configurable": {"thread_id": f"t{number}.{part}", "checkpoint_ns": ""}},
                    empty_checkpoint(), {}, {},
                ) for part in range(4)
            ))
            print(number, flush=True)

asyncio.run(main())
"""


def _acknowledged_before_kill_9(url: str) -> int:
    """Return the number of the last group of puts that returned before the process was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PUTS_AND_WAITS, url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        last = next(number for number in map(int, lines) if number >= 20)
        process.kill()
        # A line that was cut off was not read, so nothing was promised.
        whole = [line for line in lines if line.endswith("\n")]
    process.wait(timeout=10)
    return int(whole[-1]) if whole else last


@pytest.mark.invariant("P4")
async def test_a_put_that_returned_outlives_kill_9(tmp_path: Path) -> None:
    last = await asyncio.to_thread(
        _acknowledged_before_kill_9, f"sqlite:///{tmp_path}/checkpoints.db"
    )

    async with Checkpoints(settings(tmp_path)) as checkpoints:
        assert checkpoints.saver is not None
        found = [
            await checkpoints.saver.aget_tuple(config(f"t{number}.{part}"))
            for number in range(last + 1)
            for part in range(4)
        ]

    assert len(found) >= 84
    assert None not in found


async def test_a_file_that_another_process_has_locked_is_waited_for_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_file, "_BUSY_TIMEOUT_S", 0.05)
    async with Checkpoints(settings(tmp_path)):
        pass
    other = sqlite3.connect(tmp_path / "checkpoints.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with capture_logs() as logs:
        checkpoints = Checkpoints(settings(tmp_path))
        opening = asyncio.create_task(checkpoints.open())
        await asyncio.to_thread(wait_until, lambda: logs, timeout_s=60, what="the lock is told")
        was_open = opening.done()
        other.execute("ROLLBACK")
        await asyncio.wait_for(opening, 60)
        await checkpoints.close()
    other.close()

    assert not was_open
    assert [log["event"] for log in logs] == ["checkpoints.locked", "checkpoints.unlocked"]
