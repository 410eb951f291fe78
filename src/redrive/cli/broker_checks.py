"""What `redrive doctor` asks of the broker: all of it is read, nothing is written or created.

Each check is a function of a broker that answered; where none did, `_asks` says in its place that
it did not look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import confluent_kafka

from redrive.cli.broker_findings import (
    age,
    judge_backlog,
    judge_clock,
    judge_delays,
    judge_note_limit,
)
from redrive.cli.findings import (
    Check,
    DoctorFinding,
    Examined,
    FindingLevel,
    NoBroker,
    ReachedBroker,
)
from redrive.cli.standstill_findings import Leaders, judge_leaders, judge_standstill
from redrive.clock import SYSTEM
from redrive.errors import KafkaUnavailableError, SettingsError
from redrive.kafka.broker_wait import reach
from redrive.kafka.group_session import session_of_group
from redrive.kafka.kafka_settings import GroupProtocol
from redrive.kafka.log import TopicPartition
from redrive.kafka.topic_admin import verify_topics
from redrive.kafka.topic_rules import Severity
from redrive.kafka.watermarks import newest_times
from redrive.redriving.backlog import backlog_of
from redrive.redriving.letter_stats import letter_alarms, letter_stats
from redrive.redriving.standstill import look_for_standstill
from redrive.redriving.views import read_letters
from redrive.settings import Settings
from redrive.units import LONGEST, format_duration
from redrive.wiring.graphs import policy_of

__all__ = ["BROKER_CHECKS", "look_at_broker"]

_REACHED_WITHIN = timedelta(seconds=5)
_ANSWERED_WITHIN = timedelta(seconds=10)

_BrokerCheck = Callable[[Examined, ReachedBroker], Iterator[DoctorFinding]]


def look_at_broker(settings: Settings) -> ReachedBroker | NoBroker:
    """Ask for a broker and its topics, for 5 seconds, or less where a worker waits less."""
    kafka = settings.kafka
    short = min(_REACHED_WITHIN, kafka.startup_timeout)
    patient = kafka.model_copy(
        update={"startup_timeout": min(_ANSWERED_WITHIN, kafka.startup_timeout)}
    )
    try:
        admin, cluster = reach(kafka.model_copy(update={"startup_timeout": short}))
        report = verify_topics(patient, needs=settings.letters.topic_needs())
    except (KafkaUnavailableError, SettingsError) as error:
        return NoBroker(error)
    return ReachedBroker(patient, admin, cluster, report)


def _broker(examined: Examined) -> Iterator[DoctorFinding]:
    broker = examined.broker
    if isinstance(broker, ReachedBroker):
        cluster = broker.cluster
        count = len(cluster.brokers)
        leader = cluster.controller_id
        yield DoctorFinding(
            FindingLevel.OK,
            f"{broker.settings.bootstrap_servers} answers: cluster {cluster.cluster_id}, {count} "
            f"broker{'s' if count > 1 else ''}, "
            f"{f'controller {leader}' if leader in cluster.brokers else 'no controller'}; this "
            f"client is librdkafka {confluent_kafka.libversion()[0]}, which cannot ask a broker "
            "for its version",
        )
    elif broker.error is None:
        yield DoctorFinding(FindingLevel.SKIPPED, "skipped (--offline)")
    else:
        yield DoctorFinding(
            FindingLevel.ERROR,
            str(broker.error),
            "fix this first: nothing else about the broker could be checked",
        )


def _asks(check: _BrokerCheck) -> Check:
    """Let a check look where a broker answered; else, or when it falls silent, say so."""

    def look(examined: Examined) -> Iterator[DoctorFinding]:
        broker = examined.broker
        if isinstance(broker, NoBroker):
            why = "no broker was reached" if broker.error else "skipped (--offline)"
            yield DoctorFinding(FindingLevel.SKIPPED, f"not checked: {why}")
            return
        try:
            yield from check(examined, broker)
        except (KafkaUnavailableError, SettingsError) as error:
            yield DoctorFinding(FindingLevel.ERROR, str(error), "fix this, and run it again")

    return look


def _topics(_: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    for found in broker.report.findings:
        level = FindingLevel.ERROR if found.severity is Severity.ERROR else FindingLevel.WARNING
        what = f"topic {found.topic!r}: {found.what} is {found.found}, must be {found.wanted}"
        yield DoctorFinding(level, what, found.fix)
    if not broker.report.findings:
        counts = broker.report.partitions.items()
        told = ", ".join(f"{topic} ({count} partitions)" for topic, count in counts)
        yield DoctorFinding(FindingLevel.OK, f"as they should be: {told}")


def _leaders(_: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    yield from judge_leaders(_described(broker, topic) for topic in broker.report.partitions)


def _sizes(examined: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    kafka, report = examined.settings.kafka, broker.report
    limits = {topic: report.max_bytes[topic] for topic in report.configs}
    if not limits:
        yield DoctorFinding(
            FindingLevel.SKIPPED, "not checked: no topic's configuration could be read"
        )
        return
    given = kafka.config.get("message.max.bytes")
    largest = max(limits.get(topic, 0) for topic in (kafka.results_topic, kafka.dlq_topic))
    if given is not None and int(given) < largest:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"message.max.bytes in kafka.config is {given}, and the topics take {largest}: a "
            "letter in between is refused by the client, and its partition waits",
            f"leave it out, or make it {largest}",
        )
        return
    told = ", ".join(f"{topic} {limit}" for topic, limit in limits.items())
    yield DoctorFinding(FindingLevel.OK, f"the largest records, in bytes: {told}")


def _notes(_: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    yield from judge_note_limit(broker.report.note_limit)


def _delays(examined: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    topic = broker.settings.events_topic
    if topic not in broker.report.partitions:
        yield _missing(topic)
        return
    graphs = examined.graphs or (None,)
    policies = [policy_of(examined.settings, graph) for graph in graphs]
    yield from judge_delays(policies, topic=topic, retention=_retention(broker, topic))


def _letters(examined: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    topic = broker.settings.dlq_topic
    if topic not in broker.report.partitions:
        yield _missing(topic)
        return
    if leaderless := _described(broker, topic).leaderless:
        what = f"not checked: {len(leaderless)} partition(s) of {topic!r} without a leader"
        yield DoctorFinding(FindingLevel.SKIPPED, what)
        return
    limits, kept = examined.settings.letters, _retention(broker, topic)
    least = limits.retention if kept is None else min(kept, limits.retention)
    name = "letters.retention" if least == limits.retention else f"the retention of {topic!r}"
    view = read_letters(broker.settings, verifier=examined.settings.security.trust().verifier)
    told = letter_stats(view.letters, now=SYSTEM.now(), retention=least)
    alarms = letter_alarms(told, limits, kept=f"{name} ({format_duration(least)})")
    for alarm in alarms:
        yield DoctorFinding(
            FindingLevel.WARNING, alarm, "see what they are: redrive dlq groups --state open"
        )
    if not alarms:
        oldest = "" if told.oldest_open is None else f", the oldest of {age(told.oldest_open)}"
        yield DoctorFinding(
            FindingLevel.OK, f"{told.open} open{oldest}; kept for {format_duration(least)}"
        )


def _group(_: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    settings = broker.settings
    ours, name = settings.session_timeout, settings.group_id
    if settings.group_protocol is GroupProtocol.CLASSIC:
        told = f"{name!r}, classic: a silent worker's partitions wait {format_duration(ours)}"
        yield DoctorFinding(FindingLevel.OK, told)
        return
    found = session_of_group(settings, broker.admin, broker.cluster)
    if found is None:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"consumer.session.timeout.ms of {name!r} cannot be read: a worker assumes at "
            f"least kafka.session_timeout ({format_duration(ours)})",
            "allow DescribeConfigs on the group, or make sure that it is not shorter",
        )
    elif found < ours:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"consumer.session.timeout.ms of {name!r} is {format_duration(found)}, and "
            f"kafka.session_timeout {format_duration(ours)}: the shorter one holds",
            f"set kafka.session_timeout to {format_duration(found)}",
        )
    else:
        told = f"{name!r}, KIP-848: a silent worker's partitions wait {format_duration(found)}"
        yield DoctorFinding(FindingLevel.OK, told)


def _lag(_: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    settings, topic = broker.settings, broker.settings.events_topic
    if topic not in broker.report.partitions:
        yield _missing(topic)
        return
    numbers = [tp.partition for tp in _readable(broker) if tp.topic == topic]
    backlog = backlog_of(settings, broker.admin, partitions=numbers)
    yield from judge_backlog(
        backlog,
        topic=topic,
        group=settings.group_id,
        retention=_retention(broker, topic),
        now=SYSTEM.now(),
    )


def _standstill(_: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    settings, topic = broker.settings, broker.settings.events_topic
    if topic not in broker.report.partitions:
        yield _missing(topic)
        return
    yield from judge_standstill(
        look_for_standstill(settings, broker.admin, _readable(broker)),
        topic=topic,
        group=settings.group_id,
        servers=settings.bootstrap_servers,
        now=SYSTEM.now(),
    )


def _clock(_: Examined, broker: ReachedBroker) -> Iterator[DoctorFinding]:
    newest: dict[str, datetime] = {}
    for tp, at in newest_times(broker.settings, broker.admin, _readable(broker)).items():
        newest[tp.topic] = max(at, newest.get(tp.topic, at))
    stamping = {
        topic
        for topic, config in broker.report.configs.items()
        if config.get("message.timestamp.type") == "LogAppendTime"
    }
    # Read after the broker has answered: what is later than this, a clock ahead of ours has said.
    yield from judge_clock(newest, stamping, now=SYSTEM.now())


def _described(broker: ReachedBroker, topic: str) -> Leaders:
    config = broker.report.configs.get(topic, {})
    parts = broker.report.described.get(topic, {})
    return Leaders(
        topic,
        {n: len(part.isrs) if part.leader >= 0 else None for n, part in parts.items()},
        least_in_sync=int(config.get("min.insync.replicas", 1)),
        is_written=topic
        in (
            broker.settings.results_topic,
            broker.settings.dlq_topic,
            broker.settings.audit_topic,
        ),
    )


def _readable(broker: ReachedBroker) -> list[TopicPartition]:
    """Return the partitions that can be read: those that have a leader."""
    return [
        TopicPartition(topic, number)
        for topic in broker.report.partitions
        for number, in_sync in _described(broker, topic).in_sync.items()
        if in_sync is not None
    ]


def _retention(broker: ReachedBroker, topic: str) -> timedelta | None:
    kept_ms = int(broker.report.configs.get(topic, {}).get("retention.ms", -1))
    # Some say "for ever" by the largest number there is.
    for_ever = kept_ms < 0 or kept_ms > LONGEST / timedelta(milliseconds=1)
    return None if for_ever else timedelta(milliseconds=kept_ms)


def _missing(topic: str) -> DoctorFinding:
    return DoctorFinding(FindingLevel.SKIPPED, f"not checked: there is no topic {topic!r}")


BROKER_CHECKS: Mapping[str, Check] = {
    "broker": _broker,
    "topics": _asks(_topics),
    "leaders": _asks(_leaders),
    "sizes": _asks(_sizes),
    "notes": _asks(_notes),
    "delays": _asks(_delays),
    "letters": _asks(_letters),
    "group": _asks(_group),
    "lag": _asks(_lag),
    "standstill": _asks(_standstill),
    "clock": _asks(_clock),
}
"""The checks that need a broker, by the name that is printed."""
