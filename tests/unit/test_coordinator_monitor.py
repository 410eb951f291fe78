"""What librdkafka's statistics say about the way to the group's coordinator."""

from __future__ import annotations

import json

import pytest

from redrive.kafka.coordinator_monitor import CoordinatorMonitor
from redrive.testing import ManualClock


def statistics(*, state: str = "up", silent_s: float = 0.5) -> str:
    brokers = {"GroupCoordinator": {"rxidle": round(silent_s * 1e6)}}
    return json.dumps({"cgrp": {"state": state}, "brokers": brokers})


def test_before_anything_was_told_the_group_cannot_be_reached() -> None:
    assert (
        CoordinatorMonitor(silent_s=15, clock=ManualClock()).problem
        == "the group's coordinator is not known yet"
    )


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (statistics(), None),
        (statistics(silent_s=14.9), None),
        (statistics(silent_s=20), "the group's coordinator has said nothing for 20 s"),
        (statistics(state="query-coord"), "the group's coordinator cannot be reached"),
        ("{}", "the group's coordinator cannot be reached"),
    ],
)
def test_the_last_word_counts(told: str, problem: str | None) -> None:
    link = CoordinatorMonitor(silent_s=15, clock=ManualClock())
    link.take(statistics(state="init"))

    link.take(told)

    assert link.problem == problem


def test_the_time_without_a_coordinator_is_counted_over_reasons_and_begins_with_each_consumer() -> (
    None
):
    clock = ManualClock()
    link = CoordinatorMonitor(silent_s=15, clock=clock)
    away = []

    for told in (statistics(), statistics(silent_s=20), statistics(state="init")):
        link.take(told)
        clock.advance(10)
        away.append(link.away_s)
    link.options()
    away.append(link.away_s)

    assert away == [0.0, 10.0, 20.0, 0.0]


def test_what_librdkafka_tells_of_partitions_is_passed_by() -> None:
    topics = {"t": {"partitions": {"0": {"rxmsgs": 1}}}}
    link = CoordinatorMonitor(silent_s=15, clock=ManualClock())
    told = {"name": "w", "brokers": {"GroupCoordinator": {"rxidle": 20_000_000}}}

    link.take(json.dumps({**told, "topics": topics, "cgrp": {"state": "up"}, "rx": 1}))

    assert link.problem == "the group's coordinator has said nothing for 20 s"
