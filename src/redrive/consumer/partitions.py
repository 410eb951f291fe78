"""The partitions that a worker holds: their ledgers, epochs, and how much of each is taken in.

Back pressure lives here: a partition whose records fill its share, or reach past the ledger's
window, is paused until there is room again. Belongs to the poll thread. [P3, P11]

A turn looks at what has changed since the last one, never at all partitions: of thousands that are
held, most are idle.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException

from redrive.clock import Clock
from redrive.consumer.buffer import Buffer, Share, event_bytes
from redrive.consumer.lately import Lately
from redrive.consumer.outcome import Delivery
from redrive.consumer.standing import PartitionStanding, Standing
from redrive.errors import FencedError
from redrive.kafka.log import Committed, Log, Place, Record
from redrive.kafka.topic_ids import IdsAsOf
from redrive.state.doubts import Doubts, Fate
from redrive.state.ledger import PartitionLedger, Snapshot
from redrive.state.note_room import NoteRoom
from redrive.state.offsets import Entry, LogIdentity, Note, decode
from redrive.state.reservations import Reservations, crashes_since, history_after_death
from redrive.telemetry.metrics import Metrics
from redrive.telemetry.repeats import REPEATS

__all__ = ["Partitions"]

log = structlog.get_logger("redrive.consumer")

HIGH = 2_000
"""Unsettled records of one partition at which it is paused."""
LOW = 1_000
"""Unsettled records of one partition at which it is fetched again."""
_READ_S = 2.0
_READ_AGAIN_S = 0.5
_ASK_AGAIN_S = 0.2
_LOOK_EVERY_S = 0.5
_COMPARE_EVERY_S = 10.0
_NOTHING = Committed(None, None)
_ASK_IDS_S = 2.0
"""While records come in, the ids of topics are asked for within so many seconds."""
_ASK_IDS_SOON_S = 0.5
"""The same, where a note will not have room for the marks of all that was answered since."""
_HEARD_S = 5.0
"""Who lives joins its group again within so many seconds of the end of its session."""
_SEAT_BITS = 32
_AHEAD_OF_SLOTS = 2
"""So many starts are reserved ahead for each slot, over all partitions that have something to do:
more would be suspects after a death, and less would wait for commits. [P5]"""


class Members(Protocol):
    """Tells who is in the group, without being waited for."""

    def ask(self, about: Collection[int]) -> tuple[frozenset[int], frozenset[int]] | None:
        """Ask about incarnations; return whom the last question was about, and who is there."""
        ...


@dataclass(slots=True)
class _Held:
    ledger: PartitionLedger
    share: Share
    lowest: int | None = None
    since: float = 0.0
    unsettled: int = 0
    outside: deque[Record] = field(default_factory=deque)
    seen: int = 0
    # Where the log ended when the client got there, until the ledger knows; 0 otherwise.
    end: int = 0
    # Where the client reads on. It goes back by itself only where the log does.
    next: int = 0
    committed: Committed = _NOTHING
    # The newest that was read, also before the commit.
    leader_epoch: int | None = None
    away_since: float = 0.0
    lately: Lately = field(default_factory=Lately)


@dataclass(frozen=True, slots=True)
class Opened:
    """What reading the committed offsets came to.

    Args:
        lost: Partitions that were away and another worker had meanwhile, with their old epochs.
        back: Those that came back as we left them: their epochs go on. [P4]
        offsets: What the group has committed, where it has.
        notes: Of another worker, or of our earlier life: those that speak of rests.
    """

    lost: Mapping[Place, int] = field(default_factory=dict)
    back: Collection[Place] = ()
    offsets: Mapping[Place, int] = field(default_factory=dict)
    notes: Sequence[Note] = ()


class Partitions:
    """What is held, and what is expected: assigned, but its committed offset is not read yet.

    Args:
        buffer: What all partitions hold in memory.
        session_timeout_s: A poll thread silent for longer than this may have lost everything.
        incarnation: The random number that signs this worker's notes.
        clock: For the times of reading again.
        has_seat: Whether the upper half of `incarnation` is that of all lives of this worker.
        members: Who is in the group; None where nobody tells: then who lost its work has died.
        cluster: The id of the Kafka cluster, as far as it is known.
        room: How much a commit's note may hold; by default as much as most brokers take.
        in_flight: How many events may run at the same time, of all partitions.
        metrics: Where crashes are counted.
    """

    def __init__(  # noqa: PLR0913 - what partitions know, each by its name
        self,
        *,
        buffer: Buffer,
        session_timeout_s: float,
        incarnation: int,
        clock: Clock,
        has_seat: bool = False,
        members: Members | None = None,
        cluster: str | None = None,
        room: NoteRoom | None = None,
        in_flight: int = 64,
        metrics: Metrics | None = None,
    ) -> None:
        self._in_flight = in_flight
        self.room = room or NoteRoom()
        self._cluster = cluster
        self._has_seat = has_seat
        self._members = members
        self._doubts = Doubts(patience_s=_HEARD_S)
        self._buffer = buffer
        self._session_timeout_s = session_timeout_s
        self.incarnation = incarnation
        self._clock = clock
        self._epochs: dict[Place, int] = {}
        self._held: dict[Place, _Held] = {}
        self._away: dict[Place, _Held] = {}
        # Whether fetching must be told where to begin.
        self._expected: dict[Place, bool] = {}
        self._left: dict[Place, Reservations] = {}
        self._closed = False
        # Over assignments: a partition that was paused when it went is paused when it comes back,
        # and would be silent for ever.
        self._paused: set[Place] = set()
        self._topics: set[str] = set()
        # What is held and whose log is another one, or ends before what we have read of it.
        self._anew: set[Place] = set()
        self._lately: dict[Place, Lately] = {}
        # When something was read, and as of when the ids of topics are known.
        self._taken_at = self._ids_as_of = -math.inf
        self._crowded = False
        self._cut: dict[Place, int] = {}
        self._unchecked: set[Place] = set()
        self._doubtful = False
        self._read_at = 0.0
        self.opened = 0
        """Of how many the committed offset was read so far; for any thread."""
        self._metrics = metrics or Metrics()
        self._look_at = 0.0
        self._compare_at = 0.0
        # Those with something to commit, first come first; and who has told so from other threads.
        self._news: dict[Place, None] = {}
        self._told: deque[Place] = deque()
        # What was received or settled since `refill`, and since `look`.
        self._to_refill: set[Place] = set()
        self._to_look_at: set[Place] = set()
        self._seen: dict[Place, PartitionStanding] = {}
        self._with_suspects: set[Place] = set()
        self._unsettled = 0
        self.busy = 0
        """How many partitions have something that is taken in and not settled."""
        # Paused for want of memory, which others may give back.
        self._short: set[Place] = set()
        self.standing = Standing()
        """Replaced as a whole: any thread may read it."""

    @property
    def expected(self) -> int:
        """How many are assigned whose committed offset is not read yet; for any thread."""
        return len(self._expected)

    @property
    def unsettled(self) -> int:
        """How many records are taken in and not settled, over all partitions."""
        return self._unsettled

    @property
    def suspicious(self) -> bool:
        """Whether an event that was running when a process died is taken in and not settled."""
        held = [self._held[place] for place in self._with_suspects if place in self._held]
        return any(one.ledger.is_suspicious for one in held)

    def news(self) -> list[Place]:
        """Return the partitions with something to commit, whatever is settled meanwhile.

        Who has waited for longest comes first.
        """
        while self._told:
            self._news[self._told.popleft()] = None
        for place in [place for place in self._news if not self._has_news(place)]:
            del self._news[place]
        return [place for place in self._news if place in self._held]

    def _has_news(self, place: Place) -> bool:
        kept = self._held.get(place) or self._away.get(place)
        return kept is not None and kept.ledger.has_news

    def ledger(self, place: Place) -> PartitionLedger:
        """Return the ledger of a partition that is held."""
        return self._held[place].ledger

    def snapshot(
        self, place: Place, finished: Iterable[int] = (), *, exact: bool = False
    ) -> Snapshot | None:
        """Return what to commit for a partition; see `PartitionLedger.snapshot`.

        If something of it comes to wait afterwards, it waits behind all others.
        """
        self._news.pop(place, None)
        ahead = -(-_AHEAD_OF_SLOTS * self._in_flight // max(self.busy, 1))
        snapshot = self.ledger(place).snapshot(finished, exact=exact, ahead=ahead)
        if snapshot is None:
            return None
        marks = self._held[place].lately.marks(snapshot.offset, finished)
        return replace(snapshot, marks=marks) if marks else snapshot

    def beyond_note(self, finished: Mapping[Place, Collection[int]]) -> dict[Place, set[int]]:
        """Return those of `finished` that no note could tell of; see `PartitionLedger`."""
        beyond = {place: self.ledger(place).beyond_note(done) for place, done in finished.items()}
        return {place: set(offsets) for place, offsets in beyond.items() if offsets}

    def close_starts(self, places: Iterable[Place] | None = None) -> None:
        """Let nothing start any more; the next commit takes back what was allowed.

        Without `places` that holds for what will be assigned yet, too.
        """
        self._closed = self._closed or places is None
        for place in self._held.keys() if places is None else places:
            if place in self._held:
                self._held[place].ledger.starts.close()

    def owns(self, place: Place) -> bool:
        """Say whether the partition is held now."""
        return place in self._held

    def holds(self, delivery: Delivery) -> bool:
        """Say whether the assignment under which `delivery` came is still the one that holds."""
        held = self._held.get(delivery.place)
        return held is not None and held.ledger.epoch == delivery.epoch

    def keeps(self, delivery: Delivery) -> bool:
        """Say whether that assignment holds, or may come to hold again: its partition is away.

        For any thread.
        """
        return self.keeps_epoch(delivery.place, delivery.epoch)

    def keeps_epoch(self, place: Place, epoch: int) -> bool:
        """Say the same of a partition and an epoch."""
        # In this order, and once more: a partition that comes back meanwhile is found, too.
        kept = self._held.get(place) or self._away.get(place) or self._held.get(place)
        return kept is not None and kept.ledger.epoch == epoch

    def epochs(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the current epochs of those that are held."""
        return {place: self._held[place].ledger.epoch for place in places if place in self._held}

    def expect(self, places: Iterable[Place], *, seek: bool = False) -> None:
        """Let nothing start before the group's committed offset is read."""
        for place in places:
            if place in self._held:
                self._forget(place)
            self._expected[place] = seek
        self._read_at = 0.0

    def expects(self, places: Iterable[Place]) -> bool:
        """Say whether one of them is assigned, and its committed offset not read yet."""
        return any(place in self._expected for place in places)

    def part(self, places: Iterable[Place]) -> None:
        """Put partitions aside that are between two assignments; they may come back to us."""
        for place in places:
            self._expected.pop(place, None)
            self._believe_again(place)
            held = self._held.get(place)
            if held is not None:
                # Where it ends when it comes back, the client tells anew.
                held.end = 0
                held.away_since = self._clock.monotonic()
                self._away[place] = held
                self._weigh(held.unsettled, 0)
                self._to_look_at.add(place)
                # Last: other threads are to find it here or there. [P4]
                del self._held[place]
                log.info("partition.away", topic=place.topic, partition=place.partition)

    def given_away(self, places: Collection[Place]) -> dict[Place, int]:
        """Forget what is away and not among `places`, which are all of ours; return the epochs."""
        return self.lose(self._away.keys() - set(places))

    def away_too_long(self) -> dict[Place, int]:
        """Forget what is away for longer than a session lasts; return the epochs."""
        before = self._clock.monotonic() - self._session_timeout_s
        # What is expected is ours again, however long its committed offset is not to be had. [P1]
        away = {place: self._away[place] for place in self._away.keys() - self._expected.keys()}
        return self.lose([place for place, held in away.items() if held.away_since < before])

    def find_forgotten(self, kafka: Log) -> None:
        """Expect what the client was assigned and nobody here knows of. [P1].

        There is no such partition as long as all is right here; it would be silent for ever.
        """
        now = self._clock.monotonic()
        if now < self._compare_at:
            return
        self._compare_at = now + _COMPARE_EVERY_S
        known = self._held.keys() | self._expected.keys()
        forgotten = [place for place in kafka.assignment() if place not in known]
        if forgotten:
            log.error(
                "partition.forgotten",
                partitions=[f"{topic}/{number}" for topic, number in forgotten],
            )
            self.expect(forgotten, seek=True)

    def lose(self, places: Iterable[Place]) -> dict[Place, int]:
        """Forget partitions that are ours no longer; return the epochs of those that were."""
        lost = {}
        for place in places:
            self._expected.pop(place, None)
            self._believe_again(place)
            held = self._held.get(place) or self._away.get(place)
            if held is not None:
                lost[place] = held.ledger.epoch
            self._forget(place)
            log.info("partition.gone", topic=place.topic, partition=place.partition)
        return lost

    def overslept(self, gap_s: float) -> dict[Place, int]:
        """Give everything up when this thread slept for longer than the session lasts. [P2].

        Others may have taken over meanwhile; if not, reading again costs little.
        """
        if gap_s <= self._session_timeout_s or not self._held:
            return {}
        log.error("partition.overslept", gap_s=round(gap_s, 1), partitions=len(self._held))
        lost = self.epochs(self._held)
        self.expect(lost, seek=True)
        return lost

    def read_committed(self, kafka: Log, *, assigning: bool = False) -> Opened:
        """Open the ledgers of what is expected, once the broker says where they stand.

        Args:
            kafka: Whom to ask.
            assigning: Whether the client is told where to begin by what this returns. Later it has
                begun by itself, where the group has committed: which may be an offset of a log that
                is gone.
        """
        if not self._expected or self._clock.monotonic() < self._read_at:
            return Opened()
        try:
            found = kafka.committed(self._expected, timeout_s=_READ_S)
            of_group = {place for place, one in found.items() if one.offset is not None}
            logs = self._logs(kafka, found)
            marks = {p: self._marks(p, one, logs[p.topic]) for p, one in found.items()}
            found = {p: self._still_there(p, one, logs[p.topic]) for p, one in found.items()}
            notes = {p: self._note(p, one, logs[p.topic]) for p, one in found.items()}
        except KafkaException as error:
            if error.args[0].code() == KafkaError.FENCED_INSTANCE_ID:
                raise FencedError("another worker with this worker.id has joined") from error
            self._read_again(error)
            return Opened()
        waits = self._in_doubt(
            {p: note for p, note in notes.items() if note and self._is_cut(note)}
        )
        early = {p: self._away[p].ledger.epoch for p in waits if p in self._away}
        for place in early:
            self._forget(place)
        ends = self._ends(kafka, found, notes)
        found = {place: one for place, one in found.items() if place in ends.keys() - waits}
        for place, one in found.items():
            found[place], notes[place] = self._up_to(place, one, notes[place], ends[place])
        self.opened += len(found)
        back = [place for place, one in found.items() if self._is_back(place, notes[place], one)]
        lost = early | {
            place: self._away[place].ledger.epoch for place in found if place in self._away
        }
        for place, committed in found.items():
            must_seek = self._expected[place] or (place in of_group and not assigning)
            if must_seek and not kafka.seek(place, _start(committed)):
                self._read_again("the client has not begun with the partition")
                continue
            end = ends[place]
            self._open(
                place, committed, notes[place], logs[place.topic], marks[place], end=end or 0
            )
            self._believe_again(place)
            del self._expected[place]
        # Where the group has committed nothing, the client begins as it was set up to.
        offsets = {place: _start(one) for place, one in found.items() if place in of_group}
        read = [notes[place] for place in found]
        told = [note for note in read if note and note.rests and not self._is_ours(note)]
        if len(found) == len(notes):
            self._doubts.keep(())
        return Opened(lost, back, offsets, told)

    def _ends(
        self, kafka: Log, found: Mapping[Place, Committed], notes: Mapping[Place, Note | None]
    ) -> dict[Place, int | None]:
        """Return where partitions end, which is to be known of those that a death has left.

        Of these, those whose end is not told are missing: what may have run there is not known yet.
        """
        left = {place for place, note in notes.items() if self._is_cut(note)}
        asked = [place for place, one in found.items() if one.offset is not None]
        ends: dict[Place, int | None] = dict.fromkeys(notes.keys() - left)
        try:
            ends |= kafka.ends(asked, timeout_s=_READ_S) if asked else {}
        except KafkaException as error:
            self._read_again(error)
            return ends
        if len(ends) < len(notes):
            self._read_again("a partition has no leader")
        return ends

    def _up_to(
        self, place: Place, committed: Committed, note: Note | None, end: int | None
    ) -> tuple[Committed, Note | None]:
        """Return what is left of a commit beyond the end of its log. [P1].

        A client that fetches there is sent to the beginning, and all would be run again.
        """
        if end is None or committed.offset is None or committed.offset <= end:
            return committed, note
        if committed.leader_epoch is None:
            # Where the log was cut back cannot be told: all that it holds is read. [P1]
            return committed, note
        log.error(
            "partition.log_cut_back",
            topic=place.topic,
            partition=place.partition,
            end=end,
            read_to=committed.offset,
        )
        return Committed(end, None, committed.leader_epoch), None

    def _read_again(self, error: object) -> None:
        times = REPEATS.to_log("partition.waiting_for_offsets", error)
        if times is not None:
            log.warning("partition.waiting_for_offsets", error=str(error), **times)
        self._read_at = self._clock.monotonic() + _READ_AGAIN_S

    def _in_doubt(self, cut: Mapping[Place, Note]) -> set[Place]:
        """Return those whose last owner may be alive: not opened, nor signed, before it is known.

        So whoever they go to next, and the owner itself, finds them as they were left.
        """
        if self._members is None or not cut:
            return set()
        now = self._clock.monotonic()
        asked = {place: note.incarnation for place, note in cut.items() if not self._is_seat(note)}
        for incarnation in asked.values():
            self._doubts.fate(incarnation, now)
        said = self._members.ask(self._doubts.open)
        if said is not None:
            self._doubts.heard(*said)
        waits = {
            place
            for place, incarnation in asked.items()
            if self._doubts.fate(incarnation, now) is Fate.OPEN
        }
        if waits:
            self._read_at = now + _ASK_AGAIN_S
        return waits

    def _is_seat(self, note: Note) -> bool:
        """Say whether an earlier life of this worker wrote it: that one is over for sure."""
        return self._has_seat and note.incarnation >> _SEAT_BITS == self.incarnation >> _SEAT_BITS

    def _logs(self, kafka: Log, places: Iterable[Place]) -> dict[str, LogIdentity]:
        ids = kafka.topic_ids({place.topic for place in places}, timeout_s=_READ_S)
        return {topic: LogIdentity.of(self._cluster, topic_id) for topic, topic_id in ids.items()}

    def _still_there(self, place: Place, committed: Committed, identity: LogIdentity) -> Committed:
        """Return what is left of a commit whose log is gone, or was cut back. [P1]."""
        note, end = decode(committed.metadata), self._cut.get(place)
        if place in self._anew or (note and note.is_of_a_log_before(committed.offset, identity)):
            if place not in self._anew:
                self._tell_anew(place, unsettled=None)
            return _NOTHING
        if end is not None and committed.offset is not None and committed.offset > end:
            return Committed(end, None, committed.leader_epoch)
        return committed

    def _note(self, place: Place, committed: Committed, identity: LogIdentity) -> Note | None:
        note, end = _note(place, committed, identity), self._cut.get(place)
        if note is None or end is None or committed.offset is None:
            return note
        return note.until(end - committed.offset)

    def _marks(
        self, place: Place, committed: Committed, identity: LogIdentity
    ) -> Mapping[int, int] | None:
        """Return the marks of what was answered lately; None where the commit is of others.

        Who sets a group's offset by hand, or copies it, may want the same answered again.
        """
        note = decode(committed.metadata)
        if note is None:
            return {} if place in self._anew else None
        is_here = note.foreign_to(committed.offset, identity) is None
        if is_here or note.is_of_a_log_before(committed.offset, identity):
            return note.marks
        return None

    def _is_back(self, place: Place, note: Note | None, committed: Committed) -> bool:
        """Take a partition back that nobody had meanwhile: whoever starts there signs first."""
        if place not in self._away or not self._is_ours(note):
            return False
        held = self._held[place] = self._away[place]
        held.next = committed.offset or 0
        del self._away[place]
        self._weigh(0, held.unsettled)
        self._changed(place)
        if not self._closed:
            held.ledger.starts.reopen()
        log.info("partition.back", topic=place.topic, partition=place.partition)
        return True

    def _is_ours(self, note: Note | None) -> bool:
        return note is not None and note.incarnation == self.incarnation

    def _is_cut(self, note: Note | None) -> bool:
        """Say whether the note was left by a process that died, or was lost to us, at its work."""
        if note is None or self._is_ours(note):
            return False
        return note.reserved > 0 or any(entry.started for entry in note.entries.values())

    def _open(
        self,
        place: Place,
        committed: Committed,
        note: Note | None,
        identity: LogIdentity,
        marks: Mapping[int, int] | None,
        *,
        end: int,
    ) -> None:
        if place in self._held:
            return
        self._forget(place)
        history: dict[int, Entry] = {}
        left = self._left.pop(place, None)
        if self._is_ours(note):
            # Nobody had it meanwhile: what ended its runs was not a death.
            history = left.carried() if left else {}
        elif note is not None and committed.offset is not None:
            lives = self._doubts.is_living(note.incarnation)
            if lives:
                log.info(
                    "partition.owner_lives",
                    topic=place.topic,
                    partition=place.partition,
                )
            history = history_after_death(
                note,
                committed.offset,
                end=end,
                now=self._clock.now().timestamp(),
                died=not lives,
            )
            self._metrics.crashes.add(by=crashes_since(note, committed.offset, history))
        epoch = self._epochs[place] = self._epochs.get(place, 0) + 1
        ledger = PartitionLedger(
            epoch=epoch,
            committed=committed.offset,
            note=note,
            history=history,
            log=identity,
            room=self.room,
            tell=partial(self._told.append, place),
        )
        if self._closed:
            ledger.starts.close()
        self._topics.add(place.topic)
        self._held[place] = _Held(
            ledger,
            self._buffer.share(),
            next=committed.offset or 0,
            committed=committed,
            leader_epoch=committed.leader_epoch,
            lately=self._lately.setdefault(place, Lately()),
        )
        if marks is None:
            self._lately[place].forget()
        self._lately[place].opened(marks or {}, ledger.is_settled)
        if committed.leader_epoch is not None:
            self._unchecked.add(place)
        self._news[place] = None
        self._changed(place)
        if ledger.starts.suspects:
            self._with_suspects.add(place)
        log.info(
            "partition.assigned",
            topic=place.topic,
            partition=place.partition,
            epoch=ledger.epoch,
            offset=committed.offset,
            finished_past=note.finished.bit_count() if note else 0,
            suspects=ledger.starts.suspects,
        )

    def hold_back(self, kafka: Log) -> None:
        """Fetch nothing of what is expected.

        Not before it is known that the offsets cannot be read at once: a pause and its end cost a
        second in librdkafka.
        """
        self._pause(kafka, self._expected)

    def resumed_all(self) -> None:
        """Take note that a new consumer is there, which has paused nothing. [P1]."""
        self._paused.clear()

    def take(self, records: Sequence[Record]) -> list[Delivery]:
        """Take records in; return those that may start now."""
        deliveries: list[Delivery] = []
        taken: set[Place] = set()
        self._taken_at = self._clock.monotonic()
        for record in records:
            held = self._held.get(record.place)
            if held is None or not self._is_log_we_read(held, record):
                continue
            # What comes back is fetched anew from the committed offset on.
            if record.offset < held.seen:
                continue
            taken.add(record.place)
            held.seen = record.offset + 1
            held.share.take(record.offset, event_bytes(record))
            if held.outside or not held.ledger.has_room(record.offset):
                held.outside.append(record)
            else:
                self._receive(held, record, deliveries)
        for place in taken:
            self._count(place)
            self._crowded = self._crowded or self._held[place].lately.is_crowded
        return deliveries

    def reached_end(self, ends: Mapping[Place, int]) -> None:
        """Take note of where logs end: the client has come there, and told all records before.

        Behind the last record may lie the ends of transactions, and what was aborted. A lag by
        offsets counts them for as long as no commit passes them. [P14]
        """
        for place, end in ends.items():
            held = self._held.get(place)
            if held is None or place in self._cut or place in self._unchecked or end < held.next:
                continue  # it is read again, and its end is told again
            if held.leader_epoch is None:
                continue  # nobody could tell later that the log was cut back before it
            # What is written there once the log was cut back is not taken for what we have passed.
            held.next, held.seen, held.end = end, max(held.seen, end), end
            self._count(place)

    def _reach_end(self, place: Place, held: _Held) -> None:
        if held.outside or place in self._cut or not held.ledger.reach(held.end):
            return
        held.end = 0
        if not held.ledger.starts.suspects:
            self._with_suspects.discard(place)

    def _is_log_we_read(self, held: _Held, record: Record) -> bool:
        """Say whether a record is of the log that was read so far; note what speaks against it.

        Each new leader raises the epoch, so whatever was written after a log was cut back bears a
        newer one than all that was read before. [P1, P3]
        """
        if record.place in self._cut or record.place in self._unchecked:
            return False  # it is read again from there, or once the client has checked
        committed, epoch = held.committed, record.leader_epoch
        before = record.offset < (committed.offset or 0)
        known = committed.leader_epoch if before else held.leader_epoch
        is_newer = known is not None and epoch is not None and epoch > known
        read_to = max(held.seen, held.ledger.committable or 0)
        if record.offset < held.next or (is_newer and record.offset < read_to):
            if is_newer or known is None or epoch is None:
                self._cut[record.place] = record.offset
            else:
                # The client was sent back to the beginning: of this log, or of another one?
                held.next = record.offset + 1
                self._doubtful = True
            return False
        if is_newer:
            # The note has spoken of what stood there before.
            held.ledger.forget_from(record.offset)
        if epoch is not None:
            held.leader_epoch = max(epoch, held.leader_epoch or 0)
        held.next = record.offset + 1
        return True

    def check_logs(self, kafka: Log) -> dict[Place, int]:
        """Give up what is held of a log that is gone, or that was cut back; return the epochs.

        It is read again from where the log goes on; what its runs come to is not settled. [P1]
        """
        found = kafka.changed_ids(self._topics, within_s=self._ask_ids_within_s())
        self._doubtful = False
        if found.ids:
            self._ids_as_of, self._crowded = found.as_of, False
        gone = [place for place in self._held if found.ids and self._is_gone(place, found)]
        for place in gone:
            held = self._held[place]
            self._anew.add(place)
            self._tell_anew(place, unsettled=held.ledger.unsettled)
        cut = [place for place in self._cut if place in self._held and place not in gone]
        for place in cut:
            held = self._held[place]
            log.error(
                "partition.log_cut_back",
                topic=place.topic,
                partition=place.partition,
                end=self._cut[place],
                read_to=held.next,
            )
        self._check_epochs(kafka)
        lost = self.epochs([*gone, *cut])
        if lost:
            self.expect(lost, seek=True)
        for place in lost:
            # What is known of attempts is of records that are gone.
            self._left[place].forget(from_=self._cut.get(place, 0) if place in cut else 0)
        return lost

    def _ask_ids_within_s(self) -> float:
        """Say how soon the ids of topics are to be asked for: an idle worker is in no hurry."""
        if self._doubtful:
            return 0.0
        if self._taken_at <= self._ids_as_of:
            return math.inf
        return _ASK_IDS_SOON_S if self._crowded else _ASK_IDS_S

    def _is_gone(self, place: Place, found: IdsAsOf) -> bool:
        held = self._held[place]
        known, now = held.ledger.log.topic_id, found.ids.get(place.topic)
        if known and known == now:
            held.lately.is_known(found.as_of)
        return bool(known and now and known != now)

    def _check_epochs(self, kafka: Log) -> None:
        """Have the client ask whether the log still holds all that is committed.

        It does so by itself where it has read, and not where a partition was assigned.
        """
        for place in list(self._unchecked):
            held = self._held.get(place)
            at = None if held is None else held.committed.offset
            if held is None or at is None or place in self._cut:
                self._unchecked.discard(place)
            elif kafka.seek(place, at, leader_epoch=held.committed.leader_epoch):
                held.next = at
                self._unchecked.discard(place)

    def _believe_again(self, place: Place) -> None:
        self._anew.discard(place)
        self._cut.pop(place, None)

    def _tell_anew(self, place: Place, *, unsettled: int | None) -> None:
        log.error(
            "partition.log_began_anew",
            topic=place.topic,
            partition=place.partition,
            unsettled=unsettled,
        )

    def leader_epoch(self, place: Place) -> int | None:
        """Return the newest leader epoch that was read of a partition that is held."""
        return self._held[place].leader_epoch

    def refill(self, kafka: Log) -> list[Delivery]:
        """Let in what waited outside the window; pause and resume by how full each partition is."""
        deliveries: list[Delivery] = []
        to_pause, to_resume = list[Place](), list[Place]()
        for place in (self._to_refill | self._short) & self._held.keys():
            held = self._held[place]
            while held.outside and held.ledger.has_room(held.outside[0].offset):
                self._receive(held, held.outside.popleft(), deliveries)
                self._count(place)
            taken = held.unsettled + len(held.outside)
            has_memory = held.share.may_fetch(again=place in self._paused)
            if has_memory:
                self._short.discard(place)
            else:
                self._short.add(place)
            if taken >= HIGH or held.outside or not has_memory:
                to_pause.append(place)
            elif taken <= LOW:
                to_resume.append(place)
        self._to_refill.clear()
        self._pause(kafka, to_pause)
        self._resume(kafka, to_resume)
        return deliveries

    def look(self) -> None:
        """Note how everything stands, now and then, for whoever asks on another thread."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        for place in self._to_look_at:
            held = self._held.get(place)
            if held is None:
                self._seen.pop(place, None)
            else:
                self._seen[place] = _seen(place, held, now)
        self._to_look_at.clear()
        self.standing = Standing(
            tuple(self._seen.values()),
            self._unsettled,
            self._buffer.size_bytes,
            self._buffer.let_go,
            away=len(self._away),
            paused=sum(place in self._held for place in self._paused),
            unchecked=len(self._unchecked),
        )

    def settle(self, finished: Mapping[Place, Collection[int]]) -> None:
        """Mark offsets of held partitions as settled."""
        for place, offsets in finished.items():
            held = self._kept(place)
            held.ledger.settle(offsets)
            held.lately.settled(offsets)
            held.share.drop(offsets)
            self._count(place)
            if not held.ledger.starts.suspects:
                self._with_suspects.discard(place)

    def settled_late(self, delivery: Delivery) -> None:
        """Take note of what is stored, and whose assignment is over: its log may be a new one.

        At least once there is no note of ours that was stored with it.
        """
        if (lately := self._lately.get(delivery.place)) is not None:
            lately.settled_late(delivery.record)

    def committed(self, places: Iterable[Place], *, stored: bool) -> None:
        """Say of held partitions whether the note that was sent last is durable."""
        for place in places:
            starts = self._kept(place).ledger.starts
            if stored:
                starts.stored()
            else:
                starts.refused()

    def _count(self, place: Place) -> None:
        """Take note that something of a partition was received or settled."""
        held = self._kept(place)
        if held.end:
            self._reach_end(place, held)
        before, held.unsettled = held.unsettled, held.ledger.unsettled
        if place in self._held:
            self._weigh(before, held.unsettled)
            self._changed(place)

    def _weigh(self, before: int, now: int) -> None:
        """Count what a partition that is held has unsettled, as it changes."""
        self._unsettled += now - before
        self.busy += bool(now) - bool(before)

    def _changed(self, place: Place) -> None:
        self._to_refill.add(place)
        self._to_look_at.add(place)

    def _pause(self, kafka: Log, places: Iterable[Place]) -> None:
        flowing = set(places) - self._paused
        if flowing:
            self._paused |= flowing
            kafka.pause(flowing)

    def _resume(self, kafka: Log, places: Iterable[Place]) -> None:
        paused = self._paused.intersection(places)
        if paused:
            self._paused -= paused
            kafka.resume(paused)

    def _receive(self, held: _Held, record: Record, deliveries: list[Delivery]) -> None:
        starts_there = held.ledger.committable is None
        is_open = held.ledger.receive(record.offset)
        if is_open and held.lately.was_answered(record, self._taken_at):
            held.ledger.settle([record.offset])
            held.ledger.starts.owe_commit()
            is_open = False
        if is_open:
            if held.ledger.log.topic_id:
                held.lately.saw(record, self._taken_at)
            starts = held.ledger.starts
            deliveries.append(Delivery(record, held.ledger.epoch, starts, held.share))
        else:
            held.share.drop([record.offset])
        if starts_there:
            self._news[record.place] = None

    def _kept(self, place: Place) -> _Held:
        return self._held.get(place) or self._away[place]

    def _forget(self, place: Place) -> None:
        self._unchecked.discard(place)
        if place in self._held:
            self._weigh(self._held[place].unsettled, 0)
        held = self._held.pop(place, None) or self._away.pop(place, None)
        if held is not None:
            held.ledger.starts.close()
            self._left[place] = held.ledger.starts
            held.share.close()
            self._with_suspects.discard(place)
            self._to_look_at.add(place)
            self._short.discard(place)


def _start(committed: Committed) -> int:
    return OFFSET_BEGINNING if committed.offset is None else committed.offset


def _note(place: Place, committed: Committed, identity: LogIdentity) -> Note | None:
    """Read a commit's note, and pass by one that was copied from another commit. [P3]."""
    note = decode(committed.metadata)
    if note is None or (foreign := note.foreign_to(committed.offset, identity)) is None:
        return note
    log.warning(
        "partition.note_of_another_commit",
        topic=place.topic,
        partition=place.partition,
        offset=committed.offset,
        note_offset=note.offset,
        differs=foreign.value,
    )
    return None


def _seen(place: Place, held: _Held, now: float) -> PartitionStanding:
    lowest = held.ledger.lowest_unsettled
    if lowest != held.lowest:
        held.lowest, held.since = lowest, now
    return PartitionStanding(
        place, lowest, held.since, held.ledger.window_used, outside=len(held.outside)
    )
