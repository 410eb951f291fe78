"""What an event came to, ready to be settled: the records to write and the offset they finish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from redrive.kafka.batches import OutRecord
from redrive.kafka.log import Place, Record
from redrive.state.reservations import Reservations

__all__ = ["Delivery", "Ending", "Outcome"]


class Ending(StrEnum):
    """How an event ended; each event has exactly one. [P1]."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"
    EXPIRED = "expired"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record handed to the event loop, and the assignment under which it came.

    `starts` says whether it may start, and what is known of it from earlier attempts.
    """

    record: Record
    epoch: int
    starts: Reservations = field(default_factory=Reservations, repr=False, compare=False)

    @property
    def place(self) -> Place:
        """The record's partition."""
        return self.record.place

    @property
    def offset(self) -> int:
        """The record's offset."""
        return self.record.offset


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """An event's ending and the records that make it known.

    `fallback` builds the outcome to settle instead when the broker refuses one of the records for
    what it is; without it the same outcome is tried again, and its partition waits. [P6]
    """

    delivery: Delivery
    ending: Ending
    records: tuple[OutRecord, ...] = ()
    fallback: Callable[[str], Outcome] | None = field(default=None, repr=False)

    @property
    def size_bytes(self) -> int:
        """What its records add to a transaction."""
        return sum(record.size_bytes for record in self.records)
