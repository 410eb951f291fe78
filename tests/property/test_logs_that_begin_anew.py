"""Whatever happens to a log, all that it holds in the end was handed over and settled: a model.

And the group has committed up to the log's end, also where the ends of transactions, or what was
aborted, lie behind the last record.

The model's client does what librdkafka does (measured, confluent-kafka 2.16): it notices by the
leader's epoch that a log which it reads was cut back, and goes on from there; where its position is
beyond the end, it goes on from the beginning; of a topic's id it tells nothing. It passes by what
is no record, and tells once that it has come to the end, until it is sent elsewhere.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException
from tests.rows import rows

from redrive.consumer.buffer import Buffer
from redrive.consumer.lately import Lately
from redrive.consumer.partitions import Partitions
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.kafka.topic_ids import IdsAsOf
from redrive.state.commit_metadata import MAX_MARKS, MIN_METADATA_CHARS, encode
from redrive.state.metadata_room import MetadataRoom
from redrive.testing import ManualClock

PLACE = TopicPartition("events", 0)
ANY_ROOM = (None, MIN_METADATA_CHARS)
"""With the least of room for notes, records wait outside the window."""
SEEDS = range(400)
STEPS = 60
OFFSETS_NOT_TOLD = 0.2
SEEKS_REFUSED = 0.3
"""A client that is beginning with a partition cannot seek yet."""
ENDS_TOLD = 0.5
"""An end is told by an answer of its own, which may come later than the last record."""
IDS_TOLD = 0.5
"""Ids of topics are told some time after the question, as they were some time in between."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@dataclass(slots=True)
class Topic:
    """One partition: what it holds, each with the epoch of the leader that wrote it.

    What is no record for who reads, such as the end of a transaction, is 0.
    """

    id: bytes = b"\0" * 15 + b"\1"
    epoch: int = 0
    records: list[tuple[int, int]] = field(default_factory=list)
    written: int = 0
    made: int = 1

    def change(self, kind: str, dice: random.Random) -> None:
        match kind:
            case "append":
                self.append(dice.randint(1, 6))
            case "end":
                self.end_transactions(dice.randint(1, 4))
            case "cut":
                self.cut(dice.randint(0, len(self.records)))
            case _:
                self.make_anew()

    def append(self, count: int) -> None:
        for _ in range(count):
            self.written += 1
            self.records.append((self.written, self.epoch))

    def end_transactions(self, count: int) -> None:
        self.records += [(0, self.epoch)] * count

    @property
    def held(self) -> set[bytes]:
        return {str(value).encode() for value, _ in self.records if value}

    def cut(self, end: int) -> None:
        del self.records[end:]
        self.epoch += 1

    def make_anew(self) -> None:
        self.made += 1
        self.id, self.epoch, self.records = self.made.to_bytes(16, "big"), 0, []

    def end_of(self, epoch: int) -> int:
        return sum(written <= epoch for _, written in self.records)


class Client:
    """What a worker reads through, and commits with."""

    def __init__(
        self, topic: Topic, committed: Committed, dice: random.Random, clock: ManualClock
    ) -> None:
        self.dice = dice
        self.clock = clock
        self.is_paused = False
        self.topic = topic
        self.committed_now = committed
        self.asks_ids = False
        self.asked: IdsAsOf | None = None
        self.position = 0
        self.read_epoch: int | None = None
        self.told_end: int | None = None

    def assignment(self) -> list[TopicPartition]:
        return []

    def committed(
        self, tps: Iterable[TopicPartition], *, timeout_s: float
    ) -> dict[TopicPartition, Committed]:
        del timeout_s
        if self.dice.random() < OFFSETS_NOT_TOLD:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return dict.fromkeys(tps, self.committed_now)

    def ends(self, tps: Iterable[TopicPartition], *, timeout_s: float) -> dict[TopicPartition, int]:
        del timeout_s
        return dict.fromkeys(tps, len(self.topic.records))

    def topic_ids(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        del timeout_s
        self.asked = None
        return dict.fromkeys(topics, self.topic.id)

    def changed_ids(self, topics: Collection[str], *, within_s: float) -> IdsAsOf:
        found = IdsAsOf()
        if self.asked is None and (within_s == 0 or self.asks_ids):
            self.asked = IdsAsOf(dict.fromkeys(topics, self.topic.id), self.clock.monotonic())
        elif self.asked is not None and self.dice.random() < IDS_TOLD:
            # The broker may have got the question only now.
            now = dict.fromkeys(self.asked.ids, self.topic.id)
            found = self.dice.choice([self.asked, replace(self.asked, ids=now)])
            self.asked = None
        return found

    def pause(self, _: Iterable[TopicPartition]) -> None:
        self.is_paused = True

    def resume(self, _: Iterable[TopicPartition]) -> None:
        self.is_paused = False
        self.told_end = None

    def seek(self, tp: TopicPartition, offset: int, *, leader_epoch: int | None = None) -> bool:
        del tp
        if self.dice.random() < SEEKS_REFUSED:
            return False
        self.position, self.read_epoch = max(offset, 0), leader_epoch
        self.told_end = None
        return True

    def commit(self, offsets: object) -> None: ...

    def group(self) -> object: ...

    def read(self, count: int) -> tuple[list[ConsumerRecord], dict[TopicPartition, int]]:
        topic = self.topic
        if self.is_paused:
            return [], {}
        if self.read_epoch is not None and self.read_epoch < topic.epoch:
            self.position = min(self.position, topic.end_of(self.read_epoch))
        if self.position > len(topic.records):
            self.position = 0
        found = topic.records[self.position : self.position + count]
        first, self.position = self.position, self.position + len(found)
        if found:
            self.read_epoch = found[-1][1]
        ends = {}
        if self.position == len(topic.records) != self.told_end and self.dice.random() < ENDS_TOLD:
            ends[PLACE] = self.told_end = self.position
        return [
            ConsumerRecord(PLACE, first + n, None, str(value).encode(), (), None, epoch)
            for n, (value, epoch) in enumerate(found)
            if value
        ], ends


class Worker:
    """Takes records in and settles them, some late, some never; then another one takes over."""

    def __init__(
        self,
        topic: Topic,
        committed: Committed,
        dice: random.Random,
        partitions: type[Partitions] = Partitions,
        *,
        note_limits: Sequence[int | None] = ANY_ROOM,
    ) -> None:
        self.clock = ManualClock()
        self.client = Client(topic, committed, dice, self.clock)
        self.dice = dice
        self.running: list[Any] = []
        self.settles = 0
        self.partitions = partitions(
            room=MetadataRoom(dice.choice(note_limits)),
            buffer=Buffer(10**9),
            session_timeout_s=30,
            incarnation=dice.getrandbits(64),
            clock=self.clock,
            cluster="one",
        )
        self.assigned()

    def assigned(self) -> None:
        self.partitions.expect([PLACE])
        opened = self.partitions.read_committed(self.client, assigning=True)
        self.partitions.hold_back(self.client)
        # The client asks for itself where it is not told where to begin.
        committed = self.client.committed_now.offset or 0
        self.client.position = max(opened.offsets.get(PLACE, committed), 0)
        self.client.read_epoch = self.client.told_end = None

    def suspend(self) -> None:
        """Lose the partition, as a new consumer does."""
        self.partitions.lose([PLACE])

    def turn(self, *, most: int, share: float) -> list[bytes]:
        """Read, settle some, commit; return what was settled for good."""
        partitions, client = self.partitions, self.client
        self.clock.advance(1.0)
        partitions.check_logs(client)
        partitions.read_committed(client)
        self.running += partitions.refill(client)
        records, ends = client.read(most)
        self.running += partitions.take(records)
        partitions.reached_end(ends)
        self.running = [one for one in self.running if partitions.holds(one)]
        done = [one for one in self.running if self.dice.random() < share]
        self.running = [one for one in self.running if one not in done]
        if not (done or partitions.news()) or not partitions.owns(PLACE):
            return []
        offsets = [one.offset for one in done]
        snapshot = partitions.snapshot(PLACE, offsets)
        if snapshot is None:
            return []
        self.settles += 1
        metadata = snapshot.metadata(incarnation=partitions.incarnation, settle=self.settles)
        epoch = partitions.leader_epoch(PLACE)
        client.committed_now = Committed(
            snapshot.offset, encode(metadata, chars=partitions.room.chars), epoch
        )
        partitions.settle({PLACE: offsets})
        partitions.committed([PLACE], stored=True)
        return [one.record.value for one in done]


class BelievesAnyEnd(Partitions):
    """Known to be bad: takes an end for reached, whatever of the partition is read again."""

    def reached_end(self, ends: Mapping[TopicPartition, int]) -> None:
        for tp, end in ends.items():
            if self.owns(tp):
                self.ledger(tp).reach(end)


@dataclass(frozen=True, slots=True)
class Played:
    """What became of it.

    Args:
        lost: What nobody has settled.
        doubled: What was settled twice.
        lag: How far the group stands before the end.
    """

    lost: set[bytes]
    doubled: set[bytes]
    lag: int


MADE_ANEW = {"append": 30, "turn": 40, "anew": 3, "ids": 10, "end": 12}
"""A topic that is made anew, and a worker that goes on with it."""
AGAIN = MADE_ANEW | {"again": 4}
"""The same worker gets the partition again."""
OTHERS = AGAIN | {"hand over": 4, "restart": 4}
"""Another one gets it, and may give it back; or the worker dies."""
EVERYTHING = {"append": 30, "turn": 40, "cut": 6, "anew": 3, "restart": 6, "ids": 10, "end": 12}


def play(
    seed: int,
    partitions: type[Partitions] = Partitions,
    *,
    kinds: Mapping[str, int] = EVERYTHING,
    note_limits: Sequence[int | None] = ANY_ROOM,
) -> Played:
    """Let things happen to a log, heal it, and see."""
    dice = random.Random(seed)
    topic = Topic()
    new = partial(Worker, topic, dice=dice, partitions=partitions, note_limits=note_limits)
    worker, other = new(Committed(None, None)), new(Committed(None, None))
    other.suspend()
    settled = Counter[bytes]()
    for _ in range(STEPS):
        match dice.choices([*kinds], [*kinds.values()])[0]:
            case "append" | "end" | "cut" | "anew" as kind:
                topic.change(kind, dice)
            case "restart":
                worker = new(worker.client.committed_now)
            case "again":
                worker.suspend()
                worker.assigned()
            case "hand over":
                worker.suspend()
                other.client.committed_now = worker.client.committed_now
                worker, other = other, worker
                worker.assigned()
            case "ids":
                worker.client.asks_ids = not worker.client.asks_ids
            case _:
                settled.update(worker.turn(most=dice.randint(1, 8), share=dice.random()))
    # All is healed: one more event arrives, and everything that is there ends.
    topic.append(1)
    topic.end_transactions(dice.randint(0, 2))
    worker.client.asks_ids = True
    for _ in range(80):
        settled.update(worker.turn(most=1_000, share=1.0))
    lag = len(topic.records) - (worker.client.committed_now.offset or 0)
    doubled = {value for value, times in settled.items() if times > 1}
    return Played(topic.held - settled.keys(), doubled, lag)


@pytest.mark.invariant("P1", "P3", "P14")
def test_all_that_a_log_holds_in_the_end_is_settled_whatever_it_went_through() -> None:
    played = {seed: play(seed) for seed in SEEDS}

    assert {seed: one.lost for seed, one in played.items() if one.lost} == {}
    assert {seed: one.lag for seed, one in played.items() if one.lag} == {}


def test_who_believes_too_much_of_an_end_is_caught() -> None:
    assert any(play(seed, BelievesAnyEnd).lost for seed in SEEDS)


@pytest.mark.invariant("P2")
@rows(
    "kinds, note_limits",
    [
        # What its notes have no room for, a worker knows by itself.
        (AGAIN, (MIN_METADATA_CHARS,)),
        (OTHERS, (None,)),
    ],
)
def test_what_was_read_of_a_new_log_before_that_was_known_is_answered_once(
    kinds: Mapping[str, int], note_limits: Sequence[int | None]
) -> None:
    played = {seed: play(seed, kinds=kinds, note_limits=note_limits) for seed in SEEDS[:300]}

    assert {seed: one.doubled for seed, one in played.items() if one.doubled} == {}
    assert {seed: one.lost for seed, one in played.items() if one.lost} == {}


@rows(
    "kinds, forgets",
    [
        (AGAIN, {"settled": lambda *_: None}),
        # The note alone bears it to another worker,
        (OTHERS, {"marks": lambda *_: {}}),
        # and on to the next one, before all of it was met.
        (OTHERS, {"marks": lambda self, *_: {o: m for o, (m, _) in self._answered.items()}}),
    ],
)
def test_a_worker_that_forgets_what_was_answered_lately_is_caught(
    kinds: Mapping[str, int],
    forgets: Mapping[str, Callable[..., object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, instead in forgets.items():
        monkeypatch.setattr(Lately, name, instead)

    assert any(play(seed, kinds=kinds, note_limits=(None,)).doubled for seed in SEEDS)


@pytest.mark.invariant("P2")
def test_of_more_answers_than_a_note_has_room_for_the_newest_are_known_to_another_worker() -> None:
    topic, dice = Topic(), random.Random(1)
    new = partial(Worker, topic, dice=dice, note_limits=(None,))
    worker = new(Committed(None, None))
    topic.append(1)
    while worker.client.committed_now.offset != 1:
        worker.turn(most=9, share=1.0)
    topic.make_anew()
    topic.append(MAX_MARKS + 21)
    settled = Counter[bytes]()
    while settled.total() < MAX_MARKS + 20:
        settled.update(worker.turn(most=9, share=1.0))

    worker = new(worker.client.committed_now)
    for _ in range(80):
        settled.update(worker.turn(most=9, share=1.0))

    # The first 20 of those that were answered before; what lay before these never was.
    assert sorted(int(value) for value, times in settled.items() if times > 1) == [*range(3, 23)]
    assert topic.held <= settled.keys()


@pytest.mark.invariant("P1")
def test_what_is_set_back_by_hand_is_answered_again_by_the_same_worker_too() -> None:
    topic = Topic()
    topic.append(3)
    worker = Worker(topic, Committed(None, None), random.Random(1), note_limits=(None,))
    settled = Counter[bytes]()
    while settled.total() < 3:
        settled.update(worker.turn(most=3, share=1.0))

    worker.suspend()
    worker.client.committed_now = Committed(0, None)
    worker.assigned()
    for _ in range(9):
        settled.update(worker.turn(most=3, share=1.0))

    assert set(settled.values()) == {2}
