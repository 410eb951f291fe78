"""One partition's ledger: which offsets are settled, which are not, how far a commit may go.

The ledger lives on the poll thread, from the partition's assignment until it goes. It decides
nothing about events and knows no Kafka: offsets in, a committable offset and a note out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from redrive.state.commit_metadata import CommitMetadata, LogIdentity, OffsetEntry, StoredRest
from redrive.state.metadata_room import MetadataRoom
from redrive.state.reservations import Coverage, Reservations

__all__ = ["PartitionLedger", "Snapshot"]

# Offsets that may start before anyone asks: at least so many, or what others leave of it, and about
# twice what a batch settles.
_AHEAD = 16
# So many of them may lie beyond what has come in: an idle worker starts the next event at once, and
# a death leaves no more suspects of what came after it.
_UNSEEN = 1
_SLOWING = 0.9


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What to commit for one partition: all below `offset`, `finished` past it, and what starts.

    `marks` are of records that were answered lately; see `CommitMetadata`.
    """

    offset: int
    finished: int
    starts: Coverage
    log: LogIdentity = LogIdentity()  # noqa: RUF009 - frozen
    marks: Mapping[int, int] = field(default_factory=dict)

    def metadata(
        self, *, incarnation: int, settle: int, at: int = 0, rests: Iterable[StoredRest] = ()
    ) -> CommitMetadata:
        """Return the commit's note, signed by the worker and the settle that write it.

        Args:
            incarnation: The worker.
            settle: The number of the settle.
            at: The time, in seconds since 1970.
            rests: What rests now; of them, those that fit are kept.
        """
        return CommitMetadata(
            incarnation=incarnation,
            settle=settle,
            finished=self.finished,
            reserved=max(self.starts.until - self.offset, 0),
            entries={each - self.offset: entry for each, entry in self.starts.entries.items()},
            at=at,
            rests=tuple(rests),
            offset=self.offset,
            log=self.log,
            marks=self.marks,
        )


class PartitionLedger:
    """Which offsets of one partition are settled, under one assignment (its `epoch`).

    Args:
        epoch: The number of the assignment; results of another one are not ours.
        committed: The committed offset, or None when the group has none yet.
        metadata: What the commit said beside it.
        history: What is known of unfinished offsets from earlier attempts.
        log: The log that the offsets are of, as far as it is known; the notes say it.
        room: How much a note may hold; by default as much as most brokers take.
        tell: Called when something begins to wait for the next commit; from any thread.
    """

    def __init__(
        self,
        *,
        epoch: int,
        committed: int | None,
        metadata: CommitMetadata | None = None,
        history: Mapping[int, OffsetEntry] | None = None,
        log: LogIdentity = LogIdentity(),  # noqa: B008 - frozen
        room: MetadataRoom | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.epoch = epoch
        self._room = room or MetadataRoom()
        self.log = log
        self._base = committed
        self._next = committed or 0
        self._done = metadata.finished if metadata else 0
        self.starts = Reservations(history, room=self._room, tell=tell)
        if committed is not None:
            # What was settled while the partition was away has no history any more.
            self.starts.finish(committed, self._done)
        # The offset of the last snapshot.
        self._said = self._next
        self._received = 0
        self._pace = 0.0

    @property
    def committable(self) -> int | None:
        """The offset below which everything is settled; None before the first record."""
        return self._base

    @property
    def unsettled(self) -> int:
        """How many received offsets are not settled."""
        if self._base is None:
            return 0
        span = self._next - self._base
        return span - (self._done & ((1 << span) - 1)).bit_count()

    @property
    def lowest_unsettled(self) -> int | None:
        """The lowest received offset that is not settled; None when there is none."""
        return self._base if self.unsettled else None

    @property
    def window_used(self) -> float:
        """How much of the window past the committed offset is taken: 0 to 1, about."""
        return 0.0 if self._base is None else (self._next - self._base) / self._room.window

    def has_room(self, offset: int) -> bool:
        """Say whether `offset` may start: it lies in the window past the committed one [P3]."""
        return self._base is None or self._is_within(self._base, offset) or not self.unsettled

    def beyond_metadata(self, finished: Collection[int]) -> list[int]:
        """Return those of `finished` that no note could tell of, were all of them settled now.

        There are none, except where there is less room than when they started: these wait for the
        ones before them.
        """
        if self._base is None:
            return []
        base, _ = self._with(self._base, finished)
        return [offset for offset in finished if not self._is_within(base, offset)]

    def _is_within(self, base: int, offset: int) -> bool:
        return offset < base + self._room.window

    def receive(self, offset: int) -> bool:
        """Take note of a record; False when it is settled already and must not run again.

        Offsets between the last record and this one do not exist (compaction, transaction markers,
        retention): they count as settled. A first record below the committed offset means that
        the log was made anew; the ledger then begins there.
        """
        if self._base is None or (offset < self._base and not self._received):
            self._base, self._next, self._done = offset, offset, 0
            self.starts.forget()
        self._received += 1
        if offset < self._base:
            return False
        if offset > self._next:
            self._skip_hole(until=offset)
        self._next = max(self._next, offset + 1)
        return not self._done >> (offset - self._base) & 1

    def reach(self, end: int) -> bool:
        """Take note that no record lies between the last one that came and `end`.

        False where a note could not yet tell of it: try again when more is settled.
        """
        base = self._base
        if base is None or end <= self._next:
            return True
        if not self.has_room(end - 1):
            return False
        self._skip_hole(until=end)
        self._next = end
        if self._base != base:
            self.starts.owe_commit()
        self.starts.finish(self._base or base, self._done)
        return True

    def is_settled(self, offset: int) -> bool:
        """Say whether an offset is settled, or was never there."""
        base = self._base
        return base is not None and (offset < base or bool(self._done >> (offset - base) & 1))

    def forget_from(self, offset: int) -> None:
        """Drop what a note has said of `offset` and later ones: other records stand there now."""
        if self._base is not None:
            self._done &= (1 << max(offset - self._base, 0)) - 1
        self.starts.forget(from_=offset)

    @property
    def is_suspicious(self) -> bool:
        """Whether an event that was running at a death is among what is received and unfinished."""
        return self.starts.suspects_below(self._next)

    @property
    def has_news(self) -> bool:
        """Whether something of this partition waits for a commit, whatever ends meanwhile."""
        return self._base is not None and self.starts.news

    def snapshot(
        self, finished: Iterable[int] = (), *, exact: bool = False, ahead: int = _AHEAD
    ) -> Snapshot | None:
        """Return what to commit once `finished` are settled too; None before the first record.

        Args:
            finished: Offsets that the same transaction settles.
            exact: Let only those start that are asked for; else some more may, of those that have
                come in and the next one, so that neither an idle nor a busy worker waits for a
                commit. [P5]
            ahead: How many more these are, where a batch settles few and `_AHEAD` is more.
        """
        if self._base is None:
            return None
        # Where batches settle one each, the next one is enough.
        pace = round(2 * self._pace) if self._pace > 1 else 1
        ahead = 0 if exact else max(min(ahead, _AHEAD), pace)
        base, done = self._with(self._base, finished)
        self._said = base
        limit = max(self._next, base) + _UNSEEN
        return Snapshot(
            base, done, self.starts.cover(base, done, ahead=ahead, limit=limit), self.log
        )

    def settle(self, finished: Collection[int]) -> None:
        """Mark offsets as settled: their outcome is stored."""
        if self._base is None:
            return
        self._pace = max(len(finished), self._pace * _SLOWING)
        self._base, self._done = self._with(self._base, finished)
        self._next = max(self._next, self._base)
        self.starts.finish(self._base, self._done)
        if self._base > self._said:
            # The log's end was reached while the commit was on its way.
            self.starts.owe_commit()

    def _with(self, base: int, finished: Iterable[int]) -> tuple[int, int]:
        done = self._done
        for offset in finished:
            if offset >= base:
                done |= 1 << (offset - base)
        run = (done ^ (done + 1)).bit_length() - 1
        return base + run, done >> run

    def _skip_hole(self, *, until: int) -> None:
        base = self._base
        if base is None:
            return
        if not self.unsettled:
            self._base, self._done = until, self._done >> (until - base)
            self._next = until
            return
        width = until - self._next
        self._done |= ((1 << width) - 1) << (self._next - base)
