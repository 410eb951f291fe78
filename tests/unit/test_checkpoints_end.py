"""Threads of checkpoints end: of letters, of runs left behind; and the file gives its room back."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from structlog.testing import capture_logs

from redrive.consumer.sweeping import SWEEP_EVERY_S, Sweeping
from redrive.errors import SettingsError
from redrive.events import WorkflowEvent
from redrive.graphs import Checkpoints, CheckpointSettings, Lease, WorkflowProcessor
from redrive.graphs.checkpoint_file import (
    Deployment,
    compact,
    deployments,
    read_only,
    space_of,
    stored_threads,
)
from redrive.graphs.retention import Kept, Mark, StoredThread, ThreadState, state_of
from redrive.testing.manual_clock import ManualClock

DAY = timedelta(days=1)
EVENTS, LETTERS = 15 * DAY, 38 * DAY
LARGE = 50_000


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def graph(end: str) -> StateGraph[Log, Any, Log, Log]:
    def load(state: Log) -> Log:
        del state
        return {"log": ["x" * LARGE]}

    def work(state: Log) -> Log:
        del state
        if end == "fails":
            raise RuntimeError("not today")
        return {"log": [interrupt("may I?") if end == "asks" else "worked"]}

    built = StateGraph(Log)
    built.add_node("load", load)
    built.add_node("work", work)
    built.add_edge(START, "load")
    built.add_edge("load", "work")
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


def own(number: int = 0) -> str:
    return f"{event(number).event_id}/0/0"


def settings(folder: Path) -> CheckpointSettings:
    return CheckpointSettings(url=f"sqlite:///{folder}/checkpoints.db")


def threads_in(folder: Path) -> dict[str, StoredThread]:
    with closing(read_only(folder / "checkpoints.db")) as connection:
        return {thread.thread_id: thread for thread in stored_threads(connection)}


async def run(
    checkpoints: Checkpoints, number: int = 0, end: str = "works", *, thread: str | None = None
) -> None:
    processor = WorkflowProcessor({"work": graph(end)}, checkpoints)
    await processor.run(event(number), thread_id=thread or own(number), lease=Lease())


@pytest.fixture
def clock() -> ManualClock:
    # The ids of checkpoints bear the real time.
    return ManualClock(start=datetime.now(UTC))


@pytest.fixture
async def opened(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Checkpoints]:
    """Checkpoints whose worker has seen what the topics keep."""
    async with Checkpoints(settings(tmp_path), clock=clock) as checkpoints:
        await checkpoints.learn(Deployment("ours", Kept(EVENTS, LETTERS), clock.now()))
        yield checkpoints


async def test_the_thread_of_a_letter_goes_when_nobody_can_drive_it_any_more(
    opened: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    await run(opened, end="fails")
    await opened.mark([own()], Mark.LETTER)
    needed_for = LETTERS + EVENTS

    early = await opened.sweep(clock.now() + needed_for - DAY)
    kept = threads_in(tmp_path)
    late = await opened.sweep(clock.now() + needed_for + DAY)

    assert (early, late) == (0, 1)
    assert [state_of(thread, clock.now()) for thread in kept.values()] == [ThreadState.LETTER]
    assert threads_in(tmp_path) == {}


async def test_a_thread_that_no_ending_was_noted_of_goes_too(
    opened: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    await run(opened, end="fails")
    needed_for = EVENTS + LETTERS + EVENTS

    early = await opened.sweep(clock.now() + needed_for - DAY)
    (kept,) = threads_in(tmp_path).values()
    late = await opened.sweep(clock.now() + needed_for + DAY)

    assert (early, late) == (0, 1)
    assert state_of(kept, clock.now()) is ThreadState.RUNNING
    assert state_of(kept, clock.now() + DAY) is ThreadState.UNKNOWN
    with sqlite3.connect(tmp_path / "checkpoints.db") as connection:
        left = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - constants
            for table in ("checkpoints", "writes", "redrive_finished", "redrive_marks")
        ]
    connection.close()
    assert left == [(0,)] * 4


async def test_questions_and_what_a_producer_named_stay(
    opened: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    await run(opened, 0, "asks")
    await run(opened, 1, "asks")
    await opened.mark([own(1)], Mark.QUESTION)
    await run(opened, 2, thread="a conversation")

    swept = await opened.sweep(clock.now() + 4_000 * DAY)

    assert swept == 0
    states = {name: state_of(one, clock.now()) for name, one in threads_in(tmp_path).items()}
    assert states == {
        own(0): ThreadState.QUESTION,
        own(1): ThreadState.QUESTION,
        "a conversation": ThreadState.NAMED,
    }


async def test_a_question_that_was_answered_ends_like_any_other(
    opened: Checkpoints, clock: ManualClock
) -> None:
    await run(opened, 0, "asks")
    await opened.mark([own()], Mark.QUESTION)
    await opened.mark_finished(own())

    swept = await opened.sweep(clock.now() + 2 * DAY)

    assert swept == 1


@pytest.mark.invariant("P4")
async def test_a_run_that_a_worker_holds_keeps_its_thread_however_long_it_takes(
    opened: Checkpoints, clock: ManualClock
) -> None:
    await run(opened, 0, "fails")
    await run(opened, 1)
    await opened.mark_finished(own(1))
    await clock.turn(400 * DAY.total_seconds())

    await opened.renew([own(0), own(1), own(2)])
    held = await opened.sweep()
    await clock.turn(400 * DAY.total_seconds())
    left = await opened.sweep()

    assert (held, left) == (0, 2)


async def test_without_what_the_topics_keep_only_finished_threads_go(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Checkpoints(settings(tmp_path), clock=clock) as checkpoints:
        await run(checkpoints, 0, "fails")
        await run(checkpoints, 1)
        unknown = await checkpoints.sweep(clock.now() + 400 * DAY)
        await checkpoints.learn(Deployment("ours", Kept(EVENTS, None), clock.now()))
        for_ever = await checkpoints.sweep(clock.now() + 400 * DAY)

    assert (unknown, for_ever) == (1, 0)


async def test_of_several_deployments_on_a_file_the_longest_retention_counts(
    opened: Checkpoints, clock: ManualClock
) -> None:
    await opened.learn(Deployment("theirs", Kept(EVENTS, 400 * DAY), clock.now()))
    await run(opened, end="fails")

    swept = await opened.sweep(clock.now() + 300 * DAY)

    assert swept == 0


@pytest.mark.invariant("P4")
async def test_a_thread_that_moves_after_it_was_judged_is_not_deleted(
    opened: Checkpoints, tmp_path: Path
) -> None:
    for number in range(4):
        await run(opened, number, "fails")
    judged = threads_in(tmp_path)

    await run(opened, 0, "fails")
    await opened.mark([own(1)], Mark.LETTER)
    await opened.mark_finished(own(2))
    deleted = await opened.delete(list(judged.values()))

    assert deleted == 1
    assert set(threads_in(tmp_path)) == {own(0), own(1), own(2)}


async def test_many_pages_of_threads_are_swept_to_the_last(
    opened: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "checkpoints.db") as connection:
        connection.executemany(
            "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, metadata)"
            " VALUES (?, '', '1ef4f797-8335-6428-8001-8a1503f9b875', ?)",
            [
                (own(number), b'{"redrive_run": "%s/0"}' % event(number).event_id.encode())
                for number in range(1_234)
            ],
        )
    connection.close()

    swept = await opened.sweep(clock.now() + 400 * DAY)

    assert swept == 1_234


async def test_the_file_gives_its_room_back(
    opened: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoints.db"
    for number in range(60):
        await run(opened, number)
    with closing(read_only(file)) as connection:
        full = space_of(connection)
        await opened.sweep(clock.now() + 2 * DAY)
        swept = space_of(connection)

        given = await opened.shrink()
        shrunk = space_of(connection)
        all_given = await opened.shrink(wholly=True)
        smallest = space_of(connection)

    assert swept.pages == full.pages
    assert swept.free_pages > 1_000
    assert given == swept.size_bytes - shrunk.size_bytes > 0
    assert shrunk.free_pages <= 256
    assert all_given == shrunk.size_bytes - smallest.size_bytes > 0
    assert smallest.free_pages == 0


def made_by_an_older_version(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.executescript(
            """
            PRAGMA journal_mode=WAL;
            CREATE TABLE redrive_finished (thread_id TEXT PRIMARY KEY, finished_at REAL NOT NULL)
            WITHOUT ROWID;
            """
        )
    connection.close()


async def test_a_file_of_an_older_version_shrinks_once_it_was_rewritten(
    tmp_path: Path, clock: ManualClock
) -> None:
    file = tmp_path / "checkpoints.db"
    made_by_an_older_version(file)
    async with Checkpoints(settings(tmp_path), clock=clock) as checkpoints:
        await run(checkpoints)
        await checkpoints.sweep(clock.now() + 2 * DAY)
        given = await checkpoints.shrink(wholly=True)
        in_use = compact(file)
    size_bytes = file.stat().st_size

    done = compact(file)

    async with Checkpoints(settings(tmp_path), clock=clock) as checkpoints:
        await run(checkpoints)
    with closing(read_only(file)) as connection:
        space = space_of(connection)
    assert (given, in_use, done) == (0, False, True)
    assert space.shrinks
    assert size_bytes > LARGE
    assert list(threads_in(tmp_path)) == [own()]


async def test_a_file_that_an_older_version_left_is_read_as_it_is(
    tmp_path: Path, clock: ManualClock
) -> None:
    made_by_an_older_version(tmp_path / "checkpoints.db")
    async with Checkpoints(settings(tmp_path), clock=clock) as checkpoints:
        await run(checkpoints, 0, "fails")
        await run(checkpoints, 1)
    with sqlite3.connect(tmp_path / "checkpoints.db") as connection:
        connection.execute("DROP TABLE redrive_marks")
        connection.execute("DROP TABLE redrive_deployments")
    connection.close()

    found = threads_in(tmp_path)
    with closing(read_only(tmp_path / "checkpoints.db")) as sample:
        known = deployments(sample)

    assert {name: state_of(one, clock.now()) for name, one in found.items()} == {
        own(0): ThreadState.RUNNING,
        own(1): ThreadState.FINISHED,
    }
    assert found[own(0)].event_id == event(0).event_id
    assert found[own(0)].checkpoints >= 2
    assert found[own(0)].size_bytes > LARGE
    assert known == []


def test_a_file_without_checkpoints_is_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()

    with pytest.raises(SettingsError, match=r"empty\.db.*holds no checkpoints"):
        read_only(tmp_path / "empty.db")


async def test_a_worker_sweeps_in_rounds_and_says_what_it_did(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Checkpoints(settings(tmp_path), clock=clock) as checkpoints:
        await run(checkpoints, 0, "fails")
        await run(checkpoints, 1)
        await run(checkpoints, 2, "fails")
        await clock.turn(400 * DAY.total_seconds())
        sweeping = Sweeping(
            checkpoints,
            open_threads=lambda: [own(2)],
            deployment=lambda: Deployment("ours", Kept(EVENTS, LETTERS), clock.now()),
            clock=clock,
        )

        with capture_logs() as logs:
            await two_rounds(sweeping, clock)

    told = [line["threads"] for line in logs if line["event"] == "checkpoints.swept"]
    assert told == [1, 1]
    assert list(threads_in(tmp_path)) == [own(2)]


async def test_a_round_that_fails_is_told_and_the_next_one_tries_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    asked = list[int]()

    def deployment() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("token=abcdefghijklmnop0123456789")

    async with Checkpoints(settings(tmp_path), clock=clock) as checkpoints:
        sweeping = Sweeping(checkpoints, open_threads=list, deployment=deployment, clock=clock)

        with capture_logs() as logs:
            await two_rounds(sweeping, clock)

    (told,) = [line for line in logs if line["event"] == "checkpoints.not_swept"]
    assert "abcdefghijklmnop" not in told["error"]
    assert len(asked) == 2


async def two_rounds(sweeping: Sweeping, clock: ManualClock) -> None:
    """Let it sweep twice."""
    task = asyncio.create_task(sweeping.run())
    try:
        await clock.wait_for_sleepers()
        await clock.turn(SWEEP_EVERY_S + 1)
        await clock.wait_for_sleepers()
    finally:
        task.cancel()
        await asyncio.wait([task])


class Forgetless(BaseCheckpointSaver[str]):
    """A checkpointer of a user's that keeps its threads for ever: it has no way to delete one."""

    def __init__(self) -> None:
        super().__init__()
        self._inner = InMemorySaver()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._inner.get_tuple(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._inner.get_tuple(config)

    def list(
        self,
        config: RunnableConfig | None,
        **given: Any,
    ) -> Iterator[CheckpointTuple]:
        return self._inner.list(config, **given)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._inner.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._inner.put_writes(config, writes, task_id, task_path)

    def get_next_version(self, current: Any, channel: None) -> Any:  # noqa: ANN401 - its own type
        return self._inner.get_next_version(current, channel)


def held_by(saver: BaseCheckpointSaver[Any], *threads: str) -> list[str]:
    return [
        thread for thread in threads if list(saver.list({"configurable": {"thread_id": thread}}))
    ]


async def test_of_a_checkpointer_of_the_users_finished_threads_are_swept(
    clock: ManualClock,
) -> None:
    saver = InMemorySaver()
    with capture_logs() as logs:
        async with Checkpoints.around(saver, clock=clock) as checkpoints:
            await run(checkpoints, 0)
            await run(checkpoints, 1)
            await run(checkpoints, 2, "fails")
            await run(checkpoints, 3, thread="a conversation")
            early = await checkpoints.sweep(clock.now() + DAY / 2)
            await clock.turn(DAY.total_seconds())
            await checkpoints.renew([own(1)])
            late = await checkpoints.sweep(clock.now() + DAY / 2)

    assert (early, late) == (0, 1)
    assert held_by(saver, own(0), own(1), own(2), "a conversation") == [
        own(1),
        own(2),
        "a conversation",
    ]
    (told,) = [line for line in logs if line["event"] == "checkpoints.foreign"]
    assert "finish while this worker runs" in told["swept"]


async def test_of_a_checkpointer_that_cannot_delete_it_is_said_that_nothing_goes(
    clock: ManualClock,
) -> None:
    saver = Forgetless()

    with capture_logs() as logs:
        async with Checkpoints.around(saver, clock=clock) as checkpoints:
            await run(checkpoints)
            swept = await checkpoints.sweep(clock.now() + 9 * DAY)

    assert swept == 0
    assert held_by(saver, own()) == [own()]
    (told,) = [line for line in logs if line["event"] == "checkpoints.foreign"]
    assert told["log_level"] == "warning"
    assert told["swept"] == "nothing: it has no adelete_thread"
    assert "Forgetless" in told["saver"]


NAMED_TTL = 30 * DAY


@pytest.fixture
async def timed(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Checkpoints]:
    """Checkpoints with a time for what producers name."""
    kept = Checkpoints(settings(tmp_path), named_ttl=NAMED_TTL, clock=clock)
    async with kept as checkpoints:
        await checkpoints.learn(Deployment("ours", Kept(EVENTS, LETTERS), clock.now()))
        yield checkpoints


async def test_a_named_thread_goes_when_it_was_not_used_for_its_time(
    timed: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    await run(timed, 0, thread="chat")
    await clock.turn(NAMED_TTL.total_seconds() - 60)
    await run(timed, 1, thread="chat")

    early = await timed.sweep(clock.now() + NAMED_TTL - DAY)
    (kept,) = threads_in(tmp_path).values()
    late = await timed.sweep(clock.now() + NAMED_TTL + DAY)

    assert (early, late) == (0, 1)
    assert (kept.mark, kept.workflow, state_of(kept, clock.now())) == (
        Mark.ENDED,
        "work",
        ThreadState.NAMED,
    )


@pytest.mark.invariant("P4")
@pytest.mark.parametrize("end", ["fails", "asks"])
async def test_a_named_thread_stays_while_its_last_run_may_go_on(
    timed: Checkpoints, clock: ManualClock, tmp_path: Path, end: str
) -> None:
    await run(timed, 0, thread="chat")
    await run(timed, 1, end, thread="chat")
    needed_for = EVENTS + LETTERS + EVENTS
    assert needed_for > NAMED_TTL

    early = await timed.sweep(clock.now() + needed_for - DAY)
    late = await timed.sweep(clock.now() + needed_for + DAY)

    assert (early, late) == (0, 1)
    assert threads_in(tmp_path) == {}


@pytest.mark.invariant("P4")
async def test_a_named_thread_that_a_run_takes_up_is_not_deleted_under_it(
    timed: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    await run(timed, 0, thread="chat")
    judged = threads_in(tmp_path)
    await clock.turn(1)
    await timed.use_named("chat")

    deleted = await timed.delete(list(judged.values()))

    assert (deleted, set(threads_in(tmp_path))) == (0, {"chat"})


async def test_an_event_that_waits_renews_the_time_of_its_named_thread(
    timed: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    await run(timed, 0, thread="chat")
    await clock.turn(NAMED_TTL.total_seconds() - 60)

    await timed.renew(["chat"])

    assert await timed.sweep(clock.now() + NAMED_TTL - DAY) == 0
    assert threads_in(tmp_path)["chat"].mark is Mark.ENDED
    assert await timed.sweep(clock.now() + NAMED_TTL + DAY) == 1


async def test_without_a_time_named_threads_are_not_marked(
    opened: Checkpoints, tmp_path: Path
) -> None:
    for number in (0, 1):
        await run(opened, number, thread="chat")

    assert threads_in(tmp_path)["chat"].mark is None


async def test_a_name_that_begins_with_an_events_id_is_no_thread_of_its_own(
    opened: Checkpoints, clock: ManualClock, tmp_path: Path
) -> None:
    name = f"{event().event_id}/chat"
    await run(opened, 0, thread=name)

    swept = await opened.sweep(clock.now() + 4_000 * DAY)

    assert swept == 0
    assert state_of(threads_in(tmp_path)[name], clock.now()) is ThreadState.NAMED
