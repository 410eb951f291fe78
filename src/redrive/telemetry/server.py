"""A small HTTP server on a thread of its own: it answers whatever the event loop is doing.

It only ever tells: there is nothing to write, and no answer holds more than figures and words of
ours. [P15]
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import structlog

__all__ = ["Answer", "Page", "PageServer"]

log = structlog.get_logger("redrive.metrics")

_MOST_AT_ONCE = 32
_SILENT_S = 5.0
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

    Raises:
        OSError: It cannot listen there.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        self._server = _Server(host, port, pages)
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        self.pages = pages
        self._slots = threading.BoundedSemaphore(_MOST_AT_ONCE)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - theirs
        # Who asks too much at once is not answered: threads are bounded. [P11]
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of a peer that went away; a page's own errors are told in `_Handler`."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "redrive"
    sys_version = ""
    timeout = _SILENT_S

    def do_GET(self) -> None:
        """Answer with the page."""
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
