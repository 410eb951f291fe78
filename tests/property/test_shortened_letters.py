"""A letter that its topic would not take: what it does without, and what never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.clock import SYSTEM
from redrive.dead_letter.record import Cause, DeadLetter, LetterAttempt, LetterError, Source
from redrive.dead_letter.shortened import shortened
from redrive.retry.kinds import Kind
from redrive.testing.kafka_env import event
from redrive.testing.stored_letters import dead_letter

NOW = SYSTEM.now()
NEEDED = {"dlq_id", "kind", "reason", "fingerprint", "node", "checkpoint", "redrive_count"}
texts = st.text(max_size=400) | st.just("é" * 3_000)


def attempt(number: int, text: str) -> LetterAttempt:
    return LetterAttempt(
        number=number,
        started_at=NOW,
        ended_at=NOW,
        kind=Kind.PERMANENT,
        type="E",
        message=text,
        worker="w",
    )


def letter_of(trace: str, messages: list[str], value: bytes) -> DeadLetter:
    return dead_letter(
        event({}),
        topic="events",
        original_event={"text": trace},
        error=LetterError(type="E", message=trace[:2_000], traceback=trace, notes=messages),
        cause_chain=[Cause(type="E", message=text) for text in messages],
        attempts=[attempt(number, text) for number, text in enumerate(messages, start=1)],
        source=Source(topic="events", partition=0, offset=0, value=value),
        fingerprint="f-1",
        node="work",
    )


@pytest.mark.invariant("P6")
@given(texts, st.lists(texts, max_size=20), st.binary(max_size=2_000), st.data())
def test_a_letter_over_its_limit_does_without_what_is_ours_and_never_without_the_source(
    trace: str, messages: list[str], value: bytes, data: st.DataObject
) -> None:
    letter = letter_of(trace, messages, value)
    sizes = [len(one.to_bytes()) for one in (letter, *shortened(letter))]
    limit = data.draw(st.integers(min(sizes), max(sizes)), label="limit")

    written = letter.to_bytes(limit=limit)

    kept = DeadLetter.model_validate_json(written)
    # The first that fits, in this order: nothing is given up for which there is room.
    assert len(written) == next(size for size in sizes if size <= limit)
    assert kept.source == letter.source
    assert kept.model_dump(include=NEEDED) == letter.model_dump(include=NEEDED)


def test_in_this_order_a_letter_does_without() -> None:
    letter = letter_of("x" * 9_000 + "END", [str(number) * 500 for number in range(9)], b"event")

    copy, trace, texts, least = shortened(letter)

    assert copy == letter.model_copy(update={"original_event": None})
    assert len(trace.error.traceback or "") == 2_000
    assert (trace.error.traceback or "").endswith("xEND")
    assert trace.attempts == letter.attempts
    assert texts.error.traceback is None
    assert [one.number for one in texts.attempts] == [1, 9]
    assert [len(one.message) for one in texts.cause_chain] == [200] * 9
    assert least.attempts == []
    assert least.cause_chain == texts.cause_chain[:1]


def test_what_nothing_makes_small_enough_is_as_small_as_it_gets() -> None:
    letter = letter_of("a trace", ["a", "b"], b"x" * 1_000)

    *_, least = shortened(letter)

    assert letter.to_bytes(limit=10) == least.to_bytes()
