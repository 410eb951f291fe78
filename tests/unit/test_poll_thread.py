"""The poll thread against a consumer that meets errors by script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.clock import SYSTEM
from redrive.errors import FencedError, KafkaLostError, SettingsError
from redrive.kafka.log import ConsumerRecord, Log, PollThread, Pulse, TopicPartition
from redrive.kafka.static_membership import ECHO_S, HELD_S, StaticMembership
from redrive.testing import ManualClock

FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID)
# How librdkafka tells an idle member: the code says fatal, the flag does not, the text says why.
FATAL_FENCED = KafkaError(KafkaError._FATAL, f"Fatal error: {FENCED.str()}")
HELD_TEXT = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()
HELD = KafkaError(KafkaError._FATAL, f"Fatal error: {HELD_TEXT}")
OLD_TEXT = KafkaError(KafkaError.UNSUPPORTED_VERSION).str()
TOO_OLD = KafkaError(KafkaError._FATAL, f"Fatal error: {OLD_TEXT}: Heartbeat")
FATAL = KafkaError(KafkaError._FATAL, "Fatal error: something else")
NO_RIGHT = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
PASSING = KafkaError(KafkaError._ALL_BROKERS_DOWN)


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

    def assigned(self, kafka: Log, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        del kafka, tps
        return {}

    def fetching(self, kafka: Log) -> None: ...

    def revoked(self, kafka: Log, tps: Sequence[TopicPartition], *, lost: bool) -> None: ...

    def joins_anew(self, *, fenced: bool) -> None: ...

    def received(self, records: Sequence[ConsumerRecord]) -> None: ...

    def reached_end(self, ends: Mapping[TopicPartition, int]) -> None: ...

    def turn(self, kafka: Log, *, gap_s: float) -> float:
        del kafka, gap_s
        return 0.001

    def commit_ended(self, tps: Sequence[TopicPartition], error: KafkaError | None) -> None: ...


def membership(*, taken_s: float | None = None) -> StaticMembership:
    """Return one that was taken so many seconds ago, or never."""
    clock = ManualClock()
    made = StaticMembership(clock)
    if taken_s is not None:
        made.taken()
        clock.advance(taken_s)
    return made


def end_of(
    *consumers: ScriptedConsumer,
    within_s: float,
    membership: StaticMembership | None = None,
    listener: Idle | None = None,
    incremental: bool = False,
    pulse: Pulse | None = None,
    away_s: Callable[[], float] = lambda: 0.0,
) -> BaseException | None:
    """Run the thread with one consumer after the other; return its error, None if it went on."""
    made = list(consumers)
    ends: list[BaseException | None] = []
    ended = threading.Event()

    def make(_: Mapping[str, object], on_error: Callable[[KafkaError], None]) -> Any:  # noqa: ANN401
        consumer = made.pop(0)
        consumer.on_error = on_error
        return consumer

    def end(error: BaseException | None) -> None:
        ends.append(error)
        ended.set()

    thread = PollThread(
        make,
        topics=["events"],
        listener=listener or Idle(),
        pulse=pulse or Pulse(SYSTEM),
        membership=membership or StaticMembership(SYSTEM),
        incremental=incremental,
        away_s=away_s,
        away_limit_s=45.0,
        ended=end,
    )
    thread.start()
    ended.wait(within_s)
    thread.stop()
    assert thread.join(5)
    assert all(consumer.closed for consumer in consumers)
    return ends[0]


@pytest.mark.invariant("P2")
@pytest.mark.parametrize("error", [FENCED, FATAL_FENCED], ids=["its code", "fatal"])
@pytest.mark.parametrize("way", ["polled", "told"])
def test_a_member_that_another_one_replaced_ends(way: str, error: KafkaError) -> None:
    consumer = ScriptedConsumer(**{"polled": None, "told": None, way: error})

    found = end_of(consumer, within_s=5, membership=membership(taken_s=ECHO_S + 1))

    assert isinstance(found, FencedError)


@pytest.mark.invariant("P1")
@pytest.mark.parametrize("way", ["polled", "told"])
@pytest.mark.parametrize("taken_s", [None, ECHO_S], ids=["joining", "joined just now"])
def test_a_member_that_may_have_been_fenced_by_its_own_joining_joins_once_more(
    taken_s: float | None, way: str
) -> None:
    fenced = [ScriptedConsumer(**{"polled": None, "told": None, way: FENCED}) for _ in range(2)]

    with structlog.testing.capture_logs() as logs:
        found = end_of(*fenced, within_s=5, membership=membership(taken_s=taken_s))

    assert isinstance(found, FencedError)
    assert [line["event"] for line in logs] == ["kafka.joining_again"]


@pytest.mark.invariant("P1", "P3")
def test_partitions_of_a_member_that_joins_once_more_are_given_up_once() -> None:
    told: list[tuple[str, list[int]]] = []

    class Noting(Idle):
        def assigned(self, kafka: Log, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            told.append(("assigned", [tp.partition for tp in tps]))
            return super().assigned(kafka, tps)

        def revoked(self, kafka: Log, tps: Sequence[TopicPartition], *, lost: bool) -> None:
            del kafka
            told.append((f"revoked {lost=}", [tp.partition for tp in tps]))

        def joins_anew(self, *, fenced: bool) -> None:
            told.append((f"joins anew {fenced=}", []))

    class Holder(Member):
        def subscribe(self, *_: object, **callbacks: Any) -> None:
            self._callbacks = callbacks
            callbacks["on_assign"](
                self, [KafkaTopicPartition("events", 0), KafkaTopicPartition("events", 1)]
            )

        def close(self) -> None:
            super().close()
            self._callbacks["on_lost"](
                self, [KafkaTopicPartition("events", 0), KafkaTopicPartition("events", 1)]
            )

    end_of(Holder(FENCED), Holder(FATAL), within_s=5, membership=membership(), listener=Noting())

    lost = ("revoked lost=True", [0, 1])
    anew: tuple[str, list[int]] = ("joins anew fenced=True", [])
    assert told == [("assigned", [0, 1]), lost, anew, ("assigned", [0, 1]), lost]


def test_each_silence_lets_a_member_join_once_more_and_only_soon_after() -> None:
    clock = ManualClock()
    mine = StaticMembership(clock)

    first = [mine.may_join_again(), mine.may_join_again()]
    mine.lost()
    mine.taken()
    second = [mine.may_join_again(), mine.may_join_again()]
    mine.lost()
    mine.taken()
    clock.advance(ECHO_S + 1)

    assert (first, second) == ([True, False], [True, False])
    assert not mine.may_join_again()


@pytest.mark.invariant("P1")
@pytest.mark.parametrize("way", ["polled", "told"])
def test_a_member_whose_seat_a_dead_one_may_hold_waits_for_it(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redrive.kafka.log._ASK_AGAIN_S", 0.001)
    refused = [ScriptedConsumer(**{"polled": None, "told": None, way: HELD}) for _ in range(3)]

    with structlog.testing.capture_logs() as logs:
        found = end_of(*refused, Member(FATAL), within_s=5, membership=membership())

    assert isinstance(found, KafkaLostError)
    assert [line["event"] for line in logs] == ["kafka.waiting_for_seat"] * 3


@pytest.mark.invariant("P2")
def test_a_seat_that_is_held_for_longer_than_a_session_lasts_is_a_living_workers() -> None:
    clock = ManualClock()
    mine = StaticMembership(clock)

    waits = [mine.may_wait()]
    clock.advance(HELD_S - 1)
    waits.append(mine.may_wait())
    clock.advance(1)
    waits.append(mine.may_wait())
    mine.taken()
    waits.append(mine.may_wait())

    assert waits == [True, True, False, True]


def test_a_member_that_is_told_what_comes_adds_it_to_what_it_has() -> None:
    added: list[list[KafkaTopicPartition]] = []

    class Incremental(Member):
        def assign(self, _: object) -> None:
            raise AssertionError("this would take away what it has")

        def incremental_assign(self, partitions: list[KafkaTopicPartition]) -> None:
            added.append(partitions)

    end_of(Incremental(FATAL), within_s=5, incremental=True)

    assert added == [[]]


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


def test_a_worker_whose_broker_does_not_know_the_group_protocol_ends_and_says_what_to_do() -> None:
    found = end_of(ScriptedConsumer(polled=TOO_OLD, told=None), within_s=5, incremental=True)

    assert isinstance(found, SettingsError)
    assert "set classic" in str(found)


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
        make,
        topics=["events"],
        listener=Idle(),
        pulse=Pulse(SYSTEM),
        membership=StaticMembership(SYSTEM),
        ended=lambda _: None,
    )
    thread.stop()

    assert thread.join(5)


class Frozen(ScriptedConsumer):
    """Is polled for ten seconds the first time, by a clock that others turn."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(polled=None, told=None)
        self._clock = clock
        self._frozen = False

    def poll(self, timeout: float) -> ErrorMessage | None:
        del timeout
        if not self._frozen:
            self._frozen = True
            self._clock.advance(10)
        return None


class Looking(Idle):
    """Notes in each turn how long a gap it was told, and what a guard would see meanwhile."""

    def __init__(self, pulse: Pulse) -> None:
        self.seen: list[tuple[float, float]] = []
        self._pulse = pulse

    def turn(self, kafka: Log, *, gap_s: float) -> float:
        del kafka
        self.seen.append((gap_s, self._pulse.gap_s()))
        if len(self.seen) == 3:
            raise ZeroDivisionError
        return 0.001


@pytest.mark.invariant("P4")
def test_a_gap_is_seen_by_guards_until_the_turn_that_learns_of_it_is_over() -> None:
    clock = ManualClock()
    pulse = Pulse(clock)
    listener = Looking(pulse)

    end_of(Frozen(clock), within_s=5, listener=listener, pulse=pulse)

    assert listener.seen == [(0.0, 0.0), (10.0, 10.0), (0.0, 0.0)]


@pytest.mark.invariant("P1")
def test_a_consumer_without_a_coordinator_is_made_anew_after_a_bounded_time() -> None:
    away = [0.0, 46.0, 46.0, 46.0]
    told: list[str] = []

    class Noting(Idle):
        def joins_anew(self, *, fenced: bool) -> None:
            told.append(f"joins anew {fenced=}")

    class NeverCloses(Member):
        def close(self) -> None:
            super().close()
            never.wait(20)

    never = threading.Event()
    try:
        found = end_of(
            NeverCloses(PASSING, PASSING),
            Member(FATAL),
            within_s=5,
            listener=Noting(),
            away_s=lambda: away.pop(0) if away else 0.0,
        )
    finally:
        never.set()

    assert isinstance(found, KafkaLostError)
    assert told == ["joins anew fenced=False"]


class EndMessage(ErrorMessage):
    """What a poll returns where a partition ends."""

    def __init__(self, tp: TopicPartition, end: int) -> None:
        super().__init__(KafkaError(KafkaError._PARTITION_EOF))
        self._tp, self._end = tp, end

    def topic(self) -> str:
        return self._tp.topic

    def partition(self) -> int:
        return self._tp.partition

    def offset(self) -> int:
        return self._end


class ReachesEnds(ScriptedConsumer):
    """Holds two partitions; comes to the end of both, and loses one before that is told."""

    def __init__(self) -> None:
        super().__init__(polled=None, told=None)
        self._parts = [KafkaTopicPartition("events", number) for number in range(2)]
        self._messages = [
            EndMessage(TopicPartition("events", number), 7 + number) for number in range(2)
        ]
        self._lose: Callable[..., None] = lambda *_: None

    def subscribe(self, *_: object, **callbacks: Any) -> None:
        callbacks["on_assign"](self, self._parts)
        self._lose = callbacks["on_revoke"]

    def assign(self, _: object) -> None: ...

    def poll(self, timeout: float) -> ErrorMessage | None:
        SYSTEM.block(min(timeout, 0.001))
        return self._messages.pop(0) if self._messages else None

    def consume(self, *_: object) -> list[ErrorMessage]:
        rest, self._messages = self._messages, []
        self._lose(self, self._parts[:1])
        return list(rest)


@pytest.mark.invariant("P1", "P3")
def test_an_end_is_told_unless_its_partition_came_or_went_meanwhile() -> None:
    told: list[Mapping[TopicPartition, int]] = []

    class Noting(Idle):
        def reached_end(self, ends: Mapping[TopicPartition, int]) -> None:
            told.append(ends)

    end_of_it = end_of(ReachesEnds(), within_s=0.2, listener=Noting())

    assert end_of_it is None
    assert told == [{TopicPartition("events", 1): 8}]
