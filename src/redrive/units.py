"""Durations and sizes as people write them: `30s`, `5m`, `64MiB`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

__all__ = ["Duration", "Size", "format_duration", "format_size", "parse_duration", "parse_size"]

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
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)\s*")


def parse_duration(value: object) -> timedelta:
    """Read `30s`, `1m 30s`, `250ms`, `2h` or `7d`; a bare number counts seconds.

    Raises:
        ValueError: It is not a duration, or below zero.
    """
    if isinstance(value, timedelta):
        return _not_negative(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _not_negative(timedelta(seconds=value))
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return timedelta(seconds=float(text))
        if text and not _DURATION.sub("", text).strip():
            parts = _DURATION.findall(text)
            return timedelta(seconds=sum(float(n) * _SECONDS[unit] for n, unit in parts))
    raise ValueError(f"{value!r} is not a duration: write it as 250ms, 30s, 5m, 2h or 7d")


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError(f"{value!r} is below zero: a duration cannot be")
    return value


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
        ValueError: It is not a size, or below zero.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        if value.strip().isdecimal():
            return int(value)
        match = _SIZE.fullmatch(value)
        if match:
            return int(float(match[1]) * _BYTES[match[2]])
    raise ValueError(f"{value!r} is not a size: write it as 512B, 900kB or 64MiB")


def format_size(value_bytes: int) -> str:
    """Write a number of bytes for people, `512 B` or `4.1 MiB` say."""
    for unit in ("GiB", "MiB", "KiB"):
        if value_bytes >= _BYTES[unit]:
            return f"{value_bytes / _BYTES[unit]:.1f} {unit}"
    return f"{value_bytes} B"


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, when_used="json")
]
Size = Annotated[int, BeforeValidator(parse_size)]
