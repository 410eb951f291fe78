"""How fast letters go, and what ends the work."""

from __future__ import annotations

from datetime import UTC, datetime

from redrive.redriving.batch_pacing import GUARDED_PAGE, BatchPacer
from redrive.redriving.deciding import Send
from redrive.redriving.partition import Entry
from redrive.redriving.redrive_report import Done
from redrive.redriving.transaction_pages import MAX_PAGE
from redrive.retry.kinds import Kind, Reason
from redrive.testing.manual_clock import ManualClock

ENTRY = Entry(
    partition=0,
    offset=0,
    dlq_id="d",
    event_id="e",
    at=datetime(2026, 1, 2, tzinfo=UTC),
    workflow_id="w",
    kind=Kind.PERMANENT,
    reason=Reason.PERMANENT,
    error_type="ValueError",
    node=None,
    fingerprint=None,
    source_partition=0,
    redrive_count=0,
    can_read=True,
    checkpoint=True,
)


class Asked:
    """A guard that says what it is told to, and remembers what it was asked."""

    def __init__(self, *, answer: bool = True) -> None:
        self.answer = answer
        self.waits: list[bool] = []

    def may_go_on(self, *, wait: bool) -> bool:
        self.waits.append(wait)
        return self.answer


def went(pace: BatchPacer, count: int) -> None:
    pace.went([Done(ENTRY, Send("resume", 1))] * count)


def test_without_wishes_a_page_is_full() -> None:
    assert BatchPacer(ManualClock()).most() == MAX_PAGE


def test_no_more_go_than_the_limit_says() -> None:
    pace = BatchPacer(ManualClock(), limit=7)

    first = pace.most()
    went(pace, 5)

    assert (first, pace.most()) == (7, 2)
    went(pace, 2)
    assert pace.most() == 0


def test_a_rate_makes_small_pages_and_waits_between_them() -> None:
    clock = ManualClock()
    pace = BatchPacer(clock, rate=20)
    began = clock.monotonic()

    for _ in range(3):
        went(pace, pace.most())
    pace.most()

    assert clock.monotonic() - began == 3.0


def test_a_slow_rate_sends_one_at_a_time() -> None:
    clock = ManualClock()
    pace = BatchPacer(clock, rate=0.5)
    began = clock.monotonic()

    for _ in range(3):
        assert pace.most() == 1
        went(pace, 1)

    assert clock.monotonic() - began == 4.0


def test_canaries_go_first_and_are_waited_for_once() -> None:
    guard = Asked()
    pace = BatchPacer(ManualClock(), canary=3, guard=guard)

    sizes = [pace.most()]
    went(pace, 2)
    sizes.append(pace.most())
    went(pace, 1)
    sizes.append(pace.most())
    went(pace, 100)
    sizes.append(pace.most())

    assert sizes == [3, 1, GUARDED_PAGE, GUARDED_PAGE]
    assert guard.waits == [False, True, False]


def test_nothing_more_goes_once_the_guard_has_said_no() -> None:
    guard = Asked(answer=False)
    pace = BatchPacer(ManualClock(), guard=guard)
    went(pace, 1)

    first, guard.answer = pace.most(), True

    assert (first, pace.most()) == (0, 0)
