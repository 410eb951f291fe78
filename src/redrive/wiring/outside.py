"""A worker seen from outside: figures and health, served over HTTP if `metrics.port` is set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from importlib.metadata import version

import structlog

from redrive.clock import Clock
from redrive.consumer.consumer import Worker
from redrive.consumer.health import Check, is_alive, is_ready
from redrive.consumer.lookup import Limits, Lookup
from redrive.consumer.loop_pulse import LoopPulse
from redrive.dead_letter.spool_count import SpoolCount
from redrive.errors import SettingsError
from redrive.settings import Settings
from redrive.telemetry import metrics as figures
from redrive.telemetry.instruments import Reading
from redrive.telemetry.metrics import Metrics
from redrive.telemetry.server import Answer, PageServer

__all__ = ["Outside"]

log = structlog.get_logger("redrive.worker")


class Outside:
    """Shows one worker to who asks; belongs to the event loop, and answers on threads of its own.

    Args:
        settings: All settings.
        metrics: What the worker counts; what is looked up is added here.
        name: The worker's name, for people.
        clock: The worker's clock.
    """

    def __init__(self, settings: Settings, metrics: Metrics, *, name: str, clock: Clock) -> None:
        self._settings = settings
        self._metrics = metrics
        self._name = name
        self._started_s = clock.now().timestamp()
        self._stall_s = settings.metrics.stall.total_seconds()
        self._loop = LoopPulse(clock)
        limits = Limits(settings.worker.in_flight, settings.worker.buffer, self._stall_s)
        self._lookup = Lookup(self._loop, limits=limits, clock=clock)
        spool = settings.letters.spool_path
        self._spool = None if spool is None else SpoolCount(spool)
        self._server: PageServer | None = None
        metrics.add_source(self._readings)

    def open(self) -> None:
        """Begin to answer: from now on, and before there is a worker.

        Raises:
            SettingsError: Nothing can listen on `metrics.host` and `metrics.port`.
            MissingExtraError: prometheus-client is not installed.
        """
        self._loop.start()
        host, port = self._settings.metrics.host, self._settings.metrics.port
        if not port:
            return

        from redrive.telemetry.exposition import exposition  # noqa: PLC0415 - an extra, if served

        def metrics(accept: str) -> Answer:
            return Answer(*exposition(self._metrics.read, accept=accept))

        pages = {"/metrics": metrics, "/livez": self._livez, "/readyz": self._readyz}
        try:
            self._server = PageServer(host, port, pages)
        except OSError as error:
            raise SettingsError(
                f"metrics.port: {host}:{port} cannot be listened on: {error.strerror}: choose "
                "another metrics.port or metrics.host, or 0 to serve nothing"
            ) from error
        log.info("metrics.served", host=host, port=port)

    def watch(self, worker: Worker) -> None:
        """Show this worker from now on."""
        self._lookup.watch(worker)

    def close(self) -> None:
        """Answer no more."""
        self._loop.stop()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _livez(self, _: str) -> Answer:
        return _said(is_alive(self._lookup.facts(), limit_s=self._stall_s))

    def _readyz(self, _: str) -> Answer:
        return _said(is_ready(self._lookup.facts(), limit_s=self._stall_s))

    def _readings(self) -> Iterator[Reading]:
        worker, group = self._settings.worker, self._settings.kafka.group_id
        labels = (version("redrive"), self._name, group, worker.delivery.value)
        yield Reading(figures.INFO, {labels: 1})
        yield Reading(figures.STARTED, {(): self._started_s})
        ready = is_ready(self._lookup.facts(), limit_s=self._stall_s)
        yield Reading(figures.READY, {(): int(ready.ok)})
        if self._spool is not None:
            with suppress(OSError):  # a file that cannot be read is no reason to tell nothing
                letters, size_bytes = self._spool.now()
                yield Reading(figures.SPOOLED, {(): letters})
                yield Reading(figures.SPOOL_BYTES, {(): size_bytes})
        yield from self._lookup.readings()


def _said(check: Check) -> Answer:
    body = json.dumps({"ok": check.ok, "why": check.why}).encode() + b"\n"
    status = HTTPStatus.OK if check.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(body, "application/json", status)
