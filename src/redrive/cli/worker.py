"""`redrive worker`: take events in, run graphs, answer."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redrive.cli.exits import needs_extra
from redrive.cli.options import BootstrapServers, Config, Graph, LanggraphJson, start, targets

if TYPE_CHECKING:  # pydantic takes its time, and `--help` needs none of it
    from redrive.settings import Settings

__all__ = ["worker"]


class _LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


class _LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class _Delivery(StrEnum):
    EXACTLY_ONCE = "exactly_once"
    AT_LEAST_ONCE = "at_least_once"


def worker(  # noqa: PLR0913, PLR0917 - one argument per flag
    graph: Graph = None,
    langgraph_json: LanggraphJson = None,
    bootstrap_servers: BootstrapServers = None,
    worker_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A stable name: back at work in a second after a death."),
    ] = None,
    in_flight: Annotated[int | None, typer.Option(help="Runs at the same time.")] = None,
    delivery: Annotated[_Delivery | None, typer.Option(help="What readers may rely on.")] = None,
    processes: Annotated[
        int | None,
        typer.Option(metavar="0|1", help="1: a parent replaces a worker that died. 0: no parent."),
    ] = None,
    config: Config = None,
    log_format: Annotated[
        _LogFormat | None, typer.Option(help="Default: console on a terminal, else json.")
    ] = None,
    log_level: Annotated[_LogLevel, typer.Option(help="Of redrive's own logs.")] = _LogLevel.INFO,
) -> None:
    """Take events in, run graphs, answer; until SIGTERM or Ctrl-C."""
    flags: dict[str, object | None] = {
        "kafka.bootstrap_servers": bootstrap_servers,
        "worker.id": worker_id,
        "worker.in_flight": in_flight,
        "worker.delivery": None if delivery is None else delivery.value,
        "worker.processes": processes,
        "graphs": targets(graph) if graph else None,
    }
    log_json = None if log_format is None else log_format is _LogFormat.JSON
    settings = start(config, flags, log_json=log_json, log_level=log_level.upper())
    if settings.worker.processes:
        raise typer.Exit(_supervise(settings))
    with needs_extra("langgraph", extra="worker"):
        from redrive.wiring import run_worker  # noqa: PLC0415 - keeps `--help` fast
    raise typer.Exit(run_worker(settings, langgraph_json=langgraph_json))


def _supervise(settings: Settings) -> int:
    """Become the parent of a worker that has the flags of this process."""
    from redrive.consumer.supervisor import (  # noqa: PLC0415 - keeps `--help` fast
        STOP_MARGIN_S,
        Supervisor,
    )
    from redrive.notify.crashes import CrashAlarm  # noqa: PLC0415 - as above

    # The child looks for modules where this process does: `python -m` alone adds the working
    # directory, where a file of the user's may have the name of a module of Python's own.
    python = [sys.executable, *([] if str(Path.cwd()) in sys.path else ["-P"])]
    # Of a flag that is given twice the later one holds.
    command = [*python, "-m", "redrive", *sys.argv[1:], "--processes", "0"]
    patience_s = settings.worker.grace.total_seconds() + STOP_MARGIN_S
    alarm = CrashAlarm(
        settings.notify, worker=settings.worker.name, redactor=settings.letters.redactor()
    )
    try:
        return Supervisor(command, patience_s=patience_s, died=alarm.died).run()
    finally:
        alarm.close()
