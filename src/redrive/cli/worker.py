"""`redrive worker`: take events in, run graphs, answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from redrive.cli.exits import needs_extra
from redrive.cli.parent import supervise
from redrive.cli.shared_flags import (
    BootstrapServers,
    Config,
    Graph,
    LanggraphJson,
    RecursionLimit,
    graph_settings,
    start,
)
from redrive.consumer.parent_pipe import handover
from redrive.telemetry.logging import configure_logging

__all__ = ["worker"]


class _LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


class _LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class _DeliveryGuarantee(StrEnum):
    EXACTLY_ONCE = "exactly_once"
    AT_LEAST_ONCE = "at_least_once"


def worker(  # noqa: PLR0913, PLR0917 - one argument per flag
    graph: Graph = None,
    langgraph_json: LanggraphJson = None,
    recursion_limit: RecursionLimit = None,
    bootstrap_servers: BootstrapServers = None,
    worker_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A stable name, so that a restart takes its partitions back at once.",
        ),
    ] = None,
    in_flight: Annotated[int | None, typer.Option(help="How many runs at the same time.")] = None,
    delivery: Annotated[
        _DeliveryGuarantee | None,
        typer.Option(help="The delivery guarantee for results and dead letters."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Worker processes; a parent process replaces any that dies."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Serve /metrics, /livez and /readyz on this port."),
    ] = None,
    config: Config = None,
    log_format: Annotated[
        _LogFormat | None,
        typer.Option(help="How to write logs. Default: console on a terminal, otherwise json."),
    ] = None,
    log_level: Annotated[
        _LogLevel, typer.Option(help="The level of redrive's own logs.")
    ] = _LogLevel.INFO,
) -> None:
    """Consume events, run their graphs and publish results, until SIGTERM or Ctrl-C."""
    flags: dict[str, object | None] = {
        "kafka.bootstrap_servers": bootstrap_servers,
        "worker.id": worker_id,
        "worker.in_flight": in_flight,
        "worker.delivery": delivery and delivery.value,
        "worker.processes": processes,
        "metrics.port": metrics_port,
        "graphs": graph_settings(graph, recursion_limit),
    }
    log_json, level = _is_json(log_format), log_level.upper()
    settings = start(config, flags, log_json=log_json, log_level=level)
    if settings.worker.processes:
        raise typer.Exit(supervise(settings))
    parent = handover()
    if parent.of > 1:
        configure_logging(json=log_json, level=level, worker=settings.worker.name)
    with needs_extra("langgraph", extra="worker"):
        from redrive.wiring import run_worker  # noqa: PLC0415 - a parent runs no graphs
    raise typer.Exit(run_worker(settings, langgraph_json=langgraph_json, parent=parent))


def _is_json(log_format: _LogFormat | None) -> bool | None:
    return None if log_format is None else log_format is _LogFormat.JSON
