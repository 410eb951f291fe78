"""Whatever an event holds, however a run fails: it can be told, and the letter is whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redrive.consumer.answers import Answers, GivenUp
from redrive.consumer.outcome import Delivery, Ending, Outcome
from redrive.consumer.run import Run
from redrive.dead_letter.record import DeadLetter
from redrive.errors import RecordError
from redrive.events import EventHeaders, EventPlace, WorkflowResultEvent
from redrive.graphs.runs import Ended
from redrive.kafka.log import Place, Record
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.testing.clock import TurnedClock
from redrive.testing.stage import event

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


def answers(*, letters: int = 3 * LIMIT) -> Answers:
    return Answers(
        results_topic=RESULTS,
        dlq_topic=LETTERS,
        max_bytes={RESULTS: LIMIT, LETTERS: letters},
        worker="w",
        clock=TurnedClock(),
    )


def delivery(value: bytes | None, given_headers: list[tuple[str, bytes | None]]) -> Delivery:
    record = Record(Place("events", 2), 5, b"key", value, tuple(given_headers), 1)
    return Delivery(record, epoch=1)


HERE = EventPlace(topic="events", partition=2, offset=5)


def run() -> Run:
    asked = event({})
    given = delivery(asked.to_bytes(), [])
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
    outcome = answers().unreadable(delivery(value, [("h", b"\xff")]), RecordError("no"))

    assert outcome.ending is Ending.DEAD_LETTERED
    for record in outcome.records[1:]:
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

    outcome = answers(letters=LIMIT).unreadable(delivery(value, []), RecordError("no"))

    letter = letter_of(outcome)
    assert letter.source.value == value
    assert letter.original_event is None
    assert all(record.size_bytes <= LIMIT for record in outcome.records)
