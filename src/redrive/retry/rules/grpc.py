"""gRPC: its codes, also where google-api-core wraps them, and the waits that servers ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redrive.retry.kinds import Kind
from redrive.retry.rules.rule_verdict import RuleVerdict, ask, class_names, look, look_int, look_str

__all__ = ["CLASSES", "ERRORS", "GRPC", "grpc_wait_s", "read_grpc"]

_CALL, _GOOGLE = "grpc.RpcError", "google.api_core.GoogleAPICallError"
_GRPCLIB = "grpclib.GRPCError"
ERRORS = frozenset({_CALL, _GOOGLE, _GRPCLIB})

CLASSES: dict[str, Kind] = {
    "grpc.FutureTimeoutError": Kind.TIMEOUT,
    "grpclib.ProtocolError": Kind.TRANSIENT,
    "grpclib.StreamTerminatedError": Kind.TRANSIENT,
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

_MILLISECOND, _NANOSECOND = 1e-3, 1e-9
_PUSHBACK = "grpc-retry-pushback-ms"
_DETAILS = "grpc-status-details-bin"
_RETRY_INFO = b"/google.rpc.RetryInfo"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 1000


def read_grpc(exc: BaseException) -> RuleVerdict | None:
    """Judge by the gRPC code, unless the answer came by HTTP and has a status."""
    name = _code_of(exc)
    if name is None or name not in GRPC:
        return None
    pushback_ms = _pushback_ms(exc)
    if pushback_ms is not None and pushback_ms < 0:
        return RuleVerdict(Kind.PERMANENT, "grpc:pushback", "the gRPC server says: do not retry")
    kind = GRPC[name]
    return RuleVerdict(kind, f"grpc:{name}", f"gRPC code {name} is {kind.value}")


def grpc_wait_s(exc: BaseException) -> float | None:
    """Return the seconds that a gRPC server asks to wait: its pushback, else `RetryInfo`."""
    if ERRORS.isdisjoint(class_names(exc)):
        return None
    pushback_ms = _pushback_ms(exc)
    if pushback_ms is not None:
        return pushback_ms * _MILLISECOND
    details = _metadata(exc).get(_DETAILS)
    return _retry_delay_s(details) if isinstance(details, bytes) else None


def _code_of(exc: BaseException) -> str | None:
    if _GRPCLIB in class_names(exc):
        return look_str(look(exc, "status"), "name")
    if _GOOGLE not in class_names(exc):
        # A bare RpcError has no code.
        return look_str(ask(exc, "code"), "name")
    if look_int(look(exc, "response"), "status_code") is not None:
        return _name_in_answer(exc)
    return look_str(look(exc, "grpc_status_code"), "name")


def _name_in_answer(exc: BaseException) -> str | None:
    # Its class comes of the status alone: both ABORTED and ALREADY_EXISTS are 409.
    answer = ask(look(exc, "response"), "json")
    error = answer.get("error") if isinstance(answer, dict) else None
    name = error.get("status") if isinstance(error, dict) else None
    return name if name in ("ABORTED", "CANCELLED") else None


def _metadata(exc: BaseException) -> Mapping[object, object]:
    """Return what the server sent after its answer; google-api-core keeps the call."""
    for call in (exc, look(exc, "response")):
        if isinstance(call, BaseException) and _CALL in class_names(call):
            told = ask(call, "trailing_metadata")
            try:
                return dict(told or ())  # type: ignore[call-overload, no-any-return]  # pairs
            except (TypeError, ValueError):
                return {}
    return {}


def _pushback_ms(exc: BaseException) -> int | None:
    """Return the milliseconds that a gRPC server asked for; below zero: do not retry."""
    told = _metadata(exc).get(_PUSHBACK)
    try:
        return int(told) if isinstance(told, str | bytes) else None
    except ValueError:
        return None


def _retry_delay_s(status: bytes) -> float | None:
    """Read a google.rpc.Status: its `details` may hold a RetryInfo with a Duration."""
    try:
        for detail in _parts(status, 3):
            kind = next(_parts(detail, 1), b"")
            if not kind.endswith(_RETRY_INFO):
                continue
            for info in _parts(detail, 2):
                for delay in _parts(info, 1):
                    seconds, nanos = (sum(_numbers(delay, field)) for field in (1, 2))
                    return seconds + nanos * _NANOSECOND
    except (IndexError, ValueError):
        # It is cut short, or no message at all.
        return None
    return None


def _parts(message: bytes, field: int) -> Iterator[bytes]:
    return (part for number, part in _fields(message) if number == field and type(part) is bytes)


def _numbers(message: bytes, field: int) -> Iterator[int]:
    return (part for number, part in _fields(message) if number == field and type(part) is int)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Give number and value of each field of a protobuf message, as it stands on the wire."""
    at = 0
    for _ in range(_MOST_FIELDS):
        if at >= len(message):
            return
        tag, at = _varint(message, at)
        number, form = tag >> 3, tag & 7
        if form == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif form == _BYTES:
            size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size
        elif form in (_FIXED64, _FIXED32):
            at += 8 if form == _FIXED64 else 4
        else:
            raise ValueError(f"protobuf field {number} has the unknown form {form}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more bytes follow
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 - longer than any number of 64 bits
            raise ValueError("a protobuf number is too long")
