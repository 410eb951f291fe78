"""What `redrive doctor` asks of the broker: all of it is read, nothing is written or created.

Each check is a function of a broker that answered; where none did, `_asks` says in its place that
it did not look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import confluent_kafka

from redrive.cli.findings import Broker, Check, Examined, Finding, Level, NoBroker
from redrive.clock import SYSTEM
from redrive.errors import KafkaUnavailableError, SettingsError
from redrive.kafka.edges import newest_times
from redrive.kafka.log import Place
from redrive.kafka.reach import reach
from redrive.kafka.topic_rules import Severity
from redrive.kafka.topics import verify_topics
from redrive.redriving.backlog import Backlog, backlog_of
from redrive.redriving.figures import letter_alarms, letter_figures
from redrive.redriving.views import read_letters
from redrive.settings import Settings
from redrive.units import format_duration

__all__ = ["BROKER_CHECKS", "judge_backlog", "judge_clock", "look_at_broker"]

_REACHED_WITHIN = timedelta(seconds=5)
_ANSWERED_WITHIN = timedelta(seconds=10)
_NEAR_RETENTION = 0.8
_NOTABLE = timedelta(seconds=1)

_BrokerCheck = Callable[[Settings, Broker], Iterator[Finding]]


def look_at_broker(settings: Settings) -> Broker | NoBroker:
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
    return Broker(patient, admin, cluster, report)


def _broker(examined: Examined) -> Iterator[Finding]:
    broker = examined.broker
    if isinstance(broker, Broker):
        cluster = broker.cluster
        count = len(cluster.brokers)
        leader = cluster.controller_id
        yield Finding(
            Level.OK,
            f"{broker.settings.bootstrap_servers} answers: cluster {cluster.cluster_id}, {count} "
            f"broker{'s' if count > 1 else ''}, "
            f"{f'controller {leader}' if leader in cluster.brokers else 'no controller'}; this "
            f"client is librdkafka {confluent_kafka.libversion()[0]}, which cannot ask a broker "
            "for its version",
        )
    elif broker.error is None:
        yield Finding(Level.SKIPPED, "left out (--offline)")
    else:
        yield Finding(
            Level.ERROR,
            str(broker.error),
            "mend this first: nothing that only the broker knows was looked at",
        )


def _asks(check: _BrokerCheck) -> Check:
    """Let a check look where a broker answered; else, or when it falls silent, say so."""

    def look(examined: Examined) -> Iterator[Finding]:
        broker = examined.broker
        if isinstance(broker, NoBroker):
            why = "no broker was reached" if broker.error else "left out (--offline)"
            yield Finding(Level.SKIPPED, f"not looked at: {why}")
            return
        try:
            yield from check(examined.settings, broker)
        except (KafkaUnavailableError, SettingsError) as error:
            yield Finding(Level.ERROR, str(error), "mend this, and look again")

    return look


def _topics(_: Settings, broker: Broker) -> Iterator[Finding]:
    for found in broker.report.findings:
        level = Level.ERROR if found.severity is Severity.ERROR else Level.WARNING
        what = f"topic {found.topic!r}: {found.what} is {found.found}, must be {found.wanted}"
        yield Finding(level, what, found.mend)
    if not broker.report.findings:
        counts = broker.report.partitions.items()
        told = ", ".join(f"{topic} ({count} partitions)" for topic, count in counts)
        yield Finding(Level.OK, f"as they must be: {told}")


def _sizes(settings: Settings, broker: Broker) -> Iterator[Finding]:
    kafka, report = settings.kafka, broker.report
    limits = {topic: report.max_bytes[topic] for topic in report.configs}
    if not limits:
        yield Finding(Level.SKIPPED, "not looked at: no topic's configuration could be read")
        return
    given = kafka.config.get("message.max.bytes")
    largest = max(limits.get(topic, 0) for topic in (kafka.results_topic, kafka.dlq_topic))
    if given is not None and int(given) < largest:
        yield Finding(
            Level.WARNING,
            f"message.max.bytes in kafka.config is {given}, and the topics take {largest}: a "
            "letter in between is refused by the client, and its partition waits",
            f"leave it out, or make it {largest}",
        )
        return
    told = ", ".join(f"{topic} {limit}" for topic, limit in limits.items())
    yield Finding(Level.OK, f"the largest records, in bytes: {told}")


def _letters(settings: Settings, broker: Broker) -> Iterator[Finding]:
    topic = broker.settings.dlq_topic
    if topic not in broker.report.partitions:
        yield _missing(topic)
        return
    limits, kept = settings.letters, _retention(broker, topic)
    least = limits.retention if kept is None else min(kept, limits.retention)
    name = "letters.retention" if least == limits.retention else f"the retention of {topic!r}"
    view = read_letters(broker.settings)
    told = letter_figures(view.letters, now=SYSTEM.now(), retention=least)
    alarms = letter_alarms(told, limits, kept=f"{name} ({format_duration(least)})")
    for alarm in alarms:
        yield Finding(Level.WARNING, alarm, "see what they are: redrive dlq groups --state open")
    if not alarms:
        oldest = "" if told.oldest_open is None else f", the oldest of {_age(told.oldest_open)}"
        yield Finding(Level.OK, f"{told.open} open{oldest}; kept for {format_duration(least)}")


def _lag(_: Settings, broker: Broker) -> Iterator[Finding]:
    settings, topic = broker.settings, broker.settings.events_topic
    if topic not in broker.report.partitions:
        yield _missing(topic)
        return
    backlog = backlog_of(settings, broker.admin, partitions=broker.report.partitions[topic])
    yield from judge_backlog(
        backlog,
        topic=topic,
        group=settings.group_id,
        retention=_retention(broker, topic),
        now=SYSTEM.now(),
    )


def judge_backlog(
    backlog: Backlog, *, topic: str, group: str, retention: timedelta | None, now: datetime
) -> Iterator[Finding]:
    """Say what is wrong with how far the group is behind; `retention` None is for ever."""
    age = timedelta(0) if backlog.oldest is None else max(now - backlog.oldest, timedelta(0))
    waiting = f"{backlog.unfinished} event(s) of {topic!r} are not finished"
    told = f"{waiting}, the oldest of {_age(age)}" if backlog.oldest else waiting
    idle = backlog.unfinished > 0 and backlog.members == 0
    near = retention is not None and age >= _NEAR_RETENTION * retention
    if idle:
        yield Finding(
            Level.WARNING,
            f"{told}, and no worker is in group {group!r}",
            "start one: redrive worker; one that runs has another kafka.group_id",
        )
    if near and retention is not None:
        yield Finding(
            Level.WARNING,
            f"{told}: the topic keeps events for {format_duration(retention)}",
            f"run more workers, or raise retention.ms of {topic}, before events are deleted",
        )
    if backlog.deleted:
        yield Finding(
            Level.WARNING,
            f"{backlog.deleted} offsets of {topic!r} were deleted that group {group!r} had not "
            "finished: events that nobody will run, or the ends of transactions",
            f"raise retention.ms of {topic}, and run enough workers",
        )
    if not (idle or near or backlog.deleted):
        yield Finding(Level.OK, f"{told}; workers in group {group!r}: {backlog.members}")


def _clock(_: Settings, broker: Broker) -> Iterator[Finding]:
    counts = broker.report.partitions
    places = [Place(topic, number) for topic in counts for number in range(counts[topic])]
    newest: dict[str, datetime] = {}
    for place, at in newest_times(broker.settings, broker.admin, places).items():
        newest[place.topic] = max(at, newest.get(place.topic, at))
    stamping = {
        topic
        for topic, config in broker.report.configs.items()
        if config.get("message.timestamp.type") == "LogAppendTime"
    }
    # Read after the broker has answered: what is later than this, a clock ahead of ours has said.
    yield from judge_clock(newest, stamping, now=SYSTEM.now())


def judge_clock(
    newest: Mapping[str, datetime], stamping: set[str], *, now: datetime
) -> Iterator[Finding]:
    """Say which clock is ahead of this host's, as far as the newest records show it.

    Args:
        newest: The latest timestamp of each topic that has a record.
        stamping: The topics whose records bear the broker's time, not their writer's.
        now: This host's time, read after the others.
    """
    ahead = {topic: at - now for topic, at in newest.items() if at - now > _NOTABLE}
    for topic, by in ahead.items():
        whose = "the broker's clock" if topic in stamping else "the clock of one who writes to it"
        yield Finding(
            Level.WARNING,
            f"a record of {topic!r} bears a time {_age(by)} ahead of this host's clock: {whose} is "
            "ahead, or this one is behind",
            "let all hosts take their time from one source (NTP): deadlines and ages are compared",
        )
    if not ahead:
        yield Finding(
            Level.SKIPPED,
            "Kafka does not tell its time: a clock that is behind cannot be seen. No record bears "
            "a time ahead of this host's clock",
        )


def _retention(broker: Broker, topic: str) -> timedelta | None:
    kept_ms = int(broker.report.configs.get(topic, {}).get("retention.ms", -1))
    return None if kept_ms < 0 else timedelta(milliseconds=kept_ms)


def _missing(topic: str) -> Finding:
    return Finding(Level.SKIPPED, f"not looked at: there is no topic {topic!r}")


def _age(value: timedelta) -> str:
    return str(value).partition(".")[0]


BROKER_CHECKS: Mapping[str, Check] = {
    "broker": _broker,
    "topics": _asks(_topics),
    "sizes": _asks(_sizes),
    "letters": _asks(_letters),
    "lag": _asks(_lag),
    "clock": _asks(_clock),
}
"""The checks that need a broker, by the name that is printed."""
