"""Judging what installed libraries raise: their real exceptions, never a mock of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
import sqlalchemy
import sqlalchemy.exc
from google.protobuf.any_pb2 import Any  # type: ignore[import-untyped] # it has none
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped] # as above
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped] # as above
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # as above
from hypothesis import given
from hypothesis import strategies as st
from langchain_core import exceptions as langchain
from langgraph import errors as langgraph
from pydantic import BaseModel, TypeAdapter, ValidationError
from tests.rows import rows

from redrive.retry import Failure, Kind, classify

httpx2 = pytest.importorskip("httpx2", reason="httpx2 is not installed")
requests = pytest.importorskip("requests", reason="requests is not installed")
grpc = pytest.importorskip("grpc", reason="grpcio is not installed")


def _httpx_status(status: int, headers: dict[str, str] | None = None) -> Exception:
    response = httpx.Response(
        status, headers=headers, request=httpx.Request("GET", "http://localhost")
    )
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    return caught.value


def _httpx2_status(status: int, headers: dict[str, str] | None = None) -> Exception:
    response = httpx2.Response(
        status, headers=headers, request=httpx2.Request("GET", "http://localhost")
    )
    with pytest.raises(httpx2.HTTPStatusError) as caught:
        response.raise_for_status()
    error: Exception = caught.value
    return error


def _requests_status(status: int, headers: dict[str, str] | None = None) -> Exception:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers or {})
    with pytest.raises(requests.HTTPError) as caught:
        response.raise_for_status()
    error: Exception = caught.value
    return error


STATUSES = [
    (400, Kind.PERMANENT),
    (401, Kind.PERMANENT),
    (402, Kind.PERMANENT),
    (403, Kind.PERMANENT),
    (404, Kind.PERMANENT),
    (408, Kind.TIMEOUT),
    (409, Kind.PERMANENT),
    (413, Kind.PERMANENT),
    (422, Kind.PERMANENT),
    (425, Kind.TRANSIENT),
    (429, Kind.RATE_LIMITED),
    (500, Kind.TRANSIENT),
    (501, Kind.PERMANENT),
    (502, Kind.TRANSIENT),
    (503, Kind.TRANSIENT),
    (504, Kind.TIMEOUT),
    (505, Kind.PERMANENT),
    (529, Kind.TRANSIENT),
]


@pytest.mark.parametrize("raised_by", [_httpx_status, _httpx2_status, _requests_status])
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_status_means_the_same_from_every_client(
    raised_by: type, status: int, kind: Kind
) -> None:
    assert classify(raised_by(status)).kind is kind


@pytest.mark.parametrize("raised_by", [_httpx_status, _httpx2_status, _requests_status])
@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_read_from_every_clients_response(raised_by: type, status: int) -> None:
    assert classify(raised_by(status, {"Retry-After": "7"})).retry_after == 7


def test_a_failure_that_is_never_retried_has_no_wait() -> None:
    assert classify(_httpx_status(403, {"Retry-After": "7"})).retry_after is None


def test_a_service_that_says_not_to_retry_is_believed() -> None:
    failure = classify(_httpx_status(429, {"x-should-retry": "false", "retry-after": "3"}))

    assert failure.kind is Kind.PERMANENT


def test_a_service_that_asks_for_a_retry_of_a_conflict_is_believed() -> None:
    assert classify(_httpx_status(409, {"x-should-retry": "true"})).kind is Kind.TRANSIENT


def test_a_service_that_asks_for_a_retry_of_a_rate_limit_is_still_limited() -> None:
    assert classify(_httpx_status(429, {"x-should-retry": "true"})).kind is Kind.RATE_LIMITED


@pytest.mark.parametrize("package", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ConnectTimeout", Kind.TIMEOUT),
        ("ReadTimeout", Kind.TIMEOUT),
        ("WriteTimeout", Kind.TIMEOUT),
        ("PoolTimeout", Kind.TIMEOUT),
        ("ConnectError", Kind.TRANSIENT),
        ("ReadError", Kind.TRANSIENT),
        ("WriteError", Kind.TRANSIENT),
        ("CloseError", Kind.TRANSIENT),
        ("ProxyError", Kind.TRANSIENT),
        ("RemoteProtocolError", Kind.TRANSIENT),
        ("LocalProtocolError", Kind.PERMANENT),
        ("UnsupportedProtocol", Kind.PERMANENT),
        ("InvalidURL", Kind.PERMANENT),
        ("TooManyRedirects", Kind.PERMANENT),
        ("DecodingError", Kind.PERMANENT),
    ],
)
def test_httpx_and_its_successor_are_judged_alike(package: object, name: str, kind: Kind) -> None:
    error: Exception = getattr(package, name)("told")

    assert classify(error).kind is kind


@rows(
    ("name", "kind"),
    [
        ("ConnectionError", Kind.TRANSIENT),
        ("ChunkedEncodingError", Kind.TRANSIENT),
        ("ConnectTimeout", Kind.TIMEOUT),
        ("ReadTimeout", Kind.TIMEOUT),
        # To requests, this one is a ConnectionError.
        ("SSLError", Kind.PERMANENT),
        ("InvalidURL", Kind.PERMANENT),
        ("MissingSchema", Kind.PERMANENT),
        ("TooManyRedirects", Kind.PERMANENT),
        # It may carry no response at all.
        ("HTTPError", Kind.UNKNOWN),
    ],
)
def test_the_errors_of_requests_are_judged_by_class(name: str, kind: Kind) -> None:
    assert classify(getattr(requests.exceptions, name)("told")).kind is kind


@pytest.fixture
def closed_port() -> Iterator[int]:
    with closing(socket.socket()) as holder:
        # Bound but not listening: a connection is refused, and nobody else gets the port.
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def test_a_refused_connection_is_transient_from_every_client(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    caught: list[Exception] = []

    for call in (
        lambda: httpx.get(url, trust_env=False),
        lambda: httpx2.get(url, trust_env=False),
        lambda: requests.get(url, timeout=5, proxies={"http": ""}),
        lambda: socket.create_connection(("127.0.0.1", closed_port), timeout=5),
    ):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each client has its own class
            call()
        caught.append(raised.value)
    with pytest.raises(ConnectionRefusedError) as refused:
        await asyncio.open_connection("127.0.0.1", closed_port)
    caught.append(refused.value)

    assert [classify(error).kind for error in caught] == [Kind.TRANSIENT] * 5


@rows(
    ("exc", "kind"),
    [
        (langchain.ModelRateLimitError("x"), Kind.RATE_LIMITED),
        (langchain.ModelTimeoutError("x"), Kind.TIMEOUT),
        (langchain.ModelConnectionError("x"), Kind.TRANSIENT),
        (langchain.ModelAPIError("x"), Kind.TRANSIENT),
        (langchain.ModelAuthenticationError("x"), Kind.PERMANENT),
        (langchain.ModelPermissionDeniedError("x"), Kind.PERMANENT),
        (langchain.ModelInvalidRequestError("x"), Kind.PERMANENT),
        (langchain.ModelNotFoundError("x"), Kind.PERMANENT),
        (langchain.ContextOverflowError("x"), Kind.PERMANENT),
        (langchain.OutputParserException("x"), Kind.UNKNOWN),
        (langgraph.GraphRecursionError("x"), Kind.PERMANENT),
        (langgraph.InvalidUpdateError("x"), Kind.PERMANENT),
        (langgraph.EmptyInputError("x"), Kind.PERMANENT),
        (langgraph.GraphInterrupt(()), Kind.PERMANENT),
        (langgraph.GraphDrained("stop"), Kind.TRANSIENT),
        (langgraph.NodeCancelledError("node"), Kind.UNKNOWN),
        (
            langgraph.NodeTimeoutError("node", kind="run", elapsed=1.0, run_timeout=1.0),
            Kind.TIMEOUT,
        ),
    ],
    ids=repr,
)
def test_models_and_graphs_are_judged_by_class(exc: Exception, kind: Kind) -> None:
    assert classify(exc).kind is kind


def _quota_error(code: str | None, body: object) -> Exception:
    # The shape of the SDKs' own class: the status is on the error, the code beside it or inside.
    class ProviderError(Exception):
        status_code = 429

    error = ProviderError("quota")
    error.code = code  # type: ignore[attr-defined] # set as the SDKs set it
    error.body = body  # type: ignore[attr-defined] # as above
    return error


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("insufficient_quota", None),
        (None, {"error": {"code": "insufficient_quota"}}),
        (None, {"type": "insufficient_quota"}),
        (None, '{"type": "insufficient_quota"}'),
    ],
)
def test_a_used_up_quota_is_permanent_also_behind_langchains_error(
    code: str | None, body: object
) -> None:
    error = _quota_error(code, body)
    wrapper = langchain.ModelRateLimitError("limited")
    wrapper.__cause__ = error

    assert classify(error).kind is Kind.PERMANENT
    assert classify(wrapper).kind is Kind.PERMANENT
    assert classify(_quota_error("rate_limit_exceeded", {})).kind is Kind.RATE_LIMITED


class _Order(BaseModel):
    count: int


def test_input_that_does_not_validate_is_permanent() -> None:
    caught: list[ValidationError] = []
    for validate in (
        lambda: _Order.model_validate({"count": "many"}),
        lambda: TypeAdapter(int).validate_json("{"),
    ):
        with pytest.raises(ValidationError) as raised:
            validate()
        caught.append(raised.value)

    assert [classify(error).kind for error in caught] == [Kind.PERMANENT] * 2


@rows(
    ("exc", "kind"),
    [
        (sqlalchemy.exc.OperationalError("s", {}, Exception("gone")), Kind.TRANSIENT),
        (sqlalchemy.exc.TimeoutError("pool"), Kind.TIMEOUT),
        (sqlalchemy.exc.DisconnectionError("gone"), Kind.TRANSIENT),
        (
            sqlalchemy.exc.InterfaceError("s", {}, Exception(), connection_invalidated=True),
            Kind.TRANSIENT,
        ),
        (sqlalchemy.exc.IntegrityError("s", {}, Exception()), Kind.PERMANENT),
        (sqlalchemy.exc.ProgrammingError("s", {}, Exception()), Kind.PERMANENT),
        (sqlalchemy.exc.DataError("s", {}, Exception()), Kind.PERMANENT),
        (sqlalchemy.exc.ArgumentError("s"), Kind.PERMANENT),
        (sqlalchemy.exc.InternalError("s", {}, Exception()), Kind.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__,
)
def test_sqlalchemy_is_judged_by_class(exc: Exception, kind: Kind) -> None:
    assert classify(exc).kind is kind


def test_behind_sqlalchemy_the_databases_own_code_decides() -> None:
    engine = sqlalchemy.create_engine("sqlite://")

    # OperationalError to SQLAlchemy, but no such table comes back.
    with pytest.raises(sqlalchemy.exc.OperationalError) as caught, engine.connect() as connection:
        connection.execute(sqlalchemy.text("select * from nothing"))
    engine.dispose()

    assert classify(caught.value) == Failure(
        Kind.PERMANENT,
        None,
        "sqlite3.OperationalError with SQLITE_ERROR is permanent",
        "sqlite:SQLITE_ERROR",
    )


class _DriverError(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@rows(
    ("sqlstate", "kind"),
    [
        ("08006", Kind.TRANSIENT),
        ("40001", Kind.TRANSIENT),
        ("40P01", Kind.TRANSIENT),
        ("53300", Kind.TRANSIENT),
        ("55P03", Kind.TRANSIENT),
        ("57P01", Kind.TRANSIENT),
        ("25006", Kind.TRANSIENT),
        ("57014", Kind.TIMEOUT),
        ("23505", Kind.PERMANENT),
        ("22001", Kind.PERMANENT),
        ("42P01", Kind.PERMANENT),
        ("28P01", Kind.PERMANENT),
        ("XX000", Kind.UNKNOWN),
        ("ZZ999", Kind.UNKNOWN),
        (None, Kind.UNKNOWN),
    ],
)
def test_an_sqlstate_decides(sqlstate: str | None, kind: Kind) -> None:
    assert classify(_DriverError(sqlstate)).kind is kind
    assert classify(sqlalchemy.exc.DBAPIError("s", {}, _DriverError(sqlstate))).kind is kind


@rows(
    ("name", "kind"),
    [
        ("UNAVAILABLE", Kind.TRANSIENT),
        ("ABORTED", Kind.TRANSIENT),
        ("DEADLINE_EXCEEDED", Kind.TIMEOUT),
        ("RESOURCE_EXHAUSTED", Kind.RATE_LIMITED),
        ("INTERNAL", Kind.UNKNOWN),
        ("UNKNOWN", Kind.UNKNOWN),
        ("CANCELLED", Kind.UNKNOWN),
        ("INVALID_ARGUMENT", Kind.PERMANENT),
        ("NOT_FOUND", Kind.PERMANENT),
        ("PERMISSION_DENIED", Kind.PERMANENT),
        ("UNAUTHENTICATED", Kind.PERMANENT),
        ("UNIMPLEMENTED", Kind.PERMANENT),
        ("FAILED_PRECONDITION", Kind.PERMANENT),
    ],
)
def test_a_grpc_code_decides(name: str, kind: Kind) -> None:
    assert classify(_grpc_error(name)).kind is kind


def test_a_grpc_server_may_ask_to_wait_or_not_to_come_back() -> None:
    waits = classify(_grpc_error("UNAVAILABLE", ("grpc-retry-pushback-ms", "1500")))
    never = classify(_grpc_error("UNAVAILABLE", ("grpc-retry-pushback-ms", "-1")))

    assert (waits.kind, waits.retry_after) == (Kind.TRANSIENT, 1.5)
    assert never.kind is Kind.PERMANENT


def test_a_grpc_error_that_cannot_be_asked_is_unknown() -> None:
    def refuses(_self: object) -> object:
        raise RuntimeError

    broken = type("BrokenError", (grpc.RpcError,), {"code": refuses, "trailing_metadata": refuses})

    assert classify(broken()).kind is Kind.UNKNOWN


@rows(
    ("answer", "kind"),
    [
        ("invalid_grant: Token has been expired or revoked.", Kind.PERMANENT),
        ("temporarily_unavailable", Kind.TRANSIENT),
        ("connection reset", Kind.TRANSIENT),
    ],
)
def test_a_sign_in_that_grpc_calls_unavailable_is_judged_by_its_own_code(
    answer: str, kind: Kind
) -> None:
    metadata = grpc.aio.Metadata()
    details = f"Getting metadata from plugin failed with error: {answer}"

    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, metadata, metadata, details)

    assert classify(error).kind is kind


def test_a_grpc_error_without_a_code_is_unknown() -> None:
    assert classify(grpc.RpcError()).kind is Kind.UNKNOWN


@given(st.binary(max_size=200))
def test_details_that_are_no_message_are_passed_over(details: bytes) -> None:
    failure = classify(_grpc_error("UNAVAILABLE", ("grpc-status-details-bin", details)))

    assert failure.kind is Kind.TRANSIENT
    assert failure.retry_after is None or failure.retry_after >= 0


@given(st.integers(0, 10_000), st.integers(0, 999_999_999))
def test_a_delay_in_the_details_is_read_as_it_was_written(seconds: int, nanos: int) -> None:
    delay = Duration(seconds=seconds, nanos=nanos)
    packed = Any()
    packed.Pack(RetryInfo(retry_delay=delay))
    details = Status(code=14, details=[packed]).SerializeToString()

    failure = classify(_grpc_error("UNAVAILABLE", ("grpc-status-details-bin", details)))

    told = seconds + nanos * 1e-9
    assert failure.retry_after == pytest.approx(told)


def _grpc_error(name: str, *trailing: tuple[str, str | bytes]) -> Exception:
    error: Exception = grpc.aio.AioRpcError(
        grpc.StatusCode[name], grpc.aio.Metadata(), grpc.aio.Metadata(*trailing)
    )
    return error
