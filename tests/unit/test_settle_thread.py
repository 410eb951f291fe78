"""The settle thread against a producer that fails by script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from queue import Queue
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from redrive.clock import SYSTEM
from redrive.errors import KafkaLostError, KafkaUnavailableError, SettingsError
from redrive.kafka.batches import (
    Batch,
    InDoubt,
    ProducerRecord,
    RefusedBatch,
    Report,
    Stopped,
    Stored,
)
from redrive.kafka.producer_thread import CallLimits, ProducerThread
from redrive.kafka.settle_thread import SettleThread
from redrive.telemetry.instruments import Counter
from redrive.telemetry.metrics import PRODUCERS
from redrive.testing import ManualClock
from redrive.testing.worker_process import wait_until

TIMED_OUT = KafkaError(KafkaError._TIMED_OUT)
FENCED = KafkaError(KafkaError._FENCED, fatal=True)
ABORTABLE = KafkaError(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)
GONE = KafkaError(KafkaError._UNKNOWN_TOPIC)
FORBIDDEN = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, txn_requires_abort=True)
PURGED = KafkaError(KafkaError._PURGE_QUEUE)
OUT_OF_PLACE = KafkaError(KafkaError._STATE)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
SHORT = CallLimits(
    init=0.05, send_offsets=0.05, flush=0.05, commit=0.05, begin=0.05, slack=0.05, transaction=30
)
BATCH = Batch(
    number=7,
    records=(ProducerRecord("results", b"a", b"1"), ProducerRecord("results", b"b", b"2")),
    offsets=(TopicPartition("events", 0, 5),),
    group="group",
)


class ScriptedProducer:
    """Writes its calls down; `script` says what a call does instead of succeeding."""

    def __init__(
        self, script: dict[str, Callable[[], object]], refused: Mapping[int, KafkaError]
    ) -> None:
        self.calls: list[str] = []
        self._script = script
        self._refused = refused
        self._index = 0

    def produce(self, *_: object, on_delivery: Callable[..., None], **__: object) -> None:
        self._script.get("produce", lambda: 0)()
        if self._index in self._refused:
            on_delivery(self._refused[self._index], None)
        self._index += 1

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*_: object) -> object:
            self.calls.append(name)
            return self._script.get(name, lambda: 0)()

        return call


class Factory:
    """Hands out producers, one script each; those after the last succeed in everything."""

    def __init__(self) -> None:
        self.scripts: list[dict[str, Callable[[], object]]] = []
        self.refused: Mapping[int, KafkaError] = {}
        self.made: list[ScriptedProducer] = []
        self.timeouts_s: list[float] = []

    def __call__(self, timeout_s: float) -> Any:  # noqa: ANN401 - stands in for a Producer
        self.timeouts_s.append(timeout_s)
        script = self.scripts.pop(0) if self.scripts else {}
        self.made.append(ScriptedProducer(script, self.refused))
        return self.made[-1]


def fails(error: KafkaError) -> Callable[[], object]:
    def call() -> object:
        raise KafkaException(error)

    return call


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
def thread(factory: Factory, reports: list[Report]) -> Iterator[SettleThread]:
    thread = SettleThread(
        factory, transactional=True, report=reports.append, clock=SYSTEM, limits=SHORT
    )
    yield thread
    thread.close(timeout_s=1)


def settle(thread: SettleThread, reports: list[Report], *, watch: bool = False) -> Report:
    thread.start(timeout_s=5)
    thread.submit(BATCH)

    def reported() -> bool:
        if watch:
            thread.watch()
        return bool(reports)

    wait_until(reported, timeout_s=5, what="a report", every_s=0.005)
    return reports[0]


def test_records_and_offsets_go_in_one_transaction(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    assert settle(thread, reports) == Stored(7)

    (producer,) = factory.made
    assert producer.calls == [
        "init_transactions",
        "begin_transaction",
        "send_offsets_to_transaction",
        "flush",
        "commit_transaction",
    ]


@pytest.mark.invariant("P1", "P2")
@pytest.mark.parametrize("call", ["send_offsets_to_transaction", "flush", "commit_transaction"])
def test_a_producer_does_nothing_more_after_what_it_could_only_abort(
    call: str, factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{call: fails(ABORTABLE)}]

    assert settle(thread, reports) == RefusedBatch(7, ABORTABLE)

    assert_replaced(factory, after=call)


def assert_replaced(factory: Factory, *, after: str) -> None:
    """What the old producer left open is ended by the new one: an abort would let it go on."""
    old, new = factory.made
    assert old.calls[-1] == after
    assert new.calls == ["init_transactions"]


@pytest.mark.invariant("P2")
@pytest.mark.parametrize("call", ["begin_transaction", "send_offsets_to_transaction", "flush"])
def test_a_failure_before_the_commit_replaces_the_producer_and_nothing_is_stored(
    call: str, factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{call: fails(TIMED_OUT)}]

    # The offsets, or whatever it was, may have waited behind too large a batch.
    assert settle(thread, reports) == RefusedBatch(7, TIMED_OUT, late=True)

    old, new = factory.made
    # A second call on the old one can hang for ever, whatever its limit.
    assert old.calls[-1] == call
    assert new.calls == ["init_transactions"]


@pytest.mark.invariant("P2")
def test_a_commit_that_fails_is_in_doubt_once_the_new_producer_has_ended_the_old_one(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{"commit_transaction": fails(TIMED_OUT)}]

    assert settle(thread, reports) == InDoubt(7, TIMED_OUT)

    assert [producer.calls[0] for producer in factory.made] == ["init_transactions"] * 2


@pytest.mark.invariant("P2", "P7")
@pytest.mark.parametrize("call", ["send_offsets_to_transaction", "flush", "commit_transaction"])
def test_a_call_that_never_returns_is_abandoned_with_its_producer(
    call: str, factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    release = threading.Event()
    factory.scripts = [{call: release.wait}]

    report = settle(thread, reports, watch=True)
    calls_before = list(factory.made[0].calls)
    left_behind = thread.left_behind
    release.set()

    assert isinstance(report, InDoubt)
    assert len(factory.made) == 2
    assert left_behind == 1
    wait_until(lambda: _settle_threads() == 1, timeout_s=5, what="the old thread's end")
    assert thread.left_behind == 0
    assert factory.made[0].calls == calls_before


_BEFORE: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _others() -> None:
    # A worker in this process whose broker was killed may have left one behind: it hangs for ever
    # in a call that was abandoned with it (librdkafka #5456).
    _BEFORE.clear()
    _BEFORE.update(threading.enumerate())


def _settle_threads() -> int:
    ours = set(threading.enumerate()) - _BEFORE
    return sum(thread.name.startswith("redrive-settle") for thread in ours)


def test_a_record_that_its_topic_does_not_take_is_named(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.refused = {1: TOO_LARGE}

    assert settle(thread, reports) == RefusedBatch(7, TOO_LARGE, frozenset({1}))
    assert_replaced(factory, after="begin_transaction")


@pytest.mark.invariant("P7")
def test_a_record_that_the_client_itself_refuses_is_named(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{"produce": fails(GONE)}]

    assert settle(thread, reports) == RefusedBatch(7, GONE, frozenset({0, 1}))
    assert_replaced(factory, after="begin_transaction")


@pytest.mark.invariant("P7")
@pytest.mark.parametrize("call", ["flush", "send_offsets_to_transaction"])
def test_a_topic_that_may_not_be_written_to_makes_every_record_a_suspect(
    call: str, factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    # What the client says of it: the records are purged, or the next call comes out of place.
    begun = iter([None, FORBIDDEN])

    def begin() -> object:
        error = next(begun)
        return fails(error)() if error else None

    script: dict[str, Callable[[], object]] = {"begin_transaction": begin}
    if call == "flush":
        factory.refused = {1: PURGED}
    else:
        script[call] = fails(OUT_OF_PLACE)
    factory.scripts = [script]

    assert settle(thread, reports) == RefusedBatch(7, FORBIDDEN, frozenset({0, 1}))
    assert_replaced(factory, after="begin_transaction")


def test_a_producer_that_another_one_fenced_stops_the_worker(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{"commit_transaction": fails(FENCED)}]

    assert settle(thread, reports) == Stopped(FENCED)


def test_a_fence_that_comes_around_a_delivery_report_stops_the_worker_too(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    def told() -> object:
        raise SystemError("returned a result with an exception set") from KafkaException(FENCED)

    factory.scripts = [{"flush": told}]

    assert settle(thread, reports) == Stopped(FENCED)


def test_a_transaction_that_outlived_the_brokers_limit_does_not_stop_the_worker(
    factory: Factory, reports: list[Report]
) -> None:
    limits = CallLimits(commit=0.05, slack=0.05, transaction=0.0)
    thread = SettleThread(
        factory, transactional=True, report=reports.append, clock=SYSTEM, limits=limits
    )
    factory.scripts = [{"commit_transaction": fails(FENCED)}]

    assert settle(thread, reports) == InDoubt(7, FENCED)
    thread.close(timeout_s=1)


def test_a_broker_that_is_not_there_yet_is_asked_again(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{"init_transactions": fails(TIMED_OUT)}] * 2

    assert settle(thread, reports) == Stored(7)
    assert len(factory.made) == 3


def test_a_broker_that_never_comes_is_told_in_one_line(
    factory: Factory, thread: SettleThread
) -> None:
    factory.scripts = [{"init_transactions": fails(TIMED_OUT)}] * 50

    with pytest.raises(KafkaUnavailableError, match=r"within 0\.2 s; last: .*_TIMED_OUT"):
        thread.start(timeout_s=0.2)


def test_at_least_once_the_offsets_stay_with_the_caller(
    factory: Factory, reports: list[Report]
) -> None:
    thread = SettleThread(
        factory, transactional=False, report=reports.append, clock=SYSTEM, limits=SHORT
    )

    assert settle(thread, reports) == Stored(7)
    assert factory.made[0].calls == ["flush"]
    thread.close(timeout_s=1)


DENIED = KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "not yours", fatal=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DENIED, "not yours: grant .*--transactional-id"),
        (KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, fatal=True), "IdempotentWrite"),
        (KafkaError(KafkaError.INVALID_TRANSACTION_TIMEOUT, fatal=True), "kafka.transaction_time"),
    ],
    ids=["id", "cluster", "timeout"],
)
def test_a_producer_that_is_refused_at_start_is_told_at_once_with_what_to_do(
    error: KafkaError, words: str, factory: Factory, thread: SettleThread
) -> None:
    factory.scripts = [{"init_transactions": fails(error)}] * 50

    with pytest.raises(SettingsError, match=words):
        thread.start(timeout_s=60)

    assert len(factory.made) == 1
    wait_until(lambda: _settle_threads() == 0, timeout_s=5, what="the thread's end")


def test_a_producer_that_another_one_fences_at_start_is_followed_by_a_new_one(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{"init_transactions": fails(FENCED)}]

    assert settle(thread, reports) == Stored(7)
    assert len(factory.made) == 2


def test_a_producer_that_is_refused_later_goes_on_asking_and_says_what_to_do(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    refused = {"init_transactions": fails(DENIED)}
    factory.scripts = [{"commit_transaction": fails(TIMED_OUT)}, refused, refused]

    with structlog.testing.capture_logs() as logs:
        assert settle(thread, reports) == InDoubt(7, TIMED_OUT)

    waits = [line for line in logs if line["event"] == "settle.producer_refused"]
    # Once: the second refusal says nothing new; the line that comes in a minute counts it.
    assert [(line["log_level"], line["attempt"]) for line in waits] == [("error", 1)]
    assert all("--transactional-id" in line["advice"] for line in waits)


def test_between_producers_the_waits_double_up_to_two_seconds(
    factory: Factory, reports: list[Report]
) -> None:
    clock = ManualClock()
    thread = SettleThread(
        factory, transactional=True, report=reports.append, clock=clock, limits=SHORT
    )
    factory.scripts = [{"init_transactions": fails(TIMED_OUT)}] * 7

    assert settle(thread, reports) == Stored(7)
    thread.close(timeout_s=1)

    assert clock.sleeps == pytest.approx([0.075, 0.15, 0.3, 0.6, 1.2, 1.5, 1.5])


def test_what_the_client_has_to_say_is_heard_before_its_producer_is_thrown_away(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{"init_transactions": fails(TIMED_OUT), "poll": fails(DENIED)}]

    assert settle(thread, reports) == Stored(7)
    assert set(factory.made[0].calls) == {"init_transactions", "poll"}
    assert factory.made[0].calls[-1] == "poll"


def test_a_batch_that_an_abandoned_thread_takes_goes_to_its_heir(
    factory: Factory, reports: list[Report]
) -> None:
    # The call returns after it was found to be late, and before its thread is abandoned.
    inbox: Queue[Batch | None] = Queue(maxsize=2)
    make = partial(
        ProducerThread,
        inbox,
        factory,
        transactional=True,
        report=reports.append,
        clock=SYSTEM,
        limits=SHORT,
        replaced=Counter(PRODUCERS),
    )
    old = make()
    old.start(recover=None)
    assert old.ready.wait(5)
    assert old.abandon("it was late") is None
    heir = make()

    inbox.put(BATCH)
    old.join(5)
    heir.start(recover=None)
    wait_until(lambda: bool(reports), timeout_s=5, what="a report", every_s=0.005)
    inbox.put(None)
    heir.join(5)

    assert reports == [Stored(7)]


def test_a_thread_that_dies_of_a_bug_ends_the_worker(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    def bug() -> object:
        raise TypeError("no such argument")

    factory.scripts = [{"produce": bug}]
    thread.start(timeout_s=5)
    thread.submit(BATCH)

    def told() -> bool:
        try:
            thread.watch()
        except KafkaLostError as error:
            return isinstance(error.__cause__, TypeError)
        return False

    wait_until(told, timeout_s=5, what="the death of the thread", every_s=0.005)
    assert reports == []


def test_a_bug_at_the_start_is_told_at_once(factory: Factory, thread: SettleThread) -> None:
    def bug() -> object:
        raise TypeError("no such argument")

    factory.scripts = [{"init_transactions": bug}]

    with pytest.raises(TypeError, match="no such argument"):
        thread.start(timeout_s=60)


@pytest.mark.invariant("P1")
def test_a_thread_whose_producer_was_fenced_settles_again_with_a_new_one(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    factory.scripts = [{"commit_transaction": fails(FENCED)}]
    assert isinstance(settle(thread, reports), Stopped)
    reports.clear()

    thread.renew()
    thread.submit(BATCH)
    wait_until(lambda: bool(reports), timeout_s=5, what="a report", every_s=0.005)

    assert reports == [Stored(7)]
    assert len(factory.made) == 2


@pytest.mark.invariant("P1")
def test_offsets_that_wait_too_long_behind_records_make_the_batch_late(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    # On a connection that a quota holds back, what the client says is abortable.
    behind = KafkaError(KafkaError._TIMED_OUT, txn_requires_abort=True)
    factory.scripts = [{"send_offsets_to_transaction": fails(behind)}]

    assert settle(thread, reports) == RefusedBatch(7, behind, late=True)


@pytest.mark.invariant("P1")
def test_a_batch_that_needs_longer_gets_a_producer_whose_transactions_last_longer(
    factory: Factory, thread: SettleThread, reports: list[Report]
) -> None:
    thread.start(timeout_s=5)
    thread.submit(replace(BATCH, allowed_s=60.0))

    wait_until(lambda: bool(reports), timeout_s=5, what="a report", every_s=0.005)

    assert reports == [Stored(7)]
    usual_s, longer_s = factory.timeouts_s
    assert usual_s == SHORT.transaction
    assert longer_s > 60.0
