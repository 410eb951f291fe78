"""Finds partitions that the group gives to nobody, after each assignment of ours. [P1].

A broker of the classic protocol hands a static member that comes back what it had before, and so
does its leader: a partition that was added meanwhile is assigned to nobody for ever, since the new
client sees no change of the topic either (KAFKA-13435). Only a member that subscribes again, and is
the leader, makes the group assign anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future

import structlog
from confluent_kafka import ConsumerGroupState, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ConsumerGroupDescription,
    TopicDescription,
)

from redrive.clock import Clock
from redrive.kafka.log import TopicPartition
from redrive.telemetry.repeats import REPEATS

__all__ = ["UnassignedPartitions"]

log = structlog.get_logger("redrive.kafka")

_AFTER_S = 1.0
"""So long after an assignment it is asked: its group may still be dividing the partitions."""
_AGAIN_S = 5.0
_CALL_S = 3.0


class UnassignedPartitions:
    """Asks what the group's members hold, without waiting; belongs to the poll thread.

    Args:
        make_admin: Makes the client of one question.
        group_id: The group.
        topics: Those that it reads.
        clock: For the time of the next question.
    """

    def __init__(
        self,
        make_admin: Callable[[], AdminClient],
        group_id: str,
        topics: Collection[str],
        clock: Clock,
    ) -> None:
        self._make_admin = make_admin
        self._group_id = group_id
        self._topics = list(topics)
        self._clock = clock
        self._due: float | None = None
        self._admin: AdminClient | None = None
        self._group: Future[ConsumerGroupDescription] | None = None
        self._described: dict[str, Future[TopicDescription]] = {}

    def assigned(self) -> None:
        """Have it asked after an assignment."""
        self._due = self._clock.monotonic() + _AFTER_S

    def look(self) -> frozenset[TopicPartition]:
        """Return the partitions that nobody has, once for each answer that names some."""
        if self._group is None:
            if self._due is not None and self._clock.monotonic() >= self._due:
                self._due = None
                self._ask()
            return frozenset()
        if not (self._group.done() and all(one.done() for one in self._described.values())):
            return frozenset()
        group, described = self._group, self._described
        self._admin, self._group, self._described = None, None, {}
        try:
            missing = _missing(group.result(), [one.result() for one in described.values()])
        except KafkaException as error:
            # It is asked again at the next assignment: who may not ask now will not then either.
            log.warning("group.members_unknown", error=str(error))
            return frozenset()
        if missing is None or missing:
            self._due = self._clock.monotonic() + _AGAIN_S
        if not missing:
            return frozenset()
        times = REPEATS.to_log("group.partitions_unassigned", frozenset(missing))
        if times is not None:
            names = sorted(f"{topic}/{number}" for topic, number in missing)
            log.warning("group.partitions_unassigned", partitions=names, **times)
        return missing

    def _ask(self) -> None:
        self._admin = self._make_admin()
        topics = TopicCollection(self._topics)
        self._described = self._admin.describe_topics(topics, request_timeout=_CALL_S)
        asked = self._admin.describe_consumer_groups([self._group_id], request_timeout=_CALL_S)
        self._group = asked[self._group_id]


def _missing(
    group: ConsumerGroupDescription, topics: Collection[TopicDescription]
) -> frozenset[TopicPartition] | None:
    """Return what no member holds; None while the group is not stable."""
    if group.state is not ConsumerGroupState.STABLE:
        return None
    there = {TopicPartition(topic.name, part.id) for topic in topics for part in topic.partitions}
    held = (one for member in group.members for one in member.assignment.topic_partitions)
    return frozenset(there - {TopicPartition(one.topic, one.partition) for one in held})
