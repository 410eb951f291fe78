"""Letters by their cause: one group for each fingerprint, with its size, its age and its trend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from redrive.dead_letter.states import State
from redrive.redriving.views import LetterSummary

__all__ = ["HOURS", "LetterGroup", "Trend", "group"]

HOURS = 24
RECENT_HOURS = 6
_HOUR = timedelta(hours=1)


class Trend(StrEnum):
    """How the last 6 hours compare with the 18 before them, by letters an hour.

    `rising` is more than twice as many, `falling` less than half, `steady` all else.
    """

    RISING = "rising"
    FALLING = "falling"
    STEADY = "steady"


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """The letters of one cause.

    Attributes:
        fingerprint: What they share; None for letters without one, which share kind, error type,
            node and workflow.
        newest: The letter that came last: its kind, reason, node, type and message speak for all.
        workflows: All of theirs, sorted.
        count: How many there are.
        open: How many of them are open.
        first: When the oldest came.
        last: When the newest came.
        hours: How many came in each of the last 24 hours, the hour that ends now last.
    """

    fingerprint: str | None
    newest: LetterSummary
    workflows: tuple[str, ...]
    count: int
    open: int
    first: datetime
    last: datetime
    hours: tuple[int, ...]

    @property
    def trend(self) -> Trend:
        """Whether more of them come than before."""
        recent = sum(self.hours[-RECENT_HOURS:])
        before = sum(self.hours[:-RECENT_HOURS])
        # By hour: recent / 6 against before / 18.
        if 3 * recent > 2 * before:
            return Trend.RISING
        if 6 * recent < before:
            return Trend.FALLING
        return Trend.STEADY


def group(letters: Iterable[LetterSummary], now: datetime) -> list[LetterGroup]:
    """Return the groups, those with most open letters first, then by their last letter."""
    by_cause: dict[tuple[str | None, ...], list[LetterSummary]] = {}
    for letter in letters:
        by_cause.setdefault(_cause(letter), []).append(letter)
    groups = [_group(members, now) for members in by_cause.values()]
    return sorted(groups, key=lambda one: (one.open, one.last, one.newest.dlq_id), reverse=True)


def _cause(letter: LetterSummary) -> tuple[str | None, ...]:
    if letter.fingerprint is not None:
        return (letter.fingerprint,)
    return (None, letter.kind.value, letter.error_type, letter.node, letter.workflow)


def _group(members: list[LetterSummary], now: datetime) -> LetterGroup:
    newest = max(members, key=lambda letter: (letter.at, letter.dlq_id))
    return LetterGroup(
        fingerprint=newest.fingerprint,
        newest=newest,
        workflows=tuple(sorted({letter.workflow for letter in members if letter.workflow})),
        count=len(members),
        open=sum(letter.state is State.OPEN for letter in members),
        first=min(letter.at for letter in members),
        last=newest.at,
        hours=_hours(members, now),
    )


def _hours(members: Iterable[LetterSummary], now: datetime) -> tuple[int, ...]:
    counts = [0] * HOURS
    for letter in members:
        # The clocks of two hosts differ: what seems to come later came just now.
        ago = max(now - letter.at, timedelta(0)) // _HOUR
        if ago < HOURS:
            counts[HOURS - 1 - ago] += 1
    return tuple(counts)
