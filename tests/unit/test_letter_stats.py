"""Letters in numbers: open ones, how fast they come, how near the oldest is to its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from redrive.dead_letter.states import State
from redrive.redriving.letter_stats import LetterStats, letter_stats
from redrive.redriving.views import LetterSummary
from redrive.retry.kinds import Kind, Reason

NOW = datetime(2026, 5, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


def letter(age: timedelta, state: State = State.OPEN) -> LetterSummary:
    return LetterSummary(
        dlq_id=f"{age} {state}",
        event_id=None,
        workflow=None,
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        node=None,
        fingerprint=None,
        error_type="ValueError",
        message="",
        at=NOW - age,
        redrive_count=0,
        partition=0,
        offset=0,
        state=state,
    )


def test_no_letters_are_no_figures() -> None:
    assert letter_stats([], now=NOW, retention=MONTH) == LetterStats(0, 0.0, None, 0.0)


def test_only_open_letters_age_and_all_that_came_lately_count_as_coming() -> None:
    letters = [
        letter(timedelta(days=29), State.RESOLVED),
        letter(timedelta(days=15)),
        letter(timedelta(days=3)),
        *(letter(timedelta(minutes=9, seconds=s), State.REDRIVEN) for s in range(20)),
        letter(timedelta(minutes=10), State.PARKED),
    ]

    figures = letter_stats(letters, now=NOW, retention=MONTH)

    assert figures == LetterStats(
        open=2, per_minute=2.0, oldest_open=timedelta(days=15), retention_used=0.5
    )


def test_a_letter_of_a_clock_that_is_ahead_is_one_of_now() -> None:
    figures = letter_stats([letter(timedelta(minutes=-5))], now=NOW, retention=MONTH)

    assert figures == LetterStats(1, 0.1, timedelta(0), 0.0)
