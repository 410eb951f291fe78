"""Asks for the ids of topics: a topic that is made anew has another one, and so has a copy of it.

With them comes which topics are not there, and which partitions have no leader: nothing else tells
that to a consumer, which then just gets no records.

Brokers know them since Kafka 2.8. Asking for a topic's id does not create the topic.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import (
    KafkaError,
    KafkaException,
    Node,
    TopicCollection,
    TopicPartitionInfo,
    Uuid,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    TopicDescription,
)

from redrive.clock import Clock
from redrive.kafka.retrying import error_of

__all__ = ["NOT_TOLD", "Absent", "BrokersTopicIds", "IdsAsOf", "TopicIds", "topic_ids"]

_WATCHED_WITHIN_S = 5.0
_NOT_TOLD = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,
)


@dataclass(frozen=True, slots=True)
class Absent:
    """What a broker said that it has not; for any thread.

    Args:
        topics: The names of topics that are not there.
        leaders: Partitions of the others, by topic and number, that have no leader.
    """

    topics: frozenset[str] = frozenset()
    leaders: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class IdsAsOf:
    """Ids of topics by name, and when they were asked for, in monotonic seconds."""

    ids: Mapping[str, bytes] = field(default_factory=dict)
    as_of: float = 0.0


class TopicIds(Protocol):
    """Tells the ids of topics; empty where they are not to be had."""

    def ask(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        """Return the id of each topic. Raises KafkaException when the broker does not say."""
        ...

    def look(self, topics: Collection[str], *, within_s: float = math.inf) -> IdsAsOf:
        """Return the ids that have come since, asked for now and then; empty for nothing new."""
        ...

    @property
    def absent(self) -> Absent:
        """What is not there of the topics that were looked at last."""
        ...


def topic_ids(admin: AdminClient, topics: Collection[str], *, timeout_s: float) -> dict[str, bytes]:
    """Return the id of each topic, empty where the broker has none or this user may not know it.

    Raises:
        KafkaException: The broker does not say, or a topic does not exist.
    """
    if not topics:
        return {}
    asked = admin.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s)
    found: dict[str, bytes] = {}
    for topic, future in asked.items():
        try:
            found[topic] = _bytes_of(future.result().topic_id)
        except KafkaException as error:
            if error_of(error).code() not in _NOT_TOLD:
                raise
            found[topic] = b""
    return found


class BrokersTopicIds:
    """Asks a broker, with a client of its own for each question.

    That costs milliseconds; a client that is kept holds a connection, and what it logs while nobody
    polls it.

    Args:
        make_admin: Makes the client of one question.
        every_s: How long `look` waits from one question to the next, in seconds.
        clock: For that.
    """

    def __init__(
        self, make_admin: Callable[[], AdminClient], *, every_s: float, clock: Clock
    ) -> None:
        self._make_admin = make_admin
        self._every_s = every_s
        self._clock = clock
        self._asked_at = clock.monotonic()
        self._due = self._asked_at + every_s
        self._admin: AdminClient | None = None
        self._is_stale = False
        self._asked: Mapping[str, Future[TopicDescription]] = {}
        self.absent = Absent()
        """Replaced as a whole: any thread may read it."""

    def ask(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        """Return the id of each topic. Raises KafkaException when the broker does not say."""
        # What is asked in the background may be answered by the id of a topic that is gone by now.
        self._is_stale = self._admin is not None
        return topic_ids(self._make_admin(), topics, timeout_s=timeout_s)

    def look(self, topics: Collection[str], *, within_s: float = math.inf) -> IdsAsOf:
        """Return the ids that have come since; it never waits for them.

        A topic that is not there, or whose id is not told, is left out.

        Args:
            topics: Which to ask for.
            within_s: Ask sooner than usual: so many seconds after the last question.
        """
        self._due = min(self._due, self._asked_at + within_s)
        if self._admin is not None:
            if not all(future.done() for future in self._asked.values()):
                return IdsAsOf()
            self._admin = None
            found = self._answers()
            if not self._is_stale:
                return IdsAsOf(found, self._asked_at)
            self._is_stale, self._due = False, self._asked_at
        if topics and self._clock.monotonic() >= self._due:
            self._asked_at = self._clock.monotonic()
            self._due = self._asked_at + self._every_s
            self._admin = self._make_admin()
            self._asked = self._admin.describe_topics(
                TopicCollection(list(topics)), request_timeout=_WATCHED_WITHIN_S
            )
        return IdsAsOf()

    def _answers(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        topics, leaders = set[str](), set[tuple[str, int]]()
        for topic, future in self._asked.items():
            try:
                told = future.result()
            except KafkaException as error:
                # A topic that is away for a moment, or a broker, is not another topic.
                if error_of(error).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    topics.add(topic)
                continue
            leaders.update((topic, part.id) for part in told.partitions if not _has_leader(part))
            if topic_id := _bytes_of(told.topic_id):
                found[topic] = topic_id
        self.absent = Absent(frozenset(topics), frozenset(leaders))
        return found


def _has_leader(partition: TopicPartitionInfo) -> bool:
    """Say whether a partition has a leader, as it was described."""
    leader: Node | None = partition.leader  # the client's types know only those that have one
    return leader is not None and leader.id >= 0


class _NotTold:
    absent = Absent()

    def ask(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        del timeout_s
        return dict.fromkeys(topics, b"")

    def look(self, topics: Collection[str], *, within_s: float = math.inf) -> IdsAsOf:
        del topics, within_s
        return IdsAsOf()


NOT_TOLD = _NotTold()
"""For brokers that do not tell the ids of topics."""


def _bytes_of(topic_id: Uuid | None) -> bytes:
    # Its text is base64 without padding; brokers without ids say zero.
    raw = b"" if topic_id is None else base64.b64decode(f"{topic_id}==")
    return raw if any(raw) else b""
