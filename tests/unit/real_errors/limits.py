"""Rate limits: how long until they are lifted, and those that waiting does not lift."""

from __future__ import annotations

import json
from collections.abc import Callable

import anthropic
import httpx
import openai
import requests
from google import genai
from tests.unit.real_errors.conftest import PATIENCE_S, Row, Service

from redrive.retry import Kind

REACHED = "Rate limit reached for m in organization org-x on "


def _openai(url: str) -> None:
    with openai.OpenAI(api_key="none", base_url=url, max_retries=0, timeout=PATIENCE_S) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])


def _anthropic(url: str) -> None:
    with anthropic.Anthropic(api_key="none", base_url=url, max_retries=0) as client:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])


def _genai(url: str) -> None:
    options = genai.types.HttpOptions(base_url=url, timeout=int(PATIENCE_S * 1000))
    with genai.Client(api_key="none", http_options=options) as client:
        client.models.generate_content(model="m", contents="x")


def _httpx(url: str) -> None:
    httpx.get(url, timeout=PATIENCE_S).raise_for_status()


def _requests(url: str) -> None:
    requests.get(url, timeout=PATIENCE_S).raise_for_status()


CALLS: dict[str, Callable[[str], None]] = {
    "anthropic": _anthropic,
    "google.genai": _genai,
    "httpx": _httpx,
    "openai": _openai,
    "requests": _requests,
}


def _limited(
    library: str,
    case: str,
    wait_s: float | None,
    headers: dict[str, str] | None = None,
    *,
    message: str = "told",
    kind: Kind = Kind.RATE_LIMITED,
) -> Row:
    error = {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}

    def fail(service: Service) -> None:
        body = json.dumps({"error": error}).encode()
        CALLS[library](service.answers_with(429, headers, body))

    return Row(library, f"429-{case}", fail, kind, wait_s)


def _never(library: str, case: str, message: str, headers: dict[str, str] | None = None) -> Row:
    return _limited(library, case, None, headers, message=message, kind=Kind.PERMANENT)


def _reset(prefix: str, remaining: str, reset: str, suffix: str = "") -> dict[str, str]:
    return {f"{prefix}remaining{suffix}": remaining, f"{prefix}reset{suffix}": reset}


def _gemini(case: str, quota: dict[str, object], kind: Kind, wait_s: float | None = None) -> Row:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]}
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "39s"}
    error = {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "message": "You exceeded your current quota. Please retry in 39.4s.",
        "details": [failure, retry],
    }

    def fail(service: Service) -> None:
        _genai(service.answers_with(429, {}, json.dumps({"error": error}).encode()))

    return Row("google.genai", f"429-{case}", fail, kind, wait_s)


def _anthropic_resets(requests_left: str, tokens_left: str) -> dict[str, str]:
    return {
        "anthropic-ratelimit-requests-remaining": requests_left,
        "anthropic-ratelimit-requests-reset": "2026-06-01T12:01:30Z",
        "anthropic-ratelimit-tokens-remaining": tokens_left,
        "anthropic-ratelimit-tokens-reset": "2026-06-01T12:00:05Z",
    }


def _openai_resets(requests_left: str, tokens_left: str) -> dict[str, str]:
    return {
        **_reset("x-ratelimit-", requests_left, "6m0s", "-requests"),
        **_reset("x-ratelimit-", tokens_left, "250ms", "-tokens"),
    }


WAITS = [
    _limited("openai", "requests-used-up", 360.0, _openai_resets("0", "149984")),
    _limited("openai", "tokens-used-up", 0.25, _openai_resets("199", "0")),
    _limited("openai", "nothing-used-up", 360.0, _openai_resets("199", "120")),
    _limited("openai", "retry-after-wins", 2.0, {**_openai_resets("0", "9"), "Retry-After": "2"}),
    _limited("openai", "retry-after-0", 360.0, {**_openai_resets("0", "9"), "Retry-After": "0"}),
    _limited("openai", "longer-holds", 30.0, {"retry-after-ms": "0", "Retry-After": "30"}),
    _limited("openai", "duration", 20.0, {"Retry-After": "20s"}),
    _limited("openai", "two-headers", 20.0, {"Retry-After": "7, 20"}),
    _limited(
        "openai",
        "text",
        20.0,
        message=REACHED + "requests per min (RPM): Limit 3, Used 3, Requested 1. "
        "Please try again in 20s.",
    ),
    _limited(
        "openai",
        "text-of-a-day",
        432.0,
        message=REACHED + "requests per day (RPD): Limit 200, Used 200, Requested 1. "
        "Please try again in 7m12s.",
    ),
    _limited("anthropic", "requests-used-up", 90.0, _anthropic_resets("0", "9000")),
    _limited("anthropic", "tokens-used-up", 5.0, _anthropic_resets("9", "0")),
    _limited("anthropic", "both-used-up", 90.0, _anthropic_resets("0", "0")),
    _limited("anthropic", "passed", 0.0, _reset("anthropic-ratelimit-unified-", "0", "1780315000")),
    _limited(
        "anthropic", "unified", 60.0, _reset("anthropic-ratelimit-unified-", "0", "1780315260")
    ),
    _limited("httpx", "ratelimit-reset", 12.0, _reset("RateLimit-", "0", "12")),
    _limited("httpx", "ratelimit-fields", 50.0, {"RateLimit": "limit=10, remaining=0, reset=50"}),
    _limited("httpx", "ratelimit-items", 30.0, {"RateLimit": '"default";r=0;t=30'}),
    _limited("httpx", "epoch", 60.0, _reset("X-RateLimit-", "0", "1780315260")),
    _limited("requests", "epoch-in-ms", 60.0, _reset("X-RateLimit-", "0", "1780315260000")),
    _limited(
        "requests", "reset-in-seconds", 8.5, _reset("x-ratelimit-", "0", "8.5", "-tokens-minute")
    ),
    _limited("httpx", "body", 20.0, message="Please try again in 20s."),
    _limited("requests", "body", 18.0, message="Throttled. Expected available in 18 seconds."),
    _gemini(
        "per-minute",
        {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "10"},
        Kind.RATE_LIMITED,
        39.0,
    ),
]

HOPELESS = [
    _never(
        "openai",
        "too-large",
        "Request too large for m in organization org-x on tokens per min (TPM): Limit 30000, "
        "Requested 45000. The input or output tokens must be reduced in order to run successfully.",
    ),
    _never(
        "openai",
        "more-than-the-limit",
        REACHED + "tokens per min (TPM): Limit 30,000, Requested 45,000. Please try again in 1s.",
    ),
    _never("openai", "zero", REACHED + "tokens per min (TPM): Limit 0, Used 0, Requested 9."),
    _never("openai", "daily", "You have exceeded your daily quota."),
    _never("httpx", "free-models-per-day", "Rate limit exceeded: free-models-per-day."),
    _never("requests", "trial", "Trial keys are limited to 1000 API calls / month."),
    _never("openai", "too-large-with-wait", "Request too large for m", {"Retry-After": "7"}),
    _gemini(
        "per-day",
        {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "50"},
        Kind.PERMANENT,
    ),
    _gemini(
        "zero",
        {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "0"},
        Kind.PERMANENT,
    ),
]

ROWS = [*WAITS, *HOPELESS]
