"""Asks for the ids of topics: a topic that is made anew has another one, and so has a copy of it.

Brokers know them since Kafka 2.8. Asking for a topic's id does not create the topic.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    TopicDescription,
)

from redrive.clock import Clock
from redrive.kafka.retrying import error_of

__all__ = ["NOT_TOLD", "BrokersTopicIds", "TopicIds", "topic_ids"]

_WATCHED_WITHIN_S = 5.0
_NOT_TOLD = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001 - librdkafka's own codes begin with a line
)


class TopicIds(Protocol):
    """Tells the ids of topics; empty where they are not to be had."""

    def ask(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        """Return the id of each topic. Raises KafkaException when the broker does not say."""
        ...

    def look(self, topics: Collection[str], *, at_once: bool) -> Mapping[str, bytes]:
        """Return the ids that have come since, asked for now and then; empty for nothing new."""
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
        self._due = clock.monotonic() + every_s
        self._admin: AdminClient | None = None
        self._asked: Mapping[str, Future[TopicDescription]] = {}

    def ask(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        """Return the id of each topic. Raises KafkaException when the broker does not say."""
        return topic_ids(self._make_admin(), topics, timeout_s=timeout_s)

    def look(self, topics: Collection[str], *, at_once: bool) -> Mapping[str, bytes]:
        """Return the ids that have come since; it never waits for them.

        A topic that is not there, or whose id is not told, is left out.

        Args:
            topics: Which to ask for.
            at_once: Ask now, whatever the time.
        """
        self._due = 0.0 if at_once else self._due
        if self._admin is not None:
            if not all(future.done() for future in self._asked.values()):
                return {}
            self._admin = None
            return dict(self._answers())
        if topics and self._clock.monotonic() >= self._due:
            self._due = self._clock.monotonic() + self._every_s
            self._admin = self._make_admin()
            self._asked = self._admin.describe_topics(
                TopicCollection(list(topics)), request_timeout=_WATCHED_WITHIN_S
            )
        return {}

    def _answers(self) -> Iterator[tuple[str, bytes]]:
        for topic, future in self._asked.items():
            # A topic that is away for a moment, or a broker, is not another topic.
            with suppress(KafkaException):
                if found := _bytes_of(future.result().topic_id):
                    yield topic, found


class _NotTold:
    def ask(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        del timeout_s
        return dict.fromkeys(topics, b"")

    def look(self, topics: Collection[str], *, at_once: bool) -> Mapping[str, bytes]:
        del topics, at_once
        return {}


NOT_TOLD = _NotTold()
"""For brokers that do not tell the ids of topics."""


def _bytes_of(topic_id: Uuid | None) -> bytes:
    # Its text is base64 without padding; brokers without ids say zero.
    raw = b"" if topic_id is None else base64.b64decode(f"{topic_id}==")
    return raw if any(raw) else b""
