"""What a thread's checkpoint says about a run: to be started, to be resumed, or over.

Only the checkpoint is asked, never a `run_id`. Nothing here runs a graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.types import StateSnapshot

from redrive.errors import (
    CheckpointGoneError,
    DeadHandlerError,
    GraphChangedError,
    ThreadMovedOnError,
)
from redrive.graphs.access import ThreadAccess, last_of_a_run
from redrive.graphs.attempt_ends import Position
from redrive.graphs.levels import read_levels
from redrive.graphs.loading import CompiledGraph
from redrive.graphs.schedule import finished_tasks

__all__ = ["Thread", "ThreadStatus", "position", "read_thread"]

# LangGraph's own name, stored with each checkpoint.
_HANDLER_STARTED = "__error_source_node__"


class ThreadStatus(Enum):
    """What is to be done with a thread; `WAITING` is for a person."""

    START = auto()
    RESUME = auto()
    WAITING = auto()
    FINISHED = auto()


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as it was found; `snapshot` is None when there was nothing of this run.

    `finished` are the ids of tasks whose result is stored beside the checkpoint. `has_past` says of
    a thread on which a run starts that other runs have left a state there.
    """

    status: ThreadStatus
    snapshot: StateSnapshot | None = None
    finished: frozenset[str] = frozenset()
    has_past: bool = False


async def read_thread(
    saver: BaseCheckpointSaver[Any],
    graph: CompiledGraph,
    *,
    config: RunnableConfig,
    access: ThreadAccess,
    graph_id: str,
    stopped_at: str | None = None,
) -> Thread:
    """Look at the thread that `config` names.

    Args:
        saver: Where the thread is kept.
        graph: What runs on it.
        config: Names the thread.
        access: Who asks. What is not its own is not looked at.
        graph_id: The graph's name, for messages.
        stopped_at: The checkpoint of the letter that is to be resumed, where there is one.

    Raises:
        ThreadOfAnotherError: The thread belongs to another workflow.
        OtherInputError: It holds the run of another event of the same id.
        CheckpointGoneError: There is nothing to resume the letter from.
        ThreadMovedOnError: Another run has worked on the letter's thread.
        GraphChangedError: The run waits for a node that the graph no longer has.
        DeadHandlerError: An error handler raised, and LangGraph would take the run as finished.
    """
    found = await saver.aget_tuple(config)
    if found is not None:
        access.check(await last_of_a_run(saver, found))
    if stopped_at is not None:
        _check_stopped_at(stopped_at, found, access)
    if found is None or not access.is_of(found):
        return Thread(ThreadStatus.START, has_past=found is not None)
    levels = [one async for one in read_levels(saver, graph, config)]
    missing = tuple(sorted({name for level in levels for name in level.missing}))
    if missing:
        raise GraphChangedError(workflow=graph_id, missing=missing)
    snapshot = levels[0].snapshot
    # Not `next`: it leaves out tasks whose writes are stored. A process killed between those writes
    # and the checkpoint that takes them in leaves a thread with tasks, no `next`, and work to do.
    if snapshot.tasks:
        waits = any(level.gates for level in levels) or all(
            task.interrupts for task in snapshot.tasks
        )
        status = ThreadStatus.WAITING if waits else ThreadStatus.RESUME
        return Thread(status, snapshot, finished_tasks(found))
    failed = [value for _, channel, value in _writes(found) if channel == _HANDLER_STARTED]
    if failed:
        raise DeadHandlerError(
            f"the error handler of node {failed[0]!r} in graph {graph_id!r} raised, and this "
            "thread cannot continue from there; fix the handler, then restart the run"
        )
    return Thread(ThreadStatus.FINISHED, snapshot)


async def position(
    saver: BaseCheckpointSaver[Any],
    graph: CompiledGraph,
    config: RunnableConfig,
    access: ThreadAccess,
) -> Position | None:
    """Return where the thread stands, or None where it has no checkpoint.

    Raises:
        ThreadOfAnotherError: It is none of what it may have.
        OtherInputError: As above.
    """
    found = await saver.aget_tuple(config)
    if found is None:
        return None
    access.check(await last_of_a_run(saver, found))
    stored = found.config["configurable"]
    snapshot = await graph.aget_state(config)
    return Position(
        thread_id=stored["thread_id"],
        checkpoint_id=stored["checkpoint_id"],
        checkpoint_ns=stored["checkpoint_ns"],
        next=snapshot.next,
    )


def _check_stopped_at(stopped_at: str, found: CheckpointTuple | None, access: ThreadAccess) -> None:
    if found is None:
        raise CheckpointGoneError(thread_id=access.thread_id, checkpoint_id=stopped_at)
    now_at = str(found.config["configurable"]["checkpoint_id"])
    # Where this run itself has gone on since, by an earlier attempt, it goes on again. [P4]
    if now_at != stopped_at and not access.is_of(found):
        raise ThreadMovedOnError(thread_id=access.thread_id, stopped_at=stopped_at, now_at=now_at)


def _writes(found: CheckpointTuple) -> list[tuple[str, str, Any]]:
    return list(found.pending_writes or ())
