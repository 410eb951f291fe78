"""DeadLetterQueue and ResultProducer on a real broker: stored, or an error that says so."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from redrive import DeadLetter, DeadLetterQueue, ResultProducer
from redrive.clock import SYSTEM
from redrive.codec import AesGcm
from redrive.dead_letter.sealing import opened_letter
from redrive.errors import (
    KafkaUnavailableError,
    NotStoredError,
    RateLimitedError,
    RecordError,
    SettingsError,
)
from redrive.events import ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.kafka.client import producer_config
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.payloads import Payloads
from redrive.retry.kinds import Kind, Reason
from redrive.sealed_records import opened_event, opened_result, sealed_event
from redrive.testing.created_topics import Kafka, Topics, delete_topics
from redrive.testing.kafka_env import event
from redrive.testing.reading import read_topic


@pytest.fixture
async def queue(kafka: Kafka, topics: Topics) -> AsyncIterator[DeadLetterQueue]:
    async with DeadLetterQueue(kafka.bootstrap_servers, topics.dlq) as started:
        yield started


@pytest.fixture
def small_topic(kafka: Kafka) -> Iterator[str]:
    """Return a topic that takes records of 40 kB."""
    name = f"small-{uuid.uuid4().hex[:8]}"
    new = NewTopic(name, 1, 1, config={"max.message.bytes": "40000"})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([new])[name].result(timeout=30)
    yield name
    delete_topics(kafka.bootstrap_servers, [name])


def letters(kafka: Kafka, topic: str) -> list[DeadLetter]:
    return [
        DeadLetter.model_validate_json(r.value or b"")
        for r in read_topic(kafka.bootstrap_servers, topic)
    ]


def _ask(text: str) -> str:
    given: dict[str, str] = {}
    try:
        return given["question"]
    except KeyError as cause:
        raise ValueError(text) from cause


def failed(text: str) -> ValueError:
    """Return an error with a traceback and a cause."""
    try:
        raise AssertionError(_ask(text))
    except ValueError as error:
        return error


async def test_a_letter_tells_all_that_a_workers_does(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    event_ = event({"text": "naïve"})

    dlq_id = await queue.publish_failed_event(
        event_, failed("no question"), 3, {"workflow_run_id": "other", "tenant": "a"}
    )

    (record,) = read_topic(kafka.bootstrap_servers, topics.dlq)
    letter = DeadLetter.model_validate_json(record.value or b"")
    assert record.key == event_.event_id.encode()
    assert dict(record.headers)["redrive-kind"] == letter.kind.value.encode()
    assert dict(record.headers)["redrive-reason"] == letter.reason.value.encode()
    assert letter.dlq_id == dlq_id
    assert letter.retry_count == 3
    assert letter.kind is Kind.PERMANENT
    assert letter.error.type == "ValueError"
    assert letter.error.message == "no question"
    assert "raise ValueError(text) from cause" in (letter.error.traceback or "")
    assert [cause.type for cause in letter.cause_chain] == ["KeyError", "ValueError"]
    assert letter.context.model_dump() == {
        "workflow_id": event_.workflow_id,
        "workflow_run_id": "other",
        "tenant": "a",
    }
    assert letter.source.value == event_.to_bytes()
    assert letter.source.key == record.key
    # Where its key goes: a redrive sends it there, as its producer would have.
    assert (letter.source.topic, letter.source.partition, letter.source.offset) == (
        "workflow-events",
        record.tp.partition,
        -1,
    )
    assert letter.original_event == json.loads(event_.to_bytes())


async def test_equal_causes_share_a_fingerprint_and_secrets_are_masked(
    kafka: Kafka, topics: Topics
) -> None:
    async with DeadLetterQueue(
        kafka.bootstrap_servers, topics.dlq, redact=["badge [0-9]+"]
    ) as queue:
        for number in range(2):
            text = f"no access on try {number}: badge 990{number}"
            await queue.publish_failed_event(event({}), failed(text), 0)

    found = letters(kafka, topics.dlq)
    assert found[0].fingerprint is not None
    assert found[0].fingerprint == found[1].fingerprint
    assert "no access on try 0" in found[0].error.message + found[1].error.message
    records = read_topic(kafka.bootstrap_servers, topics.dlq)
    assert all(b"badge 990" not in (record.value or b"") for record in records)


async def test_the_same_event_and_retry_count_give_the_same_id(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    one, other = event({}), event({})

    first = await queue.publish_failed_event(one, failed("a"), 1)
    again = await queue.publish_failed_event(one.to_bytes(), failed("b"), 1)
    as_dict = await queue.publish_failed_event(one.model_dump(mode="json"), failed("c"), 1)
    later = await queue.publish_failed_event(one, failed("a"), 2)
    others = await queue.publish_failed_event(other, failed("a"), 1)

    assert first == again == as_dict
    assert len({first, later, others}) == 3
    partitions = {
        r.tp.partition
        for r in read_topic(kafka.bootstrap_servers, topics.dlq)
        if r.key == one.event_id.encode()
    }
    assert len(partitions) == 1


async def test_bytes_that_nobody_can_read_are_kept_as_they_are(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    first = await queue.publish_failed_event(b"\xff\x00 no event", failed("unreadable"), 0)
    again = await queue.publish_failed_event(b"\xff\x00 no event", failed("unreadable"), 0)

    found = letters(kafka, topics.dlq)
    assert first == again
    assert [letter.source.value for letter in found] == [b"\xff\x00 no event"] * 2
    assert found[0].original_event is None
    assert found[0].source.key is None


async def test_a_dict_is_kept_with_what_json_does_not_know_as_text(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    at = SYSTEM.now()

    await queue.publish_failed_event(
        {"at": at, "half": "\ud800"}, failed("no"), 0, {"when": at, "half": "\ud800"}
    )

    (letter,) = letters(kafka, topics.dlq)
    assert json.loads(letter.source.value or b"") == {"at": str(at), "half": "\ud800"}
    assert letter.context.model_dump()["when"] == str(at)


async def test_what_can_pass_is_told_as_retries_that_are_used_up(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    await queue.publish_failed_event(event({}), RateLimitedError("slow down"), 3)

    (letter,) = letters(kafka, topics.dlq)
    assert (letter.kind, letter.reason) == (Kind.RATE_LIMITED, Reason.RETRIES_EXHAUSTED)


async def test_a_letter_lies_where_the_key_of_its_event_goes(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    events = [event({}) for _ in range(20)]
    for one in events:
        await queue.publish_failed_event(one, failed("no"), 0)
    producer = Producer(producer_config(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)))
    for one in events:
        producer.produce(topics.events, one.to_bytes(), one.event_id)
    assert producer.flush(30) == 0

    tps = [
        {r.key: r.tp.partition for r in read_topic(kafka.bootstrap_servers, topic)}
        for topic in (topics.dlq, topics.events)
    ]
    assert tps[0] == tps[1]
    assert len(set(tps[0].values())) > 1


async def test_the_context_may_say_where_the_event_lies(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    tp = {"topic": topics.events, "partition": 2, "offset": 7}

    await queue.publish_failed_event(event({}), failed("no"), 0, tp)

    (letter,) = letters(kafka, topics.dlq)
    (record,) = read_topic(kafka.bootstrap_servers, topics.dlq)
    assert record.tp.partition == 2
    assert {name: getattr(letter.source, name) for name in tp} == tp


async def test_many_letters_at_once_are_all_stored_and_the_loop_goes_on(
    queue: DeadLetterQueue, kafka: Kafka, topics: Topics
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    ids = await asyncio.gather(
        *(queue.publish_failed_event(event({}), failed("no"), 0) for _ in range(300))
    )
    counting.cancel()

    assert {letter.dlq_id for letter in letters(kafka, topics.dlq)} == set(ids)
    assert len(set(ids)) == 300
    assert turns > 1


async def test_a_letter_too_large_for_its_topic_goes_without_the_parsed_event(
    kafka: Kafka, small_topic: str
) -> None:
    large = event({"text": "x" * 20_000})

    async with DeadLetterQueue(kafka.bootstrap_servers, small_topic) as queue:
        dlq_id = await queue.publish_failed_event(large, failed("no"), 0)

    (letter,) = letters(kafka, small_topic)
    assert letter.dlq_id == dlq_id
    assert letter.original_event is None
    assert letter.source.value == large.to_bytes()


async def test_a_letter_that_is_too_large_in_any_case_is_refused(
    kafka: Kafka, small_topic: str
) -> None:
    # Nothing that could be packed.
    text = random.Random(1).randbytes(40_000).hex()
    async with DeadLetterQueue(kafka.bootstrap_servers, small_topic) as queue:
        with pytest.raises(NotStoredError, match=r"max\.message\.bytes") as refused:
            await queue.publish_failed_event(event({"text": text}), failed("no"), 0)

    assert refused.value.__redrive_kind__ == "permanent"
    assert letters(kafka, small_topic) == []


async def test_a_topic_that_is_not_there_is_told_at_start_and_not_created(kafka: Kafka) -> None:
    missing = f"missing-{uuid.uuid4().hex[:8]}"

    for _ in range(2):
        with pytest.raises(SettingsError, match="redrive topics create"):
            await DeadLetterQueue(kafka.bootstrap_servers, missing).start()


async def publish_until_refused(queue: DeadLetterQueue) -> None:
    # A busy broker still takes some, for a moment.
    for _ in range(1_000):
        await queue.publish_failed_event(event({}), failed("no"), 0)


async def test_a_topic_that_goes_later_makes_publishing_raise(kafka: Kafka, topics: Topics) -> None:
    async with DeadLetterQueue(kafka.bootstrap_servers, topics.dlq) as queue:
        await queue.publish_failed_event(event({}), failed("no"), 0)
        await asyncio.to_thread(delete_topics, kafka.bootstrap_servers, [topics.dlq])
        with pytest.raises(NotStoredError, match=rf"{topics.dlq}.*redrive topics create"):
            await publish_until_refused(queue)


async def test_a_broker_that_is_not_there_is_told_at_start() -> None:
    queue = DeadLetterQueue("localhost:1", timeout=timedelta(seconds=1))

    with pytest.raises(KafkaUnavailableError, match="localhost:1"):
        await queue.start()


async def test_a_queue_that_is_not_started_stores_nothing(kafka: Kafka, topics: Topics) -> None:
    queue = DeadLetterQueue(kafka.bootstrap_servers, topics.dlq)
    with pytest.raises(NotStoredError, match="start"):
        await queue.publish_failed_event(event({}), failed("no"), 0)

    await queue.start()
    await queue.stop()
    with pytest.raises(NotStoredError, match="start"):
        await queue.publish_failed_event(event({}), failed("no"), 0)


async def test_what_is_under_way_is_stored_before_stopping_returns(
    kafka: Kafka, topics: Topics
) -> None:
    queue = DeadLetterQueue(kafka.bootstrap_servers, topics.dlq)
    await queue.start()
    sending = asyncio.gather(
        *(queue.publish_failed_event(event({}), failed("no"), 0) for _ in range(50))
    )
    await asyncio.sleep(0)

    await queue.stop()

    assert len(await sending) == 50
    assert len(letters(kafka, topics.dlq)) == 50


async def test_a_wrong_option_is_told_at_start(kafka: Kafka) -> None:
    queue = DeadLetterQueue(kafka.bootstrap_servers, config={"no.such.option": "1"})

    with pytest.raises(SettingsError, match=r"no\.such\.option"):
        await queue.start()


async def test_a_result_is_stored_as_a_waiting_task_reads_it(kafka: Kafka, topics: Topics) -> None:
    async with ResultProducer(kafka.bootstrap_servers, topics.results) as producer:
        await producer.publish_result("c-1", "w", "r", {"answer": 42}, "success")
        await producer.publish_result("c-2", "w", "r", None, ResultStatus.ERROR, error="no")

    records = read_topic(kafka.bootstrap_servers, topics.results)
    answers = {record.key: WorkflowResultEvent.from_bytes(record.value) for record in records}
    assert answers[b"c-1"].result == {"answer": 42}
    assert answers[b"c-1"].status is ResultStatus.SUCCESS
    assert (answers[b"c-2"].status, answers[b"c-2"].error) == (ResultStatus.ERROR, "no")


async def test_a_result_that_cannot_be_one_is_refused_and_names_the_field(
    kafka: Kafka, topics: Topics
) -> None:
    async with ResultProducer(kafka.bootstrap_servers, topics.results) as producer:
        with pytest.raises(RecordError, match="'status'"):
            await producer.publish_result("c", "w", "r", None, "fine")
        with pytest.raises(RecordError, match="'result'"):
            await producer.publish_result("c", "w", "r", object(), "success")

    assert read_topic(kafka.bootstrap_servers, topics.results) == []


@pytest.mark.invariant("P15")
async def test_with_a_codec_letters_and_results_are_encrypted_and_bytes_stay(
    kafka: Kafka, topics: Topics
) -> None:
    codec, mark = AesGcm({"k": bytes(32)}), "Mustermann"
    payloads, sent = Payloads(codec), event({"name": mark})
    as_dict = json.loads(sent.to_bytes()) | {"event_id": event({}).event_id}
    taken = sealed_event(event({"name": mark}), payloads).to_bytes()
    error = failed(f"no {mark}")
    async with DeadLetterQueue(kafka.bootstrap_servers, topics.dlq, codec=codec) as queue:
        for each in (sent, as_dict, taken, {"name": "no event"}):
            await queue.publish_failed_event(each, error, 0)
    async with ResultProducer(kafka.bootstrap_servers, topics.results, codec=codec) as producer:
        await producer.publish_result("c-1", "w", "r", {"name": mark}, "failure", f"no {mark}")

    found = letters(kafka, topics.dlq)
    records = read_topic(kafka.bootstrap_servers, topics.results)
    values = [letter.source.value or b"" for letter in found] + [r.value or b"" for r in records]
    assert not any(mark.encode() in value for value in values)
    assert mark not in "".join(letter.model_dump_json() for letter in found)
    assert taken in values
    assert json.dumps({"name": "no event"}).encode() in values
    assert {opened_letter(letter, payloads).error.message for letter in found} == {f"no {mark}"}
    events = [WorkflowEvent.from_bytes(v) for v in values[: len(found)] if b"workflow_id" in v]
    assert [opened_event(one, payloads).payload.data for one in events] == [{"name": mark}] * 3
    result = opened_result(WorkflowResultEvent.from_bytes(records[0].value), payloads)
    assert (result.result, result.error) == ({"name": mark}, f"no {mark}")
