"""Windows and digests: counts add up, and of one cause comes one message a window at most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.dead_letter.trend import Trend
from redrive.notify.digest import Digest
from redrive.notify.notice import LetterNotice
from redrive.notify.reports import AlarmReport, CauseReport, OthersReport, Report
from redrive.notify.rules import NotifyRule, Routing
from redrive.notify.windows import Counted, DueNotice, NoRoom, Windows
from redrive.retry.kinds import Kind, Reason
from redrive.testing.manual_clock import ManualClock

WINDOW_S = 100.0

# How far the clock is turned, which key, how many, and from how many on it is told.
arrivals = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.5, 3.0, 40.0, 99.0, 150.0, 500.0]),
        st.integers(0, 5),
        st.integers(1, 40),
        st.sampled_from([1, 1, 2, 30, 100]),
    ),
    max_size=60,
)


def one(count: int) -> Counted[int]:
    return Counted(count, 0, 0)


@given(arrivals)
def test_what_is_added_is_told_refused_or_silent(given_: list[tuple[float, int, int, int]]) -> None:
    windows: Windows[int, int] = Windows(WINDOW_S, most_open=3, most_quiet=2)
    now, added, refused, told = 0.0, 0, 0, 0

    for wait_s, key, count, threshold in given_:
        now += wait_s
        told += sum(said.new.count for said in windows.due(now))
        said = windows.add(key, one(count), now, threshold=threshold)
        added += count
        refused += said.new.count if isinstance(said, NoRoom) else 0
        told += said.new.count if isinstance(said, DueNotice) else 0
    told += sum(said.new.count for said in windows.flush())

    assert told + refused + windows.silent == added
    assert windows.next_due is None


@given(arrivals)
def test_without_a_threshold_everything_is_told_and_nothing_twice_in_a_window(
    given_: list[tuple[float, int, int, int]],
) -> None:
    windows: Windows[int, int] = Windows(WINDOW_S, most_open=12, most_quiet=0)
    now = 0.0
    added: Counter[int] = Counter()
    told: Counter[int] = Counter()
    times: dict[int, list[float]] = defaultdict(list)

    for wait_s, key, count, _ in given_:
        now += wait_s
        for said in (*windows.due(now), windows.add(key, one(count), now)):
            if isinstance(said, DueNotice):
                told[said.key] += said.new.count
                times[said.key].append(now)
        added[key] += count
    for said in windows.flush():
        told[said.key] += said.new.count

    assert told == added
    for at in times.values():
        assert all(later - earlier >= WINDOW_S for earlier, later in pairwise(at))


@given(arrivals)
def test_so_many_within_a_window_are_always_told(
    given_: list[tuple[float, int, int, int]],
) -> None:
    threshold = 30
    windows: Windows[int, int] = Windows(WINDOW_S, most_open=12, most_quiet=12)
    now = 0.0
    came: list[tuple[float, int]] = []

    for wait_s, _, count, _ in given_:
        now += wait_s
        windows.due(now)
        said = windows.add(0, one(count), now, threshold=threshold)
        came.append((now, count))
        recent = sum(n for at, n in came if at > now - WINDOW_S)
        if windows.next_due is None:
            assert recent < threshold
        elif isinstance(said, DueNotice):
            # Looked at in twentieths of a window: those a little older may count as well.
            reach_s = WINDOW_S * 1.05
            assert sum(n for at, n in came if at > now - reach_s) >= threshold


class Heard:
    """Who was told of how many, and when."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.of_cause: dict[tuple[str, str], list[float]] = defaultdict(list)

    def take(self, reports: list[Report], now: float) -> None:
        for report in reports:
            if isinstance(report, AlarmReport):
                continue
            self.failures[report.channel] += report.told.new.count
            self.messages[report.channel] += 1
            if isinstance(report, CauseReport):
                self.of_cause[report.channel, report.told.key].append(now)


def notice(number: int, *, cause: int, clock: ManualClock) -> LetterNotice:
    return LetterNotice(
        dlq_id=f"letter-{number}",
        at=clock.now(),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        worker="w1",
        workflow_id=f"flow-{cause % 3}",
        fingerprint=f"v1:{cause}",
    )


storms = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 1.0, 30.0, 120.0, 1000.0]), st.integers(0, 60), st.integers(1, 9)
    ),
    max_size=120,
)


def played(digest: Digest, storm: list[tuple[float, int, int]]) -> tuple[Heard, int]:
    clock, told, failures = ManualClock(), Heard(), 0
    for number, (wait_s, cause, count) in enumerate(storm):
        for _ in range(2):
            clock.advance(wait_s / 2)
            told.take(digest.due(clock.monotonic()), clock.monotonic())
        letter = notice(number, cause=cause, clock=clock)
        told.take(
            digest.take([Counted(count, letter, letter)], clock.monotonic()), clock.monotonic()
        )
        failures += count
    told.take(digest.flush(), float("inf"))
    return told, failures


@pytest.mark.invariant("P14", "P11")
@given(storms)
def test_whatever_fails_each_channel_is_told_of_all_of_it_in_few_messages(
    storm: list[tuple[float, int, int]],
) -> None:
    digest = Digest(Routing(["a", "b"]), alarms=["a"], window_s=WINDOW_S, many_letters=50)

    told, failures = played(digest, storm)

    assert told.failures == {name: failures for name in ("a", "b") if failures}
    for at in told.of_cause.values():
        apart = [later - earlier for earlier, later in pairwise(at)]
        assert all(gap_s >= WINDOW_S for gap_s in apart)
    spans = sum(wait_s for wait_s, _, _ in storm) // WINDOW_S + 2
    # Forty causes and the others, however many causes there are.
    assert all(messages <= spans * 41 for messages in told.messages.values())


@given(storms, st.integers(1, 20))
def test_rules_tell_a_part_and_what_they_leave_out_is_counted(
    storm: list[tuple[float, int, int]], count: int
) -> None:
    rules = [
        NotifyRule((), workflow="flow-0"),
        NotifyRule(("pager",), workflow="flow-1", count=count),
    ]
    digest = Digest(Routing(["all", "pager"], rules), alarms=[], window_s=WINDOW_S, many_letters=0)

    told, _ = played(digest, storm)

    of_flow: Counter[int] = Counter()
    for _, cause, n in storm:
        of_flow[cause % 3] += n
    assert told.failures["all"] == of_flow[1] + of_flow[2]
    assert told.failures["pager"] + digest.silent == of_flow[1]


def ten_thousand(clock: ManualClock) -> Iterator[LetterNotice]:
    for number in range(10_000):
        clock.advance(0.01)
        yield notice(number, cause=1, clock=clock)


def test_ten_thousand_equal_failures_make_a_handful_of_reports_that_add_up() -> None:
    clock, told = ManualClock(), Heard()
    digest = Digest(Routing(["a"]), alarms=[], window_s=60.0, many_letters=0)

    for letter in ten_thousand(clock):
        now = clock.monotonic()
        told.take(digest.due(now), now)
        told.take(digest.take([Counted(1, letter, letter)], now), now)
    told.take(digest.flush(), clock.monotonic())

    # At once, after each of the minutes, and the rest at the end.
    assert told.messages["a"] == 3
    assert told.failures["a"] == 10_000


def test_a_cause_that_comes_after_twenty_others_is_told_with_the_rest() -> None:
    clock = ManualClock()
    digest = Digest(Routing(["a"]), alarms=[], window_s=60.0, many_letters=0)
    letters = [notice(number, cause=3 * number, clock=clock) for number in range(25)]

    at_once = digest.take([Counted(1, letter, letter) for letter in letters], 0.0)
    clock.advance(timedelta(minutes=2).total_seconds())
    (others,) = digest.due(clock.monotonic())

    assert len(at_once) == 20
    assert isinstance(others, OthersReport)
    assert others.told.new.count == 5


@pytest.mark.invariant("P11", "P14")
def test_no_workflow_and_nobody_unknown_hides_what_another_fails_of() -> None:
    clock = ManualClock()
    digest = Digest(Routing(["a"]), alarms=[], window_s=60.0, many_letters=0)
    storm = [notice(number, cause=3 * number, clock=clock) for number in range(5_000)]
    unknown = [
        replace(
            notice(number, cause=number, clock=clock),
            workflow_id=f"made-up-{number}",
            reason=Reason.UNKNOWN_WORKFLOW,
        )
        for number in range(5_000, 10_000)
    ]
    letter = notice(10_000, cause=1, clock=clock)

    flood = digest.take([Counted(1, each, each) for each in (*storm, *unknown)], 0.0)
    (report,) = digest.take([Counted(1, letter, letter)], 1.0)

    assert len(flood) <= 40
    assert isinstance(report, CauseReport)
    assert (report.told.key, report.trend) == ("v1:1", Trend.NEW)
