"""How many letters lie in a spool: counted by whoever asks, from where it was read to before."""

from __future__ import annotations

import threading
from pathlib import Path

from redrive.private_files import check_private

__all__ = ["SpoolCount"]

_CHUNK_BYTES = 2**20


class SpoolCount:
    """Counts the lines of a spool, each byte of it once; safe from any thread.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._inode = -1
        self._read_to = 0
        self._letters = 0

    def now(self) -> tuple[int, int]:
        """Return how many letters the file holds, and its size in bytes; no file holds none.

        Raises:
            OSError: It is there and cannot be read.
        """
        with self._lock:
            self._catch_up()
            return self._letters, self._read_to

    def _catch_up(self) -> None:
        found = check_private(self._path)
        if found is None:
            self._begin(-1)
            return
        if found.st_ino != self._inode or found.st_size < self._read_to:
            self._begin(found.st_ino)
        if found.st_size == self._read_to:
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            while chunk := file.read(_CHUNK_BYTES):
                self._letters += chunk.count(b"\n")
                self._read_to += len(chunk)

    def _begin(self, inode: int) -> None:
        self._inode, self._read_to, self._letters = inode, 0, 0
