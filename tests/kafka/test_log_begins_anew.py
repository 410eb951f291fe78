"""The events topic is deleted and made anew, or loses its end: what is sent then is answered."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.kafka.conftest import AGENTS, MakeStage

from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.kafka.log import TopicPartition
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics, remake_topic
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.log_file import cut_log
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess, wait_until

GRAPH = ("--graph", "*=fates:quick")
SETTINGS = {"REDRIVE_CHECKPOINTS__URL": "none", "REDRIVE_KAFKA__METADATA_MAX_AGE": "1s"}


def sent(env: KafkaEnv, count: int, *, partition: int = 0) -> list[WorkflowEvent]:
    events = [event({"fate": "success"}) for _ in range(count)]
    env.send(events, partition=partition)
    return events


def answers(env: KafkaEnv) -> Counter[str]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    return Counter(WorkflowResultEvent.from_bytes(one.value).correlation_id for one in records)


def wait_answered(env: KafkaEnv, events: Sequence[WorkflowEvent]) -> None:
    wait_until(
        lambda: {one.event_id for one in events} <= answers(env).keys(),
        timeout_s=60,
        every_s=0.3,
        what=f"{len(events)} answers",
        progress=lambda: answers(env).total(),
    )


def logged(worker: WorkerProcess, name: str) -> int:
    return sum(line["event"] == name for line in worker.events())


@pytest.mark.invariant("P1", "P2", "P3")
def test_a_topic_that_is_made_anew_is_read_from_its_beginning(make_stage: MakeStage) -> None:
    env = make_stage(partitions=1, **SETTINGS)
    with env.worker("--worker-id", "w1", *GRAPH).running() as worker:
        wait_answered(env, sent(env, 20))

        remake_topic(env.bootstrap_servers, env.topics.events)
        fewer = sent(env, 10)
        wait_answered(env, fewer)
        remake_topic(env.bootstrap_servers, env.topics.events)
        more = sent(env, 30)
        wait_answered(env, more)

        wait_until(env.settled, timeout_s=30, what="all of it settled")
        # It is told once more where a commit of the log before is found.
        assert logged(worker, "partition.log_began_anew") >= 2
        assert worker.stop() == 0
    with env.worker("--worker-id", "w1", *GRAPH).running() as worker:
        later = sent(env, 3)
        wait_answered(env, later)
        assert worker.stop() == 0

    # Also the first of the longer log, though it may be answered before that is known for one.
    told = answers(env)
    assert all(told[one.event_id] == 1 for one in (*fewer, *more, *later))


@pytest.mark.invariant("P1")
def test_a_new_topic_whose_leaders_have_lower_epochs_is_read(
    broker_tools: None, tmp_path: Path
) -> None:
    del broker_tools  # they are there
    shutil.copy(AGENTS / "fates.py", tmp_path)
    with LocalBroker() as broker:
        servers = broker.bootstrap_servers
        env = KafkaEnv(servers, create_topics(servers, partitions=1), tmp_path, SETTINGS)
        with env.worker("--worker-id", "w1", *GRAPH).running() as worker:
            wait_answered(env, sent(env, 3))
            # Whoever starts to lead a partition raises its epoch; a new topic begins at 0.
            broker.stop()
            broker.start()
            wait_answered(env, sent(env, 3))

            remake_topic(servers, env.topics.events)

            wait_answered(env, sent(env, 3))
            assert logged(worker, "kafka.consumer_replaced") >= 1
            assert worker.stop() == 0


@pytest.mark.nightly
@pytest.mark.invariant("P1", "P2", "P3")
def test_a_log_that_has_lost_its_end_is_read_from_where_it_goes_on(
    broker_tools: None, tmp_path: Path
) -> None:
    del broker_tools  # they are there
    shutil.copy(AGENTS / "fates.py", tmp_path)
    with LocalBroker() as broker:
        servers = broker.bootstrap_servers
        env = KafkaEnv(servers, create_topics(servers, partitions=2), tmp_path, SETTINGS)
        worker = env.worker("--worker-id", "w1", *GRAPH)

        def lose_end() -> None:
            broker.stop()
            for partition in (0, 1):
                cut_log(broker.data, TopicPartition(env.topics.events, partition), from_offset=12)
            broker.start()

        with worker.running():
            for partition in (0, 1):
                for _ in range(20):  # each in a batch of its own
                    sent(env, 1, partition=partition)
            wait_until(env.settled, timeout_s=60, what="all settled")
            lose_end()
            # One log stays shorter than what was read of it, the other one gets longer.
            while_running = [*sent(env, 4), *sent(env, 15, partition=1)]
            wait_answered(env, while_running)
            assert logged(worker, "partition.log_cut_back") == 2
            wait_until(env.settled, timeout_s=60, what="all settled")
            assert worker.stop() == 0
        lose_end()
        while_away = [*sent(env, 2), *sent(env, 25, partition=1)]
        with worker.running():
            wait_answered(env, while_away)
            wait_until(env.settled, timeout_s=60, what="all settled")
            assert worker.stop() == 0

        told = answers(env)

    assert [told[one.event_id] for one in while_running] == [1] * len(while_running)
    assert {told[one.event_id] for one in while_away} <= {1, 2}
