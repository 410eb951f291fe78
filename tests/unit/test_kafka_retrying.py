"""How whatever is asked of Kafka is asked again, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException
from tests.rows import rows

from redrive.errors import SettingsError
from redrive.kafka.retrying import Said, advice, is_permanent, until, with_advice
from redrive.retry import retry
from redrive.testing import ManualClock

DOWN = KafkaError(KafkaError._TRANSPORT, "connection refused")
ALL_DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
WRONG_PASSWORD = KafkaError(KafkaError._AUTHENTICATION, "Invalid username or password")
DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
ODD = KafkaError(KafkaError.UNKNOWN)


def fails_with(*errors: KafkaError) -> Callable[[], str]:
    """Return a call that raises these, one after the other, and then answers."""
    left = list(errors)

    def call() -> str:
        if left:
            raise KafkaException(left.pop(0))
        return "answer"

    return call


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_what_can_pass_is_asked_again_with_growing_waits(clock: ManualClock) -> None:
    policy = until(60, asking="x", clock=clock)

    assert retry(policy)(fails_with(*[DOWN] * 7))() == "answer"

    # The middle of the upper half of 0.1, doubling to 2.
    assert clock.sleeps == pytest.approx([0.075, 0.15, 0.3, 0.6, 1.2, 1.5, 1.5])


def test_an_error_that_nobody_knows_is_asked_again_as_well(clock: ManualClock) -> None:
    assert retry(until(60, asking="x", clock=clock))(fails_with(*[ODD] * 3))() == "answer"


@pytest.mark.parametrize("error", [WRONG_PASSWORD, DENIED], ids=["authentication", "rights"])
def test_what_cannot_pass_is_raised_at_once(error: KafkaError, clock: ManualClock) -> None:
    with pytest.raises(KafkaException):
        retry(until(60, asking="x", clock=clock))(fails_with(error))()

    assert clock.sleeps == []


def test_no_try_begins_after_the_limit(clock: ManualClock) -> None:
    with pytest.raises(KafkaException):
        retry(until(3, asking="x", clock=clock))(fails_with(*[DOWN] * 100))()

    assert 1 < clock.monotonic() <= 3


def test_an_error_of_our_own_is_not_asked_again(clock: ManualClock) -> None:
    def call() -> str:
        raise SettingsError("the topic does not exist")

    with pytest.raises(SettingsError):
        retry(until(60, asking="x", clock=clock))(call)()

    assert clock.sleeps == []


def test_each_wait_is_one_line_of_the_log(clock: ManualClock) -> None:
    with structlog.testing.capture_logs() as logs:
        retry(until(60, asking="for topics", clock=clock))(fails_with(DOWN, DOWN))()

    assert [(line["event"], line["attempt"], line["after_s"]) for line in logs] == [
        ("kafka.asked_again", 1, 0.08),
        ("kafka.asked_again", 2, 0.15),
    ]
    assert {(line["asking"], line["kind"], line["error"]) for line in logs} == {
        ("for topics", "transient", "connection refused")
    }


def test_a_refusal_is_found_among_what_the_client_said() -> None:
    said = Said("broker:9092")
    for error in (ALL_DOWN, WRONG_PASSWORD, ALL_DOWN, DOWN):
        said(error)

    refusal = str(said.refusal)
    assert refusal.startswith("Kafka at broker:9092 refuses this client: Invalid username")
    assert "sasl.username and sasl.password in kafka.config" in refusal


def test_what_was_said_before_does_not_count_for_the_next_call() -> None:
    said = Said("broker:9092")
    said(WRONG_PASSWORD)

    said.forget()

    assert said.refusal is None


def test_the_cause_of_silence_is_the_last_error_that_tells_something() -> None:
    said, silent = Said("broker:9092"), KafkaError(KafkaError._TIMED_OUT)
    assert said.cause(silent) is silent

    for error in (DOWN, ALL_DOWN):
        said(error)

    assert said.cause(silent) is DOWN
    assert said.refusal is None


@rows(
    ("name", "words"),
    [
        ("_AUTHENTICATION", "sasl.password"),
        ("SASL_AUTHENTICATION_FAILED", "sasl.password"),
        ("UNSUPPORTED_SASL_MECHANISM", "sasl.mechanism"),
        ("_SSL", "ssl.ca.location"),
        ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "--transactional-id"),
        ("CLUSTER_AUTHORIZATION_FAILED", "IdempotentWrite"),
        ("GROUP_AUTHORIZATION_FAILED", "kafka.group_id"),
        ("TOPIC_AUTHORIZATION_FAILED", "kafka-acls.sh"),
        ("MSG_SIZE_TOO_LARGE", "max.message.bytes"),
        ("UNKNOWN_TOPIC_OR_PART", "redrive topics create"),
        ("INVALID_TRANSACTION_TIMEOUT", "kafka.transaction_timeout"),
    ],
)
def test_advice_names_what_to_change(name: str, words: str) -> None:
    error = KafkaError(getattr(KafkaError, name))

    assert words in (advice(error) or "")
    assert with_advice(error) == f"{error.str()}: {advice(error)}"


def test_where_waiting_is_all_there_is_no_advice_is_given() -> None:
    assert advice(DOWN) is None
    assert with_advice(DOWN) == "connection refused"
    assert not is_permanent(DOWN)


ALERT = (
    "Receive failed: error:0A000416:SSL routines::ssl/tls alert {}: SSL alert number {} (after 2ms)"
)


@rows(
    ("name", "number", "refuses"),
    [
        ("certificate unknown", 46, True),
        ("certificate expired", 45, True),
        ("unknown ca", 48, True),
        ("certificate required", 116, True),
        ("internal error", 80, False),
        ("bad record mac", 20, False),
    ],
)
def test_a_tls_alert_that_refuses_a_certificate_is_no_cut_connection(
    name: str,
    number: int,
    refuses: bool,  # noqa: FBT001 - a row's
) -> None:
    error = KafkaError(KafkaError._TRANSPORT, ALERT.format(name, number))

    assert is_permanent(error) == refuses
    assert ("ssl.certificate.location" in with_advice(error)) == refuses
