"""`redrive dlq list|groups|show|export` and `redrive run show`, over letters on a real broker."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter, LetterError
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.events import (
    EventHeaders,
    Payload,
    ResultStatus,
    RunInfo,
    WorkflowEvent,
    WorkflowResultEvent,
)
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.scan import scan
from redrive.redriving import read_letters
from redrive.retry.kinds import Kind, Reason
from redrive.state.commit_metadata import CommitMetadata, OffsetEntry, encode
from redrive.testing.created_topics import Kafka, Topics
from redrive.testing.stored_letters import dead_letter, store_letters

Headers = list[tuple[str, str | bytes | None]]
STATE: Headers = list(STATE_HEADERS)


@pytest.fixture(autouse=True)
def _narrow(command_line: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del command_line
    monkeypatch.setenv("COLUMNS", "80")


def _settings(kafka: Kafka, topics: Topics) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        events_topic=topics.events,
        results_topic=topics.results,
        dlq_topic=topics.dlq,
        group_id=topics.group,
    )


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def _ran(*arguments: str) -> Result:
    result = _run(*arguments)
    assert result.exit_code == ExitCode.OK, result.output
    return result


def _event(workflow_id: str = "report") -> WorkflowEvent:
    return WorkflowEvent(
        event_id=str(uuid.uuid4()),
        timestamp=SYSTEM.now(),
        workflow_id=workflow_id,
        workflow_run_id="run-1",
        payload=Payload(data={"iban": "hidden"}),
    )


def _letter(number: int, event: WorkflowEvent, **changes: object) -> DeadLetter:
    fields: dict[str, object] = {
        "timestamp": SYSTEM.now() - timedelta(minutes=number),
        "error": LetterError(type="ValueError", message=f"no account {number}"),
        "node": "book",
    }
    return dead_letter(
        event, topic="workflow-events", partition=number % 4, offset=number, **fields | changes
    )


def _state(letter: DeadLetter, state: State) -> bytes:
    return LetterState(
        dlq_id=letter.dlq_id, event_id=None, state=state, timestamp=SYSTEM.now(), actor="ada@host"
    ).to_bytes()


def _store(
    kafka: Kafka,
    topic: str,
    records: Iterable[tuple[int, bytes | None, Headers]],
    *,
    key: str = "key",
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all"})
    for partition, value, headers in records:
        producer.produce(topic, value, key, partition=partition, headers=headers)
    assert producer.flush(30) == 0


def test_400_letters_of_40_causes_are_40_groups(kafka: Kafka, topics: Topics) -> None:
    letters = [
        _letter(n, _event(f"flow-{n % 4}"), fingerprint=f"{n % 40:016x}") for n in range(400)
    ]
    store_letters(_settings(kafka, topics), letters)
    _store(
        kafka, topics.dlq, [(n % 4, _state(letters[n], State.DISCARDED), STATE) for n in range(40)]
    )

    page = _ran("dlq", "groups")
    groups = json.loads(_ran("dlq", "groups", "--json").stdout)["groups"]
    some = json.loads(_ran("dlq", "groups", "--json", "--workflow", "flow-1").stdout)["groups"]

    lines = page.stdout.splitlines()
    assert len(lines) == 1 + 3 * 40
    assert max(map(len, lines)) <= 80
    # 9 in the last 6 hours, 1 in the 18 before.
    assert "40 cause(s), 400 letter(s): 40 rising" in page.stderr
    assert {one["fingerprint"] for one in groups} == {f"{n:016x}" for n in range(40)}
    assert {(one["count"], one["open"]) for one in groups} == {(10, 9)}
    assert {one["fingerprint"] for one in some} == {f"{n:016x}" for n in range(1, 40, 4)}


def test_a_list_is_paged_newest_first_and_says_how_to_go_on(kafka: Kafka, topics: Topics) -> None:
    letters = [_letter(n, _event()) for n in range(5)]
    store_letters(_settings(kafka, topics), reversed(letters))
    _store(kafka, topics.dlq, [(1, _state(letters[1], State.PARKED), STATE), (2, b"noise", [])])

    first = _ran("dlq", "list", "--limit", "3")
    after = json.loads(_ran("dlq", "list", "--limit", "3", "--json").stdout)["after"]
    second = json.loads(_ran("dlq", "list", "--limit", "3", "--json", "--after", after).stdout)

    ids = [letter.dlq_id for letter in letters]
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines[1::2]] == ids[:3]
    assert [line.split()[1] for line in lines[1::2]] == ["open", "parked", "open"]
    assert "3 of 5 letter(s): 4 open, 1 parked" in first.stderr
    assert f"next: --after {after}" in first.stderr
    assert "1 record(s) of" in first.stderr
    assert [letter["dlq_id"] for letter in second["letters"]] == ids[3:]
    assert (second["total"], second["after"], second["unknown"]) == (5, None, 1)


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ([], [0, 1, 2]),
        (["--workflow", "bill"], [1]),
        (["--kind", "timeout"], [2]),
        (["--reason", "deadline"], [2]),
        (["--node", "pay"], [2]),
        (["--fingerprint", "f-1"], [1]),
        (["--since", "90s"], [0, 1]),
        (["--until", "90s"], [2]),
        (["--state", "open"], [0, 2]),
        (["--state", "redriven", "--workflow", "report"], []),
    ],
)
def test_flags_choose_letters(
    flags: list[str], found: list[int], kafka: Kafka, topics: Topics
) -> None:
    letters = [
        _letter(0, _event()),
        _letter(1, _event("bill"), fingerprint="f-1"),
        _letter(2, _event(), kind=Kind.TIMEOUT, reason=Reason.DEADLINE, node="pay"),
    ]
    store_letters(_settings(kafka, topics), letters)
    _store(kafka, topics.dlq, [(1, _state(letters[1], State.REDRIVEN), STATE)])

    listed = json.loads(_ran("dlq", "list", "--json", *flags).stdout)

    assert [letter["dlq_id"] for letter in listed["letters"]] == [letters[n].dlq_id for n in found]


def test_letters_are_chosen_by_their_id_or_that_of_their_event(
    kafka: Kafka, topics: Topics
) -> None:
    event = _event()
    letters = [_letter(0, event), _letter(1, _event()), _letter(2, _event())]
    store_letters(_settings(kafka, topics), letters)

    listed = json.loads(_ran("dlq", "list", event.event_id, letters[2].dlq_id, "--json").stdout)

    ids = [letter["dlq_id"] for letter in listed["letters"]]
    assert ids == [letters[0].dlq_id, letters[2].dlq_id]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--kind", "odd"], "'odd' is none of transient, rate_limited"),
        (["--state", "odd"], "'odd' is none of open, redriven"),
        (["--since", "odd"], "'odd' is not a time"),
        (["--after", "odd"], "'odd' is not a cursor"),
    ],
)
def test_a_flag_that_means_nothing_is_a_usage_error(
    flags: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = _run("dlq", "list", *flags)

    assert result.exit_code == ExitCode.SETTINGS
    assert said in result.stderr


def test_no_letters_is_no_error(topics: Topics) -> None:
    for command in ("list", "groups", "export"):
        result = _ran("dlq", command)
        assert result.stdout == ""
        assert topics.dlq not in result.stderr


def test_an_export_is_byte_exact_and_holds_what_was_chosen(kafka: Kafka, topics: Topics) -> None:
    event = _event()
    letters = [_letter(n, event, fingerprint="f" if n % 2 else None) for n in range(8)]
    store_letters(_settings(kafka, topics), letters)
    stored = {
        (record.tp.partition, record.offset): record
        for record in scan(_settings(kafka, topics), topics.dlq)
    }

    result = _ran("dlq", "export", "--fingerprint", "f")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["dlq_id"] for line in lines} == {x.dlq_id for x in letters if x.fingerprint}
    assert "4 letter(s)" in result.stderr
    by_id = {DeadLetter.model_validate_json(r.value or b"").dlq_id: r for r in stored.values()}
    for line in lines:
        record = by_id[line["dlq_id"]]
        assert (line["topic"], line["partition"]) == record.tp
        assert base64.b64decode(line["key"]) == record.key
        assert base64.b64decode(line["value"]) == record.value
        headers = [(name, base64.b64decode(value)) for name, value in line["headers"]]
        assert tuple(headers) == record.headers
        assert line["source"]["topic"] == "workflow-events"


def test_an_export_into_a_file_is_its_owners_only_and_replaces_nothing(
    kafka: Kafka, topics: Topics, tmp_path: Path
) -> None:
    store_letters(_settings(kafka, topics), [_letter(1, _event())])
    file = tmp_path / "letters.jsonl"

    _ran("dlq", "export", "--output", str(file))
    again = _run("dlq", "export", "--output", str(file))

    assert len(file.read_bytes().splitlines()) == 1
    assert file.stat().st_mode & 0o777 == 0o600
    assert again.exit_code == ExitCode.SETTINGS


def test_a_letter_with_the_same_id_is_shown_once_and_counted(kafka: Kafka, topics: Topics) -> None:
    letter = _letter(1, _event())
    store_letters(_settings(kafka, topics), [letter, letter])

    view = read_letters(_settings(kafka, topics))
    exported = _ran("dlq", "export").stdout.splitlines()

    assert [(x.dlq_id, x.offset) for x in view.letters] == [(letter.dlq_id, 1)]
    assert view.repeated == 1
    assert len(exported) == 1


def test_letters_of_an_open_or_aborted_transaction_are_not_there(
    kafka: Kafka, topics: Topics
) -> None:
    store_letters(_settings(kafka, topics), [_letter(n, _event()) for n in range(4)])
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topics.group}
    )
    producer.init_transactions(30)
    for end in (producer.abort_transaction, None):
        producer.begin_transaction()
        letter = _letter(9, _event())
        producer.produce(topics.dlq, letter.to_bytes(), partition=1)
        producer.flush(30)
        if end is not None:
            end(30)

    view = read_letters(_settings(kafka, topics))
    producer.abort_transaction(30)

    assert len(view.letters) == 4
    assert view.unknown == 0


def test_show_tells_what_became_of_a_letter(kafka: Kafka, topics: Topics) -> None:
    letter = _letter(1, _event())
    store_letters(_settings(kafka, topics), [letter])
    states = (State.PARKED, State.REDRIVEN)
    _store(kafka, topics.dlq, [(1, _state(letter, state), STATE) for state in states])

    page = _ran("dlq", "show", letter.dlq_id).stdout
    shown = json.loads(_ran("dlq", "show", letter.dlq_id, "--json").stdout)

    assert "state      redriven" in page
    assert "parked by ada@host (claimed)" in page
    assert "hidden" not in page
    assert [state["state"] for state in shown["states"]] == ["parked", "redriven"]


def _commit(kafka: Kafka, topics: Topics, offset: int, metadata: CommitMetadata) -> None:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": topics.group})
    tp = TopicPartition(topics.events, 2, offset, metadata=encode(metadata))
    consumer.commit(offsets=[tp], asynchronous=False)
    consumer.close()


def _answer(event: WorkflowEvent, status: ResultStatus) -> bytes:
    return WorkflowResultEvent(
        correlation_id=event.event_id,
        workflow_id=event.workflow_id,
        workflow_run_id=event.workflow_run_id,
        result={"iban": "hidden"},
        status=status,
        timestamp=SYSTEM.now(),
        error=None if status is ResultStatus.SUCCESS else "no account",
        run=RunInfo(
            attempts=3,
            started_at=SYSTEM.now(),
            finished_at=SYSTEM.now(),
            resumed=False,
            redrive_count=0,
            worker="w-1",
        ),
    ).to_bytes()


def _where(event: WorkflowEvent) -> str:
    shown = json.loads(_ran("run", "show", event.event_id, "--json").stdout)
    return str(shown["where"])


def test_a_run_is_followed_from_waiting_to_its_end(kafka: Kafka, topics: Topics) -> None:
    event = _event()
    _store(kafka, topics.events, [(2, e.to_bytes(), []) for e in (_event(), event, _event())])

    told = [_where(event)]
    _commit(kafka, topics, 1, CommitMetadata(1, 1))
    told.append(_where(event))
    _commit(
        kafka,
        topics,
        1,
        CommitMetadata(1, 2, entries={0: OffsetEntry(failed=2, crashes=1, started=True)}),
    )
    told.append(_where(event))
    _commit(kafka, topics, 1, CommitMetadata(1, 3, entries={0: OffsetEntry(failed=3)}))
    told.append(_where(event))
    _commit(kafka, topics, 2, CommitMetadata(1, 4))
    told.append(_where(event))
    _store(
        kafka, topics.results, [(0, _answer(event, ResultStatus.SUCCESS), [])], key=event.event_id
    )
    told.append(_where(event))

    assert told == [
        "waiting; the group's commits say nothing of its attempts",
        "waiting; 0 attempt(s) failed",
        "may be running; 2 attempt(s) failed, 1 crash(es)",
        "waiting; 3 attempt(s) failed",
        "ended; its result is older than --since or was deleted",
        "ended as success",
    ]


def test_a_run_that_was_given_up_and_sent_back_is_told_whole(kafka: Kafka, topics: Topics) -> None:
    event = _event()
    letter = _letter(2, event)
    claim = EventHeaders(of=letter.dlq_id, event=event.event_id, count=1, mode="resume")
    again: Headers = [*claim.write()]
    driven = LetterState(
        dlq_id=letter.dlq_id,
        event_id=event.event_id,
        state=State.REDRIVEN,
        timestamp=SYSTEM.now(),
        actor="ada@host",
        mode="resume",
        redrive_count=1,
    )
    records: list[tuple[int, bytes | None, Headers]] = [
        (2, event.to_bytes(), []),
        (2, event.to_bytes(), again),
    ]
    _store(kafka, topics.events, records)
    _commit(kafka, topics, 1, CommitMetadata(1, 1))
    _store(kafka, topics.results, [(0, _answer(event, ResultStatus.ERROR), [])], key=event.event_id)
    store_letters(_settings(kafka, topics), [letter])
    _store(kafka, topics.dlq, [(2, driven.to_bytes(), STATE)])

    result = _ran("run", "show", event.event_id)
    shown = json.loads(_ran("run", "show", event.event_id, "--json").stdout)

    assert result.stdout.startswith(f"run {event.event_id}: waiting; 0 attempt(s) failed\n")
    for words in (
        f"{topics.events}/2@0  redrive-count 0: ended",
        f"{topics.events}/2@1  redrive-count 1: waiting; 0 attempt(s) failed",
        "error after 3 attempt(s): no account",
        f"{letter.dlq_id}  redriven",
        "redriven by ada@host",
    ):
        assert words in result.stdout
    assert "hidden" not in result.stdout + json.dumps(shown)
    assert [event["standing"] for event in shown["events"]] == ["ended", "waiting"]


def test_an_event_that_nobody_knows_is_exit_code_1(kafka: Kafka, topics: Topics) -> None:
    other = _event()
    _store(kafka, topics.events, [(2, other.to_bytes(), [])])

    result = _run("run", "show", str(uuid.uuid4()))

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert "nothing is known of event" in result.stderr
    assert "--since 30d looks further back" in result.stderr


def test_a_scan_begins_and_ends_where_it_is_told(kafka: Kafka, topics: Topics) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all"})
    now = SYSTEM.now()
    for number in range(10):
        at_ms = round((now - timedelta(hours=10 - number)).timestamp() * 1000)
        producer.produce(topics.dlq, str(number).encode(), partition=1, timestamp=at_ms)
    assert producer.flush(30) == 0
    settings = _settings(kafka, topics)

    late = [r.value for r in scan(settings, topics.dlq, since=now - timedelta(hours=2, minutes=30))]
    none = list(scan(settings, topics.dlq, since=now + timedelta(hours=1)))
    middle = [r.offset for r in scan(settings, topics.dlq, spans={1: (3, 6)})]

    assert late == [b"8", b"9"]
    assert none == []
    assert middle == [3, 4, 5]


def test_a_scan_of_a_topic_that_grows_ends_all_the_same(kafka: Kafka, topics: Topics) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})
    for number in range(200):
        producer.produce(topics.dlq, str(number).encode(), partition=1)
    assert producer.flush(30) == 0

    seen = 0
    for record in scan(_settings(kafka, topics), topics.dlq):
        assert record.value == str(seen).encode()
        seen += 1
        # Faster than they are read: it is never at its end.
        producer.produce(topics.dlq, b"later", partition=1)
        producer.produce(topics.dlq, b"later", partition=1)
        assert producer.flush(30) == 0

    assert seen == 200
