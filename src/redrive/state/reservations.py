"""Which offsets of one partition may start: those that a durable commit says may have started.

Two threads meet here, under one lock: the event loop asks to start events and tells how attempts
ended; the poll thread writes what was asked for into the next commit's note, and tells when that is
durable. So a death leaves behind which events may have caused it. [P5]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from redrive.state.commit_metadata import CommitMetadata, OffsetEntry
from redrive.state.metadata_room import MetadataRoom

__all__ = ["Coverage", "Reservations", "crashes_since", "history_after_death"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one commit says about starts: offsets below `until`, and those with a started entry."""

    until: int = 0
    entries: Mapping[int, OffsetEntry] = field(default_factory=dict)

    def covers(self, offset: int, wanted: OffsetEntry) -> bool:
        """Say whether a death after this commit would be counted for `offset` as it starts now."""
        noted = self.entries.get(offset)
        if noted is None:
            return offset < self.until and wanted.is_new
        known = noted.failed >= wanted.failed and noted.crashes >= wanted.crashes
        return noted.started and known


def history_after_death(
    metadata: CommitMetadata,
    committed: int,
    *,
    end: int,
    now: float | None = None,
    died: bool = True,
) -> dict[int, OffsetEntry]:
    """Return what a process that died left: one more crash for each offset that may have run.

    Of one that lives on, and has only lost its partition, it is what it knew.

    Args:
        metadata: What its last commit said.
        committed: The offset of that commit.
        end: Where the log ends now: what comes later cannot have run.
        now: The wall time in seconds since 1970. A note from later than that is of a clock that is
            ahead of ours: its waits are not made longer by that.
        died: Whether it died.
    """
    ahead = 0 if now is None else max(metadata.at - int(now), 0)
    history = {
        committed + at: OffsetEntry(
            entry.failed,
            entry.crashes + (died and entry.started),
            until=max(entry.until - ahead, 0),
        )
        for at, entry in metadata.entries.items()
    }
    for offset in range(committed, min(committed + metadata.reserved, end) if died else committed):
        if not metadata.finished >> (offset - committed) & 1:
            history.setdefault(offset, OffsetEntry(crashes=1))
    return {offset: entry for offset, entry in history.items() if not entry.is_new}


def crashes_since(
    metadata: CommitMetadata, committed: int, history: Mapping[int, OffsetEntry]
) -> int:
    """Return how many crashes a history counts that its note did not know of yet."""
    return sum(
        entry.crashes - metadata.entries.get(offset - committed, _NEW).crashes
        for offset, entry in history.items()
    )


class Reservations:
    """The starts and the history of one partition's unfinished offsets, under one assignment.

    Args:
        history: What earlier attempts left: failures and crashes.
        room: How much a note may hold; by default as much as most brokers take.
        tell: Called when something begins to wait for the next commit; from any thread, and under
            the lock.
    """

    def __init__(
        self,
        history: Mapping[int, OffsetEntry] | None = None,
        *,
        room: MetadataRoom | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._room = room or MetadataRoom()
        self._lock = threading.Lock()
        self._entries = dict(history or {})
        self._base = min(self._entries, default=0)
        self._suspects = {offset for offset, entry in self._entries.items() if entry.crashes}
        self._durable = Coverage()
        self._sent: Coverage | None = None
        self._tell = tell
        self._news = True
        self._closed = False

    @property
    def news(self) -> bool:
        """Whether something waits for the next commit: a start, a failure, the first one of all."""
        return self._news

    def history(self, offset: int) -> OffsetEntry:
        """Return what is known of an offset."""
        return self._entries.get(offset, _NEW)

    def carried(self) -> dict[int, OffsetEntry]:
        """Return the history to go on with, should the partition come back before anyone's."""
        with self._lock:
            ended = {o: replace(entry, started=False) for o, entry in self._entries.items()}
        return {offset: entry for offset, entry in ended.items() if not entry.is_new}

    @property
    def suspects(self) -> int:
        """How many unfinished offsets may have been running when a process died."""
        return len(self._suspects)

    def suspects_below(self, offset: int) -> bool:
        """Say whether unfinished offsets below `offset` were running when a process died."""
        with self._lock:
            return any(suspect < offset for suspect in self._suspects)

    def has_room(self, offset: int) -> bool:
        """Say whether a commit can speak of `offset` too: 256 others are the limit, or fewer."""
        return offset in self._entries or not self._is_full()

    def _is_full(self) -> bool:
        """Say whether the next note has no room for another offset."""
        most = self._room.entries
        if len(self._entries) < most:
            return False
        # What lies beyond a window that has become narrower is in no note before its time.
        end = self._base + self._room.window
        return sum(offset < end for offset in tuple(self._entries)) >= most

    def start(self, offset: int) -> bool:
        """Say whether `offset` may start now; if not, the next commit asks for it: try again then.

        False as well while as many offsets as a note has room for have started or have a history.
        """
        with self._lock:
            if self._closed:
                return False
            entry = self._entries.get(offset)
            if entry is None:
                if self._is_full():
                    return False
                entry = _STARTED
                self._entries[offset] = entry
            elif not entry.started:
                entry = replace(entry, started=True, until=0)
                self._entries[offset] = entry
            # While a commit is on its way, a death may leave either behind.
            if self._durable.covers(offset, entry) and (
                self._sent is None or self._sent.covers(offset, entry)
            ):
                return True
            self._wait_for_commit()
            return False

    def failed(self, offset: int, *, until: int = 0) -> None:
        """Take note that the attempt of `offset` ended with a failure, and will be followed.

        Args:
            offset: Whose attempt.
            until: When the next one may begin, in seconds since 1970.
        """
        with self._lock:
            before = self._entries.get(offset, _NEW)
            self._entries[offset] = OffsetEntry(before.failed + 1, before.crashes, until=until)
            self._wait_for_commit()

    def close(self) -> None:
        """Take all starts back, and allow no more: what still runs is being ended by us."""
        with self._lock:
            self._closed = True
            self._wait_for_commit()

    def reopen(self) -> None:
        """Go on as before `close`: what ran then may still be running."""
        with self._lock:
            self._closed = False
            self._wait_for_commit()

    def owe_commit(self) -> None:
        """Let there be a commit, though nothing waits to start."""
        with self._lock:
            self._wait_for_commit()

    def _wait_for_commit(self) -> None:
        if not self._news:
            self._news = True
            self._tell()

    def cover(self, base: int, done: int, *, ahead: int, limit: int | None = None) -> Coverage:
        """Return what the next commit says, `ahead` offsets beyond what has started included.

        Where there is less room than before, it speaks of the oldest: the others start later, and
        of those that run already a death is not counted.

        Args:
            base: The offset to be committed.
            done: The bitmap of finished offsets from there.
            ahead: How many offsets that nobody asked for may start as well, once it is durable.
            limit: None of those lies here or beyond.
        """
        most, window = self._room.entries, self._room.window
        with self._lock:
            self._news, self._base = False, base
            live = {
                offset: entry
                for offset, entry in self._entries.items()
                if base <= offset < base + window and not done >> (offset - base) & 1
            }
            if len(live) > most:
                live = {offset: live[offset] for offset in sorted(live)[:most]}
            if self._closed:
                kept = {o: replace(e, started=False) for o, e in live.items() if not e.is_new}
                self._sent = Coverage(0, kept)
                return self._sent
            spare = min(ahead, most - len(live))
            taken = done
            for offset in live:
                taken |= 1 << (offset - base)
            until = base + _free_bit(taken, spare, window) if spare > 0 else base
            if limit is not None:
                until = max(min(until, limit), base)
            entries = {o: e for o, e in live.items() if o >= until or not e.is_new}
            self._sent = Coverage(until, entries)
            return self._sent

    def stored(self) -> None:
        """Take note that the last coverage is durable."""
        with self._lock:
            if self._sent is not None:
                self._durable, self._sent = self._sent, None

    def refused(self) -> None:
        """Take note that the last coverage is not durable, and never will be."""
        with self._lock:
            self._sent = None
            self._wait_for_commit()

    def finish(self, base: int, done: int) -> None:
        """Forget offsets that are settled: those below `base`, and those in the bitmap from it."""
        with self._lock:
            self._base = base
            finished = [o for o in self._entries if o < base or done >> (o - base) & 1]
            for offset in finished:
                del self._entries[offset]
                self._suspects.discard(offset)

    def forget(self, *, from_: int = 0) -> None:
        """Drop the history of these offsets: the log was made anew, or cut back."""
        with self._lock:
            for offset in [offset for offset in self._entries if offset >= from_]:
                del self._entries[offset]
            self._suspects -= {offset for offset in self._suspects if offset >= from_}


_NEW = OffsetEntry()
_STARTED = OffsetEntry(started=True)


def _free_bit(taken: int, count: int, window: int) -> int:
    """Return the position past the `count`-th bit that is not set, within the window."""
    free = ~taken & ((1 << window) - 1)
    position = 0
    for _ in range(count):
        if not free:
            return window
        lowest = free & -free
        position = lowest.bit_length()
        free ^= lowest
    return position
