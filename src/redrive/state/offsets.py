"""The code of a commit's metadata: what is finished past the committed offset, and who says so.

A note is versioned text: a digit, then base64 of bytes. Numbers are LEB128 varints. Version 2:

    8 bytes    incarnation of the worker that wrote it (random)
    varint     number of the settle that wrote it
    varint, n  length of the bitmap, then its bytes; bit i: offset committed + i is finished
    varint     how many offsets from the committed one on may have started without an entry
    varint     how many entries, then for each: offset (from the one before), failed attempts,
               twice the crashes, plus 1 if it may have started

What stands behind the entries is passed by: later versions append there, so that workers of both
can follow each other on a partition. Another digit is only for what cannot be read so.

The limits of `WINDOW` and `MAX_ENTRIES` keep every note below `MAX_NOTE_CHARS`; brokers take 4,096.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["MAX_ENTRIES", "MAX_NOTE_CHARS", "WINDOW", "Entry", "Note", "decode", "encode"]

WINDOW = 8_192
"""Offsets past the committed one in which events may start."""
MAX_ENTRIES = 256
"""Offsets of one partition that may have started, or have a history, and are not finished."""
MAX_NOTE_CHARS = 3_100

_VERSION = "2"
_MAX_COUNT = 127
_INCARNATION_BYTES = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one unfinished offset.

    `failed` counts attempts that failed, `crashes` deaths of the process while it ran; `started`
    says that an attempt may be running now.
    """

    failed: int = 0
    crashes: int = 0
    started: bool = False

    @property
    def is_new(self) -> bool:
        """Whether nothing went wrong with it so far."""
        return not (self.failed or self.crashes)


@dataclass(frozen=True, slots=True)
class Note:
    """What one commit says beside its offset.

    `finished` is a bitmap: bit i stands for the committed offset + i. Keys of `entries` are offsets
    from the committed one too. Of the first `reserved` offsets, those that are not finished and
    have no entry may have started.
    """

    incarnation: int
    settle: int
    finished: int = 0
    reserved: int = 0
    entries: Mapping[int, Entry] = field(default_factory=dict)


def encode(note: Note) -> str:
    """Return the text to commit.

    Raises:
        ValueError: The note is outside the stated limits.
    """
    if not _fits(note):
        raise ValueError(
            f"a note over {note.finished.bit_length()} offsets, {note.reserved} reserved, with "
            f"{len(note.entries)} entries does not fit: the limits are {WINDOW} and {MAX_ENTRIES}"
        )
    bitmap = note.finished.to_bytes((note.finished.bit_length() + 7) // 8, "little")
    out = bytearray(note.incarnation.to_bytes(_INCARNATION_BYTES, "big"))
    _put(out, note.settle)
    _put(out, len(bitmap))
    out += bitmap
    _put(out, note.reserved)
    _put(out, len(note.entries))
    last = 0
    for offset, entry in sorted(note.entries.items()):
        _put(out, offset - last)
        _put(out, min(entry.failed, _MAX_COUNT))
        _put(out, min(entry.crashes, _MAX_COUNT // 2) << 1 | entry.started)
        last = offset
    return _VERSION + base64.b64encode(out).decode("ascii").rstrip("=")


def decode(text: str | None) -> Note | None:
    """Read a note; None when there is none, or it is not ours, of another version, or broken."""
    if not text or text[0] != _VERSION:
        return None
    body = text[1:]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        return _parse(raw)
    except (binascii.Error, ValueError, IndexError):
        return None


def _parse(raw: bytes) -> Note:
    if len(raw) < _INCARNATION_BYTES:
        raise ValueError("too short")
    incarnation = int.from_bytes(raw[:_INCARNATION_BYTES], "big")
    numbers = _Reader(raw, _INCARNATION_BYTES)
    settle = numbers.take()
    finished = int.from_bytes(numbers.take_bytes(numbers.take()), "little")
    reserved = numbers.take()
    entries: dict[int, Entry] = {}
    offset = 0
    for _ in range(numbers.take()):
        offset += numbers.take()
        failed, crashes = numbers.take(), numbers.take()
        entries[offset] = Entry(failed, crashes >> 1, bool(crashes & 1))
    note = Note(incarnation, settle, finished, reserved, entries)
    if not _fits(note):
        raise ValueError("outside the limits")
    return note


def _fits(note: Note) -> bool:
    spread = max(note.entries, default=0)
    size = max(note.finished.bit_length(), note.reserved, spread + 1)
    return size <= WINDOW and len(note.entries) <= MAX_ENTRIES


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:  # noqa: PLR2004 - LEB128: seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


class _Reader:
    def __init__(self, raw: bytes, at: int) -> None:
        self._raw = raw
        self._at = at

    @property
    def left(self) -> int:
        return len(self._raw) - self._at

    def take(self) -> int:
        number = 0
        for shift, byte in zip(range(0, 63, 7), self._bytes(), strict=False):
            number |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - LEB128: the last byte has its high bit clear
                return number
        raise ValueError("a number without end")

    def take_bytes(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("cut short")
        self._at += count
        return self._raw[self._at - count : self._at]

    def _bytes(self) -> Iterator[int]:
        while self._at < len(self._raw):
            self._at += 1
            yield self._raw[self._at - 1]
