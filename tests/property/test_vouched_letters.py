"""What outsiders write to the letters topic changes nothing where signatures are required."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.auditing.audit_findings import Unseen
from redrive.auditing.judge import Judge
from redrive.auditing.read_since import ReadSince
from redrive.dead_letter.record import DeadLetter, LetterContext, LetterError, Source
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.dead_letter.vouching import Vouched
from redrive.events import Payload, WorkflowEvent
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.signed import signed
from redrive.redriving.deciding import Refusal, Refuse, Send
from redrive.redriving.event_cache import CachedEvent
from redrive.redriving.extracts import read_slimly
from redrive.redriving.jobs import Redriving, StateChange
from redrive.redriving.needed import letters_need
from redrive.redriving.partition import Entry, PartitionFold
from redrive.redriving.selection import Selection
from redrive.redriving.views import fold
from redrive.retry.kinds import Kind, Reason
from redrive.signatures import Require, Rights, Signed, SignedText, Signer, Subject, Verifier

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LETTERS = TopicPartition("letters", 2)
KEYS = {"worker": b"w" * 32, "ops": b"o" * 32, "team": b"t" * 32}
WORKER, OPS, TEAM = (Signer(name, secret) for name, secret in KEYS.items())
VERIFIER = Verifier(KEYS, Require.REFUSE, {"team": Rights(("*",), letters=False)})
LENIENT = Verifier(KEYS, Require.WARN)
EVENTS = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(3)]


def event_of(event_id: str, **data: object) -> WorkflowEvent:
    return WorkflowEvent(
        event_id=event_id,
        timestamp=NOON,
        workflow_id="pay",
        workflow_run_id="r",
        payload=Payload(data=data),
    )


def letter(
    dlq_id: str,
    event_id: str,
    *,
    minute: int = 0,
    count: int = 0,
    reason: Reason = Reason.PERMANENT,
    **data: object,
) -> ProducerRecord:
    sent = event_of(event_id, **data)
    found = DeadLetter(
        dlq_id=dlq_id,
        timestamp=NOON + timedelta(minutes=minute),
        original_event=sent.model_dump(mode="json"),
        error=LetterError(type="ValueError", message="no"),
        retry_count=0,
        context=LetterContext(workflow_id="pay"),
        kind=Kind.PERMANENT,
        reason=reason,
        source=Source(topic="events", partition=2, offset=0, value=sent.to_bytes()),
        redrive_count=count,
    )
    return ProducerRecord(
        LETTERS.topic, b"k", found.to_bytes(), tuple(found.headers()), LETTERS.partition
    )


def state(
    dlq_id: str, event_id: str | None, to: State, *, minute: int = 0, count: int = 0
) -> ProducerRecord:
    told = LetterState(
        dlq_id=dlq_id,
        event_id=event_id,
        state=to,
        timestamp=NOON + timedelta(minutes=minute),
        actor="anna",
        redrive_count=count,
    )
    return ProducerRecord(LETTERS.topic, b"k", told.to_bytes(), STATE_HEADERS, LETTERS.partition)


def by(signer: Signer | None, record: ProducerRecord) -> ProducerRecord:
    is_state = STATE_HEADERS[0] in record.headers
    return signed(record, Subject.STATE if is_state else Subject.LETTER, signer)


def laid(records: Sequence[ProducerRecord], tp: TopicPartition = LETTERS) -> list[ConsumerRecord]:
    return [
        ConsumerRecord(tp, offset, one.key, one.value, one.headers, 1)
        for offset, one in enumerate(records)
    ]


def entries(records: Sequence[ProducerRecord], verifier: Verifier = VERIFIER) -> list[Entry]:
    folded = PartitionFold(verifier=verifier)
    for record in laid(records):
        folded.add(record)
    return list(folded)


class Stands(NamedTuple):
    state: State
    actor: str | None
    signed_by: str | None
    redrive_count: int
    superseded_by: str | None
    at: datetime


def status(found: Sequence[Entry]) -> dict[tuple[str, str | None], Stands]:
    return {
        (one.dlq_id, one.event_id): Stands(
            one.state, one.actor, one.signed_by, one.redrive_count, one.superseded_by, one.at
        )
        for one in found
        if one.vouched is Vouched.YES
    }


ids, events, minutes, counts = (
    st.sampled_from("abc"),
    st.sampled_from(EVENTS),
    st.integers(0, 5),
    st.integers(0, 3),
)
letters = st.builds(
    lambda dlq_id, event_id, minute, count: letter(dlq_id, event_id, minute=minute, count=count),
    ids,
    events,
    minutes,
    counts,
)
states = st.builds(
    lambda dlq_id, event_id, to, minute, count: state(
        dlq_id, event_id, to, minute=minute, count=count
    ),
    ids,
    events,
    st.sampled_from(State),
    minutes,
    counts,
)
honest = st.builds(by, st.sampled_from([WORKER, OPS]), letters | states)


def _of_another_kind(record: ProducerRecord) -> ProducerRecord:
    return signed(record, Subject.EVENT, WORKER)


def _of_another_place(record: ProducerRecord) -> ProducerRecord:
    elsewhere = by(WORKER, record._replace(partition=3))
    return elsewhere._replace(partition=LETTERS.partition)


hostile = st.one_of(
    letters | states,
    st.builds(by, st.sampled_from([TEAM, Signer("worker", b"x" * 32)]), letters | states),
    (letters | states).map(_of_another_kind),
    (letters | states).map(_of_another_place),
    st.integers(0, 20),  # a copy of what lies there, as it is
)


@pytest.mark.invariant("P13", "P15")
@given(st.lists(st.tuples(honest, st.lists(hostile, max_size=2)), max_size=8))
def test_outsiders_move_no_letter(
    told: list[tuple[ProducerRecord, list[ProducerRecord | int]]],
) -> None:
    topic: list[ProducerRecord] = []
    for own, others in told:
        for other in others:
            if not isinstance(other, int):
                topic.append(other)
            elif topic:
                topic.append(topic[other % len(topic)])
        topic.append(own)

    assert status(entries(topic)) == status(entries([own for own, _ in told]))


@pytest.mark.invariant("P13", "P15")
def test_a_forged_state_closes_no_letter_and_a_signed_one_does() -> None:
    own = by(WORKER, letter("a", EVENTS[0]))
    forged = [
        state("a", EVENTS[0], State.DISCARDED),
        by(TEAM, state("a", EVENTS[0], State.DISCARDED)),
        by(Signer("ops", b"x" * 32), state("a", EVENTS[0], State.RESOLVED)),
    ]
    parked, back = (
        by(OPS, state("a", EVENTS[0], State.PARKED)),
        by(OPS, state("a", EVENTS[0], State.OPEN, minute=1)),
    )

    assert entries([own, *forged])[0].state is State.OPEN
    assert entries([own, forged[0]], LENIENT)[0].state is State.DISCARDED
    (stands,) = entries([own, parked])
    assert (stands.state, stands.signed_by) == (State.PARKED, "ops")
    assert entries([own, parked, back, parked])[0].state is State.OPEN
    assert fold(laid([own, *forged]), verifier=VERIFIER).letters[0].state is State.OPEN


def test_what_a_state_says_of_itself_is_not_believed() -> None:
    value = state("a", EVENTS[0], State.PARKED).value or b""
    lying = value[:-1] + b',"signed_by":"ops","counts":true,"_judged":"x","_counts":true}'
    found = read_slimly(laid([state("a", EVENTS[0], State.PARKED)._replace(value=lying)])[0])
    required = read_slimly(
        laid([state("a", EVENTS[0], State.PARKED)._replace(value=lying)])[0], VERIFIER
    )

    assert isinstance(found, LetterState)
    assert isinstance(required, LetterState)
    assert (found.signed_by, found.counts) == (None, True)
    assert (required.signed_by, required.counts) == (None, False)


def test_the_letter_of_an_event_that_was_refused_stands_beside_the_others() -> None:
    own = by(WORKER, letter("a", EVENTS[0]))
    later = by(WORKER, letter("c", EVENTS[0], minute=2))

    for verifier, reason, vouched in (
        (VERIFIER, Reason.UNSIGNED, Vouched.EVENT_NOT),
        (LENIENT, Reason.NOT_ALLOWED, Vouched.EVENT_NOT),
        (LENIENT, Reason.OTHER_INPUT, Vouched.ID_NOT),
    ):
        refused = by(WORKER, letter("b", EVENTS[0], minute=1, reason=reason))
        found = {one.dlq_id: one for one in entries([own, refused], verifier)}
        assert found["a"].superseded_by is None
        assert found["b"].vouched is vouched
        after = {one.dlq_id: one for one in entries([own, refused, later], verifier)}
        assert after["a"].superseded_by == after["b"].superseded_by == "c"


def test_a_forged_letter_takes_the_place_of_none_and_goes_when_the_real_one_comes() -> None:
    own = by(WORKER, letter("a", EVENTS[0], sum=1))
    forged = letter("a", EVENTS[0], minute=5, count=99, sum=1_000_000)

    for topic in ([own, forged], [forged, own], [forged, own, forged]):
        (found,) = entries(topic)
        assert (found.vouched, found.redrive_count) == (Vouched.YES, 0)
    (alone,) = entries([forged])
    assert alone.vouched is Vouched.LETTER_NOT


def refusal_of(entry: Entry, selection: Selection) -> Refusal | None:
    driving = Redriving(selection, "anna", "events", frozenset({2}), mode="restart")
    decided = driving.decide(entry)
    if isinstance(decided, Refuse):
        return decided.refusal
    assert isinstance(decided, Send)
    return None


def test_a_letter_that_nobody_vouches_for_is_driven_only_by_its_name() -> None:
    (forged,) = entries([letter("a", EVENTS[0])])
    (refused,) = entries([by(WORKER, letter("a", EVENTS[0], reason=Reason.UNSIGNED))])
    claims = entries([letter("a", EVENTS[0], reason=Reason.UNSIGNED)])[0]

    for entry in (forged, refused, claims):
        assert refusal_of(entry, Selection()) is Refusal.NOT_SIGNED
        assert refusal_of(entry, Selection(workflow="pay")) is Refusal.NOT_SIGNED
        assert refusal_of(entry, Selection.of([EVENTS[0]])) is Refusal.NOT_SIGNED
        assert refusal_of(entry, Selection.of(["a"])) is None
    assert refusal_of(refused, Selection(reason="unsigned")) is None
    assert refusal_of(claims, Selection(reason="unsigned")) is Refusal.NOT_SIGNED
    (old,) = entries([letter("a", EVENTS[0])], LENIENT)
    assert refusal_of(old, Selection()) is None


Records = Callable[[CachedEvent, Entry], list[ProducerRecord]]


@pytest.mark.invariant("P13", "P15")
def test_what_is_done_with_letters_is_signed_where_it_will_lie() -> None:
    # The event that is sent back had a signature of its own, which fits no more.
    own = by(WORKER, letter("a", EVENTS[0]))
    slim = read_slimly(laid([own])[0])
    assert isinstance(slim, dict)
    slim["headers"] = [("redrive-signature", b"v1 team xyz"), ("redrive-thread", b"t")]
    original, entry = CachedEvent.of(laid([own])[0], slim), entries([own])[0]
    driving = Redriving(Selection(), "anna", "events", frozenset({2}), signer=OPS)
    moving = StateChange(Selection(), "anna", State.DISCARDED, signer=OPS)

    sent, driven = driving.records(original, entry, Send("restart", 1), NOON, 1)
    (moved,) = moving.records(original, entry, Send("restart", 1), NOON, 1)

    for record, subject in (
        (sent, Subject.EVENT),
        (driven, Subject.STATE),
        (moved, Subject.STATE),
    ):
        assert record.partition == 2
        text = SignedText(subject, *record[:1], 2, record.key, record.value, record.headers)
        assert VERIFIER.judge(text) == Signed("ops")
    assert dict(sent.headers)["redrive-thread"] == b"t"
    assert [one.state for one in entries([own, driven])] == [State.REDRIVEN]


def test_a_forged_state_frees_no_thread_and_an_audit_passes_it_by() -> None:
    own, forged = by(WORKER, letter("a", EVENTS[0])), state("a", EVENTS[0], State.DISCARDED)
    thread = f"{EVENTS[0]}/2/0"
    judge = Judge(verifier=VERIFIER)

    judge.take_letters(laid([own, forged]), ReadSince())

    assert letters_need(laid([own, forged]), {thread}, verifier=VERIFIER) == {thread}
    assert letters_need(laid([own, forged]), {thread}, verifier=LENIENT) == set()
    assert judge.states == {"open": 1}
    assert judge.unseen[Unseen.STATE_NOT_SIGNED] == 1
