"""Codes that providers of models write into an answer, and where errors carry them.

They stand in attributes of an SDK's error, in its `body`, in the answer that an HTTP client kept,
or, where an answer with the status 200 tells of an error, only in what a client raised over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redrive.json_texts import parsed_json
from redrive.retry.kinds import Kind
from redrive.retry.rules.frames import client_of, is_client
from redrive.retry.rules.http import kind_of_status, status_of
from redrive.retry.rules.rule_verdict import (
    RuleVerdict,
    content_of,
    look,
    look_str,
    short_name,
    text_of,
)
from redrive.retry.rules.system import read_bug

__all__ = [
    "ERROR_CODES",
    "STATUS_CODES",
    "STREAMING",
    "VALIDATION",
    "kind_of_code",
    "read_answer",
    "read_code",
    "read_stream",
    "read_written",
]

# Beside a status that says something else, these decide.
STATUS_CODES: dict[str, Kind] = {
    # A rate limit by its status, but only money lifts it.
    **dict.fromkeys(
        (
            "access_terminated",
            "billing_hard_limit_reached",
            "billing_not_active",
            "insufficient_quota",
        ),
        Kind.PERMANENT,
    ),
    # A bad request by its status, but the model wrote it: it may write better, once.
    **dict.fromkeys(
        ("json_validate_failed", "output_parse_failed", "tool_use_failed"), Kind.UNKNOWN
    ),
}

# What a service writes into an answer or a stream that began with the status 200.
# https://docs.claude.com/en/api/errors, https://platform.openai.com/docs/guides/error-codes,
# openai's types/responses/response_error.py, https://cloud.google.com/apis/design/errors
ERROR_CODES: dict[str, Kind] = {
    **STATUS_CODES,
    **dict.fromkeys(
        (
            "api_error",
            "bad_gateway",
            "capacity_exceeded",
            "internal_error",
            "internal_failure",
            "internal_server_error",
            "model_overloaded",
            "overloaded",
            "overloaded_error",
            "server_error",
            "server_is_overloaded",
            "service_unavailable",
            "slow_down",
            "temporarily_unavailable",
            "ABORTED",
            "UNAVAILABLE",
        ),
        Kind.TRANSIENT,
    ),
    **dict.fromkeys(
        (
            "gateway_timeout",
            "request_timeout",
            "timeout",
            "timeout_error",
            "vector_store_timeout",
            "DEADLINE_EXCEEDED",
        ),
        Kind.TIMEOUT,
    ),
    **dict.fromkeys(
        (
            "rate_limit_error",
            "rate_limit_exceeded",
            "rate_limited",
            "too_many_requests",
            "RESOURCE_EXHAUSTED",
        ),
        Kind.RATE_LIMITED,
    ),
    **dict.fromkeys(
        (
            "authentication_error",
            "billing_error",
            "bio_policy",
            "content_filter",
            "content_policy_violation",
            "context_length_exceeded",
            "empty_image_file",
            "failed_to_download_image",
            "image_content_policy_violation",
            "image_file_not_found",
            "image_file_too_large",
            "image_parse_error",
            "image_too_large",
            "image_too_small",
            "invalid_api_key",
            "invalid_base64_image",
            "invalid_image",
            "invalid_image_format",
            "invalid_image_mode",
            "invalid_image_url",
            "invalid_prompt",
            "invalid_request_error",
            "model_not_found",
            "not_found_error",
            "permission_error",
            "request_too_large",
            "unsupported_image_media_type",
            "FAILED_PRECONDITION",
            "INVALID_ARGUMENT",
            "NOT_FOUND",
            "PERMISSION_DENIED",
            "UNAUTHENTICATED",
        ),
        Kind.PERMANENT,
    ),
}

# What SDKs of one make raise for an error in a stream.
STREAMING = frozenset(
    f"{package}.APIError"
    for package in ("anthropic", "cerebras", "fireworks", "groq", "openai", "together")
)
# Errors of a body or of a text that does not fit its schema.
VALIDATION = frozenset(
    {
        *("jsonschema.ValidationError", "msgspec.ValidationError", "pydantic.ValidationError"),
        "pydantic_core.ValidationError",
    }
)
# Whoever raises them, no answer is to blame.
_OF_THE_PROGRAM = frozenset(
    f"class:builtins.{name}"
    for name in ("ImportError", "NameError", "NotImplementedError", "SyntaxError")
)
_FIELDS = ("code", "type", "status", "error_code")
_DIGITS = 3
_LONGEST_BODY = 65_536
_IN_TEXT = (
    # ResponseError(code='server_error', …), {'code': 429, …}, "code": "x"
    re.compile(
        r"\b(?:error_)?code[\\'\"]{0,4}\s{0,4}[=:]\s{0,4}[\\'\"]{0,4}(\d{3}(?!\d)|[A-Za-z_]+)"
    ),
    # The name of a code before the message, as in langchain-openai's "server_error" and a colon.
    re.compile(r"^\s*([A-Za-z]+(?:_[A-Za-z]+)+|UNAVAILABLE|ABORTED):"),
    # Error code: 429, HTTP 503, status code 502, status: 500
    re.compile(
        r"\b(?:code|error|http(?:/\d\.\d)?|status|status[ _]code)\s{0,4}[:=]?\s{0,4}(\d{3})(?!\d)",
        re.IGNORECASE,
    ),
    # 429 RESOURCE_EXHAUSTED. {…}
    re.compile(r"^\s*(\d{3}) [A-Z_]{6,}\b"),
)
_A_KEY = re.compile(
    r"api[ _-]?(?:key|token)|access[ _-]?(?:key|token)|auth[ _]?token|missing credentials|"
    r"authentication method|key inputs",
    re.IGNORECASE,
)
_IS_MISSING = re.compile(
    r"missing|must (?:be )?(?:provide|pass|set|specify|specified|supply|supplied|give)|"
    r"(?:n't|not) (?:been )?(?:set|provided|found|configured|specified|given|passed)|"
    r"(?:is|are) required|could not (?:resolve|find|determine)|unable to (?:find|locate)|"
    r"did not find|"
    r"no [\w ]{0,30}(?:key|token|credentials?) (?:was |were |is |are )?"
    r"(?:provided|found|given|set|configured|specified|supplied)|"
    r"(?:please|should|by|or|either) (?:set|setting|provide|pass|passing)\b|environment variable",
    re.IGNORECASE,
)


def read_code(exc: BaseException) -> RuleVerdict | None:
    """Judge by a code that says more than the status does."""
    for code in _codes_of(exc):
        kind = STATUS_CODES.get(code) if isinstance(code, str) else None
        if kind is not None:
            return _verdict(exc, "code", code, kind)
    return None


def read_stream(exc: BaseException) -> RuleVerdict | None:
    """Judge by the error that stands in a stream, where the status says that all is well."""
    return None if status_of(exc) is not None else _first_known(exc, "stream", _codes_of(exc))


def read_written(exc: BaseException) -> RuleVerdict | None:
    """Judge text that did not validate: a model's, where a client's code had to read it."""
    client = client_of(exc)
    if client is None:
        # In the node's own code it was the input.
        return None
    why = f"{short_name(exc)} in {client}: what a model or a service wrote, not the node's input"
    return RuleVerdict(Kind.UNKNOWN, f"frame:{client}", why)


def read_answer(exc: BaseException) -> RuleVerdict | None:
    """Judge an error that says nothing itself, but that a client raised: over an answer."""
    client = client_of(exc) or is_client(short_name(exc).rpartition(".")[0])
    if client is None:
        return None
    text = text_of(exc)
    if status_of(exc) is None and _A_KEY.search(text) and _IS_MISSING.search(text):
        return RuleVerdict(
            Kind.PERMANENT, "text:missing_key", f"{short_name(exc)}: {client} was given no key"
        )
    told = exc.args[0] if exc.args else None
    known = _first_known(exc, "answer", _codes_in(told)) or _first_known(
        exc, "answer", _codes_in_text(text)
    )
    bug = read_bug(exc)
    if known is not None or bug is None or bug.rule in _OF_THE_PROGRAM:
        return known
    why = f"{short_name(exc)} in {client}: an answer that it could not read, no bug of the node"
    # What stands behind it may know better.
    return RuleVerdict(Kind.UNKNOWN, f"frame:{client}", why, weak=True)


def kind_of_code(code: object) -> Kind | None:
    """Return what a code means: a name, or an HTTP status as a number or as text."""
    if isinstance(code, int) and not isinstance(code, bool):
        return kind_of_status(code)
    if not isinstance(code, str):
        return None
    if len(code) == _DIGITS and code.isdecimal():
        return kind_of_status(int(code))
    return ERROR_CODES.get(code)


def _first_known(exc: BaseException, form: str, codes: Iterator[object]) -> RuleVerdict | None:
    for code in codes:
        kind = kind_of_code(code)
        if kind is not None:
            return _verdict(exc, form, code, kind)
    return None


def _verdict(exc: BaseException, form: str, code: object, kind: Kind) -> RuleVerdict:
    return RuleVerdict(kind, f"{form}:{code}", f"{short_name(exc)} with {code} is {kind.value}")


def _codes_of(exc: BaseException) -> Iterator[object]:
    yield look_str(exc, "code")
    yield look_str(exc, "type")
    body = look(exc, "body")
    yield from _codes_in(body if isinstance(body, dict) else _parsed(body) or _kept_answer(exc))


def _codes_in(told: object) -> Iterator[object]:
    """Find the codes of an error that is told as JSON, or as an object made of it."""
    if isinstance(told, dict):
        inner = told.get("error", told)
        fields = inner if isinstance(inner, dict) else told
        yield from (fields.get(name) for name in _FIELDS)
    elif told is not None and not isinstance(told, str | bytes | int | float | BaseException):
        yield from (look(told, name) for name in _FIELDS)


def _codes_in_text(text: str) -> Iterator[object]:
    for pattern in _IN_TEXT:
        for found in pattern.finditer(text):
            yield found.group(1)


def _kept_answer(exc: BaseException) -> object:
    return _parsed(content_of(exc))


def _parsed(body: object) -> object:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    if not isinstance(text, str) or not text.startswith("{") or len(text) > _LONGEST_BODY:
        return None
    try:
        return parsed_json(text)
    except ValueError:
        return None
