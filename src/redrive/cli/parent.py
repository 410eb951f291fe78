"""Becomes the parent of workers that have the flags of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import structlog

from redrive.consumer.adopted import become_subreaper
from redrive.consumer.launcher import Launcher, MakeTemplate
from redrive.consumer.pool_status import PoolStatus
from redrive.consumer.supervisor import STOP_MARGIN_S, Supervisor, WorkerSpec
from redrive.consumer.template import Template
from redrive.consumer.worker_pages import serve_pages
from redrive.notify.crashes import CrashAlarm
from redrive.settings import Settings

__all__ = ["WORKER_MODULES", "supervise"]

log = structlog.get_logger("redrive.supervisor")

# What a worker has imported when it is ready, but for graphs, by name; they import the rest.
WORKER_MODULES = (
    "redrive.cli",
    "redrive.cli.worker",
    "redrive.wiring",
)


def supervise(settings: Settings) -> int:
    """Run `worker.processes` workers, show them if `metrics.port` is set; return the exit code.

    Raises:
        SettingsError: Nothing can listen on `metrics.host` and `metrics.port`.
        MissingExtraError: prometheus-client is not installed.
    """
    pool = pages = None
    if settings.metrics.port:
        stall_s = settings.metrics.stall.total_seconds()
        pool = PoolStatus(settings.worker.processes, stall_s=stall_s)
        pages = serve_pages(settings.metrics, read=pool.samples, alive=pool.alive, ready=pool.ready)
    alarm = CrashAlarm(settings.notify, redactor=settings.letters.redactor())
    try:
        return Supervisor(
            _workers(settings),
            patience_s=settings.worker.grace.total_seconds() + STOP_MARGIN_S,
            pool=pool,
            died=alarm.died,
            launcher=Launcher(_make_template(settings)),
        ).run()
    finally:
        if pages is not None:
            pages.close()
        alarm.close()


def _make_template(settings: Settings) -> MakeTemplate | None:
    if not settings.worker.template:
        return None
    why = become_subreaper()
    if why is not None:
        log.warning("supervisor.template_unused", why=why, older_one_is_used=False)
        return None
    modules = (*WORKER_MODULES, *settings.worker.preload)
    return lambda: Template(_python(), modules, label=("redrive", *sys.argv[1:]))


def _workers(settings: Settings) -> list[WorkerSpec]:
    # Of a flag that is given twice the later one holds.
    command = [*_python(), "-m", "redrive", *sys.argv[1:], "--processes", "0"]
    size, name = settings.worker.processes, settings.worker.id
    if name is None or size == 1:
        return [WorkerSpec(command, name) for _ in range(size)]
    ids = (f"{name}-{number}" for number in range(size))
    return [WorkerSpec([*command, "--worker-id", one], one) for one in ids]


def _python() -> list[str]:
    # A child looks for modules where this process does: `python -m` alone adds the working
    # directory, where a file of the user's may have the name of a module of Python's own.
    return [sys.executable, *([] if str(Path.cwd()) in sys.path else ["-P"])]
