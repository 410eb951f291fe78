"""The ledger against a naive model, and its note against its limits."""

import base64
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.state.commit_metadata import (
    MAX_ENTRIES,
    MAX_MARKS,
    MAX_METADATA_CHARS,
    MIN_METADATA_CHARS,
    WINDOW,
    CommitMetadata,
    Foreign,
    LogIdentity,
    OffsetEntry,
    StoredRest,
    commit_metadata_of,
    decode,
    encode,
)
from redrive.state.ledger import PartitionLedger
from redrive.state.metadata_room import MetadataRoom

entries = st.dictionaries(
    st.integers(0, WINDOW - 1),
    st.builds(
        OffsetEntry, failed=st.integers(0, 127), crashes=st.integers(0, 63), started=st.booleans()
    ),
    max_size=MAX_ENTRIES,
)
topic_ids = st.one_of(st.just(b""), st.binary(min_size=16, max_size=16))
logs = st.builds(LogIdentity.of, st.one_of(st.none(), st.text(max_size=30)), topic_ids)
all_metadata = st.builds(
    CommitMetadata,
    incarnation=st.integers(0, 2**64 - 1),
    settle=st.integers(0, 2**40),
    finished=st.integers(0, 2**WINDOW - 1),
    reserved=st.integers(0, WINDOW),
    entries=entries,
    offset=st.integers(0, 2**62),
    log=logs,
    # So many fit beside whatever else a note may say.
    marks=st.dictionaries(st.integers(0, 2**62), st.integers(0, 2**32 - 1), max_size=8),
)


@given(all_metadata)
def test_a_note_comes_back_as_it_was_written(metadata: CommitMetadata) -> None:
    assert decode(encode(metadata)) == metadata


HERE = LogIdentity.of("here", b"t" * 16)
NOW = 1_790_000_000
waiting = st.dictionaries(
    st.integers(0, WINDOW - 1), st.integers(1, 40 * 86_400), min_size=1, max_size=MAX_ENTRIES
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
noted_rests = st.lists(
    st.builds(
        StoredRest,
        names,
        st.one_of(st.none(), names.filter(bool)),
        until=st.integers(NOW + 1, NOW + 200),
        asked_s=st.integers(1, 366 * 86_400),
    ),
    max_size=4,
)


@pytest.mark.invariant("P10")
@given(waiting, noted_rests)
def test_a_wait_is_remembered_never_as_a_shorter_one_and_hardly_as_a_longer_one(
    waits: dict[int, int], rests: list[StoredRest]
) -> None:
    entries = {at: OffsetEntry(failed=1, until=NOW + wait_s) for at, wait_s in waits.items()}

    found = decode(encode(CommitMetadata(1, 1, 0, 0, entries, NOW, tuple(rests))))

    assert found is not None
    assert found.at == NOW
    for at, wait_s in waits.items():
        assert wait_s <= found.entries[at].until - NOW <= 1.07 * wait_s + 1
    asked = sorted(rests, key=lambda rest: rest.until, reverse=True)
    for rest, was in zip(found.rests, asked, strict=True):
        assert rest == replace(was, until=rest.until)
        assert was.until <= rest.until <= was.until + 13


WRITTEN_BEFORE = {
    "2AAAAAAAAAAcJAQ0QAgABAQUABA": CommitMetadata(
        7, 9, 0b1101, 16, {0: OffsetEntry(failed=1, started=True), 5: OffsetEntry(crashes=2)}
    ),
    "2AAAAAAAAAAcJAQ0QAQECAID3xNUGAR4BPDwGYWdlbnRzC2FwaS5leGFtcGxl": CommitMetadata(
        7,
        9,
        0b1101,
        16,
        {1: OffsetEntry(failed=2, until=NOW + 30)},
        at=NOW,
        rests=(StoredRest("agents", "api.example", NOW + 60, 60),),
    ),
}
"""Notes as the version before has written them: none says to which commit it belongs."""


@rows("text, metadata", WRITTEN_BEFORE.items())
def test_notes_of_the_version_before_are_read_and_ours_begin_as_they_do(
    text: str, metadata: CommitMetadata
) -> None:
    ours = encode(replace(metadata, offset=1_000, log=LogIdentity.of("here", b"t" * 16)))

    # That version reads as far as its own notes go, and passes by what follows.
    assert _raw(ours).startswith(_raw(text))
    assert commit_metadata_of(text, offset=5, log=LogIdentity.of("anywhere", b"x" * 16)) == metadata


@pytest.mark.invariant("P2", "P3", "P11")
@given(
    chars=st.integers(MIN_METADATA_CHARS, MAX_METADATA_CHARS),
    offsets=st.lists(st.integers(0, 2**40), unique=True, max_size=MAX_MARKS + 20),
    finished=st.integers(0, 31),
)
def test_of_marks_as_many_of_the_first_are_told_as_fit(
    chars: int, offsets: list[int], finished: int
) -> None:
    marks = {offset: offset % 2**32 for offset in offsets}
    metadata = CommitMetadata(1, 2**31, finished, offset=2**40, log=HERE, marks=marks)

    text = encode(metadata, chars=chars)
    found = decode(text)

    assert found is not None
    assert len(text) <= chars
    assert replace(found, marks={}) == replace(metadata, marks={})
    assert found.marks == dict(list(marks.items())[: len(found.marks)])
    # None is left out for nothing: each takes ten bytes at the most.
    left = (chars - len(encode(replace(metadata, marks={}), chars=chars))) * 3 // 4
    assert len(found.marks) >= min(len(marks), MAX_MARKS, left // 10 - 1)


def test_marks_are_behind_all_that_the_version_before_reads() -> None:
    metadata = CommitMetadata(1, 9, 0b1101, offset=1_000, log=HERE)

    assert _raw(encode(replace(metadata, marks={1_003: 7}))) == _raw(encode(metadata)) + (
        b"\x01\xeb\x07\0\0\0\7"
    )


@given(all_metadata, st.binary(max_size=40))
def test_what_a_later_version_appends_is_passed_by(metadata: CommitMetadata, more: bytes) -> None:
    no_marks = b"" if metadata.marks else b"\0"
    later = "2" + base64.b64encode(_raw(encode(metadata)) + no_marks + more).decode().rstrip("=")

    assert decode(later) == metadata


@pytest.mark.invariant("P1", "P3")
@rows(
    "offset, log, differs",
    [
        (100, HERE, None),
        (60, HERE, Foreign.OFFSET),
        (140, HERE, Foreign.OFFSET),
        (100, LogIdentity.of("there", b"t" * 16), Foreign.CLUSTER),
        (60, LogIdentity.of("there", b"u" * 16), Foreign.CLUSTER),
        (100, LogIdentity.of("here", b"u" * 16), Foreign.TOPIC),
        (60, LogIdentity.of(None, b"u" * 16), Foreign.TOPIC),
        # What is not known is not compared.
        (100, LogIdentity.of("here"), None),
        (100, LogIdentity.of(None, b"t" * 16), None),
        (100, LogIdentity(), None),
        (60, LogIdentity(), Foreign.OFFSET),
        (None, LogIdentity(), Foreign.OFFSET),
    ],
)
def test_a_note_copied_to_another_commit_is_not_taken_for_its_own(
    offset: int | None, log: LogIdentity, differs: Foreign | None
) -> None:
    metadata = CommitMetadata(1, 1, 0b10, offset=100, log=HERE)

    assert metadata.foreign_to(offset, log) is differs
    assert commit_metadata_of(encode(metadata), offset=offset, log=log) == (
        None if differs else metadata
    )


def _raw(text: str) -> bytes:
    return base64.b64decode(text[1:] + "=" * (-(len(text) - 1) % 4))


def test_waits_and_rests_that_are_over_are_not_written() -> None:
    over = CommitMetadata(
        1, 1, 0, 0, {3: OffsetEntry(failed=1, until=NOW)}, NOW, (StoredRest("a", None, NOW - 5, 9),)
    )

    assert encode(over) == encode(CommitMetadata(1, 1, 0, 0, {3: OffsetEntry(failed=1)}))


def test_of_rests_that_do_not_all_fit_the_longest_are_written() -> None:
    rests = [StoredRest(f"workflow-{i}", "x" * 200, NOW + i, i) for i in range(1, 31)]
    long = StoredRest("w" * 4_000, None, NOW + 100, 100)

    found = decode(encode(CommitMetadata(1, 1, 1 << (WINDOW - 1), 0, {}, NOW, (*rests, long))))

    assert found is not None
    told = [rest.until - NOW for rest in found.rests]
    assert told == list(range(30, 30 - len(told), -1))
    assert len(told) > 3


@pytest.mark.invariant("P3", "P11")
@given(
    finished=st.integers(0, 2**WINDOW - 1),
    counts=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    spread=st.integers(1, WINDOW // MAX_ENTRIES),
)
def test_the_fullest_note_stays_below_its_limit(
    finished: int, counts: tuple[int, int], spread: int
) -> None:
    full = finished | 1 << (WINDOW - 1)
    known = {
        i * spread: OffsetEntry(*counts, started=True, until=NOW + 86_400)
        for i in range(MAX_ENTRIES)
    }
    rests = tuple(StoredRest(f"workflow-{i}", "api.example", NOW + 120, 86_400) for i in range(99))

    log = LogIdentity.of("a cluster", b"t" * 16)
    marks = {2**60 + i: 2**32 - 1 for i in range(MAX_MARKS)}
    text = encode(
        CommitMetadata(2**64 - 1, 2**60, full, WINDOW, known, NOW, rests, 2**62, log, marks)
    )

    assert len(text) <= MAX_METADATA_CHARS
    assert text.isascii()


@pytest.mark.invariant("P3", "P11")
def test_a_note_with_all_that_its_room_allows_fits_at_every_size() -> None:
    for chars in (
        *range(MIN_METADATA_CHARS, 500),
        *range(500, MAX_METADATA_CHARS, 13),
        MAX_METADATA_CHARS,
    ):
        room = MetadataRoom(chars)
        most, window = room.entries, room.window
        spread = window // most
        known = {
            i * spread: OffsetEntry(99, 9, started=True, until=NOW + 86_400) for i in range(most)
        }
        metadata = CommitMetadata(
            2**64 - 1,
            2**60,
            1 << (window - 1),
            window,
            known,
            NOW,
            (StoredRest("workflow", "api.example", NOW + 120, 86_400),),
            2**62,
            LogIdentity.of("a cluster", b"t" * 16),
        )

        text = encode(metadata, chars=chars)

        found = decode(text)
        assert most > 0
        assert len(text) <= chars
        assert found is not None
        assert (found.finished, found.entries.keys()) == (metadata.finished, known.keys())
        assert (found.offset, found.log) == (metadata.offset, metadata.log)
    assert MetadataRoom(MIN_METADATA_CHARS - 1).entries == 0


@pytest.mark.invariant("P3", "P11")
@given(
    chars=st.integers(MIN_METADATA_CHARS, MAX_METADATA_CHARS),
    ended=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 900)), max_size=12),
    scattered=st.sets(st.integers(1, WINDOW - 1), max_size=2_000),
)
def test_what_ended_when_there_was_more_room_is_noted_as_far_as_it_fits_and_nothing_else(
    chars: int, ended: list[tuple[int, int]], scattered: set[int]
) -> None:
    runs, at = 0, 1
    for gap, count in ended:
        at += gap + 1
        runs |= ((1 << count) - 1) << at
        at += count
    runs &= (1 << WINDOW) - 2
    room = MetadataRoom(chars)

    for finished in (runs, sum(1 << offset for offset in scattered)):
        text = encode(CommitMetadata(1, 2**31, finished, offset=2**40), chars=chars)
        found = decode(text)

        assert found is not None
        assert len(text) <= chars
        # Nothing is made up, and what lies in the window is never left out.
        assert found.finished & ~finished == 0
        assert found.finished % (1 << room.window) == finished % (1 << room.window)
    # Events that ended one after the other take hardly any room.
    if chars >= MIN_METADATA_CHARS + 80:
        assert decode(
            encode(CommitMetadata(1, 2**31, runs, offset=2**40), chars=chars)
        ) == CommitMetadata(1, 2**31, runs, offset=2**40)


@pytest.mark.invariant("P3", "P5")
@pytest.mark.parametrize("seed", range(60))
def test_with_notes_that_get_shorter_no_ending_is_lost_and_the_oldest_go_on(seed: int) -> None:
    dice = random.Random(seed)
    limit = dice.randint(MIN_METADATA_CHARS, 300)
    room = MetadataRoom(dice.choice([None, limit]))
    ledger = PartitionLedger(epoch=1, committed=0, room=room)
    waiting, running, settled, next_ = list[int](), set[int](), set[int](), 0
    for round_ in range(1_000):
        slow = {0} if round_ < 150 else set[int]()
        while round_ < 150 and len(waiting) < 20 and ledger.has_room(next_):
            ledger.receive(next_)
            waiting.append(next_)
            next_ += 1
        for offset in dice.sample(waiting, min(len(waiting), 5)):
            if ledger.starts.start(offset):
                waiting.remove(offset)
                running.add(offset)
        ready = sorted(running - slow)
        ended = dice.sample(ready, min(len(ready), 3))
        ended = [offset for offset in ended if offset not in ledger.beyond_metadata(ended)]
        snapshot = ledger.snapshot(ended)
        assert snapshot is not None
        text = encode(snapshot.metadata(incarnation=1, settle=1), chars=room.chars)
        if len(text) > limit:
            ledger.starts.refused()
            assert room.refused(len(text))
            continue
        room.took(len(text))
        ledger.starts.stored()
        ledger.settle(ended)
        running.difference_update(ended)
        settled.update(ended)
        metadata = commit_metadata_of(text, offset=snapshot.offset)
        assert metadata is not None
        told = {
            snapshot.offset + at
            for at in range(metadata.finished.bit_length())
            if metadata.finished >> at & 1
        }
        assert told | set(range(snapshot.offset)) == settled

    assert settled == set(range(next_))
    assert next_ > 20


@given(st.one_of(st.none(), st.text(), st.text("2ABCDEFabc+/=", max_size=80)))
def test_a_note_that_is_not_ours_is_no_note(text: str | None) -> None:
    found = decode(text)

    assert found is None or decode(encode(found)) == found


@given(all_metadata, st.data())
def test_a_note_cut_short_is_no_note(metadata: CommitMetadata, data: st.DataObject) -> None:
    text = encode(metadata)
    # Without its last byte it may say the same: that no run lies past the bitmap.
    cut = text[: data.draw(st.integers(0, len(text) - 3))]

    assert decode(cut) != metadata


def test_a_note_over_its_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode(CommitMetadata(1, 1, 1 << WINDOW))


@pytest.mark.invariant("P3")
@given(st.permutations(range(10, 30)), st.integers(0, 20))
def test_commit_never_passes_unfinished_work(order: list[int], done: int) -> None:
    ledger = PartitionLedger(epoch=1, committed=10)
    for offset in range(10, 30):
        assert ledger.receive(offset)

    for offset in order[:done]:
        ledger.settle([offset])

    assert ledger.committable == min(order[done:], default=30)


@pytest.mark.invariant("P3")
@given(
    offsets=st.lists(st.integers(0, 400), unique=True, min_size=1).map(sorted),
    data=st.data(),
)
def test_a_restart_runs_exactly_what_was_not_settled(
    offsets: list[int], data: st.DataObject
) -> None:
    # Offsets with holes, as compaction and transaction markers leave them.
    first = PartitionLedger(epoch=1, committed=None)
    received = data.draw(st.integers(0, len(offsets)))
    for offset in offsets[:received]:
        assert first.receive(offset)
    settled: set[int] = set()
    for batch in data.draw(st.lists(st.lists(st.sampled_from(offsets[: received or 1])))):
        real = [offset for offset in batch if offset in offsets[:received]]
        before = first.snapshot(real)
        first.settle(real)
        settled.update(real)
        after = first.snapshot()
        if before is not None and after is not None:
            assert (after.offset, after.finished) == (before.offset, before.finished)
        assert (before is None) == (after is None)
    snapshot = first.snapshot()
    text = encode(snapshot.metadata(incarnation=1, settle=1)) if snapshot else None

    committed = snapshot.offset if snapshot else None
    second = PartitionLedger(
        epoch=2, committed=committed, metadata=commit_metadata_of(text, offset=committed)
    )
    again = [
        offset
        for offset in offsets
        if (not snapshot or offset >= snapshot.offset) and second.receive(offset)
    ]

    assert again == [offset for offset in offsets if offset not in settled]


@given(st.lists(st.integers(0, 300), unique=True, min_size=1).map(sorted), st.data())
def test_unsettled_counts_what_was_received_and_not_settled(
    offsets: list[int], data: st.DataObject
) -> None:
    ledger = PartitionLedger(epoch=1, committed=0)
    for offset in offsets:
        ledger.receive(offset)
    done = data.draw(st.lists(st.sampled_from(offsets), unique=True))

    ledger.settle(done)

    assert ledger.unsettled == len(offsets) - len(done)


def test_nothing_starts_past_the_window() -> None:
    ledger = PartitionLedger(epoch=1, committed=0)
    ledger.receive(0)

    assert ledger.has_room(WINDOW - 1)
    assert not ledger.has_room(WINDOW)


def test_a_hole_wider_than_the_window_is_passed_once_nothing_is_unsettled() -> None:
    ledger = PartitionLedger(epoch=1, committed=0)
    ledger.receive(0)
    ledger.settle([0])

    assert ledger.has_room(1_000_000)
    assert ledger.receive(1_000_000)
    assert ledger.committable == 1_000_000


def test_a_log_that_was_made_anew_is_read_from_its_beginning() -> None:
    ledger = PartitionLedger(epoch=1, committed=500, metadata=CommitMetadata(1, 1, finished=0b110))

    assert ledger.receive(0)
    assert ledger.committable == 0


def test_a_record_that_comes_again_is_not_run_again() -> None:
    ledger = PartitionLedger(epoch=1, committed=5)
    ledger.receive(5)
    ledger.settle([5])

    assert not ledger.receive(5)


def test_the_history_of_an_offset_is_kept_until_it_is_settled() -> None:
    known = {100: OffsetEntry(failed=2), 103: OffsetEntry(crashes=1)}
    ledger = PartitionLedger(epoch=1, committed=100, history=known)
    for offset in range(100, 104):
        ledger.receive(offset)

    ledger.settle([100])

    snapshot = ledger.snapshot()
    assert snapshot is not None
    assert snapshot.metadata(incarnation=2, settle=1).entries == {2: OffsetEntry(crashes=1)}
