"""Letters by the transaction: those that go together, each with its event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from redrive.dead_letter.states import LetterState
from redrive.kafka.batches import ProducerRecord
from redrive.redriving.audit_trail import AuditTrail
from redrive.redriving.deciding import Move, Refusal, Send
from redrive.redriving.event_cache import CachedEvent, EventCache
from redrive.redriving.extracts import read_slimly
from redrive.redriving.fenced_partition import FencedPartition, RefusedRecordsError
from redrive.redriving.jobs import Job
from redrive.redriving.partition import Entry
from redrive.redriving.redrive_report import Done, Refused

__all__ = ["MAX_PAGE", "MAX_PAGE_BYTES", "Chosen", "TransactionPage", "TransactionPages"]

MAX_PAGE = 5_000
"""Letters that one transaction holds, at most."""

MAX_PAGE_BYTES = 4 * 2**20
"""What their events may have in bytes, about, if there is more than one."""

Chosen = tuple[Entry, Send | Move]
_Whole = tuple[CachedEvent, Entry, Send | Move]


@dataclass(slots=True)
class TransactionPage:
    """The letters of one transaction.

    Attributes:
        job: What is done with them.
        at: When.
        end: Where the partition of letters ended before, at least.
        letters: Each with its event, in the order in which they lie there.
    """

    job: Job
    at: datetime
    end: int
    letters: list[_Whole]
    _owners: list[int] = field(default_factory=list)

    @property
    def done(self) -> list[Done]:
        """What the transaction does."""
        return [Done(entry, what) for _, entry, what in self.letters]

    def records(self, trail: AuditTrail | None = None) -> Iterator[ProducerRecord]:
        """Return what is to be written, made only when it is asked for: that saves the memory."""
        self._owners.clear()
        for index, (original, entry, what) in enumerate(self.letters):
            records = self.job.records(original, entry, what, self.at, self.end)
            if trail is not None:
                records.append(trail.follow(records[-1]))
            for record in records:
                self._owners.append(index)
                yield record

    def drop(self, error: RefusedRecordsError) -> list[Refused]:
        """Take out the letters whose records the broker does not take, and say so."""
        why = {self._owners[index]: text for index, text in error.errors.items()}
        letters = list(enumerate(self.letters))
        self.letters = [each for index, each in letters if index not in why]
        return [
            Refused(each[1], Refusal.NOT_TAKEN, why[index])
            for index, each in letters
            if index in why
        ]


class TransactionPages:
    """The letters that were chosen, page by page; what is not kept is read again.

    Args:
        fenced: The way to their partition.
        originals: The events that are kept; taken from here.
        job: What is done with them.
        chosen: Which, in the order in which they lie there.
    """

    def __init__(
        self, fenced: FencedPartition, originals: EventCache, job: Job, chosen: Sequence[Chosen]
    ) -> None:
        self._fenced = fenced
        self._originals = originals
        self._job = job
        self._letters = self._whole(chosen)
        self._following = next(self._letters, None)

    @property
    def follow(self) -> bool:
        """Whether there is another page."""
        return self._following is not None

    def take(self, most: int, *, at: datetime, end: int) -> TransactionPage:
        """Return as many letters as one transaction should hold, `most` at most."""
        page, size_bytes = TransactionPage(self._job, at, end, []), 0
        while self._following is not None and len(page.letters) < min(most, MAX_PAGE):
            original, entry, _ = self._following
            size_bytes += self._job.size_bytes(original, entry)
            if page.letters and size_bytes > MAX_PAGE_BYTES:
                break
            page.letters.append(self._following)
            self._following = next(self._letters, None)
        return page

    def _whole(self, chosen: Sequence[Chosen]) -> Iterator[_Whole]:
        missing = {entry.offset for entry, _ in chosen if entry.offset not in self._originals}
        again = self._read_again(missing)
        following = next(again, None)
        for entry, what in chosen:
            original = self._originals.take(entry.offset)
            if original is None and following is not None and following[0] == entry.offset:
                original, following = following[1], next(again, None)
            # Else the topic's retention has deleted it in the meantime, or its event.
            if original is not None and (whole := self._job.whole(original, entry)) is not None:
                yield whole, entry, what

    def _read_again(self, offsets: set[int]) -> Iterator[tuple[int, CachedEvent]]:
        if not offsets:
            return
        for record in self._fenced.read(min(offsets), max(offsets) + 1):
            letter = read_slimly(record) if record.offset in offsets else None
            if letter is not None and not isinstance(letter, LetterState):
                yield record.offset, CachedEvent.of(record, letter)
