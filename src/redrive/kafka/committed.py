"""What the group has committed, and who is in it: read from outside, without joining it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
)
from confluent_kafka import (
    TopicPartition as KafkaTopicPartition,
)
from confluent_kafka.admin import AdminClient

from redrive.clock import SYSTEM, Clock
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed, TopicPartition
from redrive.kafka.retrying import Said, ask, error_of, told

__all__ = ["GroupNow", "committed_by_group", "group_now", "pending_commits"]

_CALL_S = 3.0


@dataclass(frozen=True, slots=True)
class GroupNow:
    """A group as its coordinator describes it.

    Attributes:
        state: Such as `stable`, or `preparing_rebalancing`.
        members: How many workers are in it.
        owners: Who has which partition, by `worker.id` where there is one.
    """

    state: str
    members: int = 0
    owners: Mapping[TopicPartition, str] = field(default_factory=dict)


def committed_by_group(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], *, clock: Clock = SYSTEM
) -> dict[int, Committed]:
    """Return, per partition, what `kafka.group_id` has committed, with the commit's metadata.

    Raises:
        KafkaUnavailableError: The broker did not say within `kafka.startup_timeout`.
        SettingsError: The client's options cannot work, or the broker refuses who we say we are.
    """
    asked = [KafkaTopicPartition(topic, number) for number in partitions]
    said = Said(settings.bootstrap_servers)
    consumer = make_consumer(reader_config(settings), on_error=said)

    def read() -> dict[int, Committed]:
        found = {}
        for part in consumer.committed(asked, timeout=_CALL_S):
            if part.error is not None:
                raise KafkaException(part.error)
            offset = part.offset if part.offset >= 0 else None
            found[part.partition] = Committed(offset, part.metadata)
        return found

    what = f"what group {settings.group_id!r} has committed"
    try:
        return told(settings, lambda: ask(consumer, said, read), what=what, clock=clock)
    finally:
        consumer.close()


def group_now(settings: KafkaSettings, admin: AdminClient, *, clock: Clock = SYSTEM) -> GroupNow:
    """Return who is in `kafka.group_id` now; a group that is not there has nobody.

    Raises:
        KafkaUnavailableError: The group's coordinator did not say within `kafka.startup_timeout`.
    """
    group = settings.group_id

    def read() -> GroupNow:
        asked = admin.describe_consumer_groups([group], request_timeout=_CALL_S)
        try:
            found = asked[group].result()
        except KafkaException as error:
            if error_of(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return GroupNow("dead")
            raise
        owners = {
            TopicPartition(
                part.topic, part.partition
            ): f"{member.group_instance_id or member.client_id}"
            for member in found.members
            for part in member.assignment.topic_partitions
        }
        return GroupNow(found.state.name.lower(), len(found.members), owners)

    return told(settings, read, what=f"who is in group {group!r}", clock=clock)


def pending_commits(
    settings: KafkaSettings,
    admin: AdminClient,
    topic: str,
    partitions: Iterable[int],
    *,
    clock: Clock = SYSTEM,
) -> frozenset[int]:
    """Return the partitions over whose committed offset a transaction is open just now.

    Nobody can read it until that ends.

    Raises:
        KafkaUnavailableError: The group's coordinator did not say within `kafka.startup_timeout`.
    """
    asked = [KafkaTopicPartition(topic, number) for number in partitions]

    def read() -> frozenset[int]:
        wanted = [ConsumerGroupTopicPartitions(settings.group_id, asked)]
        answers = admin.list_consumer_group_offsets(
            wanted, require_stable=True, request_timeout=_CALL_S
        )
        found = answers[settings.group_id].result().topic_partitions
        return frozenset(
            part.partition
            for part in found
            if part.error is not None and part.error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT
        )

    if not asked:
        return frozenset()
    what = f"what group {settings.group_id!r} has committed"
    return told(settings, read, what=what, clock=clock)
