"""Language models and graphs: openai and its like, google-genai, ollama, LangChain, langgraph.

Most of their errors carry an HTTP status, which decides; here stands what the status does not say.
"""

from __future__ import annotations

from redrive.retry.kinds import Kind
from redrive.retry.rules.http import kind_of_status, status_of
from redrive.retry.rules.rule_verdict import RuleVerdict, look, short_name

__all__ = ["CLASSES", "PROVIDER_STATUS", "read_attribute", "read_provider"]

_SDKS = ("anthropic", "cerebras", "groq", "openai", "together")
_SDK = {
    "APITimeoutError": Kind.TIMEOUT,
    "APIConnectionError": Kind.TRANSIENT,
    # A conflict with another request of ours: the SDKs try these again themselves.
    "ConflictError": Kind.TRANSIENT,
    "APIResponseValidationError": Kind.UNKNOWN,
}

CLASSES: dict[str, Kind] = {
    # SDKs of one make have the same classes.
    **{f"{package}.{name}": kind for package in _SDKS for name, kind in _SDK.items()},
    "openai.LengthFinishReasonError": Kind.PERMANENT,
    "openai.ContentFilterFinishReasonError": Kind.PERMANENT,
    "openai.WebSocketConnectionClosedError": Kind.TRANSIENT,
    "anthropic.RetryableError": Kind.TRANSIENT,
    "anthropic.CredentialsError": Kind.PERMANENT,
    # Rate limits by their class and status, but only money lifts them.
    "anthropic.ContractSpendLimitReachedError": Kind.PERMANENT,
    "anthropic.EnforcedSpendLimitReachedError": Kind.PERMANENT,
    "langchain_core.ModelTimeoutError": Kind.TIMEOUT,
    "langchain_core.ModelRateLimitError": Kind.RATE_LIMITED,
    "langchain_core.ModelConnectionError": Kind.TRANSIENT,
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

# What a status means to one provider alone.
PROVIDER_STATUS: dict[tuple[str, int], Kind] = {
    # The capacity of Groq's flex tier is used up for the moment; openai's SDK is used for it too.
    ("groq", 498): Kind.TRANSIENT,
    ("openai", 498): Kind.TRANSIENT,
}


def read_provider(exc: BaseException) -> RuleVerdict | None:
    """Judge by a provider's own status, then by its own word: the header `x-should-retry`."""
    own = _read_own_status(exc)
    if own is not None:
        return own
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
    return RuleVerdict(
        kind, f"header:x-should-retry={told}", f"{short_name(exc)} says retry: {told}"
    )


def read_attribute(exc: BaseException) -> RuleVerdict | None:
    """Judge by its own word: `is_retryable` (langchain-core) or `retriable` (aiokafka)."""
    for name in ("is_retryable", "retriable"):
        told = look(exc, name)
        if isinstance(told, bool):
            kind = Kind.TRANSIENT if told else Kind.PERMANENT
            return RuleVerdict(kind, f"attribute:{name}", f"{short_name(exc)} says {name}={told}")
    return None


def _read_own_status(exc: BaseException) -> RuleVerdict | None:
    status = status_of(exc)
    if status is None:
        return None
    name = short_name(exc)
    package = name.partition(".")[0]
    kind = PROVIDER_STATUS.get((package, status))
    if kind is None:
        return None
    return RuleVerdict(
        kind, f"{package}:{status}", f"{name} with HTTP status {status} is {kind.value}"
    )
