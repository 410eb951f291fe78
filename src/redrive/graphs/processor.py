"""`WorkflowProcessor`: one attempt of one event, with all that happens turned into data.

What becomes of a failure is decided elsewhere; here it is only told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from redrive.clock import SYSTEM, Clock
from redrive.errors import DeadlineError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs.answer import answer
from redrive.graphs.attempt import Attempt, failed
from redrive.graphs.checkpoints import Checkpoints
from redrive.graphs.current import CURRENT, Current
from redrive.graphs.guard import GuardedSaver
from redrive.graphs.lease import Lease
from redrive.graphs.registry import GraphRegistry, GraphSource
from redrive.graphs.runs import Drained, Ended, Failed, RunEnd
from redrive.graphs.threads import RUN_KEY, Standing
from redrive.retry.config import RetryConfig
from redrive.retry.kinds import Reason

__all__ = ["DrainControl", "WorkflowProcessor"]

DrainControl = RunControl
"""Asks one run to stop at its next checkpoint; one object per run, safe from any thread."""

log = structlog.get_logger(__name__)


class WorkflowProcessor:
    """Runs workflow events through their graphs, in a worker or on its own.

    Args:
        graphs: A registry, or what one is made of.
        checkpoints: Where runs are kept, opened by the caller; also a LangGraph checkpointer, which
            then belongs to the caller. It takes the place of any that a graph was compiled with.
            None: nothing is kept, and no run can be resumed or drained.
        clock: Where time comes from.
        worker: The name that results carry.
    """

    def __init__(
        self,
        graphs: GraphRegistry | Mapping[str, GraphSource],
        checkpoints: Checkpoints | BaseCheckpointSaver[Any] | None = None,
        *,
        clock: Clock = SYSTEM,
        worker: str = "local",
    ) -> None:
        self._graphs = graphs if isinstance(graphs, GraphRegistry) else GraphRegistry(graphs)
        if isinstance(checkpoints, BaseCheckpointSaver):
            checkpoints = Checkpoints.around(checkpoints)
        self._checkpoints = checkpoints
        self._clock = clock
        self._worker = worker

    @property
    def drainable(self) -> bool:
        """Whether a run can stop at a checkpoint and go on elsewhere."""
        return self._checkpoints is not None and self._checkpoints.kept

    def new_control(self) -> DrainControl | None:
        """Return what drains one run, or None where a drained run would be lost."""
        return RunControl() if self.drainable else None

    async def process_workflow_event(self, event: WorkflowEvent) -> WorkflowResultEvent:
        """Run one attempt of `event`, without Kafka, and return its answer.

        What the graph raises is in the answer. The thread is the event's own: the same event again
        resumes, or is answered equally.
        """
        started_at = self._clock.now()
        end = await self.run(event, thread_id=f"{event.event_id}/0/0", lease=Lease())
        return answer(
            event, end, started_at=started_at, finished_at=self._clock.now(), worker=self._worker
        )

    async def run(  # noqa: PLR0913 - the facts of one attempt
        self,
        event: WorkflowEvent,
        *,
        thread_id: str,
        lease: Lease,
        control: DrainControl | None = None,
        generation: int = 0,
        redrive_count: int = 0,
        timeout_s: float | None = None,
        policy: RetryConfig | None = None,
        failed_before: int = 0,
    ) -> RunEnd:
        """Run one attempt on its thread; whatever is raised comes back as `Failed`.

        Only a cancellation of the calling task passes.

        Args:
            event: What to run.
            thread_id: The LangGraph thread. One that begins with `<event_id>/` is the run's own and
                swept when the run is long over; another is the producer's, and stays.
            lease: Held while this attempt may write.
            control: From `new_control`.
            generation: Counts restarts: another generation does not go on from this one's state.
            redrive_count: How often the event was redriven; noted with the checkpoints.
            timeout_s: After so many seconds it comes back as failed with a `DeadlineError`.
            policy: The run's retry policy: no retry of a node goes beyond it.
            failed_before: How many attempts of the run failed before, with retries of nodes.
        """
        until = None if timeout_s is None else self._clock.monotonic() + timeout_s
        current = Current(until, self._clock, policy, failed_before)
        token = CURRENT.set(current)
        try:
            end = await self._run(
                event, thread_id, lease, control, generation, redrive_count, timeout_s
            )
        finally:
            CURRENT.reset(token)
        match end:
            case Ended() | Failed():
                return replace(end, node_retries=current.node_retries)
            case Drained():
                return end

    async def _run(
        self,
        event: WorkflowEvent,
        thread_id: str,
        lease: Lease,
        control: DrainControl | None,
        generation: int,
        redrive_count: int,
        timeout_s: float | None,
    ) -> RunEnd:
        attempt: Attempt | None = None
        limit = asyncio.timeout(timeout_s)
        try:
            run = f"{event.event_id}/{generation}"
            attempt = self._attempt(event, run, thread_id, lease, redrive_count)
            async with limit:
                thread = await attempt.look()
                if thread.standing is Standing.RESUME:
                    await self._keep(thread_id)
                end = await attempt.go_on(thread, control if self.drainable else None)
        except GraphDrained:
            return Drained()
        except (GeneratorExit, KeyboardInterrupt):
            raise
        # The boundary to user code: what it raises is data from here on.
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _cancelled_from_outside():
                raise
            return await failed(attempt, DeadlineError() if limit.expired() else error)
        # What the producer named holds a conversation, not one run, and who is asked may answer
        # late: both stay.
        waits = end.reason is Reason.INTERRUPT
        if thread_id.startswith(f"{event.event_id}/") and not waits:
            await self._mark_finished(thread_id)
        return end

    def _attempt(
        self, event: WorkflowEvent, run: str, thread_id: str, lease: Lease, redrive_count: int
    ) -> Attempt:
        loaded = self._graphs.find(event.workflow_id)
        opened = None if self._checkpoints is None else self._checkpoints.saver
        config: RunnableConfig = {
            "configurable": {"thread_id": thread_id},
            "recursion_limit": loaded.recursion_limit,
        }
        if opened is None:
            return Attempt(event, run, loaded, loaded.unkept, config, saver=None)
        saver = GuardedSaver(opened, lease)
        # Only checkpoints carry metadata, and LangGraph hands it on at every step.
        config["metadata"] = {
            RUN_KEY: run,
            "redrive_count": redrive_count,
            "graph_version": loaded.version,
        }
        graph = loaded.compiled.copy(update={"checkpointer": saver})
        return Attempt(event, run, loaded, graph, config, saver)

    async def _keep(self, thread_id: str) -> None:
        if self._checkpoints is not None:
            await self._checkpoints.keep(thread_id)

    async def _mark_finished(self, thread_id: str) -> None:
        if self._checkpoints is None:
            return
        try:
            await self._checkpoints.mark_finished(thread_id)
        except Exception as error:  # noqa: BLE001 - the run is over; only its sweeping is in doubt
            log.warning("checkpoints.not_marked", thread_id=thread_id, error=str(error))


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
