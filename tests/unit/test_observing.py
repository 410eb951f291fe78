"""Who watches a worker hears of what ended, and cannot hurt it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from redrive.consumer.event_run import Run
from redrive.consumer.observing import AttemptEnd, Observers
from redrive.consumer.outcome import Account, Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.errors import RecordError
from redrive.events import EventHeaders, WorkflowResultEvent
from redrive.graphs.attempt_ends import Ended, GraphVersion
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.telemetry.instruments import Counter
from redrive.telemetry.metrics import OBSERVER_FAILURES
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

PLACE = TopicPartition("events", 2)
ENDING = Account(PLACE, 5, Ending.SUCCEEDED)
ATTEMPT = AttemptEnd("report", "e", 1, kind=None, took_s=0.1)
CANARY = "the customer's own words"


class Diary:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[AttemptEnd | Account] = []

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        self.heard.append(attempt)

    def settled(self, accounts: Sequence[Account]) -> None:
        self.heard.extend(accounts)


class Raising:
    """Has a bug."""

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        raise KeyError(attempt.workflow_id)

    def settled(self, accounts: Sequence[Account]) -> None:
        raise ValueError("password=hunter2 is wrong", len(accounts))


class Slow(Diary):
    """Takes its time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def settled(self, accounts: Sequence[Account]) -> None:
        self._clock.advance(0.75)
        super().settled(accounts)


def test_who_raises_is_logged_once_for_each_error_and_counted_and_others_hear_all() -> None:
    diary, failures = Diary(), Counter(OBSERVER_FAILURES)
    observers = Observers([Raising(), diary], failures=failures)

    with capture_logs() as logs:
        for _ in range(3):
            observers.attempt_ended(ATTEMPT)
            observers.settled([ENDING])

    assert diary.heard == [ATTEMPT, ENDING] * 3
    assert failures.read().values == {("Raising",): 6}
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("observer.failed", "error")
    ] * 2
    assert {line["observer"] for line in logs} == {"Raising"}
    assert "KeyError" in logs[0]["error"]
    assert "ValueError" in logs[1]["error"]
    assert "hunter2" not in logs[1]["error"]


def test_who_takes_long_is_told_of_once() -> None:
    clock = ManualClock()
    slow = Slow(clock)
    observers = Observers([slow, Diary()], clock=clock)

    with capture_logs() as logs:
        for _ in range(3):
            observers.settled([ENDING])

    assert len(slow.heard) == 3
    assert [(line["event"], line["observer"], line["took_s"]) for line in logs] == [
        ("observer.slow", "Slow", 0.75)
    ]


def test_nobody_is_called_for_nothing() -> None:
    failures = Counter(OBSERVER_FAILURES)
    observers = Observers([Raising()], failures=failures)

    observers.settled([])

    assert failures.read().values == {}


def answers(clock: ManualClock) -> OutcomeBuilder:
    return OutcomeBuilder(
        results_topic="results",
        dlq_topic="letters",
        max_bytes={"results": 10_000, "letters": 30_000},
        worker="w",
        clock=clock,
    )


def run(clock: ManualClock) -> Run:
    """Return a run that began 2 s ago, of an event that was sent 60 s ago."""
    asked = event({"words": CANARY}, workflow_id="report")
    asked = asked.model_copy(update={"timestamp": clock.now() - timedelta(seconds=60)})
    record = ConsumerRecord(PLACE, 5, b"key", asked.to_bytes(), (("redrive-count", b"1"),), 1)
    headers = EventHeaders(count=1)
    return Run(
        PolledRecord(record, 1), asked, headers, "t", failed_before=2, began=clock.monotonic() - 2
    )


VERSION = GraphVersion("report", "7")
ENDINGS: dict[str, Callable[[OutcomeBuilder, Run], Outcome]] = {
    "success": lambda a, r: a.ended(r, Ended({}, resumed=False, graph=VERSION)),
    "said": lambda a, r: a.ended(
        r, Ended({}, resumed=False, reason=Reason.GRAPH_FAILED, error="no source", graph=VERSION)
    ),
    "given up": lambda a, r: a.given_up(
        r,
        GivenUp(
            ValueError("first line\nsecond line"),
            Failure(Kind.PERMANENT),
            Reason.PERMANENT,
            node="write",
            graph=VERSION,
        ),
    ),
    "too large": lambda a, r: a.ended(r, Ended({"x": "y" * 20_000}, resumed=False)),
    "expired": lambda a, r: a.expired(r),
    "unreadable": lambda a, r: a.unreadable(r.polled, RecordError("field 'payload'")),
    "skipped": lambda a, r: a.skipped(r.polled, r.event),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_every_ending_is_told_with_its_place_and_without_what_the_event_holds(how: str) -> None:
    clock = ManualClock()
    ended = run(clock)

    outcome = ENDINGS[how](answers(clock), ended)

    told = outcome.account
    assert told is not None
    assert (told.tp, told.offset, told.ending) == (PLACE, 5, outcome.ending)
    assert (told.workflow_id, told.event_id) == ("report", ended.event.event_id)
    assert CANARY not in repr(told)


@pytest.mark.parametrize("how", ["success", "said", "given up", "too large", "expired"])
def test_the_ending_of_a_run_is_told_as_its_result_says_it(how: str) -> None:
    clock = ManualClock()

    outcome = ENDINGS[how](answers(clock), run(clock))

    told = outcome.account
    result = WorkflowResultEvent.from_bytes(outcome.records[0].value)
    assert told is not None
    assert result.run is not None
    assert told.error == result.error_info
    assert (told.attempts, told.redrive_count) == (result.run.attempts, 1)
    assert told.took_s == pytest.approx(2.0)
    assert told.age_s == pytest.approx(60.0)


def test_the_headline_is_the_first_line_of_the_message() -> None:
    clock = ManualClock()

    letter, success = (ENDINGS[how](answers(clock), run(clock)) for how in ("given up", "success"))

    assert letter.account is not None
    assert letter.account.headline == "first line"
    assert letter.account.graph == VERSION
    assert success.account is not None
    assert success.account.headline == ""


def test_an_event_from_the_future_is_of_no_age() -> None:
    clock = ManualClock()
    early = run(clock)
    later = early.event.model_copy(update={"timestamp": clock.now() + timedelta(hours=1)})

    outcome = answers(clock).expired(replace(early, event=later))

    assert outcome.account is not None
    assert outcome.account.age_s == 0.0
