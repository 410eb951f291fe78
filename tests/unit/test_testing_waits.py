"""How tests wait: as long as something moves, and no longer than that."""

from itertools import count

import pytest

from redrive.testing.clock import TurnedClock
from redrive.testing.worker import wait_until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> TurnedClock:
    clock = TurnedClock()
    monkeypatch.setattr("redrive.testing.worker.SYSTEM", clock)
    return clock


def test_a_wait_lasts_as_long_as_something_moves(clock: TurnedClock) -> None:
    moves = count()

    wait_until(
        lambda: clock.monotonic() >= 50,
        timeout_s=10,
        what="the end",
        progress=lambda: next(moves),
    )

    assert clock.monotonic() >= 50


def test_a_wait_ends_when_nothing_has_moved_for_its_time(clock: TurnedClock) -> None:
    with pytest.raises(
        TimeoutError, match=r"the end: not within 3\d s, and nothing moved for 10 s"
    ):
        wait_until(
            lambda: False,
            timeout_s=10,
            what="the end",
            progress=lambda: min(clock.monotonic(), 22.0),
        )


def test_a_wait_ends_at_ten_times_its_time_whatever_moves(clock: TurnedClock) -> None:
    with pytest.raises(TimeoutError, match="the end: not within 100 s"):
        wait_until(lambda: False, timeout_s=10, what="the end", progress=clock.monotonic)


def test_a_wait_without_progress_to_look_at_lasts_its_time(clock: TurnedClock) -> None:
    with pytest.raises(TimeoutError, match="the end: not within 10 s"):
        wait_until(lambda: False, timeout_s=10, what="the end")

    assert clock.monotonic() == pytest.approx(10, abs=0.1)
