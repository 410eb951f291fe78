"""The tasks of one attempt: which of them run, what they wait for, where the run has stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from langgraph.types import PregelExecutableTask

from redrive.clock import SYSTEM
from redrive.graphs.resume_verifier import ResumeVerifier

__all__ = ["HANDLER", "TASKS", "Running", "Superstep", "Tasks"]

HANDLER = "node_error_handler"
"""LangGraph's mark in the path of an error handler's task."""
# Between the end of a task and LangGraph's own note of it: some turns of the loop.
_TURNS_TO_COMMIT = 8


@dataclass(slots=True, eq=False)
class Superstep:
    """A superstep of one graph whose results we store.

    `handled` are its nodes that have an error handler, `due` are handlers that are to start.
    """

    handled: frozenset[str] = frozenset()
    running: set[asyncio.Task[Any]] = field(default_factory=set)
    failed: set[asyncio.Task[Any]] = field(default_factory=set)
    due: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def others(self) -> set[asyncio.Future[Any]]:
        """What a task that has failed waits for."""
        return {task for task in self.running - self.failed if not task.done()} | set(self.due)


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """A task that runs; `step` is None where we do not store its result."""

    task: asyncio.Task[Any]
    step: Superstep | None


class Tasks:
    """What one attempt knows of its tasks.

    Args:
        workflow: The graph's name, for messages.
        siblings_s: How long a failed task waits for those of its step that run beside it, so that
            their results are stored before the step ends. Without checkpoints that would gain
            nothing.
    """

    def __init__(self, workflow: str = "", *, siblings_s: float = 0.0) -> None:
        self.workflow = workflow
        self.stopped_in: set[str] = set()
        """The namespaces of graphs that have stopped, at a breakpoint or with a question."""
        self.failure: Exception | None = None
        """What a task failed with whose wait for its siblings was cut off."""
        self.verifier: ResumeVerifier | None = None
        """Who is told what runs of the thread's own graph."""
        self.root: object = None
        """LangGraph's loop of the thread's own graph."""
        self._siblings_s = siblings_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._steps: dict[str, Superstep] = {}
        self._alive: list[asyncio.Task[Any]] = []
        self._raised: list[BaseException] = []

    @property
    def alive(self) -> set[asyncio.Task[Any]]:
        """The tasks of the attempt's event loop that run now."""
        return {task for task in self._alive if not task.done()}

    async def end(self, *, limit_s: float) -> None:
        """Cancel what still runs, and wait for it for so many seconds.

        LangGraph leaves nodes of inner subgraphs to themselves when an outer one is cancelled.
        """
        running = self.alive
        for task in running:
            if not task.cancelling():
                task.cancel()
        if running:
            await asyncio.wait(running, timeout=limit_s)

    def scheduled(
        self,
        tasks: Mapping[str, PregelExecutableTask],
        *,
        handled: Iterable[str],
        last: Superstep | None,
    ) -> Superstep:
        """Note the next step of a graph, in place of its last one."""
        if last is not None:
            self._steps = {one: step for one, step in self._steps.items() if step is not last}
        step = Superstep(frozenset(handled))
        self._steps.update(dict.fromkeys(tasks, step))
        return step

    def step_of(self, task_id: str) -> Superstep | None:
        """Return the step that a task belongs to; None where we do not store its result."""
        return self._steps.get(task_id)

    def begin(self, step: Superstep | None = None, *, handles: bool = False) -> Running | None:
        """Count the calling task among those that run until `ended`.

        Returns None for one of another event loop: a node may have its own in a thread.

        Args:
            step: The step that waits for it.
            handles: Whether it is an error handler.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        self._loop = self._loop or loop
        if loop is not self._loop or task is None:
            return None
        self._alive.append(task)
        if step is not None:
            step.running.add(task)
            if handles and step.due:
                step.due.pop().set_result(None)
        return Running(task, step)

    def ended(self, running: Running | None) -> None:
        """Count it no more."""
        if running is not None:
            self._alive.remove(running.task)
            if running.step is not None:
                running.step.running.discard(running.task)
                running.step.failed.discard(running.task)

    def stopped_within(self, namespace: str) -> bool:
        """Tell whether a graph has stopped that the task of this namespace is, or has called."""
        # One with `checkpointer=True` has a namespace without the ids of tasks.
        within = (namespace, "|".join(part.partition(":")[0] for part in namespace.split("|")))
        return any(
            name == outer or name.startswith(f"{outer}|")
            for name in self.stopped_in
            for outer in within
        )

    def keep_alive(self, error: BaseException) -> None:
        """Keep what a task raised for as long as the attempt lasts.

        LangGraph knows handled errors by their `id()`: a later one must not have it again.
        """
        self._raised.append(error)

    async def failed(self, running: Running | None, *, node: str, error: Exception) -> None:
        """Wait, in a task that failed for good, until those beside it have ended or failed as well.

        For `siblings_s` at most: a branch may wait for what the failed one was to give it. The
        attempt's own limits end it before. A task whose error is handled waits for nothing: its
        handler comes in its place.
        """
        if running is None or running.step is None:
            return
        if node in running.step.handled:
            running.step.due.append(asyncio.get_running_loop().create_future())
            return
        running.step.failed.add(running.task)
        try:
            await self._until_none_runs(running.step)
        except asyncio.CancelledError:
            self.failure = self.failure or error
            raise

    async def _until_none_runs(self, step: Superstep) -> None:
        until = SYSTEM.monotonic() + self._siblings_s
        while (others := step.others) and (left_s := until - SYSTEM.monotonic()) > 0:
            await asyncio.wait(others, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for _ in range(_TURNS_TO_COMMIT):
                await asyncio.sleep(0)


TASKS: ContextVar[Tasks | None] = ContextVar("redrive_tasks", default=None)
"""The tasks of this attempt; set by the processor."""
