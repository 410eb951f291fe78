"""Partitions that are added while no member of the group looks are read all the same."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    NewPartitions,
)
from tests.kafka.test_counts import GRAPHS

from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until


@pytest.mark.invariant("P1")
def test_a_static_member_that_comes_back_reads_what_was_added_meanwhile(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1)
    worker = env.worker("--worker-id", "w1", *GRAPHS)
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    try:
        worker.start()
        env.send([event({"fate": "ok"})], partition=0)
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
        for topic in env.topics.names:
            admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
        wait_until(lambda: _sent(env), timeout_s=60, what="the new partition takes an event")

        worker.start()
        env.wait_settled(timeout_s=60)

        (found,) = worker.events("group.partitions_unassigned")
        assert found["partitions"] == [f"{env.topics.events}/1"]
    finally:
        worker.close()


def _sent(env: KafkaEnv) -> bool:
    try:
        env.send([event({"fate": "ok"})], partition=1)
    except KafkaException:
        return False  # the broker does not lead it yet
    return True
