"""A series is judged by its first and its last third: what wavers is no leak, what climbs is."""

import random
from itertools import islice

import pytest
from tests.chaos.leaks import Sample, trend
from tests.chaos.steady import MORTAL, faults

from redrive.testing.faults import (
    CutLog,
    JoinMember,
    KillBroker,
    KillWorker,
    LeaveMember,
    StopBroker,
    TermWorker,
)


def life(samples: int = 200, **grows: float) -> list[Sample]:
    """Return a life of samples, 5 s apart, that waver; `grows` says by how much in an hour."""
    dice = random.Random(7)

    def at(number: int, what: str, base: int) -> int:
        return base + dice.randint(-3, 3) + round(grows.get(what, 0) * number * 5 / 3600)

    return [
        Sample(
            at_s=1000.0 + 5 * n,
            tasks=at(n, "tasks", 20),
            threads=at(n, "threads", 30),
            descriptors=at(n, "descriptors", 60),
            memory_mib=120 + grows.get("memory_mib", 0) * n * 5 / 3600,
            runs=50 * n,
        )
        for n in range(samples)
    ]


def test_what_only_wavers_has_not_grown() -> None:
    assert trend(life(), warm_up_s=0).growth == []


@pytest.mark.parametrize("what", ["tasks", "threads", "descriptors"])
def test_what_climbs_by_one_every_two_minutes_has_grown(what: str) -> None:
    (told,) = trend(life(**{what: 30}), warm_up_s=0).growth

    assert told.startswith(f"{what} grew from ")


def test_memory_is_told_by_time_and_by_work_and_is_no_growth() -> None:
    found = trend(life(memory_mib=36), warm_up_s=0)

    assert found.growth == []
    assert found.memory_mib_per_hour == pytest.approx(36)
    # 10 runs a second.
    assert found.memory_mib_per_1000_runs == pytest.approx(1)
    assert found.runs == 50 * 199
    assert "+36.0 MiB an hour, +1.00 MiB per 1,000 runs" in str(found)


def test_a_pool_that_fills_in_the_warm_up_has_not_grown() -> None:
    cold = [Sample(5.0 * n, 0, 2 * n, 0, 80.0 + n, 0) for n in range(60)]
    warm = [Sample(300.0 + 5 * n, 0, 120, 0, 140.0, n) for n in range(60)]

    assert trend(cold + warm, warm_up_s=300).growth == []
    assert trend(cold + warm, warm_up_s=0).growth != []


def test_what_abandoned_calls_hold_is_allowed_and_no_more() -> None:
    def abandoning(threads: int) -> list[Sample]:
        return [Sample(5.0 * n, 6, 20 + n // 30 * threads, 25, 110, n, n // 30) for n in range(300)]

    assert trend(abandoning(6), warm_up_s=0).growth == []
    assert trend(abandoning(8), warm_up_s=0).growth != []
    assert "7 calls abandoned" in str(trend(abandoning(6), warm_up_s=0))


def test_a_life_that_is_too_short_is_not_judged() -> None:
    with pytest.raises(ValueError, match="8 samples after the warm-up"):
        trend(life(samples=20), warm_up_s=60)


def test_the_steady_worker_is_never_killed_and_guests_come_one_at_a_time() -> None:
    given = [fault for _, fault in islice(faults(3), 2000)]

    deadly = [fault.worker for fault in given if isinstance(fault, KillWorker | TermWorker)]
    guests = [type(fault) for fault in given if isinstance(fault, JoinMember | LeaveMember)]

    assert set(deadly) == {MORTAL}
    assert not any(isinstance(fault, KillBroker | StopBroker | CutLog) for fault in given)
    assert guests == [JoinMember if n % 2 == 0 else LeaveMember for n in range(len(guests))]
