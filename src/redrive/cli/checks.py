"""What `redrive doctor` looks at: a list of checks, each of which returns what it found.

A new check is a function here, and a line in `CHECKS`. None of them needs a broker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from redrive.errors import SettingsError
from redrive.graphs.import_paths import import_function
from redrive.graphs.langgraph_json import FileGraph, read_langgraph_json
from redrive.graphs.registry import GraphRegistry, GraphSource, LoadedGraph
from redrive.graphs.stacking import stacked_retries
from redrive.notify.channels import AppriseChannel
from redrive.notify.hook import Hook
from redrive.settings import Settings

__all__ = ["CHECKS", "Check", "Examined", "Finding", "Level", "examine"]


class Level(StrEnum):
    """How bad a finding is: with an `error` a worker does not start."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, and what to do."""

    level: Level
    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What checks look at; `refused` holds why graphs could not be loaded."""

    settings: Settings
    graphs: tuple[LoadedGraph, ...]
    refused: tuple[SettingsError, ...]


Check = Callable[[Examined], Iterator[Finding]]


def examine(settings: Settings, langgraph_json: Path | None) -> Examined:
    """Load what a worker with these settings would load, one graph at a time."""
    sources: dict[str, GraphSource | FileGraph] = {}
    graphs: list[LoadedGraph] = []
    refused: list[SettingsError] = []
    try:
        sources |= {} if langgraph_json is None else read_langgraph_json(langgraph_json)
    except SettingsError as error:
        refused.append(error)
    sources |= settings.graphs
    for name, source in sources.items():
        try:
            # What a module prints when it is imported is no finding.
            with redirect_stdout(sys.stderr):
                graphs += GraphRegistry({name: source}).graphs
        except SettingsError as error:
            refused.append(error)
    return Examined(settings, tuple(graphs), tuple(refused))


def _graphs(examined: Examined) -> Iterator[Finding]:
    for error in examined.refused:
        yield Finding(Level.ERROR, str(error), "a worker does not start until this is mended")
    if not examined.graphs and not examined.refused:
        yield Finding(
            Level.ERROR,
            "no graph is registered",
            "name one with --graph ID=module:attribute, graphs.<id>.target in redrive.toml, "
            "or --langgraph-json FILE",
        )


def _retries(examined: Examined) -> Iterator[Finding]:
    policy = examined.settings.retry.config()
    for loaded in examined.graphs:
        for found in stacked_retries(loaded, policy=policy):
            yield Finding(Level.WARNING, found.what, found.advice)


def _notify(examined: Examined) -> Iterator[Finding]:
    settings = examined.settings.notify
    advice = "a worker does not start until this is mended; then try: redrive notify test"
    for name, url in settings.urls.items():
        try:
            AppriseChannel(name, url.get_secret_value())
        except SettingsError as error:
            yield Finding(Level.ERROR, str(error), advice)
    if settings.hook is None:
        return
    try:
        with redirect_stdout(sys.stderr):
            Hook(import_function(settings.hook, what="notify.hook"))
    except SettingsError as error:
        yield Finding(Level.ERROR, str(error), "a worker does not start until this is mended")


CHECKS: Mapping[str, Check] = {"graphs": _graphs, "retries": _retries, "notify": _notify}
"""All checks, by the name that is printed."""
