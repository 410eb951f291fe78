"""Records whose time is in microseconds, 1, or the last there is: commands say what there is."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it names no `__all__`
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.kafka.connect import make_admin
from redrive.testing.created_topics import Kafka, Topics
from redrive.testing.kafka_env import event

TIMES = (round(time.time() * 1e6), 1, 2**63 - 2)


@pytest.mark.invariant("P14")
@pytest.mark.usefixtures("command_line")
def test_commands_take_records_of_any_time(kafka: Kafka, topics: Topics) -> None:
    servers = {"bootstrap.servers": kafka.bootstrap_servers}
    any_time = ConfigEntry(
        "message.timestamp.after.max.ms",
        str(2**63 - 1),
        incremental_operation=AlterConfigOpType.SET,
    )
    # Else a broker that has run for long enough deletes the oldest at once.
    kept = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, topics.events, incremental_configs=[any_time, kept])
    admin = make_admin(servers)
    for changed in admin.incremental_alter_configs([topic]).values():
        changed.result(20)
    producer = Producer(servers)
    sent = [event({}) for _ in TIMES]
    for one, at in zip(sent, TIMES, strict=True):
        producer.produce(topics.events, one.to_bytes(), one.event_id, timestamp=at)
    assert producer.flush(20) == 0

    shown = [_run("run", "show", one.event_id, "--since", "36500d") for one in sent]
    audited, doctor = _run("doctor", "audit"), _run("doctor")

    assert [code for code, _ in shown] == [ExitCode.OK] * len(sent), shown
    assert "9999-12-30" in shown[0][1]
    assert "1970-01-01" in shown[1][1]
    assert "9999-12-30" in audited[1]
    assert "ahead of this host's clock" in doctor[1]


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output
