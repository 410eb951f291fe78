"""Clients that a real broker does not serve as they are set up: told at once, with what to do."""

from __future__ import annotations

import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AclOperation,
    ResourceType,
)
from tests.kafka.guarded import forbid, forbid_no_more, grant, login

from redrive.clock import SYSTEM
from redrive.errors import NotStoredError, SettingsError
from redrive.events import ResultStatus, WorkflowResultEvent
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.expected import Expected
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import publish_event
from redrive.kafka.results import ResultReader
from redrive.kafka.topic_admin import create_topics, verify_topics
from redrive.redriving import Selection, read_letters, redrive
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import Topics
from redrive.testing.created_topics import create_topics as make_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.stored_letters import dead_letter, store_letters

AGENTS = Path(__file__).parent / "agents"
AT_ONCE_S = 30.0
"""Far below the two minutes that each of these could wait."""
LONG = timedelta(minutes=2)


@pytest.fixture(scope="module")
def topics(guarded: LocalBroker) -> Topics:
    return make_topics(guarded.bootstrap_servers, partitions=2)


def settings_of(servers: str, topics: Topics, config: dict[str, str]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=servers,
        events_topic=topics.events,
        results_topic=topics.results,
        retry_topic=topics.retry,
        dlq_topic=topics.dlq,
        group_id=topics.group,
        startup_timeout=LONG,
        config=config,
    )


def verify(settings: KafkaSettings) -> None:
    verify_topics(settings)


def create(settings: KafkaSettings) -> None:
    create_topics(settings, partitions=1)


def find_ends(settings: KafkaSettings) -> None:
    end_offsets(settings)


def publish(settings: KafkaSettings) -> None:
    publish_event(settings, event({}), timeout=LONG)


def wait_for_a_result(settings: KafkaSettings) -> None:
    reader = ResultReader(settings)
    try:
        reader.wait_in_thread(Expected(str(uuid.uuid4())), {0: 0}, datetime.now(UTC) + LONG)
    finally:
        reader.close()


ASKING = [verify, create, find_ends, publish, wait_for_a_result]


@pytest.mark.parametrize("ask", ASKING, ids=lambda ask: ask.__name__)
def test_a_wrong_password_fails_at_once_and_names_its_settings(
    ask: Callable[[KafkaSettings], None], guarded: LocalBroker, topics: Topics
) -> None:
    settings = settings_of(guarded.servers_with_passwords, topics, login("worker", "wrong"))
    start = SYSTEM.monotonic()

    with pytest.raises(SettingsError, match=r"Invalid username.*sasl\.username and sasl\.password"):
        ask(settings)

    assert SYSTEM.monotonic() - start < AT_ONCE_S


@pytest.mark.parametrize("ask", ASKING, ids=lambda ask: ask.__name__)
def test_a_refused_tls_handshake_fails_at_once_and_names_its_settings(
    ask: Callable[[KafkaSettings], None], topics: Topics, refusing_tls: str
) -> None:
    settings = settings_of(refusing_tls, topics, {"security.protocol": "SSL"})
    start = SYSTEM.monotonic()

    with pytest.raises(SettingsError, match=r"(?s)alert handshake failure.*ssl\.ca\.location"):
        ask(settings)

    assert SYSTEM.monotonic() - start < AT_ONCE_S


def test_a_mechanism_that_the_broker_does_not_have_is_told_with_those_it_has(
    guarded: LocalBroker, topics: Topics
) -> None:
    config = {**login("worker"), "sasl.mechanism": "SCRAM-SHA-256"}

    with pytest.raises(SettingsError, match=r"supported mechanisms: PLAIN.*sasl\.mechanism"):
        verify_topics(settings_of(guarded.servers_with_passwords, topics, config))


def test_a_user_without_rights_cannot_publish_or_create_and_hears_it_at_once(
    guarded: LocalBroker, topics: Topics
) -> None:
    grant(guarded, "nobody", AclOperation.DESCRIBE, topics.events)
    settings = settings_of(guarded.servers_with_passwords, topics, login("nobody"))
    start = SYSTEM.monotonic()

    with pytest.raises(NotStoredError, match=r"[Aa]uthorization failed.*kafka-acls\.sh"):
        publish(settings)
    with pytest.raises(SettingsError, match=r"is not created.*[Aa]uthorization failed.*kafka-acls"):
        create(settings)

    assert SYSTEM.monotonic() - start < AT_ONCE_S


def test_who_may_read_the_results_needs_no_right_to_a_group(
    guarded: LocalBroker, topics: Topics
) -> None:
    grant(guarded, "reader", AclOperation.READ, topics.results)
    settings = settings_of(guarded.servers_with_passwords, topics, login("reader"))
    event_id = str(uuid.uuid4())
    offsets = end_offsets(settings)
    reader = ResultReader(settings)

    threading.Timer(2.0, _answer, (guarded.bootstrap_servers, topics.results, event_id)).start()
    result = reader.wait_in_thread(Expected(event_id), offsets, datetime.now(UTC) + LONG)
    reader.close()

    assert result.correlation_id == event_id


def test_who_may_read_the_letters_needs_no_right_to_a_group(
    guarded: LocalBroker, topics: Topics
) -> None:
    grant(guarded, "reader", AclOperation.READ, topics.dlq)
    producer = Producer({"bootstrap.servers": guarded.bootstrap_servers})
    producer.produce(topics.dlq, b"no letter")
    producer.flush(30)

    view = read_letters(settings_of(guarded.servers_with_passwords, topics, login("reader")))

    assert view.unknown == 1


def test_who_may_not_read_the_letters_hears_it_at_once(
    guarded: LocalBroker, topics: Topics
) -> None:
    grant(guarded, "nobody", AclOperation.DESCRIBE, topics.dlq)
    settings = settings_of(guarded.servers_with_passwords, topics, login("nobody"))
    start = SYSTEM.monotonic()

    with pytest.raises(SettingsError, match=r"refuses this client.*[Aa]uthorization failed"):
        read_letters(settings)

    assert SYSTEM.monotonic() - start < AT_ONCE_S


def test_who_may_not_write_the_events_hears_it_and_no_letter_is_driven(
    guarded: LocalBroker, topics: Topics
) -> None:
    grant(guarded, "full", AclOperation.ALL, *topics.names)
    grant(guarded, "full", AclOperation.ALL, "*", on=ResourceType.TRANSACTIONAL_ID)
    forbid(guarded, "full", AclOperation.WRITE, topics.events)
    letter = dead_letter(event({}), topic=topics.events)
    store_letters(settings_of(guarded.bootstrap_servers, topics, {}), [letter])
    settings = settings_of(guarded.servers_with_passwords, topics, login("full"))
    selection, start = Selection.of([letter.dlq_id]), SYSTEM.monotonic()

    with pytest.raises(SettingsError, match=r"[Aa]uthorization failed.*kafka-acls\.sh"):
        redrive(settings, selection, actor="anna")
    took_s = SYSTEM.monotonic() - start
    forbid_no_more(guarded, "full", AclOperation.WRITE, topics.events)
    report = redrive(settings, selection, actor="anna")

    assert took_s < AT_ONCE_S
    assert [done.entry.dlq_id for done in report.done] == [letter.dlq_id]
    assert len(read_topic(guarded.bootstrap_servers, topics.events)) == 1


def _answer(servers: str, topic: str, event_id: str) -> None:
    result = WorkflowResultEvent(
        correlation_id=event_id,
        workflow_id="w",
        workflow_run_id="r",
        result="done",
        status=ResultStatus.SUCCESS,
        timestamp=datetime.now(UTC),
    )
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(topic, result.to_bytes(), event_id.encode())
    producer.flush(30)


@pytest.mark.parametrize(
    ("user", "password", "words"),
    [
        ("worker", "wrong", ("Invalid username", "sasl.username", "sasl.password")),
        ("worker", "secret", ("Transactional Id authorization failed", "--transactional-id")),
        ("member", "secret", ("Group authorization failed", "kafka.group_id")),
    ],
    ids=["password", "transactional-id", "group"],
)
def test_a_worker_that_is_refused_ends_at_once_with_one_line_and_exit_code_2(
    user: str,
    password: str,
    words: tuple[str, ...],
    guarded: LocalBroker,
    topics: Topics,
    tmp_path: Path,
) -> None:
    shutil.copy(AGENTS / "fates.py", tmp_path)
    for name in ("worker", "member"):
        grant(guarded, name, AclOperation.ALL, *topics.names)
    grant(guarded, "member", AclOperation.ALL, "*", on=ResourceType.TRANSACTIONAL_ID)
    config = {
        f"REDRIVE_KAFKA__CONFIG__{name.replace('.', '_').upper()}": value
        for name, value in login(user, password).items()
    }
    env = KafkaEnv(guarded.servers_with_passwords, topics, tmp_path, config)
    environ = {"REDRIVE_KAFKA__STARTUP_TIMEOUT": "5m"}

    with env.worker("--graph", "*=fates:builder", environ=environ).running() as worker:
        code = worker.wait(timeout_s=60)

    assert code == 2
    lines = worker.log_file.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if not line.startswith("{")]
    assert line.startswith("redrive: Kafka ")
    assert [word for word in words if word not in line] == []


@pytest.fixture
def refusing_tls() -> Iterator[str]:
    """A server that answers each TLS handshake with the alert `handshake_failure`."""
    alert = bytes.fromhex("15 03 03 00 02 02 28")

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(alert)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
