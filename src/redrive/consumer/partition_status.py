"""How the partitions of a worker stand: a snapshot by the poll thread, for others to read."""

from __future__ import annotations

from dataclasses import dataclass

from redrive.kafka.log import TopicPartition

__all__ = ["PartitionStatus", "PartitionsStatus"]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How one partition stood when the poll thread last looked.

    Args:
        tp: The partition.
        lowest: Its lowest unfinished offset, or None.
        since: Since when that has been so, in monotonic seconds.
        window_used: How much of the ledger's window is taken, 0 to 1.
        outside: How many records are taken in that lie beyond it.
    """

    tp: TopicPartition
    lowest: int | None
    since: float
    window_used: float
    outside: int = 0

    def unfinished_s(self, now: float) -> float:
        """Return for how long the lowest unfinished offset has been this one; 0 without any."""
        return 0.0 if self.lowest is None else max(now - self.since, 0.0)

    def stuck_s(self, now: float, *, moved: float | None) -> float:
        """Return for how much of that time nothing of it moved.

        Args:
            now: Monotonic seconds.
            moved: When its run last moved, or until when it waits as planned; None if it has none.
        """
        if self.lowest is None:
            return 0.0
        return max(now - max(self.since, moved or self.since), 0.0)


@dataclass(frozen=True, slots=True)
class PartitionsStatus:
    """How all partitions stood when the poll thread last looked; for any thread to read.

    Args:
        partitions: Those that are held.
        events: How many are taken in and not settled.
        size_bytes: What they hold in memory.
        let_go: How many of them wait without their bytes.
        suspended: How many partitions are between two assignments.
        paused: How many are not fetched, since enough of them is taken in.
        unchecked: Of how many the client has yet to check that their log was not cut back.
    """

    partitions: tuple[PartitionStatus, ...] = ()
    events: int = 0
    size_bytes: int = 0
    let_go: int = 0
    suspended: int = 0
    paused: int = 0
    unchecked: int = 0
