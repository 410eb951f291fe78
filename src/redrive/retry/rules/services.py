"""Remote services: gRPC codes, and the codes of AWS (botocore)."""

from __future__ import annotations

from redrive.retry.kinds import Kind
from redrive.retry.rules.verdict import Verdict, class_names, look, look_str, short_name

__all__ = ["AWS_CODES", "CLASSES", "GRPC", "grpc_pushback_ms", "read_service"]

CLASSES: dict[str, Kind] = {
    "grpc.FutureTimeoutError": Kind.TIMEOUT,
    "botocore.SSLError": Kind.PERMANENT,
    "botocore.ConnectTimeoutError": Kind.TIMEOUT,
    "botocore.ReadTimeoutError": Kind.TIMEOUT,
    "botocore.ConnectionError": Kind.TRANSIENT,
    "botocore.HTTPClientError": Kind.TRANSIENT,
    "botocore.ChecksumError": Kind.TRANSIENT,
    "botocore.FlexibleChecksumError": Kind.TRANSIENT,
    # Damaged on its way: a frame of an event stream.
    "botocore.ParserError": Kind.TRANSIENT,
    "botocore.CredentialRetrievalError": Kind.UNKNOWN,
    "botocore.BotoCoreError": Kind.PERMANENT,
}

# https://grpc.io/docs/guides/status-codes/
GRPC: dict[str, Kind] = {
    "UNAVAILABLE": Kind.TRANSIENT,
    "ABORTED": Kind.TRANSIENT,
    "DEADLINE_EXCEEDED": Kind.TIMEOUT,
    "RESOURCE_EXHAUSTED": Kind.RATE_LIMITED,
    # Servers send these three for anything; one retry.
    "CANCELLED": Kind.UNKNOWN,
    "INTERNAL": Kind.UNKNOWN,
    "UNKNOWN": Kind.UNKNOWN,
    **dict.fromkeys(
        (
            "ALREADY_EXISTS",
            "DATA_LOSS",
            "FAILED_PRECONDITION",
            "INVALID_ARGUMENT",
            "NOT_FOUND",
            "OUT_OF_RANGE",
            "PERMISSION_DENIED",
            "UNAUTHENTICATED",
            "UNIMPLEMENTED",
        ),
        Kind.PERMANENT,
    ),
}

# botocore's own lists (retries/standard.py): throttling often comes with status 400.
AWS_CODES: dict[str, Kind] = {
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "LimitExceededException",
            "PriorRequestNotComplete",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ),
        Kind.RATE_LIMITED,
    ),
    "InternalError": Kind.TRANSIENT,
    # In an event stream they come without a status.
    "InternalServerException": Kind.TRANSIENT,
    "ServiceUnavailableException": Kind.TRANSIENT,
    "ModelStreamErrorException": Kind.TRANSIENT,
    "ModelTimeoutException": Kind.TIMEOUT,
    "ValidationException": Kind.PERMANENT,
    "ModelNotReadyException": Kind.TRANSIENT,
    "TransactionInProgressException": Kind.TRANSIENT,
    "RequestTimeout": Kind.TIMEOUT,
    "RequestTimeoutException": Kind.TIMEOUT,
}


def read_service(exc: BaseException) -> Verdict | None:
    """Judge by a gRPC or AWS code."""
    return _read_grpc(exc) or _read_aws(exc)


def grpc_pushback_ms(exc: BaseException) -> int | None:
    """Return the milliseconds that a gRPC server asked for; below zero: do not retry."""
    metadata = look(exc, "trailing_metadata")
    if "grpc.RpcError" not in class_names(exc) or not callable(metadata):
        return None
    try:
        told = dict(metadata() or ()).get("grpc-retry-pushback-ms")
        return None if told is None else int(told)
    except Exception:  # noqa: BLE001 - a call into someone else's class
        return None


def _read_grpc(exc: BaseException) -> Verdict | None:
    code = look(exc, "code")
    # A bare RpcError has no code.
    if "grpc.RpcError" not in class_names(exc) or not callable(code):
        return None
    try:
        name = look_str(code(), "name")
    except Exception:  # noqa: BLE001 - a call into someone else's class
        return None
    if name is None or name not in GRPC:
        return None
    pushback = grpc_pushback_ms(exc)
    if pushback is not None and pushback < 0:
        return Verdict(Kind.PERMANENT, "grpc:pushback", "the gRPC server says: do not retry")
    kind = GRPC[name]
    return Verdict(kind, f"grpc:{name}", f"gRPC code {name} is {kind.value}")


def _read_aws(exc: BaseException) -> Verdict | None:
    response = look(exc, "response")
    error = response.get("Error") if isinstance(response, dict) else None
    code = error.get("Code") if isinstance(error, dict) else None
    if not isinstance(code, str):
        return None
    # An event stream writes them in camelCase.
    code = code[:1].upper() + code[1:]
    if code not in AWS_CODES:
        return None
    kind = AWS_CODES[code]
    return Verdict(kind, f"aws:{code}", f"{short_name(exc)} with AWS code {code} is {kind.value}")
