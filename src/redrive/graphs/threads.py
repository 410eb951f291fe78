"""What a thread's checkpoint says about a run: to be started, to be resumed, or over.

Only the checkpoint is asked, never a `run_id`. Nothing here runs a graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.types import Send, StateSnapshot

from redrive.errors import DeadHandlerError, GraphChangedError
from redrive.graphs.loading import CompiledGraph
from redrive.graphs.runs import Position

__all__ = ["RUN_KEY", "Standing", "Thread", "position", "read_thread"]

RUN_KEY = "redrive_run"
"""Metadata of each checkpoint: the run that stored it, as `<event_id>/<generation>`."""

# LangGraph's own names, stored with each checkpoint.
_BRANCH, _JOIN, _SENDS = "branch:to:", "join:", "__pregel_tasks"
_HANDLER_STARTED = "__error_source_node__"


class Standing(Enum):
    """What is to be done with a thread; `WAITING` is for a person."""

    START = auto()
    RESUME = auto()
    WAITING = auto()
    FINISHED = auto()


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as it was found; `snapshot` is None when there was nothing of this run."""

    standing: Standing
    snapshot: StateSnapshot | None = None


async def read_thread(
    saver: BaseCheckpointSaver[Any],
    graph: CompiledGraph,
    *,
    config: RunnableConfig,
    run: str,
    workflow: str,
) -> Thread:
    """Look at the thread that `config` names.

    Raises:
        GraphChangedError: The run waits for a node that the graph no longer has.
        DeadHandlerError: An error handler raised, and LangGraph would take the run as finished.
    """
    found = await saver.aget_tuple(config)
    if found is None or not _is_of(found, run):
        return Thread(Standing.START)
    missing = tuple(name for name in _waiting_nodes(found) if name not in graph.nodes)
    if missing:
        raise GraphChangedError(workflow=workflow, missing=missing)
    snapshot = await graph.aget_state(config)
    # Not `next`: it leaves out tasks whose writes are stored. A process killed between those writes
    # and the checkpoint that takes them in leaves a thread with tasks, no `next`, and work to do.
    if snapshot.tasks:
        waits = all(task.interrupts for task in snapshot.tasks)
        return Thread(Standing.WAITING if waits else Standing.RESUME, snapshot)
    failed = [value for _, channel, value in _writes(found) if channel == _HANDLER_STARTED]
    if failed:
        raise DeadHandlerError(
            f"the error handler of node {failed[0]!r} in graph {workflow!r} raised, and this "
            "thread cannot go on from there; mend the handler, then restart the run"
        )
    return Thread(Standing.FINISHED, snapshot)


async def position(
    saver: BaseCheckpointSaver[Any], graph: CompiledGraph, config: RunnableConfig
) -> Position | None:
    """Return where the thread stands, or None where it has no checkpoint."""
    found = await saver.aget_tuple(config)
    if found is None:
        return None
    stored = found.config["configurable"]
    snapshot = await graph.aget_state(config)
    return Position(
        thread_id=stored["thread_id"],
        checkpoint_id=stored["checkpoint_id"],
        checkpoint_ns=stored["checkpoint_ns"],
        next=snapshot.next,
    )


def _is_of(found: CheckpointTuple, run: str) -> bool:
    """Tell an earlier attempt of this run from another run's work on a shared thread.

    Without the mark (the state was edited from outside), the thread's name decides.
    """
    mark = found.metadata.get(RUN_KEY)
    if mark is None:
        event_id = run.partition("/")[0]
        return str(found.config["configurable"]["thread_id"]).startswith(f"{event_id}/")
    return bool(mark == run)


def _waiting_nodes(found: CheckpointTuple) -> list[str]:
    """Read from the checkpoint itself which nodes come next.

    `StateSnapshot.next` lists only nodes that the graph still has: with a node gone, a run in the
    middle of its work looks finished.
    """
    waiting = []
    for channel, value in found.checkpoint["channel_values"].items():
        if channel.startswith(_BRANCH):
            waiting.append(channel.removeprefix(_BRANCH))
        elif channel.startswith(_JOIN):
            sources, _, node = channel.removeprefix(_JOIN).rpartition(":")
            if isinstance(value, set) and value >= set(sources.split("+")):
                waiting.append(node)
        elif channel == _SENDS:
            waiting.extend(send.node for send in value if isinstance(send, Send))
    return sorted(set(waiting))


def _writes(found: CheckpointTuple) -> list[tuple[str, str, Any]]:
    return list(found.pending_writes or ())
