"""What the kit reads in the logs of workers."""

import json
from pathlib import Path

import pytest

from redrive.kafka.log import TopicPartition
from redrive.testing.settle_history import Settled, last_told, read_settled, settled_twice

EVENTS = TopicPartition("events", 0)


def settled(offset: int, at: str = "2026-01-31T14:00:00Z") -> str:
    told = {"topic": "events", "partition": 0, "offset": offset, "ending": "succeeded"}
    return json.dumps({**told, "event": "event.settled", "timestamp": at})


def test_what_was_settled_is_read_from_all_logs_in_the_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "w1.1.log").write_text(
        f'{settled(3, "2026-01-31T14:00:02Z")}\nplain text\n{{"event": "run.started"}}\n'
    )
    # The last line of one that was killed is cut.
    (tmp_path / "w2.1.log").write_text(f"{settled(2)}\n{settled(7)[:-9]}")

    found = read_settled(tmp_path.glob("*.log"))

    assert found == [
        Settled("2026-01-31T14:00:00Z", "w2.1", EVENTS, 2, "succeeded"),
        Settled("2026-01-31T14:00:02Z", "w1.1", EVENTS, 3, "succeeded"),
    ]


@pytest.mark.invariant("P2")
def test_a_record_that_two_lives_have_settled_is_found(tmp_path: Path) -> None:
    (tmp_path / "w1.1.log").write_text(f"{settled(1)}\n{settled(2)}\n")
    (tmp_path / "w1.2.log").write_text(f"{settled(2)}\n")

    (finding,) = settled_twice(read_settled(tmp_path.glob("*.log")))

    assert finding.startswith("told twice: events 0@2 was settled by w1.1 (succeeded")
    assert " and by w1.2 " in finding


def test_an_offset_that_two_records_have_had_may_be_settled_twice(tmp_path: Path) -> None:
    (tmp_path / "w1.1.log").write_text(f"{settled(1)}\n{settled(2)}\n{settled(1)}\n{settled(2)}\n")

    (finding,) = settled_twice(read_settled(tmp_path.glob("*.log")), but={(EVENTS, 1)})

    assert "events 0@2" in finding


def test_the_last_line_of_the_last_life_of_each_is_told(tmp_path: Path) -> None:
    for life, offset in (("w1.9", 1), ("w1.10", 2), ("w2.1", 3)):
        at = f"2026-01-31T14:00:0{offset}Z"
        (tmp_path / f"{life}.log").write_text(f"{settled(offset, at)}\n{settled(7)[:-9]}")

    assert sorted(last_told(tmp_path.glob("*.log"))) == [
        "w1.10 told event.settled at 2026-01-31T14:00:02Z",
        "w2.1 told event.settled at 2026-01-31T14:00:03Z",
    ]
