"""Waiting for results on a real broker: every waiter hears its own answer, through one consumer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    NewPartitions,
)

from redrive.airflow.xcom_results import shared_reader
from redrive.errors import KafkaUnavailableError, RedriveError, SettingsError
from redrive.events import EventPlace, ResultStatus, WorkflowResultEvent
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.expected import Expected
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import Published
from redrive.kafka.recent_results import ENTRY_BYTES, RecentResults, SeenResult
from redrive.kafka.results import ResultReader
from redrive.kafka.retrying import error_of
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import Kafka, Topics, create_topics, remake_topic
from redrive.testing.worker_process import wait_until

SOON = timedelta(seconds=20)


def until(wait: timedelta = SOON) -> datetime:
    return datetime.now(UTC) + wait


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not within 10 s")


class Answers:
    """Publishes results, as a worker would."""

    def __init__(self, servers: str, topic: str) -> None:
        self._servers = servers
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})

    def give(self, event_id: str, said: object = "done", *, partition: int = -1) -> None:
        self.give_bytes(event_id, result_bytes(event_id, said), partition=partition)

    def give_answer(self, event_id: str, to: Published | None, said: object) -> None:
        self.give_bytes(event_id, result_bytes(event_id, said, to=to))

    def give_bytes(self, event_id: str, value: bytes, *, partition: int = -1) -> None:
        # Of a partition that has just come the client, and its broker, may hear a moment later.
        stored = lambda: self._is_stored(event_id, value, partition)  # noqa: E731
        wait_until(stored, timeout_s=30, what=f"partition {partition} is known")

    def _is_stored(self, event_id: str, value: bytes, partition: int) -> bool:
        refused: list[KafkaError] = []

        def told(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                refused.append(error)

        try:
            self._producer.produce(
                self._topic, value, event_id.encode(), partition, on_delivery=told
            )
        except KafkaException as error:
            refused.append(error_of(error))
        assert self._producer.flush(10) == 0
        if not refused:
            return True
        if refused[0].code() != KafkaError._UNKNOWN_PARTITION:
            raise KafkaException(refused[0])
        self._producer.list_topics(self._topic, timeout=10)
        return False

    def give_and_abort(self, event_id: str, said: object) -> None:
        name = f"t-{uuid.uuid4()}"
        producer = Producer({"bootstrap.servers": self._servers, "transactional.id": name})
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce(self._topic, result_bytes(event_id, said), event_id.encode())
        assert producer.flush(10) == 0
        producer.abort_transaction(20)


def result_bytes(event_id: str, said: object, *, to: Published | None = None) -> bytes:
    place = None if to is None else EventPlace(**asdict(to))
    return WorkflowResultEvent(
        correlation_id=event_id,
        workflow_id="w",
        workflow_run_id="r",
        result=said,
        status=ResultStatus.SUCCESS,
        timestamp=datetime.now(UTC),
        answers=place,
    ).to_bytes()


def new_id() -> str:
    return str(uuid.uuid4())


def own_results(kafka: Kafka) -> KafkaSettings:
    """Return topics of one partition each, and clients that soon notice what becomes of them."""
    made = create_topics(kafka.bootstrap_servers, partitions=1)
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        results_topic=made.results,
        metadata_max_age=timedelta(milliseconds=300),
    )


def grow(settings: KafkaSettings, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    wanted = NewPartitions(settings.results_topic, partitions)
    admin.create_partitions([wanted])[settings.results_topic].result(20)


@pytest.fixture
def settings(kafka: Kafka, topics: Topics) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, results_topic=topics.results)


@pytest.fixture
def answers(kafka: Kafka, topics: Topics) -> Answers:
    return Answers(kafka.bootstrap_servers, topics.results)


@pytest.fixture
def reader(settings: KafkaSettings) -> Iterator[ResultReader]:
    reader = ResultReader(settings)
    with contextlib.closing(reader):
        yield reader


async def test_a_result_that_came_before_the_wait_is_found(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets = new_id(), end_offsets(settings)
    answers.give(event_id, {"answer": 42})

    result = await reader.wait_for(event_id, offsets, until())

    assert result.result == {"answer": 42}
    assert result.correlation_id == event_id


async def test_a_result_that_stood_there_before_the_offsets_is_not_taken(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id = new_id()
    answers.give(event_id, "of an earlier run")
    offsets = end_offsets(settings)
    answers.give(event_id, "of this run")

    result = await reader.wait_for(Expected(event_id), offsets, until())

    assert result.result == "of this run"


@pytest.mark.invariant("P2")
async def test_of_two_results_the_first_one_counts(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets = new_id(), end_offsets(settings)
    answers.give(event_id, "first")
    answers.give(event_id, "second")

    result = await reader.wait_for(Expected(event_id), offsets, until())

    assert result.result == "first"


@pytest.mark.invariant("P2", "P14")
async def test_the_answer_to_an_earlier_record_of_the_event_is_not_taken(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets = new_id(), end_offsets(settings)
    first, second = Published("events", 1, 7), Published("events", 1, 9)
    waits = asyncio.create_task(
        reader.wait_for(Expected(event_id, record=second), offsets, until())
    )
    answers.give_answer(event_id, first, "expired")
    await reader.wait_for(
        Expected(event_id, record=first), offsets, until()
    )  # so the reader is past it

    came_late = asyncio.create_task(
        reader.wait_for(Expected(event_id, record=second), offsets, until())
    )
    answers.give_answer(event_id, second, "done")

    assert [(await waits).result, (await came_late).result] == ["done", "done"]
    assert (
        await reader.wait_for(Expected(event_id, record=first), offsets, until())
    ).result == "expired"


@pytest.mark.invariant("P1", "P2")
async def test_results_of_another_under_its_key_are_passed_by_and_logged_once(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets, place = new_id(), end_offsets(settings), Published("events", 1, 7)
    right = json.loads(result_bytes(event_id, "mine", to=place))
    hostile: list[dict[str, object]] = [
        {"correlation_id": new_id()},
        {"workflow_id": "of another"},
        {"workflow_run_id": "of another"},
        {"answers": {"topic": "events", "partition": 1, "offset": 6}},
        {"answers": {"topic": "events", "partition": -1, "offset": 6}},
    ]
    values = [json.dumps({**right, "result": "forged", **other}).encode() for other in hostile]
    with structlog.testing.capture_logs() as logs:
        waits = asyncio.create_task(
            reader.wait_for(Expected(event_id, "w", "r", record=place), offsets, until())
        )
        for value in (*values, b"", b"\xff", b"[" * 100_000, b'{"a":' * 100_000):
            answers.give_bytes(event_id, value, partition=0)
        answers.give_bytes(event_id, json.dumps(right).encode(), partition=0)

        assert (await waits).result == "mine"

    assert [(line["event"], line["event_id"]) for line in logs] == [("results.passed_by", event_id)]


async def test_an_answer_that_names_no_record_is_taken(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets = new_id(), end_offsets(settings)
    answers.give_answer(event_id, None, "by a worker of the version before")

    found = await reader.wait_for(
        Expected(event_id, record=Published("events", 0, 0)), offsets, until()
    )

    assert found.answers is None


@pytest.mark.invariant("P11")
async def test_many_waiters_hear_their_own_answers_through_one_consumer(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    ids = [new_id() for _ in range(300)]
    offsets = end_offsets(settings)
    waits = [asyncio.create_task(reader.wait_for(Expected(i), offsets, until())) for i in ids]
    await eventually(lambda: reader.waiting == len(ids))

    for event_id in reversed(ids):
        answers.give(event_id, event_id)
    results = await asyncio.gather(*waits)

    assert [r.result for r in results] == ids
    assert reader.consumers_made == 1
    assert reader.waiting == 0


async def test_a_waiter_with_older_offsets_makes_the_reader_go_back(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    early, middle, late = new_id(), new_id(), new_id()
    from_the_start = end_offsets(settings)
    answers.give(early, "early", partition=1)
    answers.give(middle, "middle", partition=1)
    from_now = end_offsets(settings)
    status = asyncio.create_task(reader.wait_for(Expected(late), from_now, until()))
    # Once this is answered, the reader stands past `early`.
    answers.give(now := new_id(), "now", partition=1)
    await reader.wait_for(Expected(now), from_now, until())

    found = await reader.wait_for(Expected(early), from_the_start, until())
    answers.give(late, "late", partition=1)

    assert found.result == "early"
    assert (await status).result == "late"
    assert reader.consumers_made == 1


async def test_two_results_that_the_reader_passed_are_found_by_two_late_waiters(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    first, second, third = new_id(), new_id(), new_id()
    offsets = end_offsets(settings)
    answers.give(first, 1, partition=0)
    answers.give(second, 2, partition=0)
    answers.give(third, 3, partition=0)
    await reader.wait_for(Expected(third), offsets, until())

    late = await asyncio.gather(
        reader.wait_for(Expected(second), offsets, until()),
        reader.wait_for(Expected(first), offsets, until()),
    )

    assert [r.result for r in late] == [2, 1]


async def test_a_waiter_without_a_result_ends_at_its_own_deadline(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    patient, hasty = new_id(), new_id()
    offsets = end_offsets(settings)
    status = asyncio.create_task(reader.wait_for(Expected(patient), offsets, until()))

    with pytest.raises(TimeoutError, match=hasty):
        await reader.wait_for(Expected(hasty), offsets, until(timedelta(milliseconds=300)))

    assert not status.done()
    answers.give(patient, "patient")
    assert (await status).result == "patient"


@pytest.mark.invariant("P2")
async def test_a_result_of_an_aborted_transaction_is_not_seen(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets = new_id(), end_offsets(settings)
    answers.give_and_abort(event_id, "of the aborted one")
    answers.give(event_id, "of the one that counts")

    result = await reader.wait_for(Expected(event_id), offsets, until())

    assert result.result == "of the one that counts"


async def test_a_broker_that_was_away_is_read_on_by_the_same_consumer(
    breakable: LocalBroker,
) -> None:
    servers = breakable.bootstrap_servers
    results = create_topics(servers).results
    settings = KafkaSettings(bootstrap_servers=servers, results_topic=results)
    answers, before, after = Answers(servers, results), new_id(), new_id()
    with contextlib.closing(ResultReader(settings)) as reader:
        offsets = end_offsets(settings)
        answers.give(before, "before")
        await reader.wait_for(Expected(before), offsets, until())
        waiting = asyncio.create_task(reader.wait_for(Expected(after), offsets, until(SOON * 3)))

        await asyncio.to_thread(breakable.restart)
        await asyncio.to_thread(answers.give, after, "after")

        assert (await waiting).result == "after"
        assert reader.consumers_made == 1


@pytest.mark.invariant("P1")
async def test_an_answer_on_a_partition_that_came_later_is_heard(kafka: Kafka) -> None:
    settings = own_results(kafka)
    answers = Answers(kafka.bootstrap_servers, settings.results_topic)
    early, late = new_id(), new_id()
    offsets = end_offsets(settings)
    with contextlib.closing(ResultReader(settings)) as reader:
        waiting = asyncio.create_task(reader.wait_for(Expected(early), offsets, until()))
        await eventually(lambda: reader.waiting == 1)

        grow(settings, 3)
        await asyncio.to_thread(answers.give, early, "early", partition=2)
        await asyncio.to_thread(answers.give, late, "late", partition=1)

        assert (await waiting).result == "early"
        assert (await reader.wait_for(Expected(late), offsets, until())).result == "late"


@pytest.mark.invariant("P1")
async def test_an_answer_on_a_new_topic_whose_leaders_have_lower_epochs_is_heard(
    breakable: LocalBroker,
) -> None:
    servers = breakable.bootstrap_servers
    results = create_topics(servers, partitions=1).results
    soon = timedelta(milliseconds=300)
    settings = KafkaSettings(
        bootstrap_servers=servers, results_topic=results, metadata_max_age=soon
    )
    # Whoever starts to lead a partition raises its epoch; a new topic begins at 0.
    await asyncio.to_thread(breakable.restart)
    known, new = new_id(), new_id()
    Answers(servers, results).give(known, "known")
    with contextlib.closing(ResultReader(settings)) as reader:
        await reader.wait_for(Expected(known), {0: 0}, until())
        waiting = asyncio.create_task(
            reader.wait_for(Expected(new), end_offsets(settings), until(SOON * 3))
        )
        await eventually(lambda: reader.waiting == 1)

        await asyncio.to_thread(remake_topic, servers, results)
        await asyncio.to_thread(Answers(servers, results).give, new, "new")

        assert (await waiting).result == "new"
        assert reader.consumers_made == 2


@pytest.mark.invariant("P1")
async def test_an_answer_on_a_topic_that_was_made_anew_is_heard(kafka: Kafka) -> None:
    settings = own_results(kafka)
    answers = Answers(kafka.bootstrap_servers, settings.results_topic)
    for _ in range(5):
        answers.give(new_id())
    early, late = new_id(), new_id()
    offsets = end_offsets(settings)
    with contextlib.closing(ResultReader(settings)) as reader:
        waiting = asyncio.create_task(reader.wait_for(Expected(early), offsets, until()))
        await eventually(lambda: reader.waiting == 1)

        await asyncio.to_thread(remake_topic, kafka.bootstrap_servers, settings.results_topic)
        again = Answers(kafka.bootstrap_servers, settings.results_topic)
        await asyncio.to_thread(again.give, early, "early")
        await asyncio.to_thread(again.give, late, "late")

        assert (await waiting).result == "early"
        assert (await reader.wait_for(Expected(late), offsets, until())).result == "late"


def test_what_falls_out_of_memory_is_no_longer_covered() -> None:
    recent = RecentResults(limit_bytes=3 * (ENTRY_BYTES + 2))
    recent.start(0, 10)
    for offset in range(10, 14):
        recent.add(SeenResult(0, offset, b"k", b"v"))

    found = recent.find(b"k", {0: 0})

    assert [seen.offset for seen in found] == [11, 12, 13]
    assert recent.covers(0, 11)
    assert not recent.covers(0, 10)
    assert not recent.covers(1, 11)


def test_a_partition_that_is_read_again_is_not_remembered_twice() -> None:
    recent = RecentResults()
    recent.start(0, 5)
    recent.start(1, 5)
    recent.add(SeenResult(0, 5, b"k", b"v"))
    recent.add(SeenResult(1, 5, b"k", b"v"))
    recent.start(0, 2)
    recent.add(SeenResult(0, 2, b"k", b"v"))

    found = recent.find(b"k", {0: 0, 1: 0})

    assert [(seen.partition, seen.offset) for seen in found] == [(1, 5), (0, 2)]


async def test_a_result_that_cannot_be_read_is_no_answer(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets = new_id(), end_offsets(settings)
    answers.give_bytes(event_id, b"{broken")
    answers.give(event_id, "whole")

    result = await reader.wait_for(Expected(event_id), offsets, until())

    assert result.result == "whole"


async def test_a_cancelled_waiter_is_forgotten_and_the_others_go_on(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    gone, stays = new_id(), new_id()
    offsets = end_offsets(settings)
    leaving = asyncio.create_task(reader.wait_for(Expected(gone), offsets, until()))
    staying = asyncio.create_task(reader.wait_for(Expected(stays), offsets, until()))
    await eventually(lambda: reader.waiting == 2)

    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    assert reader.waiting == 1
    answers.give(gone, "for nobody")
    answers.give(stays, "for me")
    assert (await staying).result == "for me"


def test_a_thread_can_wait_as_well(
    settings: KafkaSettings, reader: ResultReader, answers: Answers
) -> None:
    event_id, offsets = new_id(), end_offsets(settings)
    answers.give(event_id, "here")

    result = reader.wait_in_thread(Expected(event_id), offsets, until())

    assert result.result == "here"
    with pytest.raises(TimeoutError):
        reader.wait_in_thread(Expected(new_id()), offsets, until(timedelta(milliseconds=200)))


async def test_without_waiters_the_thread_ends_and_a_later_waiter_starts_another(
    settings: KafkaSettings, answers: Answers
) -> None:
    reader = ResultReader(settings, idle_after=timedelta(milliseconds=10))
    offsets = end_offsets(settings)
    name = f"results:{settings.results_topic}"
    for said in ("one", "two"):
        answers.give(event_id := new_id(), said)

        result = await reader.wait_for(Expected(event_id), offsets, until())

        assert result.result == said
        await eventually(lambda: name not in {t.name for t in threading.enumerate()})
    assert reader.consumers_made == 2
    reader.close()


async def test_who_still_waits_when_the_reader_is_closed_gets_an_error(
    settings: KafkaSettings,
) -> None:
    reader = ResultReader(settings)
    offsets = end_offsets(settings)
    waiting = asyncio.create_task(reader.wait_for(Expected(new_id()), offsets, until()))
    await eventually(lambda: reader.waiting == 1)

    reader.close()

    with pytest.raises(RedriveError, match="closed"):
        await waiting
    with pytest.raises(RedriveError, match="closed"):
        await reader.wait_for(Expected(new_id()), offsets, until())


async def test_options_that_cannot_work_are_told_to_the_waiter(settings: KafkaSettings) -> None:
    wrong = settings.model_copy(update={"config": {"no.such.option": "1"}})
    reader = ResultReader(wrong)

    with pytest.raises(SettingsError, match=r"no\.such\.option"):
        await reader.wait_for(Expected(new_id()), {0: 0}, until())

    reader.close()


def test_the_same_settings_share_one_reader(settings: KafkaSettings) -> None:
    same = KafkaSettings.model_validate(settings.model_dump())

    assert shared_reader(settings) is shared_reader(same)
    assert shared_reader(settings) is not shared_reader(
        settings.model_copy(update={"results_topic": "another"})
    )


def test_a_missing_results_topic_is_named(settings: KafkaSettings) -> None:
    missing = settings.model_copy(update={"results_topic": "no-such-topic"})

    with pytest.raises(SettingsError, match="no-such-topic"):
        end_offsets(missing)


def test_a_broker_that_is_not_there_is_named_in_time() -> None:
    nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1")

    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1"):
        end_offsets(nobody, timeout=timedelta(milliseconds=500))
