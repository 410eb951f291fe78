"""What the doctor's checks look at, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ClusterMetadata,
)

from redrive.errors import KafkaUnavailableError, SettingsError
from redrive.graphs.langgraph_json import FileNote
from redrive.graphs.registry import LoadedGraph
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_admin import TopicReport
from redrive.settings import Settings

__all__ = ["Check", "DoctorFinding", "Examined", "FindingLevel", "NoBroker", "ReachedBroker"]


class FindingLevel(StrEnum):
    """How bad a finding is.

    `ok` says what was found in order, `skipped` what was not looked at, or cannot be seen. With a
    `warning` a worker starts, with an `error` it does not.
    """

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One thing that was found, and what to do; no advice where there is nothing to do."""

    level: FindingLevel
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class ReachedBroker:
    """A broker that answered.

    Attributes:
        settings: How it is asked, with the doctor's own patience.
        admin: A client of it.
        cluster: What it says of itself.
        report: The topics, as they are.
    """

    settings: KafkaSettings
    admin: AdminClient
    cluster: ClusterMetadata
    report: TopicReport


@dataclass(frozen=True, slots=True)
class NoBroker:
    """None was reached; `error` is None where none was to be asked."""

    error: KafkaUnavailableError | SettingsError | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """What checks look at.

    Attributes:
        settings: The worker's.
        graphs: Those that were loaded.
        refused: Why others could not be.
        broker: The broker that answered.
        notes: What a `langgraph.json` says that is not honoured.
        unopened: The ids of graphs of which something was not opened.
    """

    settings: Settings
    graphs: tuple[LoadedGraph, ...]
    refused: tuple[SettingsError, ...]
    broker: ReachedBroker | NoBroker
    notes: tuple[FileNote, ...] = ()
    unopened: tuple[str, ...] = ()


Check = Callable[[Examined], Iterator[DoctorFinding]]
"""Yields what it found; nothing at all says as much as an `ok`."""
