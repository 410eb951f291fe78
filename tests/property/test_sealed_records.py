"""Whatever an event, a result or a letter says: sealed, it says nothing; opened, the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.test_answers import polled
from tests.property.test_shortened_letters import letter_of

from redrive.codec import AesGcm
from redrive.consumer.event_run import Run
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.sealing import opened_letter, sealed_letter
from redrive.errors import CodecError
from redrive.events import EventHeaders, Payload, WorkflowEvent, WorkflowResultEvent
from redrive.graphs.attempt_ends import Ended
from redrive.payloads import Payloads
from redrive.redriving.sealed_events import open_text, seal_text
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.sealed_records import opened_event, opened_result, sealed_event
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

PAYLOADS = Payloads(AesGcm({"k": bytes(32)}))
MARK = "Mustermann"
LIMIT = 4_000

texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4).map(lambda o: {**o, "name": MARK})


def asked(data: dict[str, object], beside: dict[str, object]) -> WorkflowEvent:
    payload = Payload.model_validate({"data": data, "config": {"name": MARK}})
    metadata = {**beside, "langgraph": {"tags": [MARK]}, "context": {"who": MARK}, "dag_id": "d"}
    return event({}).model_copy(update={"payload": payload, "metadata": metadata})


@pytest.mark.invariant("P15")
@given(objects, st.dictionaries(texts.map("x".__add__), values, max_size=3))
def test_an_event_is_opened_as_it_was_sealed(
    data: dict[str, object], beside: dict[str, object]
) -> None:
    sent = asked(data, beside)
    sealed = WorkflowEvent.from_bytes(sealed_event(sent, PAYLOADS).to_bytes())
    opened = opened_event(sealed, PAYLOADS)

    assert MARK.encode() not in sealed.to_bytes()
    assert opened == sent
    assert opened_event(sent, PAYLOADS) == sent
    assert sealed.metadata == {**beside, "dag_id": "d"}
    same = sealed.model_copy(update={"payload": sent.payload, "metadata": sent.metadata})
    assert same == sent
    # And as text, for who edits it.
    text = open_text(sealed.to_bytes().decode(), PAYLOADS)
    assert json.loads(text) == json.loads(sent.to_bytes())
    assert opened_event(WorkflowEvent.from_bytes(seal_text(text, PAYLOADS).encode()), PAYLOADS) == (
        sent
    )


@pytest.mark.invariant("P15")
@given(objects, objects)
def test_what_is_sealed_for_one_event_is_no_other_events(
    data: dict[str, object], other: dict[str, object]
) -> None:
    one, another = (sealed_event(asked(each, {}), PAYLOADS) for each in (data, other))
    for changes in (
        {"payload": one.payload, "metadata": one.metadata},
        {"workflow_id": "more rights than its own"},
    ):
        with pytest.raises(CodecError):
            opened_event(another.model_copy(update=changes), PAYLOADS)


@pytest.mark.invariant("P15")
@given(objects, st.sampled_from(["context", "langgraph"]), st.booleans())
def test_what_is_added_in_clear_beside_a_sealed_payload_is_not_given_to_its_graph(
    data: dict[str, object],
    name: str,
    was_there: bool,  # noqa: FBT001 - drawn
) -> None:
    sent = asked(data, {})
    if not was_there:
        sent = sent.model_copy(update={"metadata": {"dag_id": "d"}})
    sealed = sealed_event(sent, PAYLOADS)
    added = sealed.model_copy(update={"metadata": {**sealed.metadata, name: {"who": "another"}}})

    assert opened_event(added, PAYLOADS) == sent
    again = seal_text(open_text(added.to_bytes().decode(), PAYLOADS), PAYLOADS)
    given = opened_event(WorkflowEvent.from_bytes(again.encode()), PAYLOADS).metadata
    assert {key: value for key, value in given.items() if value is not None} == sent.metadata


@pytest.mark.invariant("P6", "P15")
@given(texts.map(MARK.__add__), st.lists(texts.map(MARK.__add__), max_size=20), st.data())
def test_a_letter_is_opened_as_it_was_sealed_and_fits_its_limit_sealed(
    trace: str, messages: list[str], data: st.DataObject
) -> None:
    value = sealed_event(event({"name": MARK}), PAYLOADS).to_bytes()
    letter = letter_of(trace, messages, value).model_copy(update={"original_event": None})
    limit = data.draw(st.integers(2_500, 20_000), label="limit")

    written = letter.to_bytes(limit=limit, seal=lambda one: sealed_letter(one, PAYLOADS))
    whole = DeadLetter.model_validate_json(sealed_letter(letter, PAYLOADS).to_bytes())

    assert len(written) <= limit
    assert MARK.encode() not in written
    assert MARK.encode() not in whole.to_bytes()
    assert opened_letter(whole, PAYLOADS) == letter
    assert whole.source == letter.source
    kept = DeadLetter.model_validate_json(written)
    assert kept.source.value == value
    opened_letter(kept, PAYLOADS)
    with pytest.raises(CodecError):
        opened_letter(kept.model_copy(update={"dlq_id": "another"}), PAYLOADS)


@pytest.mark.invariant("P1", "P15")
@given(values, st.text(st.characters(), max_size=3_000))
def test_whatever_a_run_comes_to_its_records_fit_sealed_and_are_opened(
    result: object, said: str
) -> None:
    sent = event({"name": MARK})
    sealed = sealed_event(sent, PAYLOADS)
    run = Run(polled(sealed.to_bytes(), []), sealed, EventHeaders(), f"{sent.event_id}/2/0")
    answers = OutcomeBuilder(
        results_topic="results",
        dlq_topic="letters",
        max_bytes={"results": LIMIT, "letters": 3 * LIMIT},
        worker="w",
        clock=ManualClock(),
        payloads=PAYLOADS,
    )
    error = ValueError(f"{MARK} {said}")
    ended = answers.ended(run, Ended(result={"name": MARK, "more": result}, resumed=False))
    failed = answers.given_up(run, GivenUp(error, Failure(Kind.PERMANENT), Reason.PERMANENT))
    too_large = answers.ended(run, Ended(result=[MARK * LIMIT], resumed=False))

    for outcome in (ended, failed, too_large):
        for record in outcome.records:
            assert record.size_bytes <= answers_limit(record.topic)
            assert MARK.encode() not in (record.value or b"")
        assert MARK not in repr(outcome.account)
    (told,) = [r.value for r in ended.records if r.topic == "results"]
    answer = opened_result(WorkflowResultEvent.from_bytes(told), PAYLOADS)
    if answer.status == "success":
        assert answer.result == {"name": MARK, "more": result}
    (answer_of_failed, letter) = failed.records
    opened = opened_result(WorkflowResultEvent.from_bytes(answer_of_failed.value), PAYLOADS)
    assert MARK in (opened.error or "")
    whole = opened_letter(DeadLetter.model_validate_json(letter.value or b""), PAYLOADS)
    assert MARK in whole.error.message
    assert whole.source.value == sealed.to_bytes()


def answers_limit(topic: str) -> int:
    return LIMIT if topic == "results" else 3 * LIMIT
