"""What is to be done with letters: drive them, or move them. Decides, and makes the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from redrive.dead_letter.states import State
from redrive.dead_letter.vouching import Vouched
from redrive.events import readable_event_id
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord
from redrive.kafka.signed import signed
from redrive.redriving.deciding import (
    Decision,
    Mode,
    Move,
    Refusal,
    Refuse,
    Send,
    decide_redrive,
    decide_state,
)
from redrive.redriving.event_cache import CachedEvent
from redrive.redriving.outgoing import STATE_BYTES, event_record, state_record
from redrive.redriving.partition import Entry, LeftAt, is_event
from redrive.redriving.selection import Selection
from redrive.signatures import Signer, Subject

__all__ = ["Job", "Order", "Redriving", "StateChange"]


class Job(Protocol):
    """What is to be done with letters."""

    @property
    def selection(self) -> Selection:
        """Which letters are meant."""
        ...

    @property
    def actor(self) -> str:
        """Who does it."""
        ...

    def decide(self, entry: Entry) -> Decision:
        """Choose what is done with one letter."""
        ...

    def whole(self, original: CachedEvent, entry: Entry) -> CachedEvent | None:
        """Return what the letter's event is, also where the letter does not hold it, or None."""
        ...

    def records(
        self, original: CachedEvent, entry: Entry, what: Send | Move, at: datetime, end: int
    ) -> list[ProducerRecord]:
        """Return the records that do it, the state's last: that lies at `end`, or after it."""
        ...

    def size_bytes(self, original: CachedEvent, entry: Entry) -> int:
        """Return what these have in bytes, about."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """How letters are to be driven.

    Args:
        mode: `resume` goes on where each run stopped, `restart` begins anew.
        reason: Why, for the record.
        max_redrives: How often one event may be driven (`redrive.max`).
        replace: New bytes for the events of letters, by dlq_id; the letters keep the old ones.
        deadline: From now on; after it nobody wants the results. None: for ever.
    """

    mode: Mode = "resume"
    reason: str | None = None
    max_redrives: int = 3
    replace: Mapping[str, bytes] = field(default_factory=dict)
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Redriving:
    """Letters are driven again.

    `partitions` are those of the events topic; `replace` are new payloads, by dlq_id; `deadline` is
    until when the results are wanted; `find` looks for an event that a letter does not hold;
    `signer` signs what is written.
    """

    selection: Selection
    actor: str
    events_topic: str
    partitions: frozenset[int]
    mode: Mode = "resume"
    reason: str | None = None
    most: int = 3
    deadline: datetime | None = None
    replace: Mapping[str, bytes] = field(default_factory=dict)
    find: Callable[[LeftAt], ConsumerRecord | None] = lambda _: None
    signer: Signer | None = None

    def decide(self, entry: Entry) -> Send | Refuse:
        """Choose whether a letter's event is sent back."""
        return self._unvouched(entry) or self._decide_vouched(entry)

    def _decide_vouched(self, entry: Entry) -> Send | Refuse:
        value = self.replace.get(entry.dlq_id)
        if value is not None and not is_event(value):
            return Refuse(Refusal.NOT_READABLE, "what is to take its place is no event")
        if value is not None and entry.event_id not in (None, readable_event_id(value)):
            return Refuse(Refusal.OTHER_EVENT, "what is to take its place has another event_id")
        if entry.source_partition not in self.partitions:
            return Refuse(
                Refusal.NO_PARTITION,
                f"{self.events_topic} has no partition {entry.source_partition}",
            )
        if entry.source_partition != entry.partition:
            # Its run would say how it ended on the partition of the event, where no letter is.
            return Refuse(
                Refusal.NO_PARTITION,
                f"the letter lies on partition {entry.partition}, its event came from "
                f"{entry.source_partition}",
            )
        edited = value is not None
        if entry.left_at is None or edited:
            return decide_redrive(entry, mode=self.mode, most=self.most, edited=edited)
        return self._decide_left_out(entry, entry.left_at)

    def _unvouched(self, entry: Entry) -> Refuse | None:
        """Drive a letter that nobody vouches for only where a person means it: that signs it."""
        if entry.vouched in (Vouched.YES, Vouched.ID_NOT) or entry.dlq_id in (
            self.selection.ids or ()
        ):
            return None
        if entry.vouched is Vouched.EVENT_NOT:
            if self.selection.reason == entry.reason:
                return None
            why, how = "its event had no trusted signature", f"--reason {entry.reason}"
        else:
            why, how = "no trusted key has signed this letter", "its dlq_id"
        return Refuse(Refusal.NOT_SIGNED, f"{why}: name it by {how}, if you vouch for it")

    def _decide_left_out(self, entry: Entry, at: LeftAt) -> Send | Refuse:
        """Choose what is done with a letter that does not hold its event."""
        decided = decide_redrive(entry.changed(can_read=True), mode=self.mode, most=self.most)
        if isinstance(decided, Refuse):
            return decided
        found = self.find(at)
        if found is None:
            return Refuse(
                Refusal.EVENT_GONE,
                "the letter does not hold its event, which was too large, and the event is not at "
                f"{at.tp.topic}/{at.tp.partition}@{at.offset} any more: send it again",
            )
        return decide_redrive(
            entry.changed(can_read=is_event(found.value)), mode=self.mode, most=self.most
        )

    def whole(self, original: CachedEvent, entry: Entry) -> CachedEvent | None:
        """Return the letter's event; where that is left out, as it lies on its topic."""
        if entry.left_at is None or entry.dlq_id in self.replace:
            return original
        found = self.find(entry.left_at)
        if found is None:
            return None
        return original._replace(key=found.key, headers=tuple(found.headers), value=found.value)

    def records(
        self, original: CachedEvent, entry: Entry, what: Send | Move, at: datetime, end: int
    ) -> list[ProducerRecord]:
        """Return the event, and the state `redriven`."""
        assert isinstance(what, Send)  # noqa: S101 - decided above
        value = self.replace.get(entry.dlq_id)
        sent = event_record(
            original,
            what,
            of=entry.dlq_id,
            topic=self.events_topic,
            partition=entry.source_partition,
            actor=self.actor,
            deadline=self.deadline,
            value=value,
            letters=end,
        )
        state = state_record(
            original,
            entry,
            State.REDRIVEN,
            actor=self.actor,
            at=at,
            reason=self.reason,
            mode=what.mode,
            redrive_count=what.count,
            edited=value is not None,
            sent=sent,
        )
        return [
            signed(sent, Subject.EVENT, self.signer),
            signed(state, Subject.STATE, self.signer),
        ]

    def size_bytes(self, original: CachedEvent, entry: Entry) -> int:
        """Return what the event and its state have in bytes, about."""
        return original.size_bytes + len(self.replace.get(entry.dlq_id, b""))


@dataclass(frozen=True, slots=True)
class StateChange:
    """Letters are discarded, parked, or opened again."""

    selection: Selection
    actor: str
    wanted: State
    reason: str | None = None
    signer: Signer | None = None

    def decide(self, entry: Entry) -> Move | Refuse:
        """Choose whether a letter is moved."""
        return decide_state(entry, self.wanted)

    def whole(self, original: CachedEvent, entry: Entry) -> CachedEvent:
        """Return what there is: the event is not needed."""
        del entry
        return original

    def records(
        self, original: CachedEvent, entry: Entry, what: Send | Move, at: datetime, end: int
    ) -> list[ProducerRecord]:
        """Return the state."""
        del what, end
        told = state_record(
            original, entry, self.wanted, actor=self.actor, at=at, reason=self.reason
        )
        return [signed(told, Subject.STATE, self.signer)]

    def size_bytes(self, original: CachedEvent, entry: Entry) -> int:
        """Return what the state has in bytes, about."""
        del entry
        return STATE_BYTES + len(original.letter_key or b"")
