"""How the letters of a topic stand, in numbers. Pure: reading them is `redrive.redriving.views`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from redrive.dead_letter.letter_settings import LetterSettings
from redrive.dead_letter.states import State
from redrive.redriving.views import LetterSummary

__all__ = ["RATE_WINDOW", "LetterStats", "letter_alarms", "letter_stats"]

RATE_WINDOW = timedelta(minutes=10)
"""The time over which letters per minute are counted."""

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class LetterStats:
    """Letters in numbers.

    Attributes:
        open: How many nobody has dealt with.
        per_minute: How many came, over the last ten minutes, in whatever state they are now.
        oldest_open: The age of the oldest open one; None when there is none.
        retention_used: That age as a part of the retention: at 1 the letter is deleted.
    """

    open: int
    per_minute: float
    oldest_open: timedelta | None
    retention_used: float


def letter_stats(
    letters: Iterable[LetterSummary], *, now: datetime, retention: timedelta
) -> LetterStats:
    """Count letters, one summary for each.

    Args:
        letters: In any order.
        now: The time to count from; a letter that is younger counts as one of now.
        retention: How long the topic keeps a letter.
    """
    open_, recent = 0, 0
    oldest: timedelta | None = None
    for letter in letters:
        age = max(now - letter.at, timedelta(0))
        recent += age < RATE_WINDOW
        if letter.state is State.OPEN:
            open_ += 1
            oldest = age if oldest is None else max(oldest, age)
    return LetterStats(
        open=open_,
        per_minute=recent / (RATE_WINDOW / _MINUTE),
        oldest_open=oldest,
        retention_used=(oldest or timedelta(0)) / retention,
    )


def letter_alarms(
    told: LetterStats, limits: LetterSettings, *, kept: str = "letters.retention"
) -> list[str]:
    """Return a line for each limit of `letters.*` that is reached; `kept` names the retention."""
    alarms = []
    if told.open >= limits.many_open:
        alarms.append(f"{told.open} letters are open (letters.many_open is {limits.many_open})")
    if told.retention_used >= limits.near_retention:
        alarms.append(
            f"the oldest open letter has used {told.retention_used:.0%} of {kept} "
            f"(letters.near_retention is {limits.near_retention:.0%}): deal with it, export it, or "
            "keep letters longer"
        )
    return alarms
