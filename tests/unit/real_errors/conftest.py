"""A service on this machine that fails as it is told, and one row of a table of real errors.

What it does with a request is named by the first part of the path, so that every client can be
sent to it by its base URL, whatever it appends.
"""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from redrive.retry import Kind, classify
from redrive.testing.manual_clock import ManualClock

HOST = "127.0.0.1"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
"""When rows that name a date are judged."""
HALF_A_MINUTE_LATER = "Mon, 01 Jun 2026 12:00:30 GMT"
PATIENCE_S, IMPATIENCE_S = 10.0, 0.1
"""How long clients wait: for an answer, and for what does not come."""


@dataclass(frozen=True, slots=True)
class Row:
    """One real error and what it has to be judged as.

    `fail` is called with the service and raises. `raised_by` are the packages of which the error's
    class may come, by default the library: a slip in `fail` must not pass for its error.
    """

    library: str
    case: str
    fail: Callable[[Service], object]
    kind: Kind
    wait_s: float | None = None
    raised_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.library}-{self.case}"

    def is_of_the_library(self, error: BaseException) -> bool:
        module = type(error).__module__
        return any(
            module == package or module.startswith(f"{package}.")
            for package in self.raised_by or (self.library,)
        )


@dataclass(frozen=True, slots=True)
class Service:
    """Base URLs and ports of 127.0.0.1, each with one way to fail."""

    port: int
    tls_port: int
    slamming_port: int
    closed_port: int
    full_port: int
    answers: dict[str, bytes] = field(default_factory=dict)

    def answers_with(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"{}"
    ) -> str:
        """Return the base URL that answers with this status, these headers and this body."""
        told = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in told.items())]
        head = "\r\n".join([*lines, "Connection: close", "", ""])
        return self.sends(head.encode() + body)

    def sends(self, answer: bytes) -> str:
        """Return the base URL that sends these bytes, then closes the connection."""
        name = f"answer-{len(self.answers)}"
        self.answers[name] = answer
        return f"http://{HOST}:{self.port}/{name}"

    def cuts_its_answer(self) -> str:
        """Return the base URL that closes the connection in the middle of a body."""
        return self.answers_with(200, {"Content-Length": "1000"}, b'{"begun": ')

    def hangs_up(self) -> str:
        """Return the base URL that reads the request and closes the connection."""
        return self.sends(b"")

    def speaks_gibberish(self) -> str:
        """Return the base URL that does not answer in HTTP."""
        return self.sends(b"\x00\x01 what?\r\n\r\n")

    def stays_silent(self) -> str:
        """Return the base URL that never answers."""
        return f"http://{HOST}:{self.port}/silent"

    def refuses(self) -> str:
        """Return the base URL where nothing listens."""
        return f"http://{HOST}:{self.closed_port}"

    def never_connects(self) -> str:
        """Return the base URL where a connection is neither accepted nor refused."""
        return f"http://{HOST}:{self.full_port}"

    def shows_a_certificate_of_its_own(self) -> str:
        """Return the base URL with a certificate that nobody has signed."""
        return f"https://{HOST}:{self.tls_port}"

    def slams_the_door(self) -> str:
        """Return the base URL that closes the connection in the middle of the TLS handshake."""
        return f"https://{HOST}:{self.slamming_port}"

    def speaks_no_tls(self) -> str:
        """Return the base URL that answers a TLS handshake in plain HTTP."""
        return f"https://{HOST}:{self.port}/answer"


class _Plain(socketserver.StreamRequestHandler):
    """Sends what the path asks for."""

    server: _Server
    timeout = 5

    def handle(self) -> None:
        with suppress(OSError):
            first = self.rfile.readline(65536)
            if not first.startswith((b"GET ", b"POST ", b"PUT ")):
                self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                return
            self._read_request()
            name = first.split(b" ")[1].split(b"/")[1].split(b"?")[0].decode()
            if name == "silent":
                # Until the client has gone.
                self.rfile.read(1)
                return
            self.wfile.write(self.server.answers[name])

    def _read_request(self) -> None:
        length, chunked = 0, False
        while (line := self.rfile.readline(65536).strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
            chunked = chunked or line == b"transfer-encoding: chunked"
        self.rfile.read(length)
        while chunked and (size := int(self.rfile.readline(65536), 16)):
            self.rfile.read(size + 2)


class _Slam(socketserver.BaseRequestHandler):
    """Reads the client's hello and closes the connection."""

    def handle(self) -> None:
        self.request.recv(65536)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, handler: type[socketserver.BaseRequestHandler], *, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__((HOST, 0), handler)
        self.answers: dict[str, bytes] = {}
        self._tls = tls

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        # The client refuses the certificate: an OSError, which socketserver passes over.
        with closing(connection):
            return self._tls.wrap_socket(connection, server_side=True), address

    def serve(self, stack: ExitStack) -> int:
        stack.enter_context(self)
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        stack.callback(thread.join)
        stack.callback(self.shutdown)
        return self.port


@contextmanager
def replying(reply: bytes) -> Iterator[int]:
    """Serve a port that answers whatever it is sent with these bytes; give its number."""

    class Replies(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while self.request.recv(65536):
                    self.request.sendall(reply)

    with ExitStack() as stack:
        yield _Server(Replies).serve(stack)


def _self_signed(file: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    return file


def _closed_port(stack: ExitStack) -> int:
    # Bound but not listening: a connection is refused, and nobody else gets the port.
    holder = stack.enter_context(closing(socket.socket()))
    holder.bind((HOST, 0))
    return int(holder.getsockname()[1])


def _full_port(stack: ExitStack) -> int:
    # A queue of one that nobody takes from: the kernel leaves the next callers without an answer.
    listener = stack.enter_context(closing(socket.socket()))
    listener.bind((HOST, 0))
    listener.listen(0)
    for _ in range(4):
        waiting = stack.enter_context(closing(socket.socket()))
        waiting.settimeout(0)
        waiting.connect_ex(listener.getsockname())
    return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(_self_signed(tmp_path_factory.mktemp("tls") / "service.pem"))
    with ExitStack() as stack:
        plain = _Server(_Plain)
        service = Service(
            port=plain.serve(stack),
            tls_port=_Server(_Plain, tls=tls).serve(stack),
            slamming_port=_Server(_Slam).serve(stack),
            closed_port=_closed_port(stack),
            full_port=_full_port(stack),
            answers=plain.answers,
        )
        yield service


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one authority that clients trust, who signed nothing: read faster than the system's."""
    return _self_signed(tmp_path_factory.mktemp("tls") / "authority.pem")


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch: pytest.MonkeyPatch, authority: Path) -> None:
    """No proxy, no account and no tracing of the person who runs the tests."""
    for name in os.environ:
        if name.upper().endswith("_PROXY") or name.startswith(
            ("ANTHROPIC_", "AWS_", "GEMINI_", "GOOGLE_", "LANGCHAIN_", "LANGSMITH_", "OLLAMA_")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))


Call = Callable[[str, float], object]
"""Calls a service by its base URL, and waits that many seconds for an answer."""

_STATUSES = {
    **dict.fromkeys((400, 401, 403, 404, 409, 413, 422, 501), Kind.PERMANENT),
    **dict.fromkeys((408, 504), Kind.TIMEOUT),
    **dict.fromkeys((500, 502, 503, 529), Kind.TRANSIENT),
    429: Kind.RATE_LIMITED,
}
_WAITS: list[tuple[str, int, dict[str, str], float | None]] = [
    ("429-seconds", 429, {"Retry-After": "7"}, 7.0),
    ("429-date", 429, {"Retry-After": HALF_A_MINUTE_LATER}, 30.0),
    ("429-milliseconds", 429, {"Retry-After-Ms": "1500"}, 1.5),
    ("429-nonsense", 429, {"Retry-After": "soon"}, None),
    ("503-seconds", 503, {"Retry-After": "7"}, 7.0),
    ("400-seconds", 400, {"Retry-After": "7"}, None),
]
_FAULTS: dict[str, tuple[Callable[[Service], str], Kind]] = {
    "refused": (Service.refuses, Kind.TRANSIENT),
    "hung-up": (Service.hangs_up, Kind.TRANSIENT),
    "cut": (Service.cuts_its_answer, Kind.TRANSIENT),
    "gibberish": (Service.speaks_gibberish, Kind.TRANSIENT),
    "silent": (Service.stays_silent, Kind.TIMEOUT),
    "never-connected": (Service.never_connects, Kind.TIMEOUT),
    "tls-self-signed": (Service.shows_a_certificate_of_its_own, Kind.PERMANENT),
    "tls-broken-off": (Service.slams_the_door, Kind.TRANSIENT),
    "tls-not-spoken": (Service.speaks_no_tls, Kind.UNKNOWN),
}


def status_rows(
    library: str,
    call: Call,
    *,
    kinds: Mapping[int, Kind] | None = None,
    body: bytes = b"{}",
    keeps_headers: bool = True,
    raised_by: tuple[str, ...] = (),
) -> list[Row]:
    """Make the rows of one client for every status and every way to ask for a wait.

    `kinds` overrides what a status means to this client; `keeps_headers` says that its error
    still has the answer's headers.
    """

    def row(case: str, status: int, headers: dict[str, str], wait_s: float | None) -> Row:
        def fail(service: Service) -> object:
            return call(service.answers_with(status, headers, body), PATIENCE_S)

        kind = {**_STATUSES, **(kinds or {})}[status]
        return Row(library, case, fail, kind, wait_s if keeps_headers else None, raised_by)

    return [row(f"{status}", status, {}, None) for status in _STATUSES] + [
        row(*waiting) for waiting in _WAITS
    ]


def fault_rows(
    library: str,
    call: Call,
    *,
    kinds: Mapping[str, Kind] | None = None,
    without: tuple[str, ...] = (),
    mark: str = "",
    raised_by: tuple[str, ...] = (),
) -> list[Row]:
    """Make the rows of one client for every fault of a connection but those named in `without`."""

    def row(case: str, url_of: Callable[[Service], str], kind: Kind) -> Row:
        patience_s = IMPATIENCE_S if kind is Kind.TIMEOUT else PATIENCE_S

        def fail(service: Service) -> object:
            return call(url_of(service), patience_s)

        kind = (kinds or {}).get(case, kind)
        return Row(library, f"{mark}{case}", fail, kind, None, raised_by)

    return [
        row(case, url_of, kind) for case, (url_of, kind) in _FAULTS.items() if case not in without
    ]


def check(row: Row, service: Service) -> None:
    """Let the row fail, and see that its error is judged as the row says."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own classes
        row.fail(service)
    error = caught.value

    failure = classify(error, clock=ManualClock(start=NOON))

    assert row.is_of_the_library(error), repr(error)
    assert (failure.kind, failure.retry_after) == (row.kind, row.wait_s), (failure, error)
    assert failure.rule
    assert failure.why
