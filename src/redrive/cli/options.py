"""The flags that several commands share, and how a command starts: its logs, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # pydantic takes its time, and `--help` needs none of it
    from redrive.settings import Settings

__all__ = [
    "BootstrapServers",
    "Broker",
    "Config",
    "Graph",
    "Json",
    "LanggraphJson",
    "start",
    "targets",
]

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file instead of ./redrive.toml."),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", metavar="HOST:PORT,…", help="The Kafka brokers."),
]
Graph = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID=MODULE:ATTR", help="A graph for a workflow_id, '*' for all others. Repeat."
    ),
]
LanggraphJson = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Take the graphs of a langgraph.json."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True, slots=True)
class Broker:
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
    log_level: str = "CRITICAL",
) -> Settings:
    """Set up the logs and load the settings; a flag that was not given (None) changes nothing.

    A short command logs next to nothing: what went wrong, its last line says.

    Raises:
        SettingsError: One line per problem.
    """
    from redrive.settings import load_settings  # noqa: PLC0415 - keeps `--help` fast
    from redrive.telemetry.logging import configure_logging  # noqa: PLC0415 - as above

    configure_logging(json=log_json, level=log_level)

    return load_settings(config, {key: value for key, value in flags.items() if value is not None})


def targets(graphs: list[str]) -> dict[str, dict[str, str]]:
    """Return the settings `graphs` that the values of `--graph` stand for."""
    found: dict[str, dict[str, str]] = {}
    for text in graphs:
        name, equals, target = text.partition("=")
        if not (name and equals and target):
            raise typer.BadParameter(f"{text!r} is not ID=module:attribute", param_hint="--graph")
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint="--graph")
        found[name] = {"target": target}
    return found
