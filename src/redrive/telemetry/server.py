"""A small HTTP server on a thread of its own: it answers whatever the event loop is doing.

It only ever tells: there is nothing to write, and no answer holds more than figures and words of
ours. [P15]

Nobody keeps it from answering. A request has one deadline, however slowly it drips in, and there
are few connections at once: when all are taken, the newcomer gets the place of the one that has
waited longest without having asked. So a probe, which asks at once, is always answered. [P7, P11]
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import structlog

from redrive.clock import SYSTEM, Clock

__all__ = ["Answer", "Page", "PageServer"]

log = structlog.get_logger("redrive.metrics")

_MOST_AT_ONCE = 32
REQUEST_S = 5.0
"""Within so many seconds a request must be there, and within as many its answer be read."""
_LEAST_ANSWER_S = 1.0
"""So long a connection that is being answered keeps its place."""
_STOP_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What one page says."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Page = Callable[[str], Answer]
"""Answers a request, on a thread of the server; gets the `Accept` header."""


class PageServer:
    """Serves a few pages, for GET and HEAD, from the moment it is made.

    Args:
        host: The address to listen on, a name or a number.
        port: The port.
        pages: By path.
        request_s: Within how many seconds a request must be there, and its answer be read.
        clock: Says how long connections are open.

    Raises:
        OSError: It cannot listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        pages: Mapping[str, Page],
        *,
        request_s: float = REQUEST_S,
        clock: Clock = SYSTEM,
    ) -> None:
        self._server = _Server(host, port, pages, request_s=request_s, clock=clock)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_STOP_LOOK_S,),
            name="redrive-metrics",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more; requests under way are left to themselves."""
        self._server.shutdown()
        self._server.server_close()


@dataclass(slots=True)
class _Connection:
    opened: float
    has_asked: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, pages: Mapping[str, Page], *, request_s: float, clock: Clock
    ) -> None:
        self.pages = pages
        self.request_s = request_s
        self._clock = clock
        self._lock = threading.Lock()
        # From the oldest to the newest.
        self._open: dict[socket.socket, _Connection] = {}
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - theirs
        if not self._has_place():
            self.shutdown_request(request)
            return
        with self._lock:
            self._open[request] = _Connection(self._clock.monotonic())
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def service_actions(self) -> None:
        """End what takes too long; called by the serving thread all the time."""
        now = self._clock.monotonic()
        with self._lock:
            late = [
                connection
                for connection, seen in self._open.items()
                if now - seen.opened > self.request_s * (2 if seen.has_asked else 1)
            ]
        for connection in late:
            self._hang_up(connection)

    def has_asked(self, connection: socket.socket) -> None:
        """Note that the whole request is there."""
        with self._lock:
            if (seen := self._open.get(connection)) is not None:
                seen.has_asked = True

    def _has_place(self) -> bool:
        """Say whether one more may connect, making room for it where somebody only waits."""
        now = self._clock.monotonic()
        with self._lock:
            if len(self._open) < _MOST_AT_ONCE:
                return True
            silent = (c for c, seen in self._open.items() if not seen.has_asked)
            slow = (c for c, s in self._open.items() if now - s.opened > _LEAST_ANSWER_S)
            oldest = next(silent, None) or next(slow, None)
        if oldest is None:
            return False
        self._hang_up(oldest)
        return True

    def _hang_up(self, connection: socket.socket) -> None:
        """End a connection: its thread sees that nothing more comes, or that nobody reads."""
        self._forget(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of a peer that went away; a page's own errors are told in `_Handler`."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "redrive"
    sys_version = ""

    def setup(self) -> None:
        """Let no single read or write outlast the request's time either."""
        super().setup()
        self.connection.settimeout(self.server.request_s)

    def do_GET(self) -> None:
        """Answer with the page."""
        self.server.has_asked(self.connection)
        answer = self._answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 - the name is theirs

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - theirs
        """Log no requests: probes come every few seconds."""

    def _answer(self) -> Answer:
        pages = self.server.pages
        page = pages.get(urlsplit(self.path).path)
        if page is None:
            there = ", ".join(sorted(pages))
            return Answer(f"there is {there}\n".encode(), status=HTTPStatus.NOT_FOUND)
        try:
            return page(self.headers.get("Accept") or "")
        except Exception:
            log.exception("metrics.page_failed", path=urlsplit(self.path).path)
            return Answer(b"failed: see the log\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)
