"""The judge: is told all records of the topics, and says which promises were not kept.

Results come first, then letters, then events: so little must be remembered of each event, and an
event that ends meanwhile is not taken for a lost one. One result for each event record is the rule
(P1, P2), one whole letter for each that was given up (P6), and no offset passed or forgotten (P3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from redrive.auditing.answers_audit import AnswersAudit
from redrive.auditing.audit_findings import Finding, Unseen
from redrive.auditing.committed_offsets import FinishedOffsets
from redrive.auditing.encrypted import EncryptedCounts
from redrive.auditing.former_logs import FormerLogs
from redrive.auditing.ids import pack
from redrive.auditing.letters_audit import LettersAudit, SeenRecords
from redrive.auditing.read_since import ReadSince
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import read_letter
from redrive.errors import RecordError
from redrive.events import (
    TRIGGERED,
    EventHeaders,
    ResultStatus,
    WorkflowEvent,
    WorkflowResultEvent,
    readable_event_id,
)
from redrive.kafka.key_partition import partition_of_key
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.payloads import CLEAR, Payloads
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["Commits", "Judge"]


@dataclass(frozen=True, slots=True)
class Commits:
    """What the group has finished: all that it had when the results were read, and after."""

    before: Mapping[TopicPartition, FinishedOffsets]
    after: Mapping[TopicPartition, FinishedOffsets]

    @classmethod
    def of(
        cls,
        before: Mapping[TopicPartition, Committed],
        after: Mapping[TopicPartition, Committed] | None = None,
    ) -> Commits:
        """Read commits; without a second look, nothing has moved."""
        first = {tp: FinishedOffsets.of(committed) for tp, committed in before.items()}
        if after is None:
            return cls(first, first)
        return cls(first, {tp: FinishedOffsets.of(committed) for tp, committed in after.items()})


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an event record asks for: an answer under this id, if any."""

    event_id: str | None
    readable: bool = True
    claim: ClaimedRedrive | None = None


class Judge:
    """Takes the records of the three topics, in the order of its methods.

    Memory grows by about 400 bytes an event, whatever the records' own sizes.

    Args:
        result_partitions: How many the results topic has, where results lie by their keys.
        at_least_once: Whether workers may answer twice.
        former: Knows which logs of the events have begun anew.
        payloads: Decodes what is encrypted.
        verifier: Says which states of letters count.
    """

    def __init__(
        self,
        *,
        result_partitions: int | None = None,
        at_least_once: bool = False,
        former: FormerLogs | None = None,
        payloads: Payloads = CLEAR,
        verifier: Verifier = NO_TRUST.verifier,
    ) -> None:
        self._encrypted = EncryptedCounts(payloads)
        self._verifier = verifier
        self.former = former or FormerLogs()
        self._result_partitions = result_partitions
        self._answered = AnswersAudit(at_least_once=at_least_once)
        self._letters_audit = LettersAudit(at_least_once=at_least_once, verifier=verifier)
        self._events, self._results, self._letters = ReadSince(), ReadSince(), ReadSince()
        self._starts: Mapping[TopicPartition, int] = {}
        self._found: list[Finding] = []
        self.results = Counter[str]()
        self.events = Counter[str]()
        self.unseen = Counter[Unseen]()

    @property
    def encrypted(self) -> Counter[str]:
        """Records with an encrypted payload, by how it is."""
        return self._encrypted.labels

    @property
    def letters(self) -> Counter[str]:
        """Letters by their reason."""
        return self._letters_audit.reasons

    @property
    def states(self) -> Counter[str]:
        """Letters by where they stand."""
        return self._letters_audit.states

    @property
    def doubled_as_allowed(self) -> int:
        """Events that were answered more than once, where that is allowed."""
        return self._answered.doubled_as_allowed

    def take_results(self, records: Iterable[ConsumerRecord], reach: ReadSince) -> None:
        """Take the results, all that were there when the group had finished what it had."""
        self._results = reach
        for record in records:
            reach.note(record)
            try:
                result = WorkflowResultEvent.from_bytes(record.value)
            except RecordError:
                self.unseen[Unseen.NO_RESULT] += 1
                continue
            self._look_where_it_lies(record)
            self._encrypted.result(result)
            self.results[result.status.value] += 1
            key = pack(result.correlation_id, result.run.redrive_count if result.run else 0)
            self._answered.give(key, record, _named(result))
            self._look_at_the_resume(result, record)
            if result.error_info is not None and result.error_info.dlq_id is not None:
                self._letters_audit.name(result.error_info.dlq_id, key, record)

    def take_letters(self, records: Iterable[ConsumerRecord], reach: ReadSince) -> None:
        """Take letters and their states, read after the results."""
        self._letters = reach
        for record in records:
            reach.note(record)
            found = read_letter(record, self._verifier)
            if found is None:
                self.unseen[Unseen.NO_LETTER] += 1
            elif isinstance(found, DeadLetter):
                self._encrypted.letter(found)
                if not self._letters_audit.letter(found, record):
                    self.unseen[Unseen.FOREIGN_LETTER] += 1
            elif not found.counts:
                self.unseen[Unseen.STATE_NOT_SIGNED] += 1
            else:
                self._letters_audit.state(found, record)

    def take_events(
        self,
        records: Iterable[ConsumerRecord],
        reach: ReadSince,
        *,
        commits: Commits,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Take the events, read after all else.

        Args:
            records: The events.
            reach: How far back they are seen.
            commits: What the group has finished of them.
            starts: Each partition of the events, with the offset from which on it was read.
            ends: And where it ended after all results were read, as far as that is known.
        """
        self._events, self._starts = reach, starts
        self.former.look_at(ends or {})
        for record in records:
            reach.note(record)
            self.former.see(record.tp, record.offset)
            self._encrypted.event(record.value)
            ended = _finished(commits.before, record.tp).has(record.offset)
            asked = _asked(record)
            has_letter = self._letters_audit.event(record)
            if asked is None:
                self.events["skipped" if ended else "open"] += 1
                continue
            count = 0 if asked.claim is None else self._count(asked.claim, record)
            if ended and not asked.readable and not has_letter:
                self._miss_letter(record, asked)
            if asked.event_id is None:
                self.events["unreadable" if ended else "open"] += 1
                continue
            count = count if asked.readable else 0
            self._ask(record, asked.event_id, count, ended=ended, commits=commits)

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong, once all was taken; `unseen` is whole when this has ended."""
        self._answered.look_for(self.former)
        if self._encrypted.closed:
            self.unseen[Unseen.ENCRYPTED] = self._encrypted.closed
        anew = self.former.tps
        yield from self._answered.findings(self._events, self.unseen, is_anew=bool(anew))
        seen = SeenRecords(self._starts, self._events, self._letters, frozenset(anew))
        yield from self._letters_audit.findings(self._answered, seen, self.unseen)
        yield from self._found

    def _count(self, claim: ClaimedRedrive, record: ConsumerRecord) -> int:
        """Return how often an event was driven that claims it: not at all, unless letters say so.

        A worker of a version before believed all of them: its answers say as what it took them.
        """
        tp = record.tp
        of_event = [pack(claim.event_id, n) for n in (claim.count, 0)] if claim.event_id else []
        if self._letters_audit.drives(claim, tp.partition):
            return claim.count
        for key, count in zip(of_event, (claim.count, 0), strict=False):
            if self._answered.is_named(key, tp, record.offset):
                return count
        deleted = not self._letters.covers(record.timestamp_ms, tp.partition)
        return claim.count if deleted else 0

    def _ask(
        self, record: ConsumerRecord, event_id: str, count: int, *, ended: bool, commits: Commits
    ) -> None:
        seen = self._results.covers(record.timestamp_ms, self._result_place(event_id))
        self._answered.ask(
            pack(event_id, count),
            record,
            ended=ended,
            due=ended and seen,
            unfinished=_finished(commits.after, record.tp).leaves_open(record.offset),
        )
        self.events["ended" if ended else "open"] += 1

    def _miss_letter(self, record: ConsumerRecord, asked: _Asked) -> None:
        if not self._letters.covers(record.timestamp_ms, record.tp.partition):
            self.unseen[Unseen.LETTER_MAY_BE_DELETED] += 1
            return
        text = f"lost: the unreadable event at {record.tp}, {record.offset} has no letter"
        found = Finding("P6", text, asked.event_id, tp=record.tp, offset=record.offset)
        self._found.append(found)

    def _look_at_the_resume(self, result: WorkflowResultEvent, record: ConsumerRecord) -> None:
        resumed = result.run is not None and result.run.resume_verified is False
        if resumed and result.status is ResultStatus.SUCCESS:
            text = (
                f"event {result.correlation_id} was resumed and is called a success, and its "
                "worker saw a finished node that ran again, or a failed one that did not"
            )
            self._found.append(
                Finding(
                    "P16",
                    text,
                    result.correlation_id,
                    tp=record.tp,
                    offset=record.offset,
                )
            )

    def _look_where_it_lies(self, record: ConsumerRecord) -> None:
        # After partitions were added, or with another producer, keys say nothing of older results.
        if self._result_partitions is not None and record.tp.partition != partition_of_key(
            record.key or b"", partitions=self._result_partitions
        ):
            self._result_partitions = None

    def _result_place(self, event_id: str) -> int | None:
        if self._result_partitions is None or self._results.whole:
            return None
        key = event_id.encode("utf-8", "surrogatepass")
        return partition_of_key(key, partitions=self._result_partitions)


def _finished(of: Mapping[TopicPartition, FinishedOffsets], tp: TopicPartition) -> FinishedOffsets:
    return of.get(tp) or FinishedOffsets(None)


def _named(result: WorkflowResultEvent) -> tuple[TopicPartition, int] | None:
    at = result.answers
    return None if at is None else (TopicPartition(at.topic, at.partition), at.offset)


def _asked(record: ConsumerRecord) -> _Asked | None:
    """Return what an event record asks for; None where nothing is to be done."""
    try:
        event = WorkflowEvent.from_bytes(record.value)
        headers = EventHeaders.of_event(record.headers, event.event_id)
    except RecordError:
        event_id = readable_event_id(record.value)
        headers = EventHeaders.claimed_by(record.headers, event_id)
        claim = ClaimedRedrive.of_record(record, headers, event_id)
        return _Asked(event_id, readable=False, claim=claim)
    if event.event_type != TRIGGERED:
        return None
    claim = ClaimedRedrive.of_record(record, headers, event.event_id)
    return _Asked(event.event_id, claim=claim)
