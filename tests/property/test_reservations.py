"""Starts of one partition: what may start is always accounted for, within the note's limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.state.commit_metadata import (
    MAX_ENTRIES,
    WINDOW,
    CommitMetadata,
    OffsetEntry,
    decode,
    encode,
)
from redrive.state.ledger import PartitionLedger
from redrive.state.reservations import Reservations, history_after_death

NOW = 1_790_000_000


@pytest.mark.invariant("P5", "P11")
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "start", "start", "fail", "finish", "commit", "lost"]),
            st.integers(0, 39),
        ),
        max_size=80,
    ),
    st.booleans(),
)
def test_a_death_at_any_time_leaves_every_start_accounted_for(
    lives: list[tuple[str, int]],
    exact: bool,  # noqa: FBT001 - drawn
) -> None:
    ledger = PartitionLedger(epoch=1, committed=0)
    for offset in range(40):
        ledger.receive(offset)
    bad: dict[int, int] = {}
    running: set[int] = set()
    finished: set[int] = set()
    durable = None

    for step, offset in lives:
        if step == "start" and offset not in running | finished:
            if ledger.starts.start(offset):
                running.add(offset)
        elif step == "fail" and offset in running:
            running.discard(offset)
            ledger.starts.failed(offset)
            bad[offset] = bad.get(offset, 0) + 1
        elif step in ("finish", "commit", "lost"):
            ended = [offset] if step == "finish" and offset in running else []
            snapshot = ledger.snapshot(ended, exact=exact)
            assert snapshot is not None
            text = encode(snapshot.metadata(incarnation=1, settle=1))
            if step == "lost":
                ledger.starts.refused()
            else:
                durable = (snapshot.offset, text)
                running.difference_update(ended)
                finished.update(ended)
                ledger.settle(ended)
                ledger.starts.stored()

        offset_then, text_then = durable or (0, None)
        metadata = decode(text_then)
        known = history_after_death(metadata, offset_then, end=40) if metadata else {}
        for at in range(40):
            if at not in finished:
                entry = known.get(at, OffsetEntry())
                wanted = bad.get(at, 0) + (at in running)
                assert entry.failed + entry.crashes >= wanted


@given(started=st.sets(st.integers(0, WINDOW - 1), max_size=400), ahead=st.integers(0, 600))
def test_no_more_may_start_than_a_note_can_hold(started: set[int], ahead: int) -> None:
    starts = Reservations({0: OffsetEntry(failed=1)})
    asked = [offset for offset in started if starts.start(offset) or starts.history(offset).started]

    coverage = starts.cover(0, 0, ahead=ahead)

    assert len(asked) <= MAX_ENTRIES
    metadata = CommitMetadata(1, 1, 0, coverage.until, coverage.entries)
    assert decode(encode(metadata)) == metadata
    uncertain = history_after_death(metadata, 0, end=WINDOW)
    assert len(uncertain) <= MAX_ENTRIES


@pytest.mark.invariant("P5")
def test_what_was_not_there_at_a_death_is_not_suspected() -> None:
    idle = CommitMetadata(incarnation=1, settle=1, reserved=16)

    assert history_after_death(idle, 100, end=102) == {
        100: OffsetEntry(crashes=1),
        101: OffsetEntry(crashes=1),
    }


@pytest.mark.invariant("P5")
@given(received=st.integers(1, 300), settled=st.integers(0, 300), later=st.integers(0, 300))
def test_of_what_came_after_a_death_one_event_is_suspected_at_most(
    received: int, settled: int, later: int
) -> None:
    ledger = PartitionLedger(epoch=1, committed=0)
    for offset in range(received):
        ledger.receive(offset)
    done = range(min(settled, received))
    ledger.settle(done)
    snapshot = ledger.snapshot()
    assert snapshot is not None
    metadata = decode(encode(snapshot.metadata(incarnation=1, settle=1)))
    assert metadata is not None

    known = history_after_death(metadata, snapshot.offset, end=received + later)

    assert sum(offset >= received for offset in known) <= min(later, 1)


@pytest.mark.invariant("P5")
def test_a_clean_stop_leaves_failures_and_no_suspicion() -> None:
    ledger = PartitionLedger(epoch=1, committed=0)
    for offset in range(3):
        ledger.receive(offset)
    ledger.snapshot()
    ledger.starts.stored()
    assert ledger.starts.start(0)
    ledger.starts.failed(0)

    ledger.starts.close()
    snapshot = ledger.snapshot()

    assert snapshot is not None
    metadata = snapshot.metadata(incarnation=1, settle=2)
    assert history_after_death(metadata, snapshot.offset, end=3) == {0: OffsetEntry(failed=1)}
    assert not ledger.starts.start(1)


@pytest.mark.invariant("P10")
def test_a_restart_remembers_until_when_an_event_waits_unless_it_was_running() -> None:
    ledger = PartitionLedger(epoch=1, committed=0)
    for offset in range(2):
        ledger.receive(offset)
    ledger.snapshot()
    ledger.starts.stored()
    for offset in range(2):
        assert ledger.starts.start(offset)
        ledger.starts.failed(offset, until=NOW + 50)
    ledger.starts.start(1)

    snapshot = ledger.snapshot()

    assert snapshot is not None
    metadata = decode(encode(snapshot.metadata(incarnation=1, settle=2, at=NOW)))
    assert metadata is not None
    assert history_after_death(metadata, 0, end=2, now=NOW + 20) == {
        0: OffsetEntry(failed=1, until=NOW + 50),
        1: OffsetEntry(failed=1, crashes=1),
    }


def test_a_clock_that_was_ahead_makes_no_wait_longer() -> None:
    metadata = decode(
        encode(CommitMetadata(1, 1, 0, 0, {0: OffsetEntry(failed=1, until=NOW + 50)}, NOW))
    )

    assert metadata is not None
    known = history_after_death(metadata, 0, end=1, now=NOW - 3_600)
    assert known == {0: OffsetEntry(failed=1, until=NOW - 3_600 + 50)}
