"""Letters that wait too long are spooled, with one alarm each, and go on waiting."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.overdue import Overdue
from redrive.dead_letter.spool import Spool, SpooledLetter, read_spool
from redrive.dead_letter.spooling import SpoolWriter
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.testing.manual_clock import ManualClock
from redrive.testing.worker_process import wait_until

AFTER_S = 60.0


def outcome(offset: int, *, ending: Ending = Ending.DEAD_LETTERED) -> Outcome:
    tp = TopicPartition("events", 1)
    source = ConsumerRecord(tp, offset, b"key", b"value", (), None)
    value = f'{{"dlq_id": "letter-{offset}"}}'.encode()
    letter = ProducerRecord("letters", b"key", value, (("redrive-kind", b"permanent"),), 1)
    return Outcome(PolledRecord(source, epoch=1), ending, (letter,))


class Offered(list[Outcome]):
    """What was offered; and which offsets still belong to this worker."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.held = set(range(10))
        self.overdue = Overdue(self.append, after_s=AFTER_S, clock=self.clock)

    def after(self, seconds: float) -> list[Outcome]:
        self.clock.advance(seconds)
        before = len(self)
        self.overdue.look(lambda polled: polled.offset in self.held)
        return self[before:]


@pytest.fixture
def offered() -> Offered:
    return Offered()


def test_a_letter_is_offered_once_it_has_waited_for_so_long_and_no_sooner(offered: Offered) -> None:
    first, second = outcome(1), outcome(2)
    offered.overdue.waits(first)
    offered.clock.advance(30)
    offered.overdue.waits(second)

    assert offered.after(29.9) == []
    assert offered.after(0.1) == [first]
    assert offered.after(30) == [second]


def test_a_letter_that_goes_on_waiting_is_offered_again_after_as_long(offered: Offered) -> None:
    waiting = outcome(1)
    offered.overdue.waits(waiting)

    assert offered.after(AFTER_S) == [waiting]
    assert offered.after(AFTER_S - 1) == []
    assert offered.after(1) == [waiting]


def test_a_letter_that_is_stored_is_not_offered(offered: Offered) -> None:
    stored, waiting = outcome(1), outcome(2)
    offered.overdue.waits(stored)
    offered.overdue.waits(waiting)
    offered.overdue.stored([stored])

    assert offered.after(AFTER_S) == [waiting]


def test_a_letter_of_a_partition_that_went_is_its_next_owners(offered: Offered) -> None:
    offered.overdue.waits(outcome(1))
    offered.held.clear()

    assert offered.after(AFTER_S) == []
    offered.held.add(1)
    assert offered.after(AFTER_S) == []


def test_results_are_not_offered(offered: Offered) -> None:
    for ending in set(Ending) - {Ending.DEAD_LETTERED}:
        offered.overdue.waits(outcome(1, ending=ending))

    assert offered.after(AFTER_S) == []


def _offer(writer: SpoolWriter, *outcomes: Outcome) -> None:
    for one in outcomes:
        writer.offer(one.records[0], source=one.polled.record)
    wait_until(lambda: writer.idle, timeout_s=10, what="the spool is written")


def test_a_letter_is_spooled_whole_with_one_alarm_however_often_it_is_offered(
    tmp_path: Path,
) -> None:
    path = tmp_path / "letters.jsonl"
    writer = SpoolWriter(Spool(path, max_bytes=2**20))
    first, second = outcome(1), outcome(2)

    with capture_logs() as logs:
        _offer(writer, first, first)
        _offer(writer, first, second)

    found = [one for one in read_spool(path) if isinstance(one, SpooledLetter)]
    assert [one.dlq_id for one in found] == ["letter-1", "letter-2"]
    letter = first.records[0]
    kept = ProducerRecord(
        found[0].topic, found[0].key, found[0].value, found[0].headers, found[0].partition
    )
    assert kept == letter
    assert found[0].source is not None
    assert found[0].source.model_dump() == {"topic": "events", "partition": 1, "offset": 1}
    assert [(log["event"], log["log_level"], log["dlq_id"]) for log in logs] == [
        ("letter.spooled", "error", "letter-1"),
        ("letter.spooled", "error", "letter-2"),
    ]


def test_a_letter_that_a_full_spool_does_not_take_is_told_once(tmp_path: Path) -> None:
    writer = SpoolWriter(Spool(tmp_path / "letters.jsonl", max_bytes=10))

    with capture_logs() as logs:
        _offer(writer, outcome(1), outcome(1))

    (log,) = logs
    assert (log["event"], log["log_level"]) == ("letter.not_spooled", "error")
    assert log["error"] == "the spool is full"


def test_a_letter_that_could_not_be_written_is_written_when_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    writer = SpoolWriter(Spool(folder / "letters.jsonl", max_bytes=2**20))

    with capture_logs() as logs:
        _offer(writer, outcome(1))
        folder.mkdir()
        _offer(writer, outcome(1))

    assert [log["event"] for log in logs] == ["letter.not_spooled", "letter.spooled"]
    assert len(list(read_spool(folder / "letters.jsonl"))) == 1
