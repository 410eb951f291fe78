"""Where a thread stands at every depth: its own graph, and the subgraphs of its unfinished tasks.

LangGraph resumes all of them at once, and at each depth it walks over static breakpoints and drops
nodes that are gone. So all are looked at before anything is resumed. [P16]
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.constants import TAG_HIDDEN
from langgraph.pregel import Pregel
from langgraph.pregel._read import PregelNode
from langgraph.types import PregelTask, StateSnapshot

from redrive.graphs.loading import CompiledGraph
from redrive.graphs.schedule import finished_tasks, missing_nodes, ran_last

__all__ = ["GraphLevel", "named_of", "read_levels"]

_CHECKPOINTER = "__pregel_checkpointer"


@dataclass(frozen=True, slots=True)
class GraphLevel:
    """One graph of a thread.

    `missing` are the nodes that the run waits for and the graph does not have; `gates` those whose
    static breakpoint holds: before them, or after them.
    """

    snapshot: StateSnapshot
    missing: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()


async def read_levels(
    saver: BaseCheckpointSaver[Any], graph: CompiledGraph, config: RunnableConfig
) -> AsyncIterator[GraphLevel]:
    """Give the thread's own level first, then those of its unfinished tasks that are subgraphs.

    A subgraph that a node calls in its own code is looked at when it begins (`watched_loops`).
    """
    found = await saver.aget_tuple(config)
    snapshot = await graph.aget_state(config)
    if found is None:
        yield GraphLevel(snapshot)
        return
    yield GraphLevel(
        snapshot,
        missing=missing_nodes(
            found.checkpoint,
            found.metadata,
            found.pending_writes or (),
            nodes=graph.nodes,
            channels=graph.channels,
        ),
        gates=_gates(graph, found, snapshot),
    )
    done = finished_tasks(found)
    for task in snapshot.tasks:
        inner = None if task.id in done else _subgraph(graph, task)
        if inner is not None:
            async for level in read_levels(saver, inner, _inside(inner, task, config, saver)):
                yield level


def named_of(
    named: str | Sequence[str], those: Iterable[str], *, nodes: Mapping[str, PregelNode]
) -> set[str]:
    """Return those nodes at which a graph is to stop; `*` names all that are not hidden."""
    if named != "*":
        return set(named) & set(those)
    return {name for name in those if name in nodes and TAG_HIDDEN not in (nodes[name].tags or ())}


def _gates(
    graph: CompiledGraph, found: CheckpointTuple, snapshot: StateSnapshot
) -> tuple[str, ...]:
    """Return the nodes whose breakpoint the next step would pass, or the last one has reached.

    After the last node of the thread's own graph there is nothing left that could be held.
    """
    if not snapshot.tasks and not found.config["configurable"].get("checkpoint_ns"):
        return ()
    due, ran = [task.name for task in snapshot.tasks], ran_last(found.checkpoint, found.metadata)
    held = named_of(graph.interrupt_before_nodes, due, nodes=graph.nodes)
    return tuple(sorted(held | named_of(graph.interrupt_after_nodes, ran, nodes=graph.nodes)))


def _subgraph(graph: CompiledGraph, task: PregelTask) -> CompiledGraph | None:
    node = graph.nodes.get(task.name)
    inner = None if node is None else node.bound
    return inner if isinstance(inner, Pregel) and inner.checkpointer is not False else None


def _inside(
    inner: CompiledGraph,
    task: PregelTask,
    config: RunnableConfig,
    saver: BaseCheckpointSaver[Any],
) -> RunnableConfig:
    outer = config["configurable"]
    own = f"{task.name}:{task.id}"
    namespace = f"{outer['checkpoint_ns']}|{own}" if outer.get("checkpoint_ns") else own
    if inner.checkpointer is True:
        # It has one history for the whole thread, under names without the ids of tasks.
        namespace = "|".join(part.partition(":")[0] for part in namespace.split("|"))
    return {
        "configurable": {
            "thread_id": outer["thread_id"],
            "checkpoint_ns": namespace,
            _CHECKPOINTER: saver,
        }
    }
