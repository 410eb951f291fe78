from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter, LetterContext, LetterError, Source, dlq_id
from redrive.events import ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.retry.kinds import Kind, Reason
from redrive.testing.created_topics import Kafka, MakeTopics, Topics, delete_topics

EVENT_ID = "0b8d6f0e-7d54-4f2e-9b52-6f6c2f3a1d11"
EVENT = {"event_id": EVENT_ID, "workflow_id": "report", "payload": {"data": {"iban": "hidden"}}}


pytestmark = pytest.mark.usefixtures("command_line")


def _run(*arguments: str, data: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=data)


def _store(
    kafka: Kafka,
    topic: str,
    value: bytes,
    *,
    partition: int = 0,
    key: bytes | None = None,
    headers: list[tuple[str, str | bytes | None]] | None = None,
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all"})
    producer.produce(topic, value, key=key, partition=partition, headers=headers or [])
    assert producer.flush(30) == 0


def _read_one(kafka: Kafka, topic: str, *, partition: int, offset: int) -> Message:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, partition, offset)])
    try:
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        return message
    finally:
        consumer.close()


def _letter(
    *, count: int = 0, message: str = "no such account", event: object = EVENT
) -> DeadLetter:
    return DeadLetter(
        dlq_id=dlq_id("workflow-events", 3, 41, count=count),
        timestamp=SYSTEM.now() + timedelta(seconds=count),
        original_event=EVENT,
        error=LetterError(type="ValueError", message=message),
        retry_count=0,
        context=LetterContext(workflow_id="report"),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        node="book",
        source=Source(
            topic="workflow-events", partition=3, offset=41, value=json.dumps(event).encode()
        ),
    )


def test_created_topics_are_those_that_verify_wants(
    kafka: Kafka, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"new-{name}" for name in topics.names]
    for key, name in zip(("EVENTS", "RESULTS", "RETRY", "DLQ"), names, strict=True):
        monkeypatch.setenv(f"REDRIVE_KAFKA__{key}_TOPIC", name)

    before = _run("topics", "verify")
    created = _run("topics", "create", "--partitions", "3", "--replication-factor", "1", "--json")
    again = _run("topics", "create")
    after = _run("topics", "verify", "--json")
    page = _run("topics", "verify")
    delete_topics(kafka.bootstrap_servers, names)

    assert before.exit_code == ExitCode.ENDED_BADLY
    assert f"error: topic '{names[0]}': the topic is missing" in before.stdout
    assert json.loads(created.stdout) == [{"topic": n, "created": True} for n in names]
    assert again.exit_code == ExitCode.OK
    assert again.stdout.count("was there") == 4
    report = json.loads(after.stdout)
    assert (report["ok"], report["findings"]) == (True, [])
    assert report["partitions"] == dict.fromkeys(names, 3)
    assert page.exit_code == ExitCode.OK
    assert "all topics are as they should be" in page.stdout


def test_verify_names_each_difference_and_how_to_mend_it(
    make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = make_topics(partitions=2).dlq
    monkeypatch.setenv("REDRIVE_KAFKA__DLQ_TOPIC", smaller)

    result = _run("topics", "verify", "--json")

    report = json.loads(result.stdout)
    assert result.exit_code == ExitCode.ENDED_BADLY
    assert report["ok"] is False
    counts = [f for f in report["findings"] if f["what"] == "the number of partitions"]
    assert [(f["topic"], f["severity"], f["found"]) for f in counts] == [(smaller, "error", "2")]
    assert f"--alter --topic {smaller} --partitions 4" in counts[0]["mend"]


@pytest.mark.parametrize("given", ["inline", "file", "stdin"])
def test_a_sent_event_is_stored_with_the_data_of_a_flag_a_file_or_stdin(
    given: str, kafka: Kafka, topics: Topics
) -> None:
    text = json.dumps({"task": "täglich"}, ensure_ascii=False)
    Path("data.json").write_text(text, encoding="utf-8")
    source = {"inline": text, "file": "@data.json", "stdin": "-"}[given]

    result = _run("send", "report", "--data", source, "--json", data=text)

    stored = json.loads(result.stdout)
    tp = {"partition": stored["partition"], "offset": stored["offset"]}
    record = _read_one(kafka, topics.events, **tp)
    event = WorkflowEvent.from_bytes(record.value())
    assert result.exit_code == ExitCode.OK
    assert (event.event_id, record.key()) == (stored["event_id"], stored["event_id"].encode())
    assert (event.workflow_id, event.payload.data) == ("report", {"task": "täglich"})


def test_without_json_only_the_event_id_goes_to_stdout(topics: Topics) -> None:
    result = _run("send", "report", "--key", "customer-7")

    assert result.exit_code == ExitCode.OK
    assert len(result.stdout.strip()) == 36
    assert result.stderr.startswith(f"stored at {topics.events}/")


def test_no_answer_in_time_is_exit_code_1_and_says_that_the_event_stays() -> None:
    result = _run("send", "report", "--wait", "--timeout", "100ms")

    assert result.exit_code == ExitCode.ENDED_BADLY, result.stderr
    assert "redrive: no result for event " in result.stderr
    assert "The event stays stored: a worker that runs 'report' answers it" in result.stderr


@pytest.mark.parametrize(
    ("command", "topic"),
    [(["send", "report"], "EVENTS_TOPIC"), (["dlq", "show", "x"], "DLQ_TOPIC")],
)
def test_a_topic_that_is_missing_is_named_with_exit_code_2(
    command: list[str], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"REDRIVE_KAFKA__{topic}", "missing")

    result = _run(*command)

    assert result.exit_code == ExitCode.SETTINGS
    assert "redrive: topic 'missing' does not exist at " in result.stderr
    assert "redrive topics create" in result.stderr


def test_a_letter_is_found_by_its_id_and_by_that_of_its_event(kafka: Kafka, topics: Topics) -> None:
    letter = _letter()
    _store(kafka, topics.dlq, letter.to_bytes(), partition=3)

    by_letter = _run("dlq", "show", letter.dlq_id, "--json", "--reveal")
    by_event = _run("dlq", "show", EVENT_ID, "--json", "--reveal")

    assert by_letter.exit_code == by_event.exit_code == ExitCode.OK
    assert by_letter.stdout == by_event.stdout
    shown = json.loads(by_letter.stdout)
    assert DeadLetter.model_validate(shown["letter"]) == letter
    assert shown["stored"] == {"topic": topics.dlq, "partition": 3, "offset": 0}


def test_the_newest_letter_of_an_event_is_shown_among_all_that_lies_there(
    kafka: Kafka, topics: Topics
) -> None:
    first, second = _letter(), _letter(count=1, message="still no such account")
    _store(kafka, topics.dlq, second.to_bytes(), partition=1)
    _store(kafka, topics.dlq, b"no letter", partition=2)
    state: list[tuple[str, str | bytes | None]] = [("redrive-record", b"state")]
    _store(kafka, topics.dlq, _letter(count=2).to_bytes(), partition=2, headers=state)
    other = _letter(count=3, event={"event_id": "another"})
    _store(kafka, topics.dlq, other.to_bytes(), partition=2)
    _store(kafka, topics.dlq, first.to_bytes(), partition=3)

    result = _run("dlq", "show", EVENT_ID)

    assert result.exit_code == ExitCode.OK
    assert "still no such account" in result.stdout
    assert "hidden" not in result.stdout
    assert f"the newest of 2 letters; the others: {first.dlq_id}" in result.stderr


def test_a_letter_that_is_not_there_is_exit_code_1(topics: Topics) -> None:
    result = _run("dlq", "show", "nothing")

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert "no letter with the dlq_id or event_id 'nothing'" in result.stderr
    assert topics.dlq in result.stderr


def _answer(kafka: Kafka, topics: Topics, status: ResultStatus) -> None:
    """Be the worker: answer the first event of the topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": "worker",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(topics.events, number, 0) for number in range(4)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    event = WorkflowEvent.from_bytes(message.value())
    answer = WorkflowResultEvent(
        correlation_id=event.event_id,
        workflow_id=event.workflow_id,
        workflow_run_id=event.workflow_run_id,
        result={"total": 3},
        status=status,
        timestamp=SYSTEM.now(),
        error=None if status is ResultStatus.SUCCESS else "the account is closed",
    )
    _store(kafka, topics.results, answer.to_bytes(), key=event.event_id.encode())


def test_the_answer_of_a_success_goes_to_stdout(kafka: Kafka, topics: Topics) -> None:
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(_answer, kafka, topics, ResultStatus.SUCCESS)
        result = _run("send", "report", "--wait", "--timeout", "30s")
        worker.result()

    assert result.exit_code == ExitCode.OK
    assert json.loads(result.stdout) == {"total": 3}


def test_an_answer_that_is_no_success_is_exit_code_1(kafka: Kafka, topics: Topics) -> None:
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(_answer, kafka, topics, ResultStatus.FAILURE)
        result = _run("send", "report", "--wait", "--timeout", "30s", "--json")
        worker.result()

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert json.loads(result.stdout)["answer"]["status"] == "failure"
    assert "redrive: the run ended as failure: the account is closed" in result.stderr
