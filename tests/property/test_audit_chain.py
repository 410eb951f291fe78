"""What a chain of audit records shows of a log that somebody has changed, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.dead_letter.audit_chain import (
    AuditChain,
    Flaw,
    FlawKind,
    Plan,
    audit_record,
    read_audit_record,
)
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving.audit_trail import AuditTrail

AUDIT = TopicPartition("audit", 0)
STEP = 3
"""Between two records lie offsets of transactions' ends."""


class Log:
    """One partition: what is committed, as a trail reads it."""

    def __init__(self) -> None:
        self.records: list[ConsumerRecord] = []

    def end(self) -> int:
        return STEP * len(self.records)

    def read(self, start: int, stop: int) -> Iterator[ConsumerRecord]:
        yield from [record for record in self.records if start <= record.offset < stop]

    def write(self, told: ProducerRecord) -> None:
        self.records.append(
            ConsumerRecord(AUDIT, self.end(), told.key, told.value, told.headers, 1)
        )


def state(number: int, actor: str) -> ProducerRecord:
    told = LetterState(
        dlq_id=f"letter-{number}",
        event_id=None,
        state=State.DISCARDED,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        actor=actor,
    )
    return ProducerRecord("letters", b"key", told.to_bytes(), STATE_HEADERS, 0)


def log_of(doings: list[int]) -> Log:
    """Write what was done: a command with so many letters, or for 0 a worker with one."""
    log, number = Log(), 0
    for letters in doings:
        trail = AuditTrail("audit", log, job="j")
        trail.claim()
        if letters == 0:
            log.write(audit_record(state(number, "worker w"), topic="audit"))
            number += 1
        # A worker writes at any time: also between what a command has read and what it writes.
        late = letters > 2
        for tp in range(letters):
            told = trail.follow(state(number, "anna"))
            if late and tp == 1:
                log.write(audit_record(state(1_000 + number, "worker w"), topic="audit"))
            log.write(told)
            number += 1
    return log


def flaws(records: list[ConsumerRecord]) -> list[Flaw]:
    chain = AuditChain()
    return [flaw for record in records for flaw in chain.take(record)]


def number_of(record: ConsumerRecord) -> int | None:
    told = read_audit_record(record)
    return None if told is None else told.seq


def covered(log: Log, record: ConsumerRecord) -> bool:
    """Say whether a later record of the chain covers this one."""
    told = read_audit_record(record)
    assert told is not None
    later = [read_audit_record(each) for each in log.records if each.offset > record.offset]
    chained = [each for each in later if each is not None and each.seq is not None]
    if told.seq is not None:
        return bool(chained)
    return any((each.until or 0) > record.offset for each in chained)


def changed(record: ConsumerRecord) -> ConsumerRecord:
    """Return it as somebody would who changes who did it, key and all."""
    value = (record.value or b"").replace(b"letter-", b"LETTER-")
    assert value != record.value
    return record._replace(value=value, key=sha256(value).hexdigest()[:32].encode())


doings = st.lists(st.integers(0, 4), min_size=1, max_size=8).filter(any)


@given(doings)
def test_what_commands_and_workers_write_is_whole(done: list[int]) -> None:
    assert flaws(log_of(done).records) == []


@pytest.mark.invariant("P13")
@given(doings, st.data())
def test_a_record_that_a_later_one_covers_is_missed_and_its_change_is_seen(
    done: list[int], data: st.DataObject
) -> None:
    log = log_of(done)
    number = data.draw(st.integers(0, len(log.records) - 1))
    record, before, after = log.records[number], log.records[:number], log.records[number + 1 :]

    removed, altered = flaws(before + after), flaws([*before, changed(record), *after])

    assert bool(altered) is covered(log, record)
    assert bool(removed) is covered(log, record)


@given(doings, st.integers(1, 5))
def test_where_the_oldest_records_are_deleted_the_rest_is_whole(
    done: list[int], deleted: int
) -> None:
    log, chain = log_of(done), AuditChain(start=STEP * deleted)

    left = [flaw for record in log.records[deleted:] for flaw in chain.take(record)]

    assert left == []
    numbers = [number for each in log.records[deleted:] if (number := number_of(each))]
    assert chain.begins_at == next(iter(numbers), None)


@given(doings, st.data())
def test_a_second_record_with_a_number_of_the_chain_is_a_fork(
    done: list[int], data: st.DataObject
) -> None:
    log = log_of(done)
    chained = [each for each in log.records if number_of(each)]
    copied = data.draw(st.sampled_from(chained))._replace(offset=log.end())

    assert [flaw.kind for flaw in flaws([*log.records, copied])] == [FlawKind.FORKED]


@given(doings)
def test_a_command_goes_on_from_the_chain_whatever_else_was_written_there(done: list[int]) -> None:
    log = log_of(done)
    first = next(each for each in log.records if number_of(each))
    log.write(ProducerRecord("audit", None, b"{", (), 0))
    log.write(ProducerRecord("audit", first.key, first.value or b"", (), 0))
    found = flaws(log.records)

    trail = AuditTrail("audit", log, job="j")
    trail.claim()
    log.write(trail.follow(state(0, "bob")))

    assert flaws(log.records) == found
    assert {flaw.kind for flaw in found} == {FlawKind.UNREADABLE, FlawKind.FORKED}


def test_the_first_record_of_a_command_says_what_was_chosen_also_after_an_abort() -> None:
    log = log_of([1])
    trail = AuditTrail("audit", log, job="of bob")
    trail.claim()
    trail.intend(["one", "two", "three"])
    trail.follow(state(0, "bob"))
    trail.claim()  # that was not stored
    log.write(trail.follow(state(1, "bob")))
    log.write(trail.follow(state(2, "bob")))
    trail.claim()
    trail.intend(["three"])
    log.write(trail.follow(state(3, "bob")))

    plans = [told.plan for each in log.records[1:] if (told := read_audit_record(each))]

    assert plans == [Plan.of(["one", "two", "three"]), None, None]
    assert plans[0] is not None
    assert plans[0].letters == 3
    assert flaws(log.records) == []


@given(doings)
def test_what_was_not_stored_is_not_gone_on_from(done: list[int]) -> None:
    log = log_of(done)
    trail = AuditTrail("audit", log, job="j")
    trail.claim()
    trail.follow(state(0, "anna"))

    trail.claim()
    log.write(trail.follow(state(0, "anna")))

    assert flaws(log.records) == []


HOSTILE: list[bytes | None] = [
    None,
    b"",
    b"\xff",
    b"[]",
    b'{"seq": 1}',
    b"[" * 100_000,
    b'{"schema_version": 1, "seq": ' + b"9" * 5_000 + b"}",
    json.dumps({"seq": 0, "done": json.loads(state(0, "x").value or b"")}).encode(),
    json.dumps({"seq": True, "done": None}).encode(),
]


@pytest.mark.invariant("P1")
@rows("value", HOSTILE)
def test_what_is_no_audit_record_is_named_and_harms_nobody(value: bytes | None) -> None:
    chain = AuditChain()

    assert [flaw.kind for flaw in chain.take(ConsumerRecord(AUDIT, 7, None, value, (), 1))] == [
        FlawKind.UNREADABLE
    ]
    assert chain.last is None


def test_a_record_under_a_key_of_its_writers_choice_is_told() -> None:
    told = audit_record(state(0, "worker w"), topic="audit")
    record = ConsumerRecord(AUDIT, 0, b"chosen", told.value, told.headers, 1)

    assert "its key is not the hash" in flaws([record])[0].what


def test_the_signature_of_a_state_is_kept_with_it() -> None:
    signed = state(0, "anna")._replace(headers=(*STATE_HEADERS, ("redrive-signature", b"v1 k m")))

    told = audit_record(signed, topic="audit")

    assert json.loads(told.value or b"")["signature"] == "v1 k m"
    assert (told.value or b"").endswith(b',"done":' + (signed.value or b"") + b"}")
