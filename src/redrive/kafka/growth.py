"""Notices that a topic has got more partitions, or is another one, while it is read by hand."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial

from confluent_kafka import Consumer, KafkaException

from redrive.clock import Clock
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_ids import BrokersTopicIds

__all__ = ["Growth"]

_CALL_S = 1.0


class Growth:
    """Asks now and then what a topic is; on the reader's own thread.

    Args:
        consumer: Whom to ask for the partitions; made when this is.
        topic: Which topic.
        settings: How to reach Kafka, and how long to wait from one question to the next; the first
            is due now.
        clock: For that.
    """

    def __init__(
        self, consumer: Consumer, topic: str, *, settings: KafkaSettings, clock: Clock
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._every_s = settings.metadata_max_age.total_seconds()
        self._clock = clock
        self._due = clock.monotonic()
        make = partial(make_admin, admin_config(settings))
        self._ids = BrokersTopicIds(make, every_s=self._every_s, clock=clock)
        self._asked = False
        self._first: bytes | None = None
        self.is_outdated = False
        """Whether the topic is another one by now: this consumer may read nothing of it.

        It keeps to the leader epochs that it knows, and those of a new topic begin at 0.
        """

    def look(self, known: Collection[int]) -> frozenset[int]:
        """Return the partitions that there are beside those that are known, if it is time."""
        within_s, self._asked = math.inf if self._asked else 0.0, True
        for now in self._ids.look([self._topic], within_s=within_s).ids.values():
            self._first = self._first or now
            self.is_outdated = self.is_outdated or now != self._first
        if self._clock.monotonic() < self._due:
            return frozenset()
        self._due = self._clock.monotonic() + self._every_s
        try:
            # All topics, never one by name: asking for one can create it.
            found = self._consumer.list_topics(timeout=_CALL_S).topics.get(self._topic)
        except KafkaException:
            return frozenset()  # it is away: asked again when it is time again
        return frozenset(() if found is None else found.partitions) - frozenset(known)
