"""Reading how long a service asks us to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from tests.rows import rows

from redrive.errors import RateLimitedError
from redrive.retry import Classifier, Kind, classify
from redrive.testing.manual_clock import ManualClock

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
YEAR_S = 366 * 86400


def _limited(headers: dict[str, str]) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://localhost")
    response = httpx.Response(429, headers=headers, request=request)
    return httpx.HTTPStatusError("limited", request=request, response=response)


@rows(
    ("headers", "seconds"),
    [
        ({"retry-after": "5"}, 5),
        ({"retry-after": " 5 "}, 5),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "1500"}, 1.5),
        # The longer holds: either may be rounded, or be 0 for "not told".
        ({"retry-after-ms": "1500", "retry-after": "9"}, 9),
        ({"retry-after-ms": "1500.5", "retry-after": "1"}, 1.5005),
        ({"retry-after-ms": "0", "retry-after": "30"}, 30),
        ({"retry-after-ms": "0"}, 0),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Mon, 01 Jun 2026 12:00:30 GMT"}, 30),
        # Without a zone, as the mail format allows: taken as UTC.
        ({"retry-after": "Mon, 01 Jun 2026 12:00:30 -0000"}, 30),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, YEAR_S),
        # Gone already: come back at once.
        ({"retry-after": "Mon, 01 Jun 2026 11:00:00 GMT"}, 0),
        # Not of the standard, but written.
        ({"retry-after": "20s"}, 20),
        ({"retry-after": "1m30s"}, 90),
        ({"retry-after": "20 seconds"}, 20),
        ({"retry-after": "7, 20"}, 20),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 99 Jun 2026 12:00:30 GMT"}, None),
        ({"retry-after": "1e300"}, YEAR_S),
        ({}, None),
    ],
)
def test_a_header_is_read_in_seconds_milliseconds_or_as_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    clock = ManualClock(start=NOON)

    assert Classifier(clock=clock).classify(_limited(headers)).retry_after == seconds
    assert classify(_limited(headers), clock=clock).retry_after == seconds


@rows(
    ("told", "seconds"),
    [
        (4, 4),
        (2.5, 2.5),
        (timedelta(minutes=1), 60),
        (10**400, YEAR_S),
        (-1, None),
        (float("inf"), None),
        (True, None),
        ("5", None),
        (None, None),
    ],
)
def test_an_attribute_of_the_error_is_read_as_seconds(told: object, seconds: float | None) -> None:
    error = RateLimitedError()
    error.retry_after = told  # type: ignore[assignment] # anything may stand there

    assert classify(error).retry_after == seconds


def _error(**attributes: object) -> Exception:
    error = Exception("from a service")
    error.__dict__.update(attributes)
    return error


def test_headers_of_the_error_itself_and_in_any_case_are_read() -> None:
    assert classify(_error(status=429, headers={"Retry-After": "3"})).retry_after == 3
    assert classify(_error(status=429, headers={"retry-after": b"4"})).retry_after == 4
    assert classify(_error(status=429, headers={"retry-after": 5})).retry_after == 5


def test_aws_says_it_in_its_own_way() -> None:
    response = {
        "Error": {"Code": "ThrottlingException"},
        "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {"retry-after": "3"}},
    }

    failure = classify(_error(response=response))

    assert (failure.kind, failure.retry_after) == (Kind.RATE_LIMITED, 3)


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ({"error": {"details": [{"@type": "Help"}, {"retryDelay": "17s"}]}}, 17),
        ([{"retryDelay": "0.25s"}], 0.25),
        ([{"retryDelay": "late"}], None),
        ([{"retryDelay": "some minutes"}], None),
        ({"error": "text"}, None),
    ],
)
def test_google_says_it_in_its_details(details: object, seconds: float | None) -> None:
    assert classify(_error(code=429, details=details)).retry_after == seconds


def test_headers_that_are_no_headers_are_passed_over() -> None:
    def refuses(_name: str) -> str:
        raise RuntimeError

    assert classify(_error(status=429, headers=["retry-after: 3"])).retry_after is None
    assert classify(_error(status=429, headers=SimpleNamespace(get=refuses))).retry_after is None
