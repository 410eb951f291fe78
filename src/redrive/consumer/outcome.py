"""What an event came to, ready to be settled: the records to write and the offset they finish.

An `Account` goes along: what is told of it, once it is durable, to those who watch the worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from redrive.consumer.buffer import Share, unlimited
from redrive.events import ErrorInfo
from redrive.graphs.attempt_ends import GraphVersion
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.state.reservations import Reservations

__all__ = ["Account", "Ending", "NotTaken", "Outcome", "PolledRecord"]


class Ending(StrEnum):
    """How an event ended; each event has exactly one. [P1]."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"
    EXPIRED = "expired"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class PolledRecord:
    """A record handed to the event loop, and the assignment under which it came.

    `starts` says whether it may start, and what is known of it from earlier attempts; `share`
    counts what it holds in memory.
    """

    record: ConsumerRecord
    epoch: int
    starts: Reservations = field(default_factory=Reservations, repr=False, compare=False)
    share: Share = field(default_factory=unlimited, repr=False, compare=False)

    @property
    def tp(self) -> TopicPartition:
        """The record's partition."""
        return self.record.tp

    @property
    def offset(self) -> int:
        """The record's offset."""
        return self.record.offset


# A tuple: one is made for each event, in a third of the time that a frozen dataclass takes.
class Account(NamedTuple):
    """What is told of an ending to those who watch: facts, and nothing of what the event holds.

    Args:
        tp: The event's partition.
        offset: Its offset there.
        ending: How it ended.
        workflow_id: As the event says, if it can be read.
        event_id: As above.
        attempts: How many there were, over all lives of its workers.
        redrive_count: How often it was driven again.
        took_s: Seconds from the begin of its first attempt in this worker; None without any.
        age_s: Seconds from the event's own timestamp; None if it has none that can be read.
        error: Why it did not succeed, masked as in the result; None if it did, or was skipped.
        graph: The graph that ran, where that is known.
    """

    tp: TopicPartition
    offset: int
    ending: Ending
    workflow_id: str | None = None
    event_id: str | None = None
    attempts: int = 0
    redrive_count: int = 0
    took_s: float | None = None
    age_s: float | None = None
    error: ErrorInfo | None = None
    graph: GraphVersion | None = None

    @property
    def headline(self) -> str:
        """The first line of the error's message; empty without one."""
        text = "" if self.error is None else self.error.message
        return next((line for line in text.splitlines() if line.strip()), "")


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A topic refuses a record of an outcome for what it is.

    Args:
        topic: Which.
        error: What the broker says, or the client.
        is_too_large: Whether a smaller record would be taken.
    """

    topic: str
    error: str
    is_too_large: bool


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """An event's ending and the records that make it known.

    `fallback` builds the outcome to settle instead when the broker refuses one of the records for
    what it is; where it knows none, the same outcome is tried again, and its offset waits. [P6]
    """

    polled: PolledRecord
    ending: Ending
    records: tuple[ProducerRecord, ...] = ()
    account: Account | None = None
    fallback: Callable[[NotTaken], Outcome | None] | None = field(default=None, repr=False)

    @property
    def size_bytes(self) -> int:
        """What its records add to a transaction."""
        return sum(record.size_bytes for record in self.records)
