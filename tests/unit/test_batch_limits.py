"""Limits of batches: what a link has shown, and that a slow answer is no slow link. [P1]"""

from __future__ import annotations

import pytest

from redrive.consumer.batch_limits import LONGEST_S, MAX_BATCH_BYTES, SMALL_BYTES, BatchLimits


@pytest.mark.parametrize("took_s", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("size_bytes", [300, 20_000, SMALL_BYTES])
def test_a_small_batch_that_took_long_says_nothing_of_the_link(
    size_bytes: int, took_s: float
) -> None:
    limits = BatchLimits()

    limits.confirmed(size_bytes, took_s)

    # A longer transaction would hold back whoever takes over from a worker that died.
    assert limits.allowed_s(MAX_BATCH_BYTES) == 0.0
    assert limits.max_bytes == MAX_BATCH_BYTES


def test_a_batch_on_a_slow_link_gets_the_time_that_it_needs() -> None:
    limits = BatchLimits()

    limits.late(900_000, delivered_bytes=600_000, took_s=10.0)

    assert limits.max_bytes == 60_000
    assert limits.allowed_s(900_000) == 4 * 15.0
    assert limits.allowed_s(9_000_000) == LONGEST_S


def test_a_small_batch_has_its_usual_time_on_any_link() -> None:
    limits = BatchLimits()

    limits.late(100_000, delivered_bytes=0, took_s=10.0)

    assert limits.allowed_s(SMALL_BYTES) == 0.0
    assert limits.allowed_s(SMALL_BYTES + 1) > 0.0


def test_what_a_trial_took_counts_where_nothing_else_is_known() -> None:
    limits = BatchLimits()

    limits.tried(600_000, 10.0)

    assert limits.allowed_s(600_000) == 40.0
