"""What was answered of a log that may have taken the place of another, unnoticed. [P2].

A client whose offset exists in a log that has taken the place of another reads on there and says
nothing. Until the topic's id is asked for again, what it reads is settled as if it were of the log
before: the same records, read once more from the beginning, are not to be answered again.

So the mark of each record that is read is kept until the topic's id is confirmed by a question that
was asked later, and those of answered ones go into the notes of commits: whoever opens the
partition next knows them. A mark is of a record's content at its offset, so it is true whatever log
they are of.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, islice

from redrive.kafka.log import ConsumerRecord
from redrive.state.commit_metadata import MAX_MARKS

__all__ = ["CROWDED", "Lately", "mark_of"]

CROWDED = MAX_MARKS // 2
"""With more marks of one partition, its topic's id is to be asked for soon: a note takes no more
than twice as many."""
_MOST_KEPT = 4 * MAX_MARKS
"""Answers of one partition that its own worker remembers, though no note has room for them."""


def mark_of(record: ConsumerRecord) -> int:
    """Return a number that is another one for any other record at the same offset, as good as."""
    head = b"%d %d " % (-1 if record.timestamp_ms is None else record.timestamp_ms, _size(record))
    return zlib.crc32(record.value or b"", zlib.crc32(record.key or b"", zlib.crc32(head)))


def _size(record: ConsumerRecord) -> int:
    return -1 if record.key is None else len(record.key)


class Lately:
    """The marks of one partition's records, over assignments; each with when it was read."""

    __slots__ = ("_answered", "_before", "_read")

    def __init__(self) -> None:
        self._read: dict[int, tuple[int, float]] = {}
        # The newest answer comes last.
        self._answered: dict[int, tuple[int, float]] = {}
        # By others, or under an assignment that is over; not met yet in the log that is read now.
        self._before: dict[int, int] = {}

    def opened(self, marks: Mapping[int, int], is_settled: Callable[[int], bool]) -> None:
        """Take note of a new assignment, which begins with the marks of the commit's note.

        Args:
            marks: These.
            is_settled: Says of an offset whether the commit has it settled in the log that is read.
        """
        ours = {offset: mark for offset, (mark, _) in self._answered.items()}
        known = {**self._before, **ours, **marks}
        self._before = {at: mark for at, mark in known.items() if not is_settled(at)}
        self._read, self._answered = {}, {}

    def forget(self) -> None:
        """Forget everything: another program has set the group's offset."""
        self._read, self._answered, self._before = {}, {}, {}

    def was_answered(self, record: ConsumerRecord, at: float) -> bool:
        """Say whether a record that is read now was answered before."""
        mark = self._before.pop(record.offset, None)
        if mark is None or record.unreadable is not None or mark != mark_of(record):
            return False
        self._put(record.offset, mark_of(record), at)
        return True

    def saw(self, record: ConsumerRecord, at: float) -> None:
        """Take note of a record that is to be settled.

        Args:
            record: It. Of one that the client cannot read nothing is known that could be marked.
            at: Now, in monotonic seconds.
        """
        if record.unreadable is None:
            self._read[record.offset] = mark_of(record), at

    def settled(self, offsets: Iterable[int]) -> None:
        """Take note of what is stored."""
        for offset in offsets:
            if (seen := self._read.pop(offset, None)) is not None:
                self._put(offset, *seen)

    def settled_late(self, record: ConsumerRecord) -> None:
        """Take note of what is stored, though the assignment under which it was read is over."""
        if record.unreadable is None:
            self._before[record.offset] = mark_of(record)

    def _put(self, offset: int, mark: int, at: float) -> None:
        self._answered[offset] = mark, at
        if len(self._answered) > _MOST_KEPT:
            del self._answered[next(iter(self._answered))]

    @property
    def is_crowded(self) -> bool:
        """Whether there will soon be as many marks as a note takes."""
        return len(self._read) + len(self._answered) > CROWDED

    def is_known(self, as_of: float) -> None:
        """Take note that the topic still had the id that it had at a monotonic second.

        So all that was read before is of the log that it was taken for.
        """
        if self._read:
            self._read = {o: seen for o, seen in self._read.items() if seen[1] >= as_of}
        if self._answered:
            self._answered = {o: seen for o, seen in self._answered.items() if seen[1] >= as_of}

    def marks(self, base: int, finished: Iterable[int]) -> dict[int, int]:
        """Return the marks for a commit's note, the most important first.

        First comes what was answered before, and is not met yet: nobody else knows of it.

        Args:
            base: The offset to be committed.
            finished: Offsets that the same transaction settles.
        """
        # What lies below the commit, and was not met, is not there any more.
        for offset in [offset for offset in self._before if offset < base]:
            del self._before[offset]
        if not (self._before or self._read or self._answered):
            return {}
        now = [(o, self._read[o][0]) for o in sorted(finished, reverse=True) if o in self._read]
        lately = ((offset, mark) for offset, (mark, _) in reversed(self._answered.items()))
        return dict(islice(chain(self._before.items(), now, lately), MAX_MARKS))
