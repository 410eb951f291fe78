"""LangGraph's loop, watched: every graph of a run, however it is called, begins and steps here.

Nodes are wrapped where they can be seen (`watched_nodes`); a graph that a node calls in its own
code cannot be. So some things are looked at in the loop, which knows its graph and its checkpoint:

* Before the first step: is every node there that the checkpoint waits for? Does a static breakpoint
  hold? LangGraph walks over both on a resume.
* After each step: does anything send the run to a node that is not there? LangGraph logs a warning.
* On a resume: has an error handler come to its end already? LangGraph would run it again.
* Before each checkpoint: which nodes come next that its channels do not name? It keeps them.
* Which loops have stopped at a breakpoint: nothing else tells.

What must never happen: a step begins, or its result is taken in, that leaves something out. [P16]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from langgraph.checkpoint.base import CheckpointMetadata
from langgraph.constants import START
from langgraph.errors import GraphInterrupt
from langgraph.pregel._algo import _triggers, checkpoint_null_version
from langgraph.pregel._loop import PregelLoop

from redrive.errors import GraphChangedError, UnknownNodeError
from redrive.graphs.access import RUN_KEY
from redrive.graphs.guard import GuardedSaver, tasks_of
from redrive.graphs.levels import named_of
from redrive.graphs.schedule import NEXT_KEY, is_named_by, lost_targets, missing_nodes, ran_last
from redrive.graphs.tasks import HANDLER, Tasks

__all__ = ["watch_loops"]

_WATCHED, _STEP = "_redrive_has_begun", "_redrive_step"


def watch_loops() -> None:
    """Watch the loops of all runs of this process that are attempts of redrive; others not."""
    if not hasattr(PregelLoop.tick, "__wrapped__"):
        watches: dict[str, Callable[[Any], object]] = {
            "tick": _tick,
            "after_tick": _after_tick,
            "_put_checkpoint": _put_checkpoint,
        }
        # By name, since a type checker would refuse what is the point.
        for name, watched in watches.items():
            setattr(PregelLoop, name, watched(getattr(PregelLoop, name)))


def _tick(tick: Callable[[PregelLoop], bool]) -> Callable[[PregelLoop], bool]:
    def watched(loop: PregelLoop) -> bool:
        tasks = _tasks(loop)
        if tasks is None:
            return tick(loop)
        begins = not vars(loop).get(_WATCHED) and isinstance(loop.checkpointer, GuardedSaver)
        vars(loop)[_WATCHED] = True
        if tasks.root is None and not loop.is_nested and RUN_KEY in loop.config["metadata"]:
            tasks.root = loop
        if begins:
            _check_all_there(loop, tasks)
        with _stops_noted(loop, tasks):
            more = tick(loop)
            if begins:
                _keep_handled(loop)
                _hold_at_breakpoint(loop)
        if more and isinstance(loop.checkpointer, GuardedSaver):
            _note_step(loop, tasks)
        return more

    watched.__wrapped__ = tick  # type: ignore[attr-defined] # as functools.wraps does
    return watched


def _after_tick(after_tick: Callable[[PregelLoop], None]) -> Callable[[PregelLoop], None]:
    def watched(loop: PregelLoop) -> None:
        tasks = _tasks(loop)
        if tasks is None:
            after_tick(loop)
            return
        _check_targets(loop, tasks)
        with _stops_noted(loop, tasks):
            after_tick(loop)

    watched.__wrapped__ = after_tick  # type: ignore[attr-defined] # as functools.wraps does
    return watched


def _put_checkpoint(
    put: Callable[[PregelLoop, CheckpointMetadata], None],
) -> Callable[[PregelLoop, CheckpointMetadata], None]:
    def watched(loop: PregelLoop, metadata: CheckpointMetadata) -> None:
        if isinstance(loop.checkpointer, GuardedSaver) and (unnamed := _unnamed_next(loop)):
            cast("dict[str, Any]", metadata)[NEXT_KEY] = unnamed
        put(loop, metadata)

    return watched


def _unnamed_next(loop: PregelLoop) -> list[str]:
    """Return the nodes that come next and that the checkpoint's channels do not name."""
    nothing = checkpoint_null_version(loop.checkpoint)
    if nothing is None:
        return []
    versions, seen = loop.checkpoint["channel_versions"], loop.checkpoint["versions_seen"]
    return [
        name
        for name, node in loop.nodes.items()
        # That of a StateGraph's input is in each of them.
        if name != START
        and not all(map(is_named_by, node.triggers))
        and _triggers(loop.channels, versions, seen.get(name), nothing, node)
    ]


def _note_step(loop: PregelLoop, tasks: Tasks) -> None:
    handled = (name for name, node in loop.nodes.items() if node.error_handler_node is not None)
    last = vars(loop).get(_STEP)
    vars(loop)[_STEP] = tasks.scheduled(loop.tasks, handled=handled, last=last)
    if tasks.verifier is not None and loop is tasks.root:
        names = {task.id: task.name for task in loop.tasks.values()}
        tasks.verifier.scheduled(names, step=loop.step)


@contextmanager
def _stops_noted(loop: PregelLoop, tasks: Tasks) -> Iterator[None]:
    try:
        yield
    except GraphInterrupt:
        # A graph with a checkpointer or a thread of its own stops for the node that runs it.
        ours = not loop.checkpointer or isinstance(loop.checkpointer, GuardedSaver)
        if ours and (loop.is_nested or loop is tasks.root):
            tasks.stopped_in.add("|".join(loop.checkpoint_ns))
        raise


def _tasks(loop: PregelLoop) -> Tasks | None:
    saver = loop.checkpointer
    return (saver.tasks if isinstance(saver, GuardedSaver) else None) or tasks_of(loop.config)


def _check_all_there(loop: PregelLoop, tasks: Tasks) -> None:
    """Refuse to go on from a checkpoint that waits for what the graph does not have."""
    missing = missing_nodes(
        loop.checkpoint,
        loop.checkpoint_metadata,
        loop.checkpoint_pending_writes,
        nodes=loop.nodes,
        channels=loop.specs,
    )
    if missing:
        raise GraphChangedError(workflow=tasks.workflow, missing=missing)


def _keep_handled(loop: PregelLoop) -> None:
    """Take in what error handlers have stored before: LangGraph runs them again on a resume."""
    handlers = {task.id: task for task in loop.tasks.values() if HANDLER in task.path}
    if handlers and loop._reapplies_pending_writes:  # noqa: SLF001 - as below
        loop._reapply_writes_to_succeeded_nodes(handlers)  # noqa: SLF001 - as it does for nodes


def _hold_at_breakpoint(loop: PregelLoop) -> None:
    """Stop where an earlier attempt has stopped: only a person lets a run pass."""
    due = [task.name for task in loop.tasks.values() if not task.writes]
    if named_of(loop.interrupt_before, due, nodes=loop.nodes):
        loop.status = "interrupt_before"
        raise GraphInterrupt
    over = not due and not loop.is_nested
    if loop.interrupt_after and not over:
        ran = ran_last(loop.checkpoint, loop.checkpoint_metadata)
        if named_of(loop.interrupt_after, ran, nodes=loop.nodes):
            loop.status = "interrupt_after"
            raise GraphInterrupt


def _check_targets(loop: PregelLoop, tasks: Tasks) -> None:
    """Refuse a step that sends the run to a node which its graph does not have."""
    for task in loop.tasks.values():
        lost = lost_targets(task.writes, nodes=loop.nodes, channels=loop.specs)
        if lost:
            error = UnknownNodeError(workflow=tasks.workflow, targets=lost)
            error.add_note(f"During task with name '{task.name}' and id '{task.id}'")
            raise error
