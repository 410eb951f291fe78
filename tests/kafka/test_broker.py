from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from redrive.clock import SYSTEM
from redrive.errors import SettingsError
from redrive.testing import kafka_jars
from redrive.testing.broker import BrokerError, LocalBroker
from redrive.testing.class_archive import archive_classes
from redrive.testing.created_topics import create_topics


@pytest.fixture(scope="module")
def broker(broker_tools: None) -> Iterator[LocalBroker]:
    del broker_tools
    with LocalBroker() as broker:
        yield broker


def _store(broker: LocalBroker, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all"})
    producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def _first_value(broker: LocalBroker, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        message = consumer.poll(30)
        return None if message is None else message.value()
    finally:
        consumer.close()


def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("end", ["stop", pytest.param("kill", marks=pytest.mark.nightly)])
def test_data_and_address_survive_an_end(broker: LocalBroker, end: str) -> None:
    topic = create_topics(broker.bootstrap_servers, partitions=1).events
    address = broker.bootstrap_servers
    _store(broker, topic, b"kept")

    getattr(broker, end)()
    gone = not _reachable(address)
    broker.start()

    assert gone
    assert broker.bootstrap_servers == address
    assert _first_value(broker, topic) == b"kept"


def test_a_frozen_broker_goes_on_where_it_was(broker: LocalBroker) -> None:
    topic = create_topics(broker.bootstrap_servers, partitions=1).events
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    broker.pause()
    producer.produce(topic, b"late", partition=0)

    waiting_while_frozen = producer.flush(1)
    broker.resume()

    assert waiting_while_frozen == 1
    assert producer.flush(30) == 0
    assert _first_value(broker, topic) == b"late"


def test_a_frozen_broker_can_be_stopped(broker: LocalBroker) -> None:
    broker.pause()

    broker.stop()
    running = broker.running
    broker.start()

    assert not running
    assert broker.running


@pytest.mark.usefixtures("broker_tools")
def test_a_start_that_fails_shows_the_end_of_the_log() -> None:
    broken = LocalBroker({"num.partitions": "none"})

    with pytest.raises(BrokerError, match=r"(?s)did not start.*num\.partitions"):
        broken.start()

    broken.close()


@pytest.mark.usefixtures("broker_tools")
def test_a_start_that_takes_too_long_leaves_nothing_running() -> None:
    slow = LocalBroker(start_timeout=timedelta(0))

    with pytest.raises(BrokerError, match="no answer in 0 s"):
        slow.start()

    assert not slow.running
    slow.close()


@pytest.mark.nightly
@pytest.mark.usefixtures("broker_tools")
def test_closing_removes_its_folder() -> None:
    with LocalBroker() as other:
        folder = other.log_file.parent

    assert not folder.exists()


@pytest.mark.usefixtures("broker_tools")
def test_a_broker_dies_with_the_process_that_started_it() -> None:
    script = (
        "import sys; from redrive.testing.broker import LocalBroker\n"
        "broker = LocalBroker(); broker.start()\n"
        "print(broker.bootstrap_servers, broker.log_file, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        address, log_file = parent.stdout.readline().split()
        lived = _reachable(address)

        os.kill(parent.pid, signal.SIGKILL)

    deadline = SYSTEM.monotonic() + 30
    while _reachable(address) and SYSTEM.monotonic() < deadline:
        SYSTEM.block(0.05)
    shutil.rmtree(Path(log_file).parent)
    assert lived
    assert not _reachable(address)


def test_a_missing_java_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SettingsError, match=r"'java'.*install Java 17"):
        kafka_jars.find_tool("java")
    assert kafka_jars.missing_tool() is not None


def test_maven_is_needed_only_until_kafka_is_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "java").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("REDRIVE_CACHE", str(tmp_path / "cache"))

    before = kafka_jars.missing_tool()
    (tmp_path / "cache" / f"kafka-{kafka_jars.KAFKA_VERSION}").mkdir(parents=True)
    after = kafka_jars.missing_tool()

    assert before is not None
    assert before.tool == "mvn"
    assert after is None


def _kept(cache: Path) -> list[Path]:
    """Return what is in the cache, but for the lock that keeps others out."""
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def _fake_maven(folder: Path, script: str) -> None:
    folder.mkdir()
    maven = folder / "mvn"
    maven.write_text(f"#!/bin/sh\n{script}\n")
    maven.chmod(0o755)


def test_of_two_first_fetches_at_once_one_waits_for_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jar = f"kafka_2.13-{kafka_jars.KAFKA_VERSION}.jar"
    into = 'for a in "$@"; do case $a in *outputDirectory=*) out=${a#*=};; esac; done'
    script = f'echo >> {tmp_path}/runs; {into}; mkdir "$out"; echo whole > "$out/{jar}"'
    _fake_maven(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("REDRIVE_CACHE", str(tmp_path / "cache"))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: kafka_jars.kafka_jars(), range(2))

    assert first == second
    assert (first / jar).read_text() == "whole\n"
    assert (tmp_path / "runs").read_text() == "\n"
    assert _kept(tmp_path / "cache") == [first]


def test_a_maven_that_fails_is_quoted_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _fake_maven(tmp_path / "bin", "echo no route to the archive; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("REDRIVE_CACHE", str(tmp_path / "cache"))

    with pytest.raises(kafka_jars.JarsError, match="no route to the archive"):
        kafka_jars.kafka_jars()

    assert _kept(tmp_path / "cache") == []


def test_ends_of_transactions_that_it_dropped_are_told_but_not_those_of_deleted_topics(
    broker: LocalBroker,
) -> None:
    lines = (
        "Couldn't find leader endpoint for partitions {} while trying to send transaction markers "
        "for redrive.g.w1, these partitions are likely deleted already and hence can be skipped\n"
    )

    with broker.log_file.open("a") as told:
        told.write(lines.format("Set(results-1f-2, __consumer_offsets-0)"))
        told.write("Replayed RemoveTopicRecord for topic events-1f with ID ga-jXPCaQKmiHRs.\n")
        told.write(lines.format("HashSet(events-1f-0)"))

    assert broker.dropped_markers == {"results-1f", "__consumer_offsets"}


# By day the broker of the run has made it, or found it.
@pytest.mark.nightly
@pytest.mark.usefixtures("broker_tools")
def test_a_broker_starts_with_the_classes_that_another_has_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = kafka_jars.kafka_jars()
    monkeypatch.setenv("REDRIVE_CACHE", str(tmp_path))
    (tmp_path / jars.name).symlink_to(jars)
    archive_classes()
    archive = kafka_jars.class_archive()
    made = archive.stat().st_mtime_ns

    # Java says where it takes a class from that it has loaded.
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Xlog:class+load")
    with LocalBroker() as broker:
        told = broker.log_file.read_text()
    archive_classes()

    assert "kafka.server.KafkaRaftServer source: shared objects file (top)" in told
    assert archive.stat().st_mtime_ns == made
