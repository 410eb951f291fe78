"""What letters say of events: whole, one for each event record that was given up, none missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from redrive.auditing.answers_audit import AnswersAudit
from redrive.auditing.audit_findings import Finding, Unseen
from redrive.auditing.ids import pack, unpack
from redrive.auditing.read_since import ReadSince
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.dead_letter.fold import Descent, LetterFold, LetterStatus
from redrive.dead_letter.record import DeadLetter, dlq_id
from redrive.dead_letter.source import source_digest
from redrive.dead_letter.states import LetterState, State
from redrive.dead_letter.vouching import told_once, vouched
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["LettersAudit", "SeenRecords"]


@dataclass(slots=True)
class _Letters:
    """The letters of one event record: how many, and the digest of what the first one keeps."""

    dlq_id: bytes
    kept: bytes
    tp: TopicPartition
    offset: int
    count: int = 1
    met: int = 0


@dataclass(frozen=True, slots=True)
class _Named:
    """That a result names a letter: of which event, and when it was written."""

    key: bytes
    at_ms: int | None


@dataclass(frozen=True, slots=True)
class _DrivenEvent:
    """That a state record says a letter was driven, and its event, where that can be read.

    `sent` is the digest of the event that was sent back; versions before did not write it.
    """

    tp: TopicPartition
    offset: int
    at_ms: int | None
    event_id: str | None
    sent: str | None


@dataclass(frozen=True, slots=True)
class SeenRecords:
    """What of events and letters was seen.

    Attributes:
        starts: From which offset on events were read, by partition.
        events: How far back these are seen.
        letters: How far back letters are.
        anew: The partitions of the events whose log has begun anew.
    """

    starts: Mapping[TopicPartition, int]
    events: ReadSince
    letters: ReadSince
    anew: frozenset[TopicPartition] = frozenset()


class LettersAudit:
    """All letters: what results name is put in first, then letters and states, then events.

    Args:
        at_least_once: Whether a letter may lie there twice.
        verifier: Says who vouches for letters.
    """

    def __init__(self, *, at_least_once: bool, verifier: Verifier = NO_TRUST.verifier) -> None:
        self._at_least_once = at_least_once
        self._verifier = verifier
        self._named: dict[bytes, _Named] = {}
        self._letters: dict[tuple[TopicPartition, int, int | None], _Letters] = {}
        self._driven: dict[bytes, _DrivenEvent] = {}
        self._standing: dict[int, LetterFold[LetterStatus]] = {}
        self._found: list[Finding] = []
        self.reasons = Counter[str]()

    @property
    def states(self) -> Counter[str]:
        """How the letters stand, by the last state of each."""
        folds = self._standing.values()
        return Counter(letter.state.value for letters in folds for letter in letters)

    def name(self, letter_id: str, key: bytes, record: ConsumerRecord) -> None:
        """Note that a result names a letter."""
        self._named[pack(letter_id)] = _Named(key, record.timestamp_ms)

    def state(self, state: LetterState, record: ConsumerRecord) -> None:
        """Take a state record."""
        moved = self._of_partition(record).state(state)
        if state.state is State.REDRIVEN and state.counts:
            event_id = state.event_id or (moved and moved.event_id)
            driven = _DrivenEvent(
                record.tp, record.offset, record.timestamp_ms, event_id, state.sent
            )
            self._driven[pack(state.dlq_id, state.redrive_count)] = driven

    def letter(self, letter: DeadLetter, record: ConsumerRecord) -> bool:
        """Take a letter; say whether it is a worker's, whose event is named in it."""
        self.reasons[letter.reason.value] += 1
        standing = LetterStatus.of(letter, vouched(record, letter.reason, self._verifier))
        once = told_once(record, self._verifier)
        self._of_partition(record).letter(standing, once, Descent.of(letter))
        packed = pack(letter.dlq_id)
        self._named.pop(packed, None)
        source = letter.source
        tp = (source.topic, source.partition, source.offset)
        ours = {
            dlq_id(*tp, count=letter.redrive_count, event=source.event_name),
            dlq_id(*tp, count=letter.redrive_count),  # by versions before
        }
        if letter.dlq_id not in ours:
            return False
        at = (TopicPartition(source.topic, source.partition), source.offset)
        # A log that begins anew gives an offset again, at another time.
        record_is = (*at, source.timestamp)
        there = self._letters.get(record_is)
        if there is not None:
            there.count += 1
        kept = bytes.fromhex(source.digest)
        if there is None:
            self._letters[record_is] = _Letters(packed, kept, record.tp, record.offset)
        elif there.kept != kept:
            self._found.append(_altered(packed, record, at))
        if record.key != source.key or record.tp.partition != source.partition:
            text = f"letter {letter.dlq_id} does not lie by the key and partition of its event {at}"
            self._found.append(_of_letter("P6", packed, record.tp, record.offset, text))
        return True

    def _of_partition(self, record: ConsumerRecord) -> LetterFold[LetterStatus]:
        return self._standing.setdefault(record.tp.partition, LetterFold())

    def drives(self, claim: ClaimedRedrive, partition: int) -> bool:
        """Say whether an event drives a letter, as it claims; each redrive has one event."""
        packed = pack(claim.of, claim.count)
        sent = self._driven.get(packed)
        is_so = (
            sent is not None
            and sent.tp.partition == partition
            and sent.event_id in (None, claim.event_id)
            and sent.sent in (None, claim.sent)
        )
        if is_so:
            del self._driven[packed]
        return is_so

    def event(self, record: ConsumerRecord) -> bool:
        """Compare an event record with its letter; say whether it has one."""
        at = (record.tp, record.offset)
        # Not every letter knows the time of its event.
        there = self._letters.get((*at, record.timestamp_ms)) or self._letters.get((*at, None))
        if there is None:
            return False
        there.met += 1
        if there.kept.hex() != source_digest(record.key, record.value, record.headers):
            self._found.append(_altered(there.dlq_id, record, at))
        return True

    def findings(
        self, answered: AnswersAudit, seen: SeenRecords, unseen: Counter[Unseen]
    ) -> Iterator[Finding]:
        """Yield what is wrong with letters; what cannot be told is counted in `unseen`.

        Args:
            answered: Knows where events lie.
            seen: How far back events and letters are seen.
            unseen: Is added to.
        """
        yield from self._found
        for (of, offset, _), letters in self._letters.items():
            yield from self._of_event((of, offset), letters, seen, unseen)
        for packed, named in self._named.items():
            if seen.letters.covers(named.at_ms, answered.partition_of(named.key)):
                letter_id, (event_id, _) = unpack(packed)[0], unpack(named.key)
                text = f"lost: a result names the letter {letter_id}, which does not exist"
                yield Finding("P6", text, event_id, letter_id)
            else:
                unseen[Unseen.LETTER_MAY_BE_DELETED] += 1
        anew = {tp.partition for tp in seen.anew}
        for packed, driven in self._driven.items():
            if driven.tp.partition in anew:
                unseen[Unseen.DRIVEN_IN_FORMER] += 1
            elif seen.events.covers(driven.at_ms, driven.tp.partition):
                text = f"letter {unpack(packed)[0]} was redriven, but the new event does not exist"
                yield _of_letter("P13", packed, driven.tp, driven.offset, text)
            else:
                unseen[Unseen.DRIVEN_MAY_BE_DELETED] += 1

    def _of_event(
        self,
        at: tuple[TopicPartition, int],
        letters: _Letters,
        seen: SeenRecords,
        unseen: Counter[Unseen],
    ) -> Iterator[Finding]:
        tp, offset = letters.tp, letters.offset
        if letters.count > max(1, letters.met) and not self._at_least_once:
            text = f"doubled: {letters.count} letters for the event at {at}"
            yield _of_letter("P2", letters.dlq_id, tp, offset, text)
        if letters.met:
            return
        if at[0] not in seen.starts:
            unseen[Unseen.FOREIGN_LETTER] += 1
        elif at[0] in seen.anew:
            unseen[Unseen.LETTER_OF_FORMER] += 1
        elif at[1] < seen.starts[at[0]]:
            unseen[Unseen.SOURCE_MAY_BE_DELETED] += 1
        else:
            letter_id, _ = unpack(letters.dlq_id)
            text = f"letter {letter_id} is of a record that does not exist: {at}"
            yield _of_letter("P6", letters.dlq_id, tp, offset, text)


def _altered(packed: bytes, record: ConsumerRecord, at: tuple[TopicPartition, int]) -> Finding:
    text = f"letter {unpack(packed)[0]} is not byte-equal to its event {at}"
    return _of_letter("P6", packed, record.tp, record.offset, text)


def _of_letter(promise: str, packed: bytes, tp: TopicPartition, offset: int, text: str) -> Finding:
    return Finding(promise, text, dlq_id=unpack(packed)[0], tp=tp, offset=offset)
