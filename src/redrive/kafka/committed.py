"""What the group has committed, and who is in it: read from outside, without joining it."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from redrive.clock import SYSTEM, Clock
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.log import Committed
from redrive.kafka.options import KafkaSettings
from redrive.kafka.retrying import Said, ask, error_of, told

__all__ = ["committed_by_group", "members_of_group"]

_CALL_S = 3.0


def committed_by_group(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], *, clock: Clock = SYSTEM
) -> dict[int, Committed]:
    """Return, per partition, what `kafka.group_id` has committed, with the commit's metadata.

    Raises:
        KafkaUnavailableError: The broker did not say within `kafka.startup_timeout`.
        SettingsError: The client's options cannot work, or the broker refuses who we say we are.
    """
    asked = [TopicPartition(topic, number) for number in partitions]
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


def members_of_group(settings: KafkaSettings, admin: AdminClient, *, clock: Clock = SYSTEM) -> int:
    """Return how many members `kafka.group_id` has now; a group that is not there has none.

    Raises:
        KafkaUnavailableError: The group's coordinator did not say within `kafka.startup_timeout`.
    """
    group = settings.group_id

    def read() -> int:
        asked = admin.describe_consumer_groups([group], request_timeout=_CALL_S)
        try:
            return len(asked[group].result().members)
        except KafkaException as error:
            if error_of(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise

    return told(settings, read, what=f"who is in group {group!r}", clock=clock)
