"""The spool: letters that Kafka does not take, in a file of its owner's, once each."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import stat
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from redrive.dead_letter import spool
from redrive.dead_letter.spool import Appended, SourcePlace, Spool, SpooledLetter, Torn, read_spool

LARGE = 10 * 2**20


def letter(number: int, *, size: int = 100) -> SpooledLetter:
    return SpooledLetter(
        dlq_id=f"letter-{number}",
        topic="letters",
        partition=number % 3,
        key=b"\xff key",
        headers=(("redrive-kind", b"permanent"), ("empty", None)),
        value=bytes(size),
        source=SourcePlace(topic="events", partition=number % 3, offset=number),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


@contextmanager
def _file_limit(limit_bytes: int) -> Iterator[None]:
    """Let no file of this process grow further: a disk that is full, as seen by a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _append_many(path: Path, numbers: range) -> None:
    spool = Spool(path, max_bytes=LARGE)
    for number in numbers:
        spool.append(letter(number))


def test_a_letter_is_read_back_byte_for_byte(path: Path) -> None:
    spool = Spool(path, max_bytes=LARGE)

    appended = [spool.append(letter(number)) for number in range(3)]

    assert appended == [Appended.WRITTEN] * 3
    assert list(read_spool(path)) == [letter(number) for number in range(3)]


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    old_mask = os.umask(0)
    try:
        Spool(path, max_bytes=LARGE).append(letter(1))
    finally:
        os.umask(old_mask)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    path.touch()
    path.chmod(0o644)

    Spool(path, max_bytes=LARGE).append(letter(1))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_letter_is_written_once_also_after_the_file_was_moved_away(path: Path) -> None:
    spool = Spool(path, max_bytes=LARGE)
    spool.append(letter(1))
    path.rename(path.with_suffix(".old"))

    appended = [spool.append(letter(1)), spool.append(letter(2))]

    assert appended == [Appended.THERE, Appended.WRITTEN]
    assert list(read_spool(path)) == [letter(2)]


def test_a_new_process_does_not_write_what_the_file_holds(path: Path) -> None:
    Spool(path, max_bytes=LARGE).append(letter(1))

    assert Spool(path, max_bytes=LARGE).append(letter(1)) is Appended.THERE
    assert list(read_spool(path)) == [letter(1)]


def test_what_another_process_wrote_meanwhile_is_not_written_again(path: Path) -> None:
    ours, others = Spool(path, max_bytes=LARGE), Spool(path, max_bytes=LARGE)
    ours.append(letter(1))
    others.append(letter(2))

    assert ours.append(letter(2)) is Appended.THERE
    assert list(read_spool(path)) == [letter(1), letter(2)]


def test_processes_that_share_a_spool_write_whole_lines_and_each_letter_once(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ranges = [range(100), range(50, 150)]
    writers = [context.Process(target=_append_many, args=(path, numbers)) for numbers in ranges]

    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0]
    found = list(read_spool(path))
    assert len(found) == 150
    assert {one.dlq_id for one in found if isinstance(one, SpooledLetter)} == {
        f"letter-{number}" for number in range(150)
    }


def test_a_full_spool_takes_nothing_more_and_stays_whole(path: Path) -> None:
    limit = 2 * len(letter(1).to_line())
    spool = Spool(path, max_bytes=limit)

    appended = [spool.append(letter(number)) for number in range(1, 4)]

    assert appended == [Appended.WRITTEN, Appended.WRITTEN, Appended.FULL]
    assert path.stat().st_size <= limit
    assert list(read_spool(path)) == [letter(1), letter(2)]


def test_a_line_that_a_crash_cut_is_passed_by_and_the_next_one_is_whole(path: Path) -> None:
    Spool(path, max_bytes=LARGE).append(letter(1))
    with path.open("ab") as file:
        file.write(letter(2).to_line()[:50])

    appended = Spool(path, max_bytes=LARGE).append(letter(2))

    assert appended is Appended.WRITTEN
    assert list(read_spool(path)) == [letter(1), Torn(2), letter(2)]


def test_a_cut_last_line_is_told_when_nothing_follows_it(path: Path) -> None:
    path.write_bytes(letter(1).to_line() + letter(2).to_line()[:-2])

    assert list(read_spool(path)) == [letter(1), Torn(2)]


def test_a_full_disk_leaves_the_file_as_it_was_and_later_the_letter_is_taken(path: Path) -> None:
    spool = Spool(path, max_bytes=LARGE)
    spool.append(letter(1))
    before = path.read_bytes()

    with _file_limit(len(before) + 1000), pytest.raises(OSError, match="large") as failed:
        spool.append(letter(2, size=5000))
    as_it_was = path.read_bytes()
    again = spool.append(letter(2, size=5000))

    assert failed.value.errno == errno.EFBIG
    assert as_it_was == before
    assert again is Appended.WRITTEN
    assert list(read_spool(path)) == [letter(1), letter(2, size=5000)]


def test_a_folder_that_is_not_there_is_told_before_it_is_needed(path: Path) -> None:
    missing = Spool(path.parent / "nowhere" / "letters.jsonl", max_bytes=LARGE)

    assert missing.problem() == f"there is no folder {path.parent / 'nowhere'}"
    assert Spool(path, max_bytes=LARGE).problem() is None


@pytest.mark.invariant("P11")
def test_a_line_that_is_too_long_takes_no_more_memory_than_any_and_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, longest = tmp_path / "spool.jsonl", 2**20
    monkeypatch.setattr(spool, "MAX_LINE_BYTES", longest)
    long = letter(1).to_line()
    path.write_bytes(long + b"x" * (20 * longest) + b"\n" + letter(2).to_line() + b"y" * longest)

    tracemalloc.start()
    found = list(read_spool(path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == [letter(1), Torn(2), letter(2), Torn(4)]
    assert most < 4 * longest
