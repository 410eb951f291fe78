"""What this process knows of each cause: since when, how often, first with which graph. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from redrive.notify.notice import LetterNotice

__all__ = ["History", "Known"]


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


class History:
    """Remembers causes by fingerprint; of too many, those seen last.

    Args:
        most: How many it remembers.
    """

    def __init__(self, *, most: int = 2_000) -> None:
        self.knows_all = True
        """Whether nothing was forgotten: else a cause that looks new may be an old one."""
        self._most = most
        self._known: dict[str, Known] = {}

    def see(self, first: LetterNotice, count: int) -> None:
        """Take note of `count` more letters of one cause, `first` the first of them."""
        fingerprint = first.cause.fingerprint
        known = self._known.pop(fingerprint, None) or Known(first.at, 0, first.graph_version)
        # At the end: the first in the dict is the one not seen for longest.
        self._known[fingerprint] = replace(known, total=known.total + count)
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]
            self.knows_all = False

    def of(self, fingerprint: str) -> Known | None:
        """Return what is known of a cause; None when it was forgotten."""
        return self._known.get(fingerprint)
