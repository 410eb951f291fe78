"""Which logs of the events have begun anew: what is told of a record that is not in them is old.

A topic that was deleted and made anew has the name, the partitions and the offsets of the one
before, and so has a log that was cut back and written again. Two things show it: a commit whose
note names another topic, and a result that names the record which it answers, while another record
lies there, or none can. [P3]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from redrive.kafka.log import TopicPartition

__all__ = ["FormerLogs"]


class FormerLogs:
    """The logs of the events, as far as it is known that they are not what they were.

    Args:
        commits: What the group has committed of a topic before this one, by partition.
    """

    def __init__(self, commits: Mapping[TopicPartition, int] | None = None) -> None:
        self._commits = dict(commits or {})
        self._ends: Mapping[TopicPartition, int] = {}
        # One bit for each offset at which a record was seen.
        self._seen: dict[TopicPartition, bytearray] = {}
        self._results = Counter[TopicPartition]()

    @property
    def tps(self) -> set[TopicPartition]:
        """The partitions whose log has begun anew, or has lost its end."""
        return {*self._commits, *self._results}

    def look_at(self, ends: Mapping[TopicPartition, int]) -> None:
        """Take in where the logs end that are there now, looked at after all results."""
        self._ends = ends

    def see(self, tp: TopicPartition, offset: int) -> None:
        """Take in that a record lies there now."""
        seen = self._seen.setdefault(tp, bytearray())
        at = offset >> 3
        if at >= len(seen):
            seen.extend(bytes(max(at + 1 - len(seen), len(seen))))
        seen[at] |= 1 << (offset & 7)

    def answers(self, named: Iterable[tuple[TopicPartition, int]]) -> int:
        """Count the records that results name, and that are of a log before.

        Args:
            named: The records that were answered, of an event that is not there.
        """
        old = [tp for tp, offset in named if self._is_old(tp, offset)]
        self._results.update(old)
        return len(old)

    def told(self) -> Iterator[str]:
        """Say which logs have begun anew, and what shows it."""
        for tp, offset in sorted(self._commits.items()):
            yield (
                f"{tp.topic}, partition {tp.partition}: the topic was deleted and created "
                f"again; what the group has committed ({offset}) belongs to the earlier topic"
            )
        for tp, count in sorted(self._results.items()):
            yield (
                f"{tp.topic}, partition {tp.partition}: the log has started over, or lost "
                f"its end; {count:,} results name records that do not exist, or "
                "others in their place"
            )

    def _is_old(self, tp: TopicPartition, offset: int) -> bool:
        if tp in self._commits or (tp in self._ends and offset >= self._ends[tp]):
            return True
        seen = self._seen.get(tp, b"")
        return offset >> 3 < len(seen) and bool(seen[offset >> 3] >> (offset & 7) & 1)
