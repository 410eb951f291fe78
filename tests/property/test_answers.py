"""Whatever an event holds, however a run fails: it can be told, and the letter is whole."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redrive.consumer.event_run import Run
from redrive.consumer.outcome import Ending, NotTaken, Outcome, PolledRecord
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.source import source_digest
from redrive.errors import RecordError
from redrive.events import EventHeaders, EventPlace, WorkflowEvent, WorkflowResultEvent
from redrive.graphs.attempt_ends import Ended
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.topic_rules import LEAST_LETTER_BYTES
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

RESULTS, LETTERS = "results", "letters"
LIMIT = 10_000

any_text = st.text(st.characters())  # lone surrogates among them
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=8,
)
values = st.one_of(
    st.none(),
    st.binary(),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(["event_id", "workflow_id", "payload", "x"]), json_values).map(
        lambda value: json.dumps(value).encode()
    ),
    st.just(b"[" * 100_000),
    st.just(b'{"a":' * 900 + b"1" + b"}" * 900),
)
headers = st.lists(st.tuples(any_text, st.none() | st.binary(max_size=20)), max_size=4)


def answers(*, letters: int = 3 * LIMIT) -> OutcomeBuilder:
    return OutcomeBuilder(
        results_topic=RESULTS,
        dlq_topic=LETTERS,
        max_bytes={RESULTS: LIMIT, LETTERS: letters},
        worker="w",
        clock=ManualClock(),
    )


def polled(value: bytes | None, given_headers: list[tuple[str, bytes | None]]) -> PolledRecord:
    record = ConsumerRecord(TopicPartition("events", 2), 5, b"key", value, tuple(given_headers), 1)
    return PolledRecord(record, epoch=1)


HERE = EventPlace(topic="events", partition=2, offset=5)


def run() -> Run:
    asked = event({})
    given = polled(asked.to_bytes(), [])
    return Run(given, asked, EventHeaders(), f"{asked.event_id}/2/0")


def letter_of(outcome: Outcome) -> DeadLetter:
    (record,) = [record for record in outcome.records if record.topic == LETTERS]
    assert record.partition == 2
    assert record.key == b"key"
    return DeadLetter.model_validate_json(record.value or b"")


@pytest.mark.invariant("P1", "P6")
@example(b'{"event_id": "\\ud800"}')
@given(values)
def test_whatever_cannot_be_read_ends_in_a_whole_letter(value: bytes | None) -> None:
    outcome = answers().unreadable(polled(value, [("h", b"\xff")]), RecordError("no"))

    assert outcome.ending is Ending.DEAD_LETTERED
    for record in (record for record in outcome.records if record.topic == RESULTS):
        assert WorkflowResultEvent.from_bytes(record.value).answers == HERE
    source = letter_of(outcome).source
    assert (source.value, source.key, source.headers) == (value, b"key", [("h", b"\xff")])


@given(any_text)
def test_a_failure_of_any_text_can_be_told(text: str) -> None:
    given_up = GivenUp(ValueError(text), Failure(Kind.PERMANENT), Reason.PERMANENT)

    outcome = answers().given_up(run(), given_up)

    result = WorkflowResultEvent.from_bytes(outcome.records[0].value)
    assert result.error_info is not None
    assert result.error_info.dlq_id == letter_of(outcome).dlq_id
    assert result.answers == HERE


@given(any_text)
def test_a_graph_may_say_anything_of_its_failure(text: str) -> None:
    outcome = answers().ended(run(), Ended({}, resumed=False, reason=Reason.INTERRUPT, error=text))

    assert outcome.ending is Ending.FAILED


@pytest.mark.invariant("P6")
@pytest.mark.parametrize("size", [LIMIT // 2, LIMIT, 2 * LIMIT])
def test_a_result_over_its_topics_limit_becomes_an_error_and_a_letter(size: int) -> None:
    outcome = answers().ended(run(), Ended({"text": "x" * size}, resumed=False))

    small = size < LIMIT
    assert outcome.ending is (Ending.SUCCEEDED if small else Ending.DEAD_LETTERED)
    assert all(record.size_bytes <= LIMIT for record in outcome.records)
    if not small:
        assert letter_of(outcome).reason is Reason.RESULT_TOO_LARGE


@pytest.mark.invariant("P6")
def test_a_letter_that_would_be_too_large_keeps_the_source_and_drops_the_copy() -> None:
    value = json.dumps({"event_id": "x", "text": "é" * (LIMIT // 4)}, ensure_ascii=False).encode()

    outcome = answers(letters=LIMIT).unreadable(polled(value, []), RecordError("no"))

    letter = letter_of(outcome)
    assert letter.source.value == value
    assert letter.original_event is None
    assert all(record.size_bytes <= LIMIT for record in outcome.records)


NUL = "\0"
"""Six bytes in JSON."""
long_texts = st.sampled_from(["", "short", "x" * 1_024, "é" * 1_024, NUL * 1_024])
long_ids = st.sampled_from(["x", "e" * 200, "é" * 200, NUL * 200])


def asked_by(run_id: str, workflow_id: str, key: bytes) -> Run:
    asked = event({"text": random.Random(1).randbytes(2_000).hex()}).model_copy(
        update={"workflow_run_id": run_id, "workflow_id": workflow_id or "w"}
    )
    record = ConsumerRecord(TopicPartition("events", 2), 5, key, asked.to_bytes(), (), 1)
    return Run(PolledRecord(record, epoch=1), asked, EventHeaders(), f"{asked.event_id}/2/0")


@pytest.mark.invariant("P1")
@given(run_id=long_texts, workflow_id=long_texts, text=any_text)
def test_every_answer_fits_its_topic_whatever_its_event_is_called(
    run_id: str, workflow_id: str, text: str
) -> None:
    its = asked_by(run_id, workflow_id, b"k" * 3_000)
    given_up = GivenUp(ValueError(text * 1_000), Failure(Kind.PERMANENT), Reason.PERMANENT)

    outcomes = (answers(letters=LEAST_LETTER_BYTES).given_up(its, given_up), answers().expired(its))

    for outcome in outcomes:
        limits = {RESULTS: LIMIT, LETTERS: LEAST_LETTER_BYTES}
        assert all(record.size_bytes <= limits[record.topic] for record in outcome.records)
        told = WorkflowResultEvent.from_bytes(outcome.records[0].value)
        assert told.correlation_id == its.event_id
        assert told.answers == HERE
        assert told.error_info is not None


@pytest.mark.invariant("P1", "P6")
@given(event_id=long_ids, name=long_texts, seed=st.integers(0, 9))
def test_a_letter_that_cannot_hold_its_event_says_so(event_id: str, name: str, seed: int) -> None:
    text = random.Random(seed).randbytes(40_000).hex()
    value = json.dumps({"event_id": event_id, "workflow_id": name * 20, "text": text}).encode()
    headers: list[tuple[str, bytes | None]] = [(NUL * 1_000, b"v"), ("h", None)]

    outcome = answers(letters=LEAST_LETTER_BYTES).unreadable(
        polled(value, headers), RecordError("no")
    )

    letter = letter_of(outcome)
    assert all(record.size_bytes <= LEAST_LETTER_BYTES for record in outcome.records)
    left_out = letter.source.left_out
    assert left_out is not None
    assert letter.source.value is None
    assert left_out.value_bytes == len(value)
    assert left_out.digest == source_digest(b"key", value, headers)
    assert value.startswith(left_out.excerpt)
    assert len(left_out.excerpt) > 0
    assert letter.event_id == event_id


@pytest.mark.invariant("P6")
def test_a_value_that_a_producer_had_compressed_is_kept_whole() -> None:
    value = json.dumps({"event_id": "x", "text": "the same again, " * 10_000}).encode()

    outcome = answers(letters=LIMIT).unreadable(polled(value, []), RecordError("no"))

    (record,) = [record for record in outcome.records if record.topic == LETTERS]
    assert record.size_bytes <= LIMIT
    assert letter_of(outcome).source.value == value


@pytest.mark.invariant("P1")
def test_topics_that_take_less_than_they_said_get_ever_smaller_records() -> None:
    its = asked_by("r" * 1_024, "w" * 1_024, b"key")
    given_up = GivenUp(ValueError("x" * 1_500), Failure(Kind.PERMANENT), Reason.PERMANENT)
    outcome: Outcome | None = answers().given_up(its, given_up)
    sizes: dict[str, list[int]] = {RESULTS: [], LETTERS: []}

    for topic in (RESULTS, LETTERS):
        while outcome is not None:
            last = outcome
            (record,) = [record for record in outcome.records if record.topic == topic]
            sizes[topic].append(record.size_bytes)
            assert outcome.fallback is not None
            assert outcome.fallback(NotTaken(topic, "no", is_too_large=False)) is None
            outcome = outcome.fallback(NotTaken(topic, "too large", is_too_large=True))
        outcome = last

    for found in sizes.values():
        assert len(found) > 1
        assert found == sorted(set(found), reverse=True)
    assert letter_of(last).source.left_out is not None


@pytest.mark.invariant("P1")
@pytest.mark.parametrize(
    ("field", "text"),
    [("event_id", "-" * 300 + "0" * 32), ("workflow_run_id", "r" * 1_025)],
)
def test_an_id_that_is_too_long_is_unreadable(field: str, text: str) -> None:
    value = json.dumps({**json.loads(event({}).to_bytes()), field: text}).encode()

    with pytest.raises(RecordError, match=field):
        WorkflowEvent.from_bytes(value)


@pytest.mark.parametrize("name", ["redrive-thread", "redrive-of", "redrive-source"])
def test_a_header_that_is_too_long_is_not_believed(name: str) -> None:
    raw = [(name, b"t" * 1_025)]

    if name == "redrive-thread":
        with pytest.raises(RecordError, match="1024"):
            EventHeaders.read(raw)
    else:
        assert EventHeaders.read(raw) == EventHeaders()
