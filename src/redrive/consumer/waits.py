"""Every way in which work can wait in a worker: counted, told once, and then each minute. [P1].

The owner of what waits counts it. `Waits` looks at all of these counts once a second, keeps since
when, and tells. Why it is so in a single case is told by who knows it, in a line of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import structlog

from redrive.clock import Clock

__all__ = ["KINDS", "Amount", "Wait", "Waits"]

log = structlog.get_logger("redrive.consumer")

TELL_AFTER_S = 10.0
"""What waits for so long is told."""
TELL_EVERY_S = 60.0


class Wait(StrEnum):
    """What an event, an outcome, a partition or the worker itself can wait for."""

    SLOT = "slot"
    THREAD = "thread"
    RETRY = "retry"
    REST = "rest"
    MEMORY = "memory"
    WINDOW = "window"
    RESERVATION = "reservation"
    SUSPICION = "suspicion"
    RECORD = "record"
    LETTERS = "letters"
    CHECKPOINTS = "checkpoints"
    BATCH = "batch"
    DOUBT = "doubt"
    COMMIT = "commit"
    NO_LEADER = "no_leader"
    TOPIC_REFUSED = "topic_refused"
    RECORD_REFUSED = "record_refused"
    NOT_CONFIRMED = "not_confirmed"
    OFFSETS = "offsets"
    LOG_CHECK = "log_check"
    REBALANCE = "rebalance"
    PAUSED = "paused"
    LEADER = "leader"
    TOPIC = "topic"
    GROUP = "group"
    COORDINATOR = "coordinator"
    PRODUCER = "producer"


@dataclass(frozen=True, slots=True)
class WaitKind:
    """How a way to wait is told.

    Args:
        what: What waits, and for what, in words.
        is_planned: Whether that is how it should be: then it is no warning.
        is_told: Whether its owner tells it itself, once and each minute, and by its name.
    """

    what: str
    is_planned: bool = False
    is_told: bool = False


KINDS: Mapping[Wait, WaitKind] = {
    Wait.SLOT: WaitKind(
        "events, for one of worker.in_flight to be free, or of their graph's share",
        is_planned=True,
    ),
    Wait.THREAD: WaitKind("events, behind another one of their thread", is_planned=True),
    Wait.RETRY: WaitKind("runs, for the time of their next attempt", is_planned=True),
    Wait.REST: WaitKind(
        "runs, until a service that limits the rate may be called", is_planned=True
    ),
    Wait.MEMORY: WaitKind("runs, for room in worker.buffer"),
    Wait.WINDOW: WaitKind("events, too far behind an unfinished one for a commit to speak of them"),
    Wait.RESERVATION: WaitKind("runs, for the commit by which a death would be counted for them"),
    Wait.SUSPICION: WaitKind("runs that a death may have cut: few run beside each other"),
    Wait.RECORD: WaitKind("runs, for their event to be read again"),
    Wait.LETTERS: WaitKind("events that claim to be redrives, for the letters to say so"),
    Wait.CHECKPOINTS: WaitKind("reads and writes of checkpoints, for the disk or the file's lock"),
    Wait.BATCH: WaitKind("outcomes, to be stored with the next batch or the one under way"),
    Wait.DOUBT: WaitKind("outcomes of a batch in doubt, for what is committed to be read back"),
    Wait.COMMIT: WaitKind("partitions, for their offsets to be committed"),
    Wait.NO_LEADER: WaitKind("outcomes, for a partition to have a leader", is_told=True),
    Wait.TOPIC_REFUSED: WaitKind("outcomes, for a topic that takes nothing", is_told=True),
    Wait.RECORD_REFUSED: WaitKind("outcomes, for a topic that does not take them", is_told=True),
    Wait.NOT_CONFIRMED: WaitKind("outcomes, for a partition that confirms nothing", is_told=True),
    Wait.OFFSETS: WaitKind("partitions, for their committed offset to be read"),
    Wait.LOG_CHECK: WaitKind("partitions, for the client to check that their log was not cut back"),
    Wait.REBALANCE: WaitKind("partitions, for the group to deal them out again"),
    Wait.PAUSED: WaitKind(
        "partitions, to be fetched again: enough of them is taken in", is_planned=True
    ),
    Wait.LEADER: WaitKind("partitions of the events, to have a leader: nothing of them is read"),
    Wait.TOPIC: WaitKind("topics of the events, to be there"),
    Wait.GROUP: WaitKind("the worker, for the group to say which partitions are its own"),
    Wait.COORDINATOR: WaitKind("the worker, for the group's coordinator to answer"),
    Wait.PRODUCER: WaitKind("the worker, for a producer to be open: results cannot be stored"),
}
"""How each is told; docs/running-a-worker.md has the same list, with what to do."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much waits for one thing.

    Args:
        count: How many.
        mark: Changes when some of them go on, where others may always come after them.
    """

    count: int
    mark: object = None


@dataclass(frozen=True, slots=True)
class _WaitStatus:
    count: int
    mark: object
    since: float
    told_at: float | None = None


class Waits:
    """What one worker waits for, and since when. Belongs to the event loop.

    Args:
        clock: For how long.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._status: Mapping[Wait, _WaitStatus] = {}

    @property
    def counts(self) -> dict[Wait, int]:
        """How much waits for each; may be read from any thread."""
        status = self._status
        return {wait: status[wait].count if wait in status else 0 for wait in Wait}

    @property
    def lasting_s(self) -> dict[Wait, float]:
        """For how long something has, in seconds; 0 where nothing does. From any thread."""
        status, now = self._status, self._clock.monotonic()
        return {wait: now - status[wait].since if wait in status else 0.0 for wait in Wait}

    def look(self, found: Mapping[Wait, Amount]) -> None:
        """Take in what waits now; tell what has begun to last, what lasts, and what is over."""
        now, before = self._clock.monotonic(), self._status
        self._status = {
            wait: self._after(wait, before.get(wait), one, now)
            for wait, one in found.items()
            if one.count
        }
        for wait, was in before.items():
            if was.told_at is not None and wait not in self._status:
                since_s = round(now - was.since, 1)
                log.info("worker.waits_no_more", waits_for=wait.value, waited_s=since_s)

    def _after(self, wait: Wait, was: _WaitStatus | None, one: Amount, now: float) -> _WaitStatus:
        if was is None or was.mark != one.mark:
            # What goes on stands still no more, and was told of once a minute all the same.
            told_at = None if was is None else was.told_at
            return _WaitStatus(one.count, one.mark, since=now, told_at=told_at)
        told_at = was.told_at
        lasting_s = now - was.since
        if not KINDS[wait].is_told and lasting_s >= TELL_AFTER_S:
            if told_at is None:
                self._tell("worker.waits", wait, one.count, lasting_s)
                told_at = now
            elif now - told_at >= TELL_EVERY_S:
                self._tell("worker.still_waits", wait, one.count, lasting_s)
                told_at = now
        return _WaitStatus(one.count, one.mark, was.since, told_at)

    def _tell(self, event: str, wait: Wait, count: int, lasting_s: float) -> None:
        kind = KINDS[wait]
        tell = log.info if kind.is_planned else log.warning
        tell(event, waits_for=wait.value, count=count, what=kind.what, since_s=round(lasting_s, 1))
