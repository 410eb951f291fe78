"""What one partition of the letters topic says: its letters, and where each of them stands.

Pure, and small on top of the records: of each letter only what decisions need is kept. Of those
that may be driven the events are kept too, within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from sys import intern
from typing import Any, NamedTuple, Self

from redrive.dead_letter.fold import LetterFold
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState, State
from redrive.dead_letter.vouching import Vouched, told_once, vouched
from redrive.errors import RecordError
from redrive.events import TRIGGERED, WorkflowEvent
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving.event_cache import MAX_KEPT_BYTES, CachedEvent, EventCache
from redrive.redriving.extracts import LetterExtract, descent_of, event_id_in, read_slimly
from redrive.retry.kinds import Kind, Reason
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["Entry", "LeftAt", "PartitionFold", "is_event"]


class LeftAt(NamedTuple):
    """Where an event lay that its letter does not hold, and its digest."""

    tp: TopicPartition
    offset: int
    digest: str


class Entry(NamedTuple):
    """One letter, and where it stands.

    `redrive_count` is the highest that any record of it names. `superseded_by` is the newer letter
    of the same event. `can_read` says whether its event can be read, `checkpoint` whether its run
    left one. `shares_id` says whether its id, of an earlier version, is another event's letter's
    too. `source_partition` is that of its event, or its own where the letter does not say.
    `left_at` says where the event lay that was too large for the letter.
    `at` is when its run was given up; `actor`, `signed_by` and `state_at` belong to its last state
    record. `vouched` says whether it may speak for its event.
    """

    # A tuple, as it is made for each letter: a frozen dataclass takes five times as long.

    partition: int
    offset: int
    dlq_id: str
    event_id: str | None
    at: datetime
    workflow_id: str | None
    kind: Kind
    reason: Reason
    error_type: str
    node: str | None
    fingerprint: str | None
    source_partition: int
    redrive_count: int
    can_read: bool
    checkpoint: bool
    state: State = State.OPEN
    actor: str | None = None
    state_at: datetime | None = None
    superseded_by: str | None = None
    shares_id: bool = False
    left_at: LeftAt | None = None
    signed_by: str | None = None
    vouched: Vouched = Vouched.YES

    def changed(self, **changes: Any) -> Self:
        """Return it with other values."""
        return self._replace(**changes)


class PartitionFold:
    """Takes the records of one partition in their order, and folds them as `LetterFold` does.

    Args:
        means: Which letters' events are kept in `originals` on the way; by default none.
        keep_bytes: How much they may take.
        verifier: Says which states count, and who vouches for letters.
    """

    def __init__(
        self,
        means: Callable[[Entry], bool] | None = None,
        *,
        keep_bytes: int = MAX_KEPT_BYTES,
        verifier: Verifier = NO_TRUST.verifier,
    ) -> None:
        self._verifier = verifier
        self._letters = LetterFold[Entry]()
        self._means = means
        self.originals = EventCache(keep_bytes)
        self.end = 0

    def add(self, record: ConsumerRecord) -> None:
        """Take the next record; one that is neither letter nor state is passed by."""
        self.end = record.offset + 1
        found = read_slimly(record, self._verifier)
        if isinstance(found, LetterState):
            moved = self._letters.state(found)
            if moved is not None:
                # Most that were moved are not driven now, and others need the room.
                self.originals.take(moved.offset)
        elif found is not None:
            entry = _entry(record, found, self._verifier)
            once = told_once(record, self._verifier)
            gone = self._letters.letter(entry, once, descent_of(found))
            if gone is not None:
                self.originals.take(gone.offset)
            if gone is not entry and self._means is not None and self._means(entry):
                self.originals.keep(entry.offset, CachedEvent.of(record, found))

    def has_read_to(self, end: int) -> None:
        """Take note that before `end` nothing more lies there, but marks of transactions."""
        self.end = max(self.end, end)

    def __iter__(self) -> Iterator[Entry]:
        """Return the letters in the order in which they lie there."""
        for entry in self._letters:
            shared = self._letters.is_shared(entry.dlq_id)
            yield entry._replace(shares_id=True) if shared else entry

    def find(self, entry: Entry) -> Entry | None:
        """Return a letter as it stands now."""
        return self._letters.find(entry.dlq_id, entry.event_id)


def is_event(value: bytes | None) -> bool:
    """Say whether a worker would run this."""
    try:
        return WorkflowEvent.from_bytes(value).event_type == TRIGGERED
    except RecordError:
        return False


def _entry(record: ConsumerRecord, letter: LetterExtract, verifier: Verifier) -> Entry:
    value, reason, own = letter.get("value"), letter["reason"], record.tp.partition
    # A letter that does not say so is of an event that was read once already.
    was_read = reason is not Reason.UNREADABLE and letter["original_event"] is not None
    return Entry(
        partition=own,
        offset=record.offset,
        dlq_id=letter["dlq_id"],
        event_id=event_id_in(letter),
        at=letter["timestamp"],
        workflow_id=_interned(letter.get("workflow_id")),
        kind=letter["kind"],
        reason=reason,
        error_type=intern(letter["error_type"]),
        node=_interned(letter.get("node")),
        fingerprint=_interned(letter.get("fingerprint")),
        source_partition=source if (source := letter["source_partition"]) >= 0 else own,
        redrive_count=letter.get("redrive_count", 0),
        can_read=value is not None and (was_read or is_event(value)),
        checkpoint=letter.get("checkpoint_id") is not None,
        left_at=_left_at(record) if "left_digest" in letter else None,
        vouched=vouched(record, reason, verifier),
    )


def _left_at(record: ConsumerRecord) -> LeftAt:
    source = DeadLetter.model_validate_json(record.value or b"").source
    return LeftAt(TopicPartition(source.topic, source.partition), source.offset, source.digest)


def _interned(text: str | None) -> str | None:
    return None if text is None else intern(text)
