from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from confluent_kafka import KafkaError, Producer
from tests.rows import rows

from redrive.clock import SYSTEM
from redrive.errors import SettingsError
from redrive.kafka.client import (
    REFUSED,
    admin_config,
    consumer_config,
    producer_config,
    reader_config,
)
from redrive.kafka.connect import make_admin, make_consumer, make_producer
from redrive.kafka.kafka_settings import GroupProtocol, KafkaSettings

NOBODY = "127.0.0.1:1"


def _settings(**config: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=NOBODY, config={k.replace("_", "."): v for k, v in config.items()}
    )


@rows("option", sorted(REFUSED))
def test_an_option_that_would_break_a_promise_is_refused_with_the_reason(option: str) -> None:
    settings = KafkaSettings(config={option: "1"})

    for build in (admin_config, consumer_config, producer_config, reader_config):
        with pytest.raises(SettingsError) as refused:
            build(settings)
        assert option in str(refused.value)
        assert REFUSED[option] in str(refused.value)


@pytest.mark.parametrize("alias", ["request.required.acks", "metadata.broker.list"])
def test_a_second_name_of_a_refused_option_is_refused_too(alias: str) -> None:
    with pytest.raises(SettingsError, match=alias):
        producer_config(KafkaSettings(config={alias: "1"}))


def test_a_users_value_replaces_a_default_of_ours_under_either_name() -> None:
    settings = _settings(queue_buffering_max_ms="7", auto_offset_reset="latest")

    assert producer_config(settings)["linger.ms"] == "7"
    assert consumer_config(settings)["auto.offset.reset"] == "latest"


def test_security_options_reach_every_client() -> None:
    settings = _settings(security_protocol="SASL_SSL", sasl_mechanism="PLAIN")

    for build in (admin_config, consumer_config, producer_config, reader_config):
        assert build(settings).items() >= settings.config.items()


@pytest.mark.invariant("P3")
def test_a_worker_is_a_static_member_that_commits_nothing_by_itself() -> None:
    config = consumer_config(_settings(), member="worker-3")

    assert config["group.instance.id"] == "worker-3"
    assert config["partition.assignment.strategy"] == "range"
    assert config["isolation.level"] == "read_committed"
    assert config["enable.auto.commit"] is False
    assert config["enable.auto.offset.store"] is False


def test_with_the_new_group_protocol_the_broker_assigns_and_says_how_long_a_session_lasts() -> None:
    settings = KafkaSettings(bootstrap_servers=NOBODY, group_protocol=GroupProtocol.CONSUMER)
    config = consumer_config(settings, member="worker-3")

    assert config["group.protocol"] == "consumer"
    assert config["group.remote.assignor"] == "range"
    assert config["group.instance.id"] == "worker-3"
    # librdkafka refuses these with it.
    refused = {"session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"}
    assert config.keys().isdisjoint(refused)


def test_the_group_protocol_is_asked_for_by_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"set kafka\.group_protocol"):
        consumer_config(_settings(group_protocol="consumer"))


def test_what_the_broker_says_with_the_new_protocol_is_refused_in_the_clients_words() -> None:
    settings = KafkaSettings(
        bootstrap_servers=NOBODY,
        group_protocol=GroupProtocol.CONSUMER,
        config={"heartbeat.interval.ms": "1000"},
    )

    with pytest.raises(SettingsError, match=r"heartbeat\.interval\.ms.*defined broker side"):
        make_consumer(consumer_config(settings))


def test_a_worker_without_a_stable_id_is_a_dynamic_member() -> None:
    assert "group.instance.id" not in consumer_config(_settings(), member=None)


def test_a_poll_interval_below_the_session_timeout_is_refused() -> None:
    settings = KafkaSettings(
        session_timeout=timedelta(seconds=30), max_poll_interval=timedelta(seconds=29)
    )

    with pytest.raises(SettingsError, match=r"max_poll_interval .*session_timeout"):
        consumer_config(settings, member=None)


def test_only_a_transactional_producer_retries_without_a_pause() -> None:
    plain = producer_config(_settings())
    transactional = producer_config(_settings(), transactional_id="t")

    assert "retry.backoff.ms" not in plain
    assert "transactional.id" not in plain
    assert transactional["retry.backoff.ms"] == 1
    assert transactional["transaction.timeout.ms"] == 10_000


@pytest.mark.parametrize(
    "config",
    [
        producer_config(_settings()),
        producer_config(
            _settings(),
            transactional_id="t",
            max_message_bytes=3_145_764,
            max_batch_bytes=1_048_588,
        ),
    ],
)
def test_librdkafka_accepts_what_producers_are_told(config: dict[str, object]) -> None:
    assert isinstance(make_producer(config), Producer)


@pytest.mark.parametrize("protocol", [*GroupProtocol])
@pytest.mark.parametrize("seconds", [0.01, 6, 300])
def test_librdkafka_accepts_what_consumers_are_told(
    seconds: float, protocol: GroupProtocol
) -> None:
    settings = KafkaSettings(
        bootstrap_servers=NOBODY,
        session_timeout=timedelta(seconds=seconds),
        group_protocol=protocol,
    )

    worker = make_consumer(consumer_config(settings, member="w"))
    reader = make_consumer(reader_config(settings))

    assert worker.assignment() == reader.assignment() == []
    worker.close()
    reader.close()


@pytest.mark.parametrize(
    ("option", "value"),
    [("no.such.option", "1"), ("linger.ms", "soon"), ("stats_cb", "print")],
)
def test_an_option_that_librdkafka_refuses_is_named(option: str, value: str) -> None:
    settings = KafkaSettings(config={option: value})

    with pytest.raises(SettingsError, match=option):
        make_producer(producer_config(settings))
    with pytest.raises(SettingsError, match=option):
        make_admin(admin_config(settings))


def test_what_librdkafka_says_goes_to_logging_but_not_that_an_option_is_for_consumers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[KafkaError] = []
    settings = KafkaSettings(bootstrap_servers=NOBODY, config={"fetch.min.bytes": "2"})

    with caplog.at_level(logging.DEBUG, logger="redrive.kafka.librdkafka"):
        producer = make_producer(producer_config(settings), on_error=errors.append)
        deadline = SYSTEM.monotonic() + 10
        while not (errors and caplog.records) and SYSTEM.monotonic() < deadline:
            producer.poll(0.1)

    assert "Connection refused" in caplog.text
    assert "CONFWARN" not in caplog.text
    assert errors[0].code() == KafkaError._TRANSPORT
