"""What a channel is to be told, as values: of one cause, of many others, of trouble."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from redrive.dead_letter.trend import Trend, trend_of
from redrive.notify.notice import Alarm, LetterNotice, Trouble
from redrive.notify.notice_history import Known
from redrive.notify.windows import DueNotice

__all__ = ["AlarmReport", "CauseReport", "OthersReport", "Report", "trend_in"]

_NEW_FOR = timedelta(hours=1)
_RISING_LEAST = 10


@dataclass(frozen=True, slots=True)
class CauseReport:
    """Failures of one fingerprint, for one channel."""

    channel: str
    told: DueNotice[str, LetterNotice]
    known: Known | None
    trend: Trend


@dataclass(frozen=True, slots=True)
class OthersReport:
    """Failures of many causes, for one channel: there were too many to tell each."""

    channel: str
    told: DueNotice[str, LetterNotice]


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """Trouble, for one channel."""

    channel: str
    told: DueNotice[Trouble, Alarm]


Report = CauseReport | OthersReport | AlarmReport


def trend_in(told: DueNotice[str, LetterNotice], known: Known | None, *, knows_all: bool) -> Trend:
    """Say how a cause develops; `knows_all`: no cause was forgotten, so a new one is new.

    It is new for an hour. It rises with 10 in a window, and three times as many as in the one
    before.
    """
    new = known is not None and knows_all and told.new.last.at - known.since <= _NEW_FOR
    return trend_of(
        recent=told.in_window, before=told.previous, known=not new, least_rising=_RISING_LEAST
    )
