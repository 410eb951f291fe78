"""Who has which partitions, by what workers log; a member that passes by; both group protocols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from redrive.kafka.client import consumer_config
from redrive.kafka.kafka_settings import GroupProtocol
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.worker_process import WorkerProcess, wait_until

__all__ = ["BOTH_PROTOCOLS", "another_member", "held", "moves", "set_session"]

BOTH_PROTOCOLS = pytest.mark.parametrize(
    "protocol",
    [
        GroupProtocol.CLASSIC,
        # test_group_protocol.py shows each night and day what is different there.
        pytest.param(GroupProtocol.CONSUMER, marks=pytest.mark.nightly),
    ],
)

_COME = ("partition.assigned", "partition.back")
_GO = ("partition.away", "partition.gone")


def held(*workers: WorkerProcess) -> list[int]:
    """Return the partitions that they have by now, in order; twice what two believe to have.

    Read from the logs of their current lives.
    """
    return sorted(partition for worker in workers for partition in _held_by(worker))


def moves(workers: Iterable[WorkerProcess]) -> int:
    """Return how often partitions were taken from them."""
    return sum(line["event"] in _GO for worker in workers for line in worker.events())


@contextmanager
def another_member(env: KafkaEnv, protocol: GroupProtocol, *, having: int) -> Iterator[None]:
    """Let somebody join the group who does nothing, and has so many partitions; then leave it."""
    settings = env.kafka_settings().model_copy(update={"group_protocol": protocol})
    consumer = Consumer(consumer_config(settings))
    consumer.subscribe([env.topics.events])

    def joined() -> bool:
        consumer.poll(0.1)
        return len(consumer.assignment()) == having

    try:
        wait_until(joined, timeout_s=60, what=f"another member has {having} partitions")
        yield
    finally:
        consumer.close()


def set_session(env: KafkaEnv, *, seconds: int = 6) -> None:
    """Let silent members of the stage's group be dead after so many seconds, with KIP-848."""
    options = {
        "consumer.session.timeout.ms": seconds * 1000,
        # How soon members learn of partitions that they are to give up; 5 s by default.
        "consumer.heartbeat.interval.ms": 1000,
    }
    entries = [
        ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET)
        for name, value in options.items()
    ]
    group = ConfigResource(ResourceType.GROUP, env.topics.group, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    admin.incremental_alter_configs([group])[group].result(30)


def _held_by(worker: WorkerProcess) -> set[int]:
    now: set[int] = set()
    for line in worker.events():
        if line["event"] in _COME:
            now.add(int(str(line["partition"])))
        elif line["event"] in _GO:
            now.discard(int(str(line["partition"])))
    return now
