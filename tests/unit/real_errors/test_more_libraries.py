"""Real errors of further libraries: each library is a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module

import grpc  # type: ignore[import-untyped] # it has none
import pytest
import requests
from tests.rows import try_each
from tests.unit.real_errors.conftest import (
    PATIENCE_S,
    Row,
    Service,
    check,
    fault_rows,
    status_rows,
)
from tests.unit.real_errors.services import WAIT, grpc_server

from redrive.retry import Kind

ASK = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def _raises(make: Callable[[], Exception]) -> Callable[[Service], object]:
    def fail(_service: Service) -> object:
        raise make()

    return fail


def _error(**fields: object) -> bytes:
    return json.dumps({"error": {"message": "told", **fields}}).encode()


def _google_api_core() -> Iterator[Row]:
    errors = import_module("google.api_core.exceptions")
    helpers = import_module("google.api_core.grpc_helpers")

    def call(code: str, kind: Kind, wait_s: float | None = None, *, wait_ms: str = "") -> Row:
        trailing: list[tuple[str, str | bytes]] = []
        if wait_ms:
            trailing = [("grpc-retry-pushback-ms", wait_ms)]
        elif wait_s is not None:
            trailing = [("grpc-status-details-bin", WAIT)]

        def fail(_service: Service) -> None:
            with (
                grpc_server(code, *trailing) as target,
                grpc.insecure_channel(target) as channel,
            ):
                helpers.wrap_errors(channel.unary_unary("/t/m"))(b"", timeout=PATIENCE_S)

        return Row("google.api_core", f"{code}{wait_ms}-{wait_s}", fail, kind, wait_s)

    def rest(status: int, kind: Kind, wait_s: float | None = None, /, **error: object) -> Row:
        def fail(service: Service) -> None:
            answer = requests.get(service.answers_with(status, {}, _error(**error)), timeout=5)
            raise errors.from_http_response(answer)

        return Row("google.api_core", f"rest-{status}-{error}", fail, kind, wait_s)

    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}
    gave_up = errors.RetryError("Timeout of 60.0s exceeded", cause=errors.ServiceUnavailable("x"))
    yield from (
        call("UNAVAILABLE", Kind.TRANSIENT),
        call("UNAVAILABLE", Kind.TRANSIENT, 1.5, wait_ms="1500"),
        call("UNAVAILABLE", Kind.PERMANENT, wait_ms="-1"),
        call("RESOURCE_EXHAUSTED", Kind.RATE_LIMITED),
        call("RESOURCE_EXHAUSTED", Kind.RATE_LIMITED, 37.5),
        call("ABORTED", Kind.TRANSIENT),
        call("ALREADY_EXISTS", Kind.PERMANENT),
        call("CANCELLED", Kind.UNKNOWN),
        call("INTERNAL", Kind.UNKNOWN),
        call("UNKNOWN", Kind.UNKNOWN),
        call("DEADLINE_EXCEEDED", Kind.TIMEOUT),
        call("UNAUTHENTICATED", Kind.PERMANENT),
        call("INVALID_ARGUMENT", Kind.PERMANENT),
        rest(409, Kind.TRANSIENT, status="ABORTED"),
        rest(409, Kind.PERMANENT, status="ALREADY_EXISTS"),
        rest(499, Kind.UNKNOWN, status="CANCELLED"),
        rest(500, Kind.TRANSIENT, status="INTERNAL"),
        rest(429, Kind.RATE_LIMITED, 17.0, details=[delay]),
        rest(403, Kind.RATE_LIMITED, errors=[{"reason": "rateLimitExceeded"}]),
        rest(403, Kind.PERMANENT, errors=[{"reason": "dailyLimitExceeded"}]),
        rest(400, Kind.TRANSIENT, errors=[{"reason": "backendError"}]),
        Row("google.api_core", "aborted", _raises(lambda: errors.Aborted("x")), Kind.TRANSIENT),
        Row("google.api_core", "conflict", _raises(lambda: errors.Conflict("x")), Kind.PERMANENT),
        Row("google.api_core", "gave-up", _raises(lambda: gave_up), Kind.TRANSIENT),
    )


def _groq() -> Iterator[Row]:
    groq = import_module("groq")

    def ask(url: str, patience_s: float = PATIENCE_S) -> None:
        with groq.Groq(api_key="none", base_url=url, max_retries=0, timeout=patience_s) as client:
            client.chat.completions.create(**ASK)

    def row(status: int, kind: Kind, wait_s: float | None = None, /, **error: object) -> Row:
        return Row(
            "groq",
            f"{status}-{error}",
            lambda service: ask(service.answers_with(status, {}, _error(**error))),
            kind,
            wait_s,
        )

    yield from status_rows("groq", ask, kinds={409: Kind.TRANSIENT}, body=_error())
    yield from fault_rows("groq", ask)
    yield from (
        row(498, Kind.TRANSIENT, type="capacity_exceeded"),
        row(498, Kind.TRANSIENT),
        row(400, Kind.UNKNOWN, code="tool_use_failed", failed_generation="<function=x>{"),
        row(400, Kind.UNKNOWN, code="json_validate_failed", failed_generation="{"),
        row(400, Kind.PERMANENT, type="invalid_request_error"),
        row(424, Kind.UNKNOWN, type="x"),
        row(499, Kind.UNKNOWN, type="x"),
        row(429, Kind.RATE_LIMITED, 587.712, message="Please try again in 9m47.712s."),
        row(413, Kind.PERMANENT, message="Request too large"),
    )


def _boto3() -> Iterator[Row]:
    errors = import_module("boto3.exceptions")
    botocore = import_module("botocore.exceptions")

    def upload(service: Service) -> None:
        client = import_module("boto3").client(
            "s3",
            region_name="us-east-1",
            endpoint_url=service.answers_with(503),
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106 - and there is none
            config=import_module("botocore.config").Config(
                retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
            ),
        )
        client.upload_file(__file__, "bucket", "key")

    def gave_up() -> Exception:
        error: Exception = errors.RetriesExceededError(
            botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2)
        )
        return error

    yield from (
        Row("boto3", "upload-503", upload, Kind.TRANSIENT),
        Row("boto3", "retries-exceeded", _raises(gave_up), Kind.TRANSIENT),
    )


def _mcp() -> Iterator[Row]:
    error = import_module("mcp.shared.exceptions").MCPError
    kinds = {
        -32000: Kind.TRANSIENT,
        -32001: Kind.TIMEOUT,
        -32600: Kind.PERMANENT,
        -32601: Kind.PERMANENT,
        -32602: Kind.PERMANENT,
        -32603: Kind.UNKNOWN,
        408: Kind.TIMEOUT,
        503: Kind.TRANSIENT,
        -1: Kind.UNKNOWN,
    }

    def row(code: int, kind: Kind) -> Row:
        return Row("mcp", f"{code}", _raises(lambda: error(code=code, message="told")), kind)

    yield from (row(code, kind) for code, kind in kinds.items())


def _pydantic_ai() -> Iterator[Row]:
    errors = import_module("pydantic_ai.exceptions")

    def http(status: int, body: object = None) -> Exception:
        error: Exception = errors.ModelHTTPError(status, "m", body)
        return error

    def row(
        case: str, kind: Kind, make: Callable[[], Exception], wait_s: float | None = None
    ) -> Row:
        return Row("pydantic_ai", case, _raises(make), kind, wait_s)

    def fallback(*members: Exception) -> Callable[[], Exception]:
        return lambda: errors.FallbackExceptionGroup("all models failed", list(members))

    limited = errors.ModelHTTPError(429, "m", None, headers={"retry-after": "60"})
    yield from (
        row("usage-limit", Kind.PERMANENT, lambda: errors.UsageLimitExceeded("told")),
        row("user-error", Kind.PERMANENT, lambda: errors.UserError("told")),
        row("behaviour", Kind.UNKNOWN, lambda: errors.UnexpectedModelBehavior("told")),
        row("503", Kind.TRANSIENT, lambda: http(503)),
        row("401", Kind.PERMANENT, lambda: http(401)),
        row("429", Kind.RATE_LIMITED, lambda: limited, 60.0),
        row("quota", Kind.PERMANENT, lambda: http(429, {"code": "insufficient_quota"})),
        row("tool", Kind.UNKNOWN, lambda: http(400, {"error": {"code": "tool_use_failed"}})),
        row("fallback-401-503", Kind.TRANSIENT, fallback(http(401), http(503))),
        row("fallback-429-503", Kind.TRANSIENT, fallback(limited, http(503))),
        row("fallback-401-429", Kind.RATE_LIMITED, fallback(http(401), limited), 60.0),
        row("fallback-401-404", Kind.PERMANENT, fallback(http(401), http(404))),
    )


def _langchain_anthropic() -> Iterator[Row]:
    chat = import_module("langchain_anthropic").ChatAnthropic

    def fail(service: Service) -> None:
        headers = {
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2026-06-01T12:01:30Z",
        }
        body = b'{"type": "error", "error": {"type": "rate_limit_error", "message": "told"}}'
        url = service.answers_with(429, headers, body)
        chat(model="m", api_key="none", base_url=url, max_retries=0).invoke("x")

    packages = ("anthropic", "langchain_anthropic")
    yield Row("langchain_anthropic", "429", fail, Kind.RATE_LIMITED, 90.0, packages)


LIBRARIES: dict[str, Callable[[], Iterator[Row]]] = {
    "boto3": _boto3,
    "google.api_core": _google_api_core,
    "groq": _groq,
    "langchain_anthropic": _langchain_anthropic,
    "mcp": _mcp,
    "pydantic_ai": _pydantic_ai,
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_library_raises_is_judged_rightly(library: str, service: Service) -> None:
    try_each(((str(row), row) for row in LIBRARIES[library]()), lambda row: check(row, service))
