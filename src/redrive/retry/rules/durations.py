"""Waits as services write them: `6m0s`, "try again in 20 seconds", a moment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from redrive.clock import Clock

__all__ = ["parse_duration", "parse_moment", "wait_in_text"]

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_UNIT = (
    r"(?P<us>microseconds?|us|µs|μs)|(?P<ms>milliseconds?|msecs?|ms)|(?P<s>seconds?|secs?|s)|"
    r"(?P<m>minutes?|mins?|m)|(?P<h>hours?|hrs?|h)|(?P<d>days?|d)"
)
_NUMBER = r"\d+(?:\.\d+)?|\ban?\b|\bone\b"
_PART = re.compile(rf"(?P<number>{_NUMBER})\s*-?(?:{_UNIT})(?![A-Za-z])", re.IGNORECASE)
_PLAIN_PART = re.sub(r"\?P<\w+>", "?:", _PART.pattern)
_DURATION = rf"(?:{_PLAIN_PART})(?:[\s,]*(?:and\s+)?(?:{_PLAIN_PART}))*"
_WHOLE = re.compile(rf"\s*{_DURATION}\s*", re.IGNORECASE)

# What stands before a wait, in words or as the name of a field; no limit ("5 requests per 20s").
_CUE = (
    r"(?:try|retry|again|wait|available|resets?|refresh(?:es)?|replenish(?:es)?|back|slow down|"
    r"cool ?down|back ?off|retry[ _-]?after|retry[ _-]?delay|retry[ _-]?in|estimated[ _]time|"
    r"time remaining|throttled)"
)
_BETWEEN = r"(?:(?!\bper\b|\bevery\b)[^.;\d\n]){0,48}?"
_AFTER_CUE = re.compile(rf"\b{_CUE}\b{_BETWEEN}(?P<wait>{_DURATION})", re.IGNORECASE)
_FIELD = re.compile(
    r"\b(?:retry[ _-]?(?:after|in|delay)|estimated[ _]time)(?:[ _-]?(?P<unit>s|secs?|seconds|ms))?"
    r"[\\'\"]{0,4}\s{0,4}[:=]?\s{0,4}[\\'\"]{0,4}(?P<number>\d+(?:\.\d+)?)(?![\w.:-]|\s*[A-Za-z])",
    re.IGNORECASE,
)
_MOMENT = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)"
_AT = re.compile(rf"\b(?:until|at|after|on|{_CUE})\b\D{{0,24}}?(?P<at>{_MOMENT})", re.IGNORECASE)


def parse_duration(text: str) -> float | None:
    """Read the whole text as a duration, such as `1h2m3.5s` or `20 seconds`; seconds, or None."""
    if _WHOLE.fullmatch(text) is None:
        return None
    return sum(_seconds(part) for part in _PART.finditer(text))


def parse_moment(text: str, clock: Clock) -> float | None:
    """Read the text as a moment (RFC 3339); the seconds until then, 0 when it has passed."""
    plain = re.sub(r"\s?(?:UTC|GMT|Z)$", "+00:00", text.strip(), flags=re.IGNORECASE)
    try:
        moment = datetime.fromisoformat(plain)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max((moment - clock.now()).total_seconds(), 0.0)
    except (ValueError, OverflowError):
        return None


def wait_in_text(text: str, clock: Clock) -> float | None:
    """Return the longest wait, in seconds, that a message tells its reader; None if it has none."""
    return max((wait for wait in _waits(text, clock) if wait is not None), default=None)


def _waits(text: str, clock: Clock) -> Iterator[float | None]:
    for found in _AFTER_CUE.finditer(text):
        yield parse_duration(found["wait"])
    for found in _FIELD.finditer(text):
        in_ms = (found["unit"] or "").lower() == "ms"
        yield float(found["number"]) * _UNITS_S["ms" if in_ms else "s"]
    for found in _AT.finditer(text):
        yield parse_moment(found["at"], clock)


def _seconds(part: re.Match[str]) -> float:
    number = part["number"]
    unit = next(name for name in _UNITS_S if part[name] is not None)
    return (float(number) if number[0].isdigit() else 1.0) * _UNITS_S[unit]
