"""Durations, sizes and lists as people write them: `30s`, `5m`, `64MiB`, `one, two`."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, PlainSerializer

__all__ = [
    "LONGEST",
    "Duration",
    "Listed",
    "Size",
    "format_duration",
    "format_size",
    "named_duration",
    "parse_duration",
    "parse_size",
]

_Item = TypeVar("_Item")

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
LONGEST = timedelta(days=36_500)
"""No duration is longer: a time that is so far ahead must still be a date."""

_SHOWN_CHARS = 80
_MOST_CHARS = 200
"""A longer text is neither a duration nor a size: looking through it would take its time."""
_LARGEST = 2.0**63
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)\s*")


def parse_duration(value: object) -> timedelta:
    """Read `30s`, `1m 30s`, `250ms`, `2h` or `7d`; a bare number counts seconds.

    Raises:
        ValueError: It is not a duration, below zero, or longer than `LONGEST`.
    """
    if isinstance(value, timedelta):
        return _within_limits(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_seconds(value, given=value)
    if isinstance(value, str) and len(value) <= _MOST_CHARS:
        text = value.strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return _from_seconds(float(text), given=value)
        if text and not _DURATION.sub("", text).strip():
            parts = _DURATION.findall(text)
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
            return _from_seconds(seconds, given=value)
    raise ValueError(f"{_shown(value)} is not a duration: write it as 250ms, 30s, 5m, 2h or 7d")


def named_duration(name: str, value: object) -> timedelta:
    """Read an argument as `parse_duration` does.

    Raises:
        ValueError: It cannot be one; names the argument.
    """
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _from_seconds(seconds: float, *, given: object) -> timedelta:
    # Of a whole number of any length there is no telling: it may be too long for a float.
    if not isinstance(seconds, int) and math.isnan(seconds):
        raise ValueError(f"{_shown(given)} is not a number, and so not a duration")
    if seconds < 0:
        raise ValueError(f"{_shown(given)} is below zero: a duration cannot be")
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{_shown(given)} is longer than {LONGEST.days} days: no duration may be")
    return timedelta(seconds=seconds)


def _within_limits(value: timedelta) -> timedelta:
    _from_seconds(value.total_seconds(), given=value)
    return value


def _shown(value: object) -> str:
    try:
        return repr(value)[:_SHOWN_CHARS]
    except ValueError:  # Python does not write a whole number of thousands of digits.
        return f"this {type(value).__name__}"


def format_duration(value: timedelta) -> str:
    """Write a duration the way `parse_duration` reads it."""
    milliseconds = round(value.total_seconds() * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def parse_size(value: object) -> int:
    """Read `64MiB`, `900kB` or `512B` as bytes; a bare number counts bytes.

    Raises:
        ValueError: It is not a size, below zero, or of more than 63 bits.
    """
    if isinstance(value, str) and len(value) <= _MOST_CHARS and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        return value
    if isinstance(value, str) and len(value) <= _MOST_CHARS:
        match = _SIZE.fullmatch(value)
        if match and (size := float(match[1]) * _BYTES[match[2]]) < _LARGEST:
            return int(size)
    raise ValueError(f"{_shown(value)} is not a size: write it as 512B, 900kB or 64MiB")


def format_size(value_bytes: int) -> str:
    """Write a number of bytes for people, `512 B` or `4.1 MiB` say."""
    for unit in ("GiB", "MiB", "KiB"):
        if value_bytes >= _BYTES[unit]:
            return f"{value_bytes / _BYTES[unit]:.1f} {unit}"
    return f"{value_bytes} B"


def _split_names(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, when_used="json")
]
Size = Annotated[int, BeforeValidator(parse_size)]
Listed = Annotated[tuple[_Item, ...], BeforeValidator(_split_names)]
"""A list; from the environment as text, with spaces or commas between its items."""
