"""What lies on a stopped broker's disk: the end of a partition's log can be cut off there.

So a machine crash leaves a log whose last writes never reached the disk, and so it is truncated
when a replica that lags becomes the leader: offsets that were given are given again, to others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from redrive.kafka.log import TopicPartition

__all__ = ["cut_log"]

_HEAD = struct.Struct(">qi")
"""A batch of records begins with its first offset, and how many bytes follow."""
_LAST_DELTA = struct.Struct(">i")
_LAST_DELTA_AT = 23
_CLEAN = ".kafka_cleanshutdown"
_DERIVED = ("*.index", "*.timeindex", "*.txnindex", "*.snapshot")


def cut_log(data: Path, tp: TopicPartition, *, from_offset: int) -> int:
    """Remove the records of a partition from an offset on; return where its log ends now.

    Whole batches are removed: the one that holds `from_offset` goes with all of it. The broker
    must not run, and builds its indexes anew when it starts.

    Args:
        data: The broker's `log.dirs`.
        tp: The partition.
        from_offset: The first offset that is to be lost.
    """
    folder = data / f"{tp.topic}-{tp.partition}"
    segments = sorted(folder.glob("*.log"))
    end = int(segments[0].stem)
    for segment in segments:
        whole = segment.read_bytes()
        keep = 0
        for first, last, stop in _batches(whole):
            if last >= from_offset:
                break
            end, keep = max(end, last + 1), stop
            _ = first
        if keep < len(whole):
            with segment.open("r+b") as file:
                file.truncate(keep)
    for pattern in _DERIVED:
        for derived in folder.glob(pattern):
            derived.unlink()
    # Else the broker would believe what it has noted of the log, and not look.
    (data / _CLEAN).unlink(missing_ok=True)
    return end


def _batches(segment: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield of each batch its first and last offset, and where the next one begins."""
    at = 0
    while at + _HEAD.size <= len(segment):
        first, size = _HEAD.unpack_from(segment, at)
        stop = at + _HEAD.size + size
        if stop > len(segment):
            return
        (delta,) = _LAST_DELTA.unpack_from(segment, at + _LAST_DELTA_AT)
        yield first, first + delta, stop
        at = stop
