"""Publishing a spool on a real broker: each letter once, whoever runs it how often."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter, LetterContext, LetterError, Source
from redrive.dead_letter.spool import SpooledLetter
from redrive.dead_letter.states import LetterState, State
from redrive.errors import FencedError, SettingsError
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.redriving.spooled import SpoolCounts, publish_spool
from redrive.retry.kinds import Kind, Reason
from redrive.signatures import Require, Verifier
from redrive.testing.created_topics import Kafka, Topics, delete_topics
from redrive.testing.reading import read_topic


def letter(*, partition: int = 0, size: int = 10) -> SpooledLetter:
    dlq_id = str(uuid.uuid4())
    whole = DeadLetter(
        dlq_id=dlq_id,
        timestamp=SYSTEM.now(),
        original_event=None,
        error=LetterError(type="ValueError", message="x" * size),
        retry_count=0,
        context=LetterContext(),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(topic="events", partition=partition, offset=1, value=b"{}"),
    )
    return SpooledLetter(
        dlq_id=dlq_id,
        topic="letters-of-another-place",
        partition=partition,
        key=b"\xff key",
        headers=(("redrive-kind", b"permanent"), ("empty", None)),
        value=whole.to_bytes(),
    )


@pytest.fixture
def settings(kafka: Kafka, topics: Topics) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        events_topic=topics.events,
        results_topic=topics.results,
        dlq_topic=topics.dlq,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


def write(path: Path, *letters: SpooledLetter) -> None:
    path.write_bytes(b"".join(one.to_line() for one in letters))


def test_letters_are_stored_as_they_are_and_a_second_run_adds_nothing(
    settings: KafkaSettings, path: Path
) -> None:
    letters = [letter(partition=number % 4) for number in range(9)]
    write(path, *letters)

    first = publish_spool(path, settings)
    second = publish_spool(path, settings)

    assert first == SpoolCounts(published=9, already_there=0, torn=0)
    assert second == SpoolCounts(published=0, already_there=9, torn=0)
    records = read_topic(settings.bootstrap_servers, settings.dlq_topic)
    assert sorted((r.tp.partition, r.key, r.value, r.headers) for r in records) == sorted(
        (one.partition, one.key, one.value, one.headers) for one in letters
    )


def test_more_letters_than_one_transaction_holds_are_all_stored(
    settings: KafkaSettings, path: Path
) -> None:
    letters = [letter(partition=number % 4) for number in range(1100)]
    write(path, *letters)

    counts = publish_spool(path, settings)

    assert counts.published == 1100
    assert len(read_topic(settings.bootstrap_servers, settings.dlq_topic)) == 1100


def test_a_letter_that_is_too_large_does_not_take_those_beside_it_with_it(
    settings: KafkaSettings, path: Path
) -> None:
    name = f"small-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    new = NewTopic(name, 1, 1, config={"max.message.bytes": "40000"})
    admin.create_topics([new])[name].result(timeout=30)
    small = settings.model_copy(update={"dlq_topic": name})
    letters = [letter(size=1000) for _ in range(100)]
    write(path, *letters[:50], letter(size=60_000), *letters[50:])

    counts = publish_spool(path, small)

    assert counts == SpoolCounts(published=100, already_there=0, torn=0, too_large=1)
    stored = [record.value for record in read_topic(settings.bootstrap_servers, name)]
    assert sorted(value or b"" for value in stored) == sorted(one.value for one in letters)
    delete_topics(settings.bootstrap_servers, [name])


def test_lines_that_are_no_letter_and_letters_that_are_there_twice_are_counted(
    settings: KafkaSettings, path: Path
) -> None:
    whole, other = letter(), letter()
    lies = whole.model_copy(update={"dlq_id": "another"})
    write(path, whole, whole, lies)
    with path.open("ab") as file:
        file.write(other.to_line()[:100])

    counts = publish_spool(path, settings)

    assert counts == SpoolCounts(published=1, already_there=1, torn=2, first_torn=(4,))


def test_a_partition_that_the_topic_does_not_have_is_left_to_the_key(
    settings: KafkaSettings, path: Path
) -> None:
    write(path, letter(partition=17))

    counts = publish_spool(path, settings)

    assert counts.published == 1


def test_a_state_record_of_a_letter_does_not_stand_for_the_letter(
    settings: KafkaSettings, path: Path
) -> None:
    missing = letter()
    state = LetterState(
        dlq_id=missing.dlq_id,
        event_id=None,
        state=State.PARKED,
        timestamp=SYSTEM.now(),
        actor="test",
    )
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    producer.produce(settings.dlq_topic, state.to_bytes(), headers={"redrive-record": "state"})
    assert producer.flush(30) == 0
    write(path, missing)

    assert publish_spool(path, settings).published == 1


def test_two_imports_at_a_time_store_each_letter_once(settings: KafkaSettings, path: Path) -> None:
    letters = [letter(partition=number % 4) for number in range(1100)]
    write(path, *letters)

    def run(_: int) -> SpoolCounts | FencedError:
        try:
            return publish_spool(path, settings)
        except FencedError as overtaken:
            return overtaken

    with ThreadPoolExecutor(3) as pool:
        came_to = list(pool.map(run, range(3)))

    assert any(isinstance(one, SpoolCounts) for one in came_to)
    records = read_topic(settings.bootstrap_servers, settings.dlq_topic)
    assert sorted(r.value or b"" for r in records) == sorted(one.value for one in letters)


def test_a_topic_that_is_not_there_is_told_and_not_created(
    settings: KafkaSettings, path: Path
) -> None:
    write(path, letter())
    lacking = settings.model_copy(update={"dlq_topic": f"missing-{uuid.uuid4().hex[:8]}"})

    for _ in range(2):
        with pytest.raises(SettingsError, match="redrive topics create"):
            publish_spool(path, lacking)


def test_a_file_that_is_not_there_is_told(settings: KafkaSettings, path: Path) -> None:
    with pytest.raises(SettingsError, match=str(path)):
        publish_spool(path, settings)


@pytest.mark.invariant("P6", "P15")
def test_a_forged_letter_keeps_no_other_away(settings: KafkaSettings, path: Path) -> None:
    verifier = Verifier({"ops": b"o" * 32}, Require.REFUSE)
    own = letter()
    write(path, own)
    publish_spool(path, settings)

    # That one is not signed, as a forged one with its id.
    counts = publish_spool(path, settings, verifier=verifier)

    assert (counts.published, counts.already_there) == (1, 0)
    assert publish_spool(path, settings).already_there == 1
