"""Choosing letters: what a query says, which letters it means, and a page of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from redrive.clock import within_reach
from redrive.dead_letter.states import State
from redrive.redriving.views import LetterSummary
from redrive.retry.kinds import Kind, Reason
from redrive.units import parse_duration

__all__ = ["Page", "Query", "choose", "page_of", "parse_time"]


@dataclass(frozen=True, slots=True)
class Query:
    """Which letters: those that fit everything that is given.

    `since` is included, `until` is not. `ids` names letters by `dlq_id` or by `event_id`; empty
    means all.
    """

    workflow: str | None = None
    kind: Kind | None = None
    reason: Reason | None = None
    node: str | None = None
    fingerprint: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: State | None = None
    ids: frozenset[str] = frozenset()

    def means(self, letter: LetterSummary) -> bool:
        """Say whether the letter fits."""
        return (
            self.workflow in (None, letter.workflow)
            and self.kind in (None, letter.kind)
            and self.reason in (None, letter.reason)
            and self.node in (None, letter.node)
            and self.fingerprint in (None, letter.fingerprint)
            and self.state in (None, letter.state)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (not self.ids or letter.dlq_id in self.ids or letter.event_id in self.ids)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the letters that a query means.

    Attributes:
        letters: Newest first.
        total: How many the query means on all pages.
        after: The cursor of the next page; None when this is the last one.
    """

    letters: tuple[LetterSummary, ...]
    total: int
    after: str | None


def choose(letters: Iterable[LetterSummary], query: Query) -> list[LetterSummary]:
    """Return the letters that the query means, in the order in which they come."""
    return [letter for letter in letters if query.means(letter)]


def page_of(
    letters: Sequence[LetterSummary], query: Query, *, limit: int, after: str | None = None
) -> Page:
    """Return a page of `limit` letters.

    Args:
        letters: Newest first, as `LettersView` has them.
        query: Which of them.
        limit: How many at most, from 1.
        after: The cursor that the page before gave. Letters that have come in the meantime are
            newer, and move none into or out of the pages that follow.

    Raises:
        ValueError: `after` is no cursor, or `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"a page of {limit} letters: ask for 1 at least")
    found = choose(letters, query)
    rest = found
    if after is not None:
        before = _read_cursor(after)
        rest = [letter for letter in found if _place(letter) < before]
    some = rest[:limit]
    return Page(tuple(some), len(found), _cursor(some[-1]) if len(rest) > limit else None)


def parse_time(text: str, now: datetime) -> datetime:
    """Read `2h` or `3d` as so long before `now`, anything else as ISO 8601, by default in UTC.

    Raises:
        ValueError: It is neither.
    """
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time: write 30m, 2h or 3d for how long ago, or 2026-01-31T08:00Z"
        ) from None
    # One at the edge of what a date can hold may have none in UTC.
    return within_reach(at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(UTC)


def _place(letter: LetterSummary) -> tuple[datetime, str]:
    return (letter.at, letter.dlq_id)


def _cursor(letter: LetterSummary) -> str:
    return f"{letter.at.isoformat()}/{letter.dlq_id}"


def _read_cursor(text: str) -> tuple[datetime, str]:
    at, _, dlq_id = text.partition("/")
    try:
        parsed = datetime.fromisoformat(at)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise ValueError(f"{text!r} is not a cursor: use the one that the previous page printed")
    return (parsed, dlq_id)
