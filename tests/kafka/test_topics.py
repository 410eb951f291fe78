from __future__ import annotations

import dataclasses
import uuid
from datetime import timedelta

import pytest
import structlog
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic
from tests.kafka.guarded import grant, login

from redrive.dead_letter.letter_settings import LetterSettings
from redrive.errors import KafkaUnavailableError, SettingsError
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_admin import CreatedTopic, create_topics, verify_topics
from redrive.kafka.topic_rules import Severity, TopicNeeds, topic_names
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import Kafka, delete_topics
from redrive.testing.created_topics import create_topics as made_topics
from redrive.testing.worker_process import wait_until


@pytest.fixture
def settings(kafka: Kafka) -> KafkaSettings:
    tag = uuid.uuid4().hex[:8]
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        events_topic=f"events-{tag}",
        results_topic=f"results-{tag}",
        retry_topic=f"retry-{tag}",
        dlq_topic=f"dlq-{tag}",
    )


@pytest.fixture
def admin(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers})


def _set(admin: AdminClient, topic: str, option: str, value: str) -> None:
    entry = ConfigEntry(option, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(timeout=30)

    def is_told() -> bool:
        # A busy broker tells the value of before for a moment.
        (asked,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        return bool(asked.result(timeout=30)[option].value == value)

    wait_until(is_told, timeout_s=30, what=f"{option} of {topic} is {value}")


def test_created_topics_pass_the_check_and_tell_their_limits(settings: KafkaSettings) -> None:
    made = create_topics(settings, partitions=3)
    report = verify_topics(settings)

    names = topic_names(settings)
    assert made == [CreatedTopic(name, created=True) for name in names]
    assert report.findings == ()
    assert report.partitions == dict.fromkeys(names, 3)
    assert report.max_bytes == {
        **dict.fromkeys(names, 1_048_588),
        settings.dlq_topic: 3 * 1_048_588,
    }


def test_topics_that_are_there_stay_and_the_missing_ones_fit_them(
    admin: AdminClient, settings: KafkaSettings
) -> None:
    events = NewTopic(settings.events_topic, 5, 1, config={"max.message.bytes": "2000000"})
    admin.create_topics([events])[settings.events_topic].result(timeout=30)
    # The controller has it; a busy broker lists it a moment later.
    wait_until(
        lambda: settings.events_topic in admin.list_topics(timeout=10).topics,
        timeout_s=30,
        what="the topic is listed",
    )

    made = create_topics(settings, partitions=2)
    report = verify_topics(settings)

    assert [topic.created for topic in made] == [False, True, True, True]
    assert report.findings == ()
    assert [report.partitions[name] for name in topic_names(settings)] == [5, 2, 5, 5]
    assert report.max_bytes[settings.dlq_topic] == 6_000_000


def test_missing_topics_are_named_and_not_created_by_the_check(settings: KafkaSettings) -> None:
    report = verify_topics(settings)
    again = verify_topics(settings)

    assert [finding.topic for finding in report.errors] == list(topic_names(settings))
    assert {finding.found for finding in report.errors} == {"missing"}
    assert "redrive topics create" in report.errors[0].fix
    assert again == report


def test_unequal_partition_counts_are_an_error_with_the_command_that_mends_them(
    admin: AdminClient,
    settings: KafkaSettings,
) -> None:
    create_topics(settings, partitions=2)
    grown = NewPartitions(settings.events_topic, 3)
    admin.create_partitions([grown])[settings.events_topic].result(timeout=30)

    # A broker may list them a moment later.
    def listed() -> bool:
        return len(admin.list_topics(timeout=10).topics[settings.events_topic].partitions) == 3

    wait_until(listed, timeout_s=30, what="3 partitions are listed")

    report = verify_topics(settings)

    assert {f.topic for f in report.errors} == {settings.retry_topic, settings.dlq_topic}
    assert f"--alter --topic {settings.retry_topic} --partitions 3" in str(report.findings)


@pytest.mark.parametrize(
    ("topic", "option", "value", "wanted"),
    [
        ("dlq_topic", "max.message.bytes", "3145763", "max.message.bytes=3145764"),
        ("dlq_topic", "cleanup.policy", "compact", "cleanup.policy=delete"),
        ("retry_topic", "cleanup.policy", "compact,delete", "cleanup.policy=delete"),
        ("retry_topic", "retention.ms", "172799999", "retention.ms=172800000"),
        ("events_topic", "cleanup.policy", "compact", "cleanup.policy=delete"),
    ],
)
@pytest.mark.invariant("P6")
def test_a_setting_that_could_lose_records_is_an_error_with_its_command(
    admin: AdminClient, settings: KafkaSettings, topic: str, option: str, value: str, wanted: str
) -> None:
    create_topics(settings, partitions=1)
    name = getattr(settings, topic)
    _set(admin, name, option, value)

    (finding,) = verify_topics(settings).findings

    assert (finding.topic, finding.what) == (name, option)
    assert finding.severity is Severity.ERROR
    assert value in finding.found
    assert f"--entity-name {name} --add-config {wanted}" in finding.fix


def test_retention_without_end_is_long_enough(admin: AdminClient, settings: KafkaSettings) -> None:
    create_topics(settings, partitions=1)
    _set(admin, settings.dlq_topic, "retention.ms", "-1")

    assert verify_topics(settings).findings == ()


def test_letters_that_go_sooner_than_wanted_are_a_warning_with_its_command(
    admin: AdminClient, settings: KafkaSettings
) -> None:
    create_topics(settings, partitions=1)
    _set(admin, settings.dlq_topic, "retention.ms", "2591999999")

    report = verify_topics(settings)

    assert report.errors == ()
    (finding,) = report.warnings
    assert (finding.topic, finding.what) == (settings.dlq_topic, "retention.ms")
    assert finding.fix.endswith("--add-config retention.ms=2592000000")


def test_the_letters_topic_gets_the_retention_that_is_wanted(
    admin: AdminClient, settings: KafkaSettings
) -> None:
    needs = LetterSettings(retention=timedelta(days=90), retention_bytes=10**9).topic_needs()
    create_topics(settings, partitions=1, needs=needs)

    assert verify_topics(settings, needs=needs).findings == ()
    by_default = verify_topics(settings)
    _set(admin, settings.dlq_topic, "retention.bytes", "999999999")
    too_small = verify_topics(settings, needs=needs)

    # Without a size of our own, one that is there may eat letters before their time.
    assert [finding.what for finding in by_default.warnings] == ["retention.bytes"]
    assert [finding.wanted for finding in too_small.warnings] == ["1000000000 or more"]


def test_retention_by_size_is_a_warning(admin: AdminClient, settings: KafkaSettings) -> None:
    create_topics(settings, partitions=1)
    _set(admin, settings.dlq_topic, "retention.bytes", "1000000")

    report = verify_topics(settings)

    assert report.errors == ()
    assert [finding.what for finding in report.warnings] == ["retention.bytes"]


def test_longer_delays_need_a_longer_retention(settings: KafkaSettings) -> None:
    needs = TopicNeeds(longest_delay=timedelta(days=10))
    create_topics(settings, partitions=1)

    short = verify_topics(settings, needs=needs)
    delete_topics(settings.bootstrap_servers, [settings.retry_topic])
    create_topics(settings, partitions=1, needs=needs)

    assert [finding.what for finding in short.errors] == ["retention.ms"]
    assert verify_topics(settings, needs=needs).findings == ()


def test_a_topic_that_the_broker_refuses_is_named(settings: KafkaSettings) -> None:
    with pytest.raises(SettingsError, match=settings.events_topic):
        create_topics(settings, partitions=1, replication_factor=7)


def test_a_broker_that_does_not_come_is_one_clear_line() -> None:
    settings = KafkaSettings(
        bootstrap_servers="127.0.0.1:1", startup_timeout=timedelta(milliseconds=500)
    )

    with structlog.testing.capture_logs() as logs, pytest.raises(KafkaUnavailableError) as failed:
        verify_topics(settings)

    assert "127.0.0.1:1 answered within 500ms" in str(failed.value)
    assert "refused" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "kafka.client_error" in [line["event"] for line in logs]


def test_waiting_for_a_broker_is_logged_step_by_step() -> None:
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", startup_timeout=timedelta(seconds=4))

    with structlog.testing.capture_logs() as logs, pytest.raises(KafkaUnavailableError):
        verify_topics(settings)

    steps = [line for line in logs if line["event"] == "broker.waiting"]
    assert steps
    assert steps[0]["servers"] == "127.0.0.1:1"
    assert steps[0]["of_s"] == 4


def test_the_checks_of_a_broker_without_a_controller_are_a_warning() -> None:
    mock = Producer({"test.mock.num.brokers": 1, "log_level": 3})
    (broker,) = mock.list_topics(timeout=10).brokers.values()
    settings = KafkaSettings(bootstrap_servers=f"{broker.host}:{broker.port}")
    for topic in topic_names(settings):
        mock.list_topics(topic, timeout=10)

    report = verify_topics(settings)

    assert report.errors == ()
    assert [finding.what for finding in report.warnings] == ["the configuration"]
    assert report.max_bytes == dict.fromkeys(topic_names(settings), 1_048_588)


def test_a_finding_is_told_in_one_line(settings: KafkaSettings) -> None:
    finding = dataclasses.replace(verify_topics(settings).findings[0], topic="t")

    assert str(finding) == (
        "topic 't': the topic is missing, must be there; run: redrive topics create"
    )


@pytest.mark.invariant("P1")
def test_a_user_that_may_not_read_the_letters_is_warned(guarded: LocalBroker) -> None:
    topics = made_topics(guarded.bootstrap_servers, partitions=1)
    for right in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS):
        grant(guarded, "nobody", right, *topics.names)
    mine = KafkaSettings(
        bootstrap_servers=guarded.servers_with_passwords,
        events_topic=topics.events,
        results_topic=topics.results,
        retry_topic=topics.retry,
        dlq_topic=topics.dlq,
        config=login("nobody"),
    )

    (finding,) = verify_topics(mine).findings

    assert (finding.topic, finding.severity) == (topics.dlq, Severity.WARNING)
    assert f"--operation Read --topic {topics.dlq}" in finding.fix
    grant(guarded, "nobody", AclOperation.READ, topics.dlq)
    wait_until(lambda: not verify_topics(mine).findings, timeout_s=30, what="the right is there")
