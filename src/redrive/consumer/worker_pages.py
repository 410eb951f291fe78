"""The pages that show a worker, or all those of a parent: `/metrics`, `/livez` and `/readyz`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus

import structlog

from redrive.consumer.health import Check
from redrive.consumer.worker_settings import MetricsSettings
from redrive.errors import SettingsError
from redrive.telemetry.instruments import Sample
from redrive.telemetry.server import Answer, PageServer

__all__ = ["serve_pages"]

log = structlog.get_logger("redrive.worker")


def serve_pages(
    settings: MetricsSettings,
    *,
    read: Callable[[], Iterable[Sample]],
    alive: Callable[[], Check],
    ready: Callable[[], Check],
) -> PageServer:
    """Begin to serve; all three are called on threads of the server.

    Raises:
        SettingsError: Nothing can listen on `metrics.host` and `metrics.port`.
        MissingExtraError: prometheus-client is not installed.
    """
    from redrive.telemetry.exposition import exposition  # noqa: PLC0415 - an extra, if served

    pages = {
        "/metrics": lambda accept: Answer(*exposition(read, accept=accept)),
        "/livez": lambda _: _said(alive()),
        "/readyz": lambda _: _said(ready()),
    }
    host, port = settings.host, settings.port
    try:
        server = PageServer(host, port, pages)
    except OSError as error:
        raise SettingsError(
            f"metrics.port: {host}:{port} cannot be listened on: {error.strerror}: choose "
            "another metrics.port or metrics.host, or 0 to serve nothing"
        ) from error
    log.info("metrics.served", host=host, port=port)
    return server


def _said(check: Check) -> Answer:
    body = json.dumps({"ok": check.ok, "why": check.why}).encode() + b"\n"
    status = HTTPStatus.OK if check.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(body, "application/json", status)
