"""What is offered to the notifier: bounded, and never in the way of who offers.

Equal failures take one place, however many they are, so a storm of one cause loses no count.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from redrive.notify.notice import Alarm, LetterNotice, NoticeCause, Trouble
from redrive.notify.windows import Counted
from redrive.telemetry.recent_groups import has_room

__all__ = ["Inbox", "Taken"]

# One workflow alone has half of them.
MOST_CAUSES = 2_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What was offered since the last look; `mixed`: what had no place for its cause."""

    causes: Sequence[Counted[LetterNotice]]
    mixed: Counted[LetterNotice] | None
    alarms: Sequence[Counted[Alarm]]


class Inbox:
    """Takes notices from any thread, in constant time; one thread takes them out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._causes: dict[NoticeCause, Counted[LetterNotice]] = {}
        self._mixed: Counted[LetterNotice] | None = None
        self._alarms: dict[Trouble, Counted[Alarm]] = {}
        self._of_group: Counter[str] = Counter()

    def letter(self, notice: LetterNotice) -> None:
        """Offer a letter."""
        cause, one = notice.cause, Counted(1, notice, notice)
        with self._lock:
            before = self._causes.get(cause)
            if before is not None:
                self._causes[cause] = before + one
            elif has_room(self._of_group[cause.group], len(self._causes), most=MOST_CAUSES):
                self._causes[cause] = one
                self._of_group[cause.group] += 1
            else:
                self._mixed = one if self._mixed is None else self._mixed + one
        self._news.set()

    def alarm(self, alarm: Alarm) -> None:
        """Offer trouble."""
        one = Counted(1, alarm, alarm)
        with self._lock:
            before = self._alarms.get(alarm.trouble)
            self._alarms[alarm.trouble] = one if before is None else before + one
        self._news.set()

    def wake(self) -> None:
        """Let who waits look."""
        self._news.set()

    def wait(self, timeout_s: float | None) -> None:
        """Return when something was offered, or after the timeout."""
        self._news.wait(timeout_s)

    def take(self) -> Taken:
        """Take everything out."""
        self._news.clear()
        with self._lock:
            taken = Taken(tuple(self._causes.values()), self._mixed, tuple(self._alarms.values()))
            self._causes, self._mixed, self._alarms = {}, None, {}
            self._of_group.clear()
        return taken
