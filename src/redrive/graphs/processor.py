"""`WorkflowProcessor`: one attempt of one event, with all that happens turned into data.

What becomes of a failure is decided elsewhere; here it is only told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from redrive.aside import Aside, Late
from redrive.clock import SYSTEM, Clock
from redrive.errors import (
    DeadlineError,
    NodeExitError,
    SettingsError,
    UnknownWorkflowError,
)
from redrive.events import RawHeaders, WorkflowEvent, WorkflowResultEvent, said_by
from redrive.graphs.access import ThreadAccess
from redrive.graphs.answer import answer
from redrive.graphs.attempt import GraphAttempt, failed
from redrive.graphs.attempt_ends import Drained, Ended, Failed, Redriven, RunEnd
from redrive.graphs.checkpoint_store import Checkpoints
from redrive.graphs.contained import EXITS
from redrive.graphs.current import CURRENT, Current, CurrentAttempt
from redrive.graphs.guard import WRITES_KEY, GuardedSaver
from redrive.graphs.lease import Lease
from redrive.graphs.lifespan import LIFESPAN
from redrive.graphs.loading import copy_of
from redrive.graphs.node_progress import NodeProgress, watched
from redrive.graphs.node_threads import WORK_IN_THREADS, hear_stop_iterations
from redrive.graphs.registry import GraphRegistry, GraphSource
from redrive.graphs.reserved_names import TRACE_NAMES
from redrive.graphs.run_config import trace_metadata
from redrive.graphs.schedule import Schedule
from redrive.graphs.tasks import TASKS, Tasks
from redrive.graphs.threads import ThreadStatus
from redrive.graphs.timeouts import NO_LIMITS, TimeLimits, hold
from redrive.graphs.unsaved_subgraphs import let_unsaved_subgraphs_run
from redrive.graphs.watched_loops import watch_loops
from redrive.graphs.watched_tasks import watch_tasks
from redrive.payloads import CLEAR, Payloads
from redrive.retry.classifier import Classifier
from redrive.retry.kinds import Reason
from redrive.retry.retry_config import RetryConfig
from redrive.sealed_records import opened_event, seal_of_event
from redrive.telemetry.redactor import BUILT_IN
from redrive.thread_names import own_thread

__all__ = ["DrainControl", "WorkflowProcessor"]

_Said = Callable[[], str]
_MOST_ON_THE_LOOP = 256 * 1024
"""Characters of an encrypted payload: more takes a millisecond and longer. [P7]"""


class DrainControl:
    """Asks one run to stop at its next checkpoint; one object per run, safe from any thread.

    LangGraph's own control, which nodes see, is another: what they ask of it is no drain of ours.
    """

    def __init__(self) -> None:
        self.drain_requested = False
        """Whether somebody has asked."""
        self._run = RunControl()

    @property
    def run(self) -> RunControl:
        """What LangGraph is run with."""
        return self._run

    def request_drain(self, reason: str = "shutdown") -> None:
        """Ask, for a reason that nodes may read; returns at once."""
        self.drain_requested = True
        self._run.request_drain(reason)


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
        classifier: Judges what is raised, for `process_workflow_event`.
        share_threads: Whether a thread that a producer named is open to events of all workflows;
            else it belongs to the workflow that first used it.
        payloads: Opens events whose payload is encrypted; by default such an event fails.
    """

    def __init__(
        self,
        graphs: GraphRegistry | Mapping[str, GraphSource],
        checkpoints: Checkpoints | BaseCheckpointSaver[Any] | None = None,
        *,
        clock: Clock = SYSTEM,
        worker: str = "local",
        follow: bool = False,
        classifier: Classifier | None = None,
        share_threads: bool = False,
        payloads: Payloads = CLEAR,
    ) -> None:
        self._payloads = payloads
        self._graphs = graphs if isinstance(graphs, GraphRegistry) else GraphRegistry(graphs)
        if isinstance(checkpoints, BaseCheckpointSaver):
            checkpoints = Checkpoints.around(checkpoints)
        self._checkpoints = checkpoints
        self._clock = clock
        self._worker = worker
        self._follow = follow
        self._classifier = classifier
        self._share_threads = share_threads
        let_unsaved_subgraphs_run()
        watch_loops()
        watch_tasks()
        hear_stop_iterations()

    @property
    def drainable(self) -> bool:
        """Whether a run can stop at a checkpoint and go on elsewhere."""
        return self._checkpoints is not None and self._checkpoints.kept

    def new_control(self) -> DrainControl | None:
        """Return what drains one run, or None where a drained run would be lost."""
        return DrainControl() if self.drainable else None

    async def process_workflow_event(
        self, event: WorkflowEvent, *, limits: TimeLimits = NO_LIMITS
    ) -> WorkflowResultEvent:
        """Run one attempt of `event`, without Kafka, and return its answer.

        What the graph raises is in the answer, as a worker would answer its last attempt. The
        thread is the event's own: the same event again resumes, or is answered equally.
        """
        started_at, lease = self._clock.now(), Lease()
        thread_id = own_thread(event.event_id, partition=0)
        try:
            end = await self.run(event, thread_id=thread_id, lease=lease, limits=limits)
        finally:
            lease.end()
        tell = partial(
            answer,
            event,
            end,
            started_at=started_at,
            finished_at=self._clock.now(),
            worker=self._worker,
            classifier=self._classifier,
        )
        told = await Aside().call(tell)
        return tell(silent=True) if isinstance(told, Late) else told

    async def run(  # noqa: PLR0913 - one attempt's facts, each by its name
        self,
        event: WorkflowEvent,
        *,
        thread_id: str,
        lease: Lease,
        control: DrainControl | None = None,
        generation: int = 0,
        redrive_count: int = 0,
        limits: TimeLimits = NO_LIMITS,
        policy: RetryConfig | None = None,
        failed_before: int = 0,
        redriven: Redriven | None = None,
        moved: Callable[[], None] | None = None,
        number: int | None = None,
        headers: RawHeaders = (),
        said: _Said | None = None,
    ) -> RunEnd:
        """Run one attempt on its thread; whatever is raised comes back as `Failed`.

        It comes back at its limit also when a node does not let go; `Failed.leftover` then tells
        of what goes on. Only a cancellation of the calling task passes, as promptly.

        Args:
            event: What to run.
            thread_id: The LangGraph thread. One of the form of `own_thread` is the run's own and
                swept when the run is long over; another is the producer's, and stays.
            lease: Held while this attempt may write; ended here when a limit was reached.
            control: From `new_control`, for this attempt alone.
            generation: Counts restarts: another generation does not go on from this one's state.
            redrive_count: How often the event was redriven.
            limits: Counted from now; each has an error of its own.
            policy: The run's retry policy, for the code of its nodes.
            failed_before: How many tries of the run failed before, for the same.
            redriven: Set when a letter is resumed: that it is, is then verified.
            moved: Called whenever the run moves, from any thread; must return at once.
            number: The attempt's, from 1; by default one more than `failed_before`.
            headers: Those of the event's record.
            said: Returns the digest of what the event asked for when it came, before code of others
                had it in hand; by default of what it asks for now.
        """
        progress, number = NodeProgress(moved), number or failed_before + 1
        deadline = limits.deadline(self._clock.now())
        ends_at = limits.ends_at(self._clock.monotonic())
        try:
            event, said = await self._opened(event, said)
            told = CurrentAttempt(event, thread_id, number, redrive_count, deadline, headers)
            current = Current(ends_at, self._clock, policy, failed_before, attempt=told)
            await self._graphs.open_for(event.workflow_id)
            attempt = self._attempt(told, lease, generation, progress, said)
            attempt.redriven = redriven
        except Exception as error:  # noqa: BLE001 - data, as what the graph raises
            return Failed(error=error, node=None, position=None, resumed=False)
        end = await self._hold(attempt, current, lease, control, limits, progress)
        return _with_counts(end, attempt, current)

    async def _opened(
        self, event: WorkflowEvent, said: _Said | None
    ) -> tuple[WorkflowEvent, _Said | None]:
        """Return the event as its graph takes it, and what says what it asked for.

        No two encryptions of one input are equal, and nobody has had a decrypted copy in hand. What
        is large is decrypted beside the loop.
        """
        sealed = seal_of_event(event)
        if sealed is None:
            return event, said
        if len(sealed.data) > _MOST_ON_THE_LOOP:
            return await asyncio.to_thread(opened_event, event, self._payloads), None
        return opened_event(event, self._payloads), None

    async def _hold(
        self,
        attempt: GraphAttempt,
        current: Current,
        lease: Lease,
        control: DrainControl | None,
        limits: TimeLimits,
        progress: NodeProgress,
    ) -> RunEnd:
        """Run the attempt within its limits."""
        if self._follow or limits.idle_s is not None:
            attempt.config = watched(attempt.config, progress, store=attempt.graph.store)
        # A drain without checkpoints would lose the run: there it only ends what is over anyway.
        stop = control if control is not None and self.drainable else DrainControl()
        task = asyncio.create_task(self._execute(attempt, stop, current))
        limit = await hold(task, limits, progress=progress, stop=stop.request_drain)
        if limit is not None:
            lease.end(str(limit))
            # A node that has failed and waits for its siblings is what the attempt failed by.
            gave_up = None if isinstance(limit, DeadlineError) else attempt.tasks.failure
            return await failed(attempt, gave_up or limit, task=task)
        end = await _outcome(attempt, task, stop)
        # Who is asked may answer late: that thread stays.
        if isinstance(end, Ended) and end.reason is not Reason.INTERRUPT:
            await self._mark_ended(attempt.access)
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
        said: _Said | None = None,
    ) -> Failed:
        """Say where a run stands that is given up for `error`, without another attempt.

        The node is the one that comes next: it was in flight when the run was left.
        """
        nowhere = Failed(error=error, node=None, position=None, resumed=False)
        try:
            event, said = await self._opened(event, said)
        except Exception:  # noqa: BLE001 - what it is given up for is the error to tell
            return nowhere
        told = CurrentAttempt(event, thread_id, redrive_count=redrive_count)
        try:
            await self._graphs.open_for(event.workflow_id)
            attempt = self._attempt(told, lease, generation, NodeProgress(), said)
        except (UnknownWorkflowError, SettingsError):
            return nowhere
        end = await failed(attempt, error)
        following = end.position.next if end.position else ()
        return replace(end, node=next(iter(following), None))

    async def _execute(
        self, attempt: GraphAttempt, control: DrainControl, current: Current
    ) -> Ended:
        """Run the attempt, in a task of its own: so it can be left behind."""
        current.keeps = None if attempt.saver is None else attempt.saver.schedule.is_at
        CURRENT.set(current)
        WORK_IN_THREADS.set(attempt.threads)
        TASKS.set(attempt.tasks)
        LIFESPAN.set(attempt.loaded.lifespan)
        try:
            thread = await attempt.look()
            if thread.status is ThreadStatus.RESUME:
                await self._keep(attempt.thread_id)
            elif thread.has_past and self._checkpoints is not None:
                await self._checkpoints.use_named(attempt.thread_id)
            return await attempt.go_on(thread, control.run)
        except EXITS as raised:
            # Out of a task it would end the loop, where nothing else contains it.
            raise NodeExitError(raised) from raised

    def _attempt(
        self,
        told: CurrentAttempt,
        lease: Lease,
        generation: int,
        progress: NodeProgress,
        said: _Said | None = None,
    ) -> GraphAttempt:
        event = told.event
        loaded = self._graphs.find(event.workflow_id)
        kept = self._checkpoints
        if kept is not None:
            kept.allow(loaded.state_types)
        opened = None if kept is None else kept.saver_under(lease)
        access = ThreadAccess(
            event.event_id,
            generation,
            event.workflow_id,
            told.thread_id,
            # Nothing is kept, nothing compared.
            "" if opened is None else said_by(event) if said is None else said(),
            shared=self._share_threads,
        )
        config: RunnableConfig = {
            "run_name": event.workflow_id,
            "configurable": {"thread_id": told.thread_id},
            "recursion_limit": loaded.recursion_limit,
            "metadata": {
                **access.metadata,
                "redrive_count": told.redrive_count,
                "graph_version": loaded.version,
                **trace_metadata(event, told.attempt),
            },
        }
        if kept is None or opened is None:
            tasks = Tasks(loaded.id)
            return GraphAttempt(
                event, access, loaded, loaded.unkept, config, saver=None, tasks=tasks
            )
        config["metadata"][WRITES_KEY] = 2
        tasks = Tasks(loaded.id, siblings_s=loaded.siblings_s)
        schedule = Schedule(loaded.id, thread_id=told.thread_id)
        saver = GuardedSaver(
            opened,
            lease,
            wrote=progress.touch,
            schedule=schedule,
            verifier=kept.verifier,
            tasks=tasks,
        )
        saver.unstored = frozenset(TRACE_NAMES)
        graph = copy_of(loaded.compiled, checkpointer=saver)
        return GraphAttempt(event, access, loaded, graph, config, saver, tasks=tasks)

    async def _keep(self, thread_id: str) -> None:
        if self._checkpoints is not None:
            await self._checkpoints.keep(thread_id)

    async def _mark_ended(self, access: ThreadAccess) -> None:
        kept, thread_id = self._checkpoints, access.thread_id
        if kept is None:
            return
        try:
            # What the producer named holds a conversation, and not one run.
            mark = kept.mark_finished if access.is_alone else kept.mark_named_ended
            await mark(thread_id)
        except Exception as error:  # noqa: BLE001 - the run is over; only its sweeping is in doubt
            told = BUILT_IN.mask(str(error))
            log.warning("checkpoints.not_marked", thread_id=thread_id, error=told)


def _with_counts(end: RunEnd, attempt: GraphAttempt, current: Current) -> RunEnd:
    """Add what is known beside the run itself: its graph, retries in place, how a resume went."""
    if isinstance(end, Drained):
        return end
    # What waits for a person has not ended yet.
    over = isinstance(end, Ended) and end.reason is not Reason.INTERRUPT
    unverified = attempt.unverified(ended=over)
    return replace(
        end, node_retries=current.node_retries, unverified=unverified, graph=attempt.version
    )


async def _outcome(
    attempt: GraphAttempt, task: asyncio.Task[Ended], control: DrainControl
) -> RunEnd:
    try:
        return task.result()
    except GraphDrained as error:
        # One that nobody asked for is a node's own: as a drain, its event would never go on.
        return Drained() if control.drain_requested else await failed(attempt, error)
    # The boundary to user code: what it raises is data from here on.
    except BaseException as error:  # noqa: BLE001 - a node may cancel itself
        return await failed(attempt, error)
