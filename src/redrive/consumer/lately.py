"""What was read of a log since it was known to be the one that its topic has now. [P2].

A client whose offset exists in a log that has taken the place of another reads on there and says
nothing. Until the topic's id is asked for again, what it reads is settled as if it were of the log
before: the same records, read once more from the beginning, are not to be answered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from redrive.kafka.log import Record

__all__ = ["Answered", "Lately", "mark_of"]


def mark_of(record: Record) -> int:
    """Return a number that is another one for any other record at the same offset, as good as."""
    return hash((record.timestamp_ms, record.key, record.value))


class Lately:
    """The marks of records of one partition, since the last but one time its log was known.

    An answer that comes now was given some moments ago: hence twice.
    """

    __slots__ = ("_before", "_since")

    def __init__(self) -> None:
        self._since: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def saw(self, record: Record) -> None:
        """Take note of a record that is to be settled."""
        self._since[record.offset] = mark_of(record)

    def is_known(self) -> None:
        """Take note that the topic still has the id that it had."""
        self._before, self._since = self._since, {}

    def marks(self) -> dict[int, int]:
        """Return the marks by offset."""
        return {**self._before, **self._since}


class Answered:
    """What was settled lately, of a log that may be found to be another one.

    Args:
        log: The id of the topic that it was taken for.
        epoch: The number of the assignment under which it was.
        marks: Of what was read lately.
        is_settled: Says of an offset whether it was settled.
    """

    __slots__ = ("_epoch", "_marks", "_settled", "log")

    def __init__(
        self, log: bytes, epoch: int, marks: Mapping[int, int], is_settled: Callable[[int], bool]
    ) -> None:
        self.log = log
        self._epoch = epoch
        self._marks = marks
        self._settled = {offset for offset in marks if is_settled(offset)}

    def settled(self, epoch: int, offsets: Iterable[int]) -> None:
        """Take note of what was under way, and is stored now."""
        if epoch == self._epoch:
            self._settled |= self._marks.keys() & set(offsets)

    def is_of_another(self, log: bytes) -> bool:
        """Say whether the topic is another one than it was taken for; its id may not be told."""
        return bool(self.log and log and self.log != log)

    def marks(self) -> dict[int, int]:
        """Return the marks of what was settled."""
        return {offset: self._marks[offset] for offset in self._settled}
