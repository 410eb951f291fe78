"""Where the results topic ends: asked before an event is published, so that no answer is missed."""

from __future__ import annotations

from datetime import timedelta

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError, SettingsError
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.retrying import Said, ask, error_of, until, with_advice
from redrive.retry import retry

__all__ = ["end_offsets"]

LEAST_S = 0.1
_STEP_S = 3.0


def end_offsets(
    settings: KafkaSettings, *, timeout: timedelta | None = None, clock: Clock = SYSTEM
) -> dict[int, int]:
    """Return, per partition of the results topic, the offset that the next result can get.

    Raises:
        KafkaUnavailableError: The broker did not answer within `timeout` (by default
            `kafka.startup_timeout`).
        SettingsError: The topic does not exist, the client's options cannot work, or the broker
            refuses who we say we are.
    """
    limit = timeout or settings.startup_timeout
    deadline = clock.monotonic() + limit.total_seconds()
    said = Said(settings.bootstrap_servers)
    consumer = make_consumer(reader_config(settings), on_error=said)
    ends: dict[int, int] = {}

    def step_s() -> float:
        return max(LEAST_S, min(_STEP_S, deadline - clock.monotonic()))

    def find() -> None:
        for partition in _partitions(consumer, settings, timeout_s=step_s()):
            if partition not in ends:
                ends[partition] = _end(consumer, settings, partition, timeout_s=step_s())

    policy = until(limit.total_seconds(), asking="where the results end", clock=clock)
    try:
        retry(policy)(lambda: ask(consumer, said, find))()
    except KafkaException as error:
        raise _silent(settings, limit, with_advice(error_of(error))) from error
    finally:
        consumer.close()
    return ends


def _partitions(consumer: Consumer, settings: KafkaSettings, *, timeout_s: float) -> list[int]:
    # All topics, never one by name: asking for one can create it.
    found = consumer.list_topics(timeout=timeout_s).topics.get(settings.results_topic)
    if found is None or not found.partitions:
        raise SettingsError(
            f"topic {settings.results_topic!r} does not exist at {settings.bootstrap_servers}: "
            "create it with `redrive topics create`"
        )
    return sorted(found.partitions)


def _end(consumer: Consumer, settings: KafkaSettings, partition: int, *, timeout_s: float) -> int:
    tp = KafkaTopicPartition(settings.results_topic, partition)
    marks = consumer.get_watermark_offsets(tp, timeout=timeout_s, cached=False)
    if marks is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return marks[1]


def _silent(settings: KafkaSettings, limit: timedelta, why: str) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"Kafka at {settings.bootstrap_servers} did not say within {limit.total_seconds():g} s "
        f"where topic {settings.results_topic!r} ends: {why}. Check the address, and that it is up"
    )
