"""Counting the letters of a spool, as the file grows, shrinks, goes and comes."""

from __future__ import annotations

from pathlib import Path

from redrive.dead_letter.spool_count import SpoolCount


def test_a_file_that_is_not_there_holds_none(tmp_path: Path) -> None:
    assert SpoolCount(tmp_path / "nowhere" / "letters.jsonl").now() == (0, 0)


def test_what_is_appended_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    count = SpoolCount(path)
    seen = []
    for line in ("{}\n", "{}\n{}\n", "half a li", "ne\n"):
        with path.open("a") as file:
            file.write(line)
        seen.append(count.now())

    assert seen == [(1, 3), (3, 9), (3, 18), (4, 21)]


def test_a_file_that_is_cut_or_another_one_is_counted_anew(tmp_path: Path) -> None:
    path, other = tmp_path / "letters.jsonl", tmp_path / "other"
    count = SpoolCount(path)
    path.write_text("{}\n{}\n")
    assert count.now() == (2, 6)

    path.write_text("{}\n")
    cut = count.now()
    other.write_text("{}\n{}\n{}\n")
    other.replace(path)
    moved = count.now()
    path.unlink()

    assert (cut, moved, count.now()) == ((1, 3), (3, 9), (0, 0))
