"""Creates the topics, and compares those that are there with what redrive needs.

The rules themselves are `redrive.kafka.topic_rules`. Topics are listed, never asked for by name: a
metadata request for one may create it (R4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AclOperation,
    AdminClient,
    ConfigEntry,
    ConfigResource,
    PartitionMetadata,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError, SettingsError
from redrive.kafka.broker_wait import look_again, reach
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.metadata_limit import note_limit
from redrive.kafka.retrying import error_of, is_permanent, until, with_advice
from redrive.kafka.topic_ids import topic_ids
from redrive.kafka.topic_rules import (
    DEFAULT_MAX_BYTES,
    LEAST_LETTER_BYTES,
    LETTERS_FACTOR,
    Severity,
    TopicFacts,
    TopicFinding,
    TopicNeeds,
    judge_topics,
    topic_names,
)
from redrive.retry import Retrier, retry

__all__ = [
    "CreatedTopic",
    "TopicReport",
    "create_topics",
    "verify_topics",
]

log = structlog.get_logger("redrive.kafka")

_ADMIN_TIMEOUT_S = 10.0
_IDS_TIMEOUT_S = 3.0
_AS_THE_BROKER_SAYS = -1
_RETRIES_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class CreatedTopic:
    """A topic that exists now; `created` is False when it was there before, untouched."""

    name: str
    created: bool


@dataclass(frozen=True, slots=True)
class TopicReport:
    """The topics as they are: what must change, and the limits to work with.

    `configs` holds those configurations that could be read; `cluster` is the cluster's own id.
    `topic_ids` are those of the topics that could be had; `described` are the topics' partitions as
    the cluster lists them. `note_limit` is how many characters brokers take beside a committed
    offset; None where they do not tell.
    """

    findings: tuple[TopicFinding, ...]
    partitions: Mapping[str, int]
    max_bytes: Mapping[str, int]
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    cluster: str | None = None
    topic_ids: Mapping[str, bytes] = field(default_factory=dict)
    described: Mapping[str, Mapping[int, PartitionMetadata]] = field(default_factory=dict)
    note_limit: int | None = None

    @property
    def errors(self) -> tuple[TopicFinding, ...]:
        """What a worker cannot start with."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[TopicFinding, ...]:
        """What a worker can start with, but should be looked at."""
        return tuple(f for f in self.findings if f.severity is Severity.WARNING)


def create_topics(
    settings: KafkaSettings,
    *,
    partitions: int,
    replication_factor: int | None = None,
    needs: TopicNeeds | None = None,
    clock: Clock = SYSTEM,
) -> list[CreatedTopic]:
    """Create those of the topics that are missing; leave the others as they are.

    Args:
        settings: How to reach Kafka, and the topics' names.
        partitions: How many each of them gets: the most workers that can share the work. Where
            one of events, retry and letters exists, the missing ones get as many as it has.
        replication_factor: None leaves it to the broker (`default.replication.factor`).
        needs: What their retention must cover; the letters topic gets just that.
        clock: The waits go through it.

    Raises:
        KafkaUnavailableError: No broker answered within `kafka.startup_timeout`.
        SettingsError: The broker refused one of them: no right, or too few brokers; or it refuses
            who we say we are.
    """
    admin, there = reach(settings, clock=clock)
    plans = _plans(settings, needs or TopicNeeds())
    equal = {settings.events_topic, settings.retry_topic, settings.dlq_topic}
    counts = {len(there.topics[name].partitions) for name in equal if name in there.topics}
    if settings.audit_topic is not None:
        equal.add(settings.audit_topic)
    made: list[CreatedTopic] = []
    for name, config in plans.items():
        created = False
        if name not in there.topics:
            if name == settings.dlq_topic:
                # Only now the events topic is sure to exist.
                limit = _events_limit(admin, settings, _policy(settings, clock))
                config["max.message.bytes"] = str(max(LETTERS_FACTOR * limit, LEAST_LETTER_BYTES))
            count = max(counts, default=partitions) if name in equal else partitions
            replicas = replication_factor or _AS_THE_BROKER_SAYS
            wanted = NewTopic(name, count, replicas, config=config)
            created = _create(admin, wanted, _policy(settings, clock))
        made.append(CreatedTopic(name, created))
    look_again(settings, admin, there, plans, clock=clock)
    return made


def verify_topics(
    settings: KafkaSettings, *, needs: TopicNeeds | None = None, clock: Clock = SYSTEM
) -> TopicReport:
    """Compare the topics with what redrive needs; nothing is changed.

    A configuration that cannot be read is a warning, and the broker's defaults are assumed.

    Raises:
        KafkaUnavailableError: No broker answered within `kafka.startup_timeout`.
        SettingsError: The broker refuses who we say we are.
    """
    admin, there = reach(settings, clock=clock)
    names = topic_names(settings)
    there = look_again(settings, admin, there, names, clock=clock)
    existing = [name for name in names if name in there.topics]
    if there.controller_id in there.brokers:
        configs, unread = _read_configs(admin, existing, _policy(settings, clock))
        ids = _ids(admin, existing)
        limit = note_limit(admin, there)
        rights = _rights(admin, settings) if settings.dlq_topic in existing else None
    else:
        # The broker inside the wheel: it has no controller, and the call would time out.
        configs, unread = {}, {"this broker has no controller to ask": existing}
        ids, limit, rights = {}, None, None
    facts = {
        name: TopicFacts(len(there.topics[name].partitions), configs.get(name)) for name in existing
    }
    findings = judge_topics(settings, facts, needs or TopicNeeds())
    return TopicReport(
        findings=(*findings, *_unread(settings, unread), *_closed_letters(settings, rights)),
        partitions={name: fact.partitions for name, fact in facts.items()},
        max_bytes={
            name: facts[name].max_bytes if name in facts else DEFAULT_MAX_BYTES for name in names
        },
        configs=configs,
        cluster=there.cluster_id,
        topic_ids=ids,
        described={name: there.topics[name].partitions for name in existing},
        note_limit=limit,
    )


def _ids(admin: AdminClient, names: Sequence[str]) -> dict[str, bytes]:
    try:
        found = topic_ids(admin, names, timeout_s=_IDS_TIMEOUT_S)
    except KafkaException as error:
        # Without them a topic is known by its cluster and its name.
        log.warning("topics.ids_unknown", error=error_of(error).str())
        return {}
    return {name: one for name, one in found.items() if one}


def _rights(admin: AdminClient, settings: KafkaSettings) -> list[AclOperation] | None:
    """Return what this user may do with the letters; None where the broker does not say."""
    topic = settings.dlq_topic
    asked = admin.describe_topics(
        TopicCollection([topic]), include_authorized_operations=True, request_timeout=_IDS_TIMEOUT_S
    )
    try:
        told: list[AclOperation] | None = asked[topic].result().authorized_operations
    except KafkaException as error:
        log.warning("topics.rights_unknown", topic=topic, error=error_of(error).str())
        return None
    return told


def _plans(settings: KafkaSettings, needs: TopicNeeds) -> dict[str, dict[str, str]]:
    plans = {
        settings.events_topic: {"cleanup.policy": "delete"},
        settings.results_topic: {"cleanup.policy": "delete"},
        settings.retry_topic: {
            "cleanup.policy": "delete",
            "retention.ms": _ms(max(_RETRIES_KEPT, needs.retry_retention)),
        },
        settings.dlq_topic: {
            "cleanup.policy": "delete",
            "retention.ms": _ms(needs.letters_retention),
            **_bytes_kept(needs.letters_retention_bytes),
        },
    }
    if settings.audit_topic is not None:
        kept = {"cleanup.policy": "delete", "retention.ms": _ms(needs.audit_retention)}
        plans[settings.audit_topic] = kept
    return plans


def _bytes_kept(limit: int | None) -> dict[str, str]:
    return {} if limit is None else {"retention.bytes": str(limit)}


def _policy(settings: KafkaSettings, clock: Clock) -> Retrier:
    limit_s = settings.startup_timeout.total_seconds()
    return until(limit_s, asking="about topics", clock=clock)


def _events_limit(admin: AdminClient, settings: KafkaSettings, policy: Retrier) -> int:
    configs, _ = _read_configs(admin, [settings.events_topic], policy)
    return TopicFacts(0, configs.get(settings.events_topic)).max_bytes


def _create(admin: AdminClient, wanted: NewTopic, policy: Retrier) -> bool:
    """Say whether it was us who created it."""
    tries = 0

    def create() -> bool:
        nonlocal tries
        tries += 1
        future = admin.create_topics([wanted], request_timeout=_ADMIN_TIMEOUT_S)[wanted.topic]
        try:
            future.result()
        except KafkaException as refused:
            if error_of(refused).code() == KafkaError.TOPIC_ALREADY_EXISTS:
                # It was missing just now: after a try without an answer, it is that try's.
                return tries > 1
            raise
        return True

    try:
        return retry(policy)(create)()
    except KafkaException as refused:
        raise _not_created(wanted.topic, error_of(refused)) from refused


def _not_created(topic: str, error: KafkaError) -> KafkaUnavailableError | SettingsError:
    message = f"topic {topic!r} is not created: {with_advice(error)}"
    if is_permanent(error):
        return SettingsError(f"{message}; check its name, the replication factor, and your rights")
    return KafkaUnavailableError(f"{message}; run it again, it continues where it stopped")


def _read_configs(
    admin: AdminClient, names: Sequence[str], policy: Retrier
) -> tuple[dict[str, Mapping[str, str]], dict[str, list[str]]]:
    """Return the topics' configurations, and which could not be read, by reason."""
    configs: dict[str, Mapping[str, str]] = {}
    failed: dict[str, KafkaException] = {}

    def read() -> None:
        left = [name for name in names if name not in configs]
        failed.clear()
        for name, future in _describe(admin, left).items():
            try:
                entries = future.result()
            except KafkaException as refused:
                failed[name] = refused
            else:
                configs[name] = {key: str(entry.value) for key, entry in entries.items()}
        for error in failed.values():
            if not is_permanent(error_of(error)):
                raise error

    if names:
        # What stays unread is told in a finding, with the reason.
        with contextlib.suppress(KafkaException):
            retry(policy)(read)()
    unread: dict[str, list[str]] = {}
    for name, error in failed.items():
        unread.setdefault(error_of(error).str(), []).append(name)
    return configs, unread


def _describe(
    admin: AdminClient, names: Sequence[str]
) -> dict[str, Future[dict[str, ConfigEntry]]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = admin.describe_configs(resources, request_timeout=_ADMIN_TIMEOUT_S)
    return {resource.name: future for resource, future in answers.items()}


def _unread(settings: KafkaSettings, unread: Mapping[str, list[str]]) -> list[TopicFinding]:
    return [
        TopicFinding(
            topic=", ".join(names),
            what="the configuration",
            found=f"not readable ({reason})",
            wanted="readable",
            fix="grant the right DescribeConfigs: run: kafka-acls.sh --bootstrap-server "
            f"{settings.bootstrap_servers} --add --allow-principal User:<name> "
            f"--operation DescribeConfigs {' '.join(f'--topic {name}' for name in names)}",
            severity=Severity.WARNING,
        )
        for reason, names in unread.items()
    ]


def _closed_letters(
    settings: KafkaSettings, rights: Sequence[AclOperation] | None
) -> list[TopicFinding]:
    if not rights or AclOperation.READ in rights:
        return []
    fix = (
        "redriven events are judged by the letters, and wait until they can be: grant the right "
        f"Read: run: kafka-acls.sh --bootstrap-server {settings.bootstrap_servers} --add "
        f"--allow-principal User:<name> --operation Read --topic {settings.dlq_topic}"
    )
    return [
        TopicFinding(
            topic=settings.dlq_topic,
            what="what this user may do",
            found="not to read it",
            wanted="to read it",
            fix=fix,
            severity=Severity.WARNING,
        )
    ]


def _ms(value: timedelta) -> str:
    return str(round(value / timedelta(milliseconds=1)))
