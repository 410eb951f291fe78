"""Asks for the ids of topics: a topic that is made anew has another one, and so has a copy of it.

Brokers know them since Kafka 2.8. Asking for a topic's id does not create the topic.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient

from redrive.kafka.retrying import error_of

__all__ = ["AskTopicIds", "not_told", "topic_ids", "topic_ids_by"]

_NOT_TOLD = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001 - librdkafka's own codes begin with a line
)


class AskTopicIds(Protocol):
    """Asks for the ids of topics; empty where they are not to be had."""

    def __call__(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        """Return the id of each topic. Raises KafkaException when the broker does not say."""
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


def topic_ids_by(make_admin: Callable[[], AdminClient]) -> AskTopicIds:
    """Return who asks with a client of its own for each question.

    It costs milliseconds. One that is kept holds a connection, and what the client logs while
    nobody polls it.
    """

    def ask(topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        return topic_ids(make_admin(), topics, timeout_s=timeout_s)

    return ask


def not_told(topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
    """Return no ids: for brokers that do not tell them."""
    del timeout_s
    return dict.fromkeys(topics, b"")


def _bytes_of(topic_id: Uuid | None) -> bytes:
    # Its text is base64 without padding; brokers without ids say zero.
    raw = b"" if topic_id is None else base64.b64decode(f"{topic_id}==")
    return raw if any(raw) else b""
