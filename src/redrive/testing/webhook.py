"""A webhook for tests: keeps what is posted to it; refuses or hangs when it is told to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

__all__ = ["Webhook"]

_POLL_S = 0.02


class Webhook:
    """An HTTP server on the loopback, in threads of its own; to be used with `with`.

    Attributes:
        status: What it answers from now on.
        received: The JSON bodies that were posted and answered with a status below 300.
        refused: How many were answered with another one.
        go_on: Cleared, it lets posts hang; they go on when it is set.
    """

    def __init__(self) -> None:
        self.status = 200
        self.received: list[dict[str, object]] = []
        self.refused = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self._lock = threading.Lock()
        self._server = _WebhookServer(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="webhook"
        )

    @property
    def url(self) -> str:
        """The channel's URL, as apprise takes it."""
        return f"json://127.0.0.1:{self._server.server_address[1]}/hook"

    def take(self, body: bytes) -> int:
        """Take a post; return the status to answer with."""
        self.go_on.wait()
        with self._lock:
            if self.status < 300:  # noqa: PLR2004 - HTTP's own limit
                self.received.append(json.loads(body))
            else:
                self.refused += 1
            return self.status

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _WebhookServer(ThreadingHTTPServer):
    # Its handlers are waited for at the end: none outlives the test.
    daemon_threads = False

    def __init__(self, hook: Webhook) -> None:
        super().__init__(("127.0.0.1", 0), _WebhookHandler)
        self.hook = hook


class _WebhookHandler(BaseHTTPRequestHandler):
    server: _WebhookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.hook.take(body))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            # Who sends has given up waiting.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the framework's
        pass
