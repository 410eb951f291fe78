"""Reading how long a service asks us to wait, from the exception that carries its answer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime

from redrive.clock import Clock
from redrive.retry.rules.durations import parse_duration, parse_moment, wait_in_text
from redrive.retry.rules.grpc import grpc_wait_s
from redrive.retry.rules.rule_verdict import answer_text, is_bare, look, look_int

__all__ = ["limit_reset_of", "parse_retry_after", "retry_after_of"]

# A service that asks for more than a year is not to be taken at its word.
_LONGEST_S = 366 * 86400.0
_MILLISECOND, _NANOSECOND = 1e-3, 1e-9
_IN_MILLISECONDS = (
    *("retry-after-ms", "Retry-After-Ms"),
    "x-ms-retry-after-ms",  # Azure
    "x-amz-retry-after",  # AWS
)
_IN_SECONDS = ("retry-after", "Retry-After", "RETRY-AFTER")

# x-ratelimit-reset-requests, anthropic-ratelimit-tokens-reset, X-Rate-Limit-Reset, RateLimit-Reset
_RESET = re.compile(r"rate-?limit.*\breset\b")
# RateLimit: limit=100, remaining=0, reset=50 and RateLimit: "default";r=0;t=30
_STRUCTURED = (
    "ratelimit",
    re.compile(r"\b(?:reset|t)=(\d+)"),
    re.compile(r"\b(?:remaining|r)=0\b"),
)
# Numbers from here on are moments since 1970: in seconds, and in milliseconds.
_EPOCH_S, _EPOCH_MS = 1e9, 1e12
_MOST_HEADERS = 500


def retry_after_of(exc: BaseException, clock: Clock) -> float | None:
    """Return the seconds that the exception asks to wait, or None.

    Looked at in order: an attribute `retry_after`; the headers `retry-after-ms` and `retry-after`
    (seconds, a duration, or an HTTP date), of which the longer holds; gRPC's pushback and
    `RetryInfo`; Google's `RetryInfo` as JSON.
    """
    if is_bare(exc):
        return None
    own = _seconds(look(exc, "retry_after"))
    if own is not None:
        return own
    for headers in _all_headers(exc):
        told = _in_headers(headers, clock)
        if told is not None:
            return told
    told = _seconds(grpc_wait_s(exc))
    if told is not None:
        return told
    details = _in_google_details(look(exc, "details"))
    return details if details is not None else _in_google_details(look(exc, "body"))


def limit_reset_of(exc: BaseException, clock: Clock) -> float | None:
    """Return the seconds until a rate limit is lifted, where no Retry-After says it, or None.

    Looked at in order: the reset of a limit of which nothing remains (`x-ratelimit-reset-*`,
    `anthropic-ratelimit-*-reset` and the like), the message, the longest reset of any limit.
    """
    resets = [reset for headers in _all_headers(exc) for reset in _resets(headers, clock)]
    used_up = [seconds for seconds, is_used_up in resets if is_used_up]
    if used_up:
        return max(used_up)
    told = _seconds(wait_in_text(answer_text(exc), clock))
    return told if told is not None else max((seconds for seconds, _ in resets), default=None)


def parse_retry_after(value: str, clock: Clock) -> float | None:
    """Read the header's value: seconds, or an HTTP date (RFC 9110, section 10.2.3).

    Some services write a duration (`20s`); a proxy may join two headers with a comma.
    """
    text = value.strip()
    try:
        return _seconds(float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return _seconds(max((moment - clock.now()).total_seconds(), 0.0))
    except (TypeError, ValueError, OverflowError):
        pass
    if "," in text:
        parts = [parse_retry_after(part, clock) for part in text.split(",") if "," not in part]
        return max((part for part in parts if part is not None), default=None)
    return _seconds(parse_duration(text))


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # min() comes first: a whole number may be too large for a float.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value < 0 else float(min(value, _LONGEST_S))


def _all_headers(exc: BaseException) -> Iterator[object]:
    response = look(exc, "response")
    if response is not None:
        yield look(response, "headers")
        yield _aws_headers(response)
    yield look(exc, "headers")
    yield look(exc, "resp")  # google-api-python-client: a mapping of headers


def _in_headers(headers: object, clock: Clock) -> float | None:
    if headers is None:
        return None
    told: list[float | None] = []
    milliseconds = _header(headers, *_IN_MILLISECONDS)
    if milliseconds is not None:
        with suppress(ValueError):
            told.append(_seconds(float(milliseconds) * _MILLISECOND))
    value = _header(headers, *_IN_SECONDS)
    if value is not None:
        told.append(parse_retry_after(value, clock))
    return max((wait for wait in told if wait is not None), default=None)


def _header(headers: object, *names: str) -> str | None:
    """Return one header; some mappings of headers ignore case, plain dicts do not."""
    get = look(headers, "get")
    if not callable(get):
        return None
    for name in names:
        try:
            value = _text(get(name))
        except Exception:  # noqa: BLE001 - a call into someone else's class
            return None
        if value is not None:
            return value
    return None


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def _resets(headers: object, clock: Clock) -> Iterator[tuple[float, bool]]:
    """Give the seconds until each limit is lifted, and whether nothing remains of it."""
    pairs = _pairs(headers)
    for name, value in pairs.items():
        if name == _STRUCTURED[0]:
            found = _STRUCTURED[1].search(value)
            seconds = None if found is None else _seconds(float(found[1]))
            is_used_up = _STRUCTURED[2].search(value) is not None
        elif _RESET.search(name) is not None:
            seconds = _reset(value, clock)
            is_used_up = _is_zero(pairs.get(name.replace("reset", "remaining")))
        else:
            continue
        if seconds is not None:
            yield seconds, is_used_up


def _pairs(headers: object) -> dict[str, str]:
    items = look(headers, "items")
    if not callable(items):
        return {}
    pairs: dict[str, str] = {}
    try:
        for name, value in items():
            name_text, value_text = _text(name), _text(value)
            if name_text is not None and value_text is not None and len(pairs) < _MOST_HEADERS:
                pairs[name_text.lower()] = value_text
    except Exception:  # noqa: BLE001 - a call into someone else's class
        return {}
    return pairs


def _reset(value: str, clock: Clock) -> float | None:
    """Read the value of a reset: seconds, a duration, or a moment in one of three forms."""
    text = value.strip()
    try:
        number = float(text)
    except ValueError:
        duration = parse_duration(text)
        return _seconds(parse_moment(text, clock) if duration is None else duration)
    if number >= _EPOCH_S:
        since_1970_s = number * _MILLISECOND if number >= _EPOCH_MS else number
        return _seconds(max(since_1970_s - clock.now().timestamp(), 0.0))
    return _seconds(number)


def _is_zero(value: str | None) -> bool:
    try:
        return value is not None and float(value) <= 0
    except ValueError:
        return False


def _aws_headers(response: object) -> object:
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    return metadata.get("HTTPHeaders") if isinstance(metadata, dict) else None


def _in_google_details(details: object) -> float | None:
    # google-genai: {"error": {"details": [{"@type": "…RetryInfo", "retryDelay": "17s"}, …]}}
    error = details.get("error", details) if isinstance(details, dict) else None
    entries = error.get("details") if isinstance(error, dict) else details
    if not isinstance(entries, list):
        return None
    for entry in entries:
        if isinstance(entry, dict):
            delay = entry.get("retryDelay")
            told = parse_duration(delay) if isinstance(delay, str) else None
        else:
            # google-api-core: google.rpc.RetryInfo, its delay a Duration
            told = _in_duration(look(entry, "retry_delay"))
        if told is not None:
            return _seconds(told)
    return None


def _in_duration(duration: object) -> float | None:
    seconds, nanos = look_int(duration, "seconds"), look_int(duration, "nanos")
    return None if seconds is None else seconds + (nanos or 0) * _NANOSECOND
