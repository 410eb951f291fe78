"""Becomes the parent of workers that have the flags of this process."""

from __future__ import annotations

import sys
from pathlib import Path

from redrive.consumer.family import Family
from redrive.consumer.pages import serve_pages
from redrive.consumer.supervisor import STOP_MARGIN_S, Supervisor, ToRun
from redrive.notify.crashes import CrashAlarm
from redrive.settings import Settings

__all__ = ["supervise"]


def supervise(settings: Settings) -> int:
    """Run `worker.processes` workers, show them if `metrics.port` is set; return the exit code.

    Raises:
        SettingsError: Nothing can listen on `metrics.host` and `metrics.port`.
        MissingExtraError: prometheus-client is not installed.
    """
    family = pages = None
    if settings.metrics.port:
        stall_s = settings.metrics.stall.total_seconds()
        family = Family(settings.worker.processes, stall_s=stall_s)
        pages = serve_pages(
            settings.metrics, read=family.readings, alive=family.alive, ready=family.ready
        )
    alarm = CrashAlarm(settings.notify, redactor=settings.letters.redactor())
    try:
        return Supervisor(
            _workers(settings),
            patience_s=settings.worker.grace.total_seconds() + STOP_MARGIN_S,
            family=family,
            died=alarm.died,
        ).run()
    finally:
        if pages is not None:
            pages.close()
        alarm.close()


def _workers(settings: Settings) -> list[ToRun]:
    # A child looks for modules where this process does: `python -m` alone adds the working
    # directory, where a file of the user's may have the name of a module of Python's own.
    python = [sys.executable, *([] if str(Path.cwd()) in sys.path else ["-P"])]
    # Of a flag that is given twice the later one holds.
    command = [*python, "-m", "redrive", *sys.argv[1:], "--processes", "0"]
    size, name = settings.worker.processes, settings.worker.id
    if name is None or size == 1:
        return [ToRun(command, name) for _ in range(size)]
    ids = (f"{name}-{number}" for number in range(size))
    return [ToRun([*command, "--worker-id", one], one) for one in ids]
