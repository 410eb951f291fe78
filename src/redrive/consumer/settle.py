"""Settling: the poll thread's listener, which owns the ledgers and says what goes into a batch.

In one step it drops outcomes of an assignment that is over, takes offsets, notes and the group's
metadata, and hands that snapshot to the settle thread; nothing else is ever sent. What a batch came
to decides what happens next: stored, refused (settle again), or in doubt (read back first). [P2]
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.clock import Clock
from redrive.consumer.apart import Apart, Obstacle, ObstacleCause
from redrive.consumer.batch_limits import BatchLimits
from redrive.consumer.commit_size import TOO_LARGE, CommitSize, commit_bytes, in_turns
from redrive.consumer.outcome import NotTaken, Outcome, PolledRecord
from redrive.consumer.overdue import Overdue
from redrive.consumer.partitions import Partitions
from redrive.consumer.sides import Downstream, SettleQueue
from redrive.consumer.waiting import PendingOutcomes
from redrive.consumer.waits import Amount, Wait
from redrive.errors import FencedError
from redrive.kafka.batches import (
    Batch,
    InDoubt,
    ProducerRecord,
    RefusedBatch,
    Report,
    Stopped,
    Stored,
    Tried,
)
from redrive.kafka.log import ConsumerRecord, Log, TopicPartition
from redrive.kafka.retrying import is_of_broker
from redrive.kafka.sending import RECORD_ERRORS, SIZE_ERRORS, TOPIC_ERRORS, target
from redrive.state.commit_metadata import (
    MIN_METADATA_CHARS,
    CommitMetadata,
    StoredRest,
    decode,
    encode,
)
from redrive.telemetry.metrics import Metrics
from redrive.telemetry.repeats import REPEATS

__all__ = ["Settler"]

log = structlog.get_logger("redrive.consumer")

_FLUSH_S = 5.0
_READ_BACK_S = 2.0
_READ_AGAIN_S = 0.5
_SEND_AGAIN_S = 0.05
_SILENT_TIMES = 2
_BUSY_WAIT_S = 0.004
_IDLE_WAIT_S = 0.1


@dataclass(slots=True)
class _Sent:
    batch: Batch
    outcomes: list[Outcome]
    owners: list[Outcome]
    epochs: dict[TopicPartition, int]
    at: float


@dataclass(frozen=True, slots=True)
class _Trial:
    number: int
    tried: list[tuple[Obstacle, Outcome]]
    owners: list[int]
    size_bytes: int


class Settler:
    """Ledgers, outcomes and batches of one worker.

    `finish` and `report` may be called from any thread; the rest belongs to the poll thread.

    Args:
        queue: The settle thread.
        downstream: Who runs events.
        partitions: The ledgers, and what may be fetched.
        incarnation: A random number that signs this worker's commits.
        transactional: Whether offsets travel in the batch (exactly once).
        clock: For waits and limits.
        incremental: Whether a partition that goes is another's (KIP-848), or may be dealt to us
            again.
        overdue: Told of letters, until they are durable; by default nobody is.
        metrics: Where batches and rebalances are counted.
    """

    def __init__(  # noqa: PLR0913 - what a settler knows, each by its name
        self,
        queue: SettleQueue,
        downstream: Downstream,
        partitions: Partitions,
        *,
        incarnation: int,
        transactional: bool,
        clock: Clock,
        incremental: bool = False,
        overdue: Overdue | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._queue = queue
        self._downstream = downstream
        self._partitions = partitions
        self._incarnation = incarnation
        self._transactional = transactional
        self._clock = clock
        self._incremental = incremental
        self._overdue = overdue
        self._metrics = metrics or Metrics()
        self.is_member = False
        """Whether the group has said which partitions are ours; may be read from any thread."""
        self._inbox: deque[Outcome] = deque()
        self._reports: deque[Report] = deque()
        self.limits = BatchLimits()
        self.apart = Apart(holds=partitions.holds, keeps=partitions.keeps, clock=clock)
        self._waiting = PendingOutcomes(
            holds=partitions.holds, keeps=partitions.keeps, apart=self.apart
        )
        self._trial: _Trial | None = None
        self._trials = 0
        self._silent = 0
        self._uncommitted: dict[TopicPartition, None] = {}
        # With the offsets that were sent, and the epoch.
        self._committing: dict[TopicPartition, tuple[int, KafkaTopicPartition]] = {}
        self._sent: _Sent | None = None
        self._doubt = False
        self._quiet = True
        self._releasing = False
        self.owes: str | None = None
        """What is to be settled and waits for nothing else, in words; for any thread."""
        self.moves = 0
        """Changes when something is settled, or not for a reason of the broker's; for any thread.

        What neither moves nor says why is ended by `redrive.consumer.progress_watch`. [P1]
        """
        self._to_commit = 0
        self._next_try = 0.0
        self._number = 0
        self._commit_size = CommitSize()
        self._room = partitions.room
        self._rests: tuple[StoredRest, ...] = ()

    def finish(self, outcome: Outcome) -> None:
        """Let an outcome be settled with the next batch."""
        self._inbox.append(outcome)

    def report(self, report: Report) -> None:
        """Take what came of a batch."""
        self._reports.append(report)

    def remember(self, rests: Sequence[StoredRest]) -> None:
        """Note these rests with each commit from now on; may be called from any thread."""
        self._rests = tuple(rests)

    def release(self) -> None:
        """Let nothing start any more, and take back what may have; may be called by any thread."""
        self._releasing = True

    @property
    def idle(self) -> bool:
        """True when nothing waits to be settled; may be read from any thread."""
        return not self._inbox and not self._releasing and self._quiet

    @property
    def waiting(self) -> int:
        """How many outcomes are not durable yet; may be read from any thread."""
        sent = self._sent
        under_way = 0 if sent is None else len(sent.outcomes)
        return len(self._inbox) + len(self._waiting) + under_way

    def counted(self) -> dict[Wait, Amount]:
        """Return what waits to be settled, and for what; may be called from any thread."""
        sent, line = self._sent, len(self._inbox) + self._waiting.line
        under_way = 0 if sent is None else len(sent.outcomes)
        doubt = under_way if self._doubt else 0
        apart = Counter[Wait]()
        for seen in self.apart.status:
            apart[Wait(seen.cause.value)] += seen.waiting
        return {
            Wait.BATCH: Amount(line + under_way - doubt, self.moves),
            Wait.DOUBT: Amount(doubt),
            Wait.COMMIT: Amount(self._to_commit, self.moves),
            **{wait: Amount(count) for wait, count in apart.items()},
        }

    def assigned(self, kafka: Log, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Learn what the group has committed before anything of these partitions starts."""
        self.is_member = True
        self._metrics.rebalances.add("assigned")
        self._give_up(self._partitions.revoke_others(tps))
        self._partitions.expect(tps)
        return self._read_committed(kafka, assigning=True)

    def fetching(self, kafka: Log) -> None:
        """Fetch nothing of what may not start yet."""
        self._partitions.hold_back(kafka)

    def revoked(self, kafka: Log, tps: Sequence[TopicPartition], *, lost: bool) -> None:
        """Settle what has finished, if there is still time, and part from these partitions.

        Their runs go on for as long as they may come back to us; they can store nothing meanwhile.
        """
        self.is_member = self._incremental and not lost
        self._metrics.rebalances.add("lost" if lost else "revoked")
        if lost:
            self._give_up(self._partitions.lose(tps))
        else:
            self._downstream.suspend(self._partitions.epochs(tps))
            # Whoever gets them is not to suspect what we give up: that is no death. [P5]
            self._partitions.close_starts(tps)
            self._flush(kafka)
            if self._incremental:
                self._give_up(self._partitions.lose(tps))
            else:
                self._partitions.suspend(tps)
        for tp in tps:
            self._committing.pop(tp, None)
            self._uncommitted.pop(tp, None)

    def joins_anew(self, *, fenced: bool) -> None:
        """Begin anew with a new consumer, which holds nothing and has paused nothing. [P1].

        Who was fenced opens a new producer as well: a fence takes both, and is told once. What the
        old one had under way is the next owner's, who reads what is committed: maybe we ourselves.
        """
        self._partitions.resumed_all()
        if fenced:
            self._queue.renew()
            if self._sent is not None:
                number = self._sent.batch.number
                self._refused(self._sent, RefusedBatch(number, "the worker joins its group anew"))

    def received(self, records: Sequence[ConsumerRecord]) -> None:
        """Hand on what may start."""
        self._deliver(self._partitions.take(records))

    def reached_end(self, ends: Mapping[TopicPartition, int]) -> None:
        """Commit up to the ends of partitions, once all that lies before is settled."""
        self._partitions.reached_end(ends)

    def commit_ended(self, tps: Sequence[TopicPartition], error: KafkaError | None) -> None:
        """Take what came of offsets that were sent; what failed is sent with the next turn."""
        sent = {p: self._committing.pop(p) for p in tps if p in self._committing}
        offsets = [part for _, part in sent.values()]
        ours = self._still_kept({tp: epoch for tp, (epoch, _) in sent.items()})
        self._partitions.committed(ours, stored=error is None)
        if error is None:
            self.moves += 1
            self._committed(offsets)
            self._downstream.settled(())
            return
        self._moved(error)
        self._make_smaller(offsets, error)
        self._uncommitted.update(dict.fromkeys(ours))
        self._next_try = self._clock.monotonic() + _READ_AGAIN_S
        log.warning("settle.commit_failed", error=str(error), partitions=len(tps))

    def turn(self, kafka: Log, *, gap_s: float) -> float:
        """Move everything that can move; return how long the poll may wait, in seconds."""
        self._give_up(self._partitions.give_up_after_poll_gap(gap_s))
        self._give_up(self._partitions.suspended_too_long())
        self._partitions.find_forgotten(kafka)
        self._give_up(self._partitions.check_logs(kafka))
        # What is under way may yet be committed, under the generation that we still have.
        if self._sent is None or not self._partitions.expects(self._sent.epochs):
            self._read_committed(kafka)
        self._queue.watch()
        self._advance(kafka)
        if self._overdue is not None:
            self._overdue.look(self._partitions.keeps)
        self._deliver(self._partitions.refill(kafka))
        self._partitions.look()
        return _IDLE_WAIT_S if self.idle and not self._partitions.unsettled else _BUSY_WAIT_S

    def _read_committed(
        self, kafka: Log, *, assigning: bool = False
    ) -> Mapping[TopicPartition, int]:
        opened = self._partitions.read_committed(kafka, assigning=assigning)
        self._give_up(opened.lost)
        if opened.all_metadata:
            self._downstream.recall(opened.all_metadata)
        if opened.back:
            self._waiting.resume(opened.back)
            self._downstream.resume(opened.back)
        return opened.offsets

    def _give_up(self, lost: Mapping[TopicPartition, int]) -> None:
        """End the runs of partitions that are another worker's, or may be. [P2]."""
        if lost:
            self._waiting.resume(lost)
            self._downstream.revoke(lost)

    def _deliver(self, polled_records: list[PolledRecord]) -> None:
        if polled_records:
            self._downstream.deliver(polled_records)

    def _flush(self, kafka: Log) -> None:
        deadline = self._clock.monotonic() + _FLUSH_S
        while self._can_move() and self._clock.monotonic() < deadline:
            self._queue.watch()
            self._advance(kafka)
            self._clock.block(0.002)

    def _can_move(self) -> bool:
        """Say whether waiting here helps: what commits came to is told only after a rebalance."""
        commits = {*self._uncommitted, *self._partitions.news()} - self._committing.keys()
        return bool(self._inbox or self._waiting.has_next or self._sent or commits)

    def _advance(self, kafka: Log) -> None:
        if self._releasing:
            self._partitions.close_starts()
            self._quiet = self._releasing = False
        while self._reports:
            self._take_report(self._reports.popleft(), kafka)
        if self._inbox:
            # First, so that no reader of `idle` sees neither the full inbox nor this.
            self._quiet = False
        while self._inbox:
            self._wait(self._inbox.popleft())
        now = self._clock.monotonic()
        if self._doubt and now >= self._next_try:
            self._read_back(kafka)
        if self._sent is None and now >= self._next_try:
            self._send(kafka)
            self._commit_again(kafka)
        self._try_apart()
        self.apart.look()
        open_ = self._waiting or self._sent or self._uncommitted or self._committing
        news = self._partitions.news()
        self._to_commit = len({*news, *self._uncommitted, *self._committing})
        self._quiet = not (open_ or news)
        self.owes = self._owed(news)

    def _owed(self, news: Collection[TopicPartition]) -> str | None:
        if self._sent is not None:
            batch = f"batch {self._sent.batch.number} of {len(self._sent.outcomes)} outcomes"
            return f"{batch}, in doubt, to be read back" if self._doubt else f"{batch} to be stored"
        if self._waiting.has_next:
            return f"{len(self._waiting)} outcomes to be sent"
        if self._committing or self._uncommitted or news:
            tps = {*self._committing, *self._uncommitted, *news}
            return f"the offsets of {len(tps)} partitions to be committed"
        return None

    def _wait(self, outcome: Outcome) -> None:
        self._waiting.put(outcome)
        if self._overdue is not None:
            self._overdue.waits(outcome)

    def _send(self, kafka: Log) -> None:
        outcomes = self._told_of(self._waiting.take(self.limits.max_bytes))
        finished = _by_partition(outcomes)
        news = self._partitions.news() if self._transactional else []
        if not outcomes and not news:
            return
        self._number += 1
        offsets: dict[TopicPartition, KafkaTopicPartition] = {}
        if self._transactional:
            offsets = self._offsets(in_turns(finished, news), finished)
            outcomes = self._put_back_others(outcomes, offsets)
        owners = [outcome for outcome in outcomes for _ in outcome.records]
        batch = Batch(
            number=self._number,
            records=tuple(record for outcome in outcomes for record in outcome.records),
            offsets=tuple(offsets.values()),
            group=kafka.group() if self._transactional else None,
            allowed_s=self.limits.allowed_s(sum(outcome.size_bytes for outcome in outcomes)),
        )
        now = self._clock.monotonic()
        self._sent = _Sent(batch, outcomes, owners, self._partitions.epochs(offsets), now)
        self._queue.submit(batch)

    def _told_of(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Let outcomes wait that no note could tell of; return the others. [P3]."""
        beyond = self._partitions.beyond_metadata(_by_partition(outcomes))
        if not beyond:
            return outcomes
        told = list[Outcome]()
        for outcome in outcomes:
            if outcome.polled.offset in beyond.get(outcome.polled.tp, ()):
                self._waiting.put_beyond(outcome)
            else:
                told.append(outcome)
        return told

    def _put_back_others(
        self, outcomes: list[Outcome], tps: Collection[TopicPartition]
    ) -> list[Outcome]:
        """Let outcomes wait whose offsets are not in the batch; return those that go with it."""
        for outcome in reversed(outcomes):
            if outcome.polled.tp not in tps:
                self._waiting.put_back(outcome)
        return [outcome for outcome in outcomes if outcome.polled.tp in tps]

    def _offsets(
        self, tps: Iterable[TopicPartition], finished: Mapping[TopicPartition, Sequence[int]]
    ) -> dict[TopicPartition, KafkaTopicPartition]:
        """Return what to commit for as many of these partitions, in order, as one commit takes."""
        offsets: dict[TopicPartition, KafkaTopicPartition] = {}
        # After a death only what really starts is noted, so that suspicion does not spread. [P5]
        exact = self._partitions.suspicious
        at = int(self._clock.now().timestamp())
        left_bytes = self._commit_size.limit_bytes
        for tp in tps:
            if left_bytes <= 0:
                break
            snapshot = self._partitions.snapshot(tp, finished.get(tp, ()), exact=exact)
            if snapshot is not None:
                metadata = snapshot.metadata(
                    incarnation=self._incarnation, settle=self._number, at=at, rests=self._rests
                )
                offsets[tp] = KafkaTopicPartition(
                    *tp,
                    snapshot.offset,
                    self._text(tp, metadata),
                    leader_epoch=_number(self._partitions.leader_epoch(tp)),
                )
                left_bytes -= commit_bytes([offsets[tp]])
        return offsets

    def _text(self, tp: TopicPartition, metadata: CommitMetadata) -> str:
        text = encode(metadata, chars=self._room.chars, marks_chars=self._room.marks_chars)
        # Only where a note was longer, before the broker's limit was lowered.
        if metadata.finished.bit_length() > self._room.window:
            said = decode(text)
            untold = metadata.finished & ~(said.finished if said else 0)
            if untold and REPEATS.to_log("settle.note_cut", str(tp)) is not None:
                log.error(
                    "settle.note_cut",
                    topic=tp.topic,
                    partition=tp.partition,
                    finished_untold=untold.bit_count(),
                    advice="raise offset.metadata.max.bytes of the brokers again",
                )
        return text

    def _take_report(self, report: Report, kafka: Log) -> None:
        sent = self._sent
        if isinstance(report, Stopped):
            raise FencedError(f"another producer with this worker.id took over: {report.error}")
        if isinstance(report, Tried):
            self._tried(report)
            return
        if sent is None or report.number != sent.batch.number:
            return
        match report:
            case Stored():
                self._silent = 0
                self.limits.confirmed(sent.batch.size_bytes, report.took_s)
                self._stored(sent, kafka)
            case RefusedBatch():
                self._refused(sent, report)
            case InDoubt():
                self._metrics.settles.add("in_doubt")
                self._doubt = True
                self._moved(report.error)

    def _moved(self, error: KafkaError | str) -> None:
        if is_of_broker(error):
            self.moves += 1

    def _stored(self, sent: _Sent, kafka: Log) -> None:
        self._sent, self._doubt = None, False
        self.moves += 1
        self._committed(sent.batch.offsets)
        self._metrics.settles.add("stored")
        self._metrics.settle_time.observe(self._clock.monotonic() - sent.at)
        self._finish(sent.outcomes)
        self._partitions.committed(self._still_kept(sent.epochs), stored=True)
        self._commit_again(kafka)
        # Also what is of a partition that has gone meanwhile: it counts. [P14]
        self._downstream.settled(sent.outcomes)

    def _finish(self, outcomes: Sequence[Outcome]) -> None:
        if self._overdue is not None:
            self._overdue.stored(outcomes)
        finished = _by_partition(o for o in outcomes if self._partitions.keeps(o.polled))
        for outcome in outcomes:
            if not self._partitions.keeps(outcome.polled):
                self._partitions.settled_late(outcome.polled)
        self._partitions.settle(finished)
        self._waiting.settled(finished)
        if not self._transactional:
            self._uncommitted.update(dict.fromkeys(finished))

    def _refused(self, sent: _Sent, report: RefusedBatch) -> None:
        self._sent, self._doubt = None, False
        self._moved(report.error)
        # What some partitions took, or a smaller batch will be, is on its way.
        self.moves += bool(report.delivered or report.leaderless)
        self._metrics.settles.add("aborted")
        self._partitions.committed(self._still_kept(sent.epochs), stored=False)
        self.apart.learn(report.partitions)
        log_as = "settle.record_refused" if report.culprits else "settle.refused"
        log.warning(log_as, error=str(report.error), outcomes=len(sent.outcomes))
        obstacles = self._obstacles(sent, report)
        behind = {id(sent.owners[index]): at for index, at in reversed(obstacles.items())}
        durable = self._durable(sent, report)
        for outcome in reversed(sent.outcomes):
            if id(outcome) in behind:
                self._wait_apart(outcome, *behind[id(outcome)], sent, report)
            elif id(outcome) not in durable:
                self._waiting.put_back(outcome)
        if durable:
            outcomes = [outcome for outcome in sent.outcomes if id(outcome) in durable]
            self._finish(outcomes)
            self._downstream.settled(outcomes)
        if not obstacles:
            self._next_try = self._clock.monotonic() + _SEND_AGAIN_S
            self._make_smaller(sent.batch.offsets, report.error)

    def _committed(self, offsets: Sequence[KafkaTopicPartition]) -> None:
        self._commit_size.stored()
        self._room.took(_longest_note(offsets))

    def _make_smaller(
        self, offsets: Sequence[KafkaTopicPartition], error: KafkaError | str
    ) -> None:
        """Ask for less with the next commit, where this one may have been too large."""
        if not isinstance(error, KafkaError):
            return
        if error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
            self._shorten_notes(_longest_note(offsets))
        elif error.code() in TOO_LARGE:
            self._commit_size.refused(offsets)

    def _shorten_notes(self, refused_chars: int) -> None:
        shorter = self._room.refused(refused_chars)
        if shorter:
            log.warning(
                "settle.note_too_large",
                chars=refused_chars,
                next_chars=self._room.chars,
                entries=self._room.entries,
                window=self._room.window,
                marks_chars=self._room.marks_chars,
            )
            return
        times = REPEATS.to_log("settle.note_refused", refused_chars)
        if times is not None:
            log.error(
                "settle.note_refused",
                chars=refused_chars,
                advice="raise offset.metadata.max.bytes of the brokers",
                least=MIN_METADATA_CHARS,
                **times,
            )

    def _durable(self, sent: _Sent, report: RefusedBatch) -> set[int]:
        """Return the outcomes of which all records are stored; in a transaction none is."""
        if self._transactional or not report.delivered:
            return set()
        missing = {id(o) for n, o in enumerate(sent.owners) if n not in report.delivered}
        return {id(outcome) for outcome in sent.owners} - missing

    def _wait_apart(
        self,
        outcome: Outcome,
        obstacle: Obstacle,
        cause: ObstacleCause,
        sent: _Sent,
        report: RefusedBatch,
    ) -> None:
        single = len(sent.outcomes) == 1
        if cause is ObstacleCause.RECORD_REFUSED and single:
            other = _instead(outcome, obstacle, report.error)
            if other is not None:
                self._wait(other)
                return
        # A record that its topic does not take must not abort everyone's batch.
        self.apart.hold(outcome, obstacle, cause, _said(cause, report.error))

    def _obstacles(
        self, sent: _Sent, report: RefusedBatch
    ) -> dict[int, tuple[Obstacle, ObstacleCause]]:
        """Return what stands in the way of which record, by its index."""
        found: dict[int, tuple[Obstacle, ObstacleCause]] = {}
        records = sent.batch.records
        for index in sorted(report.culprits):
            topic = records[index].topic
            if _is_of_topic(report.error):
                found[index] = (Obstacle(topic), ObstacleCause.TOPIC_REFUSED)
            else:
                alone = Obstacle(topic, outcome=id(sent.owners[index]))
                found[index] = (alone, ObstacleCause.RECORD_REFUSED)
        for index, tp in report.unsent.items():
            if tp in report.leaderless:
                found[index] = (Obstacle(*tp), ObstacleCause.NO_LEADER)
        if report.late and not found:
            for index in self._not_confirmed(sent, report):
                tp = report.unsent.get(index) or TopicPartition(records[index].topic, -1)
                # Where nobody knows the partition, the outcome waits by itself.
                alone = Obstacle(tp.topic, outcome=id(sent.owners[index]))
                known = Obstacle(*tp) if tp.partition >= 0 else alone
                found[index] = (known, ObstacleCause.NOT_CONFIRMED)
        return found

    def _not_confirmed(self, sent: _Sent, report: RefusedBatch) -> list[int]:
        """Learn from a batch that was late; return the records whose partition is to blame.

        The link is to blame as long as it has not shown that it carries so much: then the next
        batch is smaller. Else it is those partitions that took nothing while others did, or all
        that were asked, when nobody takes anything time and again.
        """
        batch, delivered = sent.batch, report.delivered
        fitted = self.limits.fits(batch.size_bytes)
        took = {target(batch.records[index], report.partitions) for index in delivered}
        dead = [index for index, tp in report.unsent.items() if tp not in took]
        if delivered and fitted and dead:
            self._silent = 0
            return dead
        self.limits.late(
            batch.size_bytes,
            delivered_bytes=sum(batch.records[index].size_bytes for index in delivered),
            took_s=self._clock.monotonic() - sent.at,
        )
        self._silent = 0 if delivered else self._silent + 1
        single = len(sent.outcomes) == 1
        if not report.unsent:
            return []
        if (single and not fitted) or ((single or fitted) and self._silent >= _SILENT_TIMES):
            return [index for index in range(len(batch.records)) if index not in delivered]
        return []

    def _try_apart(self) -> None:
        """Try what waits apart, aside, when that is due."""
        if self._trial is not None or not (tried := self.apart.due()):
            return
        records, owners = list[ProducerRecord](), list[int]()
        for number, (obstacle, outcome) in enumerate(tried):
            parts = self.apart.records(obstacle, outcome)
            records += parts
            owners += [number] * len(parts)
        self._trials += 1
        batch = Batch(self._trials, tuple(records), (), None)
        batch = replace(batch, allowed_s=self.limits.trial_s(batch.size_bytes))
        self._trial = _Trial(self._trials, tried, owners, batch.size_bytes)
        self._queue.try_out(batch)

    def _tried(self, report: Tried) -> None:
        trial = self._trial
        if trial is None or report.number != trial.number:
            return
        self._trial = None
        if report.error is None and not report.failed:
            self.limits.tried(trial.size_bytes, report.took_s)
        freed = list[Outcome]()
        for number, (obstacle, outcome) in enumerate(trial.tried):
            errors = [report.failed[n] for n in report.failed if trial.owners[n] == number]
            if report.error is not None:
                passed = self.apart.undecided(obstacle, report.error)
            elif errors:
                passed = self._not_passed(obstacle, outcome, errors[0], report)
            else:
                passed = True
            if passed:
                freed += self.apart.passed(obstacle)
        stored = self._stored_by(trial, report)
        for outcome in reversed(freed):
            if outcome not in stored:
                self._waiting.put_back(outcome)
        if stored:
            self._finish(stored)
            self._downstream.settled(stored)

    def _not_passed(
        self, obstacle: Obstacle, outcome: Outcome, error: KafkaError, report: Tried
    ) -> bool:
        """Let the next trial follow; say whether another outcome takes this one's place."""
        other = None
        if obstacle.outcome is not None and _is_of_record(error):
            other = _instead(outcome, obstacle, error)
        if other is None:
            cause = _cause(obstacle, error, report)
            self.apart.failed(obstacle, cause, _said(cause, error))
            return False
        self.apart.replace(obstacle, other)
        return True

    def _stored_by(self, trial: _Trial, report: Tried) -> list[Outcome]:
        """Return the outcomes that a trial has made durable: those that it wrote whole."""
        if self._transactional or report.error is not None:
            return []
        lost = {trial.owners[index] for index in report.failed}
        return [
            outcome
            for number, (_, outcome) in enumerate(trial.tried)
            if number not in lost and trial.owners.count(number) == len(outcome.records)
        ]

    def _read_back(self, kafka: Log) -> None:
        """Learn from the committed notes whether the batch in doubt was stored."""
        sent = self._sent
        if sent is None:
            return
        tps = self._still_kept(sent.epochs)
        try:
            found = kafka.committed(tps, timeout_s=_READ_BACK_S) if tps else {}
        except KafkaException as error:
            _raise_if_fenced(error)
            self._next_try = self._clock.monotonic() + _READ_AGAIN_S
            return
        all_metadata = [decode(committed.metadata) for committed in found.values()]
        signed = (self._incarnation, sent.batch.number)
        if any(
            metadata and (metadata.incarnation, metadata.settle) == signed
            for metadata in all_metadata
        ):
            self._stored(sent, kafka)
        else:
            self._refused(sent, RefusedBatch(sent.batch.number, "the commit did not happen"))

    def _commit_again(self, kafka: Log) -> None:
        """Send the offsets that no transaction carries; one at a time for each partition."""
        if self._transactional:
            return
        # What comes back is committed anew.
        self._uncommitted = {p: None for p in self._uncommitted if self._partitions.owns(p)}
        wanted = in_turns(self._uncommitted, self._partitions.news())
        tps = [tp for tp in wanted if tp not in self._committing]
        if tps:
            offsets = self._offsets(tps, {})
            for tp in offsets:
                self._uncommitted.pop(tp, None)
            epochs = self._partitions.epochs(offsets)
            self._committing.update({tp: (epochs[tp], offsets[tp]) for tp in epochs})
            kafka.commit(list(offsets.values()))

    def _still_kept(self, epochs: Mapping[TopicPartition, int]) -> list[TopicPartition]:
        return [tp for tp, epoch in epochs.items() if self._partitions.keeps_epoch(tp, epoch)]


def _by_partition(outcomes: Iterable[Outcome]) -> dict[TopicPartition, list[int]]:
    finished: dict[TopicPartition, list[int]] = defaultdict(list)
    for outcome in outcomes:
        finished[outcome.polled.tp].append(outcome.polled.offset)
    return finished


def _longest_note(offsets: Iterable[KafkaTopicPartition]) -> int:
    return max((len(part.metadata or "") for part in offsets), default=0)


def _number(leader_epoch: int | None) -> int:
    return -1 if leader_epoch is None else leader_epoch


def _is_of_topic(error: KafkaError | str) -> bool:
    """Say whether the topic takes nothing at all: what takes a record's place would wait too."""
    return isinstance(error, KafkaError) and error.code() in TOPIC_ERRORS


def _is_of_record(error: KafkaError) -> bool:
    return error.code() in RECORD_ERRORS - TOPIC_ERRORS


def _cause(obstacle: Obstacle, error: KafkaError, report: Tried) -> ObstacleCause:
    if obstacle.is_partition and obstacle[:2] in report.leaderless:
        return ObstacleCause.NO_LEADER
    if _is_of_topic(error):
        return ObstacleCause.TOPIC_REFUSED
    return ObstacleCause.RECORD_REFUSED if _is_of_record(error) else ObstacleCause.NOT_CONFIRMED


def _instead(outcome: Outcome, obstacle: Obstacle, error: KafkaError | str) -> Outcome | None:
    """Return what takes an outcome's place, if anything does; counted as what it holds in memory.

    What was refused is the obstacle's topic's.
    """
    if outcome.fallback is None:
        return None
    too_large = isinstance(error, KafkaError) and error.code() in SIZE_ERRORS
    other = outcome.fallback(NotTaken(obstacle.topic, str(error), too_large))
    if other is not None:
        other.polled.share.end(other.polled.offset, other.size_bytes)
    return other


def _said(cause: ObstacleCause, error: KafkaError | str) -> KafkaError | str:
    """Return what to say of an error: that records were given up tells nobody why."""
    match cause:
        case ObstacleCause.NO_LEADER:
            return "the partition has no leader: bring the brokers with its replicas back"
        case ObstacleCause.NOT_CONFIRMED:
            return "nobody confirms its records: look at its brokers and its replicas in sync"
        case ObstacleCause.TOPIC_REFUSED | ObstacleCause.RECORD_REFUSED:
            return error


def _raise_if_fenced(error: KafkaException) -> None:
    code = error.args[0].code()
    if code in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED):
        raise FencedError(f"another worker with this worker.id has joined: {error}") from error
