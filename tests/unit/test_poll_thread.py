"""The poll thread against a consumer that meets errors by script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError

from redrive.clock import SYSTEM
from redrive.errors import FencedError, KafkaLostError, SettingsError
from redrive.kafka.log import Log, Place, PollThread, Pulse, Record

FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID)
# How librdkafka tells an idle member: the code says fatal, the flag does not, the text says why.
FATAL_FENCED = KafkaError(KafkaError._FATAL, f"Fatal error: {FENCED.str()}")  # noqa: SLF001
FATAL = KafkaError(KafkaError._FATAL, "Fatal error: something else")  # noqa: SLF001
NO_RIGHT = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
PASSING = KafkaError(KafkaError._ALL_BROKERS_DOWN)  # noqa: SLF001


class ErrorMessage:
    """What a poll returns in the place of a record."""

    def __init__(self, error: KafkaError) -> None:
        self._error = error

    def error(self) -> KafkaError:
        return self._error


class ScriptedConsumer:
    """Returns one error, by a poll or by the callback for errors; else nothing."""

    def __init__(self, *, polled: KafkaError | None, told: KafkaError | None) -> None:
        self._polled = polled
        self._told = told
        self.on_error: Callable[[KafkaError], None] = lambda _: None
        self.closed = False

    def subscribe(self, *_: object, **__: object) -> None: ...

    def poll(self, timeout: float) -> ErrorMessage | None:
        SYSTEM.block(min(timeout, 0.001))
        told, self._told = self._told, None
        if told is not None:
            self.on_error(told)
        polled, self._polled = self._polled, None
        return None if polled is None else ErrorMessage(polled)

    def consume(self, *_: object) -> list[ErrorMessage]:
        return []

    def close(self) -> None:
        self.closed = True


class Member(ScriptedConsumer):
    """Joins the group, and then meets these errors."""

    def __init__(self, *errors: KafkaError) -> None:
        super().__init__(polled=None, told=None)
        self._errors = list(errors)

    def subscribe(self, *_: object, **callbacks: object) -> None:
        on_assign = callbacks["on_assign"]
        assert callable(on_assign)
        on_assign(self, [])

    def assign(self, _: object) -> None: ...

    def poll(self, timeout: float) -> ErrorMessage | None:
        del timeout
        return ErrorMessage(self._errors.pop(0))


class Idle:
    """A listener with nothing to do."""

    def assigned(self, kafka: Log, places: Sequence[Place]) -> None: ...

    def revoked(self, kafka: Log, places: Sequence[Place], *, lost: bool) -> None: ...

    def received(self, records: Sequence[Record]) -> None: ...

    def turn(self, kafka: Log, *, gap_s: float) -> float:
        del kafka, gap_s
        return 0.001

    def commit_ended(self, places: Sequence[Place], error: KafkaError | None) -> None: ...


def end_of(consumer: ScriptedConsumer, *, within_s: float) -> BaseException | None:
    """Run the thread; return what ended it, or None when it went on."""
    ends: list[BaseException | None] = []
    ended = threading.Event()

    def make(_: Mapping[str, object], on_error: Callable[[KafkaError], None]) -> Any:  # noqa: ANN401
        consumer.on_error = on_error
        return consumer

    def end(error: BaseException | None) -> None:
        ends.append(error)
        ended.set()

    thread = PollThread(make, topics=["events"], listener=Idle(), pulse=Pulse(SYSTEM), ended=end)
    thread.start()
    ended.wait(within_s)
    thread.stop()
    assert thread.join(5)
    assert consumer.closed
    return ends[0]


@pytest.mark.invariant("P2")
@pytest.mark.parametrize("error", [FENCED, FATAL_FENCED], ids=["its code", "fatal"])
@pytest.mark.parametrize("way", ["polled", "told"])
def test_a_member_that_another_one_replaced_ends(way: str, error: KafkaError) -> None:
    consumer = ScriptedConsumer(**{"polled": None, "told": None, way: error})

    assert isinstance(end_of(consumer, within_s=5), FencedError)


@pytest.mark.parametrize("way", ["polled", "told"])
def test_a_fatal_error_of_another_kind_ends_the_thread_and_is_told(way: str) -> None:
    consumer = ScriptedConsumer(**{"polled": None, "told": None, way: FATAL})

    found = end_of(consumer, within_s=5)

    assert isinstance(found, KafkaLostError)
    assert "something else" in str(found)


@pytest.mark.invariant("P7")
@pytest.mark.parametrize("way", ["polled", "told"])
def test_an_error_that_passes_does_not_end_the_thread(way: str) -> None:
    consumer = ScriptedConsumer(**{"polled": None, "told": None, way: PASSING})

    assert end_of(consumer, within_s=0.1) is None


def test_a_worker_that_may_not_join_the_group_ends_and_says_what_to_do() -> None:
    found = end_of(ScriptedConsumer(polled=NO_RIGHT, told=None), within_s=5)

    assert isinstance(found, SettingsError)
    assert "kafka.group_id" in str(found)


def test_a_member_whose_rights_are_taken_away_goes_on_and_says_what_to_do() -> None:
    with structlog.testing.capture_logs() as logs:
        found = end_of(Member(NO_RIGHT, FATAL), within_s=5)

    assert isinstance(found, KafkaLostError)
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("kafka.consumer_refused", "error")
    assert "kafka.group_id" in line["advice"]


def test_a_thread_that_was_never_started_has_ended() -> None:
    def make(*_: object) -> Any:  # noqa: ANN401 - stands in for a Consumer
        raise AssertionError

    thread = PollThread(
        make, topics=["events"], listener=Idle(), pulse=Pulse(SYSTEM), ended=lambda _: None
    )
    thread.stop()

    assert thread.join(5)
