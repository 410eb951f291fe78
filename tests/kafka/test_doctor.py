"""`redrive doctor` on a real broker: what it finds, what it does not look at, and that it is so."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AclOperation,
    AdminClient,
)
from confluent_kafka.cimpl import NewPartitions
from tests.kafka.conftest import MakeStage
from tests.kafka.guarded import grant, login
from tests.kafka.holding import set_session
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.clock import SYSTEM
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics, delete_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import end_offsets
from redrive.testing.stored_letters import dead_letter, store_letters

GRAPH = ("--graph", "*=fates:builder")
ASK_BROKER = {
    "topics",
    "leaders",
    "standstill",
    "sizes",
    "notes",
    "delays",
    "letters",
    "group",
    "lag",
    "clock",
}
AT_ONCE_S = 10.0
Findings = dict[str, list[dict[str, str]]]


@pytest.fixture
def env(make_stage: MakeStage, command_at: Callable[[KafkaEnv], None]) -> KafkaEnv:
    made = make_stage()
    command_at(made)
    return made


@pytest.fixture(autouse=True)
def graphs_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


def doctor(*arguments: str) -> tuple[int, Findings]:
    result = CliRunner().invoke(app, ["doctor", *GRAPH, *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def bad(told: Findings) -> Findings:
    """Return what is not in order, by check."""
    found = {
        name: [f for f in all_ if f["level"] in ("warning", "error")] for name, all_ in told.items()
    }
    return {name: all_ for name, all_ in found.items() if all_}


def test_where_all_is_well_it_says_what_it_looked_at_and_leaves_no_trace(env: KafkaEnv) -> None:
    before = sorted(path.name for path in env.folder.iterdir())

    result = CliRunner().invoke(app, ["doctor", *GRAPH])

    assert result.exit_code == ExitCode.OK
    levels = [line.split()[0] for line in result.stdout.splitlines()]
    assert levels == ["ok"] * 20 + ["skipped"]
    assert f"ok       broker: {env.bootstrap_servers} answers: cluster " in result.stdout
    assert "1 broker, controller " in result.stdout
    assert f"{env.topics.events} (4 partitions)" in result.stdout
    assert "ok       letters: 0 open; kept for 30d\n" in result.stdout
    assert f"0 event(s) of '{env.topics.events}' are not finished" in result.stdout
    assert "skipped  clock: Kafka does not tell its time" in result.stdout
    after = sorted(path.name for path in env.folder.iterdir() if path.name != "__pycache__")
    assert after == [name for name in before if name != "__pycache__"]
    ends = [end_offsets(env.bootstrap_servers, topic) for topic in env.topics.names]
    assert {end for one in ends for end in one.values()} == {0}


def test_the_session_of_a_group_that_says_it_itself_is_compared_with_the_workers(
    env: KafkaEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRIVE_KAFKA__GROUP_PROTOCOL", "consumer")

    default = doctor()[1]["group"]
    set_session(env)
    shorter = doctor()[1]["group"]

    assert default[0]["level"] == "ok"
    assert default[0]["what"].endswith("KIP-848: a silent worker's partitions wait 45s")
    assert shorter[0]["level"] == "warning"
    assert "is 6s, and kafka.session_timeout 30s: the shorter one holds" in shorter[0]["what"]


@pytest.mark.invariant("P14")
def test_events_that_nobody_takes_are_counted_until_a_worker_has(env: KafkaEnv) -> None:
    env.send([event({"fate": "success"}) for _ in range(7)])

    exit_code, waiting = doctor()
    with env.worker(*GRAPH).running():
        env.wait_settled(timeout_s=60)
        done = doctor()[1]

    assert exit_code == ExitCode.OK
    (found,) = bad(waiting)["lag"]
    assert found["level"] == "warning"
    assert (
        f"7 event(s) of '{env.topics.events}' are not finished, the oldest of 0:0" in found["what"]
    )
    assert f"there is no worker in group '{env.topics.group}'" in found["what"]
    ((level, what),) = [(one["level"], one["what"]) for one in done["lag"]]
    assert (level, what.endswith(f"workers in group '{env.topics.group}': 1")) == ("ok", True)
    assert what.startswith("0 event(s)")


def test_letters_near_their_end_are_named(env: KafkaEnv) -> None:
    now = SYSTEM.now()
    letters = [
        dead_letter(event({}), topic="e", partition=0, offset=days, timestamp=now - timedelta(days))
        for days in (1, 27)
    ]
    store_letters(env.kafka_settings(), letters)

    exit_code, told = doctor()

    assert exit_code == ExitCode.OK
    (found,) = bad(told)["letters"]
    assert "has used 90% of letters.retention (30d)" in found["what"]
    assert found["advice"]


def test_a_record_from_the_future_shows_a_clock_that_is_ahead(env: KafkaEnv) -> None:
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    at = SYSTEM.now() + timedelta(minutes=10)
    producer.produce(env.topics.results, b"{}", timestamp=round(at.timestamp() * 1000))
    assert producer.flush(30) == 0

    exit_code, told = doctor()

    assert exit_code == ExitCode.OK
    (found,) = bad(told)["clock"]
    assert f"a record of '{env.topics.results}' has a time 0:09:5" in found["what"]


def test_a_missing_topic_and_unequal_partitions_are_errors(env: KafkaEnv) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    grown = NewPartitions(env.topics.events, 5)
    admin.create_partitions([grown])[env.topics.events].result(timeout=30)
    delete_topics(env.bootstrap_servers, [env.topics.dlq])
    gone = f"not checked: there is no topic '{env.topics.dlq}'"

    exit_code, told = doctor()

    assert exit_code == ExitCode.ENDED_BADLY
    assert set(bad(told)) == {"topics"}
    found = {(one["level"], one["what"].partition(" is ")[0]) for one in told["topics"]}
    assert found == {
        ("error", f"topic '{env.topics.dlq}': the topic"),
        ("error", f"topic '{env.topics.retry}': the number of partitions"),
    }
    assert all("run: " in one["advice"] for one in told["topics"])
    assert [(one["level"], one["what"]) for one in told["letters"]] == [("skipped", gone)]
    assert env.topics.dlq not in told["sizes"][0]["what"]


@pytest.mark.usefixtures("env")
def test_a_client_that_takes_less_than_the_topics_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRIVE_KAFKA__CONFIG", '{"message.max.bytes": "1000000"}')

    exit_code, told = doctor()

    assert exit_code == ExitCode.OK
    (found,) = bad(told)["sizes"]
    assert (
        "message.max.bytes in kafka.config is 1000000, and the topics take 3145764" in found["what"]
    )


@pytest.mark.invariant("P15")
def test_no_broker_is_one_error_and_nothing_of_it_passes(
    env: KafkaEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv(
        "REDRIVE_KAFKA__CONFIG",
        '{"sasl.password": "hunter2", "sasl.username": "u", "sasl.mechanism": "PLAIN"}',
    )

    result = CliRunner().invoke(app, ["doctor", *GRAPH, "--bootstrap-servers", nobody, "--json"])

    assert result.exit_code == ExitCode.ENDED_BADLY
    told: Findings = json.loads(result.stdout)
    ((name, (found,)),) = bad(told).items()
    assert (name, found["level"]) == ("broker", "error")
    assert f"no Kafka broker at {nobody} answered within 5s" in found["what"]
    assert found["advice"]
    not_looked = {name for name, all_ in told.items() if all_ and all_[0]["level"] == "skipped"}
    assert not_looked == ASK_BROKER
    assert "hunter2" not in result.output
    assert env.bootstrap_servers not in result.output


def test_checkpoints_that_could_not_be_written_are_an_error(
    env: KafkaEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRIVE_CHECKPOINTS__URL", f"sqlite:///{env.folder}/fates.py/c.db")

    exit_code, told = doctor()

    assert exit_code == ExitCode.ENDED_BADLY
    ((name, (found,)),) = bad(told).items()
    assert (name, found["level"]) == ("checkpoints", "error")
    assert f"{env.folder}/fates.py/c.db" in found["what"]


@pytest.mark.invariant("P15")
def test_a_refused_password_is_told_at_once_and_not_shown(
    env: KafkaEnv, guarded: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.dumps(login("worker", "hunter2"))
    monkeypatch.setenv("REDRIVE_KAFKA__CONFIG", config)
    began = SYSTEM.monotonic()

    exit_code, told = doctor("--bootstrap-servers", guarded.servers_with_passwords)

    assert SYSTEM.monotonic() - began < AT_ONCE_S
    assert exit_code == ExitCode.ENDED_BADLY
    ((name, (found,)),) = bad(told).items()
    assert name == "broker"
    assert "sasl.username and sasl.password" in found["what"]
    assert "hunter2" not in json.dumps(told)
    assert env.topics.events not in json.dumps(told)


def test_a_missing_right_costs_only_what_it_hides(
    env: KafkaEnv, guarded: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = create_topics(guarded.bootstrap_servers, partitions=1)
    for key in ("events", "results", "retry", "dlq"):
        monkeypatch.setenv(f"REDRIVE_KAFKA__{key.upper()}_TOPIC", getattr(topics, key))
    for right in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS, AclOperation.READ):
        grant(guarded, "reader", right, *topics.names)
    monkeypatch.setenv("REDRIVE_KAFKA__CONFIG", json.dumps(login("reader")))
    monkeypatch.setenv("REDRIVE_KAFKA__GROUP_PROTOCOL", "consumer")

    exit_code, told = doctor("--bootstrap-servers", guarded.servers_with_passwords)

    assert exit_code == ExitCode.ENDED_BADLY
    assert bad(told).keys() == {"group", "lag", "standstill"}
    (session,), (found,) = bad(told)["group"], bad(told)["lag"]
    assert "cannot be read" in session["what"]
    assert f"who is in group '{env.topics.group}'" in found["what"]
    assert "kafka-acls.sh --add" in found["what"]
