"""`LangGraphKafkaConsumer`: a worker in a process of yours."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import structlog

from redrive.clock import SYSTEM, Clock, SystemClock
from redrive.consumer.health import Phase
from redrive.consumer.observing import Observer
from redrive.consumer.outcome import Ending
from redrive.consumer.parent_pipe import Handover
from redrive.consumer.policy import Policy
from redrive.consumer.worker_lifecycle import Worker
from redrive.errors import RedriveError, SettingsError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs import GraphRegistry, TimeLimits, WorkflowProcessor
from redrive.graphs.checkpoint_store import Checkpoints
from redrive.graphs.registry import GraphSource
from redrive.graphs.tracing import tracing_in
from redrive.kafka.group_session import within_session
from redrive.kafka.metadata_limit import NOTE_LIMIT_OPTION
from redrive.kafka.topic_admin import TopicReport, verify_topics
from redrive.notify.hook import OnDeadLetter
from redrive.payloads import Payloads
from redrive.settings import Settings
from redrive.state.commit_metadata import MIN_METADATA_CHARS
from redrive.telemetry.metrics import Metrics
from redrive.wiring.graphs import (
    policies,
    registry_of,
    shares_of,
    warn_of_limits,
    warn_of_stacked_retries,
)
from redrive.wiring.monitoring import Monitoring
from redrive.wiring.notification_observer import NotificationObserver
from redrive.wiring.parts import build_worker

__all__ = ["LangGraphKafkaConsumer"]

log = structlog.get_logger("redrive.worker")

_TELL_S = 2.0
_CLOSE_S = 1.0
# Leaving the group takes so long at worst; a parent waits longer than that.
_BEYOND_GRACE_S = 6.0


class LangGraphKafkaConsumer:
    """A worker in your own process.

        async with LangGraphKafkaConsumer(settings, {"research": graph}) as worker:
            await worker.wait()

    Args:
        settings: All settings; those of `graphs` are taken besides the graphs given here.
        graphs: Graphs by workflow id: a StateGraph, a compiled graph, a factory, an import path;
            or a registry, which the worker opens and closes.
        on_dead_letter: A function of yours that is called with each letter that is stored, on a
            thread of its own: it can neither delay nor end the worker. Before `notify.hook`.
        clock: Where time comes from.
        observers: Told of attempts that ended, and of endings that are durable.
        metrics: Where it is counted. Without it, a worker counts if `metrics.port` is set.
        parent: What a parent process has handed over; see `redrive.consumer.parent_pipe`.
    """

    def __init__(
        self,
        settings: Settings,
        graphs: GraphRegistry | Mapping[str, GraphSource] | None = None,
        *,
        on_dead_letter: OnDeadLetter | None = None,
        clock: Clock = SYSTEM,
        observers: Sequence[Observer] = (),
        metrics: Metrics | None = None,
        parent: Handover = Handover(),  # noqa: B008 - frozen
    ) -> None:
        self._settings = settings
        self._parent = parent
        self._name = settings.worker.name
        self._observers = observers
        is_seen = settings.metrics.port or parent.reports is not None
        counts = metrics or (Metrics() if is_seen else None)
        self._metrics = counts
        self._monitoring = (
            None
            if counts is None
            else Monitoring(settings, counts, name=self._name, parent=parent, clock=clock)
        )
        self._clock = clock
        self._graphs = graphs
        self._on_dead_letter = on_dead_letter
        self._telling: NotificationObserver | None = None
        self._asked_at: float | None = None
        self._stop_asked = asyncio.Event()
        self._stop_waiting = threading.Event()
        self._worker: Worker | None = None
        self._processor: WorkflowProcessor | None = None
        self._policy: Callable[[str], Policy] | None = None
        self._registry: GraphRegistry | None = None

    @property
    def endings(self) -> Mapping[Ending, int]:
        """How many events ended in which way, durably, since the start."""
        return {} if self._worker is None else self._worker.endings

    @property
    def was_ready(self) -> bool:
        """Whether it was started, and not asked to stop before it was."""
        return self._worker is not None

    async def start(self) -> None:
        """Load the graphs, verify the topics, open what the graphs need, join the group.

        Asked to stop meanwhile, it returns at its next step, and has not joined. [P12]

        Raises:
            SettingsError: Something that the settings name cannot work.
            KafkaUnavailableError: The broker did not answer within `kafka.startup_timeout`.
        """
        _say_whether_payloads_leave()
        if self._monitoring is not None:
            self._monitoring.open()
        try:
            started = await self._unless_stopped(self._start())
        except BaseException:
            await self._close_graphs()
            self._close_outside()
            raise
        if not started:
            log.info("worker.stopped", ready=False)
            self._worker = None
            await self._close_graphs()
            self._close_outside()
        elif self._worker is not None and self._stop_asked.is_set():
            self._worker.request_stop()

    async def _unless_stopped(self, start: Coroutine[Any, Any, None]) -> bool:
        """Start, and give it up once asked to stop: a broker may be waited for. [P12]."""
        starting = asyncio.create_task(start)
        stop = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            # Nothing happens to one that is done.
            starting.cancel()
            await asyncio.wait((starting,))
        try:
            await starting
        except (asyncio.CancelledError, _StoppedError):
            return False
        return True

    async def _start(self) -> None:
        settings = self._settings
        payloads = settings.security.payloads()
        if payloads.label is not None and settings.checkpoints.encryption_key is None:
            _say_that_checkpoints_are_clear(settings.checkpoints.url)
        registry = await asyncio.to_thread(registry_of, settings, self._graphs)
        if self._metrics is not None:
            self._metrics.workflows.know(registry.exact_ids, is_known=registry.serves)
        # In a thread: apprise takes a while to load.
        telling = await asyncio.to_thread(
            NotificationObserver,
            settings,
            self._on_dead_letter,
            worker=self._name,
            clock=self._clock,
        )
        needs = settings.letters.topic_needs()
        clock = _StartClock(self._stop_waiting)
        report = await asyncio.to_thread(verify_topics, settings.kafka, needs=needs, clock=clock)
        _check(report)
        kafka = await asyncio.to_thread(within_session, settings.kafka, clock=clock)
        settings = settings.model_copy(update={"kafka": kafka})
        self._registry = registry
        await registry.open(limit_s=settings.worker.open_timeout.total_seconds())
        warn_of_limits(registry)
        warn_of_stacked_retries(registry, settings)
        self._worker = self._built(settings, registry, telling, report, payloads)
        if self._monitoring is not None:
            self._monitoring.watch(self._worker)
        telling.start()
        self._telling = telling
        try:
            await self._worker.start()
        except BaseException:
            await telling.end(limit_s=0.0)
            raise

    def _built(
        self,
        settings: Settings,
        registry: GraphRegistry,
        telling: NotificationObserver,
        report: TopicReport,
        payloads: Payloads,
    ) -> Worker:
        checkpoints = Checkpoints(
            settings.checkpoints, named_ttl=settings.threads.ttl, clock=self._clock
        )
        self._processor = WorkflowProcessor(
            registry,
            checkpoints,
            clock=self._clock,
            worker=self._name,
            follow=self._metrics is not None,
            classifier=settings.retry.classifier(self._clock),
            share_threads=settings.threads.shared,
            payloads=payloads,
        )
        self._policy = policies(registry, settings)
        return build_worker(
            settings,
            self._processor,
            checkpoints,
            report=report,
            name=self._name,
            membership=self._parent.membership,
            policy=self._policy,
            shares=shares_of(registry, settings),
            clock=self._clock,
            observers=(telling, *self._observers),
            metrics=self._metrics,
            spooled=telling.spooled,
            payloads=payloads,
        )

    def _close_outside(self) -> None:
        if self._monitoring is not None:
            self._monitoring.close()

    async def _close_graphs(self) -> None:
        """Close what graphs have opened, within what is left of the grace. [P12]."""
        if self._registry is None:
            return
        grace_s = self._settings.worker.grace.total_seconds()
        await self._registry.close(limit_s=max(grace_s - self._stopping_s(), _CLOSE_S))

    async def wait(self) -> None:
        """Return when the worker has stopped.

        Raises:
            FencedError: Another worker with the same identity took over.
            KafkaLostError: The consumer cannot go on.
            StuckNodeError: A node does not end: only a new process is rid of it.
        """
        if self._worker is None:
            return
        try:
            await self._worker.wait()
        finally:
            # Who only waits no longer leaves a worker behind that goes on.
            if self._worker.phase is Phase.STOPPED:
                await self._close_graphs()
                if self._telling is not None:
                    await self._telling.end(limit_s=self._left_s())
                self._close_outside()

    def request_stop(self) -> None:
        """Begin to stop."""
        if self._asked_at is None:
            self._asked_at = self._clock.monotonic()
        self._stop_asked.set()
        self._stop_waiting.set()
        if self._worker is not None:
            self._worker.request_stop()

    async def stop(self) -> None:
        """Drain, settle, leave the group, tell people what they were not told yet."""
        self.request_stop()
        await self.wait()

    async def run(self) -> None:
        """Start, and return when the worker has stopped."""
        await self.start()
        await self.wait()

    async def process_workflow_event(self, event: WorkflowEvent) -> WorkflowResultEvent:
        """Run one attempt of an event here and now, beside Kafka, within its graph's limits."""
        if self._processor is None or self._policy is None:
            raise RuntimeError("the consumer is not started")
        policy = self._policy(event.workflow_id)
        limits = TimeLimits(policy.run_s, policy.attempt_s, policy.idle_s)
        return await self._processor.process_workflow_event(event, limits=limits)

    def _left_s(self) -> float:
        """Return how long telling the rest may take: stopping has its time as a whole. [P12]."""
        if self._asked_at is None:
            return _TELL_S
        grace_s = self._settings.worker.grace.total_seconds()
        left_s = grace_s + _BEYOND_GRACE_S - self._stopping_s()
        return min(max(left_s, 0.0), _TELL_S)

    def _stopping_s(self) -> float:
        return 0.0 if self._asked_at is None else self._clock.monotonic() - self._asked_at

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()


class _StoppedError(RedriveError):
    """A start was given up; nobody waits for what this thread was about to do."""


class _StartClock(SystemClock):
    """The clock of a start's threads: their waits end when the worker is to stop."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def block(self, seconds: float) -> None:
        """Wait, unless the worker is asked to stop meanwhile."""
        if self._stop.wait(seconds):
            raise _StoppedError("asked to stop while waiting for Kafka")


def _say_whether_payloads_leave() -> None:
    tracing = tracing_in(os.environ)
    if tracing is not None:
        log.warning(
            "worker.payloads_leave",
            what=tracing.leaves,
            to=tracing.to,
            by=tracing.by,
            hint="LangSmith traces each run: unset this, or set LANGSMITH_HIDE_INPUTS and "
            "LANGSMITH_HIDE_OUTPUTS, where payloads must stay",
        )


def _say_that_checkpoints_are_clear(url: str) -> None:
    if url != "none":
        log.warning(
            "worker.checkpoints_in_clear",
            hint="security.codec encrypts what is on the topics, and nothing encrypts checkpoints: "
            "set checkpoints.encryption_key as well",
        )


def _check(report: TopicReport) -> None:
    for finding in report.warnings:
        log.warning("topics.finding", topic=finding.topic, finding=str(finding))
    errors = [str(finding) for finding in report.errors]
    if (limit := report.note_limit) is not None and limit < MIN_METADATA_CHARS:
        errors.append(
            f"{NOTE_LIMIT_OPTION} of the brokers is {limit}, must be {MIN_METADATA_CHARS} or more: "
            "what has started and ended could not be noted with the offsets; leave it out of "
            "server.properties (it is 4096 then), and restart them"
        )
    if errors:
        raise SettingsError("\n".join(errors))
