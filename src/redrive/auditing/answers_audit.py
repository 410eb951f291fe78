"""What was asked and what was answered, by event: one result for each record of an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from redrive.auditing.audit_findings import Finding, Unseen
from redrive.auditing.former_logs import FormerLogs
from redrive.auditing.ids import unpack
from redrive.auditing.read_since import SKEW_MS, ReadSince
from redrive.kafka.log import ConsumerRecord, TopicPartition

__all__ = ["AnswersAudit", "EventTally"]

LONGEST_RUN_MS = 60 * 60 * 1000
"""Of an event that was published twice, and of which the first record is gone, the first answer is
taken to have come within this time."""


@dataclass(slots=True)
class EventTally:
    """The records and results of one event, as often driven.

    Attributes:
        given: Results.
        records: Event records.
        ended: Those of them that the group had finished before all results were read.
        due: Those of these whose result cannot have been deleted.
        unfinished: Those of them that the group surely had not finished when all results were read.
        first_given_ms: When the first result was written.
        tp: Where the last event record lies; before one was seen, the first result.
        offset: Its offset there.
        at_ms: When the first event record was written.
        named: The records that its results say they answer, those left out that were seen.
        former: How many of these are of a log before.
    """

    given: int = 0
    records: int = 0
    ended: int = 0
    due: int = 0
    unfinished: int = 0
    first_given_ms: int = 0
    tp: TopicPartition | None = None
    offset: int = 0
    at_ms: int = 0
    named: tuple[tuple[TopicPartition, int], ...] = ()
    former: int = 0


class AnswersAudit:
    """The tallies of all events: results are put in first, then event records.

    Args:
        at_least_once: Whether an event may be answered more than once.
    """

    def __init__(self, *, at_least_once: bool) -> None:
        self._tallies: dict[bytes, EventTally] = {}
        self._at_least_once = at_least_once
        self._tps: dict[TopicPartition, TopicPartition] = {}
        self.doubled_as_allowed = 0

    def __len__(self) -> int:
        return len(self._tallies)

    def partition_of(self, key: bytes) -> int | None:
        """Return the events' partition of an event, if a record of it was seen."""
        tally = self._tallies.get(key)
        if tally is None or tally.tp is None or not tally.records:
            return None
        return tally.tp.partition

    def give(
        self, key: bytes, record: ConsumerRecord, answers: tuple[TopicPartition, int] | None
    ) -> None:
        """Count a result, and note the record that it says it answers."""
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = EventTally(
                first_given_ms=record.timestamp_ms or 0,
                tp=self._one_of(record.tp),
                offset=record.offset,
            )
        tally.given += 1
        if answers is not None:
            tally.named = (*tally.named, (self._one_of(answers[0]), answers[1]))

    def is_named(self, key: bytes, tp: TopicPartition, offset: int) -> bool:
        """Say whether a result under this key says that it answers this record."""
        tally = self._tallies.get(key)
        return tally is not None and (tp, offset) in tally.named

    def ask(
        self, key: bytes, record: ConsumerRecord, *, ended: bool, due: bool, unfinished: bool
    ) -> None:
        """Count an event record."""
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = EventTally()
        if not tally.records:
            tally.at_ms = record.timestamp_ms or 0
        tally.records += 1
        tally.ended += ended
        tally.due += due
        tally.unfinished += unfinished
        tally.tp, tally.offset = self._one_of(record.tp), record.offset
        if tally.named:
            here = (record.tp, record.offset)
            tally.named = tuple(one for one in tally.named if one != here)

    def _one_of(self, tp: TopicPartition) -> TopicPartition:
        # Each record brings an equal one of its own.
        return self._tps.setdefault(tp, tp)

    def look_for(self, former: FormerLogs) -> None:
        """Take out the results that answer records of a log before."""
        for tally in self._tallies.values():
            if tally.named:
                tally.former = former.answers(tally.named)
                tally.given -= tally.former

    def findings(
        self, events: ReadSince, unseen: Counter[Unseen], *, is_anew: bool = False
    ) -> Iterator[Finding]:
        """Yield what does not come out even; what cannot be told is counted in `unseen`.

        Args:
            events: How far back they are seen.
            unseen: Is added to.
            is_anew: Whether a log of the events has begun anew: then a result that does not name
                the record that it answers may be of the one before.
        """
        for key, tally in self._tallies.items():
            if tally.former:
                unseen[Unseen.RESULT_OF_FORMER] += tally.former
            if tally.given < tally.due:
                yield _finding("P1", key, tally, _counts("lost", key, tally))
            elif tally.given < tally.ended:
                unseen[Unseen.RESULT_MAY_BE_DELETED] += tally.ended - tally.given
            elif not tally.records:
                yield from self._unasked(key, tally, events, unseen, is_anew=is_anew)
            elif tally.given > tally.records - tally.unfinished:
                if _may_have_had_earlier(tally, events):
                    unseen[Unseen.EARLIER_EVENT_MAY_BE_DELETED] += 1
                else:
                    yield from self._too_many(key, tally)

    def _unasked(
        self,
        key: bytes,
        tally: EventTally,
        events: ReadSince,
        unseen: Counter[Unseen],
        *,
        is_anew: bool,
    ) -> Iterator[Finding]:
        """Judge the results of an event of which no record was seen."""
        if not tally.given:  # they were all of a log before
            return
        if is_anew and not tally.named:
            unseen[Unseen.RESULT_OF_FORMER] += tally.given
        elif events.whole:
            text = f"a result for event {unpack(key)[0]}, which was never sent"
            yield _finding("P2", key, tally, text)
        else:
            unseen[Unseen.EVENT_MAY_BE_DELETED] += 1

    def _too_many(self, key: bytes, tally: EventTally) -> Iterator[Finding]:
        if self._at_least_once:
            self.doubled_as_allowed += tally.given > tally.records
        elif tally.given > tally.records:
            yield _finding("P2", key, tally, _counts("doubled", key, tally))
        else:
            text = f"event {unpack(key)[0]} is answered, and the group's offset is not past it"
            yield _finding("P3", key, tally, f"{text}: it will run again")


def _may_have_had_earlier(tally: EventTally, events: ReadSince) -> bool:
    """Say whether a result may be that of an earlier record of the event, which was not seen."""
    if events.whole or tally.tp is None:
        return False
    long_after = tally.at_ms - LONGEST_RUN_MS - SKEW_MS
    return (
        not events.covers(long_after, tally.tp.partition)
        or tally.first_given_ms + SKEW_MS < tally.at_ms
    )


def _counts(what: str, key: bytes, tally: EventTally) -> str:
    event_id, count = unpack(key)
    driven = f", driven {count} times," if count else ""
    asked = tally.due if what == "lost" else tally.records
    ended = " that the group has finished" if what == "lost" else ""
    return (
        f"{what}: event {event_id}{driven} has {tally.given} results for {asked} record(s){ended}"
    )


def _finding(promise: str, key: bytes, tally: EventTally, text: str) -> Finding:
    event_id, _ = unpack(key)
    return Finding(promise, text, event_id, tp=tally.tp, offset=tally.offset)
