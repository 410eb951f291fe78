"""The code of a commit's metadata: what is finished past the committed offset, and who says so.

A note is versioned text: a digit, then base64 of bytes. Numbers are LEB128 varints. Version 2:

    8 bytes    incarnation of the worker that wrote it (random)
    varint     number of the settle that wrote it
    varint, n  length of the bitmap, then its bytes; bit i: offset committed + i is finished
    varint     how many offsets from the committed one on may have started without an entry
    varint     how many entries, then for each: offset (from the one before), failed attempts,
               twice the crashes, plus 1 if it may have started

then (a note of an earlier version may end before):

    varint     when it was written, in seconds since 1970; 0 where nothing waits
    varint, n  how many of the entries have a wait, from the first on, then a byte for each: how
               long its event waits from then on (0: it does not), in the steps of `_STEPS_S`
    varint     how many rests, then for each: a byte, how long it lasts, in the same steps; varint,
               for how many seconds it was asked; length and UTF-8 text of the workflow's id; the
               same of the dependency (0: it has none)

then (a note of an earlier version ends before):

    varint     the committed offset that it belongs to
    varint, n  length of the cluster's digest, then its bytes (0: not known)
    varint, n  length of the topic's id, then its bytes (0: not known)

then (a note of an earlier version ends before):

    varint     how many runs of finished offsets lie past the bitmap, then for each: how many
               others lie before it, from the bitmap or the last run on, and its length

then (a note of an earlier version, or with none, ends before):

    varint  how many marks, then of each, in order, how far its offset lies from the one before;
               then 4 bytes of each: the mark of the record there, which was answered lately

What stands behind that is passed by: later versions append there, so that workers of both can
follow each other on a partition. Another digit is only for what cannot be read so.

A note that was copied to another commit says nothing about it: MirrorMaker translates a group's
offsets to those of another cluster, or to earlier ones, and leaves their metadata as it is. [P3]
Its marks are true of a topic that was deleted and made anew as well, whose records may have been
answered before that was known.

The limits of `WINDOW` and `MAX_ENTRIES` keep every note below `MAX_METADATA_CHARS`; brokers take
4,096, unless they are told otherwise. In a note that must be shorter there is room for fewer
entries, and for a narrower window, each by a formula. What is finished past that window, since
there was more room when it ended, goes into runs. Rests and marks take what room is left.
"""

from __future__ import annotations

import base64
import binascii
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from itertools import islice
from operator import sub

__all__ = [
    "MAX_ENTRIES",
    "MAX_MARKS",
    "MAX_METADATA_CHARS",
    "MAX_RESTS",
    "MIN_METADATA_CHARS",
    "WINDOW",
    "CommitMetadata",
    "Foreign",
    "LogIdentity",
    "OffsetEntry",
    "StoredRest",
    "commit_metadata_of",
    "decode",
    "encode",
    "entries_within",
    "window_within",
]

WINDOW = 8_192
"""Offsets past the committed one in which events may start."""
MAX_ENTRIES = 256
"""Offsets of one partition that may have started, or have a history, and are not finished."""
MAX_METADATA_CHARS = 3_100
MIN_METADATA_CHARS = 103
"""The shortest limit on a note with which events can start, one by one."""
MAX_RESTS = 16
"""Rests that a note tells of, where there is room for them."""
MAX_MARKS = 255
"""Records answered lately that a note tells of, where there is room for them."""

_VERSION = "2"
_MAX_COUNT = 127
# A number has nine bytes at the most.
_MAX_SHIFT = 56
_INCARNATION_BYTES = 8
_DIGEST_BYTES = 8
_MARK_BYTES = 4
# What a note takes beside its bitmap and its entries, at most; and what each entry takes with its
# share of the window, in quarters of a byte: 32 bits of it, three numbers, a wait, and of every
# fourth distance between two a second byte.
_FIXED_BYTES = 67
_ENTRY_QUARTERS = 33
_ENTRY_WINDOW = 32
# Whole seconds up to a minute, then 6 % more at each step, up to two months: a wait is remembered
# in a byte, and never as a shorter one.
_STEPS_S = (*range(61), *(round(60 * 1.06**step) for step in range(1, 196)))


@dataclass(frozen=True, slots=True)
class OffsetEntry:
    """What is known of one unfinished offset.

    `failed` counts attempts that failed, `crashes` deaths of the process while it ran; `started`
    says that an attempt may be running now. `until` is when the next one may begin, in whole
    seconds since 1970; 0 when it waits for no time.
    """

    failed: int = 0
    crashes: int = 0
    started: bool = False
    until: int = 0

    @property
    def is_new(self) -> bool:
        """Whether nothing went wrong with it so far."""
        return not (self.failed or self.crashes)


@dataclass(frozen=True, slots=True)
class StoredRest:
    """That nothing of a workflow was to start before `until` (whole seconds since 1970).

    `dependency` is the service that asked for it, if that is known, and `asked_s` for how many
    seconds: it may want longer than others are held back.
    """

    workflow_id: str
    dependency: str | None
    until: int
    asked_s: int


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log offsets are of: a partition's name alone is that of its successors and copies too.

    `cluster` is a digest of the cluster's id, `topic_id` the topic's; empty where it is not known.
    """

    cluster: bytes = b""
    topic_id: bytes = b""

    @classmethod
    def of(cls, cluster_id: str | None, topic_id: bytes = b"") -> LogIdentity:
        """Return the identity of the logs of a topic in a cluster, each by its id."""
        digest = blake2b((cluster_id or "").encode(), digest_size=_DIGEST_BYTES).digest()
        return cls(digest if cluster_id else b"", topic_id)


class Foreign(StrEnum):
    """What shows that a note was written with another commit than the one that bears it."""

    CLUSTER = "cluster"
    TOPIC = "topic"
    OFFSET = "offset"


@dataclass(frozen=True, slots=True)
class CommitMetadata:
    """What one commit says beside its offset.

    `finished` is a bitmap: bit i stands for the committed offset + i. Keys of `entries` are offsets
    from the committed one too. Of the first `reserved` offsets, those that are not finished and
    have no entry may have started. `at` is when it was written, in whole seconds since 1970; waits
    and rests that are over by then are not written. Of the `rests`, the longest ones are that fit.
    `offset` is the committed one, and `log` the log that it is of; notes of an earlier version do
    not say. `marks` are numbers of 32 bits made of records that were answered, by the offsets of
    these themselves, the most important first: as many are written as fit.
    """

    incarnation: int
    settle: int
    finished: int = 0
    reserved: int = 0
    entries: Mapping[int, OffsetEntry] = field(default_factory=dict)
    at: int = 0
    rests: tuple[StoredRest, ...] = ()
    offset: int | None = None
    log: LogIdentity = LogIdentity()
    marks: Mapping[int, int] = field(default_factory=dict)

    def foreign_to(self, offset: int | None, log: LogIdentity) -> Foreign | None:
        """Say what shows that it belongs to another commit; None where nothing does.

        Args:
            offset: The offset that is committed where the note was found.
            log: The log there, as far as it is known: what is not known is not compared.
        """
        if self.log.cluster and log.cluster and self.log.cluster != log.cluster:
            return Foreign.CLUSTER
        if self.log.topic_id and log.topic_id and self.log.topic_id != log.topic_id:
            return Foreign.TOPIC
        return Foreign.OFFSET if self.offset not in (None, offset) else None

    def is_of_a_log_before(self, offset: int | None, log: LogIdentity) -> bool:
        """Say whether its commit is of a topic that was deleted, and made anew under its name."""
        return self.offset in (None, offset) and self.foreign_to(offset, log) is Foreign.TOPIC

    def until(self, count: int) -> CommitMetadata:
        """Return what it says of the first `count` offsets: the others are not there any more."""
        return replace(
            self,
            finished=self.finished & ((1 << count) - 1),
            reserved=min(self.reserved, count),
            entries={at: entry for at, entry in self.entries.items() if at < count},
        )


def entries_within(chars: int) -> int:
    """Return how many entries a note of so many characters has room for, whatever else it says."""
    return min(max(_bytes_within(chars) - _FIXED_BYTES, 0) * 4 // _ENTRY_QUARTERS, MAX_ENTRIES)


def window_within(chars: int) -> int:
    """Return how wide the window of its bitmap may be."""
    return entries_within(chars) * _ENTRY_WINDOW


def encode(
    metadata: CommitMetadata, *, chars: int = MAX_METADATA_CHARS, marks_chars: int | None = None
) -> str:
    """Return the text to commit.

    Of what is finished past the window of such a note, as much is told as fits.

    Args:
        metadata: What it says.
        chars: How long it may be.
        marks_chars: How long it may be made by marks, where that is less.

    Raises:
        ValueError: The note is outside the stated limits.
    """
    window, most = window_within(chars), entries_within(chars)
    if not _fits(metadata) or _spread(metadata) > window or len(metadata.entries) > most:
        raise ValueError(
            f"a note over {metadata.finished.bit_length()} offsets, {metadata.reserved} reserved, "
            f"with {len(metadata.entries)} entries does not fit: the limits are {window} and {most}"
        )
    head, entries, belonging = _signature(metadata), _entries(metadata), _belonging(metadata)
    waits, rests = _waits(metadata)
    room = _bytes_within(chars) - len(head) - len(entries) - len(waits) - len(belonging)
    # Two bytes for the length of the bitmap, one for the number of rests, one for that of runs.
    room -= 4
    width, past = (metadata.finished.bit_length() + 7) // 8, 0
    if width > room:
        width = window // 8
        past = metadata.finished >> (8 * width)
    bitmap = (metadata.finished & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
    runs = _as_many_as_fit(_runs(past), room - width)
    told = _as_many_as_fit(rests, room - width - sum(map(len, runs)))
    out = bytearray(head)
    _put(out, width)
    out += bitmap + entries + waits
    _put(out, len(told))
    out += b"".join(told) + belonging
    if belonging:
        _put(out, len(runs))
        out += b"".join(runs)
        most = chars if marks_chars is None else min(chars, marks_chars)
        out += _marks(metadata.marks, _bytes_within(most) - len(out))
    return _VERSION + base64.b64encode(out).decode("ascii").rstrip("=")


def commit_metadata_of(
    text: str | None,
    *,
    offset: int | None,
    log: LogIdentity = LogIdentity(),
) -> CommitMetadata | None:
    """Read the note of a commit; None when it has none, or one that belongs to another commit.

    Args:
        text: The commit's metadata.
        offset: Its offset.
        log: The log that it is of, as far as that is known.
    """
    metadata = decode(text)
    return None if metadata is None or metadata.foreign_to(offset, log) else metadata


def decode(text: str | None) -> CommitMetadata | None:
    """Read a note, whichever commit it belongs to.

    None when there is none, or it is not ours, of another version, or broken.
    """
    if not text or text[0] != _VERSION:
        return None
    body = text[1:]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        return _parse(raw)
    except (binascii.Error, ValueError, IndexError):
        return None


def _parse(raw: bytes) -> CommitMetadata:
    if len(raw) < _INCARNATION_BYTES:
        raise ValueError("too short")
    incarnation = int.from_bytes(raw[:_INCARNATION_BYTES], "big")
    numbers = _VarintReader(raw, _INCARNATION_BYTES)
    settle = numbers.take()
    bitmap = numbers.take_bytes(numbers.take())
    finished, bitmap_bits = int.from_bytes(bitmap, "little"), 8 * len(bitmap)
    reserved = numbers.take()
    entries: dict[int, OffsetEntry] = {}
    where = 0
    for _ in range(numbers.take()):
        where += numbers.take()
        failed, crashes = numbers.take(), numbers.take()
        entries[where] = OffsetEntry(failed, crashes >> 1, bool(crashes & 1))
    at, rests = _take_waits(numbers, entries) if numbers.left else (0, ())
    belonging = _take_belonging(numbers) if numbers.left else (None, LogIdentity())
    if numbers.left:
        finished |= _take_runs(numbers) << bitmap_bits
    marks = _take_marks(numbers) if numbers.left else {}
    offset, identity = belonging
    metadata = CommitMetadata(
        incarnation, settle, finished, reserved, entries, at, rests, offset, identity, marks
    )
    if not _fits(metadata):
        raise ValueError("outside the limits")
    return metadata


def _bytes_within(chars: int) -> int:
    return (chars - 1) * 3 // 4


def _signature(metadata: CommitMetadata) -> bytes:
    out = bytearray(metadata.incarnation.to_bytes(_INCARNATION_BYTES, "big"))
    _put(out, metadata.settle)
    return bytes(out)


def _entries(metadata: CommitMetadata) -> bytes:
    out = bytearray()
    _put(out, metadata.reserved)
    _put(out, len(metadata.entries))
    last = 0
    for offset, entry in sorted(metadata.entries.items()):
        _put(out, offset - last)
        _put(out, min(entry.failed, _MAX_COUNT))
        _put(out, min(entry.crashes, _MAX_COUNT // 2) << 1 | entry.started)
        last = offset
    return bytes(out)


def _waits(metadata: CommitMetadata) -> tuple[bytes, list[bytes]]:
    """Return the waits of entries, and the rests that go on, the longest first."""
    waits = bytes(_step(entry.until - metadata.at) for _, entry in sorted(metadata.entries.items()))
    waits = waits.rstrip(b"\0")
    rests = [rest for rest in _longest_first(metadata.rests) if rest.until > metadata.at]
    out = bytearray()
    _put(out, metadata.at if waits or rests else 0)
    _put(out, len(waits))
    return bytes(out) + waits, [_rest(rest, metadata.at) for rest in rests]


def _runs(finished: int) -> Iterator[bytes]:
    while finished:
        gap = (finished & -finished).bit_length() - 1
        finished >>= gap
        count = (finished ^ (finished + 1)).bit_length() - 1
        finished >>= count
        out = bytearray()
        _put(out, gap)
        _put(out, count)
        yield bytes(out)


def _take_runs(numbers: _VarintReader) -> int:
    finished = at = 0
    for _ in range(numbers.take()):
        gap, count = numbers.take(), numbers.take()
        if at + gap + count > WINDOW:
            raise ValueError("outside the limits")
        finished |= ((1 << count) - 1) << (at + gap)
        at += gap + count
    return finished


def _marks(marks: Mapping[int, int], room: int) -> bytes:
    """Return the first ones that fit; nothing at all where there are none."""
    count = min(len(marks), MAX_MARKS)
    while count > 0:
        chosen = sorted(islice(marks.items(), count))
        out = bytearray()
        _put(out, count)
        offsets = [offset for offset, _ in chosen]
        for distance in map(sub, offsets, (0, *offsets)):
            _put(out, distance)
        out += struct.pack(f">{count}I", *(mark for _, mark in chosen))
        if len(out) <= room:
            return bytes(out)
        count = count * max(room, 0) // len(out)
    return b""


def _take_marks(numbers: _VarintReader) -> dict[int, int]:
    offset, offsets = 0, list[int]()
    for _ in range(numbers.take()):
        offset += numbers.take()
        offsets.append(offset)
    raw = numbers.take_bytes(_MARK_BYTES * len(offsets))
    return dict(zip(offsets, struct.unpack(f">{len(offsets)}I", raw), strict=True))


def _as_many_as_fit(parts: Iterable[bytes], room: int) -> list[bytes]:
    fitting = list[bytes]()
    for raw in parts:
        if len(raw) <= room:
            fitting.append(raw)
            room -= len(raw)
    return fitting


def _belonging(metadata: CommitMetadata) -> bytes:
    if metadata.offset is None:
        return b""
    out = bytearray()
    _put(out, metadata.offset)
    for raw in (metadata.log.cluster, metadata.log.topic_id):
        _put(out, len(raw))
        out += raw
    return bytes(out)


def _take_belonging(numbers: _VarintReader) -> tuple[int, LogIdentity]:
    offset = numbers.take()
    cluster, topic_id = (numbers.take_bytes(numbers.take()) for _ in range(2))
    return offset, LogIdentity(cluster, topic_id)


def _longest_first(rests: Iterable[StoredRest]) -> list[StoredRest]:
    return sorted(rests, key=lambda rest: rest.until, reverse=True)[:MAX_RESTS]


def _rest(rest: StoredRest, at: int) -> bytes:
    out = bytearray((_step(rest.until - at),))
    _put(out, rest.asked_s)
    for text in (rest.workflow_id, rest.dependency or ""):
        raw = text.encode("utf-8", "replace")
        _put(out, len(raw))
        out += raw
    return bytes(out)


def _step(wait_s: int) -> int:
    return min(bisect_left(_STEPS_S, max(wait_s, 0)), len(_STEPS_S) - 1)


def _take_waits(
    numbers: _VarintReader, entries: dict[int, OffsetEntry]
) -> tuple[int, tuple[StoredRest, ...]]:
    """Read what may stand behind the entries, and put the waits into them."""
    at = numbers.take()
    waits = numbers.take_bytes(numbers.take())
    for (offset, entry), step in zip(list(entries.items()), waits, strict=False):
        entries[offset] = replace(entry, until=at + _STEPS_S[step] if step else 0)
    rests = []
    for _ in range(numbers.take()):
        (step,), asked_s = numbers.take_bytes(1), numbers.take()
        texts = [numbers.take_bytes(numbers.take()).decode("utf-8") for _ in range(2)]
        if step:
            rests.append(StoredRest(texts[0], texts[1] or None, at + _STEPS_S[step], asked_s))
    is_empty = not (rests or any(waits[: len(entries)]))
    return 0 if is_empty else at, tuple(_longest_first(rests))


def _fits(metadata: CommitMetadata) -> bool:
    size = max(metadata.finished.bit_length(), _spread(metadata))
    return size <= WINDOW and len(metadata.entries) <= MAX_ENTRIES


def _spread(metadata: CommitMetadata) -> int:
    """Return how many offsets it says something of that is not the end of one."""
    return max(metadata.reserved, max(metadata.entries, default=-1) + 1)


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:  # noqa: PLR2004 - LEB128: seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


class _VarintReader:
    def __init__(self, raw: bytes, at: int) -> None:
        self._raw = raw
        self._at = at

    @property
    def left(self) -> int:
        return len(self._raw) - self._at

    def take(self) -> int:
        raw, at, number, shift = self._raw, self._at, 0, 0
        while raw[at] > 0x7F and shift < _MAX_SHIFT:  # noqa: PLR2004 - the last byte's bit is clear
            number |= (raw[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
        if raw[at] > 0x7F:  # noqa: PLR2004 - as above
            raise ValueError("a number without end")
        self._at = at + 1
        return number | raw[at] << shift

    def take_bytes(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("cut short")
        self._at += count
        return self._raw[self._at - count : self._at]
