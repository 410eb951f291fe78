"""How a cause develops, by counts alone."""

from __future__ import annotations

import pytest
from tests.rows import rows

from redrive.dead_letter.trend import Trend, trend_of


@rows(
    ("recent", "before", "known", "trend"),
    [
        # Nothing came before the window: it is new, however few or many they are.
        (1, 0, False, Trend.NEW),
        (1000, 0, False, Trend.NEW),
        # It was known, long ago: one or two are no rise.
        (1, 0, True, Trend.STEADY),
        (2, 0, True, Trend.STEADY),
        (3, 0, True, Trend.RISING),
        # Three times as many as before, and not a bit less.
        (3, 1, True, Trend.RISING),
        (5, 2, True, Trend.STEADY),
        (6, 2, True, Trend.RISING),
        (2, 2 / 3, True, Trend.STEADY),
        # Less than half as many as before, and not just half.
        (1, 2, True, Trend.STEADY),
        (1, 2.1, True, Trend.FALLING),
        (0, 1 / 3, True, Trend.FALLING),
        (4, 4, True, Trend.STEADY),
        (0, 0, True, Trend.STEADY),
        (0, 0, False, Trend.STEADY),
    ],
)
def test_a_trend_compares_a_window_with_as_long_a_time_before(
    recent: int, before: float, *, known: bool, trend: Trend
) -> None:
    assert trend_of(recent=recent, before=before, known=known) is trend


@pytest.mark.parametrize(("recent", "trend"), [(9, Trend.STEADY), (10, Trend.RISING)])
def test_who_asks_may_want_more_before_it_is_a_rise(recent: int, trend: Trend) -> None:
    assert trend_of(recent=recent, before=1, known=True, least_rising=10) is trend
