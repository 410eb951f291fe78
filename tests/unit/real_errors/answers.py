"""Trouble of a provider in an answer with the status 200, as clients raise it; missing keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from unittest import mock

import anthropic
import openai
from google import genai
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.unit.real_errors.conftest import PATIENCE_S, Row, Service

from redrive.retry import Kind

LANGCHAIN = ("builtins", "langchain_openai", "openai")
HTML = b"<html><title>Please sign in</title></html>"
COMPLETION = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
RESPONSE = {
    "id": "r",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "failed",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}

CODES: dict[str | int, Kind] = {
    400: Kind.PERMANENT,
    401: Kind.PERMANENT,
    402: Kind.PERMANENT,
    403: Kind.PERMANENT,
    408: Kind.TIMEOUT,
    429: Kind.RATE_LIMITED,
    500: Kind.TRANSIENT,
    502: Kind.TRANSIENT,
    503: Kind.TRANSIENT,
    504: Kind.TIMEOUT,
    "server_error": Kind.TRANSIENT,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "insufficient_quota": Kind.PERMANENT,
    "context_length_exceeded": Kind.PERMANENT,
    "told": Kind.UNKNOWN,
}
RESPONSE_CODES = {
    "server_error": Kind.TRANSIENT,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "vector_store_timeout": Kind.TIMEOUT,
    "invalid_prompt": Kind.PERMANENT,
    "image_parse_error": Kind.PERMANENT,
    "told": Kind.UNKNOWN,
}


def _chat(url: str, **options: object) -> ChatOpenAI:
    return ChatOpenAI(
        model="m",
        api_key=SecretStr("none"),
        base_url=url,
        max_retries=0,
        timeout=PATIENCE_S,
        **options,
    )


def _ask(url: str, **options: object) -> object:
    return _chat(url, **options).invoke("x")


def _ask_async(url: str, **options: object) -> object:
    return asyncio.run(_chat(url, **options).ainvoke("x"))


def _answers(service: Service, answer: object) -> str:
    return service.answers_with(200, {}, json.dumps(answer).encode())


def _streams(service: Service, *events: object) -> str:
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return service.answers_with(200, {"Content-Type": "text/event-stream"}, lines.encode())


def _row(
    case: str, kind: Kind, ask: Callable[[str], object], url_of: Callable[[Service], str]
) -> Row:
    return Row(
        "langchain_openai", case, lambda service: ask(url_of(service)), kind, raised_by=LANGCHAIN
    )


def _error_row(
    code: str | int, kind: Kind, ask: Callable[[str], object] = _ask, mark: str = ""
) -> Row:
    # As OpenRouter and gateways like it answer.
    answer = {"error": {"message": "Provider returned error", "code": code}, "user_id": "u"}
    return _row(f"{mark}200-error-{code}", kind, ask, lambda service: _answers(service, answer))


def _unreadable_row(
    case: str, answer: object, ask: Callable[[str], object] = _ask, mark: str = ""
) -> Row:
    return _row(f"{mark}{case}", Kind.UNKNOWN, ask, lambda service: _answers(service, answer))


def _responses_rows(code: str, kind: Kind) -> list[Row]:
    error = {"code": code, "message": "told"}
    failed = {**RESPONSE, "error": error}
    event = {"type": "response.failed", "sequence_number": 1, "response": failed}
    told = {"type": "error", "sequence_number": 1, "param": None, **error}

    def ask(url: str) -> object:
        return _ask(url, use_responses_api=True)

    def ask_stream(url: str) -> object:
        return _ask_async(url, use_responses_api=True, streaming=True)

    return [
        _row(f"response-{code}", kind, ask, lambda service: _answers(service, failed)),
        _row(f"response.failed-{code}", kind, ask_stream, lambda service: _streams(service, event)),
        _row(f"response-event-{code}", kind, ask_stream, lambda service: _streams(service, told)),
    ]


def _html(service: Service) -> str:
    return service.answers_with(200, {"Content-Type": "text/html"}, HTML)


def _parse_html(service: Service) -> None:
    with openai.OpenAI(api_key="none", base_url=_html(service), max_retries=0) as client:
        client.chat.completions.parse(model="m", messages=[{"role": "user", "content": "x"}])


def _anthropic_html(service: Service) -> object:
    with anthropic.Anthropic(api_key="none", base_url=_html(service), max_retries=0) as client:
        return client.messages.parse(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
        )


def _without_keys(make: Callable[[], object]) -> Callable[[Service], object]:
    def fail(_service: Service) -> object:
        with mock.patch.dict("os.environ", {"OPENAI_API_KEY": ""}) as environ:
            del environ["OPENAI_API_KEY"]
            return make()

    return fail


def _anthropic_without_key() -> None:
    with anthropic.Anthropic() as client:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])


UNREADABLE = [
    ("choices-null", {**COMPLETION, "choices": None}),
    ("choices-empty", {**COMPLETION, "choices": []}),
    ("choices-missing", COMPLETION),
    ("no-message", {**COMPLETION, "choices": [{"index": 0, "finish_reason": "stop"}]}),
]

ROWS = [
    *(_error_row(code, kind) for code, kind in CODES.items()),
    *(_error_row(code, CODES[code], _ask_async, "async-") for code in (429, 502, "told")),
    *(_unreadable_row(case, answer) for case, answer in UNREADABLE),
    *(_unreadable_row(case, answer, _ask_async, "async-") for case, answer in UNREADABLE[:2]),
    _row("html", Kind.UNKNOWN, _ask, _html),
    _row("async-html", Kind.UNKNOWN, _ask_async, _html),
    _row("empty-stream", Kind.UNKNOWN, lambda url: _ask(url, streaming=True), _streams),
    _row("async-empty-stream", Kind.UNKNOWN, lambda url: _ask_async(url, streaming=True), _streams),
    *(row for code, kind in RESPONSE_CODES.items() for row in _responses_rows(code, kind)),
    Row("openai", "html-parsed", _parse_html, Kind.UNKNOWN, raised_by=("builtins",)),
    Row("anthropic", "html-parsed", _anthropic_html, Kind.UNKNOWN, raised_by=("builtins",)),
    Row("openai", "no-key", _without_keys(openai.OpenAI), Kind.PERMANENT),
    Row("openai", "async-no-key", _without_keys(openai.AsyncOpenAI), Kind.PERMANENT),
    Row(
        "langchain_openai",
        "no-key",
        _without_keys(lambda: ChatOpenAI(model="m").invoke("x")),
        Kind.PERMANENT,
        raised_by=("openai", "builtins", "pydantic_core"),
    ),
    Row(
        "anthropic",
        "no-key",
        _without_keys(_anthropic_without_key),
        Kind.PERMANENT,
        raised_by=("builtins",),
    ),
    Row(
        "google.genai",
        "no-key",
        _without_keys(genai.Client),
        Kind.PERMANENT,
        raised_by=("builtins",),
    ),
]
