"""A worker seen from outside: figures and health, over HTTP or told to a parent that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version

from redrive.clock import Clock
from redrive.consumer.health import Check, is_alive, is_ready
from redrive.consumer.lookup import Lookup, WorkerLimits
from redrive.consumer.loop_pulse import LoopPulse
from redrive.consumer.parent_pipe import Handover
from redrive.consumer.report import Reporter, WorkerReport
from redrive.consumer.worker_lifecycle import Worker
from redrive.consumer.worker_pages import serve_pages
from redrive.dead_letter.spool_count import SpoolCount
from redrive.settings import Settings
from redrive.telemetry import metrics as definitions
from redrive.telemetry.instruments import Sample
from redrive.telemetry.metrics import Metrics
from redrive.telemetry.server import PageServer

__all__ = ["Monitoring"]


class Monitoring:
    """Shows one worker to who asks; belongs to the event loop, and answers on threads of its own.

    Args:
        settings: All settings.
        metrics: What the worker counts; what is looked up is added here.
        name: The worker's name, for people.
        parent: What the parent has handed over, who may want to be told.
        clock: The worker's clock.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, *, name: str, parent: Handover, clock: Clock
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._name = name
        self._started_s = clock.now().timestamp()
        self._stall_s = settings.metrics.stall.total_seconds()
        self._loop = LoopPulse(clock)
        limits = WorkerLimits(settings.worker.in_flight, settings.worker.buffer, self._stall_s)
        self._lookup = Lookup(self._loop, limits=limits, clock=clock)
        spool = settings.letters.spool_path
        self._spool = None if spool is None else SpoolCount(spool)
        self._parent = parent
        self._shown: PageServer | Reporter | None = None
        metrics.add_source(self._samples)

    def open(self) -> None:
        """Begin to answer: from now on, and before there is a worker.

        Raises:
            SettingsError: Nothing can listen on `metrics.host` and `metrics.port`.
            MissingExtraError: prometheus-client is not installed.
        """
        self._loop.start()
        if self._parent.reports is not None:
            self._shown = Reporter(self._parent.reports, self._report)
        elif self._settings.metrics.port:
            self._shown = serve_pages(
                self._settings.metrics,
                read=self._metrics.read,
                alive=self._alive,
                ready=self._ready,
            )

    def watch(self, worker: Worker) -> None:
        """Show this worker from now on."""
        self._lookup.watch(worker)

    def close(self) -> None:
        """Answer no more."""
        self._loop.stop()
        if self._shown is not None:
            self._shown.close()
            self._shown = None

    def _report(self) -> WorkerReport:
        return WorkerReport(self._alive(), self._ready(), tuple(self._metrics.read()))

    def _alive(self) -> Check:
        return is_alive(self._lookup.facts(), limit_s=self._stall_s)

    def _ready(self) -> Check:
        return is_ready(self._lookup.facts(), limit_s=self._stall_s)

    def _samples(self) -> Iterator[Sample]:
        worker, group = self._settings.worker, self._settings.kafka.group_id
        labels = (version("redrive"), self._name, group, worker.delivery.value)
        yield Sample(definitions.INFO, {labels: 1})
        process = (str(self._parent.number),)
        yield Sample(definitions.STARTED, {process: self._started_s})
        yield Sample(definitions.READY, {process: int(self._ready().ok)})
        if self._spool is not None:
            with suppress(OSError):  # a file that cannot be read is no reason to tell nothing
                letters, size_bytes = self._spool.now()
                yield Sample(definitions.SPOOLED, {(): letters})
                yield Sample(definitions.SPOOL_BYTES, {(): size_bytes})
        yield from self._lookup.samples()
