"""Which event drives a letter: decided by the letters, whatever events say of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.consumer.letters_reader import EARLIER_MS, DrivenIndex
from redrive.dead_letter.driven import ClaimedRedrive, DrivenLetters, sent_digest
from redrive.dead_letter.fold import Descent, LetterFold, LetterStatus
from redrive.dead_letter.record import (
    DeadLetter,
    LetterContext,
    LetterError,
    Source,
    input_digest,
)
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State, read_state
from redrive.events import EventPlace
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.retry.kinds import Kind, Reason
from redrive.signatures import Require, Verifier
from redrive.testing.manual_clock import ManualClock

OWN, OTHER = "7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10", "11111111-2222-4333-8444-555555555555"
NOW = ManualClock().now()


def tp(offset: int) -> EventPlace:
    return EventPlace(topic="events", partition=0, offset=offset)


HERE, ELSEWHERE = tp(7), tp(8)
SENT, FORGED = "digest", "of other bytes"
CLAIM = ClaimedRedrive("L", OWN, 1, "resume", SENT, HERE)


def state(now: State = State.REDRIVEN, **changes: object) -> LetterState:
    fields: dict[str, object] = {"mode": "resume", "redrive_count": 1}
    if now is State.REDRIVEN:
        fields["sent"] = SENT
    told = LetterState(dlq_id="L", event_id=OWN, state=now, timestamp=NOW, actor="anna")
    return told.model_copy(update=fields | changes)


def letter(dlq_id: str = "L", **changes: object) -> DeadLetter:
    value = b'{"event_id": "%s"}' % OWN.encode()
    made = DeadLetter(
        dlq_id=dlq_id,
        timestamp=NOW,
        original_event=None,
        error=LetterError(type="ValueError", message="no"),
        retry_count=0,
        context=LetterContext(),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(topic="events", partition=0, offset=7, value=value),
        generation=0,
        input_digest="b2:asked",
    )
    return made.model_copy(update=changes)


def unsigned(told: LetterState) -> LetterState:
    record = ConsumerRecord(
        TopicPartition("letters", 0), 0, None, told.to_bytes(), STATE_HEADERS, None
    )
    judged = read_state(record, Verifier(require=Require.REFUSE))
    assert judged is not None
    return judged


AGAIN = letter("L1", redrive_of="L", redrive_count=1)
ENDED_HERE = state(State.RESOLVED, ended=HERE)


@pytest.mark.invariant("P13")
@rows(
    "what, told, is_believed",
    [
        ("nobody has driven it", [], False),
        ("it was driven", [state()], True),
        ("another letter was", [state(dlq_id="M")], False),
        ("the letter of another event was", [state(event_id=OTHER)], False),
        ("as often as another", [state(redrive_count=2)], False),
        ("other bytes were sent", [state(sent=FORGED)], False),
        ("it is parked", [state(State.PARKED)], False),
        ("it was discarded", [state(), state(State.DISCARDED)], False),
        ("that has ended well, by a version before", [state(), state(State.RESOLVED)], False),
        ("by another event", [state(), state(State.RESOLVED, ended=ELSEWHERE)], False),
        ("by this very one", [state(), ENDED_HERE], True),
        ("and it was opened since", [state(), ENDED_HERE, state(State.OPEN)], False),
        ("it has expired", [state(), state(State.OPEN, ended=ELSEWHERE)], False),
        (
            "it has ended in a letter",
            [
                state(),
                AGAIN.model_copy(
                    update={"source": letter().source.model_copy(update={"offset": 8})}
                ),
            ],
            False,
        ),
        ("by this very one", [state(), AGAIN], True),
        ("somebody else's event of that id failed", [state(), letter("X")], True),
        ("by nobody with a key, where one is required", [unsigned(state())], False),
        ("and nobody with one says that it has ended", [state(), unsigned(ENDED_HERE)], True),
        ("it was driven once more", [state(), ENDED_HERE, state(redrive_count=2)], False),
        ("a version before drove it", [state(sent=None)], True),
        ("the other way", [state(sent=None, mode="restart")], False),
        ("its event could not be read, and was edited", [state(event_id=None)], True),
        ("and that has ended", [state(event_id=None), state(State.RESOLVED)], False),
    ],
)
def test_an_event_is_believed_to_drive_its_letter_only_where_the_last_state_says_so(
    what: str, told: Sequence[LetterState | DeadLetter], *, is_believed: bool
) -> None:
    driven = DrivenLetters()
    for one in told:
        if isinstance(one, LetterState):
            driven.state(one)
        else:
            at = EventPlace(topic="events", partition=0, offset=one.source.offset)
            driven.letter(Descent.of(one).redrive_of, one.event_id, at)

    assert driven.believes(CLAIM) is is_believed, what


def test_the_digest_is_of_the_bytes_and_of_our_headers_alone() -> None:
    ours = ("redrive-of", b"L")
    digest = sent_digest(b"k", b"v", [ours])

    assert sent_digest(b"k", b"v", [("traceparent", b"by a proxy"), ours]) == digest
    others = [
        sent_digest(b"k", b"w", [ours]),
        sent_digest(b"l", b"v", [ours]),
        sent_digest(b"k", b"v", [("redrive-of", None)]),
        sent_digest(b"k", b"v", [ours, ("redrive-generation", b"1")]),
    ]
    assert len({digest, *others}) == 5


@dataclass(slots=True)
class Letters:
    """One partition of letters, with the time of each record; `read` are the offsets read."""

    records: list[ConsumerRecord]
    asked: int = 0
    read_to: list[int] = field(default_factory=list)

    def written_to(self, partition: int) -> int:
        del partition
        return len(self.records)

    def offset_at(self, partition: int, at_ms: int) -> int | None:
        del partition
        self.asked += 1
        return next((r.offset for r in self.records if (r.timestamp_ms or 0) >= at_ms), None)

    def read(self, partition: int, start: int, stop: int) -> Iterator[ConsumerRecord]:
        del partition
        for record in self.records[start:stop]:
            self.read_to.append(record.offset)
            yield record


def record(offset: int, told: LetterState | DeadLetter, at_ms: int = 0) -> ConsumerRecord:
    headers = STATE_HEADERS if isinstance(told, LetterState) else ()
    return ConsumerRecord(
        TopicPartition("letters", 0), offset, None, told.to_bytes(), headers, at_ms
    )


def judged(index: DrivenIndex, letters: Letters, *claims: ClaimedRedrive) -> list[bool]:
    found = dict[int, bool]()
    for some in index.judge(letters, 0, dict(enumerate(claims)), now=0.0):
        assert not found.keys() & some.keys()
        found |= some
    return [found[number] for number in range(len(claims))]


NAMES = ("L", "M", "N")
names = st.sampled_from(NAMES)
told = st.one_of(
    st.builds(
        lambda name, count, sent: state(dlq_id=name, redrive_count=count, sent=sent),
        names,
        st.integers(1, 2),
        st.sampled_from([SENT, FORGED]),
    ),
    st.builds(
        lambda name, now: state(now, dlq_id=name),
        names,
        st.sampled_from([State.RESOLVED, State.PARKED, State.OPEN, State.DISCARDED]),
    ),
    st.builds(lambda name: letter("X", redrive_of=name, redrive_count=1), names),
    st.just(letter("Y")),
)


def last_says(records: Sequence[ConsumerRecord], claim: ClaimedRedrive) -> bool:
    """Say what the last record of a letter says of it: the naive way."""
    for found in reversed(records):
        if found.headers:
            one = LetterState.model_validate_json(found.value or b"")
            if one.dlq_id == claim.of:
                same = (one.redrive_count, one.sent) == (claim.count, claim.sent)
                return one.state is State.REDRIVEN and same
        elif DeadLetter.model_validate_json(found.value or b"").redrive_of == claim.of:
            return False
    return False


@pytest.mark.invariant("P13")
@given(data=st.data())
def test_wherever_claims_say_that_it_stands_only_what_stands_there_counts(
    data: st.DataObject,
) -> None:
    letters, index = Letters([]), DrivenIndex()
    for _ in range(data.draw(st.integers(1, 4))):
        for one in data.draw(st.lists(told, max_size=8)):
            letters.records.append(record(len(letters.records), one, len(letters.records)))
        claims = []
        for _ in range(data.draw(st.integers(1, 4))):
            claim = replace(
                CLAIM,
                of=data.draw(names),
                count=data.draw(st.integers(1, 2)),
                tp=ELSEWHERE,
                at_ms=data.draw(st.none() | st.integers(0, 50)),
            )
            # An honest one says a place that is not after its state; others say anything.
            honest = last_says(letters.records, claim)
            most = _place_of_state(letters.records, claim) if honest else 99
            claims.append(replace(claim, letters=data.draw(st.integers(0, most))))

        found = judged(index, letters, *claims)

        assert found == [last_says(letters.records, claim) for claim in claims]


def _place_of_state(records: Sequence[ConsumerRecord], claim: ClaimedRedrive) -> int:
    states = (one for one in records if one.headers)
    return max(
        one.offset
        for one in states
        if LetterState.model_validate_json(one.value or b"").dlq_id == claim.of
    )


@pytest.mark.invariant("P7", "P11")
def test_whoever_names_ever_earlier_places_has_the_letters_read_four_times_at_most() -> None:
    letters, index = Letters([record(n, state(dlq_id=f"{n}")) for n in range(500)]), DrivenIndex()

    for letters_from in range(499, 0, -1):
        assert judged(index, letters, replace(CLAIM, letters=letters_from)) == [False]

    assert len(letters.read_to) <= 4 * 500


def test_a_burst_of_redrives_costs_one_reading_of_what_was_written_with_them() -> None:
    before = [record(n, letter(f"old {n}")) for n in range(1_000)]
    letters, index = Letters(before), DrivenIndex()
    for burst in range(10):
        end = len(letters.records)
        driven = [state(dlq_id=f"{burst} {n}") for n in range(50)]
        letters.records += [record(end + n, one) for n, one in enumerate(driven)]
        claims = [replace(CLAIM, of=one.dlq_id, letters=end) for one in driven]

        assert judged(index, letters, *claims) == [True] * 50

    assert letters.read_to == list(range(1_000, 1_500))
    assert letters.asked == 0


@pytest.mark.invariant("P13")
@rows("skew_ms, is_found", [(0, True), (EARLIER_MS - 1, True), (-EARLIER_MS, True)])
def test_an_event_by_a_version_before_is_looked_for_by_its_time(
    skew_ms: int, *, is_found: bool
) -> None:
    hour_ms = 3_600_000
    records = [record(n, letter(f"old {n}"), n * hour_ms) for n in range(100)]
    at_ms = 90 * hour_ms + 1
    records.insert(91, record(91, state(sent=None), at_ms))
    records = [one._replace(offset=n) for n, one in enumerate(records)]
    letters = Letters(records)

    found = judged(DrivenIndex(), letters, replace(CLAIM, at_ms=at_ms + skew_ms))

    assert found == [is_found]
    assert min(letters.read_to) >= 90


def test_letters_that_begin_anew_are_read_from_there() -> None:
    letters, index = Letters([record(n, letter(f"{n}")) for n in range(5)]), DrivenIndex()
    judged(index, letters, CLAIM)
    letters.records = [record(0, letter("a")), record(1, state())]

    assert judged(index, letters, CLAIM) == [True]


def stands(*told: DeadLetter | LetterState) -> dict[str, tuple[State, str | None]]:
    fold: LetterFold[LetterStatus] = LetterFold()
    for one in told:
        if isinstance(one, LetterState):
            fold.state(one)
        else:
            fold.letter(LetterStatus.of(one), descent=Descent.of(one))
    return {one.dlq_id: (one.state, one.superseded_by) for one in fold}


FORMER: dict[str, Any] = {"generation": None, "input_digest": None}
OPEN, DRIVEN = (State.OPEN, None), (State.REDRIVEN, None)


@pytest.mark.invariant("P13")
@rows(
    "what, told, status",
    [
        (
            "the same event fails again",
            [letter(), letter("X")],
            {"L": (State.OPEN, "X"), "X": OPEN},
        ),
        (
            "another input under its id",
            [letter(), letter("X", input_digest="b2:other")],
            {"L": OPEN, "X": OPEN},
        ),
        (
            "and then the same again",
            [letter(), letter("X", input_digest="b2:other"), letter("L2")],
            {"L": (State.OPEN, "L2"), "X": OPEN, "L2": OPEN},
        ),
        (
            "the redrive with another input",
            [letter(), state(), letter("L1", redrive_of="L", input_digest="b2:edited")],
            {"L": (State.REDRIVEN, "L1"), "L1": OPEN},
        ),
        (
            "one of a version before, and an input of now under its id",
            [letter(**FORMER), letter("X", input_digest="b2:other")],
            {"L": OPEN, "X": OPEN},
        ),
        (
            "two of a version before",
            [letter(**FORMER), letter("L1", **FORMER)],
            {"L": (State.OPEN, "L1"), "L1": OPEN},
        ),
        (
            "a redrive by a worker of a version before",
            [
                letter(),
                state(),
                letter(
                    "L1",
                    **FORMER,
                    redrive_count=1,
                    source=letter().source.model_copy(
                        update={"headers": [("redrive-of", b"L"), ("redrive-event", OWN.encode())]}
                    ),
                ),
            ],
            {"L": (State.REDRIVEN, "L1"), "L1": OPEN},
        ),
    ],
)
def test_a_letter_takes_the_place_of_its_own_story_only(
    what: str,
    told: Sequence[DeadLetter | LetterState],
    status: dict[str, tuple[State, str | None]],
) -> None:
    assert stands(*told) == status, what


def test_what_an_event_asks_for_is_told_by_its_digest() -> None:
    digests = [
        input_digest(OWN, "said", f"{OWN}/0/0"),
        input_digest(OTHER, "said", f"{OWN}/0/0"),
        input_digest(OWN, "other", f"{OWN}/0/0"),
        input_digest(OWN, "said", "chat"),
        input_digest(OWN, "digest of its bytes"),
    ]

    assert len(set(digests)) == 5
    # Of two that cannot be read nobody knows that they are one event.
    assert input_digest(None, "digest of its bytes") is None
