"""`LangGraphKafkaConsumer`: a worker in a process of yours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.consumer.consumer import Worker
from redrive.consumer.health import Phase
from redrive.consumer.observing import Observer
from redrive.consumer.outcome import Ending
from redrive.consumer.parent import Handover
from redrive.consumer.policy import Policy
from redrive.errors import SettingsError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs import GraphRegistry, Limits, WorkflowProcessor
from redrive.graphs.checkpoints import Checkpoints
from redrive.graphs.registry import GraphSource
from redrive.kafka.group_session import within_session
from redrive.kafka.topics import TopicReport, verify_topics
from redrive.notify.hook import OnDeadLetter
from redrive.settings import Settings
from redrive.telemetry.metrics import Metrics
from redrive.wiring.graphs import (
    policies,
    registry_of,
    warn_of_limits,
    warn_of_stacked_retries,
)
from redrive.wiring.notifying import Telling
from redrive.wiring.outside import Outside
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
        parent: What a parent process has handed over; see `redrive.consumer.parent`.
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
        self._outside = (
            None
            if counts is None
            else Outside(settings, counts, name=self._name, parent=parent, clock=clock)
        )
        self._clock = clock
        self._graphs = graphs
        self._on_dead_letter = on_dead_letter
        self._telling: Telling | None = None
        self._asked_at: float | None = None
        self._worker: Worker | None = None
        self._processor: WorkflowProcessor | None = None
        self._policy: Callable[[str], Policy] | None = None
        self._registry: GraphRegistry | None = None

    @property
    def endings(self) -> Mapping[Ending, int]:
        """How many events ended in which way, durably, since the start."""
        return {} if self._worker is None else self._worker.endings

    async def start(self) -> None:
        """Load the graphs, verify the topics, open what the graphs need, join the group.

        Raises:
            SettingsError: Something that the settings name cannot work.
            KafkaUnavailableError: The broker did not answer within `kafka.startup_timeout`.
        """
        if self._outside is not None:
            self._outside.open()
        try:
            await self._start()
        except BaseException:
            await self._close_graphs()
            self._close_outside()
            raise

    async def _start(self) -> None:
        settings = self._settings
        registry = await asyncio.to_thread(registry_of, settings, self._graphs)
        if self._metrics is not None:
            self._metrics.workflows.know(registry.exact_ids)
        # In a thread: apprise takes a while to load.
        telling = await asyncio.to_thread(
            Telling, settings, self._on_dead_letter, worker=self._name, clock=self._clock
        )
        needs = settings.letters.topic_needs()
        report = await asyncio.to_thread(verify_topics, settings.kafka, needs=needs)
        _check(report)
        kafka = await asyncio.to_thread(within_session, settings.kafka, clock=self._clock)
        settings = settings.model_copy(update={"kafka": kafka})
        self._registry = registry
        await registry.open(limit_s=settings.worker.open_timeout.total_seconds())
        warn_of_limits(registry)
        warn_of_stacked_retries(registry, settings)
        self._worker = self._built(settings, registry, telling, report)
        if self._outside is not None:
            self._outside.watch(self._worker)
        telling.start()
        self._telling = telling
        try:
            await self._worker.start()
        except BaseException:
            await telling.end(limit_s=0.0)
            raise

    def _built(
        self, settings: Settings, registry: GraphRegistry, telling: Telling, report: TopicReport
    ) -> Worker:
        checkpoints = Checkpoints(settings.checkpoints, clock=self._clock)
        self._processor = WorkflowProcessor(
            registry,
            checkpoints,
            clock=self._clock,
            worker=self._name,
            follow=self._metrics is not None,
            classifier=settings.retry.classifier(self._clock),
        )
        self._policy = policies(registry, settings)
        return build_worker(
            settings,
            self._processor,
            checkpoints,
            report=report,
            name=self._name,
            seat=self._parent.seat,
            policy=self._policy,
            clock=self._clock,
            observers=(telling, *self._observers),
            metrics=self._metrics,
            spooled=telling.spooled,
        )

    def _close_outside(self) -> None:
        if self._outside is not None:
            self._outside.close()

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
        limits = Limits(policy.run_s, policy.attempt_s, policy.idle_s)
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


def _check(report: TopicReport) -> None:
    for finding in report.warnings:
        log.warning("topics.finding", topic=finding.topic, finding=str(finding))
    if report.errors:
        raise SettingsError("\n".join(str(finding) for finding in report.errors))
