"""The parts of one worker, put together around anything that executes events."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from secrets import token_bytes, token_hex

import structlog
from confluent_kafka import Consumer, KafkaError, Producer

from redrive.clock import SYSTEM, Clock
from redrive.consumer.admission import Admission
from redrive.consumer.buffer import Buffer
from redrive.consumer.dispatcher import Dispatcher
from redrive.consumer.end_metrics import EndMetrics
from redrive.consumer.letters_reader import LettersReader
from redrive.consumer.lingering import LingeringWatch
from redrive.consumer.observing import Observer, Observers
from redrive.consumer.outcome import Outcome, PolledRecord
from redrive.consumer.outcome_builder import OutcomeBuilder
from redrive.consumer.overdue import Overdue
from redrive.consumer.parent_pipe import last_exit
from redrive.consumer.partitions import Partitions
from redrive.consumer.policy import Policy
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.runner import Processor, Runner
from redrive.consumer.settle import Settler
from redrive.consumer.shares import Shares
from redrive.consumer.sweeping import Sweeping
from redrive.consumer.worker_lifecycle import Worker, WorkerCallbacks, WorkerComponents
from redrive.consumer.worker_settings import DeliveryGuarantee
from redrive.dead_letter.spool import Spool
from redrive.dead_letter.spooling import SpoolWriter
from redrive.dead_letter.states import STATE_HEADERS
from redrive.graphs.checkpoint_store import Checkpoints
from redrive.graphs.lease import Lease
from redrive.kafka.batches import Report
from redrive.kafka.client import (
    admin_config,
    consumer_config,
    producer_config,
    rereader_config,
)
from redrive.kafka.connect import make_admin, make_consumer, make_producer
from redrive.kafka.coordinator_monitor import CoordinatorMonitor
from redrive.kafka.group_members import GroupMembers, client_id_of
from redrive.kafka.kafka_settings import GroupProtocol
from redrive.kafka.log import PollThread, Pulse
from redrive.kafka.partition_log import log_consumer
from redrive.kafka.producer_thread import CallLimits, MakeProducer
from redrive.kafka.rereading import RecordReader
from redrive.kafka.settle_thread import SettleThread
from redrive.kafka.static_membership import StaticMembership
from redrive.kafka.topic_admin import TopicReport
from redrive.kafka.topic_ids import NOT_TOLD, BrokersTopicIds, TopicIds
from redrive.kafka.unassigned_partitions import UnassignedPartitions
from redrive.payloads import CLEAR, Payloads
from redrive.settings import Settings
from redrive.signatures import NO_TRUST, Trust
from redrive.state.metadata_room import MetadataRoom
from redrive.telemetry.metrics import Metrics
from redrive.wiring.graphs import policy_of
from redrive.wiring.topic_retention import retention_of

__all__ = ["build_parts", "build_worker"]

log = structlog.get_logger("redrive.worker")

_BEYOND_SESSION_S = 15.0
"""A coordinator that is away for so much longer than a session is looked for by a new consumer."""

Spooled = Callable[[str | None], None]


def build_worker(  # noqa: PLR0913 - what a worker is made of, each by its name
    settings: Settings,
    processor: Processor,
    checkpoints: Checkpoints,
    *,
    report: TopicReport,
    name: str,
    membership: str | None = None,
    policy: Callable[[str], Policy] | None = None,
    shares: Shares | None = None,
    clock: Clock = SYSTEM,
    observers: Sequence[Observer] = (),
    metrics: Metrics | None = None,
    spooled: Spooled = lambda _: None,
    payloads: Payloads = CLEAR,
) -> Worker:
    """Put a worker together around anything that executes events.

    Args:
        settings: All settings.
        processor: Executes events.
        checkpoints: Opened and closed with the worker.
        report: What was found of the topics.
        name: This worker's name, for people.
        membership: What stands for a `worker.id` in the transactional id, where there is none.
        policy: The policy of a workflow; by default the one that the settings have for all.
        shares: How many of the slots each graph may have; by default all.
        clock: Where time comes from.
        observers: Told of what ended.
        metrics: Where it is counted; None if nobody wants to know.
        spooled: Told of each letter that was spooled, and of why one was not; see `SpoolWriter`.
        payloads: Encrypts what results and letters say.
    """
    trust = settings.security.trust(for_letters=True)
    counting = () if metrics is None else (EndMetrics(metrics),)
    build = partial(
        build_parts,
        settings,
        processor,
        checkpoints,
        report=report,
        trust=trust,
        policy=policy or _one_for_all(policy_of(settings)),
        shares=shares or Shares(settings.worker.in_flight),
        name=name,
        membership=membership,
        observers=(*counting, *observers),
        metrics=metrics,
        spooled=spooled,
        payloads=payloads,
        clock=clock,
    )
    return Worker(
        build,
        startup_s=settings.kafka.startup_timeout.total_seconds(),
        grace_s=settings.worker.grace.total_seconds(),
        standstill_s=settings.worker.standstill.total_seconds(),
        rebalance_s=settings.kafka.max_poll_interval.total_seconds(),
        clock=clock,
    )


def _one_for_all(policy: Policy) -> Callable[[str], Policy]:
    return lambda _: policy


def build_parts(  # noqa: PLR0913 - what a worker is made of, each by its name
    settings: Settings,
    processor: Processor,
    checkpoints: Checkpoints,
    callbacks: WorkerCallbacks,
    *,
    report: TopicReport,
    policy: Callable[[str], Policy],
    shares: Shares,
    name: str,
    clock: Clock,
    membership: str | None = None,
    trust: Trust = NO_TRUST,
    observers: Sequence[Observer] = (),
    metrics: Metrics | None = None,
    spooled: Spooled = lambda _: None,
    payloads: Payloads = CLEAR,
) -> WorkerComponents:
    """Make the parts; on the event loop, which they belong to."""
    grace_s = settings.worker.grace.total_seconds()
    session_s = settings.kafka.session_timeout.total_seconds()
    pulse, counts = Pulse(clock), metrics or Metrics()
    link = CoordinatorMonitor(silent_s=session_s / 2, clock=clock)
    outcomes = _outcomes(settings, report, name, trust, payloads, clock)
    runner = Runner(
        processor,
        outcomes,
        policy=policy,
        grace_s=grace_s,
        classifier=settings.retry.classifier(clock),
        worker=name,
        clock=clock,
        last_exit=last_exit(),
    )
    buffer = Buffer(settings.worker.buffer)
    partitions = _partitions(
        settings, report, buffer, counts, clock, membership=settings.worker.id or membership
    )
    reader = RecordReader(
        lambda: make_consumer(rereader_config(settings.kafka)),
        found=callbacks.read_again,
        clock=clock,
    )
    letters = LettersReader(
        settings.kafka,
        lambda: log_consumer(settings.kafka),
        lambda: make_admin(admin_config(settings.kafka)),
        judged=callbacks.judged,
        clock=clock,
        verifier=trust.verifier,
    )
    identity = _transactional_id(settings, membership)
    produce = partial(_producer, settings, report, identity)
    try_out = partial(
        _producer, settings, report, None if identity is None else f"{identity}.trial"
    )
    settling_of = partial(_settle_thread, settings, produce, try_out, counts, clock)
    settler, settling = _settler(
        settings, settling_of, callbacks, partitions, spooled, counts, clock
    )
    dispatcher = Dispatcher(
        runner,
        outcomes,
        _run_queue(settings, buffer, shares),
        LingeringWatch(callbacks.stuck, grace_s=grace_s),
        finish=settler.finish,
        new_lease=partial(_lease, partitions, pulse, session_s),
        mark=checkpoints.mark,
        clock=clock,
        observers=Observers(observers, clock=clock, failures=counts.observer_failures),
        remember=settler.remember,
        reader=reader,
        admission=Admission(trust.verifier, counted=counts.event_signatures),
        thread_scope=settings.threads.scope,
        letters=letters,
    )
    topics = _topic_ids(settings, report)
    polling = _polling(
        settings,
        topics,
        link,
        callbacks,
        settler,
        pulse,
        StaticMembership(clock),
        partitions.incarnation,
    )
    sweeping = _sweeping(settings, checkpoints, dispatcher, report, clock)
    return WorkerComponents(
        dispatcher,
        settler,
        settling,
        polling,
        checkpoints,
        sweeping,
        partitions,
        pulse,
        link,
        topics,
    )


def _sweeping(
    settings: Settings,
    checkpoints: Checkpoints,
    dispatcher: Dispatcher,
    report: TopicReport,
    clock: Clock,
) -> Sweeping:
    return Sweeping(
        checkpoints,
        open_threads=lambda: (
            # Without a time of their own they go by no time, and need no mark.
            [
                *dispatcher.open_threads,
                *(dispatcher.open_named_threads if settings.threads.ttl else ()),
            ]
        ),
        deployment=retention_of(settings.kafka, report, clock),
        clock=clock,
    )


def _lease(partitions: Partitions, pulse: Pulse, session_s: float, delivery: PolledRecord) -> Lease:
    return Lease(gap_s=pulse.gap_s, kept=lambda: partitions.keeps(delivery), limit_s=session_s)


def _topic_ids(settings: Settings, report: TopicReport) -> TopicIds:
    # A broker that did not tell them at the start is not asked again.
    if not report.topic_ids:
        return NOT_TOLD
    return BrokersTopicIds(
        partial(make_admin, admin_config(settings.kafka)),
        every_s=settings.kafka.metadata_max_age.total_seconds(),
        clock=SYSTEM,
    )


def _polling(
    settings: Settings,
    topic_ids: TopicIds,
    link: CoordinatorMonitor,
    callbacks: WorkerCallbacks,
    settler: Settler,
    pulse: Pulse,
    membership: StaticMembership,
    incarnation: int,
) -> PollThread:
    return PollThread(
        partial(_consumer, settings, link, incarnation),
        topics=[settings.kafka.events_topic],
        listener=settler,
        pulse=pulse,
        membership=membership,
        incremental=settings.kafka.group_protocol is GroupProtocol.CONSUMER,
        topic_ids=topic_ids,
        away_s=lambda: link.away_s,
        unassigned=None
        if settings.kafka.group_protocol is GroupProtocol.CONSUMER
        else UnassignedPartitions(
            partial(make_admin, admin_config(settings.kafka)),
            settings.kafka.group_id,
            [settings.kafka.events_topic],
            SYSTEM,
        ),
        away_limit_s=settings.kafka.session_timeout.total_seconds() + _BEYOND_SESSION_S,
        ended=callbacks.ended,
    )


def _outcomes(
    settings: Settings,
    report: TopicReport,
    name: str,
    trust: Trust,
    payloads: Payloads,
    clock: Clock,
) -> OutcomeBuilder:
    return OutcomeBuilder(
        results_topic=settings.kafka.results_topic,
        dlq_topic=settings.kafka.dlq_topic,
        max_bytes=report.max_bytes,
        worker=name,
        clock=clock,
        redactor=settings.letters.redactor(),
        signer=trust.signer,
        audit_topic=settings.kafka.audit_topic,
        payloads=payloads,
    )


def _run_queue(settings: Settings, buffer: Buffer, shares: Shares) -> RunQueue:
    return RunQueue(
        in_flight=settings.worker.in_flight,
        max_crashes=settings.retry.max_crashes,
        # As many groups as members of a group: the guilty one is found soonest.
        suspects_at_once=math.isqrt(settings.worker.in_flight),
        longest_rest_s=settings.retry.longest_rest.total_seconds(),
        buffer=buffer,
        shares=shares,
    )


def _partitions(
    settings: Settings,
    report: TopicReport,
    buffer: Buffer,
    counts: Metrics,
    clock: Clock,
    *,
    membership: str | None,
) -> Partitions:
    ask = partial(make_admin, admin_config(settings.kafka))
    return Partitions(
        buffer=buffer,
        session_timeout_s=settings.kafka.session_timeout.total_seconds(),
        incarnation=incarnation_of(membership),
        is_static_member=membership is not None,
        members=GroupMembers(ask, settings.kafka.group_id),
        cluster=report.cluster,
        room=MetadataRoom(report.note_limit),
        in_flight=settings.worker.in_flight,
        clock=clock,
        metrics=counts,
    )


def incarnation_of(membership: str | None) -> int:
    """Return the number of a new life; all lives in one seat have its upper half in common."""
    half = 4
    common = (
        token_bytes(half)
        if membership is None
        else blake2b(membership.encode(), digest_size=half).digest()
    )
    return int.from_bytes(common + token_bytes(half), "big")


def _settler(
    settings: Settings,
    settling_of: Callable[[Callable[[Report], None]], SettleThread],
    callbacks: WorkerCallbacks,
    partitions: Partitions,
    spooled: Spooled,
    counts: Metrics,
    clock: Clock,
) -> tuple[Settler, SettleThread]:
    # The settler comes just below: the two know each other.
    tell: Callable[[Report], None] = lambda told: settler.report(told)  # noqa: PLW0108, E731
    settling = settling_of(tell)
    settler = Settler(
        settling,
        callbacks.downstream,
        partitions,
        incarnation=partitions.incarnation,
        transactional=settings.worker.delivery is DeliveryGuarantee.EXACTLY_ONCE,
        clock=clock,
        incremental=settings.kafka.group_protocol is GroupProtocol.CONSUMER,
        overdue=_overdue(settings, spooled, clock),
        metrics=counts,
    )
    return settler, settling


def _overdue(settings: Settings, spooled: Spooled, clock: Clock) -> Overdue | None:
    letters = settings.letters
    if letters.spool_path is None:
        return None
    spool = Spool(letters.spool_path, max_bytes=letters.spool_max)
    if (problem := spool.problem()) is not None:
        log.warning("letters.no_spool", spool=letters.spool, problem=problem)
    writer = SpoolWriter(spool, tell=spooled)

    def offer(outcome: Outcome) -> None:
        for record in outcome.records:
            is_state = STATE_HEADERS[0] in record.headers
            if record.topic == settings.kafka.dlq_topic and not is_state:
                writer.offer(record, source=outcome.polled.record)

    return Overdue(offer, after_s=letters.spool_after.total_seconds(), clock=clock)


def _settle_thread(
    settings: Settings,
    open_producer: MakeProducer,
    open_trial_producer: MakeProducer,
    counts: Metrics,
    clock: Clock,
    tell: Callable[[Report], None],
) -> SettleThread:
    return SettleThread(
        open_producer,
        make_trial_producer=open_trial_producer,
        transactional=settings.worker.delivery is DeliveryGuarantee.EXACTLY_ONCE,
        report=tell,
        clock=clock,
        limits=CallLimits(transaction=settings.kafka.transaction_timeout.total_seconds()),
        replaced=counts.producers,
    )


def _transactional_id(settings: Settings, membership: str | None) -> str | None:
    """Return the one identity of all producers of this worker; None where there is none.

    Each ends what the one before left open, that of a worker before it in its seat too. [P2]
    """
    if settings.worker.delivery is not DeliveryGuarantee.EXACTLY_ONCE:
        return None
    return f"redrive.{settings.kafka.group_id}.{settings.worker.id or membership or token_hex(8)}"


def _producer(
    settings: Settings, report: TopicReport, transactional_id: str | None, timeout_s: float
) -> Producer:
    kafka = settings.kafka
    written = (kafka.results_topic, kafka.dlq_topic, kafka.audit_topic)
    limits = [report.max_bytes[topic] for topic in written if topic is not None]
    config = producer_config(
        settings.kafka,
        transactional_id=transactional_id,
        timeout=timedelta(seconds=timeout_s),
        max_message_bytes=max(limits),
        max_batch_bytes=min(limits),
    )
    return make_producer({**config, "delivery.report.only.error": True})


def _consumer(
    settings: Settings,
    link: CoordinatorMonitor,
    incarnation: int,
    more: Mapping[str, object],
    on_error: Callable[[KafkaError], None],
) -> Consumer:
    config = consumer_config(settings.kafka, member=settings.worker.id)
    # A name that the user gives stands for quotas, and stays; then nobody hears that we live.
    if "client.id" not in settings.kafka.config:
        config["client.id"] = client_id_of(str(config["client.id"]), incarnation)
    return make_consumer({**config, **link.options(), **more}, on_error=on_error)
