"""Kafka: the protocol's error codes (aiokafka has them too) and librdkafka's own, below zero."""

from __future__ import annotations

from redrive.retry.kinds import Kind
from redrive.retry.rules.verdict import Verdict, class_names, look, look_int, short_name

__all__ = ["CLASSES", "CODES", "read_kafka"]

CLASSES: dict[str, Kind] = {
    "confluent_kafka.SerializationError": Kind.PERMANENT,
    "aiokafka.KafkaTimeoutError": Kind.TIMEOUT,
    "aiokafka.KafkaUnavailableError": Kind.TRANSIENT,
    "aiokafka.BrokerNotAvailableError": Kind.TRANSIENT,
    "aiokafka.QuotaViolationError": Kind.RATE_LIMITED,
    "aiokafka.ConsumerStoppedError": Kind.PERMANENT,
    "aiokafka.IllegalOperation": Kind.PERMANENT,
}

# librdkafka sets `retriable()` on some returned errors only, so the codes decide.
CODES: dict[int, Kind] = {
    **dict.fromkeys(
        (
            -195,  # _TRANSPORT
            -193,  # _RESOLVE: the broker's name, which may not be known yet
            -187,  # _ALL_BROKERS_DOWN
            -184,  # _QUEUE_FULL
            -180,  # _WAIT_COORD
            -177,  # _PREV_IN_PROGRESS
            -153,  # _RETRY
            2,  # INVALID_MSG: a checksum that does not fit, damaged on its way
            3,  # UNKNOWN_TOPIC_OR_PART: also while a topic is being created
            5,  # LEADER_NOT_AVAILABLE
            6,  # NOT_LEADER_FOR_PARTITION
            8,  # BROKER_NOT_AVAILABLE
            9,  # REPLICA_NOT_AVAILABLE
            13,  # NETWORK_EXCEPTION
            14,  # COORDINATOR_LOAD_IN_PROGRESS
            15,  # COORDINATOR_NOT_AVAILABLE
            16,  # NOT_COORDINATOR
            19,  # NOT_ENOUGH_REPLICAS
            20,  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
            27,  # REBALANCE_IN_PROGRESS
            41,  # NOT_CONTROLLER
            51,  # CONCURRENT_TRANSACTIONS
            56,  # KAFKA_STORAGE_ERROR
            60,  # REASSIGNMENT_IN_PROGRESS
            70,  # FETCH_SESSION_ID_NOT_FOUND
            71,  # INVALID_FETCH_SESSION_EPOCH
            72,  # LISTENER_NOT_FOUND
            74,  # FENCED_LEADER_EPOCH: the client's metadata are old
            75,  # UNKNOWN_LEADER_EPOCH
            78,  # OFFSET_NOT_AVAILABLE
            88,  # UNSTABLE_OFFSET_COMMIT
            120,  # TRANSACTION_ABORTABLE
        ),
        Kind.TRANSIENT,
    ),
    # _MSG_TIMED_OUT, _TIMED_OUT, _TIMED_OUT_QUEUE, REQUEST_TIMED_OUT
    **dict.fromkeys((-192, -185, -166, 7), Kind.TIMEOUT),
    89: Kind.RATE_LIMITED,  # THROTTLING_QUOTA_EXCEEDED
    **dict.fromkeys(
        (
            -186,  # _INVALID_ARG
            -172,  # _STATE
            -170,  # _NOT_IMPLEMENTED
            -169,  # _AUTHENTICATION
            -165,  # _UNSUPPORTED_FEATURE
            *(-162, -161, -160, -159),  # (de)serialization of keys and values
            -150,  # _FATAL
            -145,  # _NOT_CONFIGURED
            -144,  # _FENCED
            4,  # INVALID_MSG_SIZE
            10,  # MSG_SIZE_TOO_LARGE
            12,  # OFFSET_METADATA_TOO_LARGE
            17,  # TOPIC_EXCEPTION
            18,  # RECORD_LIST_TOO_LARGE
            *range(21, 27),  # acks, generations, groups, members, session timeouts that do not fit
            28,  # INVALID_COMMIT_OFFSET_SIZE
            *(29, 30, 31),  # authorization of topic, group, cluster
            *range(32, 41),  # timestamps, SASL, versions, topics that do not fit
            *(42, 43, 44),  # INVALID_REQUEST, UNSUPPORTED_FOR_MESSAGE_FORMAT, POLICY_VIOLATION
            47,  # INVALID_PRODUCER_EPOCH
            *(49, 50, 52, 53, 54),  # producer ids, transaction timeout, fenced, authorization
            58,  # SASL_AUTHENTICATION_FAILED
            *range(61, 68),  # delegation tokens, principals
            76,  # UNSUPPORTED_COMPRESSION_TYPE
            *(81, 82, 87, 90),  # group full, fenced instance, invalid record, fenced producer
            93,  # UNACCEPTABLE_CREDENTIAL
        ),
        Kind.PERMANENT,
    ),
}


def read_kafka(exc: BaseException) -> Verdict | None:
    """Judge by the Kafka error code."""
    names = class_names(exc)
    if "cimpl.KafkaException" in names or "confluent_kafka.KafkaException" in names:
        return _read_confluent(exc)
    if "aiokafka.KafkaError" in names:
        code = look_int(exc, "errno")
        return None if code is None else _by_code(code, short_name(exc))
    return None


def _read_confluent(exc: BaseException) -> Verdict | None:
    error = exc.args[0] if exc.args else None
    code = _ask(error, "code")
    if isinstance(code, bool) or not isinstance(code, int):
        return None
    name = _ask(error, "name")
    title = name if isinstance(name, str) else str(code)
    if _ask(error, "fatal") is True:
        return Verdict(Kind.PERMANENT, "kafka:fatal", f"Kafka error {title} is fatal to its client")
    verdict = _by_code(code, title)
    if verdict is None and (
        _ask(error, "retriable") is True or _ask(error, "txn_requires_abort") is True
    ):
        return Verdict(Kind.TRANSIENT, "kafka:retriable", f"Kafka error {title} is retriable")
    return verdict


def _by_code(code: int, title: str) -> Verdict | None:
    kind = CODES.get(code)
    if kind is None:
        return None
    return Verdict(kind, f"kafka:{code}", f"Kafka error {code} ({title}) is {kind.value}")


def _ask(error: object, name: str) -> object:
    method = look(error, name)
    if not callable(method):
        return None
    try:
        return method()
    except Exception:  # noqa: BLE001 - a call into someone else's class
        return None
