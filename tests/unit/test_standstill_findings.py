"""What the doctor says of what stands still: each way by itself, with what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.rows import rows

from redrive.cli.findings import DoctorFinding, FindingLevel
from redrive.cli.standstill_findings import (
    Leaders,
    judge_leaders,
    judge_standstill,
    judge_waits,
)
from redrive.kafka.committed import GroupNow
from redrive.kafka.log import TopicPartition
from redrive.redriving.run_stories import RecordProgress, RunStatus
from redrive.redriving.standstill import Head, OpenTransaction, Standstill

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = GroupNow("stable", 2)
RUNNING, WAITING = RunStatus.MAY_BE_RUNNING, RunStatus.WAITING


def head(
    status: RunStatus, *, minutes: float, owner: str | None = "w1", until: timedelta | None = None
) -> Standstill:
    at = NOW - timedelta(minutes=minutes)
    due = None if until is None else NOW + until
    return Standstill(GROUP, heads={3: Head(7, "e", at, RecordProgress(status, 1, 2), due, owner)})


def judged(seen: Standstill) -> list[DoctorFinding]:
    return list(judge_standstill(seen, topic="events", group="g", servers="b:9092", now=NOW))


OK, WARNING, ERROR = FindingLevel.OK, FindingLevel.WARNING, FindingLevel.ERROR


@pytest.mark.invariant("P1")
@rows(
    "seen, level, said",
    [
        (Standstill(GROUP), OK, "nothing stands still"),
        (head(RUNNING, minutes=14), OK, "nothing stands still"),
        (head(RUNNING, minutes=16), WARNING, "0:16:00 old, may be running at w1"),
        (head(RUNNING, minutes=16), WARNING, "1 attempt(s) failed, 2 crash(es)"),
        (head(WAITING, minutes=0.5), OK, "nothing stands still"),
        (head(WAITING, minutes=2), WARNING, "has not been begun by w1"),
        (head(WAITING, minutes=90, until=timedelta(hours=1)), OK, "waits until 2026-01-01T01:00"),
        (head(WAITING, minutes=90, until=-timedelta(hours=1)), WARNING, "has not been begun"),
        (head(WAITING, minutes=0, owner=None), WARNING, "none of the 2 member(s) of group 'g'"),
        (Standstill(GROUP, before={0: 9}), WARNING, "belongs to the earlier topic (0 at 9)"),
        (
            Standstill(GROUP, beyond={0: (9, 4)}),
            WARNING,
            "ends at 4, and group 'g' has committed 9",
        ),
        (
            Standstill(GROUP, pending=(1, 2)),
            ERROR,
            "for partitions 1, 2 of 'events' cannot be read",
        ),
        (
            Standstill(
                GROUP, (OpenTransaction(TopicPartition("r", 1), 5, 8, NOW - timedelta(minutes=1)),)
            ),
            WARNING,
            "partition 1 of 'r': a transaction is open at offset 5, written 0:01:00 ago",
        ),
    ],
)
def test_each_way_to_stand_still_is_told_with_advice(
    seen: Standstill, level: FindingLevel, said: str
) -> None:
    found = [one for one in judged(seen) if said in one.what]

    assert [one.level for one in found] == [level]
    assert found[0].level is OK or found[0].advice


def test_where_nobody_is_in_the_group_the_lag_tells_it() -> None:
    seen = head(WAITING, minutes=5, owner=None)

    assert [one.level for one in judged(Standstill(GroupNow("empty"), heads=seen.heads))] == [OK]


def test_of_many_partitions_some_are_told_and_the_rest_are_counted() -> None:
    (one,) = head(RUNNING, minutes=60).heads.values()

    told = [found.what for found in judged(Standstill(GROUP, heads=dict.fromkeys(range(30), one)))]

    assert len(told) == 11
    assert told[-1] == "20 more partitions like this"


def test_leaders_and_replicas_in_sync_are_told_by_topic() -> None:
    well = Leaders("events", {0: 2, 1: 2}, least_in_sync=2, is_written=False)
    dead = Leaders("results", {0: 2, 1: None, 2: 1}, least_in_sync=2, is_written=True)

    assert [one.level for one in judge_leaders([well])] == [OK]
    leaderless, thin = judge_leaders([well, dead])
    assert "partition 1 of 'results' without a leader: records for it wait apart" in leaderless.what
    assert "partition 2 of 'results' with fewer than 2 replicas in sync" in thin.what
    assert leaderless.advice
    assert thin.advice


def test_what_a_worker_waits_for_is_told_where_that_is_not_as_it_should_be() -> None:
    found = list(
        judge_waits(
            {"memory": 4, "slot": 9, "offsets": 1}, {"memory": 75, "slot": 75, "offsets": 3}
        )
    )

    assert [one.what for one in found] == [
        "a worker here has waited for 0:01:15 (memory, 4): runs, for room in worker.buffer"
    ]
