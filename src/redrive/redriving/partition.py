"""What one partition of the letters topic says: its letters, and where each of them stands.

Pure, and small on top of the records: of each letter only what decisions need is kept. Of those
that may be driven the events are kept too, within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from sys import intern
from typing import NamedTuple

from redrive.dead_letter.states import LetterState, State
from redrive.errors import RecordError
from redrive.events import TRIGGERED, WorkflowEvent, readable_event_id
from redrive.kafka.log import Record
from redrive.redriving.originals import MAX_KEPT_BYTES, Original, Originals
from redrive.redriving.slim import SlimLetter, read_slimly
from redrive.retry.kinds import Kind, Reason

__all__ = ["Entry", "PartitionFold", "is_event"]


class Entry(NamedTuple):
    """One letter, and where it stands.

    `redrive_count` is the highest that any record of it names. `superseded_by` is the newer letter
    of the same event. `can_read` says whether its event can be read, `checkpoint` whether its run
    left one. `source_partition` is that of its event, or its own where the letter does not say.
    `actor` and `at` belong to its last state record.
    """

    # A tuple, as it is made for each letter: a frozen dataclass takes five times as long.

    partition: int
    offset: int
    dlq_id: str
    event_id: str | None
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
    at: datetime | None = None
    superseded_by: str | None = None


class PartitionFold:
    """Takes the records of one partition in their order; the last state of a letter wins.

    Args:
        means: Which letters' events are kept in `originals` on the way; by default none.
        keep_bytes: How much they may take.
    """

    def __init__(
        self, means: Callable[[Entry], bool] | None = None, *, keep_bytes: int = MAX_KEPT_BYTES
    ) -> None:
        self._entries: dict[str, Entry] = {}
        self._newest: dict[str, str] = {}
        self._means = means
        self.originals = Originals(keep_bytes)
        self.end = 0

    def add(self, record: Record) -> None:
        """Take the next record; one that is neither letter nor state is passed by."""
        self.end = record.offset + 1
        found = read_slimly(record)
        if isinstance(found, LetterState):
            self._move(found)
        # Given up twice by the same count, it is the same letter, and stands where it stood.
        elif found is not None and found["dlq_id"] not in self._entries:
            entry = _entry(record, found)
            self._add(entry)
            if self._means is not None and self._means(entry):
                self.originals.keep(entry.offset, Original.of(record, found))

    def has_read_to(self, end: int) -> None:
        """Take note that before `end` nothing more lies there, but marks of transactions."""
        self.end = max(self.end, end)

    def __iter__(self) -> Iterator[Entry]:
        """Return the letters in the order in which they lie there."""
        return iter(self._entries.values())

    def find(self, dlq_id: str) -> Entry | None:
        """Return one letter."""
        return self._entries.get(dlq_id)

    def _add(self, entry: Entry) -> None:
        self._entries[entry.dlq_id] = entry
        event = entry.event_id or entry.dlq_id
        older = self._newest.get(event)
        self._newest[event] = entry.dlq_id
        if older is not None:
            self._entries[older] = self._entries[older]._replace(superseded_by=entry.dlq_id)

    def _move(self, told: LetterState) -> None:
        entry = self._entries.get(told.dlq_id)
        if entry is not None:
            # Most that were moved are not driven now, and others need the room.
            self.originals.take(entry.offset)
            self._entries[told.dlq_id] = entry._replace(
                state=told.state,
                actor=told.actor,
                at=told.timestamp,
                redrive_count=max(entry.redrive_count, told.redrive_count),
            )


def is_event(value: bytes | None) -> bool:
    """Say whether a worker would run this."""
    try:
        return WorkflowEvent.from_bytes(value).event_type == TRIGGERED
    except RecordError:
        return False


def _entry(record: Record, letter: SlimLetter) -> Entry:
    value, reason, own = letter.get("value"), letter["reason"], record.place.partition
    # A letter that does not say so is of an event that was read once already.
    was_read = reason is not Reason.UNREADABLE and letter["original_event"] is not None
    return Entry(
        partition=own,
        offset=record.offset,
        dlq_id=letter["dlq_id"],
        event_id=readable_event_id(value),
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
    )


def _interned(text: str | None) -> str | None:
    return None if text is None else intern(text)
