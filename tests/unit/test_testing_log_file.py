"""A partition's log is cut between batches, and what the broker has noted of it goes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from redrive.kafka.log import TopicPartition
from redrive.testing.log_file import cut_log

EVENTS = TopicPartition("events", 3)


def batch(first: int, count: int) -> bytes:
    """Return a batch as far as its offsets are concerned."""
    behind = bytes(11) + struct.pack(">i", count - 1) + b"records"
    return struct.pack(">qi", first, len(behind)) + behind


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two segments: offsets 0-4 and 5-6, then 7-9, in a folder as a broker leaves it."""
    folder = tmp_path / "events-3"
    folder.mkdir()
    (folder / "00000000000000000000.log").write_bytes(batch(0, 5) + batch(5, 2))
    (folder / "00000000000000000007.log").write_bytes(batch(7, 3))
    (folder / "00000000000000000007.index").write_bytes(b"index")
    (tmp_path / ".kafka_cleanshutdown").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("from_offset", "end", "left"),
    [(10, 10, 3), (9, 7, 2), (7, 7, 2), (6, 5, 1), (0, 0, 0)],
)
def test_whole_batches_go_from_an_offset_on(
    data: Path, from_offset: int, end: int, left: int
) -> None:
    whole = [batch(0, 5), batch(5, 2), batch(7, 3)]

    assert cut_log(data, EVENTS, from_offset=from_offset) == end

    segments = sorted((data / "events-3").glob("*.log"))
    assert b"".join(segment.read_bytes() for segment in segments) == b"".join(whole[:left])


def test_the_broker_must_look_at_the_log_when_it_starts(data: Path) -> None:
    cut_log(data, EVENTS, from_offset=5)

    left = sorted(path.name for path in data.rglob("*") if path.is_file())
    assert left == ["00000000000000000000.log", "00000000000000000007.log"]
