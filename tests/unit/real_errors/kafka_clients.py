"""What the two Kafka clients raise: against no broker at all, and with the codes of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiokafka  # type: ignore[import-untyped] # it has none
import aiokafka.errors  # type: ignore[import-untyped] # it has none
import confluent_kafka
import confluent_kafka.serialization
from tests.unit.real_errors.conftest import HOST, IMPATIENCE_S, PATIENCE_S, Row, Service

from redrive.retry import Kind

KAFKA_CODES = {
    "_TRANSPORT": Kind.TRANSIENT,
    "_ALL_BROKERS_DOWN": Kind.TRANSIENT,
    "_QUEUE_FULL": Kind.TRANSIENT,
    "LEADER_NOT_AVAILABLE": Kind.TRANSIENT,
    "NOT_LEADER_FOR_PARTITION": Kind.TRANSIENT,
    "REBALANCE_IN_PROGRESS": Kind.TRANSIENT,
    "NOT_ENOUGH_REPLICAS": Kind.TRANSIENT,
    "_MSG_TIMED_OUT": Kind.TIMEOUT,
    "REQUEST_TIMED_OUT": Kind.TIMEOUT,
    "THROTTLING_QUOTA_EXCEEDED": Kind.RATE_LIMITED,
    "_FENCED": Kind.PERMANENT,
    "MSG_SIZE_TOO_LARGE": Kind.PERMANENT,
    "TOPIC_AUTHORIZATION_FAILED": Kind.PERMANENT,
    "SASL_AUTHENTICATION_FAILED": Kind.PERMANENT,
}
AIOKAFKA_CLASSES = {
    "NotLeaderForPartitionError": Kind.TRANSIENT,
    "CoordinatorNotAvailableError": Kind.TRANSIENT,
    "RequestTimedOutError": Kind.TIMEOUT,
    "KafkaTimeoutError": Kind.TIMEOUT,
    "MessageSizeTooLargeError": Kind.PERMANENT,
    "TopicAuthorizationFailedError": Kind.PERMANENT,
    "ProducerFenced": Kind.PERMANENT,
}


def _producer(service: Service, **settings: str | int) -> confluent_kafka.Producer:
    address = f"{HOST}:{service.closed_port}"
    settings = {"bootstrap.servers": address, "log_level": 0, **settings}
    return confluent_kafka.Producer(settings)


def _fill_a_producer(service: Service) -> None:
    producer = _producer(service, **{"queue.buffering.max.messages": 1})
    try:
        for _ in range(2):
            producer.produce("t", b"x")
    finally:
        producer.purge()
        producer.flush(PATIENCE_S)


def _start_aiokafka(service: Service) -> None:
    async def start() -> None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=f"{HOST}:{service.closed_port}")
        try:
            await producer.start()
        finally:
            await producer.stop()

    asyncio.run(start())


def _confluent_row(name: str, kind: Kind) -> Row:
    def fail(_service: Service) -> None:
        code = getattr(confluent_kafka.KafkaError, name)
        raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(code))

    return Row("confluent_kafka", name, fail, kind, raised_by=("cimpl",))


def _aiokafka_row(name: str, kind: Kind) -> Row:
    def fail(_service: Service) -> None:
        raise getattr(aiokafka.errors, name)

    return Row("aiokafka", name, fail, kind)


def _made(
    case: str, fail: Callable[[Service], object], kind: Kind, raised_by: str = "cimpl"
) -> Row:
    return Row("confluent_kafka", case, fail, kind, raised_by=(raised_by,))


ROWS = [
    *(_confluent_row(name, kind) for name, kind in KAFKA_CODES.items()),
    _made(
        "refused",
        lambda service: _producer(service).list_topics(timeout=IMPATIENCE_S),
        Kind.TRANSIENT,
    ),
    _made(
        "no-answer",
        lambda service: _producer(service, **{"transactional.id": "t"}).init_transactions(
            IMPATIENCE_S
        ),
        Kind.TIMEOUT,
    ),
    _made(
        "out-of-turn",
        lambda service: _producer(service, **{"transactional.id": "t"}).begin_transaction(),
        Kind.PERMANENT,
    ),
    _made("no-such-setting", lambda service: _producer(service, none=1), Kind.PERMANENT),
    _made(
        "too-large",
        lambda service: _producer(service).produce("t", b"x" * 2_000_000),
        Kind.PERMANENT,
    ),
    _made("queue-full", _fill_a_producer, Kind.TRANSIENT, "builtins"),
    _made(
        "not-serializable",
        lambda _: confluent_kafka.serialization.StringSerializer("ascii")("\u00e9"),
        Kind.PERMANENT,
        "confluent_kafka",
    ),
    *(_aiokafka_row(name, kind) for name, kind in AIOKAFKA_CLASSES.items()),
    Row("aiokafka", "refused", _start_aiokafka, Kind.TRANSIENT),
]
