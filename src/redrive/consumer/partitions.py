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
from redrive.consumer.outcome import PolledRecord
from redrive.consumer.partition_status import PartitionsStatus, PartitionStatus
from redrive.errors import FencedError
from redrive.kafka.log import Committed, ConsumerRecord, Log, TopicPartition
from redrive.kafka.topic_ids import IdsAsOf
from redrive.state.commit_metadata import CommitMetadata, LogIdentity, OffsetEntry, decode
from redrive.state.doubts import Doubts, Fate
from redrive.state.ledger import PartitionLedger, Snapshot
from redrive.state.metadata_room import MetadataRoom
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
_INSTANCE_BITS = 32
_AHEAD_OF_SLOTS = 2
"""So many starts are reserved ahead for each slot, over all partitions that have something to do:
more would be suspects after a death, and less would wait for commits. [P5]"""


class GroupLookup(Protocol):
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
    outside: deque[ConsumerRecord] = field(default_factory=deque)
    seen: int = 0
    # Where the log ended when the client got there, until the ledger knows; 0 otherwise.
    end: int = 0
    # Where the client reads on. It goes back by itself only where the log does.
    next: int = 0
    committed: Committed = _NOTHING
    # The newest that was read, also before the commit.
    leader_epoch: int | None = None
    suspended_at: float = 0.0
    lately: Lately = field(default_factory=Lately)


@dataclass(frozen=True, slots=True)
class Opened:
    """What reading the committed offsets came to.

    Args:
        lost: Partitions that were away and another worker had meanwhile, with their old epochs.
        back: Those that came back as we left them: their epochs go on. [P4]
        offsets: What the group has committed, where it has.
        all_metadata: Of another worker, or of our earlier life: those that speak of rests.
    """

    lost: Mapping[TopicPartition, int] = field(default_factory=dict)
    back: Collection[TopicPartition] = ()
    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)
    all_metadata: Sequence[CommitMetadata] = ()


class Partitions:
    """What is held, and what is expected: assigned, but its committed offset is not read yet.

    Args:
        buffer: What all partitions hold in memory.
        session_timeout_s: A poll thread silent for longer than this may have lost everything.
        incarnation: The random number that signs this worker's notes.
        clock: For the times of reading again.
        is_static_member: Whether the upper half of `incarnation` is that of all lives of this
            worker.
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
        is_static_member: bool = False,
        members: GroupLookup | None = None,
        cluster: str | None = None,
        room: MetadataRoom | None = None,
        in_flight: int = 64,
        metrics: Metrics | None = None,
    ) -> None:
        self._in_flight = in_flight
        self.room = room or MetadataRoom()
        self._cluster = cluster
        self._is_static_member = is_static_member
        self._members = members
        self._doubts = Doubts(patience_s=_HEARD_S)
        self._buffer = buffer
        self._session_timeout_s = session_timeout_s
        self.incarnation = incarnation
        self._clock = clock
        self._epochs: dict[TopicPartition, int] = {}
        self._held: dict[TopicPartition, _Held] = {}
        self._suspended: dict[TopicPartition, _Held] = {}
        # Whether fetching must be told where to begin.
        self._expected: dict[TopicPartition, bool] = {}
        self._left: dict[TopicPartition, Reservations] = {}
        self._closed = False
        # Over assignments: a partition that was paused when it went is paused when it comes back,
        # and would be silent for ever.
        self._paused: set[TopicPartition] = set()
        self._topics: set[str] = set()
        # What is held and whose log is another one, or ends before what we have read of it.
        self._anew: set[TopicPartition] = set()
        self._lately: dict[TopicPartition, Lately] = {}
        # When something was read, and as of when the ids of topics are known.
        self._taken_at = self._ids_as_of = -math.inf
        self._crowded = False
        self._cut: dict[TopicPartition, int] = {}
        self._unchecked: set[TopicPartition] = set()
        self._doubtful = False
        self._read_at = 0.0
        self.opened = 0
        """Of how many the committed offset was read so far; for any thread."""
        self._metrics = metrics or Metrics()
        self._look_at = 0.0
        self._compare_at = 0.0
        # Those with something to commit, first come first; and who has told so from other threads.
        self._news: dict[TopicPartition, None] = {}
        self._told: deque[TopicPartition] = deque()
        # What was received or settled since `refill`, and since `look`.
        self._to_refill: set[TopicPartition] = set()
        self._to_look_at: set[TopicPartition] = set()
        self._seen: dict[TopicPartition, PartitionStatus] = {}
        self._with_suspects: set[TopicPartition] = set()
        self._unsettled = 0
        self.busy = 0
        """How many partitions have something that is taken in and not settled."""
        # Paused for want of memory, which others may give back.
        self._short: set[TopicPartition] = set()
        self.status = PartitionsStatus()
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
        held = [self._held[tp] for tp in self._with_suspects if tp in self._held]
        return any(one.ledger.is_suspicious for one in held)

    def news(self) -> list[TopicPartition]:
        """Return the partitions with something to commit, whatever is settled meanwhile.

        Who has waited for longest comes first.
        """
        while self._told:
            self._news[self._told.popleft()] = None
        for tp in [tp for tp in self._news if not self._has_news(tp)]:
            del self._news[tp]
        return [tp for tp in self._news if tp in self._held]

    def _has_news(self, tp: TopicPartition) -> bool:
        kept = self._held.get(tp) or self._suspended.get(tp)
        return kept is not None and kept.ledger.has_news

    def ledger(self, tp: TopicPartition) -> PartitionLedger:
        """Return the ledger of a partition that is held."""
        return self._held[tp].ledger

    def snapshot(
        self, tp: TopicPartition, finished: Iterable[int] = (), *, exact: bool = False
    ) -> Snapshot | None:
        """Return what to commit for a partition; see `PartitionLedger.snapshot`.

        If something of it comes to wait afterwards, it waits behind all others.
        """
        self._news.pop(tp, None)
        ahead = -(-_AHEAD_OF_SLOTS * self._in_flight // max(self.busy, 1))
        snapshot = self.ledger(tp).snapshot(finished, exact=exact, ahead=ahead)
        if snapshot is None:
            return None
        marks = self._held[tp].lately.marks(snapshot.offset, finished)
        return replace(snapshot, marks=marks) if marks else snapshot

    def beyond_metadata(
        self, finished: Mapping[TopicPartition, Collection[int]]
    ) -> dict[TopicPartition, set[int]]:
        """Return those of `finished` that no note could tell of; see `PartitionLedger`."""
        beyond = {tp: self.ledger(tp).beyond_metadata(done) for tp, done in finished.items()}
        return {tp: set(offsets) for tp, offsets in beyond.items() if offsets}

    def close_starts(self, tps: Iterable[TopicPartition] | None = None) -> None:
        """Let nothing start any more; the next commit takes back what was allowed.

        Without `tps` that holds for what will be assigned yet, too.
        """
        self._closed = self._closed or tps is None
        for tp in self._held.keys() if tps is None else tps:
            if tp in self._held:
                self._held[tp].ledger.starts.close()

    def owns(self, tp: TopicPartition) -> bool:
        """Say whether the partition is held now."""
        return tp in self._held

    def holds(self, polled: PolledRecord) -> bool:
        """Say whether the assignment under which `polled` came is still the one that holds."""
        held = self._held.get(polled.tp)
        return held is not None and held.ledger.epoch == polled.epoch

    def keeps(self, polled: PolledRecord) -> bool:
        """Say whether that assignment holds, or may come to hold again: its partition is away.

        For any thread.
        """
        return self.keeps_epoch(polled.tp, polled.epoch)

    def keeps_epoch(self, tp: TopicPartition, epoch: int) -> bool:
        """Say the same of a partition and an epoch."""
        # In this order, and once more: a partition that comes back meanwhile is found, too.
        kept = self._held.get(tp) or self._suspended.get(tp) or self._held.get(tp)
        return kept is not None and kept.ledger.epoch == epoch

    def epochs(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the current epochs of those that are held."""
        return {tp: self._held[tp].ledger.epoch for tp in tps if tp in self._held}

    def expect(self, tps: Iterable[TopicPartition], *, seek: bool = False) -> None:
        """Let nothing start before the group's committed offset is read."""
        for tp in tps:
            if tp in self._held:
                self._forget(tp)
            self._expected[tp] = seek
        self._read_at = 0.0

    def expects(self, tps: Iterable[TopicPartition]) -> bool:
        """Say whether one of them is assigned, and its committed offset not read yet."""
        return any(tp in self._expected for tp in tps)

    def suspend(self, tps: Iterable[TopicPartition]) -> None:
        """Put partitions aside that are between two assignments; they may come back to us."""
        for tp in tps:
            self._expected.pop(tp, None)
            self._believe_again(tp)
            held = self._held.get(tp)
            if held is not None:
                # Where it ends when it comes back, the client tells anew.
                held.end = 0
                held.suspended_at = self._clock.monotonic()
                self._suspended[tp] = held
                self._weigh(held.unsettled, 0)
                self._to_look_at.add(tp)
                # Last: other threads are to find it here or there. [P4]
                del self._held[tp]
                log.info("partition.away", topic=tp.topic, partition=tp.partition)

    def revoke_others(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Forget what is away and not among `tps`, which are all of ours; return the epochs."""
        return self.lose(self._suspended.keys() - set(tps))

    def suspended_too_long(self) -> dict[TopicPartition, int]:
        """Forget what is away for longer than a session lasts; return the epochs."""
        before = self._clock.monotonic() - self._session_timeout_s
        # What is expected is ours again, however long its committed offset is not to be had. [P1]
        suspended = {
            tp: self._suspended[tp] for tp in self._suspended.keys() - self._expected.keys()
        }
        return self.lose([tp for tp, held in suspended.items() if held.suspended_at < before])

    def find_forgotten(self, kafka: Log) -> None:
        """Expect what the client was assigned and nobody here knows of. [P1].

        There is no such partition as long as all is right here; it would be silent for ever.
        """
        now = self._clock.monotonic()
        if now < self._compare_at:
            return
        self._compare_at = now + _COMPARE_EVERY_S
        known = self._held.keys() | self._expected.keys()
        forgotten = [tp for tp in kafka.assignment() if tp not in known]
        if forgotten:
            log.error(
                "partition.forgotten",
                partitions=[f"{topic}/{number}" for topic, number in forgotten],
            )
            self.expect(forgotten, seek=True)

    def lose(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Forget partitions that are ours no longer; return the epochs of those that were."""
        lost = {}
        for tp in tps:
            self._expected.pop(tp, None)
            self._believe_again(tp)
            held = self._held.get(tp) or self._suspended.get(tp)
            if held is not None:
                lost[tp] = held.ledger.epoch
            self._forget(tp)
            log.info("partition.gone", topic=tp.topic, partition=tp.partition)
        return lost

    def give_up_after_poll_gap(self, gap_s: float) -> dict[TopicPartition, int]:
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
            of_group = {tp for tp, one in found.items() if one.offset is not None}
            logs = self._logs(kafka, found)
            marks = {p: self._marks(p, one, logs[p.topic]) for p, one in found.items()}
            found = {p: self._still_there(p, one, logs[p.topic]) for p, one in found.items()}
            all_metadata = {p: self._metadata(p, one, logs[p.topic]) for p, one in found.items()}
        except KafkaException as error:
            if error.args[0].code() == KafkaError.FENCED_INSTANCE_ID:
                raise FencedError("another worker with this worker.id has joined") from error
            self._read_again(error)
            return Opened()
        waits = self._in_doubt(
            {
                p: metadata
                for p, metadata in all_metadata.items()
                if metadata and self._is_cut(metadata)
            }
        )
        early = {p: self._suspended[p].ledger.epoch for p in waits if p in self._suspended}
        for tp in early:
            self._forget(tp)
        ends = self._ends(kafka, found, all_metadata)
        found = {tp: one for tp, one in found.items() if tp in ends.keys() - waits}
        for tp, one in found.items():
            found[tp], all_metadata[tp] = self._up_to(tp, one, all_metadata[tp], ends[tp])
        self.opened += len(found)
        back = [tp for tp, one in found.items() if self._is_resumed(tp, all_metadata[tp], one)]
        lost = early | {
            tp: self._suspended[tp].ledger.epoch for tp in found if tp in self._suspended
        }
        for tp, committed in found.items():
            must_seek = self._expected[tp] or (tp in of_group and not assigning)
            if must_seek and not kafka.seek(tp, _start(committed)):
                self._read_again("the client has not begun with the partition")
                continue
            end = ends[tp]
            self._open(tp, committed, all_metadata[tp], logs[tp.topic], marks[tp], end=end or 0)
            self._believe_again(tp)
            del self._expected[tp]
        # Where the group has committed nothing, the client begins as it was set up to.
        offsets = {tp: _start(one) for tp, one in found.items() if tp in of_group}
        read = [all_metadata[tp] for tp in found]
        told = [
            metadata
            for metadata in read
            if metadata and metadata.rests and not self._is_ours(metadata)
        ]
        if len(found) == len(all_metadata):
            self._doubts.keep(())
        return Opened(lost, back, offsets, told)

    def _ends(
        self,
        kafka: Log,
        found: Mapping[TopicPartition, Committed],
        all_metadata: Mapping[TopicPartition, CommitMetadata | None],
    ) -> dict[TopicPartition, int | None]:
        """Return where partitions end, which is to be known of those that a death has left.

        Of these, those whose end is not told are missing: what may have run there is not known yet.
        """
        left = {tp for tp, metadata in all_metadata.items() if self._is_cut(metadata)}
        asked = [tp for tp, one in found.items() if one.offset is not None]
        ends: dict[TopicPartition, int | None] = dict.fromkeys(all_metadata.keys() - left)
        try:
            ends |= kafka.ends(asked, timeout_s=_READ_S) if asked else {}
        except KafkaException as error:
            self._read_again(error)
            return ends
        if len(ends) < len(all_metadata):
            self._read_again("a partition has no leader")
        return ends

    def _up_to(
        self,
        tp: TopicPartition,
        committed: Committed,
        metadata: CommitMetadata | None,
        end: int | None,
    ) -> tuple[Committed, CommitMetadata | None]:
        """Return what is left of a commit beyond the end of its log. [P1].

        A client that fetches there is sent to the beginning, and all would be run again.
        """
        if end is None or committed.offset is None or committed.offset <= end:
            return committed, metadata
        if committed.leader_epoch is None:
            # Where the log was cut back cannot be told: all that it holds is read. [P1]
            return committed, metadata
        log.error(
            "partition.log_cut_back",
            topic=tp.topic,
            partition=tp.partition,
            end=end,
            read_to=committed.offset,
        )
        return Committed(end, None, committed.leader_epoch), None

    def _read_again(self, error: object) -> None:
        times = REPEATS.to_log("partition.waiting_for_offsets", error)
        if times is not None:
            log.warning("partition.waiting_for_offsets", error=str(error), **times)
        self._read_at = self._clock.monotonic() + _READ_AGAIN_S

    def _in_doubt(self, cut: Mapping[TopicPartition, CommitMetadata]) -> set[TopicPartition]:
        """Return those whose last owner may be alive: not opened, nor signed, before it is known.

        So whoever they go to next, and the owner itself, finds them as they were left.
        """
        if self._members is None or not cut:
            return set()
        now = self._clock.monotonic()
        asked = {
            tp: metadata.incarnation
            for tp, metadata in cut.items()
            if not self._is_earlier_life(metadata)
        }
        for incarnation in asked.values():
            self._doubts.fate(incarnation, now)
        said = self._members.ask(self._doubts.open)
        if said is not None:
            self._doubts.heard(*said)
        waits = {
            tp
            for tp, incarnation in asked.items()
            if self._doubts.fate(incarnation, now) is Fate.OPEN
        }
        if waits:
            self._read_at = now + _ASK_AGAIN_S
        return waits

    def _is_earlier_life(self, metadata: CommitMetadata) -> bool:
        """Say whether an earlier life of this worker wrote it: that one is over for sure."""
        return (
            self._is_static_member
            and metadata.incarnation >> _INSTANCE_BITS == self.incarnation >> _INSTANCE_BITS
        )

    def _logs(self, kafka: Log, tps: Iterable[TopicPartition]) -> dict[str, LogIdentity]:
        ids = kafka.topic_ids({tp.topic for tp in tps}, timeout_s=_READ_S)
        return {topic: LogIdentity.of(self._cluster, topic_id) for topic, topic_id in ids.items()}

    def _still_there(
        self, tp: TopicPartition, committed: Committed, identity: LogIdentity
    ) -> Committed:
        """Return what is left of a commit whose log is gone, or was cut back. [P1]."""
        metadata, end = decode(committed.metadata), self._cut.get(tp)
        if tp in self._anew or (
            metadata and metadata.is_of_a_log_before(committed.offset, identity)
        ):
            if tp not in self._anew:
                self._tell_anew(tp, unsettled=None)
            return _NOTHING
        if end is not None and committed.offset is not None and committed.offset > end:
            return Committed(end, None, committed.leader_epoch)
        return committed

    def _metadata(
        self, tp: TopicPartition, committed: Committed, identity: LogIdentity
    ) -> CommitMetadata | None:
        metadata, end = _metadata(tp, committed, identity), self._cut.get(tp)
        if metadata is None or end is None or committed.offset is None:
            return metadata
        return metadata.until(end - committed.offset)

    def _marks(
        self, tp: TopicPartition, committed: Committed, identity: LogIdentity
    ) -> Mapping[int, int] | None:
        """Return the marks of what was answered lately; None where the commit is of others.

        An offset that was set by hand, or copied, may mean that all is to be answered again.
        """
        metadata = decode(committed.metadata)
        if metadata is None:
            return {} if tp in self._anew else None
        is_here = metadata.foreign_to(committed.offset, identity) is None
        if is_here or metadata.is_of_a_log_before(committed.offset, identity):
            return metadata.marks
        return None

    def _is_resumed(
        self, tp: TopicPartition, metadata: CommitMetadata | None, committed: Committed
    ) -> bool:
        """Take a partition back that nobody had meanwhile: whoever starts there signs first."""
        if tp not in self._suspended or not self._is_ours(metadata):
            return False
        held = self._held[tp] = self._suspended[tp]
        held.next = committed.offset or 0
        del self._suspended[tp]
        self._weigh(0, held.unsettled)
        self._changed(tp)
        if not self._closed:
            held.ledger.starts.reopen()
        log.info("partition.back", topic=tp.topic, partition=tp.partition)
        return True

    def _is_ours(self, metadata: CommitMetadata | None) -> bool:
        return metadata is not None and metadata.incarnation == self.incarnation

    def _is_cut(self, metadata: CommitMetadata | None) -> bool:
        """Say whether the note was left by a process that died, or was lost to us, at its work."""
        if metadata is None or self._is_ours(metadata):
            return False
        return metadata.reserved > 0 or any(entry.started for entry in metadata.entries.values())

    def _open(
        self,
        tp: TopicPartition,
        committed: Committed,
        metadata: CommitMetadata | None,
        identity: LogIdentity,
        marks: Mapping[int, int] | None,
        *,
        end: int,
    ) -> None:
        if tp in self._held:
            return
        self._forget(tp)
        history: dict[int, OffsetEntry] = {}
        left = self._left.pop(tp, None)
        if self._is_ours(metadata):
            # Nobody had it meanwhile: what ended its runs was not a death.
            history = left.carried() if left else {}
        elif metadata is not None and committed.offset is not None:
            lives = self._doubts.is_living(metadata.incarnation)
            if lives:
                log.info(
                    "partition.owner_lives",
                    topic=tp.topic,
                    partition=tp.partition,
                )
            history = history_after_death(
                metadata,
                committed.offset,
                end=end,
                now=self._clock.now().timestamp(),
                died=not lives,
            )
            self._metrics.crashes.add(by=crashes_since(metadata, committed.offset, history))
        epoch = self._epochs[tp] = self._epochs.get(tp, 0) + 1
        ledger = PartitionLedger(
            epoch=epoch,
            committed=committed.offset,
            metadata=metadata,
            history=history,
            log=identity,
            room=self.room,
            tell=partial(self._told.append, tp),
        )
        if self._closed:
            ledger.starts.close()
        self._topics.add(tp.topic)
        self._held[tp] = _Held(
            ledger,
            self._buffer.share(),
            next=committed.offset or 0,
            committed=committed,
            leader_epoch=committed.leader_epoch,
            lately=self._lately.setdefault(tp, Lately()),
        )
        if marks is None:
            self._lately[tp].forget()
        self._lately[tp].opened(marks or {}, ledger.is_settled)
        if committed.leader_epoch is not None:
            self._unchecked.add(tp)
        self._news[tp] = None
        self._changed(tp)
        if ledger.starts.suspects:
            self._with_suspects.add(tp)
        log.info(
            "partition.assigned",
            topic=tp.topic,
            partition=tp.partition,
            epoch=ledger.epoch,
            offset=committed.offset,
            finished_past=metadata.finished.bit_count() if metadata else 0,
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

    def take(self, records: Sequence[ConsumerRecord]) -> list[PolledRecord]:
        """Take records in; return those that may start now."""
        polled_records: list[PolledRecord] = []
        taken: set[TopicPartition] = set()
        self._taken_at = self._clock.monotonic()
        for record in records:
            held = self._held.get(record.tp)
            if held is None or not self._is_log_we_read(held, record):
                continue
            # What comes back is fetched anew from the committed offset on.
            if record.offset < held.seen:
                continue
            taken.add(record.tp)
            held.seen = record.offset + 1
            held.share.take(record.offset, event_bytes(record))
            if held.outside or not held.ledger.has_room(record.offset):
                held.outside.append(record)
            else:
                self._receive(held, record, polled_records)
        for tp in taken:
            self._count(tp)
            self._crowded = self._crowded or self._held[tp].lately.is_crowded
        return polled_records

    def reached_end(self, ends: Mapping[TopicPartition, int]) -> None:
        """Take note of where logs end: the client has come there, and told all records before.

        Behind the last record may lie the ends of transactions, and what was aborted. A lag by
        offsets counts them for as long as no commit passes them. [P14]
        """
        for tp, end in ends.items():
            held = self._held.get(tp)
            if held is None or tp in self._cut or tp in self._unchecked or end < held.next:
                continue  # it is read again, and its end is told again
            if held.leader_epoch is None:
                continue  # nobody could tell later that the log was cut back before it
            # What is written there once the log was cut back is not taken for what we have passed.
            held.next, held.seen, held.end = end, max(held.seen, end), end
            self._count(tp)

    def _reach_end(self, tp: TopicPartition, held: _Held) -> None:
        if held.outside or tp in self._cut or not held.ledger.reach(held.end):
            return
        held.end = 0
        if not held.ledger.starts.suspects:
            self._with_suspects.discard(tp)

    def _is_log_we_read(self, held: _Held, record: ConsumerRecord) -> bool:
        """Say whether a record is of the log that was read so far; note what speaks against it.

        Each new leader raises the epoch, so whatever was written after a log was cut back bears a
        newer one than all that was read before. [P1, P3]
        """
        if record.tp in self._cut or record.tp in self._unchecked:
            return False  # it is read again from there, or once the client has checked
        committed, epoch = held.committed, record.leader_epoch
        before = record.offset < (committed.offset or 0)
        known = committed.leader_epoch if before else held.leader_epoch
        is_newer = known is not None and epoch is not None and epoch > known
        read_to = max(held.seen, held.ledger.committable or 0)
        if record.offset < held.next or (is_newer and record.offset < read_to):
            if is_newer or known is None or epoch is None:
                self._cut[record.tp] = record.offset
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

    def check_logs(self, kafka: Log) -> dict[TopicPartition, int]:
        """Give up what is held of a log that is gone, or that was cut back; return the epochs.

        It is read again from where the log goes on; what its runs come to is not settled. [P1]
        """
        found = kafka.changed_ids(self._topics, within_s=self._ask_ids_within_s())
        self._doubtful = False
        if found.ids:
            self._ids_as_of, self._crowded = found.as_of, False
        gone = [tp for tp in self._held if found.ids and self._is_gone(tp, found)]
        for tp in gone:
            held = self._held[tp]
            self._anew.add(tp)
            self._tell_anew(tp, unsettled=held.ledger.unsettled)
        cut = [tp for tp in self._cut if tp in self._held and tp not in gone]
        for tp in cut:
            held = self._held[tp]
            log.error(
                "partition.log_cut_back",
                topic=tp.topic,
                partition=tp.partition,
                end=self._cut[tp],
                read_to=held.next,
            )
        self._check_epochs(kafka)
        lost = self.epochs([*gone, *cut])
        if lost:
            self.expect(lost, seek=True)
        for tp in lost:
            # What is known of attempts is of records that are gone.
            self._left[tp].forget(from_=self._cut.get(tp, 0) if tp in cut else 0)
        return lost

    def _ask_ids_within_s(self) -> float:
        """Say how soon the ids of topics are to be asked for: an idle worker is in no hurry."""
        if self._doubtful:
            return 0.0
        if self._taken_at <= self._ids_as_of:
            return math.inf
        return _ASK_IDS_SOON_S if self._crowded else _ASK_IDS_S

    def _is_gone(self, tp: TopicPartition, found: IdsAsOf) -> bool:
        held = self._held[tp]
        known, now = held.ledger.log.topic_id, found.ids.get(tp.topic)
        if known and known == now:
            held.lately.is_known(found.as_of)
        return bool(known and now and known != now)

    def _check_epochs(self, kafka: Log) -> None:
        """Have the client ask whether the log still holds all that is committed.

        It does so by itself where it has read, and not where a partition was assigned.
        """
        for tp in list(self._unchecked):
            held = self._held.get(tp)
            at = None if held is None else held.committed.offset
            if held is None or at is None or tp in self._cut:
                self._unchecked.discard(tp)
            elif kafka.seek(tp, at, leader_epoch=held.committed.leader_epoch):
                held.next = at
                self._unchecked.discard(tp)

    def _believe_again(self, tp: TopicPartition) -> None:
        self._anew.discard(tp)
        self._cut.pop(tp, None)

    def _tell_anew(self, tp: TopicPartition, *, unsettled: int | None) -> None:
        log.error(
            "partition.log_began_anew",
            topic=tp.topic,
            partition=tp.partition,
            unsettled=unsettled,
        )

    def leader_epoch(self, tp: TopicPartition) -> int | None:
        """Return the newest leader epoch that was read of a partition that is held."""
        return self._held[tp].leader_epoch

    def refill(self, kafka: Log) -> list[PolledRecord]:
        """Let in what waited outside the window; pause and resume by how full each partition is."""
        polled_records: list[PolledRecord] = []
        to_pause, to_resume = list[TopicPartition](), list[TopicPartition]()
        for tp in (self._to_refill | self._short) & self._held.keys():
            held = self._held[tp]
            while held.outside and held.ledger.has_room(held.outside[0].offset):
                self._receive(held, held.outside.popleft(), polled_records)
                self._count(tp)
            taken = held.unsettled + len(held.outside)
            has_memory = held.share.may_fetch(again=tp in self._paused)
            if has_memory:
                self._short.discard(tp)
            else:
                self._short.add(tp)
            if taken >= HIGH or held.outside or not has_memory:
                to_pause.append(tp)
            elif taken <= LOW:
                to_resume.append(tp)
        self._to_refill.clear()
        self._pause(kafka, to_pause)
        self._resume(kafka, to_resume)
        return polled_records

    def look(self) -> None:
        """Note how everything stands, now and then, for whoever asks on another thread."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        for tp in self._to_look_at:
            held = self._held.get(tp)
            if held is None:
                self._seen.pop(tp, None)
            else:
                self._seen[tp] = _seen(tp, held, now)
        self._to_look_at.clear()
        self.status = PartitionsStatus(
            tuple(self._seen.values()),
            self._unsettled,
            self._buffer.size_bytes,
            self._buffer.let_go,
            suspended=len(self._suspended),
            paused=sum(tp in self._held for tp in self._paused),
            unchecked=len(self._unchecked),
        )

    def settle(self, finished: Mapping[TopicPartition, Collection[int]]) -> None:
        """Mark offsets of held partitions as settled."""
        for tp, offsets in finished.items():
            held = self._kept(tp)
            held.ledger.settle(offsets)
            held.lately.settled(offsets)
            held.share.drop(offsets)
            self._count(tp)
            if not held.ledger.starts.suspects:
                self._with_suspects.discard(tp)

    def settled_late(self, polled: PolledRecord) -> None:
        """Take note of what is stored, and whose assignment is over: its log may be a new one.

        At least once there is no note of ours that was stored with it.
        """
        if (lately := self._lately.get(polled.tp)) is not None:
            lately.settled_late(polled.record)

    def committed(self, tps: Iterable[TopicPartition], *, stored: bool) -> None:
        """Say of held partitions whether the note that was sent last is durable."""
        for tp in tps:
            starts = self._kept(tp).ledger.starts
            if stored:
                starts.stored()
            else:
                starts.refused()

    def _count(self, tp: TopicPartition) -> None:
        """Take note that something of a partition was received or settled."""
        held = self._kept(tp)
        if held.end:
            self._reach_end(tp, held)
        before, held.unsettled = held.unsettled, held.ledger.unsettled
        if tp in self._held:
            self._weigh(before, held.unsettled)
            self._changed(tp)

    def _weigh(self, before: int, now: int) -> None:
        """Count what a partition that is held has unsettled, as it changes."""
        self._unsettled += now - before
        self.busy += bool(now) - bool(before)

    def _changed(self, tp: TopicPartition) -> None:
        self._to_refill.add(tp)
        self._to_look_at.add(tp)

    def _pause(self, kafka: Log, tps: Iterable[TopicPartition]) -> None:
        flowing = set(tps) - self._paused
        if flowing:
            self._paused |= flowing
            kafka.pause(flowing)

    def _resume(self, kafka: Log, tps: Iterable[TopicPartition]) -> None:
        paused = self._paused.intersection(tps)
        if paused:
            self._paused -= paused
            kafka.resume(paused)

    def _receive(
        self, held: _Held, record: ConsumerRecord, polled_records: list[PolledRecord]
    ) -> None:
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
            polled_records.append(PolledRecord(record, held.ledger.epoch, starts, held.share))
        else:
            held.share.drop([record.offset])
        if starts_there:
            self._news[record.tp] = None

    def _kept(self, tp: TopicPartition) -> _Held:
        return self._held.get(tp) or self._suspended[tp]

    def _forget(self, tp: TopicPartition) -> None:
        self._unchecked.discard(tp)
        if tp in self._held:
            self._weigh(self._held[tp].unsettled, 0)
        held = self._held.pop(tp, None) or self._suspended.pop(tp, None)
        if held is not None:
            held.ledger.starts.close()
            self._left[tp] = held.ledger.starts
            held.share.close()
            self._with_suspects.discard(tp)
            self._to_look_at.add(tp)
            self._short.discard(tp)


def _start(committed: Committed) -> int:
    return OFFSET_BEGINNING if committed.offset is None else committed.offset


def _metadata(
    tp: TopicPartition, committed: Committed, identity: LogIdentity
) -> CommitMetadata | None:
    """Read a commit's note, and pass by one that was copied from another commit. [P3]."""
    metadata = decode(committed.metadata)
    if metadata is None or (foreign := metadata.foreign_to(committed.offset, identity)) is None:
        return metadata
    log.warning(
        "partition.note_of_another_commit",
        topic=tp.topic,
        partition=tp.partition,
        offset=committed.offset,
        note_offset=metadata.offset,
        differs=foreign.value,
    )
    return None


def _seen(tp: TopicPartition, held: _Held, now: float) -> PartitionStatus:
    lowest = held.ledger.lowest_unsettled
    if lowest != held.lowest:
        held.lowest, held.since = lowest, now
    return PartitionStatus(
        tp, lowest, held.since, held.ledger.window_used, outside=len(held.outside)
    )
