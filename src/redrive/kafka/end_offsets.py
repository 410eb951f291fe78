"""Where the results topic ends: asked before an event is published, so that no answer is missed."""

from __future__ import annotations

from datetime import timedelta

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError, SettingsError
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.options import KafkaSettings

__all__ = ["end_offsets"]

LEAST_S = 0.1

# What a broker says while a partition gets another leader, or its first one.
_PASSES = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._TRANSPORT,  # noqa: SLF001 - the client's name for it
    }
)


def end_offsets(
    settings: KafkaSettings, *, timeout: timedelta | None = None, clock: Clock = SYSTEM
) -> dict[int, int]:
    """Return, per partition of the results topic, the offset that the next result can get.

    Raises:
        KafkaUnavailableError: The broker did not answer within `timeout` (by default
            `kafka.startup_timeout`).
        SettingsError: The topic does not exist, or the client's options cannot work.
    """
    limit = timeout or settings.startup_timeout
    deadline = clock.monotonic() + limit.total_seconds()
    consumer = make_consumer(reader_config(settings))

    def end_of(partition: int) -> int:
        place = TopicPartition(settings.results_topic, partition)
        while True:
            left = max(LEAST_S, deadline - clock.monotonic())
            try:
                marks = consumer.get_watermark_offsets(place, timeout=left, cached=False)
            except KafkaException as error:
                if error.args[0].code() not in _PASSES or clock.monotonic() > deadline:
                    raise
                clock.block(LEAST_S)
                continue
            if marks is None:
                raise _silent(settings, limit, "no answer")
            return marks[1]

    try:
        partitions = _partitions(consumer, settings, timeout_s=limit.total_seconds())
        return {partition: end_of(partition) for partition in partitions}
    except KafkaException as error:
        raise _silent(settings, limit, str(error)) from error
    finally:
        consumer.close()


def _partitions(consumer: Consumer, settings: KafkaSettings, *, timeout_s: float) -> list[int]:
    # All topics, never one by name: asking for one can create it.
    found = consumer.list_topics(timeout=timeout_s).topics.get(settings.results_topic)
    if found is None or not found.partitions:
        raise SettingsError(
            f"topic {settings.results_topic!r} does not exist at {settings.bootstrap_servers}: "
            "create it with `redrive topics create`"
        )
    return sorted(found.partitions)


def _silent(settings: KafkaSettings, limit: timedelta, why: str) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"Kafka at {settings.bootstrap_servers} did not say within {limit.total_seconds():g} s "
        f"where topic {settings.results_topic!r} ends: {why}. Check the address, and that it is up"
    )
