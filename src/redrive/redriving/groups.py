"""Letters by their cause: one group for each fingerprint, with its size, its age and its trend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from redrive.dead_letter.states import State
from redrive.dead_letter.trend import Trend, trend_of
from redrive.redriving.views import LetterSummary

__all__ = ["COMPARED", "HOURS", "LetterGroup", "Window", "group"]

HOURS = 24
COMPARED = 3
"""A window is compared with a time before it that is so many times as long."""

_HOUR = timedelta(hours=1)
_BY_DEFAULT = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Window:
    """The time that trends are about; `until` is not included, unless it is now."""

    since: datetime
    until: datetime

    @classmethod
    def of(cls, now: datetime, *, since: datetime | None, until: datetime | None) -> Window:
        """Return the window that ends at `until` or now; by default it is 6 hours long."""
        end = now if until is None else min(until, now)
        return cls(end - _BY_DEFAULT if since is None else min(since, end), end)

    @property
    def compared(self) -> timedelta:
        """How much of the time before it is compared with it."""
        return COMPARED * (self.until - self.since)


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
        history: What all letters of the cause say, those that are not shown too.
    """

    fingerprint: str | None
    newest: LetterSummary
    workflows: tuple[str, ...]
    count: int
    open: int
    first: datetime
    last: datetime
    hours: tuple[int, ...]
    history: CauseHistory

    @property
    def trend(self) -> Trend:
        """How the window compares with the time before it."""
        return self.history.trend


@dataclass(frozen=True, slots=True)
class CauseHistory:
    """How a cause came about.

    Attributes:
        window: What `recent` is about.
        first: The letter that came first.
        recent: How many came in the window.
        before: How many came in the time before that it is compared with.
    """

    window: Window
    first: LetterSummary
    recent: int
    before: int

    @property
    def trend(self) -> Trend:
        """How the window compares with the time before it."""
        known = self.first.at < self.window.since
        return trend_of(recent=self.recent, before=self.before / COMPARED, known=known)


def group(
    letters: Iterable[LetterSummary],
    now: datetime,
    *,
    window: Window | None = None,
    among: Iterable[LetterSummary] | None = None,
) -> list[LetterGroup]:
    """Return the groups, those with most open letters first, then by their last letter.

    Args:
        letters: Those to show.
        now: The time to count from.
        window: What trends are about; by default the last 6 hours.
        among: All that there are: they say what is new, and what rises; by default `letters`.
    """
    shown = list(letters)
    about = window or Window.of(now, since=None, until=None)
    everything = _by_cause(shown if among is None else among)
    groups = [
        _group(members, now, _history(everything.get(cause, members), about, now))
        for cause, members in _by_cause(shown).items()
    ]
    return sorted(groups, key=lambda one: (one.open, one.last, one.newest.dlq_id), reverse=True)


_Cause = tuple[str | None, ...]


def _by_cause(letters: Iterable[LetterSummary]) -> dict[_Cause, list[LetterSummary]]:
    by_cause: dict[_Cause, list[LetterSummary]] = {}
    for letter in letters:
        by_cause.setdefault(_cause(letter), []).append(letter)
    return by_cause


def _cause(letter: LetterSummary) -> _Cause:
    if letter.fingerprint is not None:
        return (letter.fingerprint,)
    return (None, letter.kind.value, letter.error_type, letter.node, letter.workflow)


def _group(members: list[LetterSummary], now: datetime, history: CauseHistory) -> LetterGroup:
    newest = max(members, key=_place)
    return LetterGroup(
        fingerprint=newest.fingerprint,
        newest=newest,
        workflows=tuple(sorted({letter.workflow for letter in members if letter.workflow})),
        count=len(members),
        open=sum(letter.state is State.OPEN for letter in members),
        first=min(letter.at for letter in members),
        last=newest.at,
        hours=_hours(members, now),
        history=history,
    )


def _history(members: list[LetterSummary], window: Window, now: datetime) -> CauseHistory:
    recent = before = 0
    for letter in members:
        # The clocks of two hosts differ: what seems to come later came just now.
        at = min(letter.at, now)
        if at < window.since:
            before += window.since - at <= window.compared
        else:
            recent += at < window.until or window.until == now
    return CauseHistory(window, min(members, key=_place), recent, before)


def _place(letter: LetterSummary) -> tuple[datetime, str]:
    return (letter.at, letter.dlq_id)


def _hours(members: Iterable[LetterSummary], now: datetime) -> tuple[int, ...]:
    counts = [0] * HOURS
    for letter in members:
        ago = max(now - letter.at, timedelta(0)) // _HOUR
        if ago < HOURS:
            counts[HOURS - 1 - ago] += 1
    return tuple(counts)
