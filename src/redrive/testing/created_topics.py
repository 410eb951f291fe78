"""A broker to test on, and topics of one's own: names that no other test uses.

What the tests' fixtures hand out is typed here. The topics of a deployment are made by
`redrive.kafka.topic_admin`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    NewTopic,
    TopicMetadata,
)

from redrive.clock import SYSTEM
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_admin import create_topics as make

__all__ = [
    "Kafka",
    "MakeTopics",
    "NamedBroker",
    "Topics",
    "create_topics",
    "delete_topics",
    "remake_topic",
]

_TIMEOUT_S = 30.0
_LOOK_S = 0.05


class Kafka(Protocol):
    """A broker that runs: ours, or one that was named."""

    @property
    def bootstrap_servers(self) -> str:
        """Where it listens, `host:port`."""
        ...


@dataclass(frozen=True, slots=True)
class NamedBroker:
    """A broker that somebody else runs."""

    bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics that exist and are empty, and the name of a group that has read nothing."""

    events: str
    results: str
    retry: str
    dlq: str
    group: str

    @property
    def names(self) -> tuple[str, str, str, str]:
        """The four topics."""
        return (self.events, self.results, self.retry, self.dlq)


class MakeTopics(Protocol):
    """Makes fresh topics, as often as it is called."""

    def __call__(self, *, partitions: int = 4) -> Topics:
        """Return topics of `partitions` partitions each."""
        ...


def create_topics(bootstrap_servers: str, *, partitions: int = 4) -> Topics:
    """Create four topics under names of their own, as `redrive topics create` would.

    The broker lists them all, with their partitions and leaders, when this returns.

    Raises:
        TimeoutError: It does not, half a minute after the controller has created them.
    """
    tag = uuid.uuid4().hex[:8]
    topics = Topics(
        events=f"events-{tag}",
        results=f"results-{tag}",
        retry=f"retry-{tag}",
        dlq=f"dlq-{tag}",
        group=f"group-{tag}",
    )
    settings = KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        events_topic=topics.events,
        results_topic=topics.results,
        retry_topic=topics.retry,
        dlq_topic=topics.dlq,
    )
    make(settings, partitions=partitions)
    _wait_until_led(bootstrap_servers, topics.names, partitions=partitions)
    return topics


def _wait_until_led(bootstrap_servers: str, names: Iterable[str], *, partitions: int) -> None:
    """Wait for a broker that hears late of what its controller has created.

    A deployment waits for three seconds, and then says what is missing: its tools ask again.
    """
    admin, wanted = AdminClient({"bootstrap.servers": bootstrap_servers}), set(names)
    deadline = SYSTEM.monotonic() + _TIMEOUT_S
    while True:
        listed = admin.list_topics(timeout=_TIMEOUT_S).topics
        there = {name for name in wanted if name in listed and _led(listed[name]) == partitions}
        if there == wanted:
            return
        if SYSTEM.monotonic() > deadline:
            raise TimeoutError(f"{bootstrap_servers} does not list {sorted(wanted - there)}")
        SYSTEM.block(_LOOK_S)


def _led(topic: TopicMetadata) -> int:
    return sum(partition.leader >= 0 for partition in topic.partitions.values())


def remake_topic(
    bootstrap_servers: str,
    name: str,
    *,
    partitions: int = 1,
    replicas: Sequence[Sequence[int]] | None = None,
) -> None:
    """Delete a topic, and make another one under its name.

    Args:
        bootstrap_servers: The broker.
        name: The topic's.
        partitions: How many it gets.
        replicas: Instead, the brokers of each partition; the first one is to lead it.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    wanted = NewTopic(name, partitions)
    if replicas is not None:
        wanted = NewTopic(name, len(replicas), replica_assignment=[[*each] for each in replicas])
    delete_topics(bootstrap_servers, [name])
    deadline = SYSTEM.monotonic() + _TIMEOUT_S
    while True:
        try:
            admin.create_topics([wanted])[name].result(_TIMEOUT_S)
        except KafkaException:
            # It is not quite gone yet.
            if SYSTEM.monotonic() > deadline:
                raise
            SYSTEM.block(_LOOK_S)
        else:
            return


def delete_topics(bootstrap_servers: str, names: Iterable[str]) -> None:
    """Delete topics, as far as the broker can be reached, and wait until it lists them no more.

    The controller answers first: who creates a topic anew before the broker has heard of its end is
    told that it exists, and then loses it.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    wanted = set(names)
    for future in admin.delete_topics(list(wanted), request_timeout=5).values():
        with contextlib.suppress(KafkaException, TimeoutError):
            future.result(timeout=_TIMEOUT_S)
    with contextlib.suppress(KafkaException):
        deadline = SYSTEM.monotonic() + _TIMEOUT_S
        while SYSTEM.monotonic() < deadline and wanted & set(admin.list_topics(timeout=5).topics):
            SYSTEM.block(_LOOK_S)
