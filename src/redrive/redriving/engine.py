"""Driving letters again, and moving them: the whole topic, partition by partition.

    report = redrive(settings.kafka, Selection(reason="retries_exhausted"), actor="anna")
    for ending in follow(settings.kafka, report, timeout=timedelta(minutes=5)):
        print(ending.entry.dlq_id, ending.answer.status)

Twice, by two people, cut in the middle: one effect. Each transaction holds events and what it says
of their letters; who claims a partition anew shuts the one before out. [P13]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.source import source_digest
from redrive.dead_letter.states import State
from redrive.errors import SettingsError
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.partition_log import PartitionLog, log_consumer
from redrive.kafka.scan import scan
from redrive.kafka.topic_admin import verify_topics
from redrive.redriving.audit_trail import AuditTrail
from redrive.redriving.batch_pacing import BatchPacer, Pacing
from redrive.redriving.fenced_partition import KafkaFencedPartition
from redrive.redriving.following import Follower, RedriveWatch
from redrive.redriving.jobs import Job, Order, Redriving, StateChange
from redrive.redriving.outgoing import MAX_ACTOR_CHARS
from redrive.redriving.partition import LeftAt, PartitionFold
from redrive.redriving.partition_steps import has_work, look, read_on, work
from redrive.redriving.redrive_report import Report, Step
from redrive.redriving.selection import Selection
from redrive.signatures import NO_TRUST, Trust, Verifier

__all__ = ["move", "plan", "redrive"]

Told = Callable[[Step], None]


def redrive(
    settings: KafkaSettings,
    selection: Selection,
    order: Order = Order(),  # noqa: B008 - a frozen value
    *,
    actor: str,
    pacing: Pacing = Pacing(),  # noqa: B008 - as above
    told: Told | None = None,
    trust: Trust = NO_TRUST,
    clock: Clock = SYSTEM,
) -> Report:
    """Send the events of letters back to the workers, each once.

    Args:
        settings: How to reach Kafka.
        selection: Which letters.
        order: How they are driven.
        actor: Who does it, for the record.
        pacing: How fast they go.
        told: Hears of each step when it is durable.
        trust: Who signs what is written, and which letters and states count.
        clock: Where time comes from.

    Raises:
        KafkaUnavailableError: The broker did not answer, or went away.
        SettingsError: A topic does not exist, or the broker refuses us.
    """
    job = _driving(settings, selection, actor, order, trust, clock)
    report = Report(results_from=end_offsets(settings, clock=clock))
    with ExitStack() as opened:
        follower = None
        if pacing.canary or pacing.stop_on_same_fingerprint:
            follower = opened.enter_context(Follower(settings, report.results_from))
        watch = RedriveWatch(
            report, follower, pacing.stop_on_same_fingerprint, pacing.patience, clock
        )
        pace = BatchPacer(
            clock,
            limit=pacing.limit,
            rate=pacing.rate,
            canary=pacing.canary,
            guard=None if follower is None else watch,
        )
        for step in _work(settings, job, pace, trust.verifier, clock):
            watch.hear(step)
            if told is not None:
                told(step)
    return _complete(report, selection)


def plan(
    settings: KafkaSettings,
    selection: Selection,
    order: Order = Order(),  # noqa: B008 - a frozen value
    *,
    limit: int | None = None,
    trust: Trust = NO_TRUST,
    clock: Clock = SYSTEM,
) -> Report:
    """Return what `redrive` would do now: `done` are the letters that would be driven.

    Nothing is claimed: whoever is at work with the letters goes on.
    """
    job = _driving(settings, selection, "", order, trust, clock)
    report = Report()
    for partition, fenced, _ in _doors(settings, clock):
        fold = PartitionFold(verifier=trust.verifier)
        read_on(fenced, fold)
        report.add(look(fold, partition, job))
    if limit is not None:
        del report.done[limit:]
    return _complete(report, selection)


def move(
    settings: KafkaSettings,
    selection: Selection,
    wanted: State,
    *,
    actor: str,
    reason: str | None = None,
    trust: Trust = NO_TRUST,
    clock: Clock = SYSTEM,
) -> Report:
    """Say where letters stand.

    `discarded`: nobody will work on them any more. `parked`: they are not driven until they are
    taken back, to `open`.
    """
    job = StateChange(selection, actor[:MAX_ACTOR_CHARS], wanted, reason, trust.signer)
    report = Report()
    for step in _work(settings, job, BatchPacer(clock), trust.verifier, clock):
        report.add(step)
    return _complete(report, selection)


def _driving(
    settings: KafkaSettings,
    selection: Selection,
    actor: str,
    order: Order,
    trust: Trust,
    clock: Clock,
) -> Redriving:
    return Redriving(
        selection,
        actor[:MAX_ACTOR_CHARS],
        settings.events_topic,
        partitions_of(settings, settings.events_topic, clock=clock),
        mode=order.mode,
        reason=order.reason,
        most=order.max_redrives,
        deadline=None if order.deadline is None else clock.now() + order.deadline,
        replace=order.replace,
        find=partial(_find, settings, clock),
        signer=trust.signer,
    )


def _find(settings: KafkaSettings, clock: Clock, at: LeftAt) -> ConsumerRecord | None:
    """Return an event from its place on the events topic, if it is the one that lay there."""
    if at.tp.topic != settings.events_topic:
        return None  # A letter may name any topic: what lies elsewhere is not ours to send.
    span = {at.tp.partition: (at.offset, at.offset + 1)}
    with closing(scan(settings, at.tp.topic, spans=span, clock=clock)) as records:
        for record in records:
            if source_digest(record.key, record.value, record.headers) == at.digest:
                return record
    return None


def _work(
    settings: KafkaSettings, job: Job, pace: BatchPacer, verifier: Verifier, clock: Clock
) -> Iterator[Step]:
    for partition, fenced, trail in _doors(settings, clock):
        fenced.prepare()
        fold = PartitionFold(job.selection.means, verifier=verifier)
        read_on(fenced, fold)
        # Who has no letter here claims nothing, and shuts nobody out.
        if not has_work(fold, job):
            yield look(fold, partition, job)
        elif pace.most() > 0:
            for step in work(
                fenced, partition, job, fold=fold, pace=pace, clock=clock, trail=trail
            ):
                yield step
                if step.taken_over is not None:
                    # The other one will come to the next partitions too: two who go on would take
                    # them from each other.
                    return


def _doors(
    settings: KafkaSettings, clock: Clock
) -> Iterator[tuple[int, KafkaFencedPartition, AuditTrail | None]]:
    verified = verify_topics(settings, clock=clock)
    admin = make_admin(admin_config(settings))
    partitions = partitions_of(settings, settings.dlq_topic, clock=clock)
    if (audit := settings.audit_topic) is not None:
        count = verified.partitions.get(audit, 0)
        if count <= max(partitions):
            raise SettingsError(
                f"{audit!r} (kafka.audit_topic) has {count} partitions, and {settings.dlq_topic!r} "
                f"has {max(partitions) + 1}: nothing is done unrecorded. See redrive topics verify"
            )
    job = clock.new_id()
    with closing(log_consumer(settings)) as consumer:
        for partition in sorted(partitions):
            fenced = KafkaFencedPartition(
                settings,
                partition,
                consumer=consumer,
                admin=admin,
                max_bytes=verified.max_bytes,
                clock=clock,
            )
            trail = None
            if settings.audit_topic is not None:
                tp = TopicPartition(settings.audit_topic, partition)
                log = PartitionLog(settings, tp, consumer=consumer, admin=admin, clock=clock)
                trail = AuditTrail(settings.audit_topic, log, job=job)
            yield partition, fenced, trail


def _complete(report: Report, selection: Selection) -> Report:
    entries = [done.entry for done in report.done] + [no.entry for no in report.refused]
    found = {selection.named(entry) for entry in entries}
    report.unknown = (selection.ids or frozenset()) - found
    return report
