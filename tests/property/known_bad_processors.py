"""Processors that are known to be bad: each skips something, or does too much.

Each is the real one with a small patch. Random graphs must catch it: else they would not see that
redrive itself had become that bad.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from langgraph.errors import GraphDrained
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from redrive.graphs import (
    DrainControl,
    Ended,
    RunEnd,
    attempt,
    guard,
    processor,
    threads,
    watched_loops,
    watched_nodes,
)
from redrive.graphs.levels import GraphLevel, read_levels
from redrive.graphs.schedule import Schedule
from redrive.graphs.threads import Thread, ThreadStatus, read_thread

__all__ = ["KNOWN_BAD", "Patch"]

Patch = Callable[[pytest.MonkeyPatch], None]


def believes_a_failed_route(patch: pytest.MonkeyPatch) -> None:
    """Take a node for done whose route raised: what it wrote is kept beside the error."""
    patch.setattr(guard, "control_writes_only", lambda writes: writes)


def looks_at_the_root_alone(patch: pytest.MonkeyPatch) -> None:
    """Resume subgraphs without a look at where they stand."""
    check_step = Schedule.check_step

    async def first(*given: Any) -> AsyncIterator[GraphLevel]:
        async for level in read_levels(*given):
            yield level
            return

    def check_root(self: Schedule, namespace: str, *given: Any) -> tuple[str, ...]:
        return () if namespace else check_step(self, namespace, *given)

    patch.setattr(threads, "read_levels", first)
    patch.setattr(watched_loops, "_check_all_there", lambda *_: None)
    patch.setattr(Schedule, "check_step", check_root)
    patch.setattr(Schedule, "check_task", lambda *_: None)


def follows_no_lost_goto(patch: pytest.MonkeyPatch) -> None:
    """Ignore where a run is sent to, as LangGraph does."""
    patch.setattr(watched_nodes._Watched, "_check_writes", lambda *_: None)  # noqa: SLF001 - to patch it
    patch.setattr(watched_loops, "_check_targets", lambda *_: None)
    # The last line behind them.
    patch.setattr(Schedule, "_loss", lambda *_: None)


def starts_anew(patch: pytest.MonkeyPatch) -> None:
    """Give the input again, whatever the thread holds."""

    async def start(*_: object, **__: object) -> Thread:
        return Thread(ThreadStatus.START)

    patch.setattr(attempt, "read_thread", start)


def ends_where_nothing_is_next(patch: pytest.MonkeyPatch) -> None:
    """Take a thread for finished as soon as it names no next node: its last step may wait yet."""

    async def read(*given: Any, **named: Any) -> Thread:
        thread = await read_thread(*given, **named)
        if isinstance(thread.snapshot, StateSnapshot) and not thread.snapshot.next:
            return Thread(ThreadStatus.FINISHED, thread.snapshot)
        return thread

    patch.setattr(attempt, "read_thread", read)


def stores_at_the_end_alone(patch: pytest.MonkeyPatch) -> None:
    """Store a checkpoint when the attempt ends, and not after each step."""
    invoke = CompiledStateGraph.ainvoke

    async def ainvoke(
        self: CompiledStateGraph[Any, Any, Any, Any],
        *given: Any,
        **named: Any,
    ) -> object:
        if named.get("durability") == "sync":
            named["durability"] = "exit"
        return await invoke(self, *given, **named)

    patch.setattr(CompiledStateGraph, "ainvoke", ainvoke)


def takes_a_drain_for_an_end(patch: pytest.MonkeyPatch) -> None:
    """Answer a run that stopped at a checkpoint as if it were over."""
    outcome = processor._outcome  # noqa: SLF001 - to patch it

    async def ended(
        one: attempt.GraphAttempt, task: asyncio.Task[Ended], control: DrainControl
    ) -> RunEnd:
        if isinstance(task.exception(), GraphDrained):
            snapshot = await one.graph.aget_state(one.config)
            return Ended(result=snapshot.values, resumed=one.resumed)
        return await outcome(one, task, control)

    patch.setattr(processor, "_outcome", ended)


KNOWN_BAD: Mapping[Patch, str] = {
    believes_a_failed_route: "not executed",
    looks_at_the_root_alone: "renamed it is a success",
    follows_no_lost_goto: "must be none",
    starts_anew: "the result is",
    ends_where_nothing_is_next: "not executed",
    stores_at_the_end_alone: "was not stored",
    takes_a_drain_for_an_end: "the result is",
}
"""What is patched, and a part of what is said of it."""
