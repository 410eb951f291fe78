"""The watchdog of progress: what stands still is found, what waits for a reason is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redrive.consumer.progress_watch import Moment, ProgressWatch, WaitsFor, due

WELL = Moment(
    polled=0.0,
    away=None,
    can_settle=True,
    unsettled=None,
    settled=0,
    is_member=True,
    expected=0,
    opened=0,
)
LIMIT_S = 10.0
REBALANCE_S = 50.0


def looked(moments: list[Moment]) -> tuple[WaitsFor | None, int]:
    """Look once a second; return what stood still for too long, and at which look."""
    progress = ProgressWatch(limit_s=LIMIT_S)
    for second, moment in enumerate(moments):
        # The poll thread moves, unless the moment says otherwise.
        polled = replace(moment, polled=moment.polled or second + 1)
        late = progress.look(due(polled, rebalance_s=REBALANCE_S), passed_s=1.0)
        if late is not None:
            assert progress.still is not None
            assert late.what in progress.still
            return late.waits_for, second
    assert progress.still is None
    return None, len(moments)


@pytest.mark.invariant("P1")
@pytest.mark.parametrize(
    ("changes", "waits_for", "limit_s"),
    [
        ({"unsettled": "batch 3 to be stored"}, WaitsFor.SETTLING, LIMIT_S),
        ({"expected": 2}, WaitsFor.OFFSETS, LIMIT_S),
        ({"is_member": False}, WaitsFor.GROUP, LIMIT_S + REBALANCE_S),
        ({"polled": 5.0}, WaitsFor.POLLING, LIMIT_S),
        ({"polled": 5.0, "away": "the coordinator is away"}, WaitsFor.POLLING, LIMIT_S),
    ],
)
def test_what_does_not_move_for_longer_than_it_may_is_found(
    changes: dict[str, object], waits_for: WaitsFor, limit_s: float
) -> None:
    status = replace(WELL, **changes)  # type: ignore[arg-type]  # a test's own fields

    assert looked([status] * 100) == (waits_for, int(limit_s) + 1)


@pytest.mark.invariant("P1", "P7")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unsettled": "batch 3 to be stored", "away": "the coordinator is away"},
        {"unsettled": "batch 3 to be stored", "can_settle": False},
        {"expected": 2, "is_member": False, "away": "the coordinator is away"},
    ],
)
def test_what_waits_for_a_broker_that_is_away_is_not(changes: dict[str, object]) -> None:
    waiting = replace(WELL, **changes)  # type: ignore[arg-type]  # a test's own fields

    assert looked([waiting] * 200) == (None, 200)


def test_what_moves_now_and_then_begins_anew_each_time() -> None:
    moments = [replace(WELL, unsettled="a batch", settled=second // 9) for second in range(200)]

    assert looked(moments) == (None, 200)


def test_a_broker_that_comes_back_is_given_the_whole_time() -> None:
    waits = replace(WELL, unsettled="a batch")
    moments = [waits] * 9 + [replace(waits, away="away")] * 50 + [waits] * 100

    assert looked(moments) == (WaitsFor.SETTLING, 59 + int(LIMIT_S) + 1)
