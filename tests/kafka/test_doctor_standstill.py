"""`redrive doctor` on a real broker: it names what stands still, and why, from outside."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    Producer,
)
from confluent_kafka import (
    TopicPartition as KafkaTopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.kafka.conftest import AGENTS, MakeStage
from tests.kafka.seen_from_outside import Outside, free_port
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.clock import SYSTEM
from redrive.kafka.log import TopicPartition
from redrive.kafka.topic_ids import Absent, BrokersTopicIds, topic_ids
from redrive.state.commit_metadata import CommitMetadata, LogIdentity, encode
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics, delete_topics, remake_topic
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import committed_offsets
from redrive.testing.worker_process import wait_until

GRAPH = ("--graph", "*=fates:builder")
AWAY = 2
"""The number of the broker that goes."""
Findings = dict[str, list[dict[str, str]]]
CommandAt = Callable[[KafkaEnv], None]


@pytest.fixture(autouse=True)
def graphs_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def outside() -> Outside:
    return Outside(free_port())


def doctor() -> Findings:
    result = CliRunner().invoke(app, ["doctor", *GRAPH, "--json"])
    told: Findings = json.loads(result.stdout)
    return told


def bad(told: Findings, check: str) -> list[str]:
    """Return what a check found that is not in order; each with advice."""
    found = [one for one in told[check] if one["level"] in ("warning", "error")]
    assert all(one["advice"] for one in found)
    return [one["what"] for one in found]


def committed(env: KafkaEnv) -> int | None:
    topics = env.topics
    found = committed_offsets(env.bootstrap_servers, topics.events, topics.group)
    return found[TopicPartition(topics.events, 0)].offset


def commit(env: KafkaEnv, metadata: CommitMetadata) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    at = KafkaTopicPartition(env.topics.events, 0, metadata.offset or 0, metadata=encode(metadata))
    asked = [ConsumerGroupTopicPartitions(env.topics.group, [at])]

    def is_committed() -> bool:
        (future,) = admin.alter_consumer_group_offsets(asked).values()
        return all(part.error is None for part in future.result(30).topic_partitions)

    # A coordinator that was just chosen is not ready at once.
    wait_until(is_committed, timeout_s=60, what="the group's offset is set")


@contextlib.contextmanager
def hanging(env: KafkaEnv) -> Iterator[Producer]:
    """Have a transaction open on the events, as a program leaves it that hangs."""
    settings = {"bootstrap.servers": env.bootstrap_servers}
    producer = Producer({**settings, "transactional.id": env.topics.events})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(env.topics.events, event({}).to_bytes(), partition=1)
    producer.flush(30)
    try:
        yield producer
    finally:
        producer.abort_transaction(30)


@pytest.mark.invariant("P1")
def test_a_transaction_that_hangs_is_named_and_so_is_what_nobody_owns(
    make_stage: MakeStage, command_at: CommandAt
) -> None:
    env = make_stage(partitions=2, REDRIVE_KAFKA__STARTUP_TIMEOUT="3s")
    command_at(env)
    topic = env.topics.events
    env.send([event({})], partition=0)
    config = {"bootstrap.servers": env.bootstrap_servers, "group.id": env.topics.group}
    stranger, dealt = Consumer(config), list[KafkaTopicPartition]()
    stranger.subscribe([env.topics.results], on_assign=lambda _, parts: dealt.extend(parts))
    wait_until(
        lambda: stranger.poll(0.1) is not None or bool(dealt), timeout_s=30, what="it has joined"
    )

    with hanging(env) as producer:
        open_ = doctor()
        producer.send_offsets_to_transaction(
            [KafkaTopicPartition(topic, 0, 1)], stranger.consumer_group_metadata(), 30
        )
        pending = doctor()
    stranger.close()

    transaction, unowned = bad(open_, "standstill")
    assert f"partition 1 of '{topic}': a transaction is open at offset 0" in transaction
    assert "no reader sees the 1 offsets from there on" in transaction
    assert f"partition 0 of '{topic}' with unfinished events, and none of the 1 member" in unowned
    assert any("for partition 0 of" in what for what in bad(pending, "standstill"))


@pytest.mark.invariant("P1")
def test_a_run_that_does_not_move_is_named_and_its_worker_asked(
    make_stage: MakeStage, command_at: CommandAt, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_stage(partitions=1)
    command_at(env)
    topic, sent = env.topics.events, event({"fate": "sleep", "seconds": 600})
    hour_ago = round((SYSTEM.now().timestamp() - 3600) * 1000)
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    for one in (event({}), sent):
        producer.produce(topic, one.to_bytes(), partition=0, timestamp=hour_ago)
    assert producer.flush(30) == 0
    worker = env.worker("--worker-id", "w1", *GRAPH, environ=outside.environ)
    for name, value in outside.environ.items():
        monkeypatch.setenv(name, value)
    told = list[Findings]()

    def stands_still() -> bool:
        told.append(doctor())
        return bool(bad(told[-1], "standstill"))

    with worker.running():
        worker.wait_for("worker.ready")
        begun = lambda: outside.metric("redrive_attempts_in_flight") == 1  # noqa: E731
        wait_until(begun, timeout_s=60, what="the run has begun")
        wait_until(lambda: committed(env) == 1, timeout_s=60, what="the first is settled")
        ready = lambda: outside.probe("/readyz").status == 200  # noqa: E731
        wait_until(ready, timeout_s=60, what="the worker is ready")
        # What it has begun is noted with a commit of its own.
        wait_until(stands_still, timeout_s=60, what="nothing of the partition moves")
        worker.kill()

    (run,) = bad(told[-1], "standstill")
    assert f"partition 0 of '{topic}': the event at offset 1 ({sent.event_id}), 1:00:" in run
    assert "may be running at w1" in run
    assert [one["level"] for one in told[-1]["worker"]] == ["ok"]


@pytest.mark.invariant("P3", "P14")
def test_a_topic_that_was_made_anew_is_named_and_its_events_are_counted(
    make_stage: MakeStage, command_at: CommandAt
) -> None:
    env = make_stage(partitions=1)
    command_at(env)
    topic, admin = env.topics.events, AdminClient({"bootstrap.servers": env.bootstrap_servers})
    cluster = admin.list_topics(timeout=30).cluster_id
    before = topic_ids(admin, [topic], timeout_s=30)[topic]
    remake_topic(env.bootstrap_servers, topic)
    # As a worker does that has not heard of it.
    commit(env, CommitMetadata(1, 1, offset=2, log=LogIdentity.of(cluster, before)))
    sent = [event({}) for _ in range(3)]
    env.send(sent)

    told = doctor()
    shown = CliRunner().invoke(app, ["run", "show", sent[0].event_id, "--json"])

    (log,) = bad(told, "standstill")
    assert f"'{topic}' was deleted and created again: what group" in log
    assert "belongs to the earlier topic (0 at 2)" in log
    assert bad(told, "lag")[0].startswith("3 event(s) of ")
    assert '"standing": "waiting"' in shown.output


@pytest.mark.nightly
@pytest.mark.invariant("P1")
def test_partitions_without_a_leader_are_named_and_the_others_looked_at(
    broker_tools: None, tmp_path: Path, command_at: CommandAt
) -> None:
    del broker_tools  # they are there
    shutil.copy(AGENTS / "fates.py", tmp_path)
    with contextlib.ExitStack() as brokers:
        broker = brokers.enter_context(LocalBroker())
        servers = broker.bootstrap_servers
        topics = create_topics(servers, partitions=2)
        second = brokers.enter_context(broker.joined())
        env = KafkaEnv(servers, topics, tmp_path, {})
        command_at(env)
        on_both = [topics.events, topics.results]
        delete_topics(servers, on_both)
        admin = AdminClient({"bootstrap.servers": servers})
        made = [NewTopic(topic, 2, replica_assignment=[[1], [AWAY]]) for topic in on_both]
        for future in admin.create_topics(made).values():
            future.result(30)
        env.send([event({}), event({})], partition=0)
        second.stop()
        ids = BrokersTopicIds(lambda: admin, every_s=0.0, clock=SYSTEM)
        leaderless = Absent(leaders=frozenset({(topics.events, 1)}))

        def seen() -> bool:
            ids.look([topics.events], within_s=0.0)
            return ids.absent == leaderless

        wait_until(seen, timeout_s=120, what="the broker says that there is no leader")
        told = doctor()
        delete_topics(servers, [topics.events])
        gone = Absent(topics=frozenset({topics.events}))
        wait_until(
            lambda: bool(ids.look([topics.events], within_s=0.0).ids) or ids.absent == gone,
            timeout_s=30,
            what="the broker says that there is no topic",
        )

    events, results = bad(told, "leaders")
    assert f"partition 1 of '{topics.events}' without a leader: nothing of them is read" in events
    assert f"partition 1 of '{topics.results}' without a leader" in results
    assert bad(told, "lag")[0].startswith("2 event(s) of ")
    assert [one["level"] for one in told["clock"]] == ["skipped"]
