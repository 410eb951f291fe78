"""What was seen is remembered apart for each group, within bounds."""

from __future__ import annotations

import pytest

from redrive.telemetry.recent_groups import Recent, has_room


@pytest.mark.invariant("P11")
def test_of_too_many_keys_the_one_seen_least_recently_goes_and_no_other_groups() -> None:
    recent: Recent[int] = Recent(most_groups=2, most_each=2)

    for key, value in (("x", 1), ("y", 2), ("x", 3), ("z", 4)):
        recent.see("a", key, value)
    recent.see("b", "y", 5)

    assert [recent.get("a", key) for key in "xyz"] == [3, None, 4]
    assert recent.get("b", "y") == 5
    assert (recent.knows_all("a"), recent.knows_all("b")) == (False, True)


@pytest.mark.invariant("P11")
def test_of_too_many_groups_the_one_seen_least_recently_goes() -> None:
    recent: Recent[int] = Recent(most_groups=2, most_each=2)

    for group in ("a", "b", "a", "c"):
        recent.see(group, "x", 1)

    assert [recent.get(group, "x") for group in "abc"] == [1, None, 1]
    assert not recent.knows_all("d"), "it may be the one that was forgotten"


def test_one_alone_takes_half_and_each_newcomer_finds_room() -> None:
    taken: dict[str, int] = {}
    for group in "abc":
        taken[group] = 0
        while has_room(taken[group], sum(taken.values()), most=40):
            taken[group] += 1

    assert taken == {"a": 20, "b": 10, "c": 5}
