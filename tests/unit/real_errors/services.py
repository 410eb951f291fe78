"""What the clients of AWS and of gRPC servers raise, against services on this machine."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import botocore.exceptions  # type: ignore[import-untyped] # it has none
import grpc  # type: ignore[import-untyped] # it has none
from botocore.client import BaseClient  # type: ignore[import-untyped] # it has none
from botocore.config import Config  # type: ignore[import-untyped] # it has none
from botocore.session import Session  # type: ignore[import-untyped] # it has none
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped] # as above
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped] # as above
from google.rpc.error_details_pb2 import Help, RetryInfo  # type: ignore[import-untyped] # as above
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # as above
from tests.unit.real_errors.conftest import (
    HOST,
    IMPATIENCE_S,
    PATIENCE_S,
    Row,
    Service,
    fault_rows,
    status_rows,
)

from redrive.retry import Kind

SESSION = Session()
MESSAGES = [{"role": "user", "content": [{"text": "x"}]}]


def _aws(name: str, url: str, patience_s: float = PATIENCE_S) -> BaseClient:
    return SESSION.create_client(
        name,
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106 - and there is none
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=patience_s,
            read_timeout=patience_s,
            s3={"addressing_style": "path"},
        ),
    )


def _bedrock(url: str, patience_s: float) -> None:
    _aws("bedrock-runtime", url, patience_s).converse(modelId="m", messages=MESSAGES)


def _bedrock_stream(url: str) -> None:
    answer = _aws("bedrock-runtime", url).converse_stream(modelId="m", messages=MESSAGES)
    for _ in answer["stream"]:
        pass


def _s3(url: str) -> None:
    _aws("s3", url).get_object(Bucket="bucket", Key="key")["Body"].read()


def _s3_piecewise(url: str) -> None:
    body = _aws("s3", url).get_object(Bucket="bucket", Key="key")["Body"]
    while body.read(10):
        pass


def _s3_lines(url: str) -> None:
    for _ in _aws("s3", url).get_object(Bucket="bucket", Key="key")["Body"].iter_lines():
        pass


def _raises(error: Exception) -> Callable[[Service], object]:
    def fail(_service: Service) -> object:
        raise error

    return fail


def _aws_row(kind: Kind, status: int, code: str) -> Row:
    def fail(service: Service) -> None:
        headers = {"x-amzn-errortype": code}
        _bedrock(service.answers_with(status, headers, b'{"message": "told"}'), PATIENCE_S)

    return Row("botocore", f"{status}-{code}", fail, kind)


def _s3_row(kind: Kind, status: int, code: str, wait_ms: str = "") -> Row:
    headers = {"Content-Type": "application/xml", "x-amz-retry-after": wait_ms}

    def fail(service: Service) -> None:
        _s3(service.answers_with(status, headers, f"<Error><Code>{code}</Code></Error>".encode()))

    wait_s = int(wait_ms) / 1000 if wait_ms else None
    return Row("botocore", f"s3-{status}-{code}", fail, kind, wait_s)


def _stream_row(kind: Kind, exception: str, *, damaged: bool = False) -> Row:
    told = {
        ":message-type": "exception",
        ":exception-type": exception,
        ":content-type": "application/json",
    }
    frame = _event_frame(told, b'{"message": "told"}')

    def fail(service: Service) -> None:
        body = frame[:-1] + bytes([frame[-1] ^ 1]) if damaged else frame
        headers = {"Content-Type": "application/vnd.amazon.eventstream"}
        _bedrock_stream(service.answers_with(200, headers, body))

    return Row("botocore", f"stream-{exception}{'-damaged' if damaged else ''}", fail, kind)


def _event_frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Write one message of AWS's event stream: lengths, headers, payload, two checksums."""
    head = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value
        for name, value in ((name, value.encode()) for name, value in headers.items())
    )
    prelude = struct.pack(">II", len(head) + len(payload) + 16, len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


AWS = [
    *status_rows("botocore", _bedrock),
    # It reads a body that was cut as an empty answer.
    *fault_rows("botocore", _bedrock, without=("cut",)),
    _aws_row(Kind.RATE_LIMITED, 429, "ThrottlingException"),
    _aws_row(Kind.RATE_LIMITED, 400, "ThrottlingException"),
    _aws_row(Kind.RATE_LIMITED, 400, "TooManyRequestsException"),
    _aws_row(Kind.TRANSIENT, 429, "ModelNotReadyException"),
    _aws_row(Kind.TIMEOUT, 408, "ModelTimeoutException"),
    _aws_row(Kind.TRANSIENT, 500, "InternalServerException"),
    _aws_row(Kind.TRANSIENT, 503, "ServiceUnavailableException"),
    _aws_row(Kind.PERMANENT, 400, "ValidationException"),
    _aws_row(Kind.PERMANENT, 400, "ServiceQuotaExceededException"),
    _aws_row(Kind.PERMANENT, 403, "AccessDeniedException"),
    _aws_row(Kind.PERMANENT, 403, "UnrecognizedClientException"),
    _aws_row(Kind.PERMANENT, 404, "ResourceNotFoundException"),
    _s3_row(Kind.RATE_LIMITED, 503, "SlowDown", "1500"),
    _s3_row(Kind.TRANSIENT, 500, "InternalError"),
    _s3_row(Kind.TIMEOUT, 400, "RequestTimeout"),
    _s3_row(Kind.PERMANENT, 404, "NoSuchKey"),
    Row("botocore", "s3-cut", lambda service: _s3(service.cuts_its_answer()), Kind.TRANSIENT),
    Row(
        "botocore",
        "s3-cut-piecewise",
        lambda service: _s3_piecewise(service.cuts_its_answer()),
        Kind.TRANSIENT,
    ),
    Row(
        "botocore",
        "s3-cut-lines",
        lambda service: _s3_lines(service.cuts_its_answer()),
        Kind.TRANSIENT,
    ),
    Row(
        "botocore",
        "metadata-service",
        _raises(botocore.exceptions.MetadataRetrievalError(error_msg="429 from IMDS")),
        Kind.TRANSIENT,
    ),
    Row(
        "botocore",
        "no-credentials",
        _raises(botocore.exceptions.NoCredentialsError()),
        Kind.PERMANENT,
    ),
    _aws_row(Kind.UNKNOWN, 424, "ModelErrorException"),
    _stream_row(Kind.RATE_LIMITED, "throttlingException"),
    _stream_row(Kind.TRANSIENT, "internalServerException"),
    _stream_row(Kind.TRANSIENT, "modelStreamErrorException"),
    _stream_row(Kind.TRANSIENT, "serviceUnavailableException"),
    _stream_row(Kind.PERMANENT, "validationException"),
    _stream_row(Kind.TRANSIENT, "throttlingException", damaged=True),
    Row(
        "botocore",
        "no-such-parameter",
        lambda service: _aws("s3", service.refuses()).get_object(Bucket="bucket"),
        Kind.PERMANENT,
    ),
]


@contextmanager
def grpc_server(code: str, *trailing: tuple[str, str | bytes]) -> Iterator[str]:
    """Serve one method that ends every call with this code."""

    def answer(_request: bytes, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(trailing)
        context.abort(grpc.StatusCode[code], "told")

    method = grpc.unary_unary_rpc_method_handler(answer)
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t", {"m": method})])
        port = server.add_insecure_port(f"{HOST}:0")
        server.start()
        try:
            yield f"{HOST}:{port}"
        finally:
            server.stop(None).wait()


def _call(target: str, method: str = "/t/m", timeout_s: float = PATIENCE_S) -> None:
    with grpc.insecure_channel(target) as channel:
        channel.unary_unary(method)(b"", timeout=timeout_s)


def _call_stream(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        for _ in channel.unary_stream("/t/m")(b"", timeout=PATIENCE_S):
            pass


def _call_async(target: str) -> None:
    async def ask() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            await channel.unary_unary("/t/m")(b"", timeout=PATIENCE_S)

    asyncio.run(ask())


def _wait_for_a_channel(service: Service) -> None:
    with grpc.insecure_channel(f"{HOST}:{service.full_port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=IMPATIENCE_S)


def _call_no_method(target: str) -> None:
    _call(target, "/t/none")


def _grpc_row(
    kind: Kind,
    code: str,
    *,
    call: Callable[[str], None] = _call,
    wait_ms: str = "",
    wait_s: float | None = None,
    details: bytes = b"",
) -> Row:
    trailing: list[tuple[str, str | bytes]] = []
    if wait_ms:
        trailing.append(("grpc-retry-pushback-ms", wait_ms))
    if details:
        trailing.append(("grpc-status-details-bin", details))

    def fail(_service: Service) -> None:
        with grpc_server(code, *trailing) as target:
            call(target)

    mark = "-details" if details else ""
    return Row("grpc", f"{call.__name__.strip('_')}-{code}{wait_ms}{mark}", fail, kind, wait_s)


def _details(*details: object) -> bytes:
    """Write what Google's servers add to an error: a status, and in it further messages."""
    packed = [AnyMessage() for _ in details]
    for message, detail in zip(packed, details, strict=True):
        message.Pack(detail)
    return bytes(Status(code=8, message="told", details=packed).SerializeToString())


WAIT = _details(Help(), RetryInfo(retry_delay=Duration(seconds=37, nanos=500_000_000)))


GRPC = [
    _grpc_row(Kind.TRANSIENT, "UNAVAILABLE"),
    _grpc_row(Kind.TRANSIENT, "UNAVAILABLE", wait_ms="1500", wait_s=1.5),
    _grpc_row(Kind.PERMANENT, "UNAVAILABLE", wait_ms="-1"),
    _grpc_row(Kind.TRANSIENT, "UNAVAILABLE", call=_call_stream, wait_ms="1500", wait_s=1.5),
    _grpc_row(Kind.TRANSIENT, "UNAVAILABLE", call=_call_async, wait_ms="1500", wait_s=1.5),
    _grpc_row(Kind.TRANSIENT, "ABORTED"),
    _grpc_row(Kind.TIMEOUT, "DEADLINE_EXCEEDED"),
    _grpc_row(Kind.RATE_LIMITED, "RESOURCE_EXHAUSTED"),
    _grpc_row(Kind.RATE_LIMITED, "RESOURCE_EXHAUSTED", call=_call_async),
    _grpc_row(Kind.RATE_LIMITED, "RESOURCE_EXHAUSTED", wait_s=37.5, details=WAIT),
    _grpc_row(Kind.TRANSIENT, "UNAVAILABLE", wait_s=37.5, details=WAIT),
    _grpc_row(Kind.RATE_LIMITED, "RESOURCE_EXHAUSTED", call=_call_async, wait_s=37.5, details=WAIT),
    _grpc_row(Kind.RATE_LIMITED, "RESOURCE_EXHAUSTED", call=_call_stream, details=_details(Help())),
    _grpc_row(Kind.TRANSIENT, "UNAVAILABLE", call=_call_stream, details=b"\x08\x96"),
    _grpc_row(Kind.UNKNOWN, "CANCELLED"),
    _grpc_row(Kind.UNKNOWN, "INTERNAL"),
    _grpc_row(Kind.UNKNOWN, "UNKNOWN"),
    _grpc_row(Kind.PERMANENT, "ALREADY_EXISTS"),
    _grpc_row(Kind.PERMANENT, "DATA_LOSS"),
    _grpc_row(Kind.PERMANENT, "FAILED_PRECONDITION"),
    _grpc_row(Kind.PERMANENT, "INVALID_ARGUMENT"),
    _grpc_row(Kind.PERMANENT, "INVALID_ARGUMENT", call=_call_stream),
    _grpc_row(Kind.PERMANENT, "INVALID_ARGUMENT", call=_call_async),
    _grpc_row(Kind.PERMANENT, "NOT_FOUND"),
    _grpc_row(Kind.PERMANENT, "OUT_OF_RANGE"),
    _grpc_row(Kind.PERMANENT, "PERMISSION_DENIED"),
    _grpc_row(Kind.PERMANENT, "UNAUTHENTICATED"),
    _grpc_row(Kind.PERMANENT, "UNIMPLEMENTED", call=_call_no_method),
    Row("grpc", "refused", lambda service: _call(f"{HOST}:{service.closed_port}"), Kind.TRANSIENT),
    Row("grpc", "not-http2", lambda service: _call(f"{HOST}:{service.port}"), Kind.TRANSIENT),
    Row(
        "grpc",
        "never-connected",
        lambda service: _call(f"{HOST}:{service.full_port}", timeout_s=IMPATIENCE_S),
        Kind.TIMEOUT,
    ),
    Row("grpc", "channel-not-ready", _wait_for_a_channel, Kind.TIMEOUT),
]

ROWS = [*AWS, *GRPC]
