"""Whether a process that left work behind has died, or only its session has ended.

Pure bookkeeping of the poll thread; times are the caller's monotonic seconds. A broker that stood
still has ended every session when it moves again, and nobody died. So a death is a guess until the
group says who its members are: an incarnation that is one of them has lived on. [P5]
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

__all__ = ["Doubts", "Fate"]


class Fate(StrEnum):
    """What became of a process whose work was taken over."""

    LIVES = "lives"
    DIED = "died"
    OPEN = "open"


class Doubts:
    """The incarnations whose fate decides what is suspected.

    Args:
        patience_s: For so long one may be silent: whose session has ended joins again meanwhile.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: dict[int, float] = {}
        self._living: set[int] = set()

    @property
    def open(self) -> frozenset[int]:
        """Of whom nothing was heard yet."""
        return frozenset(self._since.keys() - self._living)

    def fate(self, incarnation: int, now: float) -> Fate:
        """Return what is known of one; asked for the first time, it is in doubt from now on."""
        since = self._since.setdefault(incarnation, now)
        if incarnation in self._living:
            return Fate.LIVES
        return Fate.DIED if now - since >= self._patience_s else Fate.OPEN

    def is_living(self, incarnation: int) -> bool:
        """Say whether one was heard of while it was in doubt."""
        return incarnation in self._living

    def heard(self, asked: Collection[int], members: Collection[int]) -> None:
        """Take note of who is in the group, as it said after `asked` were in doubt."""
        self._living.update(self._since.keys() & set(asked) & set(members))

    def keep(self, incarnations: Collection[int]) -> None:
        """Forget all others: what was heard of them holds for this taking over alone."""
        for gone in self._since.keys() - set(incarnations):
            del self._since[gone]
            self._living.discard(gone)
