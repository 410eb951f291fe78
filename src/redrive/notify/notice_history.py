"""What this process knows of each cause: since when, how often, first with which graph. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from redrive.notify.notice import LetterNotice, NoticeCause
from redrive.telemetry.recent_groups import Recent

__all__ = ["Known", "NoticeHistory"]


_MOST_WORKFLOWS = 50


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one cause.

    Attributes:
        since: When it was first seen.
        total: How many letters it has made since.
        first_version: The version of the graph in which it was first seen.
    """

    since: datetime
    total: int
    first_version: str | None


class NoticeHistory:
    """Remembers causes, apart for each workflow; of too many, those seen last.

    Args:
        most: How many of a workflow it remembers.
    """

    def __init__(self, *, most: int = 1_000) -> None:
        self._known: Recent[Known] = Recent(most_groups=_MOST_WORKFLOWS, most_each=most)

    def see(self, first: LetterNotice, count: int) -> None:
        """Take note of `count` more letters of one cause, `first` the first of them."""
        cause = first.cause
        known = self.of(cause) or Known(first.at, 0, first.graph_version)
        seen = replace(known, total=known.total + count)
        self._known.see(cause.group, cause.fingerprint, seen)

    def of(self, cause: NoticeCause) -> Known | None:
        """Return what is known of a cause; None when it was forgotten."""
        return self._known.get(cause.group, cause.fingerprint)

    def knows_all(self, cause: NoticeCause) -> bool:
        """Say whether nothing of its workflow was forgotten: else what looks new may be old."""
        return self._known.knows_all(cause.group)
