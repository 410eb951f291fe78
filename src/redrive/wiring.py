"""From settings to living parts: the only place that puts them together."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from confluent_kafka import Consumer, KafkaError, Producer

from redrive.clock import SYSTEM, Clock
from redrive.consumer.answers import Answers
from redrive.consumer.consumer import Parts, Worker
from redrive.consumer.intake import Intake
from redrive.consumer.options import Delivery
from redrive.consumer.outcome import Ending
from redrive.consumer.parent import parent_pipe, times_asked
from redrive.consumer.partitions import Partitions
from redrive.consumer.runner import Processor, Runner
from redrive.consumer.settle import Downstream, Settler
from redrive.consumer.turns import Turns
from redrive.errors import FencedError, KafkaLostError, SettingsError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs import GraphRegistry, WorkflowProcessor
from redrive.graphs.checkpoints import Checkpoints
from redrive.graphs.contained import contain_exits
from redrive.graphs.langgraph_json import FileGraph, read_langgraph_json
from redrive.graphs.lease import Lease
from redrive.graphs.node_threads import NodeThreads
from redrive.graphs.registry import GraphSource
from redrive.graphs.stacking import stacked_retries
from redrive.kafka.batches import Report
from redrive.kafka.client import consumer_config, producer_config
from redrive.kafka.connect import make_consumer, make_producer
from redrive.kafka.log import PollThread, Pulse
from redrive.kafka.topics import TopicReport, verify_topics
from redrive.kafka.transaction import CallLimits, SettleThread
from redrive.retry import Classifier
from redrive.settings import Settings

__all__ = ["LangGraphKafkaConsumer", "run_worker"]

log = structlog.get_logger("redrive.worker")

_STOPPED_AT_ONCE = 130
_NODE_THREAD = "redrive-node"
# Of a process that cannot end the usual way; else the command line chooses.
_EXIT_CODES: Mapping[type, int] = {type(None): 0, FencedError: 4, KafkaLostError: 3}
_LAST_CALL_S = 1.0


class LangGraphKafkaConsumer:
    """A worker in your own process.

        async with LangGraphKafkaConsumer(settings, {"research": graph}) as worker:
            await worker.wait()

    Args:
        settings: All settings; those of `graphs` are taken besides the graphs given here.
        graphs: Graphs by workflow id: a StateGraph, a compiled graph, a factory, an import path;
            or a registry.
        clock: Where time comes from.
    """

    def __init__(
        self,
        settings: Settings,
        graphs: GraphRegistry | Mapping[str, GraphSource | FileGraph] | None = None,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._graphs = graphs
        self._worker: Worker | None = None
        self._processor: WorkflowProcessor | None = None

    @property
    def endings(self) -> Mapping[Ending, int]:
        """How many events ended in which way, durably, since the start."""
        return {} if self._worker is None else self._worker.endings

    async def start(self) -> None:
        """Load the graphs, verify the topics, join the group.

        Raises:
            SettingsError: Something that the settings name cannot work.
            KafkaUnavailableError: The broker did not answer within `kafka.startup_timeout`.
        """
        settings = self._settings
        registry = await asyncio.to_thread(_registry, settings, self._graphs)
        _warn_of_stacked_retries(registry, settings)
        report = await asyncio.to_thread(verify_topics, settings.kafka)
        _check(report)
        checkpoints = Checkpoints(settings.checkpoints, clock=self._clock)
        name = settings.worker.id or f"{socket.gethostname()}:{os.getpid()}"
        self._processor = WorkflowProcessor(registry, checkpoints, clock=self._clock, worker=name)
        self._worker = build_worker(
            settings, self._processor, checkpoints, report=report, name=name, clock=self._clock
        )
        await self._worker.start()

    async def wait(self) -> None:
        """Return when the worker has stopped, or raise what ended it."""
        if self._worker is not None:
            await self._worker.wait()

    def request_stop(self) -> None:
        """Begin to stop."""
        if self._worker is not None:
            self._worker.request_stop()

    async def stop(self) -> None:
        """Drain, settle, leave the group."""
        if self._worker is not None:
            await self._worker.stop()

    async def run(self) -> None:
        """Start, and return when the worker has stopped."""
        await self.start()
        await self.wait()

    async def process_workflow_event(self, event: WorkflowEvent) -> WorkflowResultEvent:
        """Run one event here and now, beside Kafka."""
        if self._processor is None:
            raise RuntimeError("the consumer is not started")
        return await self._processor.process_workflow_event(event)

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


def build_worker(
    settings: Settings,
    processor: Processor,
    checkpoints: Checkpoints,
    *,
    report: TopicReport,
    name: str,
    clock: Clock = SYSTEM,
) -> Worker:
    """Put a worker together around anything that executes events."""
    build = partial(_build, settings, processor, checkpoints, report, name, clock)
    return Worker(
        build,
        startup_s=settings.kafka.startup_timeout.total_seconds(),
        grace_s=settings.worker.grace.total_seconds(),
        clock=clock,
    )


def _build(
    settings: Settings,
    processor: Processor,
    checkpoints: Checkpoints,
    report: TopicReport,
    name: str,
    clock: Clock,
    downstream: Downstream,
    ended: Callable[[BaseException | None], None],
) -> Parts:
    kafka, worker = settings.kafka, settings.worker
    session_s = kafka.session_timeout.total_seconds()
    pulse = Pulse(clock)
    answers = Answers(
        results_topic=kafka.results_topic,
        dlq_topic=kafka.dlq_topic,
        max_bytes=report.max_bytes,
        worker=name,
        clock=clock,
    )
    runner = _runner(settings, processor, answers, name, clock)
    incarnation = secrets.randbits(64)
    # The settler comes just below: the two know each other.
    settling = _settle_thread(settings, report, lambda told: settler.report(told), clock)  # noqa: PLW0108
    settler = Settler(
        settling,
        downstream,
        Partitions(
            buffer_bytes=worker.buffer,
            session_timeout_s=session_s,
            incarnation=incarnation,
            clock=clock,
        ),
        incarnation=incarnation,
        transactional=worker.delivery is Delivery.EXACTLY_ONCE,
        clock=clock,
    )
    intake = Intake(
        runner,
        answers,
        # As many groups as members of a group: the guilty one is found soonest.
        Turns(max_crashes=3, suspects_at_once=math.isqrt(worker.in_flight)),
        finish=settler.finish,
        new_lease=lambda: Lease(gap_s=pulse.gap_s, limit_s=session_s),
        keep=checkpoints.keep,
        in_flight=worker.in_flight,
        clock=clock,
    )
    polling = PollThread(
        partial(_consumer, settings),
        topics=[kafka.events_topic],
        listener=settler,
        pulse=pulse,
        ended=ended,
    )
    return Parts(intake, settler, settling, polling, checkpoints)


def _runner(
    settings: Settings, processor: Processor, answers: Answers, name: str, clock: Clock
) -> Runner:
    policy = settings.retry.config()
    return Runner(
        processor,
        answers,
        policy=lambda _: policy,
        classifier=Classifier(clock=clock),
        worker=name,
        clock=clock,
    )


def _settle_thread(
    settings: Settings, report: TopicReport, tell: Callable[[Report], None], clock: Clock
) -> SettleThread:
    kafka, worker = settings.kafka, settings.worker
    transactional = worker.delivery is Delivery.EXACTLY_ONCE
    # One identity for all producers of this worker: each ends what the one before left open. [P2]
    identity = f"redrive.{kafka.group_id}.{worker.id or secrets.token_hex(8)}"
    return SettleThread(
        partial(_producer, settings, report, identity if transactional else None),
        transactional=transactional,
        report=tell,
        clock=clock,
        limits=CallLimits(transaction=kafka.transaction_timeout.total_seconds()),
    )


def _registry(
    settings: Settings, graphs: GraphRegistry | Mapping[str, GraphSource | FileGraph] | None
) -> GraphRegistry:
    if isinstance(graphs, GraphRegistry):
        return graphs
    # What is named one by one wins over what a langgraph.json brings along.
    sources: dict[str, GraphSource | FileGraph] = {**(graphs or {}), **settings.graphs}
    if not sources:
        raise SettingsError(
            "no graph is registered: name one with --graph ID=module:attribute, "
            "graphs.<id>.target in redrive.toml, or --langgraph-json FILE"
        )
    return GraphRegistry(sources)


def _warn_of_stacked_retries(registry: GraphRegistry, settings: Settings) -> None:
    policy = settings.retry.config()
    for loaded in registry.graphs:
        for found in stacked_retries(loaded, policy=policy):
            log.warning(
                "graph.retries_multiply",
                graph=found.graph,
                node=found.node,
                calls=found.calls,
                advice=str(found),
            )


def _check(report: TopicReport) -> None:
    for finding in report.warnings:
        log.warning("topics.finding", topic=finding.topic, finding=str(finding))
    if report.errors:
        raise SettingsError("\n".join(str(finding) for finding in report.errors))


def _producer(settings: Settings, report: TopicReport, transactional_id: str | None) -> Producer:
    limits = [report.max_bytes[settings.kafka.results_topic]]
    limits.append(report.max_bytes[settings.kafka.dlq_topic])
    config = producer_config(
        settings.kafka,
        transactional_id=transactional_id,
        max_message_bytes=max(limits),
        max_batch_bytes=min(limits),
    )
    return make_producer({**config, "delivery.report.only.error": True})


def _consumer(
    settings: Settings, more: Mapping[str, object], on_error: Callable[[KafkaError], None]
) -> Consumer:
    config = consumer_config(settings.kafka, member=settings.worker.id)
    return make_consumer({**config, **more}, on_error=on_error)


def run_worker(settings: Settings, *, langgraph_json: Path | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT; a second signal ends the process at once.

    Returns:
        0, once it has stopped.
    """
    log.info("worker.starting", worker=settings.worker.id, delivery=settings.worker.delivery.value)
    # Sync nodes block a thread each; asyncio's own five or six would be the real limit.
    threads = NodeThreads(settings.worker.in_flight + 8, thread_name_prefix=_NODE_THREAD)
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(threads)
        contain_exits(runner.get_loop())
        try:
            runner.run(_run_worker(settings, langgraph_json))
        except BaseException as error:
            _leave_stuck_nodes(threads, error)
            raise
        _leave_stuck_nodes(threads, None)
    return 0


async def _run_worker(settings: Settings, langgraph_json: Path | None) -> None:
    graphs = None if langgraph_json is None else read_langgraph_json(langgraph_json)
    loop = asyncio.get_running_loop()
    consumer = LangGraphKafkaConsumer(settings, graphs)
    parent = parent_pipe()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        parent.read()
        if times_asked(signals=signals, forwarded=parent.forwarded) > 1:
            log.warning("worker.stopped_at_once")
            os._exit(_STOPPED_AT_ONCE)
        consumer.request_stop()

    def on_parent(number: int) -> None:
        parent.read()
        if parent.is_gone:
            loop.remove_reader(number)
            log.warning("worker.parent_gone")
            consumer.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if parent.number is not None:
        loop.add_reader(parent.number, on_parent, parent.number)
    await consumer.start()
    if signals or parent.is_gone:
        # Asked before there was anything to stop.
        consumer.request_stop()
    await consumer.wait()


def _leave_stuck_nodes(threads: ThreadPoolExecutor, error: BaseException | None) -> None:
    """End the process here and now if a node never returns: Python would wait for it for ever.

    What it did is settled by now, or left to the next worker. [P12]
    """
    threads.shutdown(wait=False, cancel_futures=True)
    nodes = [t for t in threading.enumerate() if t.name.startswith(_NODE_THREAD)]
    for thread in nodes:
        thread.join(_LAST_CALL_S / len(nodes))
    stuck = sum(thread.is_alive() for thread in nodes)
    if stuck:
        log.warning("worker.nodes_left_behind", threads=stuck, error=error and str(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_EXIT_CODES.get(type(error), 1))
