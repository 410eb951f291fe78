"""Reading how long a service asks us to wait, from the exception that carries its answer."""

from __future__ import annotations

import math
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime

from redrive.clock import Clock
from redrive.retry.rules.services import grpc_pushback_ms
from redrive.retry.rules.verdict import look

__all__ = ["parse_retry_after", "retry_after_of"]

# A service that asks for more than a year is not to be taken at its word.
_LONGEST_S = 366 * 86400.0
_MILLISECOND = 0.001
_IN_MILLISECONDS = (
    *("retry-after-ms", "Retry-After-Ms"),
    "x-ms-retry-after-ms",  # Azure
    "x-amz-retry-after",  # AWS
)


def retry_after_of(exc: BaseException, clock: Clock) -> float | None:
    """Return the seconds that the exception asks to wait, or None.

    Looked at in order: an attribute `retry_after`, the headers `retry-after-ms` and `retry-after`
    (seconds or an HTTP date), gRPC's pushback, Google's `RetryInfo`.
    """
    own = _seconds(look(exc, "retry_after"))
    if own is not None:
        return own
    response = look(exc, "response")
    for headers in (look(response, "headers"), look(exc, "headers"), _aws_headers(response)):
        told = _in_headers(headers, clock)
        if told is not None:
            return told
    pushback = grpc_pushback_ms(exc)
    if pushback is not None:
        return _seconds(pushback * _MILLISECOND)
    return _in_google_details(look(exc, "details"))


def parse_retry_after(value: str, clock: Clock) -> float | None:
    """Read the header's value: seconds, or an HTTP date (RFC 9110, section 10.2.3)."""
    text = value.strip()
    try:
        return _seconds(float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _seconds(max((moment - clock.now()).total_seconds(), 0.0))


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # min() comes first: a whole number may be too large for a float.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value < 0 else float(min(value, _LONGEST_S))


def _in_headers(headers: object, clock: Clock) -> float | None:
    milliseconds = _header(headers, *_IN_MILLISECONDS)
    if milliseconds is not None:
        try:
            told = _seconds(float(milliseconds) * _MILLISECOND)
        except ValueError:
            told = None
        if told is not None:
            return told
    value = _header(headers, "retry-after", "Retry-After", "RETRY-AFTER")
    return None if value is None else parse_retry_after(value, clock)


def _header(headers: object, *names: str) -> str | None:
    """Return one header; some mappings of headers ignore case, plain dicts do not."""
    get = look(headers, "get")
    if headers is None or not callable(get):
        return None
    for name in names:
        try:
            value = get(name)
        except Exception:  # noqa: BLE001 - a call into someone else's class
            return None
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    return None


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
        delay = entry.get("retryDelay") if isinstance(entry, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            try:
                return _seconds(float(delay[:-1]))
            except ValueError:
                return None
    return None
