"""When a worker is alive, when it is ready, and in which words it says that it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redrive.consumer.health import Check, Facts, Phase, is_alive, is_ready

WELL = Facts(Phase.WORKING, loop_still_s=0.1, poll_still_s=0.1, is_member=True, can_settle=True)
LIMIT_S = 30.0


def check(**changes: object) -> tuple[Check, Check]:
    facts = replace(WELL, **changes)  # type: ignore[arg-type]  # a test's own fields
    return is_alive(facts, limit_s=LIMIT_S), is_ready(facts, limit_s=LIMIT_S)


def test_a_worker_that_works_is_both() -> None:
    assert check() == (Check(ok=True, why="working"), Check(ok=True, why="working"))


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
def test_one_that_starts_or_drains_is_alive_and_not_ready(phase: Phase) -> None:
    alive, ready = check(phase=phase)

    assert alive == Check(ok=True, why=phase.value)
    assert ready == Check(ok=False, why=phase.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"loop_still_s": 31.0}, "the event loop stands still for 31 s"),
        ({"poll_still_s": 31.0}, "the poll thread stands still for 31 s"),
        ({"poll_still_s": None}, "the poll thread has ended"),
        ({"settling": "commit does not return"}, "commit does not return"),
        ({"phase": Phase.STOPPED}, "the worker has stopped"),
    ],
)
def test_one_that_does_not_move_is_neither(changes: dict[str, object], why: str) -> None:
    assert check(**changes) == (Check(ok=False, why=why), Check(ok=False, why=why))


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
def test_a_loop_that_stands_still_is_seen_while_starting_and_draining_too(phase: Phase) -> None:
    alive, _ = check(phase=phase, loop_still_s=31.0, poll_still_s=None)

    assert not alive.ok


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"is_member": False}, "the group has not said which partitions are ours"),
        ({"away": "the coordinator is away"}, "the coordinator is away"),
        ({"expected": 3}, "3 partitions wait for their committed offset"),
        ({"can_settle": False}, "no producer is open: results cannot be stored"),
    ],
)
def test_one_that_waits_for_kafka_is_alive_and_not_ready(
    changes: dict[str, object], why: str
) -> None:
    alive, ready = check(**changes)

    assert alive.ok
    assert ready == Check(ok=False, why=why)


def test_a_second_at_the_limit_is_not_over_it() -> None:
    alive, _ = check(loop_still_s=30.0, poll_still_s=30.0)

    assert alive.ok
