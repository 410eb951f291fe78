"""Kafka: the protocol's error codes (aiokafka has them too) and librdkafka's own, below zero."""

from __future__ import annotations

import re

from redrive.retry.kinds import Kind
from redrive.retry.rules.rule_verdict import RuleVerdict, ask, class_names, look_int, short_name

__all__ = ["CLASSES", "CODES", "ERRORS", "is_tls_refusal", "read_kafka"]

ERRORS = frozenset(
    {"aiokafka.KafkaError", "cimpl.KafkaException", "confluent_kafka.KafkaException"}
)

CLASSES: dict[str, Kind] = {
    "confluent_kafka.SerializationError": Kind.PERMANENT,
    "aiokafka.KafkaTimeoutError": Kind.TIMEOUT,
    "aiokafka.KafkaUnavailableError": Kind.TRANSIENT,
    "aiokafka.BrokerNotAvailableError": Kind.TRANSIENT,
    "aiokafka.QuotaViolationError": Kind.RATE_LIMITED,
    "aiokafka.ConsumerStoppedError": Kind.PERMANENT,
    "aiokafka.IllegalOperation": Kind.PERMANENT,
}

# librdkafka sets `retriable()` on some returned errors only, so the codes decide. Not in the table:
# what says nothing of a cause (_FAIL, UNKNOWN) and what is no error (_PARTITION_EOF).
CODES: dict[int, Kind] = {
    **dict.fromkeys(
        (
            -199,  # _BAD_MSG: damaged on its way, or what answers is no Kafka broker (yet)
            -195,  # _TRANSPORT
            -193,  # _RESOLVE: the broker's name, which may not be known yet
            *(
                -190,
                -188,
            ),  # _UNKNOWN_PARTITION, _UNKNOWN_TOPIC: also while a topic is being created
            -187,  # _ALL_BROKERS_DOWN
            -184,  # _QUEUE_FULL
            -183,  # _ISR_INSUFF
            -180,  # _WAIT_COORD
            *(-178, -177),  # _IN_PROGRESS, _PREV_IN_PROGRESS
            *(-167, -164, -163),  # _OUTDATED, _WAIT_CACHE, _INTR: of the client's own steps
            *(-158, -155),  # _PARTIAL, _UNDERFLOW: an answer that is cut short
            -153,  # _RETRY
            *(
                -152,
                -151,
            ),  # _PURGE_QUEUE, _PURGE_INFLIGHT: thrown out by an abort, to be sent again
            -147,  # _MAX_POLL_EXCEEDED: the next poll joins again
            -146,  # _UNKNOWN_BROKER: the client's metadata are old
            -138,  # _INVALID_DIFFERENT_RECORD: another one of its batch was the cause
            -137,  # _DESTROY_BROKER: the broker left the cluster
            2,  # INVALID_MSG: a checksum that does not fit, damaged on its way
            3,  # UNKNOWN_TOPIC_OR_PART: also while a topic is being created
            5,  # LEADER_NOT_AVAILABLE
            6,  # NOT_LEADER_FOR_PARTITION
            8,  # BROKER_NOT_AVAILABLE
            9,  # REPLICA_NOT_AVAILABLE
            11,  # STALE_CTRL_EPOCH
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
            77,  # STALE_BROKER_EPOCH
            78,  # OFFSET_NOT_AVAILABLE
            79,  # MEMBER_ID_REQUIRED: the broker gave one, to join with
            80,  # PREFERRED_LEADER_NOT_AVAILABLE
            83,  # ELIGIBLE_LEADERS_NOT_AVAILABLE
            88,  # UNSTABLE_OFFSET_COMMIT
            *(100, 103),  # UNKNOWN_TOPIC_ID, INCONSISTENT_TOPIC_ID: the client's metadata are old
            111,  # UNRELEASED_INSTANCE_ID: until the old member's session ends
            113,  # STALE_MEMBER_EPOCH
            120,  # TRANSACTION_ABORTABLE
            *(122, 123, 133),  # share sessions: not found, another epoch, too many
            129,  # REBOOTSTRAP_REQUIRED
        ),
        Kind.TRANSIENT,
    ),
    # _MSG_TIMED_OUT, _TIMED_OUT, _TIMED_OUT_QUEUE, REQUEST_TIMED_OUT
    **dict.fromkeys((-192, -185, -166, 7), Kind.TIMEOUT),
    89: Kind.RATE_LIMITED,  # THROTTLING_QUOTA_EXCEEDED
    **dict.fromkeys(
        (
            -198,  # _BAD_COMPRESSION
            -197,  # _DESTROY: the client was closed
            -189,  # _FS
            -186,  # _INVALID_ARG
            -181,  # _SSL: the handshake was refused; a connection that was cut is _TRANSPORT
            -179,  # _UNKNOWN_GROUP
            -176,  # _EXISTING_SUBSCRIPTION
            *(-173, -172, -171, -170),  # _CONFLICT, _STATE, _UNKNOWN_PROTOCOL, _NOT_IMPLEMENTED
            -169,  # _AUTHENTICATION
            -168,  # _NO_OFFSET
            -165,  # _UNSUPPORTED_FEATURE
            *(-162, -161, -160, -159),  # (de)serialization of keys and values
            *(-157, -156, -154),  # _READ_ONLY, _NOENT, _INVALID_TYPE
            -150,  # _FATAL
            *(-149, -148),  # _INCONSISTENT, _GAPLESS_GUARANTEE: the end of an idempotent producer
            -145,  # _NOT_CONFIGURED
            -144,  # _FENCED
            -142,  # _ASSIGNMENT_LOST
            *(-140, -139),  # _AUTO_OFFSET_RESET, _LOG_TRUNCATION
            1,  # OFFSET_OUT_OF_RANGE
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
            *(45, 46),  # OUT_OF_ORDER_SEQUENCE_NUMBER, DUPLICATE_SEQUENCE_NUMBER
            *(47, 48),  # INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE
            *(49, 50, 52, 53, 54),  # producer ids, transaction timeout, fenced, authorization
            *(57, 58, 59),  # LOG_DIR_NOT_FOUND, SASL_AUTHENTICATION_FAILED, UNKNOWN_PRODUCER_ID
            *range(61, 68),  # delegation tokens, principals
            *(68, 69, 73),  # NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, TOPIC_DELETION_DISABLED
            76,  # UNSUPPORTED_COMPRESSION_TYPE
            *(81, 82, 87, 90),  # group full, fenced instance, invalid record, fenced producer
            *(84, 85, 86),  # elections and reassignments that are none, a group that still reads
            *range(91, 98),  # resources, credentials, voters, features, principals
            *(110, 112),  # FENCED_MEMBER_EPOCH, UNSUPPORTED_ASSIGNOR
            *range(114, 120),  # endpoints, controllers, subscriptions, telemetry, registrations
            *(121, 124),  # INVALID_RECORD_STATE, FENCED_STATE_EPOCH
            *range(125, 129),  # voters, INVALID_REGULAR_EXPRESSION
            *(130, 131, 132),  # topologies of streams
        ),
        Kind.PERMANENT,
    ),
}

_TRANSPORT = -195
# Of a TLS alert that comes after the handshake, as with TLS 1.3 what refuses a client's certificate
# does, librdkafka tells as of a connection that was cut. These are refusals: handshake_failure,
# those of certificates, of access, of versions, of names.
_ALERT = re.compile(r"SSL alert number (\d+)")
_REFUSALS = frozenset({40, *range(42, 47), 48, 49, 70, 71, 112, 113, 116})
_AUTHENTICATION = -169
# Two things that librdkafka calls a failed authentication though nobody was refused: a connection
# that broke in the middle of it, and a service of tokens that cannot be reached.
_NOBODY_REFUSED = ("handshake failed: Local: ", "Failed to acquire SASL OAUTHBEARER token")


def is_tls_refusal(text: str) -> bool:
    """Say whether this is about a TLS alert that refuses who we are, or how we speak."""
    alert = _ALERT.search(text)
    return alert is not None and int(alert[1]) in _REFUSALS


def read_kafka(exc: BaseException) -> RuleVerdict | None:
    """Judge by the Kafka error code."""
    if "aiokafka.KafkaError" not in class_names(exc):
        return _read_confluent(exc)
    code = look_int(exc, "errno")
    return None if code is None else _by_code(code, short_name(exc))


def _read_confluent(exc: BaseException) -> RuleVerdict | None:
    error = exc.args[0] if exc.args else None
    code = ask(error, "code")
    if isinstance(code, bool) or not isinstance(code, int):
        return None
    name = ask(error, "name")
    title = name if isinstance(name, str) else str(code)
    if ask(error, "fatal") is True:
        return RuleVerdict(
            Kind.PERMANENT, "kafka:fatal", f"Kafka error {title} is fatal to its client"
        )
    if code == _AUTHENTICATION and any(part in str(ask(error, "str")) for part in _NOBODY_REFUSED):
        why = f"Kafka error {title} in which nobody was refused"
        return RuleVerdict(Kind.TRANSIENT, "kafka:not_asked", why)
    if code == _TRANSPORT and is_tls_refusal(str(ask(error, "str"))):
        why = "the TLS alert of a broker that refuses this client"
        return RuleVerdict(Kind.PERMANENT, "kafka:tls_alert", why)
    verdict = _by_code(code, title)
    if verdict is None and (
        ask(error, "retriable") is True or ask(error, "txn_requires_abort") is True
    ):
        return RuleVerdict(Kind.TRANSIENT, "kafka:retriable", f"Kafka error {title} is retriable")
    return verdict


def _by_code(code: int, title: str) -> RuleVerdict | None:
    kind = CODES.get(code)
    if kind is None:
        return None
    return RuleVerdict(kind, f"kafka:{code}", f"Kafka error {code} ({title}) is {kind.value}")
