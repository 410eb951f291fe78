"""Decides what each channel is told, and when. Pure: notices and the time go in, reports come out.

How windows count is in `windows.py`, who is told of what in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from redrive.notify.notice import Alarm, LetterNotice, Trouble
from redrive.notify.notice_history import NoticeHistory
from redrive.notify.reports import AlarmReport, CauseReport, OthersReport, Report, trend_in
from redrive.notify.rules import Routing
from redrive.notify.windows import Counted, DueNotice, NoRoom, Windows

__all__ = ["Digest", "Failures"]

# Beyond these, further causes of a window are told together: a storm is no flood of messages. One
# workflow alone has half of them, so that no storm of it hides what others fail of.
MOST_CAUSES = 40
MOST_QUIET = 2_000
# No cause has it: fingerprints are not empty.
_OTHERS = ""

Failures = Counted[LetterNotice]
"""Failures that share a cause."""


class Digest:
    """What is told of one worker.

    Args:
        routing: Who is told of which failures.
        alarms: The channels that are told of trouble.
        window_s: The window, in seconds.
        many_letters: So many letters within a window are trouble; 0: never.
    """

    def __init__(
        self, routing: Routing, *, alarms: Sequence[str], window_s: float, many_letters: int
    ) -> None:
        self._routing = routing
        self._alarm_channels = tuple(alarms)
        self._many_letters = many_letters
        self._history = NoticeHistory()
        self._causes: dict[str, Windows[str, LetterNotice]] = {
            # One more has room: the others.
            name: Windows(window_s, most_open=MOST_CAUSES, most_quiet=MOST_QUIET)
            for name in routing.channels
        }
        self._troubles: Windows[Trouble, Alarm] = Windows(
            window_s, most_open=len(Trouble), most_quiet=len(Trouble)
        )

    @property
    def silent(self) -> int:
        """How many failures were not told to a channel, since a rule's count was not reached."""
        return sum(windows.silent for windows in self._causes.values())

    @property
    def next_due(self) -> float | None:
        """When `due` may have something to say, unless something is taken before."""
        found = [windows.next_due for windows in self._causes.values()]
        return min((at for at in (*found, self._troubles.next_due) if at is not None), default=None)

    def take(self, heard: Iterable[Failures], now: float) -> list[Report]:
        """Take failures, those of each cause together; return what is to be told at once."""
        reports: list[Report] = []
        for failures in heard:
            cause = failures.first.cause
            self._history.see(failures.first, failures.count)
            channels = self._routing.of(cause)
            if channels is None:
                continue
            for name, threshold in channels.items():
                windows = self._causes[name]
                said = windows.add(
                    cause.fingerprint, failures, now, threshold=threshold, group=cause.group
                )
                if isinstance(said, DueNotice):
                    reports.append(self._report(name, said))
                elif isinstance(said, NoRoom):
                    windows.collect(_OTHERS, said.new, now)
            reports += self._count_letters(failures, now)
        return reports

    def take_mixed(self, failures: Failures, now: float) -> list[Report]:
        """Take failures of which there were too many to keep their causes apart."""
        for windows in self._causes.values():
            windows.collect(_OTHERS, failures, now)
        return self._count_letters(failures, now)

    def alarm(self, alarms: Counted[Alarm], now: float, *, threshold: int = 1) -> list[Report]:
        """Take trouble of one sort; return what is to be told at once."""
        said = self._troubles.add(alarms.last.trouble, alarms, now, threshold=threshold)
        return self._to_all(said) if isinstance(said, DueNotice) else []

    def due(self, now: float) -> list[Report]:
        """Return what is to be told of the windows that have ended."""
        reports = [
            self._report(name, told)
            for name, windows in self._causes.items()
            for told in windows.due(now)
        ]
        return reports + [r for told in self._troubles.due(now) for r in self._to_all(told)]

    def flush(self) -> list[Report]:
        """Return what was not told yet, at the end of all."""
        reports = [
            self._report(name, told)
            for name, windows in self._causes.items()
            for told in windows.flush()
        ]
        return reports + [r for told in self._troubles.flush() for r in self._to_all(told)]

    def _count_letters(self, failures: Failures, now: float) -> list[Report]:
        if not self._many_letters:
            return []
        last = failures.last
        alarm = Alarm(Trouble.MANY_LETTERS, last.at, last.worker)
        counted = Counted(failures.count, replace(alarm, at=failures.first.at), alarm)
        return self.alarm(counted, now, threshold=self._many_letters)

    def _report(self, channel: str, told: DueNotice[str, LetterNotice]) -> Report:
        if told.key == _OTHERS:
            return OthersReport(channel, told)
        cause = told.new.last.cause
        known = self._history.of(cause)
        trend = trend_in(told, known, knows_all=self._history.knows_all(cause))
        return CauseReport(channel, told, known, trend)

    def _to_all(self, told: DueNotice[Trouble, Alarm]) -> list[Report]:
        return [AlarmReport(name, told) for name in self._alarm_channels]
