"""Notices that a topic has got more partitions while somebody reads it by hand."""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import Consumer, KafkaException

from redrive.clock import Clock

__all__ = ["Growth"]

_CALL_S = 1.0


class Growth:
    """Asks now and then how many partitions a topic has; on the reader's own thread.

    Args:
        consumer: Whom to ask.
        topic: Which topic.
        every_s: How long to wait from one question to the next, in seconds; the first is due now.
        clock: For that.
    """

    def __init__(self, consumer: Consumer, topic: str, *, every_s: float, clock: Clock) -> None:
        self._consumer = consumer
        self._topic = topic
        self._every_s = every_s
        self._clock = clock
        self._due = clock.monotonic()

    def look(self, known: Collection[int]) -> frozenset[int]:
        """Return the partitions that there are beside those that are known, if it is time."""
        if self._clock.monotonic() < self._due:
            return frozenset()
        self._due = self._clock.monotonic() + self._every_s
        try:
            # All topics, never one by name: asking for one can create it.
            found = self._consumer.list_topics(timeout=_CALL_S).topics.get(self._topic)
        except KafkaException:
            return frozenset()  # it is away: asked again when it is time again
        return frozenset(() if found is None else found.partitions) - frozenset(known)
