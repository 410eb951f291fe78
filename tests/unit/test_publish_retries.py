"""Publishing against producers that fail by script; the real broker is in tests/kafka."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError

from redrive.errors import KafkaUnavailableError, NotStoredError, SettingsError
from redrive.events import Payload, WorkflowEvent
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import Published, publish_event
from redrive.retry import Kind, classify
from redrive.testing import ManualClock

SETTINGS = KafkaSettings(bootstrap_servers="broker:9092")
EVENT = WorkflowEvent(
    event_id=str(uuid.uuid4()),
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    workflow_id="w",
    workflow_run_id="r",
    payload=Payload(data={}),
)
MINUTE = timedelta(minutes=1)
NO_LEADER = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
NO_TOPIC = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
WRONG_PASSWORD = KafkaError(KafkaError._AUTHENTICATION, "Invalid username or password")
SILENCE = None


class Stored:
    """Stands in for the message of a delivery report."""

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 17


class Broker:
    """Makes producers; each reports as the script says, and those after its end store."""

    def __init__(self, clock: ManualClock, *script: KafkaError | None) -> None:
        self._clock = clock
        self._script = list(script)
        self.says: KafkaError | None = None
        self.options: list[Mapping[str, object]] = []
        self.keys: list[bytes] = []
        self.purged = 0

    def make(self, config: Mapping[str, object], *, on_error: Callable[[KafkaError], None]) -> Any:  # noqa: ANN401 - stands in for a Producer
        self.options.append(config)
        report: KafkaError | Stored | None = self._script.pop(0) if self._script else Stored()
        return _Producer(self, self._clock, report, on_error)


class _Producer:
    def __init__(
        self,
        broker: Broker,
        clock: ManualClock,
        report: KafkaError | Stored | None,
        on_error: Callable[[KafkaError], None],
    ) -> None:
        self._broker, self._clock = broker, clock
        self._report, self._on_error = report, on_error
        self._deliver: Callable[..., None] = lambda *_: None

    def produce(
        self, _: str, *, key: bytes, on_delivery: Callable[..., None], **__: object
    ) -> None:
        self._broker.keys.append(key)
        self._deliver = on_delivery

    def poll(self, timeout: float) -> None:
        if self._broker.says is not None:
            self._on_error(self._broker.says)
        elif self._report is SILENCE:
            self._clock.advance(timeout)
        elif isinstance(self._report, Stored):
            self._deliver(None, self._report)
        else:
            self._deliver(self._report, None)

    def purge(self) -> None:
        self._broker.purged += 1


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def publish(broker: Broker, clock: ManualClock) -> Published:
    return publish_event(SETTINGS, EVENT, timeout=MINUTE, clock=clock, make=broker.make)


def test_what_can_pass_is_tried_again_with_the_same_id_and_less_time(clock: ManualClock) -> None:
    broker = Broker(clock, NO_LEADER, NO_LEADER)

    assert publish(broker, clock) == Published("workflow-events", 3, 17)

    assert broker.keys == [EVENT.event_id.encode()] * 3
    assert clock.sleeps == pytest.approx([0.075, 0.15])
    limits = [options["message.timeout.ms"] for options in broker.options]
    assert limits == [60_000, 59_925, 59_775]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TOO_LARGE, "max.message.bytes"),
        (DENIED, "kafka-acls.sh"),
        (NO_TOPIC, "redrive topics create"),
    ],
    ids=["size", "rights", "topic"],
)
def test_what_cannot_pass_fails_at_once_and_says_what_to_do(
    error: KafkaError, words: str, clock: ManualClock
) -> None:
    broker = Broker(clock, error)

    with pytest.raises(NotStoredError, match=words) as failed:
        publish(broker, clock)

    assert len(broker.options) == 1
    assert clock.sleeps == []
    assert classify(failed.value).kind is Kind.PERMANENT


def test_who_is_not_let_in_hears_it_at_once(clock: ManualClock) -> None:
    broker = Broker(clock)
    broker.says = WRONG_PASSWORD

    with pytest.raises(SettingsError, match=r"Invalid username .*sasl\.password"):
        publish(broker, clock)

    assert broker.purged == 1
    assert clock.monotonic() == 0


def test_a_broker_that_says_nothing_is_given_up_at_the_limit(clock: ManualClock) -> None:
    broker = Broker(clock, SILENCE)

    with pytest.raises(KafkaUnavailableError, match="within 60 s: no delivery report"):
        publish(broker, clock)

    assert broker.purged == 1
    assert clock.monotonic() == 65


def test_a_failure_that_does_not_pass_in_time_may_be_sent_again_later(clock: ManualClock) -> None:
    broker = Broker(clock, *[NO_LEADER] * 200)

    with pytest.raises(NotStoredError, match="Leader not available") as failed:
        publish(broker, clock)

    assert clock.monotonic() <= 60
    assert classify(failed.value).kind is Kind.TRANSIENT
