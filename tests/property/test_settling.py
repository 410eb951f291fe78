"""The settler against a broker that fails at will: whatever happens, each event is answered once.

The model is the whole of what a broker keeps: committed offsets with their notes, and the results
of transactions that were committed. A worker's life is a sequence of random steps; at its end the
next worker reads what is committed and goes on from there.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.consumer import commit_size
from redrive.consumer.buffer import Buffer
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.partitions import Partitions
from redrive.consumer.settle import Settler
from redrive.errors import FencedError
from redrive.kafka.batches import (
    Batch,
    InDoubt,
    ProducerRecord,
    RefusedBatch,
    Stopped,
    Stored,
    Tried,
)
from redrive.kafka.log import Committed, ConsumerRecord, Log, TopicPartition
from redrive.kafka.sending import target
from redrive.kafka.topic_ids import IdsAsOf
from redrive.state import commit_metadata, metadata_room
from redrive.state.commit_metadata import MAX_METADATA_CHARS, CommitMetadata, decode, encode
from redrive.state.metadata_room import MetadataRoom
from redrive.state.reservations import Coverage
from redrive.testing.manual_clock import ManualClock

PLACES = (TopicPartition("events", 0), TopicPartition("events", 1))
EVENTS = 12
END = EVENTS + 1
"""Behind the last event lies the end of its transaction, which no reader is given."""
SESSION_S = 30.0
ALLOWED_S = 10.0
FORBIDDEN = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
NOTE_TOO_LARGE = KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Broker:
    """What a real one would keep."""

    def __init__(self) -> None:
        self.committed: dict[TopicPartition, Committed] = {}
        self.results: Counter[tuple[TopicPartition, int]] = Counter()
        self.note_limit = MAX_METADATA_CHARS

    def refuses_notes(self, batch: Batch) -> bool:
        return any(len(part.metadata or "") > self.note_limit for part in batch.offsets)

    def commit(self, batch: Batch) -> None:
        assert not self.refuses_notes(batch)
        for part in batch.offsets:
            tp = TopicPartition(part.topic, part.partition)
            self.committed[tp] = Committed(part.offset, part.metadata, part.leader_epoch)
        for record in batch.records:
            topic, partition, offset = (record.key or b"").decode().split("/")
            self.results[TopicPartition(topic, int(partition)), int(offset)] += 1


class Client:
    """The Consumer's side: what a listener may ask of it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.away = False
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.assigned: Collection[TopicPartition] = ()

    def assignment(self) -> Collection[TopicPartition]:
        return self.assigned

    def committed(
        self, tps: Iterable[TopicPartition], *, timeout_s: float
    ) -> Mapping[TopicPartition, Committed]:
        del timeout_s
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return {tp: self.broker.committed.get(tp, Committed(None, None)) for tp in tps}

    def ends(
        self, tps: Iterable[TopicPartition], *, timeout_s: float
    ) -> Mapping[TopicPartition, int]:
        del timeout_s
        return dict.fromkeys(tps, END)

    def topic_ids(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        del timeout_s
        return dict.fromkeys(topics, b"")

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        self.paused.update(tps)

    def resume(self, tps: Iterable[TopicPartition]) -> None:
        self.paused.difference_update(tps)

    def changed_ids(self, topics: Collection[str], *, within_s: float) -> IdsAsOf:
        del topics, within_s
        return IdsAsOf()

    def seek(self, tp: TopicPartition, offset: int, *, leader_epoch: int | None = None) -> bool:
        del leader_epoch
        self.positions[tp] = max(offset, 0)
        return True

    def commit(self, commit_metadata: Sequence[KafkaTopicPartition]) -> None:
        raise AssertionError(f"{commit_metadata} are to travel in the transaction")

    def group(self) -> object:
        return "group"


class Queue:
    """The settle thread's side: one batch at a time, and no answer before a step gives it."""

    def __init__(self, answer: Callable[[str], None]) -> None:
        self.batch: Batch | None = None
        self.is_fenced = False
        self.trial: Batch | None = None
        self.answer = answer
        self.is_waited_for = False

    def submit(self, batch: Batch) -> None:
        assert self.batch is None
        self.batch = batch

    def renew(self) -> None:
        if self.batch is not None:
            # What the old producer had under way is stored or not; nobody tells of it.
            self.answer("unheard")
        self.is_fenced = False

    def try_out(self, batch: Batch) -> None:
        assert self.trial is None
        assert not batch.offsets
        self.trial = batch

    def watch(self) -> None:
        if self.is_waited_for and self.batch is not None:
            self.answer("stored")


class Topics:
    """The partitions of the results and letters topics, and what is wrong with them.

    It answers batches as the settle thread does: what it learns of each record is exact, or not, as
    the dice say.
    """

    PARTITIONS: ClassVar = {"results": 4, "letters": 4}

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.leaderless: set[TopicPartition] = set()
        self.silent: set[TopicPartition] = set()
        self.refusing: set[str] = set()
        self.rate: float | None = None

    def heal(self) -> None:
        self.leaderless, self.silent, self.refusing, self.rate = set(), set(), set(), None

    def harm(self) -> None:
        """Let one more thing go wrong, or one be well again."""
        topic = self.dice.choice(list(self.PARTITIONS))
        tp = TopicPartition(topic, self.dice.randrange(self.PARTITIONS[topic]))
        match self.dice.randrange(6):
            case 0:
                self.leaderless ^= {tp}
            case 1:
                self.silent ^= {tp}
            case 2:
                self.refusing ^= {topic}
            case 3:
                self.rate = self.dice.choice([None, 20_000.0, 100_000.0])
            case _:
                self.heal()

    def tp(self, record: ProducerRecord) -> TopicPartition:
        tp = target(record, self.PARTITIONS)
        assert tp is not None
        return tp

    def is_well(self, outcome: Outcome) -> bool:
        """Say whether nothing is wrong with where an outcome goes."""
        tps = {self.tp(record) for record in outcome.records}
        return not (tps & (self.leaderless | self.silent) or {p.topic for p in tps} & self.refusing)

    def takes_s(self, batch: Batch) -> float:
        """Return how long the link needs for a batch, in seconds."""
        return batch.size_bytes / self.rate if self.rate else 0.01

    def refusal(self, batch: Batch) -> RefusedBatch | None:
        """Return what becomes of a batch that cannot be stored; None if it can be."""
        records = list(enumerate(batch.records))
        refused = frozenset(n for n, record in records if record.topic in self.refusing)
        if refused:
            # Behind an error of the whole transaction, nobody tells which topic it was.
            culprits = frozenset(range(len(records))) if self.dice.random() < 0.3 else refused
            return RefusedBatch(batch.number, FORBIDDEN, culprits)
        tps = {n: self.tp(record) for n, record in records}
        allowed_s = max(ALLOWED_S, batch.allowed_s)
        dead = {n for n, tp in tps.items() if tp in self.leaderless | self.silent}
        late = self.takes_s(batch) > allowed_s
        if not dead and not late:
            return None
        share = allowed_s / self.takes_s(batch) if late else 1.0
        through = {n for n, _ in records if n not in dead and n < share * len(records) - 1}
        hopeless = self.leaderless & set(tps.values())
        if hopeless:
            # Given up at once: what the others came to is chance.
            through = {n for n in through if self.dice.random() < 0.5}
        unsent = {n: tp for n, tp in tps.items() if n not in through}
        if self.dice.random() < 0.1:
            # A call that had to be abandoned tells nothing.
            return RefusedBatch(batch.number, "abandoned", late=True)
        return RefusedBatch(
            batch.number,
            "its time was over",
            unsent=unsent,
            leaderless=frozenset(hopeless),
            delivered=frozenset(through),
            late=not hopeless,
            partitions=self.PARTITIONS,
        )

    def trial(self, batch: Batch) -> Tried:
        """Return what a trial comes to."""
        if self.dice.random() < 0.1:
            return Tried(batch.number, error="no coordinator")
        late = self.takes_s(batch) > max(ALLOWED_S, batch.allowed_s)
        failed = {}
        for n, record in enumerate(batch.records):
            if record.topic in self.refusing:
                failed[n] = FORBIDDEN
            elif late or self.tp(record) in self.leaderless | self.silent:
                failed[n] = TIMED_OUT
        tps = {self.tp(record) for record in batch.records}
        return Tried(
            batch.number,
            failed,
            took_s=self.takes_s(batch),
            leaderless=frozenset(self.leaderless & tps),
        )


class Loop:
    """The event loop's side: deliveries that wait to start, or for their outcome.

    `owed` counts the attempts of each event that began and ended badly, by failure or by death:
    what its history must account for. `cuts` counts deaths, and losses that nobody could make good.
    `told` counts the endings that those who watch hear of.
    """

    def __init__(
        self,
        owed: Counter[tuple[TopicPartition, int]],
        cuts: int,
        told: Counter[tuple[TopicPartition, int]],
    ) -> None:
        self.owed = owed
        self.told = told
        self.cuts = cuts
        self.waiting: list[PolledRecord] = []
        self.running: list[PolledRecord] = []

    def deliver(self, polled_records: Sequence[PolledRecord]) -> None:
        for polled in polled_records:
            known = polled.starts.history(polled.offset)
            assert known.failed + known.crashes >= self.owed[polled.tp, polled.offset]
            assert known.crashes <= self.cuts
        self.waiting.extend(polled_records)

    def recall(self, all_metadata: Sequence[CommitMetadata]) -> None: ...

    def suspend(self, tps: Mapping[TopicPartition, int]) -> None: ...

    def resume(self, tps: Collection[TopicPartition]) -> None: ...

    def revoke(self, tps: Mapping[TopicPartition, int]) -> None:
        """Leave them running: a zombie's outcome may come at any time."""
        self.waiting = [d for d in self.waiting if d.epoch > tps.get(d.tp, 0)]

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        self.told.update((each.polled.tp, each.polled.offset) for each in outcomes)


class Story:
    """Random lives of workers over one broker, told by a seed.

    Hypothesis' own state machines pick steps evenly, and spend their time on rebalances; here the
    faults are the rare steps.
    """

    def __init__(
        self,
        seed: int,
        *,
        settler: type[Settler] = Settler,
        partitions: type[Partitions] = Partitions,
        incremental: bool = False,
        note_limit: Callable[[random.Random], int] | None = None,
        told: bool = True,
    ) -> None:
        self.incremental = incremental
        self.dice = random.Random(seed)
        # Whether workers are told of the limit, and it stays as it is.
        self.told_limit = told
        self.broker = Broker()
        if note_limit is not None:
            self.broker.note_limit = note_limit(self.dice)
        self.limit_notes = note_limit
        self.settler_class, self.partitions_class = settler, partitions
        self.topics = Topics(self.dice)
        self.lives = 0
        self.cuts = 0
        self.owed: Counter[tuple[TopicPartition, int]] = Counter()
        self.told: Counter[tuple[TopicPartition, int]] = Counter()
        # Partitions that came back, whose runs go on, and no commit says so yet: a death in these
        # milliseconds is not counted.
        self.unsigned: set[TopicPartition] = set()
        self.new_worker()

    def tell(self, steps: int) -> None:
        """Take random steps, heal, and judge."""
        for _ in range(steps):
            kinds = [self.turn, self.fetch, self.start, self.finish, self.answer, self.fail]
            kinds.append(self.answer_trial)
            rare = [
                self.topics.harm,
                self.broker_goes_or_comes,
                self.rebalance,
                self.hand_over,
                self.oversleep,
            ]
            go = self.one_goes_and_comes if self.incremental else self.go_and_come_back
            choices = [*kinds, *rare, self.kill, go, self.fenced, self.another_note_limit]
            weights = [30, 20, 30, 30, 30, 4, 15, 3, 4, 2, 2, 1, 2, 3, 1, 1]
            step = self.dice.choices(choices, weights)[0]
            step()
            self.judge()
        self.heal()
        self.judge()

    def new_worker(self) -> None:
        self.lives += 1
        self.clock = ManualClock()
        self.client = Client(self.broker)
        self.queue = Queue(self._answer)
        # What was noted before there was less room for it may be forgotten.
        owed = self.owed if self.told_limit else Counter[tuple[TopicPartition, int]]()
        self.loop = Loop(owed, self.cuts, self.told)
        self.partitions = self.partitions_class(
            buffer=Buffer(2**20),
            session_timeout_s=SESSION_S,
            incarnation=self.lives,
            clock=self.clock,
            # Who has no right to ask for it is told by refusals.
            room=MetadataRoom(self.broker.note_limit if self.told_limit else None),
        )
        self.settler = self.settler_class(
            self.queue,
            self.loop,
            self.partitions,
            incarnation=self.lives,
            transactional=True,
            clock=self.clock,
            incremental=self.incremental,
        )
        self.assign()

    def assign(self) -> None:
        self.client.positions = {
            tp: self.broker.committed.get(tp, Committed(None, None)).offset or 0 for tp in PLACES
        }
        self.settler.assigned(self.client, PLACES)
        self.settler.fetching(self.client)

    def turn(self) -> None:
        self.clock.advance(1.0)
        self.settler.turn(self.client, gap_s=0.0)

    def fetch(self) -> None:
        tp = self.dice.choice(PLACES)
        # A partition that was paused stays so, over assignments too, until it is resumed.
        if tp not in self.client.paused:
            first = self.client.positions[tp]
            last = max(first, min(first + self.dice.randint(1, 5), EVENTS))
            self.settler.received([_record(tp, offset) for offset in range(first, last)])
            self.client.positions[tp] = last
            # The client goes on from there by itself, and tells that it has come to the end.
            if last == EVENTS and self.dice.random() < 0.7:
                self.client.positions[tp] = END
                self.settler.reached_end({tp: END})

    def start(self) -> None:
        if self.loop.waiting:
            polled = self.dice.choice(self.loop.waiting)
            if polled.starts.start(polled.offset):
                self.loop.waiting.remove(polled)
                self.loop.running.append(polled)

    def fail(self) -> None:
        mine = [polled for polled in self.loop.running if self.partitions.holds(polled)]
        if mine:
            polled = self.dice.choice(mine)
            polled.starts.failed(polled.offset)
            if polled.tp not in self.unsigned:
                self.owed[polled.tp, polled.offset] += 1
            self.loop.running.remove(polled)
            self.loop.waiting.append(polled)

    def finish(self) -> None:
        if self.loop.running:
            chosen = self.dice.randrange(len(self.loop.running))
            self.settler.finish(_outcome(self.loop.running.pop(chosen)))

    def answer(self) -> None:
        if self.queue.batch is not None and not self.queue.is_fenced:
            self._answer(self.dice.choice(["stored", "stored", "refused", "in doubt"]))

    def answer_trial(self) -> None:
        if self.queue.trial is not None:
            trial, self.queue.trial = self.queue.trial, None
            self.settler.report(self.topics.trial(trial))

    def _answer(self, answer: str) -> None:
        batch, self.queue.batch = self.queue.batch, None
        assert batch is not None
        refusal = self.topics.refusal(batch)
        if refusal is None and self.broker.refuses_notes(batch):
            refusal = RefusedBatch(batch.number, NOTE_TOO_LARGE)
        if refusal is not None:
            if answer != "unheard":
                self.settler.report(refusal)
            return
        doubtful = answer in ("in doubt", "unheard")
        if answer == "stored" or (doubtful and self.dice.random() < 0.5):
            self._commit(batch)
        if answer == "unheard":
            return
        if answer == "stored":
            self.settler.report(Stored(batch.number))
        elif answer == "refused":
            self.settler.report(RefusedBatch(batch.number, "aborted"))
        else:
            self.settler.report(InDoubt(batch.number, "timed out"))

    def _commit(self, batch: Batch) -> None:
        self.broker.commit(batch)
        self.unsigned -= {TopicPartition(part.topic, part.partition) for part in batch.offsets}

    def another_note_limit(self) -> None:
        """Let the broker be started with another `offset.metadata.max.bytes`."""
        if self.limit_notes is not None and not self.told_limit:
            self.broker.note_limit = self.limit_notes(self.dice)

    def broker_goes_or_comes(self) -> None:
        self.client.away = not self.client.away

    def rebalance(self) -> None:
        # A batch under way is fenced by its generation; what is running goes on as a zombie.
        if self.queue.batch is None:
            self.settler.revoked(self.client, PLACES, lost=True)
            self.cuts += 1
            self.assign()

    def fenced(self) -> None:
        """Be fenced by an echo of our own joining, producer and all, and join anew."""
        self.queue.is_fenced = True
        if self.queue.batch is not None and self.dice.random() < 0.5:
            self.settler.report(Stopped(KafkaError(KafkaError._FENCED)))
            with pytest.raises(FencedError):
                self.turn()
        self.settler.revoked(self.client, PLACES, lost=True)
        self.settler.joins_anew(fenced=True)
        self.client = Client(self.broker)
        self.cuts += 1
        self.loop.cuts = self.cuts
        self.assign()

    def hand_over(self) -> None:
        """Give everything away while all is well: what runs is ended, and nobody is suspected."""
        if self.queue.batch is None and not self.client.away:
            self.queue.is_waited_for = True
            self.settler.revoked(self.client, PLACES, lost=False)
            self.new_worker()

    def go_and_come_back(self) -> None:
        """Lose everything to a rebalance, and get it back: others had it meanwhile, or nobody."""
        if self.queue.batch is not None or self.client.away:
            return
        running = [polled for polled in self.loop.running if self.partitions.holds(polled)]
        self.queue.is_waited_for = True
        self.settler.revoked(self.client, PLACES, lost=False)
        self.queue.is_waited_for = False
        signs, began = dict(self.broker.committed), self.clock.monotonic()
        mine = [d for d in running if d in self.loop.running and d.tp in signs]
        for _ in range(self.dice.choice([0, 1, 60])):
            self.dice.choice([self.turn, self.finish, self.finish])()
        if self.dice.random() < 0.5:
            self._work_of_another()
        late = self.clock.monotonic() - began > SESSION_S
        # A transaction of whoever had it may be open for longer than a session. [P1]
        turns = self.dice.choices([0, 1, 4 * int(SESSION_S)], [6, 1, 1])[0]
        self.client.away = turns > 0
        self.assign()
        for _ in range(turns):
            self.dice.choice([self.turn, self.finish])()
            self.judge()
        self.client.away = False
        self.clock.advance(1.0)
        self.settler.turn(self.client, gap_s=0.0)
        self.unsigned.update(polled.tp for polled in mine)
        for polled in mine:
            untouched = signs[polled.tp] == self.broker.committed[polled.tp]
            assert self.partitions.holds(polled) == (untouched and not late)

    def one_goes_and_comes(self) -> None:
        """KIP-848: lose one partition, and get it back later; the others are not touched."""
        if self.queue.batch is not None or self.client.away:
            return
        tp = self.dice.choice(PLACES)
        mine = [polled for polled in self.loop.running if self.partitions.holds(polled)]
        self.queue.is_waited_for = True
        self.settler.revoked(self.client, [tp], lost=False)
        self.queue.is_waited_for = False
        for _ in range(self.dice.choice([0, 1, 20])):
            self.dice.choice([self.turn, self.start, self.finish])()
        assert self.settler.is_member
        assert {d.tp for d in mine if self.partitions.keeps(d)} == {
            d.tp for d in mine if d.tp != tp
        }
        committed = self.broker.committed.get(tp, Committed(None, None))
        self.client.positions[tp] = committed.offset or 0
        self.settler.assigned(self.client, [tp])
        self.settler.fetching(self.client)

    def _work_of_another(self) -> None:
        mine = (self.clock, self.client, self.queue, self.loop, self.partitions, self.settler)
        self.new_worker()
        for _ in range(self.dice.choice([0, 0, 5, 30])):
            self.dice.choice([self.turn, self.fetch, self.start, self.finish])()
            if self.queue.batch is not None:
                self._answer("stored")
        self.queue.is_waited_for = True
        self.settler.revoked(self.client, PLACES, lost=False)
        self.clock, self.client, self.queue, self.loop, self.partitions, self.settler = mine
        self.loop.cuts = self.cuts

    def oversleep(self) -> None:
        # A batch under way may be stored after this: the generation is still ours.
        self.cuts += 1
        mine = [polled for polled in self.loop.running if self.partitions.keeps(polled)]
        self.settler.turn(self.client, gap_s=31.0)
        # Before the loop has heard of it: what a guard asks says no from here on.
        assert not any(self.partitions.keeps(polled) for polled in mine)

    def kill(self) -> None:
        # The transaction under way is stored or not; the next producer's init ends it either way.
        batch = self.queue.batch
        if (
            batch is not None
            and not (self.topics.refusal(batch) or self.broker.refuses_notes(batch))
            and self.dice.random() < 0.5
        ):
            self._commit(batch)
        for polled in self.loop.running:
            if self.partitions.holds(polled) and polled.tp not in self.unsigned:
                self.owed[polled.tp, polled.offset] += 1
        self.cuts += 1
        self.new_worker()

    def judge(self) -> None:
        assert all(count == 1 for count in self.broker.results.values())
        assert self.told <= self.broker.results
        for tp, committed in self.broker.committed.items():
            passed = range(min(committed.offset or 0, EVENTS))
            assert all(self.broker.results[tp, offset] for offset in passed)
        # What the group has given us is held, or its committed offset is asked for. [P1]
        assert all(self.partitions.owns(p) or self.partitions.expects([p]) for p in PLACES)
        # What is counted as it changes is what a look at all would find.
        held = {p: self.partitions.ledger(p) for p in PLACES if self.partitions.owns(p)}
        assert self.partitions.unsettled == sum(ledger.unsettled for ledger in held.values())
        assert self.partitions.busy == sum(ledger.unsettled > 0 for ledger in held.values())
        assert set(self.partitions.news()) == {p for p, one in held.items() if one.has_news}
        assert self.partitions.suspicious == any(one.is_suspicious for one in held.values())

    def heal(self) -> None:
        """Let everything that is left end."""
        self.client.away = False
        self.topics.heal()
        for _ in range(40 * EVENTS):
            self.turn()
            self.answer_trial()
            self.fetch()
            self.start()
            self.finish()
            if self.queue.batch is not None and not self.queue.is_fenced:
                self._answer("stored")
        assert self.settler.idle
        ends = {tp: committed.offset for tp, committed in self.broker.committed.items()}
        assert ends == dict.fromkeys(PLACES, END)
        wanted = {(tp, offset) for tp in PLACES for offset in range(EVENTS)}
        assert set(self.broker.results) == wanted


def _record(tp: TopicPartition, offset: int) -> ConsumerRecord:
    return ConsumerRecord(tp, offset, b"key", b"{}", (), None, leader_epoch=0)


def _outcome(polled: PolledRecord, value: bytes = b"{}") -> Outcome:
    tp = polled.tp
    key = f"{tp.topic}/{tp.partition}/{polled.offset}".encode()
    return Outcome(polled, Ending.SUCCEEDED, (ProducerRecord("results", key, value),))


class BlindToEpochs(Partitions):
    """Known to be bad: takes an outcome of any assignment, as long as the partition is held."""

    def holds(self, polled: PolledRecord) -> bool:
        return self.owns(polled.tp)


class TakesBackWhatIsOthers(Partitions):
    """Known to be bad: goes on with a partition that came back, whoever had it meanwhile."""

    def _is_ours(self, metadata: CommitMetadata | None) -> bool:
        return metadata is not None


class NeverInDoubt(Settler):
    """Known to be bad: takes a commit that did not answer for one that did not happen."""

    def _read_back(self, kafka: Log) -> None:
        del kafka
        assert self._sent is not None
        self._refused(self._sent, RefusedBatch(self._sent.batch.number, "assumed"))


class KeepsItsProducer(Settler):
    """Known to be bad: joins its group anew, and leaves the producer that was fenced as it is."""

    def joins_anew(self, *, fenced: bool) -> None:
        super().joins_anew(fenced=False)
        del fenced


class AlwaysSure(Settler):
    """Known to be bad: takes a commit that did not answer for one that happened."""

    def _read_back(self, kafka: Log) -> None:
        assert self._sent is not None
        self._stored(self._sent, kafka)


class StartsAtOnce(Partitions):
    """Known to be bad: counts attempts in memory only, and lets events start uncommitted."""

    def take(self, records: Sequence[ConsumerRecord]) -> list[PolledRecord]:
        polled_records = super().take(records)
        for polled in polled_records:
            polled.starts._durable = Coverage(2**40)  # noqa: SLF001 - as if all were committed
        return polled_records


class LeavesStartsBehind(Settler):
    """Known to be bad: gives partitions away with what may be running still noted as running."""

    def revoked(self, kafka: Log, tps: Sequence[TopicPartition], *, lost: bool) -> None:
        super().revoked(kafka, tps, lost=True)
        del lost


class WritesOn(Settler):
    """Known to be bad: tries a note that was refused again as it is."""

    def _shorten_notes(self, refused_chars: int) -> None: ...


class CutsNotes(Settler):
    """Known to be bad: settles what no note can tell of."""

    def _told_of(self, outcomes: list[Outcome]) -> list[Outcome]:
        return outcomes

    def _text(self, tp: TopicPartition, metadata: CommitMetadata) -> str:
        del tp
        kept = (1 << self._room.window) - 1
        return encode(replace(metadata, finished=metadata.finished & kept), chars=self._room.chars)


SEEDS = range(200)
STEPS = 150
SMALLEST_NOTE = 44


@pytest.mark.invariant("P1", "P2", "P3", "P5", "P14")
@pytest.mark.parametrize("incremental", [False, True], ids=["classic", "KIP-848"])
def test_each_event_is_answered_once_whatever_the_broker_does(*, incremental: bool) -> None:
    for seed in SEEDS[: len(SEEDS) // (4 if incremental else 1)]:
        try:
            Story(seed, incremental=incremental).tell(STEPS)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.invariant("P1", "P2", "P3", "P11")
def test_each_event_is_answered_once_where_a_commit_holds_one_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit_size, "MAX_COMMIT_BYTES", 1)

    for seed in SEEDS[:40]:
        Story(seed).tell(STEPS)


@pytest.fixture
def _small_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let notes of the few events of a story be as large as those of many, by another formula.

    Here nothing is known of the log, and all numbers are small.
    """
    monkeypatch.setattr(commit_metadata, "_FIXED_BYTES", 23)
    monkeypatch.setattr(commit_metadata, "_ENTRY_WINDOW", 2)
    monkeypatch.setattr(metadata_room, "MIN_METADATA_CHARS", SMALLEST_NOTE)


def _small_limit(dice: random.Random) -> int:
    return dice.randint(SMALLEST_NOTE, 70)


@pytest.mark.usefixtures("_small_notes")
@pytest.mark.invariant("P1", "P2", "P3", "P5", "P11")
@pytest.mark.parametrize("told", [True, False], ids=["told", "learned, and changed"])
def test_each_event_is_answered_once_where_brokers_take_short_notes_only(*, told: bool) -> None:
    for seed in SEEDS[:60]:
        try:
            Story(seed, note_limit=_small_limit, told=told).tell(STEPS)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.usefixtures("_small_notes")
@pytest.mark.parametrize("bad", [WritesOn, CutsNotes])
def test_a_settler_that_is_bad_at_short_notes_is_caught(bad: type[Settler]) -> None:
    def caught(seed: int) -> bool:
        try:
            Story(seed, settler=bad, note_limit=_small_limit, told=False).tell(STEPS)
        except AssertionError:
            return True
        return False

    assert any(caught(seed) for seed in SEEDS)


@pytest.mark.parametrize(
    "bad",
    [
        {"partitions": BlindToEpochs},
        {"partitions": TakesBackWhatIsOthers},
        {"settler": NeverInDoubt},
        {"settler": AlwaysSure},
        {"partitions": StartsAtOnce},
        {"settler": LeavesStartsBehind},
        {"settler": KeepsItsProducer},
    ],
)
def test_a_bad_settler_is_caught_within_forty_seeds(bad: dict[str, Any]) -> None:
    def caught(seed: int) -> bool:
        try:
            Story(seed, **bad).tell(STEPS)
        except AssertionError:
            return True
        return False

    assert any(caught(seed) for seed in SEEDS[:40])


class CommitsLater(Client):
    """Takes commits as a consumer does: what came of them is told in a later poll."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.commits: list[list[KafkaTopicPartition]] = []

    def commit(self, commit_metadata: Sequence[KafkaTopicPartition]) -> None:
        self.commits.append(list(commit_metadata))


def settler_over(
    client: Client, *, transactional: bool
) -> tuple[Settler, Queue, Loop, ManualClock]:
    clock, queue, loop = ManualClock(), Queue(lambda _: None), Loop(Counter(), 0, Counter())
    partitions = Partitions(
        buffer=Buffer(2**20), session_timeout_s=30.0, incarnation=1, clock=clock
    )
    settler = Settler(
        queue, loop, partitions, incarnation=1, transactional=transactional, clock=clock
    )
    settler.assigned(client, PLACES)
    settler.fetching(client)
    return settler, queue, loop, clock


@pytest.mark.invariant("P1")
def test_a_new_consumer_is_asked_again_to_fetch_nothing_of_what_may_not_start_yet() -> None:
    client = Client(Broker())
    client.away = True
    settler, *_ = settler_over(client, transactional=True)
    assert client.paused == set(PLACES)

    settler.revoked(client, PLACES, lost=True)
    settler.joins_anew(fenced=False)
    successor = Client(client.broker)
    successor.away = True
    settler.assigned(successor, PLACES)
    settler.fetching(successor)

    # Else what it fetches is dropped, and its position is past it for good.
    assert successor.paused == set(PLACES)


@pytest.mark.invariant("P1")
def test_a_partition_that_the_client_holds_and_nobody_knows_of_is_read_again() -> None:
    client = Client(Broker())
    settler, _, loop, clock = settler_over(client, transactional=True)
    client.assigned = PLACES
    settler.received([_record(PLACES[0], 0)])
    client.broker.committed[PLACES[0]] = Committed(7, None)

    settler._partitions.lose([PLACES[0]])  # noqa: SLF001 - what no fault may lead to
    loop.waiting.clear()
    clock.advance(20.0)
    settler.turn(client, gap_s=0.0)
    settler.received([_record(PLACES[0], 7)])

    assert client.positions == {PLACES[0]: 7}
    assert [polled.offset for polled in loop.waiting] == [7]


@pytest.mark.invariant("P7")
def test_letters_that_are_refused_again_and_again_let_others_be_settled() -> None:
    client = Client(Broker())
    settler, queue, loop, clock = settler_over(client, transactional=True)
    settler.received([_record(PLACES[0], offset) for offset in range(300)])
    settler.received([_record(PLACES[1], 0)])
    healthy = next(polled for polled in loop.waiting if polled.tp == PLACES[1])
    for polled in loop.waiting:
        if polled is not healthy:
            settler.finish(
                Outcome(polled, Ending.DEAD_LETTERED, (ProducerRecord("gone", b"", b""),))
            )
    settled_at = None
    for turn in range(2_000):
        clock.advance(0.01)
        settler.turn(client, gap_s=0.0)
        batch, queue.batch = queue.batch, None
        if batch is not None and any(record.topic == "gone" for record in batch.records):
            refused = [n for n, record in enumerate(batch.records) if record.topic == "gone"]
            settler.report(RefusedBatch(batch.number, "no such topic", frozenset(refused)))
        elif batch is not None:
            client.broker.commit(batch)
            settler.report(Stored(batch.number))
        if turn == 900:
            settler.finish(_outcome(healthy))
        if client.broker.results[PLACES[1], 0] and settled_at is None:
            settled_at = turn

    assert settled_at is not None
    assert settled_at - 900 < 20


def test_giving_partitions_away_waits_for_no_answer_that_cannot_come() -> None:
    client = CommitsLater(Broker())
    settler, _, _, clock = settler_over(client, transactional=False)
    settler.received([_record(PLACES[0], 0)])
    settler.turn(client, gap_s=0.0)
    assert client.commits
    began = clock.monotonic()

    settler.revoked(client, PLACES, lost=False)

    assert clock.monotonic() - began < 1.0


@pytest.mark.invariant("P14")
def test_what_is_stored_after_its_partition_has_gone_is_told_as_well() -> None:
    client = Client(Broker())
    settler, queue, loop, clock = settler_over(client, transactional=True)
    settler.received([_record(tp, 0) for tp in PLACES])
    for polled in loop.waiting:
        settler.finish(_outcome(polled))
    settler.turn(client, gap_s=0.0)
    assert queue.batch is not None

    settler.revoked(client, PLACES[:1], lost=True)
    settler.report(Stored(queue.batch.number))
    clock.advance(1.0)
    settler.turn(client, gap_s=0.0)

    assert loop.told == {(tp, 0): 1 for tp in PLACES}


def test_a_commit_that_fails_is_sent_again_after_a_while() -> None:
    client = CommitsLater(Broker())
    settler, _, _, clock = settler_over(client, transactional=False)
    settler.received([_record(PLACES[0], 0)])
    settler.turn(client, gap_s=0.0)

    for _ in range(100):
        settler.commit_ended([PLACES[0]], KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
        clock.advance(0.004)
        settler.turn(client, gap_s=0.0)

    assert len(client.commits) <= 3


def test_without_transactions_too_a_busy_partition_is_covered_ahead() -> None:
    client = CommitsLater(Broker())
    settler, queue, loop, clock = settler_over(client, transactional=False)
    settler.received([_record(PLACES[0], offset) for offset in range(400)])
    for polled in list(loop.waiting)[:100]:
        settler.finish(_outcome(polled))
    settler.turn(client, gap_s=0.0)
    assert queue.batch is not None
    settler.report(Stored(queue.batch.number))
    settler.commit_ended([PLACES[0]], None)
    clock.advance(1.0)

    settler.turn(client, gap_s=0.0)

    metadata = decode(client.commits[-1][0].metadata)
    assert metadata is not None
    assert metadata.reserved >= 200


class Flood:
    """Outcomes of all sizes for topics of which some partitions are unwell, and time that passes.

    A batch takes as long as the link needs for it, and a trial goes on beside the batches.
    """

    OUTCOMES = 60

    def __init__(self, seed: int, *, transactional: bool) -> None:
        self.dice = random.Random(seed)
        self.client = CommitsLater(Broker())
        self.transactional = transactional
        self.settler, self.queue, self.loop, self.clock = settler_over(
            self.client, transactional=transactional
        )
        self.topics = Topics(self.dice)
        self.stored: Counter[int] = Counter()
        self.batches = 0
        self.settler.received([_record(PLACES[0], offset) for offset in range(self.OUTCOMES)])
        self.outcomes = [self._outcome(polled) for polled in self.loop.waiting]

    def _outcome(self, polled: PolledRecord) -> Outcome:
        size = self.dice.choice([10, 10, 10, 40_000, 400_000])
        topics = self.dice.choice([["results"], ["results"], ["letters", "results"]])
        key = f"event {polled.offset} {self.dice.random()}".encode()
        ending = Ending.DEAD_LETTERED if len(topics) > 1 else Ending.SUCCEEDED
        records = [ProducerRecord(topic, key, bytes(size)) for topic in topics]
        return Outcome(polled, ending, tuple(records))

    def finish(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self.settler.finish(outcome)

    def turn(self) -> None:
        self.clock.advance(0.05)
        self.settler.turn(self.client, gap_s=0.0)
        if self.queue.trial is not None and self.dice.random() < 0.2:
            trial, self.queue.trial = self.queue.trial, None
            self.settler.report(self.topics.trial(trial))
        batch, self.queue.batch = self.queue.batch, None
        if batch is None:
            return
        self.batches += bool(batch.records)
        refusal = self.topics.refusal(batch)
        allowed_s = max(ALLOWED_S, batch.allowed_s)
        late = refusal is not None and refusal.late
        self.clock.advance(allowed_s if late else min(self.topics.takes_s(batch), allowed_s))
        if refusal is None:
            self.settler.report(Stored(batch.number, self.topics.takes_s(batch)))
        else:
            self.settler.report(refusal)

    def settled(self, outcome: Outcome) -> bool:
        return self.loop.told[outcome.polled.tp, outcome.polled.offset] == 1

    def until(self, outcomes: Collection[Outcome], *, within_s: float) -> None:
        ends = self.clock.monotonic() + within_s
        while not all(self.settled(outcome) for outcome in outcomes):
            assert self.clock.monotonic() < ends, "an outcome waits for ever"
            self.turn()


ROUNDS = 60
HEALED_WITHIN_S = 150.0


@pytest.mark.invariant("P1", "P2", "P7")
@pytest.mark.parametrize("transactional", [True, False], ids=["exactly once", "at least once"])
def test_the_healthy_are_settled_whatever_the_others_wait_for_and_all_once_it_heals(
    *, transactional: bool
) -> None:
    for seed in range(150):
        flood = Flood(seed, transactional=transactional)
        for _ in range(flood.dice.randrange(6)):
            flood.topics.harm()
        flood.finish(flood.outcomes)
        try:
            healthy = [each for each in flood.outcomes if flood.topics.is_well(each)]
            flood.until(healthy, within_s=3_600.0)
            slowly = len(healthy) if flood.topics.rate else 0
            assert flood.batches <= ROUNDS + slowly
            flood.topics.heal()
            flood.until(flood.outcomes, within_s=HEALED_WITHIN_S)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        assert set(flood.loop.told.values()) == {1}
