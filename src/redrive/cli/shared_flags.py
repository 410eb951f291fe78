"""The flags that several commands share, and how a command starts: its logs, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import structlog
import typer

from redrive.cli.output import note
from redrive.settings import Settings, load_with_origins
from redrive.telemetry.logging import configure_logging

__all__ = [
    "BootstrapServers",
    "BrokerFlags",
    "Config",
    "Graph",
    "Json",
    "LanggraphJson",
    "RecursionLimit",
    "graph_settings",
    "start",
    "tell_of_file",
]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings file to use instead of ./redrive.toml."
    ),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", metavar="HOST:PORT,…", help="The Kafka brokers."),
]
Graph = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID=MODULE:ATTR",
        help="The graph of a workflow, or of all others with '*'. Can be repeated.",
    ),
]
LanggraphJson = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Load the graphs that a langgraph.json names."),
]
RecursionLimit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID=N",
        help="Most supersteps of a run, unless the graph sets its own limit. Can be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for use in programs.")]


_QUIET = "CRITICAL"


@dataclass(frozen=True, slots=True)
class BrokerFlags:
    """Which broker a command works with."""

    bootstrap_servers: BootstrapServers = None
    config: Config = None

    def settings(self) -> Settings:
        """Set up the logs and load the settings, as `start` does."""
        return start(self.config, {"kafka.bootstrap_servers": self.bootstrap_servers})


def start(
    config: Path | None,
    flags: Mapping[str, object | None],
    *,
    log_json: bool | None = None,
    log_level: str = _QUIET,
) -> Settings:
    """Set up the logs and load the settings; a flag that was not given (None) changes nothing.

    A short command logs next to nothing: what went wrong, its last line says. That a file was taken
    which nobody has named is told on stderr, or logged where there is a log.

    Raises:
        SettingsError: One line per problem.
    """
    configure_logging(json=log_json, level=log_level)

    given = {key: value for key, value in flags.items() if value is not None}
    loaded = load_with_origins(config, given)
    if loaded.found_file is not None and log_level == _QUIET:
        tell_of_file(loaded.found_file)
    elif loaded.found_file is not None:
        log = structlog.get_logger("redrive.settings")
        log.info("settings.file_found", file=str(loaded.found_file.absolute()))
    return loaded.settings


def tell_of_file(file: Path) -> None:
    """Say on stderr which file was taken that nobody has named."""
    note(f"settings: {file.absolute()}")


def graph_settings(
    graphs: list[str] | None, recursion_limits: list[str] | None
) -> dict[str, dict[str, object]] | None:
    """Return the settings `graphs` that `--graph` and `--recursion-limit` stand for.

    None where neither was given.
    """
    found: dict[str, dict[str, object]] = {}
    for name, target in _pairs(graphs or [], "--graph", "ID=module:attribute"):
        found.setdefault(name, {})["target"] = target
    for name, limit in _pairs(recursion_limits or [], "--recursion-limit", "ID=N"):
        if not limit.isdecimal() or not int(limit):
            raise typer.BadParameter(
                f"{limit!r} is not a number of 1 or more", param_hint="--recursion-limit"
            )
        found.setdefault(name, {})["recursion_limit"] = int(limit)
    return found or None


def _pairs(texts: list[str], flag: str, form: str) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} is not {form}", param_hint=flag)
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint=flag)
        found[name] = value
    return list(found.items())
