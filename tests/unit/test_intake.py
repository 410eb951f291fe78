"""Taking events in: what one record does must not cost the others."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from redrive.consumer.answers import Answers
from redrive.consumer.intake import Intake
from redrive.consumer.leftovers import Leftovers
from redrive.consumer.outcome import Delivery, Outcome
from redrive.consumer.turns import Turns
from redrive.errors import RecordError
from redrive.graphs.lease import Lease
from redrive.kafka.log import Place, Record
from redrive.testing.clock import TurnedClock

PLACE = Place("events", 0)


class Broken(Answers):
    """Has a bug that one record meets."""

    def unreadable(self, delivery: Delivery, error: RecordError) -> Outcome:
        if delivery.offset == 1:
            raise ZeroDivisionError
        return super().unreadable(delivery, error)


@pytest.mark.invariant("P7")
def test_a_record_that_meets_a_bug_leaves_those_behind_it_alone() -> None:
    clock, finished = TurnedClock(), list[Outcome]()
    answers = Broken(
        results_topic="results",
        dlq_topic="letters",
        max_bytes={"results": 10**6, "letters": 10**6},
        worker="w",
        clock=clock,
    )
    runner: Any = None
    keep: Any = None
    intake = Intake(
        runner,
        answers,
        Turns(in_flight=4, max_crashes=3, suspects_at_once=2),
        Leftovers(lambda _: None, grace_s=1.0),
        finish=finished.append,
        new_lease=Lease,
        keep=keep,
        clock=clock,
    )
    deliveries = [Delivery(Record(PLACE, at, None, b"{", (), None), epoch=1) for at in range(3)]

    with capture_logs() as logs:
        intake.accept(deliveries)

    assert [outcome.delivery.offset for outcome in finished] == [0, 2]
    (told,) = [line for line in logs if line["event"] == "event.not_taken"]
    assert (told["offset"], told["log_level"]) == (1, "error")
