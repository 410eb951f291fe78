"""Who is taken for dead: nobody that the group knew of, and everybody else after a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.state.doubts import Doubts, Fate

PATIENCE_S = 5.0
LIVES = st.sets(st.integers(0, 5))


@pytest.mark.invariant("P5")
@given(st.lists(st.tuples(st.floats(0, 2), LIVES, LIVES, LIVES), max_size=12))
def test_a_life_is_over_when_the_group_did_not_name_it_for_so_long(
    steps: list[tuple[float, set[int], set[int], set[int]]],
) -> None:
    doubts, now = Doubts(patience_s=PATIENCE_S), 0.0
    since: dict[int, float] = {}
    named: set[int] = set()

    for passed_s, wanted, asked, members in steps:
        now += passed_s
        doubts.heard(asked, members)
        # What was said of others than those in doubt at the question says nothing of them.
        named |= asked & members & since.keys()
        for life in wanted:
            since.setdefault(life, now)
            fate = doubts.fate(life, now)

            late = now - since[life] >= PATIENCE_S
            assert fate is (Fate.LIVES if life in named else Fate.DIED if late else Fate.OPEN)
        assert doubts.open == since.keys() - named


@pytest.mark.invariant("P5")
def test_what_was_heard_of_a_life_holds_for_one_taking_over_alone() -> None:
    doubts = Doubts(patience_s=PATIENCE_S)
    doubts.fate(7, 0.0)
    doubts.heard({7}, {7})

    doubts.keep(())

    assert doubts.fate(7, 100.0) is Fate.OPEN
    assert doubts.fate(7, 100.0 + PATIENCE_S) is Fate.DIED
