"""Headers of ours on an event: what is read, what is passed by, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.errors import RecordError
from redrive.events import EventHeaders, RawHeaders

OWN, OTHER = "7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10", "11111111-2222-4333-8444-555555555555"
DRIVEN = EventHeaders(
    generation=2,
    of="letter",
    event=OWN,
    count=3,
    mode="resume",
    checkpoint="c",
    source="anna",
    letters=7,
)
ORDINARY = EventHeaders(deadline=5, traceparent="00-ab")


@rows(
    "header",
    [
        ("traceparent", b"\x00\xff\x81binary"),
        ("traceparent", b""),
        ("redrive-source", b"\xff"),
        ("redrive-history", b"\xff"),
        ("redrive-attempt", b"two"),
        ("redrive-attempt", b"9" * 30),
        ("redrive-not-before", b"soon"),
        ("redrive-not-before", b"9" * 18),
        ("redrive-event", b"\xff"),
        ("redrive-count", b"-1"),
        ("redrive-generation", b"1.5"),
        ("redrive-mode", b"sideways"),
        ("redrive-of", b"\xff"),
        ("redrive-checkpoint", b"\xff"),
    ],
)
def test_what_a_run_can_be_right_without_never_condemns_its_event(
    header: tuple[str, bytes],
) -> None:
    read = EventHeaders.of_event([("redrive-deadline", b"5"), header], OWN)

    assert replace(read, traceparent=None) == EventHeaders(deadline=5)


@pytest.mark.parametrize(
    "header",
    [("redrive-thread", b"\xff"), ("redrive-deadline", b"soon"), ("redrive-deadline", b"")],
)
def test_a_thread_or_a_deadline_that_cannot_be_read_is_refused(header: tuple[str, bytes]) -> None:
    with pytest.raises(RecordError, match=header[0]):
        EventHeaders.read([header])


def test_the_last_value_of_a_name_counts() -> None:
    doubled = [("traceparent", b"a"), ("traceparent", b"b"), ("traceparent", None)]

    assert EventHeaders.read(doubled).traceparent == "b"


@pytest.mark.invariant("P13")
def test_a_redrives_headers_are_believed_on_the_event_that_was_driven_alone() -> None:
    both = [*DRIVEN.write(), *ORDINARY.write()]

    assert EventHeaders.of_event(both, OWN) == replace(
        DRIVEN, deadline=ORDINARY.deadline, traceparent=ORDINARY.traceparent
    )
    assert EventHeaders.of_event(both, OTHER) == ORDINARY


def test_of_a_redrive_by_an_earlier_version_no_event_is_told() -> None:
    earlier = replace(DRIVEN, event=None)

    assert EventHeaders.of_event(earlier.write(), OWN) == earlier


@pytest.mark.invariant("P13")
def test_without_a_letter_nothing_of_a_redrive_is_taken() -> None:
    assert EventHeaders.of_event(replace(DRIVEN, of=None).write(), OWN) == EventHeaders()


@rows("broken", [("redrive-thread", b"\xff"), ("redrive-deadline", b"soon")])
def test_what_an_event_claims_is_read_where_its_thread_or_its_deadline_cannot_be(
    broken: tuple[str, bytes],
) -> None:
    assert EventHeaders.claimed_by([*DRIVEN.write(), broken], OWN) == DRIVEN


@pytest.mark.parametrize("broken", ["redrive-count", "redrive-of", "redrive-mode"])
def test_a_redrive_of_which_one_header_is_broken_is_none(broken: str) -> None:
    raw: RawHeaders = [*DRIVEN.write(), (broken, b"\xff")]

    assert EventHeaders.of_event(raw, OWN) == EventHeaders()


@pytest.mark.invariant("P9")
@rows(
    ("named", "thread"),
    [
        (None, f"{OWN}/2/0"),
        ("", f"{OWN}/2/0"),
        ("conversation-7", "conversation-7"),
        (f"{OWN}/1/0", f"{OWN}/2/0"),
        (f"{OTHER}/2/0", f"{OWN}/2/0"),
        (f"{OTHER}/2/0/more", f"{OTHER}/2/0/more"),
        (OTHER, OTHER),
    ],
)
def test_another_events_own_thread_is_nobody_elses(named: str | None, thread: str) -> None:
    assert EventHeaders(thread=named).thread_of(OWN, 2) == thread


NAMES = [name for name, _ in replace(DRIVEN, attempt=1, not_before=1, history="h").write()]


@example([("redrive-attempt", b"0"), ("redrive-history", b"")])
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.binary(max_size=30))))
def test_whatever_stands_in_them_can_be_read_and_written_again(raw: RawHeaders) -> None:
    read = EventHeaders.of_event(raw, OWN)

    assert EventHeaders.of_event(read.write(), OWN) == read
