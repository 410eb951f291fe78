"""Processors that are known to be bad: each skips something, or does too much.

Each is the real one with a small patch. Random graphs must catch it: else they would not see that
redrive itself had become that bad.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.errors import GraphDrained
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from redrive.graphs import Ended, GuardedSaver, RunEnd, attempt, processor
from redrive.graphs.threads import Standing, Thread, read_thread

__all__ = ["KNOWN_BAD", "Patch"]

Patch = Callable[[pytest.MonkeyPatch], None]


def believes_a_failed_route(patch: pytest.MonkeyPatch) -> None:
    """Take a node for done whose route raised: its writes are kept beside the error."""

    def get_tuple(self: GuardedSaver, config: RunnableConfig) -> CheckpointTuple | None:
        return self._saver.get_tuple(config)

    async def aget_tuple(self: GuardedSaver, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._saver.aget_tuple(config)

    def put_writes(
        self: GuardedSaver,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._lease.check()
        self._saver.put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self: GuardedSaver,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await self._lease.admit()
        await self._saver.aput_writes(config, writes, task_id, task_path)

    for method in (get_tuple, aget_tuple, put_writes, aput_writes):
        patch.setattr(GuardedSaver, method.__name__, method)


def starts_anew(patch: pytest.MonkeyPatch) -> None:
    """Give the input again, whatever the thread holds."""

    async def start(*_: object, **__: object) -> Thread:
        return Thread(Standing.START)

    patch.setattr(attempt, "read_thread", start)


def ends_where_nothing_is_next(patch: pytest.MonkeyPatch) -> None:
    """Take a thread for finished as soon as it names no next node: its last step may wait yet."""

    async def read(*given: Any, **named: Any) -> Thread:  # noqa: ANN401 - its own
        thread = await read_thread(*given, **named)
        if isinstance(thread.snapshot, StateSnapshot) and not thread.snapshot.next:
            return Thread(Standing.FINISHED, thread.snapshot)
        return thread

    patch.setattr(attempt, "read_thread", read)


def stores_at_the_end_alone(patch: pytest.MonkeyPatch) -> None:
    """Store a checkpoint when the attempt ends, and not after each step."""
    invoke = CompiledStateGraph.ainvoke

    async def ainvoke(
        self: CompiledStateGraph[Any, Any, Any, Any],
        *given: Any,  # noqa: ANN401 - its own
        **named: Any,  # noqa: ANN401 - its own
    ) -> object:
        if named.get("durability") == "sync":
            named["durability"] = "exit"
        return await invoke(self, *given, **named)

    patch.setattr(CompiledStateGraph, "ainvoke", ainvoke)


def takes_a_drain_for_an_end(patch: pytest.MonkeyPatch) -> None:
    """Answer a run that stopped at a checkpoint as if it were over."""
    outcome = processor._outcome  # noqa: SLF001 - to patch it

    async def ended(one: attempt.Attempt, task: asyncio.Task[Ended]) -> RunEnd:
        if isinstance(task.exception(), GraphDrained):
            snapshot = await one.graph.aget_state(one.config)
            return Ended(result=snapshot.values, resumed=one.resumed)
        return await outcome(one, task)

    patch.setattr(processor, "_outcome", ended)


KNOWN_BAD: Mapping[Patch, str] = {
    believes_a_failed_route: "not executed",
    starts_anew: "the result is",
    ends_where_nothing_is_next: "not executed",
    stores_at_the_end_alone: "was not stored",
    takes_a_drain_for_an_end: "the result is",
}
"""What is patched, and a part of what is said of it."""
