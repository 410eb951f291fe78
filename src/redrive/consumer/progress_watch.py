"""Whether what should move does move: the watchdog of progress, which decides only. [P1].

A worker may wait for Kafka as long as that is away, and for a topic that refuses as long as it
does; it says so and goes on. But when Kafka is there, what is under way ends within a stated time,
or nothing in this process will end it: then the worker says what it waits for, is not alive, and
ends, so that another takes its place. `Worker` looks once a second; event loops and nodes have
watchdogs of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Due", "Moment", "ProgressWatch", "WaitsFor", "due"]


class WaitsFor(StrEnum):
    """What a worker may wait for."""

    SETTLING = "settling"
    OFFSETS = "offsets"
    GROUP = "group"
    POLLING = "polling"


@dataclass(frozen=True, slots=True)
class Moment:
    """How a worker stands at one moment.

    Args:
        polled: When the poll thread last moved, in monotonic seconds.
        away: Why the group's coordinator cannot be reached; None when it can.
        can_settle: Whether a producer is open; one that waits for the broker says so itself.
        unsettled: What is to be settled and waits for nothing else, in words; None when nothing is.
        settled: Changes with each batch, or commit, that the broker took or refused for a reason
            of its own.
        is_member: Whether the group has said which partitions are ours.
        expected: How many of these the committed offset is not read of.
        opened: Changes when some are read.
    """

    polled: float
    away: str | None
    can_settle: bool
    unsettled: str | None
    settled: int
    is_member: bool
    expected: int
    opened: int


@dataclass(frozen=True, slots=True)
class Due:
    """Something that has to move.

    Args:
        waits_for: What kind of thing it is.
        what: It, in words.
        mark: Changes when it moves.
        beyond_s: For how much longer than others it may stand still, in seconds.
    """

    waits_for: WaitsFor
    what: str
    mark: object
    beyond_s: float = 0.0


def due(moment: Moment, *, rebalance_s: float) -> list[Due]:
    """Return what has to move now; what waits for a broker that is away has not.

    Args:
        moment: How the worker stands.
        rebalance_s: How long the group may wait for other members that do not answer.
    """
    found = [Due(WaitsFor.POLLING, "a call of the poll thread's to return", moment.polled)]
    if moment.away is not None:
        return found
    if not moment.is_member:
        what = "the group to say which partitions are ours"
        found.append(Due(WaitsFor.GROUP, what, None, beyond_s=rebalance_s))
    if moment.expected:
        what = f"the committed offsets of {moment.expected} partitions"
        found.append(Due(WaitsFor.OFFSETS, what, moment.opened))
    if moment.unsettled is not None and moment.can_settle:
        found.append(Due(WaitsFor.SETTLING, moment.unsettled, moment.settled))
    return found


class ProgressWatch:
    """For how long each of these has not moved.

    Time is counted by looks, not by the clock: a process that is paused stands still as a whole.

    Args:
        limit_s: How long something may stand still, in seconds.
    """

    def __init__(self, *, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seen: dict[WaitsFor, tuple[object, float]] = {}
        self.still: str | None = None
        """What has stood still for too long, in words, once something has; for any thread."""

    @property
    def still_s(self) -> Mapping[WaitsFor, float]:
        """For how many seconds what is waited for has not moved; for any thread."""
        return {waits_for: still_s for waits_for, (_, still_s) in self._seen.items()}

    def look(self, found: Iterable[Due], *, passed_s: float) -> Due | None:
        """Take in what has to move now; return what has not moved for too long.

        Args:
            found: What has to move.
            passed_s: How many seconds to count since the last look.
        """
        seen, late = {}, None
        for one in found:
            mark, still_s = self._seen.get(one.waits_for, (one.mark, -passed_s))
            still_s = still_s + passed_s if mark == one.mark else 0.0
            seen[one.waits_for] = one.mark, still_s
            if late is None and still_s > self._limit_s + one.beyond_s:
                late = one
        self._seen = seen
        if late is not None:
            self.still = f"nothing moves: it waits for {late.what}"
        return late
