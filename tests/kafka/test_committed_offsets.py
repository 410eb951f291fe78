"""What the group has committed was altered while no worker ran, or the log was: nothing is lost."""

import base64
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from redrive.events import WorkflowEvent
from redrive.kafka.client import admin_config, producer_config
from redrive.kafka.connect import make_admin, make_producer
from redrive.state.commit_metadata import (
    MAX_ENTRIES,
    MAX_METADATA_CHARS,
    CommitMetadata,
    LogIdentity,
    OffsetEntry,
    commit_metadata_of,
    encode,
)
from redrive.testing.journal import read_journal
from redrive.testing.judging import Verdict, gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import committed_offsets, end_offsets

BEFORE, AFTER = 20, 10
NODES = 3
BROKER_TAKES_CHARS = 4_096
TOPIC_ID_BYTES = 16


@pytest.mark.invariant("P1", "P3", "P4")
def test_where_offsets_were_moved_all_is_answered_and_nothing_done_again(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = lived(make_stage, partitions=2)
    commit(env, 5, partition=0)
    commit(env, 1_000, partition=1)

    verdict = live_on(env, AFTER)

    # Who is answered again gets what the finished thread says.
    again = BEFORE - 5 + BEFORE
    assert verdict.results == {"success": 2 * (BEFORE + AFTER) + again}
    assert verdict.lost == 0
    assert executions(env) == 2 * (BEFORE + AFTER) * NODES


@pytest.mark.invariant("P1", "P3", "P4")
def test_without_the_group_all_is_answered_again_and_nothing_done_again(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = lived(make_stage)
    admin = admin_of(env)
    for future in admin.delete_consumer_groups([env.topics.group]).values():
        future.result(30)

    verdict = live_on(env, AFTER)

    assert verdict.results == {"success": BEFORE + BEFORE + AFTER}
    assert verdict.lost == 0
    assert executions(env) == (BEFORE + AFTER) * NODES


@pytest.mark.invariant("P1", "P3")
def test_a_note_that_was_copied_to_another_commit_hides_no_event(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    # As MirrorMaker does: an earlier offset with the same metadata, or that of another cluster.
    env = make_stage(partitions=2)
    settled = CommitMetadata(1, 1, finished=0b11110, offset=40)
    commit(env, 0, encode(settled), partition=0)
    elsewhere = replace(settled, offset=0, log=LogIdentity.of("another cluster"))
    commit(env, 0, encode(elsewhere), partition=1)

    verdict = live_on(env, AFTER)

    held = committed_offsets(env.bootstrap_servers, env.topics.events, env.topics.group)
    told = [line for line in worker_log(env) if "note_of_another_commit" in line]
    assert verdict.findings == []
    assert verdict.results == {"success": 2 * AFTER}
    assert len(told) == 2
    # And the notes that were written since say where they belong.
    for committed in held.values():
        metadata = commit_metadata_of(committed.metadata, offset=AFTER)
        assert metadata is not None
        assert len(metadata.log.cluster) > 0
        assert len(metadata.log.topic_id) == TOPIC_ID_BYTES


@pytest.mark.invariant("P1", "P2", "P3")
def test_metadata_that_is_no_note_of_ours_is_passed_by(make_stage: Callable[..., KafkaEnv]) -> None:
    strange = [
        "",
        "kept by another tool",
        "9" + base64.b64encode(b"a version that comes later").decode(),
        "2" + base64.b64encode(b"broken").decode(),
        "2!",
        "x" * BROKER_TAKES_CHARS,
    ]
    env = lived(make_stage, partitions=len(strange))
    for partition, metadata in enumerate(strange):
        commit(env, BEFORE, metadata, partition=partition)

    verdict = live_on(env, AFTER)

    assert verdict.findings == []
    assert verdict.results == {"success": len(strange) * (BEFORE + AFTER)}


@pytest.mark.invariant("P3", "P5", "P11")
def test_a_note_with_all_that_it_can_hold_is_taken_from_there(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = lived(make_stage)
    entries = {ahead: OffsetEntry(failed=1) for ahead in range(MAX_ENTRIES)}
    fullest = encode(CommitMetadata(2**64 - 1, 2**31, finished=1 << MAX_ENTRIES, entries=entries))
    assert len(fullest) < MAX_METADATA_CHARS
    commit(env, BEFORE, fullest)

    verdict = live_on(env, MAX_ENTRIES + 1)

    # What lies past the gap had ended, by the note: it is not run.
    assert verdict.results == {"success": BEFORE + MAX_ENTRIES}
    assert verdict.lost == 1


@pytest.mark.invariant("P1", "P3")
def test_what_retention_took_is_passed_by(make_stage: Callable[..., KafkaEnv]) -> None:
    env = lived(make_stage)
    env.send((event({"fate": "success"}) for _ in range(AFTER)), partition=0)
    gone = TopicPartition(env.topics.events, 0, BEFORE + AFTER // 2)
    admin = admin_of(env)
    admin.delete_records([gone])[gone].result(30)

    verdict = live_on(env, AFTER)

    assert verdict.lost == 0
    assert verdict.results == {"success": BEFORE + AFTER // 2 + AFTER}


@pytest.mark.invariant("P1", "P2", "P3")
def test_offsets_that_hold_no_record_are_passed_by(make_stage: Callable[..., KafkaEnv]) -> None:
    env = make_stage(partitions=1)
    for _ in range(3):
        env.send((event({"fate": "success"}) for _ in range(AFTER)), partition=0)
        with transaction(env) as producer:
            for _ in range(AFTER):
                send(env, producer, event({"fate": "success"}))

    verdict = live_on(env, AFTER)

    assert verdict.findings == []
    assert verdict.results == {"success": 4 * AFTER}


def lived(make_stage: Callable[..., KafkaEnv], *, partitions: int = 1) -> KafkaEnv:
    """Return a stage on which a worker has done its work, and left."""
    env = make_stage(partitions=partitions, REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db")
    live_on(env, BEFORE)
    return env


def live_on(env: KafkaEnv, events: int) -> Verdict:
    """Let a worker do what is left, and `events` more on each partition."""
    for tp in end_offsets(env.bootstrap_servers, env.topics.events):
        env.send((event({"fate": "success"}) for _ in range(events)), partition=tp.partition)
    with env.worker("--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
    return judge(gather(env.bootstrap_servers, env.topics))


def worker_log(env: KafkaEnv) -> list[str]:
    return [line for path in env.folder.glob("*.log") for line in path.read_text().splitlines()]


def executions(env: KafkaEnv) -> int:
    """Return how many nodes were executed, each once."""
    executed = Counter(read_journal(env.folder / "executions.log"))
    assert set(executed.values()) == {1}
    return len(executed)


def admin_of(env: KafkaEnv) -> AdminClient:
    """Return an admin client; what it was asked is answered only while it is held."""
    return make_admin(admin_config(env.kafka_settings()))


def commit(env: KafkaEnv, offset: int, metadata: str = "", *, partition: int = 0) -> None:
    tp = TopicPartition(env.topics.events, partition, offset, metadata)
    asked = ConsumerGroupTopicPartitions(env.topics.group, [tp])
    admin = admin_of(env)
    for future in admin.alter_consumer_group_offsets([asked]).values():
        future.result(30)


@contextmanager
def transaction(env: KafkaEnv) -> Iterator[Producer]:
    """Give a producer whose transaction is aborted in the end: its offsets hold no record."""
    config = producer_config(env.kafka_settings(), transactional_id=env.topics.group)
    producer = make_producer(config)
    producer.init_transactions(30)
    producer.begin_transaction()
    yield producer
    assert producer.flush(30) == 0
    producer.abort_transaction(30)


def send(env: KafkaEnv, producer: Producer, asked: WorkflowEvent) -> None:
    producer.produce(env.topics.events, asked.to_bytes(), asked.event_id, partition=0)
