"""The partitions that a worker holds: their ledgers, epochs, and how much of each is taken in.

Back pressure lives here: a partition whose records fill its share, or reach past the ledger's
window, is paused until there is room again. Belongs to the poll thread. [P3, P11]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaError, KafkaException

from redrive.clock import Clock
from redrive.consumer.outcome import Delivery
from redrive.consumer.standing import PartitionStanding, Standing
from redrive.errors import FencedError
from redrive.kafka.log import Committed, Log, Place, Record
from redrive.state.ledger import PartitionLedger
from redrive.state.offsets import Entry, LogIdentity, Note, decode
from redrive.state.reservations import Reservations, crashes_since, history_after_death
from redrive.telemetry.metrics import Metrics

__all__ = ["Partitions"]

log = structlog.get_logger("redrive.consumer")

HIGH = 2_000
"""Unsettled records of one partition at which it is paused."""
LOW = 1_000
"""Unsettled records of one partition at which it is fetched again."""
_READ_S = 2.0
_READ_AGAIN_S = 0.5
_LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class _Held:
    ledger: PartitionLedger
    lowest: int | None = None
    since: float = 0.0
    sizes: dict[int, int] = field(default_factory=dict)
    outside: deque[Record] = field(default_factory=deque)
    seen: int = 0
    away_since: float = 0.0


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
        buffer_bytes: How much of all partitions may be in memory, unsettled.
        session_timeout_s: A poll thread silent for longer than this may have lost everything.
        incarnation: The random number that signs this worker's notes.
        clock: For the times of reading again.
        cluster: The id of the Kafka cluster, as far as it is known.
        metrics: Where crashes are counted.
    """

    def __init__(
        self,
        *,
        buffer_bytes: int,
        session_timeout_s: float,
        incarnation: int,
        clock: Clock,
        cluster: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._cluster = cluster
        self._buffer_bytes = buffer_bytes
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
        self._read_at = 0.0
        self._bytes = 0
        self.opened = 0
        """Of how many the committed offset was read so far; for any thread."""
        self._metrics = metrics or Metrics()
        self._look_at = 0.0
        self.standing = Standing()
        """Replaced as a whole: any thread may read it."""

    @property
    def expected(self) -> int:
        """How many are assigned whose committed offset is not read yet; for any thread."""
        return len(self._expected)

    @property
    def unsettled(self) -> int:
        """How many records are taken in and not settled, over all partitions."""
        return sum(held.ledger.unsettled for held in self._held.values())

    @property
    def suspicious(self) -> bool:
        """Whether an event that was running when a process died is taken in and not settled."""
        return any(held.ledger.is_suspicious for held in self._held.values())

    def news(self) -> set[Place]:
        """Return the partitions with something to commit, whatever is settled meanwhile."""
        return {place for place, held in self._held.items() if held.ledger.has_news}

    def close_starts(self, places: Iterable[Place] | None = None) -> None:
        """Let nothing start any more; the next commit takes back what was allowed.

        Without `places` that holds for what will be assigned yet, too.
        """
        self._closed = self._closed or places is None
        for place in self._held.keys() if places is None else places:
            if place in self._held:
                self._held[place].ledger.starts.close()

    def ledger(self, place: Place) -> PartitionLedger:
        """Return the ledger of a partition that is held."""
        return self._held[place].ledger

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
            held = self._held.get(place)
            if held is not None:
                held.away_since = self._clock.monotonic()
                self._away[place] = held
                # Last: other threads are to find it here or there. [P4]
                del self._held[place]
                log.info("partition.away", topic=place.topic, partition=place.partition)

    def given_away(self, places: Collection[Place]) -> dict[Place, int]:
        """Forget what is away and not among `places`, which are all of ours; return the epochs."""
        return self.lose([place for place in self._away if place not in places])

    def away_too_long(self) -> dict[Place, int]:
        """Forget what is away for longer than a session lasts; return the epochs."""
        before = self._clock.monotonic() - self._session_timeout_s
        return self.lose([place for place, held in self._away.items() if held.away_since < before])

    def lose(self, places: Iterable[Place]) -> dict[Place, int]:
        """Forget partitions that are ours no longer; return the epochs of those that were."""
        lost = {}
        for place in places:
            self._expected.pop(place, None)
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

    def read_committed(self, kafka: Log) -> Opened:
        """Open the ledgers of what is expected, once the broker says where they stand."""
        if not self._expected or self._clock.monotonic() < self._read_at:
            return Opened()
        try:
            found = kafka.committed(self._expected, timeout_s=_READ_S)
            logs = self._logs(kafka, found)
            notes = {place: _note(place, one, logs[place.topic]) for place, one in found.items()}
            cut = [place for place, note in notes.items() if self._is_cut(note)]
            ends = kafka.ends(cut, timeout_s=_READ_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.FENCED_INSTANCE_ID:
                raise FencedError("another worker with this worker.id has joined") from error
            log.warning("partition.waiting_for_offsets", error=str(error))
            self._read_at = self._clock.monotonic() + _READ_AGAIN_S
            return Opened()
        self.opened += len(found)
        back = [place for place in found if self._is_back(place, notes[place])]
        lost = {place: self._away[place].ledger.epoch for place in found if place in self._away}
        for place, committed in found.items():
            self._open(place, committed, notes[place], logs[place.topic], end=ends.get(place))
            if self._expected.pop(place):
                kafka.seek(place, -2 if committed.offset is None else committed.offset)
        offsets = {place: at for place, one in found.items() if (at := one.offset) is not None}
        told = [note for note in notes.values() if note and note.rests and not self._is_ours(note)]
        return Opened(lost, back, offsets, told)

    def _logs(self, kafka: Log, places: Iterable[Place]) -> dict[str, LogIdentity]:
        ids = kafka.topic_ids({place.topic for place in places}, timeout_s=_READ_S)
        return {topic: LogIdentity.of(self._cluster, topic_id) for topic, topic_id in ids.items()}

    def _is_back(self, place: Place, note: Note | None) -> bool:
        """Take a partition back that nobody had meanwhile: whoever starts there signs first."""
        if place not in self._away or not self._is_ours(note):
            return False
        held = self._held[place] = self._away[place]
        del self._away[place]
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
        *,
        end: int | None,
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
            history = history_after_death(
                note, committed.offset, end=end or 0, now=self._clock.now().timestamp()
            )
            self._metrics.crashes.add(by=crashes_since(note, committed.offset, history))
        epoch = self._epochs[place] = self._epochs.get(place, 0) + 1
        ledger = PartitionLedger(
            epoch=epoch,
            committed=committed.offset,
            note=note,
            history=history,
            log=identity,
        )
        if self._closed:
            ledger.starts.close()
        self._held[place] = _Held(ledger)
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
        for place in self._expected:
            self._pause(kafka, place)

    def resumed_all(self) -> None:
        """Take note that a new consumer is there, which has paused nothing. [P1]."""
        self._paused.clear()

    def take(self, records: Sequence[Record]) -> list[Delivery]:
        """Take records in; return those that may start now."""
        deliveries: list[Delivery] = []
        for record in records:
            held = self._held.get(record.place)
            # What comes back is fetched anew from the committed offset on.
            if held is None or record.offset < held.seen:
                continue
            held.seen = record.offset + 1
            if held.outside or not held.ledger.has_room(record.offset):
                held.outside.append(record)
            else:
                self._receive(held, record, deliveries)
        return deliveries

    def refill(self, kafka: Log) -> list[Delivery]:
        """Let in what waited outside the window; pause and resume by how full each partition is."""
        deliveries: list[Delivery] = []
        full = self._bytes >= self._buffer_bytes
        for place, held in self._held.items():
            while held.outside and held.ledger.has_room(held.outside[0].offset):
                self._receive(held, held.outside.popleft(), deliveries)
            taken = held.ledger.unsettled + len(held.outside)
            if taken >= HIGH or full or held.outside:
                self._pause(kafka, place)
            elif taken <= LOW:
                self._resume(kafka, [place])
        return deliveries

    def look(self) -> None:
        """Note how everything stands, now and then, for whoever asks on another thread."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        seen = tuple(_seen(place, held, now) for place, held in self._held.items())
        self.standing = Standing(seen, self.unsettled, self._bytes)

    def settle(self, finished: Mapping[Place, Collection[int]]) -> None:
        """Mark offsets of held partitions as settled."""
        for place, offsets in finished.items():
            held = self._kept(place)
            held.ledger.settle(offsets)
            self._bytes -= sum(held.sizes.pop(offset, 0) for offset in offsets)

    def committed(self, places: Iterable[Place], *, stored: bool) -> None:
        """Say of held partitions whether the note that was sent last is durable."""
        for place in places:
            starts = self._kept(place).ledger.starts
            if stored:
                starts.stored()
            else:
                starts.refused()

    def _pause(self, kafka: Log, place: Place) -> None:
        if place not in self._paused:
            self._paused.add(place)
            kafka.pause([place])

    def _resume(self, kafka: Log, places: Iterable[Place]) -> None:
        paused = self._paused.intersection(places)
        if paused:
            self._paused -= paused
            kafka.resume(paused)

    def _receive(self, held: _Held, record: Record, deliveries: list[Delivery]) -> None:
        if held.ledger.receive(record.offset):
            held.sizes[record.offset] = record.size_bytes
            self._bytes += record.size_bytes
            deliveries.append(Delivery(record, held.ledger.epoch, held.ledger.starts))

    def _kept(self, place: Place) -> _Held:
        return self._held.get(place) or self._away[place]

    def _forget(self, place: Place) -> None:
        held = self._held.pop(place, None) or self._away.pop(place, None)
        if held is not None:
            held.ledger.starts.close()
            self._left[place] = held.ledger.starts
            self._bytes -= sum(held.sizes.values())


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
    return PartitionStanding(place, lowest, held.since, held.ledger.window_used)
