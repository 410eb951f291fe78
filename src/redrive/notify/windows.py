"""Counting by windows: the first of a key is told at once, what follows with its count. Pure.

Of each key at most one `DueNotice` comes in any span as long as a window, and the counts add up:
what was added is told, is still open, was refused, or was silent as it stayed below its threshold.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from redrive.telemetry.recent_groups import has_room

__all__ = ["Counted", "DueNotice", "NoRoom", "Windows"]

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")

# What is collected takes no place of anybody.
_NO_GROUP = "\0"
# How finely a window is looked at where a threshold counts within it.
_PARTS = 20


@dataclass(frozen=True, slots=True)
class Counted(Generic[S]):
    """How many came, and the first and the last of them."""

    count: int
    first: S
    last: S

    def __add__(self, later: Counted[S]) -> Counted[S]:
        """Put those that came later behind these."""
        return Counted(self.count + later.count, self.first, later.last)


@dataclass(frozen=True, slots=True)
class DueNotice(Generic[K, S]):
    """What is to be told of a key now.

    Attributes:
        key: Of what.
        new: Those that were not told before.
        in_window: How many came in the window that ends now, or begins.
        previous: How many came in the window before that one.
        opens: Whether the window begins now.
    """

    key: K
    new: Counted[S]
    in_window: int
    previous: int = 0
    opens: bool = True


@dataclass(frozen=True, slots=True)
class NoRoom(Generic[S]):
    """There is no room for a key: these have to be told otherwise."""

    new: Counted[S]


@dataclass(slots=True)
class _Open(Generic[S]):
    ends: float
    group: str
    in_window: int = 0
    previous: int = 0
    untold: Counted[S] | None = None

    def add(self, new: Counted[S]) -> None:
        self.in_window += new.count
        self.untold = new if self.untold is None else self.untold + new


@dataclass(slots=True)
class _WindowPart(Generic[S]):
    """Those that came in a small part of a window."""

    began: float
    ended: float
    came: Counted[S]


@dataclass(slots=True)
class _Quiet(Generic[S]):
    """Too few to be told yet."""

    group: str
    parts: deque[_WindowPart[S]] = field(default_factory=deque)

    def add(self, new: Counted[S], now: float, *, apart_s: float) -> None:
        last = self.parts[-1] if self.parts else None
        if last is not None and now < last.began + apart_s:
            last.ended, last.came = now, last.came + new
        else:
            self.parts.append(_WindowPart(now, now, new))

    def all(self) -> Counted[S]:
        found = self.parts[0].came
        for part in list(self.parts)[1:]:
            found += part.came
        return found


class Windows(Generic[K, S]):
    """The windows of many keys; time is told to it, in seconds.

    Args:
        window_s: How long a window is.
        most_open: So many keys may have a window at a time; further ones are refused. One group of
            keys may have as many as are free.
        most_quiet: And so many may wait for their threshold, in the same way.
    """

    def __init__(self, window_s: float, *, most_open: int, most_quiet: int) -> None:
        self.silent = 0
        """How many were never told, as they stayed below their threshold."""
        self._window_s = window_s
        self._most_open = most_open
        self._most_quiet = most_quiet
        # In the order in which they end: all are equally long.
        self._open: dict[K, _Open[S]] = {}
        # In the order in which something was last added.
        self._quiet: dict[K, _Quiet[S]] = {}
        self._quiet_of: Counter[str] = Counter()

    @property
    def next_due(self) -> float | None:
        """When the next window ends."""
        return next((window.ends for window in self._open.values()), None)

    def add(
        self, key: K, new: Counted[S], now: float, *, threshold: int = 1, group: str = ""
    ) -> DueNotice[K, S] | NoRoom[S] | None:
        """Count more of `key`; return what to tell at once, if anything.

        Where there is no room, all of the key are refused: those that had waited for the threshold
        as well.
        """
        window = self._open.get(key)
        if window is not None:
            window.add(new)
            return None
        quiet = self._no_longer_quiet(key) or _Quiet(group)
        self._expire(quiet, now)
        quiet.add(new, now, apart_s=self._window_s / _PARTS)
        all_ = quiet.all()
        if all_.count < threshold:
            if not has_room(self._quiet_of[group], len(self._quiet), most=self._most_quiet):
                return NoRoom(all_)
            self._quiet[key] = quiet
            self._quiet_of[quiet.group] += 1
            return None
        held = [window.group for window in self._open.values() if window.group != _NO_GROUP]
        if not has_room(held.count(group), len(held), most=self._most_open):
            return NoRoom(all_)
        self._open[key] = _Open(now + self._window_s, group, all_.count)
        return DueNotice(key, all_, all_.count)

    def collect(self, key: K, new: Counted[S], now: float) -> None:
        """Count more of a key of which nothing is told before its window ends; there is room."""
        self._open.setdefault(key, _Open(now + self._window_s, _NO_GROUP)).add(new)

    def due(self, now: float) -> list[DueNotice[K, S]]:
        """End the windows whose time is over, and return what they collected."""
        told = []
        while self._open:
            key, window = next(iter(self._open.items()))
            if window.ends > now:
                break
            del self._open[key]
            if window.untold is not None:
                told.append(_at_its_end(key, window, window.untold))
                # From now on, not from its end: no two are told closer than a window.
                self._open[key] = _Open(
                    now + self._window_s, window.group, previous=window.in_window
                )
        while self._quiet:
            key, quiet = next(iter(self._quiet.items()))
            self._expire(quiet, now)
            if quiet.parts:
                break
            self._no_longer_quiet(key)
        return told

    def flush(self) -> list[DueNotice[K, S]]:
        """End all windows, and return what they collected."""
        told = [
            _at_its_end(key, window, window.untold)
            for key, window in self._open.items()
            if window.untold is not None
        ]
        self.silent += sum(quiet.all().count for quiet in self._quiet.values())
        self._open.clear()
        self._quiet.clear()
        self._quiet_of.clear()
        return told

    def _no_longer_quiet(self, key: K) -> _Quiet[S] | None:
        quiet = self._quiet.pop(key, None)
        if quiet is not None:
            self._quiet_of[quiet.group] -= 1
            # Groups are named by events: only those that have something are kept.
            if not self._quiet_of[quiet.group]:
                del self._quiet_of[quiet.group]
        return quiet

    def _expire(self, quiet: _Quiet[S], now: float) -> None:
        while quiet.parts and quiet.parts[0].ended <= now - self._window_s:
            self.silent += quiet.parts.popleft().came.count


def _at_its_end(key: K, window: _Open[S], untold: Counted[S]) -> DueNotice[K, S]:
    return DueNotice(key, untold, window.in_window, window.previous, opens=False)
