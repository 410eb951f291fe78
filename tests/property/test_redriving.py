"""Two actors and a broker that fails at will: each letter is driven once, and each is told of.

The model is what a broker keeps of one partition: what is committed, and who has claimed it last.
Actors are cut anywhere between two calls, commits are lost, or happen unheard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redrive.dead_letter.audit_chain import AuditChain, audit_record
from redrive.dead_letter.record import DeadLetter, LetterContext, LetterError, Source, dlq_id
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.errors import KafkaUnavailableError
from redrive.events import EventHeaders, WorkflowEvent
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving.audit_trail import AuditTrail
from redrive.redriving.batch_pacing import BatchPacer
from redrive.redriving.fenced_partition import InDoubtError, RefusedRecordsError, TakenOverError
from redrive.redriving.jobs import Redriving
from redrive.redriving.partition import PartitionFold
from redrive.redriving.partition_steps import read_on, work
from redrive.redriving.redrive_report import Report, Step
from redrive.redriving.selection import Selection
from redrive.retry.kinds import Kind, Reason
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

LETTERS, AUDIT, EVENTS = TopicPartition("letters", 0), TopicPartition("audit", 0), "events"
MOST = 3
AWAY = 99
"""A letter whose event no broker takes."""


class Broker:
    """One partition of letters, and the events that were sent."""

    def __init__(self, letters: int) -> None:
        self.clock = ManualClock()
        self.log: list[ConsumerRecord] = []
        self.audit: list[ConsumerRecord] = []
        self.sent: list[ProducerRecord] = []
        self.epoch = 0
        for offset in range(letters):
            self.write(_letter(event({}), offset))

    def write(self, value: DeadLetter | ProducerRecord) -> None:
        headers = value.headers if isinstance(value, ProducerRecord) else ()
        data = value.value if isinstance(value, ProducerRecord) else value.to_bytes()
        self.log.append(ConsumerRecord(LETTERS, len(self.log), b"key", data, headers, 1))

    def end_a_run(self, number: int, *, well: bool) -> None:
        """Let a worker end one of the runs that were sent, as its settle does."""
        open_runs = [record for record in self.sent if not self._has_ended(record)]
        if not open_runs:
            return
        record = open_runs[number % len(open_runs)]
        headers = EventHeaders.read(record.headers)
        if well:
            state = LetterState(
                dlq_id=headers.of or "",
                event_id=None,
                state=State.RESOLVED,
                timestamp=self.clock.now(),
                actor="worker w",
                redrive_count=headers.count,
            )
            told = ProducerRecord("letters", b"key", state.to_bytes(), STATE_HEADERS, 0)
            self.write(told)
            self.record(audit_record(told, topic=AUDIT.topic))
        else:
            sent = WorkflowEvent.from_bytes(record.value)
            self.write(_letter(sent, 1000 + len(self.log), count=headers.count))

    def record(self, told: ProducerRecord) -> None:
        self.audit.append(
            ConsumerRecord(AUDIT, len(self.audit), told.key, told.value, told.headers, 1)
        )

    def _has_ended(self, sent: ProducerRecord) -> bool:
        told = EventHeaders.read(sent.headers)
        event_id = WorkflowEvent.from_bytes(sent.value).event_id
        for record in self.log:
            if dict(record.headers).get("redrive-record") == b"state":
                state = LetterState.model_validate_json(record.value or b"")
                if state.state is State.RESOLVED and state.dlq_id == told.of:
                    return True
            else:
                letter = DeadLetter.model_validate_json(record.value or b"")
                same = (letter.original_event or {}).get("event_id") == event_id
                if same and letter.redrive_count == told.count:
                    return True
        return False


class Door:
    """The model's way in; `fates` say what becomes of the next commits."""

    def __init__(self, broker: Broker, fates: list[str]) -> None:
        self.broker = broker
        self.fates = fates
        self.epoch = 0

    def claim(self) -> None:
        self.broker.epoch += 1
        self.epoch = self.broker.epoch

    def end(self) -> int:
        return len(self.broker.log)

    def read(self, start: int, stop: int) -> Iterator[ConsumerRecord]:
        yield from self.broker.log[start:stop]

    def commit(self, some: Iterable[ProducerRecord]) -> None:
        records = list(some)
        if self.epoch != self.broker.epoch:
            raise TakenOverError
        refused = {
            index: "too large"
            for index, record in enumerate(records)
            if record.topic == EVENTS and dict(record.headers).get("offset") == b"%d" % AWAY
        }
        if refused:
            raise RefusedRecordsError(refused)
        fate = self.fates.pop() if self.fates else "stored"
        if fate == "lost":
            raise InDoubtError
        for record in records:
            if record.topic == EVENTS:
                self.broker.sent.append(record)
            elif record.topic == AUDIT.topic:
                self.broker.record(record)
            else:
                self.broker.write(record)
        if fate == "unheard":
            raise InDoubtError


class AuditLog:
    """The audit topic's partition, as a trail reads it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def end(self) -> int:
        return len(self.broker.audit)

    def read(self, start: int, stop: int) -> Iterator[ConsumerRecord]:
        yield from self.broker.audit[start:stop]


def _letter(sent: WorkflowEvent, offset: int, *, count: int = 0) -> DeadLetter:
    return DeadLetter(
        dlq_id=dlq_id(EVENTS, 0, offset, count=count),
        timestamp=ManualClock().now(),
        original_event=sent.model_dump(mode="json"),
        error=LetterError(type="ValueError", message="no"),
        retry_count=0,
        context=LetterContext(workflow_id=sent.workflow_id),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(
            topic=EVENTS,
            partition=0,
            offset=offset,
            headers=[("offset", b"%d" % offset)],
            value=sent.to_bytes(),
        ),
        redrive_count=count,
    )


def actor(
    broker: Broker, name: str, *, page: int, fates: list[str], keep: int = 0
) -> Iterator[Step]:
    """Read before the claim, as `redrive` does, and keep events of so many bytes; then work."""
    job = Redriving(Selection(), name, EVENTS, frozenset({0}), most=MOST)

    class Pages(BatchPacer):
        def most(self) -> int:
            return min(page, super().most())

    pace = Pages(broker.clock)
    fenced, fold = Door(broker, fates), PartitionFold(job.selection.means, keep_bytes=keep)
    read_on(fenced, fold)
    yield Step(0)
    trail = AuditTrail(AUDIT.topic, AuditLog(broker), job=name)
    yield from work(fenced, 0, job, fold=fold, pace=pace, clock=broker.clock, trail=trail)


def next_step(steps: Iterator[Step], report: Report) -> bool:
    try:
        report.add(next(steps))
    except (StopIteration, KafkaUnavailableError):
        return False
    return True


def states(log: list[ConsumerRecord]) -> list[bytes]:
    return [
        each.value or b"" for each in log if dict(each.headers).get("redrive-record") == b"state"
    ]


def audited(broker: Broker) -> list[bytes]:
    """Return the state records that the audit topic holds, once its chain is found whole."""
    chain = AuditChain()
    assert [flaw for record in broker.audit for flaw in chain.take(record)] == []
    return [(each.value or b"").partition(b',"done":')[2][:-1] for each in broker.audit]


def driven(broker: Broker) -> Counter[tuple[str | None, int]]:
    headers = [EventHeaders.read(record.headers) for record in broker.sent]
    return Counter((told.of, told.count) for told in headers)


names = st.sampled_from(["anna", "bob"])
moves = st.one_of(
    names,
    st.tuples(st.just("cut"), names),
    st.tuples(st.sampled_from(["well", "badly"]), st.integers(0, 7)),
)
# None, two, or all.
room = st.sampled_from([0, 2_500, 1_000_000])
fates = st.lists(st.sampled_from(["stored", "lost", "unheard"]), max_size=4)


@pytest.mark.invariant("P13")
@settings(max_examples=300)
@example(
    letters=1, page=1, keep=0, schedule=["anna"] * 9, troubles={"anna": ["unheard"], "bob": []}
)
@example(
    letters=2,
    page=1,
    keep=2_500,
    schedule=["anna", "bob"] + ["anna", "anna", "anna", "bob", "bob", "bob"] + ["anna", "bob"] * 2,
    troubles={"anna": [], "bob": ["unheard"]},
)
@given(
    letters=st.integers(1, 6),
    page=st.integers(1, 4),
    keep=room,
    schedule=st.lists(moves, max_size=40),
    troubles=st.fixed_dictionaries({"anna": fates, "bob": fates}),
)
def test_however_two_actors_meet_each_letter_is_driven_once_for_each_count(
    letters: int,
    page: int,
    keep: int,
    schedule: list[str | tuple[str, object]],
    troubles: dict[str, list[str]],
) -> None:
    broker = Broker(letters)
    new = partial(actor, broker, page=page, keep=keep)
    actors = {name: new(name, fates=troubles[name]) for name in ("anna", "bob")}
    for move in schedule:
        match move:
            case str():
                next_step(actors[move], Report())
            case ("cut", str(name)):
                actors[name] = new(name, fates=troubles[name])
            case (how, int(number)):
                broker.end_a_run(number, well=how == "well")
    last, report = new("carl", fates=[]), Report()
    while next_step(last, report):
        pass

    assert set(driven(broker).values()) == {1}
    assert max(count for _, count in driven(broker)) <= MOST
    first = {dlq_id(EVENTS, 0, offset, count=0) for offset in range(letters)}
    assert {of for of, count in driven(broker) if count == 1} == first
    assert audited(broker) == states(broker.log)


@given(
    letters=st.integers(1, 6),
    page=st.integers(1, 4),
    keep=room,
    fates=fates,
)
def test_who_is_not_cut_is_told_of_each_letter_that_was_driven(
    letters: int, page: int, keep: int, fates: list[str]
) -> None:
    broker, report = Broker(letters), Report()
    steps = actor(broker, "anna", page=page, fates=fates, keep=keep)
    while next_step(steps, report):
        pass

    assert set(driven(broker).values()) <= {1}
    assert Counter(done.entry.dlq_id for done in report.done) == Counter(
        of for of, _ in driven(broker)
    )
    assert not report.refused


@given(letters=st.integers(1, 4), cut=st.integers(0, 12), page=st.integers(1, 2))
def test_who_is_shut_out_says_who_has_it(letters: int, cut: int, page: int) -> None:
    broker, report = Broker(letters), Report()
    first = actor(broker, "anna", page=page, fates=[])
    for _ in range(cut):
        next_step(first, report)
    second, other = actor(broker, "bob", page=page, fates=[]), Report()
    while next_step(second, other):
        pass
    while next_step(first, report):
        pass

    assert set(driven(broker).values()) == {1}
    assert len(report.done) + len(other.done) == letters
    # Who had not decided yet finds that all is done.
    has_decided = cut > 2
    wanted = {"bob"} if other.done and has_decided else set()
    assert {taken.by for taken in report.taken_over} == wanted


def test_a_letter_that_no_broker_takes_does_not_hold_up_the_others() -> None:
    broker, report = Broker(2), Report()
    broker.write(_letter(event({}), AWAY))
    broker.write(_letter(event({}), AWAY + 1))
    steps = actor(broker, "anna", page=10, fates=[])
    while next_step(steps, report):
        pass

    assert (len(report.done), len(broker.sent)) == (3, 3)
    assert audited(broker) == states(broker.log)
    assert [(no.refusal, no.why) for no in report.refused] == [("not_taken", "too large")]
