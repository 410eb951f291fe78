"""Judging what the two Kafka clients raise."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.error import ProduceError
from tests.rows import rows

from redrive.retry import Kind, classify
from redrive.retry.rules.kafka import CODES

aiokafka = pytest.importorskip("aiokafka.errors", reason="aiokafka is not installed")


@rows(
    ("name", "kind"),
    [
        ("_TRANSPORT", Kind.TRANSIENT),
        ("_ALL_BROKERS_DOWN", Kind.TRANSIENT),
        ("_RESOLVE", Kind.TRANSIENT),
        ("_QUEUE_FULL", Kind.TRANSIENT),
        ("_TIMED_OUT", Kind.TIMEOUT),
        ("_MSG_TIMED_OUT", Kind.TIMEOUT),
        ("REQUEST_TIMED_OUT", Kind.TIMEOUT),
        ("LEADER_NOT_AVAILABLE", Kind.TRANSIENT),
        ("NOT_LEADER_FOR_PARTITION", Kind.TRANSIENT),
        ("NETWORK_EXCEPTION", Kind.TRANSIENT),
        ("COORDINATOR_NOT_AVAILABLE", Kind.TRANSIENT),
        ("NOT_COORDINATOR", Kind.TRANSIENT),
        ("NOT_ENOUGH_REPLICAS", Kind.TRANSIENT),
        ("REBALANCE_IN_PROGRESS", Kind.TRANSIENT),
        ("CONCURRENT_TRANSACTIONS", Kind.TRANSIENT),
        ("UNKNOWN_TOPIC_OR_PART", Kind.TRANSIENT),
        ("THROTTLING_QUOTA_EXCEEDED", Kind.RATE_LIMITED),
        ("_FENCED", Kind.PERMANENT),
        ("_FATAL", Kind.PERMANENT),
        ("_AUTHENTICATION", Kind.PERMANENT),
        ("SASL_AUTHENTICATION_FAILED", Kind.PERMANENT),
        ("TOPIC_AUTHORIZATION_FAILED", Kind.PERMANENT),
        ("GROUP_AUTHORIZATION_FAILED", Kind.PERMANENT),
        ("MSG_SIZE_TOO_LARGE", Kind.PERMANENT),
        ("RECORD_LIST_TOO_LARGE", Kind.PERMANENT),
        ("OFFSET_METADATA_TOO_LARGE", Kind.PERMANENT),
        ("INVALID_CONFIG", Kind.PERMANENT),
        ("PRODUCER_FENCED", Kind.PERMANENT),
        ("_SSL", Kind.PERMANENT),
        ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Kind.PERMANENT),
        ("_INVALID_DIFFERENT_RECORD", Kind.TRANSIENT),
        ("UNKNOWN", Kind.UNKNOWN),
        ("_FAIL", Kind.UNKNOWN),
    ],
)
def test_librdkafkas_code_decides(name: str, kind: Kind) -> None:
    error = KafkaError(getattr(KafkaError, name))

    assert classify(KafkaException(error)).kind is kind
    assert classify(ProduceError(error)).kind is kind


def test_every_code_of_the_client_is_judged_but_for_those_that_name_no_cause() -> None:
    names = {name for name in dir(KafkaError) if name.isupper()}

    unjudged = {name for name in names if getattr(KafkaError, name) not in CODES}

    assert unjudged == {
        *("NO_ERROR", "_NOOP", "_PARTITION_EOF"),
        *("_ASSIGN_PARTITIONS", "_REVOKE_PARTITIONS", "_NODE_UPDATE"),
        *("UNKNOWN", "_APPLICATION", "_CRIT_SYS_RESOURCE", "_FAIL", "OPERATION_NOT_ATTEMPTED"),
    }


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SASL authentication error: Authentication failed: Invalid password", Kind.PERMANENT),
        (
            "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism",
            Kind.PERMANENT,
        ),
        (
            "SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's",
            Kind.TRANSIENT,
        ),
        (
            "Failed to acquire SASL OAUTHBEARER token: Failed to connect to idp:443",
            Kind.TRANSIENT,
        ),
    ],
)
def test_an_authentication_that_nobody_refused_is_transient(text: str, kind: Kind) -> None:
    error = KafkaError(KafkaError._AUTHENTICATION, text)

    assert classify(KafkaException(error)).kind is kind


def test_an_error_that_is_fatal_to_its_client_is_permanent() -> None:
    error = KafkaError(KafkaError._TRANSPORT, "gone", fatal=True)

    assert classify(KafkaException(error)).kind is Kind.PERMANENT


def test_an_error_that_librdkafka_calls_retriable_is_transient() -> None:
    unlisted = KafkaError(KafkaError._FAIL, "odd", retriable=True)
    abortable = KafkaError(KafkaError._FAIL, "odd", txn_requires_abort=True)

    assert classify(KafkaException(unlisted)).kind is Kind.TRANSIENT
    assert classify(KafkaException(abortable)).kind is Kind.TRANSIENT


def test_a_kafka_exception_without_an_error_is_unknown() -> None:
    assert classify(KafkaException()).kind is Kind.UNKNOWN
    assert classify(KafkaException("text")).kind is Kind.UNKNOWN


@rows(
    ("name", "kind"),
    [
        ("KafkaConnectionError", Kind.TRANSIENT),
        ("NoBrokersAvailable", Kind.TRANSIENT),
        ("NotLeaderForPartitionError", Kind.TRANSIENT),
        ("LeaderNotAvailableError", Kind.TRANSIENT),
        ("CoordinatorNotAvailableError", Kind.TRANSIENT),
        ("NotEnoughReplicasError", Kind.TRANSIENT),
        ("StaleMetadata", Kind.TRANSIENT),
        # aiokafka calls this one not retriable; after the rebalance it is.
        ("RebalanceInProgressError", Kind.TRANSIENT),
        ("KafkaUnavailableError", Kind.TRANSIENT),
        ("RequestTimedOutError", Kind.TIMEOUT),
        ("KafkaTimeoutError", Kind.TIMEOUT),
        ("TopicAuthorizationFailedError", Kind.PERMANENT),
        ("MessageSizeTooLargeError", Kind.PERMANENT),
        ("SaslAuthenticationFailed", Kind.PERMANENT),
        ("AuthenticationFailedError", Kind.PERMANENT),
        ("ProducerFenced", Kind.PERMANENT),
        ("IllegalStateError", Kind.PERMANENT),
        ("ConsumerStoppedError", Kind.PERMANENT),
    ],
)
def test_aiokafkas_code_or_word_decides(name: str, kind: Kind) -> None:
    assert classify(getattr(aiokafka, name)()).kind is kind
