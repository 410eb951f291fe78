"""What a channel is to be told, as values: of one cause, of many others, of trouble."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from redrive.notify.history import Known
from redrive.notify.notice import Alarm, LetterNotice, Trouble
from redrive.notify.windows import Told

__all__ = ["AlarmReport", "CauseReport", "OthersReport", "Report", "Trend", "trend_of"]

_NEW_FOR = timedelta(hours=1)
_RISING_LEAST = 10
_RISING_TIMES = 3


class Trend(StrEnum):
    """How a cause develops.

    `new`: first seen within the last hour. `rising`: at least 10 in this window, and three times
    as many as in the one before. `steady`: all else.
    """

    NEW = "new"
    RISING = "rising"
    STEADY = "steady"


@dataclass(frozen=True, slots=True)
class CauseReport:
    """Failures of one fingerprint, for one channel."""

    channel: str
    told: Told[str, LetterNotice]
    known: Known | None
    trend: Trend


@dataclass(frozen=True, slots=True)
class OthersReport:
    """Failures of many causes, for one channel: there were too many to tell each."""

    channel: str
    told: Told[str, LetterNotice]


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """Trouble, for one channel."""

    channel: str
    told: Told[Trouble, Alarm]


Report = CauseReport | OthersReport | AlarmReport


def trend_of(told: Told[str, LetterNotice], known: Known | None, *, knows_all: bool) -> Trend:
    """Say how a cause develops; `knows_all`: no cause was forgotten, so a new one is new."""
    if known is not None and knows_all and told.new.last.at - known.since <= _NEW_FOR:
        return Trend.NEW
    many = told.in_window >= _RISING_LEAST
    if many and told.in_window >= _RISING_TIMES * max(told.previous, 1):
        return Trend.RISING
    return Trend.STEADY
