"""What goes on of an attempt after its end: a node that does not let go. Nothing here ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from redrive.graphs.node_threads import WorkInThreads

__all__ = ["LingeringWork"]

_LOOK_S = 0.05


class LingeringWork:
    """What still runs of an attempt that has come back.

    It sees the attempt's own task, the tasks of its nodes, and its sync nodes where the loop's
    default executor is a `NodeThreads`. It does not see what user code started on its own (a task,
    a thread), nor an async node that outlives a timeout of LangGraph's.
    """

    __slots__ = ("_nodes", "_task", "_threads")

    def __init__(
        self,
        task: asyncio.Task[Any] | None,
        threads: WorkInThreads,
        nodes: Collection[asyncio.Task[Any]] = (),
    ) -> None:
        self._task = task
        self._threads = threads
        self._nodes = tuple(nodes)

    @property
    def alive(self) -> bool:
        """Whether anything of the attempt runs now."""
        tasks = self._nodes if self._task is None else (self._task, *self._nodes)
        return self._threads.open > 0 or any(not task.done() for task in tasks)

    async def ended(self, timeout_s: float) -> bool:
        """Return True as soon as nothing of it runs any more, False after `timeout_s` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while self.alive and (left_s := until - loop.time()) > 0:  # noqa: ASYNC110 - see below
            # No one event tells it: what runs on may start its next piece of work when one ends.
            await asyncio.sleep(min(left_s, _LOOK_S))
        return not self.alive
