"""What the SDKs of language models raise, against a service that fails as it is told."""

from __future__ import annotations

import asyncio
import json

import anthropic
import ollama
import openai
from google import genai
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.unit.real_errors.conftest import (
    PATIENCE_S,
    Row,
    Service,
    fault_rows,
    status_rows,
)

from redrive.retry import Kind

ERROR = b'{"error": {"type": "told", "message": "told"}}'
OUT_OF_QUOTA = json.dumps(
    {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "told"}}
).encode()


def _openai(url: str, patience_s: float) -> None:
    with openai.OpenAI(api_key="none", base_url=url, max_retries=0, timeout=patience_s) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])


def _openai_async(url: str, patience_s: float) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(
            api_key="none", base_url=url, max_retries=0, timeout=patience_s
        ) as client:
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}]
            )

    asyncio.run(ask())


def _openai_stream(url: str) -> None:
    with openai.OpenAI(api_key="none", base_url=url, max_retries=0, timeout=PATIENCE_S) as client:
        for _ in client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        ):
            pass


def _langchain(url: str, patience_s: float) -> None:
    _chat(url, patience_s).invoke("x")


def _langchain_stream(url: str) -> None:
    for _ in _chat(url, PATIENCE_S).stream("x"):
        pass


def _chat(url: str, patience_s: float) -> ChatOpenAI:
    return ChatOpenAI(
        model="m", api_key=SecretStr("none"), base_url=url, max_retries=0, timeout=patience_s
    )


def _anthropic(url: str, patience_s: float) -> None:
    with anthropic.Anthropic(
        api_key="none", base_url=url, max_retries=0, timeout=patience_s
    ) as client:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])


def _anthropic_async(url: str, patience_s: float) -> None:
    async def ask() -> None:
        async with anthropic.AsyncAnthropic(
            api_key="none", base_url=url, max_retries=0, timeout=patience_s
        ) as client:
            await client.messages.create(
                model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
            )

    asyncio.run(ask())


def _anthropic_stream(url: str) -> None:
    with anthropic.Anthropic(
        api_key="none", base_url=url, max_retries=0, timeout=PATIENCE_S
    ) as client:
        for _ in client.messages.create(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}], stream=True
        ):
            pass


def _genai(url: str, patience_s: float) -> None:
    with _google(url, patience_s) as client:
        client.models.generate_content(model="m", contents="x")


def _genai_async(url: str, patience_s: float) -> None:
    async def ask() -> None:
        async with _google(url, patience_s).aio as client:
            await client.models.generate_content(model="m", contents="x")

    asyncio.run(ask())


def _genai_stream(url: str) -> None:
    with _google(url, PATIENCE_S) as client:
        for _ in client.models.generate_content_stream(model="m", contents="x"):
            pass


def _google(url: str, patience_s: float) -> genai.Client:
    options = genai.types.HttpOptions(base_url=url, timeout=int(patience_s * 1000))
    return genai.Client(api_key="none", http_options=options)


def _ollama(url: str, patience_s: float) -> None:
    with ollama.Client(host=url, timeout=patience_s) as client:
        client.chat(model="m", messages=[{"role": "user", "content": "x"}])


def _ollama_stream(url: str) -> None:
    with ollama.Client(host=url, timeout=PATIENCE_S) as client:
        for _ in client.chat(model="m", messages=[{"role": "user", "content": "x"}], stream=True):
            pass


def _streams(service: Service, error: object, *, event: str = "") -> str:
    """Return the base URL of a stream that began well, with the status 200, and brings an error."""
    line = f"{event}data: {json.dumps(error)}\n\n"
    return service.answers_with(200, {"Content-Type": "text/event-stream"}, line.encode())


def _openai_stream_row(kind: Kind, **error: str | int | None) -> Row:
    told = {"type": None, "code": None, "message": "told", **error}

    def fail(service: Service) -> None:
        _openai_stream(_streams(service, {"error": told}))

    return Row("openai", f"stream-{told['code']}-{told['type']}", fail, kind)


def _anthropic_stream_row(kind: Kind, name: str) -> Row:
    told = {"type": "error", "error": {"type": name, "message": "told"}}

    def fail(service: Service) -> None:
        _anthropic_stream(_streams(service, told, event="event: error\n"))

    return Row("anthropic", f"stream-{name}", fail, kind)


def _anthropic_limit_row(kind: Kind, code: str, wait_s: float | None = None) -> Row:
    details = {"error_code": code}
    error = {"type": "rate_limit_error", "message": "told", "details": details}

    def fail(service: Service) -> None:
        body = json.dumps({"type": "error", "error": error}).encode()
        _anthropic(service.answers_with(429, {"Retry-After": "7"}, body), PATIENCE_S)

    return Row("anthropic", f"429-{code}", fail, kind, wait_s)


def _genai_stream_row(kind: Kind, code: int, status: str) -> Row:
    told = {"error": {"code": code, "status": status, "message": "told"}}

    def fail(service: Service) -> None:
        _genai_stream(_streams(service, told))

    return Row("google.genai", f"stream-{code}", fail, kind)


def _genai_quota(service: Service) -> None:
    details = [
        {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"},
    ]
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "told", "details": details}
    _genai(service.answers_with(429, {}, json.dumps({"error": error}).encode()), PATIENCE_S)


# Both SDKs try a conflict again themselves: it is one of requests, not of data.
CONFLICT = {409: Kind.TRANSIENT}
LANGCHAIN = ("langchain_openai", "openai")

ROWS = [
    *status_rows("openai", _openai, kinds=CONFLICT, body=ERROR),
    *fault_rows("openai", _openai),
    *fault_rows("openai", _openai_async, mark="async-"),
    Row(
        "openai",
        "429-out-of-quota",
        lambda service: _openai(
            service.answers_with(429, {"Retry-After": "7"}, OUT_OF_QUOTA), PATIENCE_S
        ),
        Kind.PERMANENT,
    ),
    Row(
        "openai",
        "409-should-not-retry",
        lambda service: _openai(
            service.answers_with(409, {"x-should-retry": "false"}, ERROR), PATIENCE_S
        ),
        Kind.PERMANENT,
    ),
    Row(
        "openai",
        "400-should-retry",
        lambda service: _openai(
            service.answers_with(400, {"x-should-retry": "true", "Retry-After": "2"}, ERROR),
            PATIENCE_S,
        ),
        Kind.TRANSIENT,
        2.0,
    ),
    _openai_stream_row(Kind.TRANSIENT, type="server_error"),
    _openai_stream_row(Kind.RATE_LIMITED, type="tokens", code="rate_limit_exceeded"),
    _openai_stream_row(Kind.PERMANENT, type="insufficient_quota", code="insufficient_quota"),
    _openai_stream_row(
        Kind.PERMANENT, type="invalid_request_error", code="context_length_exceeded"
    ),
    # Servers that speak OpenAI's protocol write the status into the stream.
    _openai_stream_row(Kind.PERMANENT, type="BadRequestError", code=400),
    _openai_stream_row(Kind.TRANSIENT, type="InternalServerError", code=500),
    _openai_stream_row(Kind.UNKNOWN),
    *status_rows("langchain_openai", _langchain, kinds=CONFLICT, body=ERROR, raised_by=LANGCHAIN),
    *fault_rows("langchain_openai", _langchain),
    Row(
        "langchain_openai",
        "429-out-of-quota",
        lambda service: _langchain(
            service.answers_with(429, {"Retry-After": "7"}, OUT_OF_QUOTA), PATIENCE_S
        ),
        Kind.PERMANENT,
    ),
    Row(
        "langchain_openai",
        "stream-server_error",
        lambda service: _langchain_stream(
            _streams(service, {"error": {"type": "server_error", "message": "told"}})
        ),
        Kind.TRANSIENT,
        raised_by=LANGCHAIN,
    ),
    *status_rows("anthropic", _anthropic, kinds=CONFLICT, body=ERROR),
    *fault_rows("anthropic", _anthropic),
    *fault_rows("anthropic", _anthropic_async, mark="async-"),
    _anthropic_limit_row(Kind.RATE_LIMITED, "told", 7.0),
    _anthropic_limit_row(Kind.PERMANENT, "enforced_spend_limit_reached"),
    _anthropic_limit_row(Kind.PERMANENT, "contract_spend_limit_reached"),
    _anthropic_stream_row(Kind.TRANSIENT, "overloaded_error"),
    _anthropic_stream_row(Kind.TRANSIENT, "api_error"),
    _anthropic_stream_row(Kind.TIMEOUT, "timeout_error"),
    _anthropic_stream_row(Kind.RATE_LIMITED, "rate_limit_error"),
    _anthropic_stream_row(Kind.PERMANENT, "invalid_request_error"),
    _anthropic_stream_row(Kind.PERMANENT, "authentication_error"),
    _anthropic_stream_row(Kind.PERMANENT, "billing_error"),
    _anthropic_stream_row(Kind.UNKNOWN, "told"),
    *status_rows("google.genai", _genai, body=ERROR),
    *fault_rows("google.genai", _genai, raised_by=("httpx2",)),
    # It tries a connection that failed again itself, for seconds, which no setting turns off.
    *fault_rows(
        "google.genai",
        _genai_async,
        mark="async-",
        without=(
            *("refused", "hung-up", "gibberish", "never-connected"),
            *("tls-self-signed", "tls-broken-off", "tls-not-spoken"),
        ),
        raised_by=("aiohttp", "builtins"),
    ),
    Row("google.genai", "429-retry-info", _genai_quota, Kind.RATE_LIMITED, 17.0),
    Row(
        "google.genai",
        "async-503",
        lambda service: _genai_async(service.answers_with(503, {"Retry-After": "7"}), PATIENCE_S),
        Kind.TRANSIENT,
        7.0,
    ),
    Row(
        "google.genai",
        "not-json",
        lambda service: _genai_stream(service.answers_with(200, {}, b"<p>")),
        Kind.UNKNOWN,
    ),
    _genai_stream_row(Kind.TRANSIENT, 503, "UNAVAILABLE"),
    _genai_stream_row(Kind.RATE_LIMITED, 429, "RESOURCE_EXHAUSTED"),
    _genai_stream_row(Kind.PERMANENT, 400, "INVALID_ARGUMENT"),
    *status_rows("ollama", _ollama, keeps_headers=False),
    *fault_rows(
        "ollama",
        _ollama,
        # It says ConnectionError to each failed connection, and hides what stood behind it.
        kinds={"tls-self-signed": Kind.TRANSIENT, "tls-not-spoken": Kind.TRANSIENT},
        raised_by=("builtins", "httpx"),
    ),
    Row(
        "ollama",
        "stream",
        lambda service: _ollama_stream(service.answers_with(200, {}, b'{"error": "told"}\n')),
        Kind.UNKNOWN,
    ),
]
