"""How tests wait: as long as something moves, and no longer than that."""

from itertools import count
from pathlib import Path

import pytest

from redrive.testing.manual_clock import ManualClock
from redrive.testing.worker_process import wait_until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr("redrive.testing.worker_process.SYSTEM", clock)
    monkeypatch.setattr("redrive.testing.worker_process._PRESSURE", tmp_path / "cpu")
    return clock


def test_a_wait_lasts_as_long_as_something_moves(clock: ManualClock) -> None:
    moves = count()

    wait_until(
        lambda: clock.monotonic() >= 50,
        timeout_s=10,
        what="the end",
        progress=lambda: next(moves),
    )

    assert clock.monotonic() >= 50


def test_a_wait_ends_when_nothing_has_moved_for_its_time(clock: ManualClock) -> None:
    with pytest.raises(
        TimeoutError, match=r"the end: not within 3\d s, and nothing moved for 10 s"
    ):
        wait_until(
            lambda: False,
            timeout_s=10,
            what="the end",
            progress=lambda: min(clock.monotonic(), 22.0),
        )


def test_a_wait_ends_at_ten_times_its_time_whatever_moves(clock: ManualClock) -> None:
    with pytest.raises(TimeoutError, match="the end: not within 100 s"):
        wait_until(lambda: False, timeout_s=10, what="the end", progress=clock.monotonic)


def test_a_wait_without_progress_to_look_at_lasts_its_time(clock: ManualClock) -> None:
    with pytest.raises(TimeoutError, match="the end: not within 10 s"):
        wait_until(lambda: False, timeout_s=10, what="the end")

    assert clock.monotonic() == pytest.approx(10, abs=0.1)


def test_a_wait_lasts_five_times_as_long_where_others_wait_for_a_processor(
    clock: ManualClock, tmp_path: Path
) -> None:
    (tmp_path / "cpu").write_text(
        "some avg10=100.00 avg60=3.00 avg300=1.00 total=9\nfull avg10=0\n"
    )

    with pytest.raises(TimeoutError, match="the end: not within 50 s"):
        wait_until(lambda: False, timeout_s=10, what="the end")

    assert clock.monotonic() == pytest.approx(50, abs=0.2)
