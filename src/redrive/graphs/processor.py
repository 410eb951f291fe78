"""`WorkflowProcessor`: one attempt of one event, with all that happens turned into data.

What becomes of a failure is decided elsewhere; here it is only told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from redrive.clock import SYSTEM, Clock
from redrive.errors import NodeExitError, SettingsError, UnknownWorkflowError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs.answer import answer
from redrive.graphs.attempt import Attempt, failed
from redrive.graphs.checkpoints import Checkpoints
from redrive.graphs.current import CURRENT, Current
from redrive.graphs.guard import GuardedSaver
from redrive.graphs.lease import Lease
from redrive.graphs.lifespan import LIFESPAN
from redrive.graphs.node_threads import WORK_IN_THREADS
from redrive.graphs.progress import Progress, watched
from redrive.graphs.registry import GraphRegistry, GraphSource
from redrive.graphs.runs import Drained, Ended, Failed, Redriven, RunEnd
from redrive.graphs.threads import RUN_KEY, Standing
from redrive.graphs.timeouts import NO_LIMITS, Limits, hold
from redrive.graphs.unsaved_subgraphs import let_unsaved_subgraphs_run
from redrive.retry.config import RetryConfig
from redrive.retry.kinds import Reason
from redrive.telemetry.redact import BUILT_IN

__all__ = ["DrainControl", "WorkflowProcessor"]

DrainControl = RunControl
"""Asks one run to stop at its next checkpoint; one object per run, safe from any thread."""

log = structlog.get_logger(__name__)


class WorkflowProcessor:
    """Runs workflow events through their graphs, in a worker or on its own.

    What graphs open on the event loop is opened by the first event that needs it, and closed by
    whoever opened the registry: `async with registry:` around the processor.

    Args:
        graphs: A registry, or what one is made of.
        checkpoints: Where runs are kept, opened by the caller; also a LangGraph checkpointer, which
            then belongs to the caller. It takes the place of any that a graph was compiled with.
            None: nothing is kept, and no run can be resumed or drained.
        clock: Where time comes from.
        worker: The name that results carry.
        follow: Whether each event of a node, a tool or a model counts as a move (`run`), and not
            only a checkpoint. Costs up to a tenth of a graph that does nothing else.
    """

    def __init__(
        self,
        graphs: GraphRegistry | Mapping[str, GraphSource],
        checkpoints: Checkpoints | BaseCheckpointSaver[Any] | None = None,
        *,
        clock: Clock = SYSTEM,
        worker: str = "local",
        follow: bool = False,
    ) -> None:
        self._graphs = graphs if isinstance(graphs, GraphRegistry) else GraphRegistry(graphs)
        if isinstance(checkpoints, BaseCheckpointSaver):
            checkpoints = Checkpoints.around(checkpoints)
        self._checkpoints = checkpoints
        self._clock = clock
        self._worker = worker
        self._follow = follow
        let_unsaved_subgraphs_run()

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
        started_at, lease = self._clock.now(), Lease()
        try:
            end = await self.run(event, thread_id=f"{event.event_id}/0/0", lease=lease)
        finally:
            lease.end()
        return answer(
            event, end, started_at=started_at, finished_at=self._clock.now(), worker=self._worker
        )

    async def run(  # noqa: PLR0913 - one attempt's facts, each by its name
        self,
        event: WorkflowEvent,
        *,
        thread_id: str,
        lease: Lease,
        control: DrainControl | None = None,
        generation: int = 0,
        redrive_count: int = 0,
        limits: Limits = NO_LIMITS,
        policy: RetryConfig | None = None,
        failed_before: int = 0,
        redriven: Redriven | None = None,
        moved: Callable[[], None] | None = None,
    ) -> RunEnd:
        """Run one attempt on its thread; whatever is raised comes back as `Failed`.

        It comes back at its limit also when a node does not let go; `Failed.leftover` then tells
        of what goes on. Only a cancellation of the calling task passes, as promptly.

        Args:
            event: What to run.
            thread_id: The LangGraph thread. One that begins with `<event_id>/` is the run's own and
                swept when the run is long over; another is the producer's, and stays.
            lease: Held while this attempt may write; ended here when a limit was reached.
            control: From `new_control`, for this attempt alone.
            generation: Counts restarts: another generation does not go on from this one's state.
            redrive_count: How often the event was redriven; noted with the checkpoints.
            limits: Counted from now. The error is a `DeadlineError`, an `AttemptTimeoutError` or
                an `IdleTimeoutError`.
            policy: The run's retry policy, for the code of its nodes.
            failed_before: How many attempts of the run failed before, for the same.
            redriven: Set when a letter is resumed: that it is, is then verified.
            moved: Called whenever the run moves, from any thread; must return at once.
        """
        run = f"{event.event_id}/{generation}"
        deadline, progress = limits.ends_at(self._clock.monotonic()), Progress(moved)
        current = Current(
            deadline=deadline, clock=self._clock, policy=policy, failed_before=failed_before
        )
        try:
            await self._graphs.open_for(event.workflow_id)
            attempt = self._attempt(event, run, thread_id, lease, redrive_count, progress)
            if self._follow or limits.idle_s is not None:
                attempt.config = watched(attempt.config, progress)
            attempt.redriven = redriven
        except Exception as error:  # noqa: BLE001 - data, as what the graph raises
            return Failed(error=error, node=None, position=None, resumed=False)
        end = await self._hold(attempt, current, lease, control, limits, progress)
        return _with_counts(end, attempt, current)

    async def _hold(
        self,
        attempt: Attempt,
        current: Current,
        lease: Lease,
        control: DrainControl | None,
        limits: Limits,
        progress: Progress,
    ) -> RunEnd:
        """Run the attempt within its limits."""
        # A drain without checkpoints would lose the run: there it only ends what is over anyway.
        stop = control if control is not None and self.drainable else RunControl()
        task = asyncio.create_task(self._execute(attempt, stop, current))
        limit = await hold(task, limits, progress=progress, stop=stop.request_drain)
        if limit is not None:
            lease.end(str(limit))
            return await failed(attempt, limit, task=task)
        end = await _outcome(attempt, task)
        # What the producer named holds a conversation, not one run, and who is asked may answer
        # late: both stay.
        over = isinstance(end, Ended) and end.reason is not Reason.INTERRUPT
        if over and attempt.thread_id.startswith(f"{attempt.event.event_id}/"):
            await self._mark_finished(attempt.thread_id)
        return end

    async def give_up(
        self,
        event: WorkflowEvent,
        error: Exception,
        *,
        thread_id: str,
        lease: Lease,
        generation: int = 0,
        redrive_count: int = 0,
    ) -> Failed:
        """Say where a run stands that is given up for `error`, without another attempt.

        The node is the one that comes next: it was in flight when the run was left.
        """
        run = f"{event.event_id}/{generation}"
        try:
            await self._graphs.open_for(event.workflow_id)
            attempt = self._attempt(event, run, thread_id, lease, redrive_count, Progress())
        except (UnknownWorkflowError, SettingsError):
            return Failed(error=error, node=None, position=None, resumed=False)
        end = await failed(attempt, error)
        following = end.position.next if end.position else ()
        return replace(end, node=next(iter(following), None))

    async def _execute(self, attempt: Attempt, control: RunControl, current: Current) -> Ended:
        """Run the attempt, in a task of its own: so it can be left behind."""
        CURRENT.set(current)
        WORK_IN_THREADS.set(attempt.threads)
        LIFESPAN.set(attempt.loaded.lifespan)
        try:
            thread = await attempt.look()
            if thread.standing is Standing.RESUME:
                await self._keep(attempt.thread_id)
            return await attempt.go_on(thread, control)
        except SystemExit as error:
            # Out of a task it would end the loop, where nothing else contains it.
            raise NodeExitError(error.code) from error

    def _attempt(
        self,
        event: WorkflowEvent,
        run: str,
        thread_id: str,
        lease: Lease,
        redrive_count: int,
        progress: Progress,
    ) -> Attempt:
        loaded = self._graphs.find(event.workflow_id)
        opened = None if self._checkpoints is None else self._checkpoints.saver
        config: RunnableConfig = {
            "configurable": {"thread_id": thread_id},
            "recursion_limit": loaded.recursion_limit,
        }
        if opened is None:
            return Attempt(event, run, loaded, loaded.unkept, config, saver=None)
        saver = GuardedSaver(opened, lease, wrote=progress.touch)
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
            told = BUILT_IN.mask(str(error))
            log.warning("checkpoints.not_marked", thread_id=thread_id, error=told)


def _with_counts(end: RunEnd, attempt: Attempt, current: Current) -> RunEnd:
    """Add what is known beside the run itself: its graph, retries in place, how a resume went."""
    if isinstance(end, Drained):
        return end
    seen = attempt.witness
    unverified = None if seen is None else seen.complaints(ended=isinstance(end, Ended))
    return replace(
        end, node_retries=current.node_retries, unverified=unverified, graph=attempt.version
    )


async def _outcome(attempt: Attempt, task: asyncio.Task[Ended]) -> RunEnd:
    try:
        return task.result()
    except GraphDrained:
        return Drained()
    except (GeneratorExit, KeyboardInterrupt):
        raise
    # The boundary to user code: what it raises is data from here on.
    except BaseException as error:  # noqa: BLE001 - a node may cancel itself
        return await failed(attempt, error)
