"""Agents and their tools: pydantic-ai, LangChain's agents, and the Model Context Protocol."""

from __future__ import annotations

from redrive.retry.kinds import Kind
from redrive.retry.rules.http import kind_of_status
from redrive.retry.rules.rule_verdict import RuleVerdict, look, look_int, short_name

__all__ = ["ALTERNATIVES", "CLASSES", "ERRORS", "MCP", "read_mcp"]

ERRORS = frozenset({"mcp.MCPError", "mcp.McpError"})

CLASSES: dict[str, Kind] = {
    "pydantic_ai.UserError": Kind.PERMANENT,
    "pydantic_ai.UsageLimitExceeded": Kind.PERMANENT,
    "pydantic_ai.ConcurrencyLimitExceeded": Kind.TRANSIENT,
    "pydantic_ai.RunTimedOut": Kind.TIMEOUT,
    "pydantic_ai.RunCancelled": Kind.PERMANENT,
    "pydantic_ai.SuspendedResponseExpired": Kind.PERMANENT,
    "pydantic_ai.ContentFilterError": Kind.PERMANENT,
    # As openai's LengthFinishReasonError: the same limit cuts it again.
    "pydantic_ai.OutputTokenLimitExceeded": Kind.PERMANENT,
    # What the model wrote does not fit: it may write better, once.
    "pydantic_ai.UnexpectedModelBehavior": Kind.UNKNOWN,
    "pydantic_ai.ModelRetry": Kind.UNKNOWN,
    "pydantic_ai.ToolRetryError": Kind.UNKNOWN,
    "pydantic_ai.ModelRateLimitError": Kind.RATE_LIMITED,
    "pydantic_ai.ModelQuotaExceededError": Kind.PERMANENT,
    "pydantic_ai.ModelUnavailableError": Kind.TRANSIENT,
    "pydantic_ai.ModelRequestTimeout": Kind.TIMEOUT,
    "pydantic_ai.ModelTimeoutError": Kind.TIMEOUT,
    "pydantic_ai.ModelConnectionError": Kind.TRANSIENT,
    "pydantic_ai.ModelRequestRejectedError": Kind.PERMANENT,
    "langchain.StructuredOutputError": Kind.UNKNOWN,
    # A limit of the agent's own: the same run meets it again.
    "langchain.ModelCallLimitExceededError": Kind.PERMANENT,
    "langchain.ToolCallLimitExceededError": Kind.PERMANENT,
    "langchain.PIIDetectionError": Kind.PERMANENT,
    "litellm.BudgetExceededError": Kind.PERMANENT,
    "litellm.GuardrailRaisedException": Kind.PERMANENT,
    "litellm.BlockedPiiEntityError": Kind.PERMANENT,
    # OpenAI's agents.
    "agents.MaxTurnsExceeded": Kind.PERMANENT,
    "agents.ModelRefusalError": Kind.PERMANENT,
    "agents.InputGuardrailTripwireTriggered": Kind.PERMANENT,
    "agents.OutputGuardrailTripwireTriggered": Kind.PERMANENT,
    "agents.UserError": Kind.PERMANENT,
    "agents.ModelBehaviorError": Kind.UNKNOWN,
    "agents.ModelTimeoutError": Kind.TIMEOUT,
    "agents.ToolTimeoutError": Kind.TIMEOUT,
    # The arguments of a tool call, as the model wrote them.
    "langgraph.ToolInvocationError": Kind.UNKNOWN,
    "langchain_core.OutputParserException": Kind.UNKNOWN,
    "mcp.SubscriptionLost": Kind.TRANSIENT,
}

ALTERNATIVES = frozenset({"pydantic_ai.FallbackExceptionGroup"})
"""Groups of which one member would have been enough: the one that can best be retried decides."""

# JSON-RPC 2.0 and mcp_types/jsonrpc.py; HTTP statuses, which mcp 1 used, are judged as such.
MCP: dict[int, Kind] = {
    -32000: Kind.TRANSIENT,  # CONNECTION_CLOSED
    -32001: Kind.TIMEOUT,  # REQUEST_TIMEOUT
    32600: Kind.TRANSIENT,  # mcp 1: the session was ended by its server; a new one is opened
    -32603: Kind.UNKNOWN,  # INTERNAL_ERROR
    -32700: Kind.UNKNOWN,  # PARSE_ERROR
    -32800: Kind.UNKNOWN,  # REQUEST_CANCELLED
    **dict.fromkeys(
        (
            -32002,  # RESOURCE_NOT_FOUND
            *(-32020, -32021, -32022),  # headers, capabilities, versions that do not fit
            -32042,  # URL_ELICITATION_REQUIRED
            *(-32600, -32601, -32602),  # INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS
        ),
        Kind.PERMANENT,
    ),
}


def read_mcp(exc: BaseException) -> RuleVerdict | None:
    """Judge by the JSON-RPC code that came over a connection of the Model Context Protocol."""
    code = look_int(look(exc, "error"), "code")
    if code is None:
        return None
    kind = MCP.get(code) or kind_of_status(code)
    if kind is None:
        return None
    return RuleVerdict(kind, f"mcp:{code}", f"{short_name(exc)} with code {code} is {kind.value}")
