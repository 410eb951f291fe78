"""Language models and graphs: openai, anthropic, google-genai, ollama, langchain-core, langgraph.

Most of their errors carry an HTTP status, which decides; here stands what the status does not say.
"""

from __future__ import annotations

from redrive.retry.kinds import Kind
from redrive.retry.rules.http import kind_of_status, status_of
from redrive.retry.rules.verdict import Verdict, class_names, look, look_str, short_name

__all__ = [
    "CLASSES",
    "QUOTA_CODES",
    "STREAM_ERRORS",
    "read_attribute",
    "read_provider",
    "read_quota",
    "read_stream",
]

CLASSES: dict[str, Kind] = {
    "openai.APITimeoutError": Kind.TIMEOUT,
    "openai.APIConnectionError": Kind.TRANSIENT,
    # A conflict with another request of ours: both SDKs try these again themselves.
    "openai.ConflictError": Kind.TRANSIENT,
    "openai.LengthFinishReasonError": Kind.PERMANENT,
    "openai.ContentFilterFinishReasonError": Kind.PERMANENT,
    "openai.APIResponseValidationError": Kind.UNKNOWN,
    "openai.WebSocketConnectionClosedError": Kind.TRANSIENT,
    "anthropic.APITimeoutError": Kind.TIMEOUT,
    "anthropic.APIConnectionError": Kind.TRANSIENT,
    "anthropic.ConflictError": Kind.TRANSIENT,
    "anthropic.RetryableError": Kind.TRANSIENT,
    "anthropic.APIResponseValidationError": Kind.UNKNOWN,
    "anthropic.CredentialsError": Kind.PERMANENT,
    # Rate limits by their class and status, but only money lifts them.
    "anthropic.ContractSpendLimitReachedError": Kind.PERMANENT,
    "anthropic.EnforcedSpendLimitReachedError": Kind.PERMANENT,
    "langchain_core.ModelTimeoutError": Kind.TIMEOUT,
    "langchain_core.ModelRateLimitError": Kind.RATE_LIMITED,
    "langchain_core.ModelConnectionError": Kind.TRANSIENT,
    # What the model wrote could not be parsed: it may write better, once.
    "langchain_core.OutputParserException": Kind.UNKNOWN,
    "ollama.RequestError": Kind.PERMANENT,
    # A body that is no JSON: cut short, or a page of a proxy.
    "google.genai.UnknownApiResponseError": Kind.UNKNOWN,
    "google.genai.ContinuationInterruptedError": Kind.TRANSIENT,
    "langgraph.NodeTimeoutError": Kind.TIMEOUT,
    "langgraph.GraphDrained": Kind.TRANSIENT,
    # It is a RecursionError too; asked again it only walks the same circle.
    "langgraph.GraphRecursionError": Kind.PERMANENT,
    "langgraph.InvalidUpdateError": Kind.PERMANENT,
    "langgraph.EmptyInputError": Kind.PERMANENT,
    "langgraph.EmptyChannelError": Kind.PERMANENT,
    "langgraph.TaskNotFound": Kind.PERMANENT,
    "langgraph.UnknownInterruptError": Kind.PERMANENT,
    # Interrupts and commands to the parent: control flow, never something to retry.
    "langgraph.GraphBubbleUp": Kind.PERMANENT,
    "langgraph.NodeCancelledError": Kind.UNKNOWN,
    "pydantic_core.ValidationError": Kind.PERMANENT,
    "pydantic.ValidationError": Kind.PERMANENT,
}

# Codes that providers send with a status that looks like a rate limit.
QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
)

# What a service that had begun to answer writes into the stream, after the status 200.
# https://docs.claude.com/en/api/errors and https://platform.openai.com/docs/guides/error-codes
STREAM_ERRORS: dict[str, Kind] = {
    "api_error": Kind.TRANSIENT,
    "overloaded_error": Kind.TRANSIENT,
    "server_error": Kind.TRANSIENT,
    "timeout_error": Kind.TIMEOUT,
    "rate_limit_error": Kind.RATE_LIMITED,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    **dict.fromkeys(
        (
            "authentication_error",
            "billing_error",
            "context_length_exceeded",
            "invalid_request_error",
            "not_found_error",
            "permission_error",
            "request_too_large",
        ),
        Kind.PERMANENT,
    ),
}
_STREAMING = frozenset({"anthropic.APIError", "openai.APIError"})
_DIGITS = 3


def read_quota(exc: BaseException) -> Verdict | None:
    """Judge a rate limit that waiting does not lift."""
    for code in (look_str(exc, "code"), look_str(exc, "type"), _code_in_body(look(exc, "body"))):
        if code in QUOTA_CODES:
            return Verdict(Kind.PERMANENT, f"code:{code}", f"{short_name(exc)} with code {code}")
    return None


def read_provider(exc: BaseException) -> Verdict | None:
    """Judge by quota codes, then by the service's own word: the header `x-should-retry`."""
    quota = read_quota(exc)
    if quota is not None:
        return quota
    headers = look(look(exc, "response"), "headers")
    get = look(headers, "get")
    told = get("x-should-retry") if headers is not None and callable(get) else None
    if told not in ("true", "false"):
        return None
    status = status_of(exc)
    if told == "true" and status is not None and kind_of_status(status) is not Kind.PERMANENT:
        # The status says the same, and more: a rate limit is one.
        return None
    kind = Kind.TRANSIENT if told == "true" else Kind.PERMANENT
    return Verdict(kind, f"header:x-should-retry={told}", f"{short_name(exc)} says retry: {told}")


def read_stream(exc: BaseException) -> Verdict | None:
    """Judge by the error that stands in a stream, where the status says that all is well."""
    if _STREAMING.isdisjoint(class_names(exc)) or status_of(exc) is not None:
        return None
    for name in (look_str(exc, "code"), look_str(exc, "type")):
        kind = None if name is None else _kind_in_stream(name)
        if kind is not None:
            return Verdict(kind, f"stream:{name}", f"{short_name(exc)} with {name} is {kind.value}")
    return None


def _kind_in_stream(name: str) -> Kind | None:
    if len(name) == _DIGITS and name.isdecimal():
        # Other servers that speak OpenAI's protocol write the status there.
        return kind_of_status(int(name))
    return STREAM_ERRORS.get(name)


def read_attribute(exc: BaseException) -> Verdict | None:
    """Judge by its own word: `is_retryable` (langchain-core) or `retriable` (aiokafka)."""
    for name in ("is_retryable", "retriable"):
        told = look(exc, name)
        if isinstance(told, bool):
            kind = Kind.TRANSIENT if told else Kind.PERMANENT
            return Verdict(kind, f"attribute:{name}", f"{short_name(exc)} says {name}={told}")
    return None


def _code_in_body(body: object) -> str | None:
    if not isinstance(body, dict):
        return None
    inner = body.get("error", body)
    if not isinstance(inner, dict):
        return None
    for name in ("code", "type"):
        code = inner.get(name)
        if isinstance(code, str) and code in QUOTA_CODES:
            return code
    return None
