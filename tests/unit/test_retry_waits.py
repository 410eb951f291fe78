"""Waits that stand in the text of a rate limit, and rate limits that no wait lifts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.errors import RateLimitedError
from redrive.retry import Classifier, Failure, Kind, Rule, classify
from redrive.retry.rules.durations import parse_duration, wait_in_text
from redrive.testing.manual_clock import ManualClock

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _judged(message: str, headers: dict[str, str] | None = None) -> Failure:
    request = httpx.Request("POST", "http://localhost")
    body = json.dumps({"error": {"message": message}}).encode()
    response = httpx.Response(429, headers=headers, content=body, request=request)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    return classify(caught.value, clock=ManualClock(start=NOON))


# As providers and their gateways have written them; names of organisations are left out.
MESSAGES: list[tuple[str, float | None]] = [
    # OpenAI
    (
        (
            "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): "
            "Limit 30000, Used 29845, Requested 1013. Please try again in 1.716s. Visit "
            "https://platform.openai.com/account/rate-limits to learn more."
        ),
        1.716,
    ),
    (
        (
            "Rate limit reached for gpt-4 in organization org-x on requests per min (RPM): "
            "Limit 3, Used 3, Requested 1. Please try again in 20s."
        ),
        20,
    ),
    (
        (
            "Rate limit reached for gpt-4 in organization org-x on requests per day (RPD): "
            "Limit 200, Used 200, Requested 1. Please try again in 7m12s."
        ),
        432,
    ),
    (
        (
            "Rate limit reached for text-embedding-3-small on tokens per min (TPM): Limit "
            "1000000, Used 999000, Requested 3000. Please try again in 120ms."
        ),
        0.12,
    ),
    (
        (
            "Rate limit reached for default-gpt-3.5-turbo in organization org-x on tokens "
            "per min. Limit: 90000 / min. Current: 88888 / min. Please try again in 6m0s."
        ),
        360,
    ),
    # Groq
    (
        (
            "Rate limit reached for model `llama-3.3-70b-versatile` in organization `org_x` "
            "service tier `on_demand` on tokens per day (TPD): Limit 100000, Used 99336, "
            "Requested 1345. Please try again in 9m47.712s. Need more tokens? Upgrade to Dev "
            "Tier today."
        ),
        587.712,
    ),
    (
        (
            "Rate limit reached for model `mixtral-8x7b-32768` in organization `org_x` on "
            "tokens per minute (TPM): Limit 5000, Used 4321, Requested 1234. Please try "
            "again in 6.66s."
        ),
        6.66,
    ),
    (
        (
            "Rate limit reached for model `whisper-large-v3` on seconds of audio per hour "
            "(ASPH): Limit 7200, Used 7100, Requested 300. Please try again in 1h2m3.5s."
        ),
        3723.5,
    ),
    # Azure OpenAI
    (
        (
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version "
            "2024-02-01 have exceeded token rate limit of your current OpenAI S0 pricing "
            "tier. Please retry after 6 seconds. Please go here: "
            "https://aka.ms/oai/quotaincrease"
        ),
        6,
    ),
    (
        (
            "Requests to the Embeddings_Create Operation have exceeded call rate limit of "
            "your current OpenAI S0 pricing tier. Please retry after 1 second."
        ),
        1,
    ),
    (
        "Rate limit is exceeded. Try again in 86 seconds.",
        86,
    ),
    ("Your requests to gpt-4o have exceeded token rate limit. Please wait 59 seconds.", 59),
    # Google
    (
        (
            "You exceeded your current quota, please check your plan and billing details. * "
            "Quota exceeded for metric: generate_content_free_tier_input_token_count, limit: "
            "250000\nPlease retry in 39.514286241s."
        ),
        39.514286241,
    ),
    ("Resource has been exhausted. [{'retryDelay': '17s'}]", 17),
    ("Quota exceeded for quota metric 'Requests' and limit 'per minute'. retry_delay: 12s", 12),
    ("You have exhausted your capacity on this model. Your quota will reset after 1m30s.", 90),
    # Mistral, Cohere, Hugging Face, Together, Fireworks, DeepInfra
    ("Requests rate limit exceeded, please wait 2 seconds before retrying", 2),
    ("Too many requests. Please wait a minute and try again.", 60),
    ('Model m is currently loading. {"estimated_time": 20.5}', 20.5),
    ("Rate limit reached. You can retry in 3 sec.", 3),
    ("You are being rate limited; retry in 1 minute and 30 seconds", 90),
    ("Rate limited. Back off for 500 milliseconds.", 0.5),
    # Tools and gateways
    ("Request was throttled. Expected available in 18 seconds.", 18),
    ('{"message": "You are being rate limited.", "retry_after": 8.5, "global": false}', 8.5),
    ('{"error": "rate_limited", "retry_after_ms": 1500}', 1.5),
    ('{"ok": false, "error": "ratelimited", "retry_after_seconds": 30}', 30),
    ("Too Many Requests: retry after 35", 35),
    ("Flood control exceeded. Retry in 35 seconds", 35),
    ("API rate limit exceeded. Limit resets in 12m", 720),
    ("API rate limit exceeded; resets at 2026-06-01T12:10:00Z", 600),
    ("Rate limit exceeded, retry after 2026-06-01 12:00:45 UTC", 45),
    ("litellm: Deployment over its rpm limit. Try again in 5 seconds. Passed model=m.", 5),
    ("No deployments available, cooldown. Try again in 60 seconds.", 60),
    ("Slow down! Wait 10 secs", 10),
    ("Service tier capacity exceeded, please try again in 2 hours, 5 mins", 7500),
    ("The limit will be lifted; available again in 1 day", 86400),
    # No wait stands there.
    ("Rate limit exceeded, please try again later.", None),
    ("Please try again in a few minutes.", None),
    ("Limit: 5 requests per 20s. Please slow down.", None),
    ("You may make 3 requests per 10 seconds. Please wait, then go on.", None),
    (
        (
            "This request would exceed your organization's rate limit of 40,000 input tokens "
            "per minute. Please reduce the prompt length or the maximum tokens requested, or "
            "try again later."
        ),
        None,
    ),
    ("Server is busy, tried 3 times within 20 s", None),
    ("Too many tokens, please wait before trying again.", None),
    ("", None),
]


@rows(("message", "seconds"), MESSAGES, ids=lambda row: row[0][:60])
def test_a_wait_in_the_text_of_a_rate_limit_is_kept(message: str, seconds: float | None) -> None:
    failure = _judged(message)

    assert failure.kind is Kind.RATE_LIMITED
    assert failure.retry_after == (None if seconds is None else pytest.approx(seconds))


@rows(
    ("message", "rule"),
    [
        ("Request too large for gpt-4o: Limit 30000, Requested 45000.", "limit:too_large"),
        ("on tokens per min (TPM): Limit 6000, Used 0, Requested 7000", "limit:too_large"),
        ("Request is too large, try again in 5s", "limit:too_large"),
        ("Quota exceeded for metric: x, limit: 0, model: m. Retry in 39s", "limit:zero_quota"),
        ("{'quotaId': 'PerMinute', 'quotaValue': '0'}", "limit:zero_quota"),
        ("'quota_id': 'GenerateRequestsPerDayPerProject' retry in 39s", "limit:daily_quota"),
        ("Rate limit exceeded: free-models-per-day", "limit:daily_quota"),
        ("Too many tokens per day, please wait before trying again.", "limit:daily_quota"),
        ("You have reached your monthly limit", "limit:daily_quota"),
        ("Trial keys are limited to 1000 API calls / month", "limit:daily_quota"),
    ],
)
def test_a_limit_that_no_wait_lifts_is_permanent_and_says_why(message: str, rule: str) -> None:
    failure = _judged(message)

    assert (failure.kind, failure.rule, failure.retry_after) == (Kind.PERMANENT, rule, None)
    assert failure.why.endswith("waiting does not help")


@rows(
    "message",
    [
        "Limit 30000, Used 29000, Requested 2000. Please try again in 2s.",
        "Quota exceeded for metric: x, limit: 0.5, try again in 2s",
        "limit: 10, try again in 2s",
        "'quotaId': 'GenerateRequestsPerMinutePerProject' retry in 2s",
        "Your limit: 0 requests left, try again in 2s",
        "Limits: 10 requests per minute, 500 per day. Try again in 2s",
    ],
)
def test_a_limit_that_only_looks_so_is_waited_for(message: str) -> None:
    failure = _judged(message)

    assert (failure.kind, failure.retry_after) == (Kind.RATE_LIMITED, 2)


def test_a_message_that_lists_its_limits_does_not_say_that_the_day_is_over() -> None:
    assert _judged("You may send 10 requests per minute and 500 per day.").kind is (
        Kind.RATE_LIMITED
    )


def test_a_quota_of_a_day_is_waited_for_when_the_service_says_how_long() -> None:
    message = "You have exceeded your daily quota."

    assert _judged(message).kind is Kind.PERMANENT
    assert _judged(message, {"Retry-After": "600"}).retry_after == 600
    assert _judged(message, {"x-ratelimit-reset-requests": "10m"}).retry_after == 600


def test_a_rate_limit_of_ones_own_is_not_doubted() -> None:
    error = RateLimitedError("the daily import is running; limit: 0")
    rule = Rule(Kind.RATE_LIMITED, error=KeyError, retry_after=9)

    assert classify(error).kind is Kind.RATE_LIMITED
    assert Classifier(rules=(rule,)).classify(KeyError("daily")) == Failure(
        Kind.RATE_LIMITED,
        9,
        "builtins.KeyError fits your rule error=KeyError",
        "rule:error=KeyError",
    )


@rows(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("2m59.56s", 179.56),
        ("250ms", 0.25),
        ("1h", 3600),
        ("90 minutes", 5400),
        ("1 hour, 2 minutes and 3 seconds", 3723),
        ("1500us", 0.0015),
        ("20", None),
        ("", None),
        ("soon", None),
        ("5 meters", None),
        ("in 5s", None),
    ],
)
def test_a_duration_is_read_whole_or_not_at_all(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_a_duration_as_go_writes_it_is_read_as_it_was_meant(h: int, m: int, ms: int) -> None:
    text = f"{h}h{m}m{ms / 1000:g}s"

    assert parse_duration(text) == pytest.approx(h * 3600 + m * 60 + ms / 1000)
    assert wait_in_text(f"Please try again in {text}.", ManualClock(start=NOON)) == pytest.approx(
        h * 3600 + m * 60 + ms / 1000
    )


@given(st.text() | st.from_regex(r"(?:try|retry|wait|resets?)[ -~]{0,200}"))
def test_any_text_is_read_without_an_error(text: str) -> None:
    wait = wait_in_text(text, ManualClock(start=NOON))

    assert wait is None or wait >= 0


@rows(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset": "12"}, 12),
        ({"x-ratelimit-reset": "1780315260"}, 60),
        ({"x-ratelimit-reset": "1780315260000"}, 60),
        ({"x-ratelimit-reset": "2026-06-01T12:01:30Z"}, 90),
        ({"x-ratelimit-reset": "2026-06-01T11:00:00+00:00"}, 0),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": "nan"}, None),
        ({"x-ratelimit-reset": "-1"}, None),
        ({"x-rate-limit-reset": "7"}, 7),
        ({"x-ratelimit-limit": "100"}, None),
        # Of several, those of which nothing remains; else the longest.
        (
            {
                "x-ratelimit-remaining-a": "0",
                "x-ratelimit-reset-a": "3",
                "x-ratelimit-remaining-b": "5",
                "x-ratelimit-reset-b": "9",
            },
            3,
        ),
        ({"x-ratelimit-reset-a": "3", "x-ratelimit-reset-b": "9"}, 9),
        ({"x-ratelimit-reset": "9", "retry-after": "2"}, 2),
    ],
)
def test_a_reset_is_waited_for_where_no_retry_after_is_told(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert _judged("", headers).retry_after == seconds


def test_a_reset_says_nothing_of_a_fault_of_the_server() -> None:
    request = httpx.Request("GET", "http://localhost")
    headers = {"x-ratelimit-reset-requests": "6m0s"}
    response = httpx.Response(503, headers=headers, request=request)
    error = httpx.HTTPStatusError("told", request=request, response=response)

    assert classify(error).retry_after is None
