"""Watches what goes on of attempts that were ended: a process that cannot get rid of it must go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redrive.consumer.event_run import Run
from redrive.errors import StuckNodeError
from redrive.graphs.lingering_work import LingeringWork

__all__ = ["LingeringWatch"]


class LingeringWatch:
    """The nodes that did not let go when their attempt was ended; belongs to the event loop.

    Args:
        stuck: To be told of one that does not end.
        grace_s: How long it may take, in seconds.
    """

    def __init__(self, stuck: Callable[[StuckNodeError], None], *, grace_s: float) -> None:
        self._stuck = stuck
        self._grace_s = grace_s
        self._watching: set[asyncio.Task[None]] = set()

    def watch(self, run: Run, lingering: LingeringWork, tasks: asyncio.TaskGroup) -> None:
        """Wait in the background for the end of it. [P8]."""
        task = tasks.create_task(self._wait(run, lingering))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def stop(self) -> None:
        """Watch no more: the process ends anyway."""
        for task in self._watching:
            task.cancel()

    async def _wait(self, run: Run, lingering: LingeringWork) -> None:
        if await lingering.ended(self._grace_s):
            return
        self._stuck(
            StuckNodeError(
                f"a node of event {run.event_id} (workflow {run.workflow_id!r}) goes "
                f"on {self._grace_s:g} s after its attempt was ended: only a new process is rid "
                "of it"
            )
        )
