"""The spool: a local file of letters that Kafka does not take, one JSON line each.

`redrive dlq import` publishes such a file later. What appends to it, and when, is
`redrive.dead_letter.spooling`. The file is for its owner's eyes only: it holds whole events.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redrive.dead_letter.source import Base64Bytes
from redrive.json_texts import parsed_json
from redrive.private_files import check_private, open_private, warn_of_open_folder

__all__ = ["Appended", "Spool", "SpooledLetter", "Torn", "read_spool"]

MAX_LINE_BYTES = 96 * 2**20
"""The line of a letter with 64 MiB; reading it takes a few times as much memory."""
_CHUNK_BYTES = 2**20


class SourcePlace(BaseModel):
    """Where the event lies that ended in the letter."""

    model_config = ConfigDict(extra="allow", frozen=True)

    topic: str
    partition: int
    offset: int


class SpooledLetter(BaseModel):
    """One line: the letter's record as it was to be stored. Bytes are base64 in the JSON."""

    model_config = ConfigDict(extra="allow", frozen=True)

    dlq_id: str
    topic: str
    partition: int | None = None
    key: Base64Bytes | None = None
    headers: tuple[tuple[str, Base64Bytes | None], ...] = Field(default=())
    value: Base64Bytes
    source: SourcePlace | None = None

    def to_line(self) -> bytes:
        """Return the JSON and its line end."""
        return self.model_dump_json().encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Torn:
    """A line that is no letter: cut by a crash, or longer than any. Lines count from 1."""

    line: int


class Appended(Enum):
    """What came of an append."""

    WRITTEN = "written"
    THERE = "there"
    FULL = "full"


def read_spool(path: Path) -> Iterator[SpooledLetter | Torn]:
    """Yield each line of a spool.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), start=1):
            if line is not None and not line.strip():
                continue
            try:
                yield Torn(number) if line is None else SpooledLetter.model_validate_json(line)
            except ValidationError:
                yield Torn(number)


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines; None for each that is longer than a letter's can be. [P11]."""
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_CHUNK_BYTES)
        yield None


class Spool:
    """The file, as one process appends to it; for one thread.

    Each append opens it anew and locks it: others may write to it as well, and it may be moved
    away at any time. No letter is written twice by one process, nor one that the file holds.

    Args:
        path: The file; its folder must exist.
        max_bytes: The file grows no further than this.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._ids: set[str] = set()
        self._inode = -1
        self._read_to = 0

    def problem(self) -> str | None:
        """Say why nothing could be appended now, or None when all looks well."""
        try:
            check_private(self.path)
        except OSError as error:
            return str(error)
        warn_of_open_folder(self.path)
        place = self.path if self.path.exists() else self.path.parent
        if not place.exists():
            return f"there is no folder {place}"
        return None if os.access(place, os.W_OK) else f"{place} is not writable"

    def append(self, letter: SpooledLetter) -> Appended:
        """Write the letter's line; it is on the disk when this returns.

        Raises:
            OSError: It is not written, and the file is as it was.
        """
        if letter.dlq_id in self._ids:
            return Appended.THERE
        with self._locked() as file:
            size = self._catch_up(file)
            if letter.dlq_id in self._ids:
                return Appended.THERE
            # After a line that a crash has cut, a new one begins.
            line = (b"" if _ends_well(file, size) else b"\n") + letter.to_line()
            if size + len(line) > self._max_bytes:
                return Appended.FULL
            _write(file, line, size=size)
            if size == 0:
                _sync_folder(self.path)
            self._read_to = size + len(line)
        self._ids.add(letter.dlq_id)
        return Appended.WRITTEN

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        file = open_private(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> int:
        """Learn what was written since we looked; return the size."""
        found = os.fstat(file)
        if found.st_ino != self._inode or found.st_size < self._read_to:
            self._inode, self._read_to = found.st_ino, 0
        if self._read_to < found.st_size:
            with os.fdopen(os.dup(file), "rb", buffering=_CHUNK_BYTES) as reader:
                reader.seek(self._read_to)
                lines = (line for line in _lines(reader) if line is not None)
                self._ids.update(found_id for line in lines if (found_id := _id_of(line)))
            self._read_to = found.st_size
        return found.st_size


def _id_of(line: bytes) -> str | None:
    try:
        found = parsed_json(line)
    except ValueError:
        return None
    dlq_id = found.get("dlq_id") if isinstance(found, dict) else None
    return dlq_id if isinstance(dlq_id, str) else None


def _ends_well(file: int, size: int) -> bool:
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"


def _write(file: int, line: bytes, *, size: int) -> None:
    """Write and sync all of it, or leave the file as it was."""
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
