"""A worker that holds a thousand partitions: what a turn looks at, what a commit holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.property.test_settling import Broker, Client, Loop, Queue, _outcome, _record

from redrive.consumer.buffer import Buffer
from redrive.consumer.commit_size import MAX_COMMIT_BYTES, commit_bytes
from redrive.consumer.partitions import HIGH, Partitions
from redrive.consumer.settle import Settler
from redrive.kafka.batches import Batch, RefusedBatch, Stored
from redrive.kafka.log import Committed, TopicPartition
from redrive.state.commit_metadata import (
    MAX_ENTRIES,
    MAX_METADATA_CHARS,
    CommitMetadata,
    OffsetEntry,
    encode,
)
from redrive.state.ledger import PartitionLedger
from redrive.testing.manual_clock import ManualClock

MANY = 1_000
PLACES = tuple(TopicPartition("events", number) for number in range(MANY))


class Kit:
    """A settler over many partitions, and a settle thread that is answered by hand."""

    def __init__(
        self, committed: Mapping[TopicPartition, Committed] | None = None, *, incarnation: int = 1
    ) -> None:
        self.client: Client = Client(Broker())
        self.client.broker.committed.update(committed or {})
        self.clock, self.queue = ManualClock(), Queue(lambda _: None)
        self.loop = Loop(Counter(), 0, Counter())
        self.partitions = Partitions(
            buffer=Buffer(2**26),
            session_timeout_s=30.0,
            incarnation=incarnation,
            clock=self.clock,
        )
        self.settler = Settler(
            self.queue,
            self.loop,
            self.partitions,
            incarnation=incarnation,
            transactional=True,
            clock=self.clock,
        )
        self.settler.assigned(self.client, PLACES)
        self.settler.fetching(self.client)

    def turn(self) -> None:
        self.clock.advance(1.0)
        self.settler.turn(self.client, gap_s=0.0)

    def next_batch(self) -> Batch:
        """Turn until a batch is sent; take it from the settle thread."""
        for _ in range(5):
            if self.queue.batch is None:
                self.turn()
        batch, self.queue.batch = self.queue.batch, None
        assert batch is not None
        return batch

    def store_one(self) -> set[TopicPartition]:
        """Store one batch; return its partitions."""
        batch = self.next_batch()
        self.client.broker.commit(batch)
        self.settler.report(Stored(batch.number))
        return {TopicPartition(p.topic, p.partition) for p in batch.offsets}

    def store_all(self) -> list[tuple[set[TopicPartition], int]]:
        """Store batches until none follows; return the partitions and the bytes of each."""
        commits = []
        # What was refused is sent after a moment.
        for _ in range(3):
            if self.queue.batch is None:
                self.turn()
        while (batch := self.queue.batch) is not None:
            self.queue.batch = None
            size = commit_bytes(batch.offsets)
            commits.append(({TopicPartition(p.topic, p.partition) for p in batch.offsets}, size))
            self.client.broker.commit(batch)
            self.settler.report(Stored(batch.number))
            self.turn()
        return commits


def test_a_turn_with_nothing_to_do_looks_at_no_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit()
    for tp in PLACES:
        kit.settler.received([_record(tp, 0)])
    for delivery in kit.loop.waiting[1:]:
        kit.settler.finish(_outcome(delivery))
    kit.store_all()
    assert kit.partitions.unsettled == 1

    looked_at = Counter[str]()
    for name in ("unsettled", "has_news", "is_suspicious", "lowest_unsettled", "window_used"):
        count_reads(monkeypatch, name, looked_at)
    for _ in range(100):
        kit.turn()

    assert not looked_at
    # Of the others, one alone is looked at when something of it changes.
    kit.settler.received([_record(PLACES[7], 1)])
    for _ in range(100):
        kit.turn()
    assert 0 < looked_at.total() < 20


@pytest.mark.invariant("P5")
def test_few_of_what_many_partitions_hold_is_suspected_after_a_death() -> None:
    kit = Kit()
    for tp in PLACES:
        kit.settler.received([_record(tp, offset) for offset in range(10)])
    kit.store_all()
    started = [delivery for delivery in kit.loop.waiting if delivery.starts.start(delivery.offset)]
    assert len(started) >= 64

    heir = Kit(kit.client.broker.committed, incarnation=2)

    suspects = sum(heir.partitions.ledger(tp).starts.suspects for tp in PLACES)
    assert 64 <= suspects <= MANY


def count_reads(monkeypatch: pytest.MonkeyPatch, name: str, into: Counter[str]) -> None:
    kept = getattr(PartitionLedger, name)

    def read(self: PartitionLedger) -> object:
        into[name] += 1
        return kept.fget(self)

    monkeypatch.setattr(PartitionLedger, name, property(read))


@pytest.mark.invariant("P1", "P11")
def test_notes_that_one_commit_does_not_hold_go_in_several_each_partition_in_its_turn() -> None:
    # A thousand of them make 3 MB: brokers take 1.
    entries = {at: OffsetEntry(failed=1, crashes=1) for at in range(MAX_ENTRIES)}
    full = encode(CommitMetadata(9, 1, 1 << 8_000, entries=entries))
    kit = Kit(dict.fromkeys(PLACES, Committed(0, full)))

    commits = kit.store_all()

    sizes = [size for _, size in commits]
    told = Counter(tp for tps, _ in commits for tp in tps)
    assert max(sizes) < MAX_COMMIT_BYTES + 2 * MAX_METADATA_CHARS
    assert told == dict.fromkeys(PLACES, 1)


@pytest.mark.invariant("P1", "P7")
def test_a_busy_partition_does_not_keep_others_out_of_the_commits() -> None:
    kit = Kit()
    kit.settler._commit_size.limit_bytes = 1_000  # noqa: SLF001 - three partitions, about
    for tp in PLACES[:20]:
        kit.settler.received([_record(tp, offset) for offset in range(50)])
    busy = [d for d in kit.loop.waiting if d.tp in PLACES[:5]]

    committed = set[TopicPartition]()
    for round_ in range(10):
        # In each of them something ends between any two commits.
        for delivery in busy[round_::50]:
            kit.settler.finish(_outcome(delivery))
        committed |= kit.store_one()

    assert committed == set(PLACES[:20])


@pytest.mark.invariant("P1")
def test_a_commit_that_the_broker_does_not_take_is_followed_by_smaller_ones() -> None:
    kit = Kit(dict.fromkeys(PLACES, Committed(0, None)))
    sizes = list[int]()

    while not sizes or sizes[-1] > 10:
        batch = kit.next_batch()
        sizes.append(len(batch.offsets))
        kit.settler.report(RefusedBatch(batch.number, KafkaError(KafkaError.UNKNOWN)))
    left = kit.store_all()

    assert all(after < before for before, after in pairwise(sizes))
    assert {tp for tps, _ in left for tp in tps} == set(PLACES)
    # And they grow again, where that was not the reason.
    assert max(len(tps) for tps, _ in left) > sizes[-1]


@pytest.mark.invariant("P1", "P7")
def test_a_partition_whose_end_is_not_told_does_not_keep_the_others_from_starting() -> None:
    cut = encode(CommitMetadata(9, 1, reserved=16, offset=0))
    committed = dict.fromkeys(PLACES, Committed(0, cut))
    committed[PLACES[1]] = Committed(0, None)

    class Leaderless(Client):
        def ends(
            self, tps: Iterable[TopicPartition], *, timeout_s: float
        ) -> Mapping[TopicPartition, int]:
            told = super().ends(tps, timeout_s=timeout_s)
            return {tp: end for tp, end in told.items() if tp != PLACES[0]}

    class Silent(Client):
        def ends(
            self, tps: Iterable[TopicPartition], *, timeout_s: float
        ) -> Mapping[TopicPartition, int]:
            del tps, timeout_s
            raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))

    kit = Kit(committed)
    for client, open_ones in ((Silent, 1), (Leaderless, MANY - 1), (Client, MANY)):
        kit.partitions.expect(PLACES)
        kit.client = client(kit.client.broker)
        kit.partitions.read_committed(kit.client)
        assert sum(map(kit.partitions.owns, PLACES)) == open_ones
        assert kit.partitions.expected == MANY - open_ones


class Noting(Client):
    """Notes what it is asked to pause."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.asked: list[set[TopicPartition]] = []

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        self.asked.append(set(tps))
        super().pause(tps)


def test_a_partition_is_paused_when_it_is_full_and_others_are_left_alone() -> None:
    kit = Kit()
    kit.client = client = Noting(kit.client.broker)
    busy = PLACES[3]

    kit.settler.received([_record(busy, offset) for offset in range(HIGH)])
    for _ in range(5):
        kit.turn()

    assert client.asked == [{busy}]
    for delivery in kit.loop.waiting:
        kit.settler.finish(_outcome(delivery))
    kit.store_all()
    assert client.paused == set()
