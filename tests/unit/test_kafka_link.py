"""What librdkafka's statistics say about the way to the group's coordinator."""

from __future__ import annotations

import json

import pytest

from redrive.kafka.link import Link


def statistics(*, state: str = "up", silent_s: float = 0.5) -> str:
    brokers = {"GroupCoordinator": {"rxidle": round(silent_s * 1e6)}}
    return json.dumps({"cgrp": {"state": state}, "brokers": brokers})


def test_before_anything_was_told_the_group_cannot_be_reached() -> None:
    assert Link(silent_s=15).problem == "the group's coordinator is not known yet"


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
    link = Link(silent_s=15)
    link.take(statistics(state="init"))

    link.take(told)

    assert link.problem == problem
