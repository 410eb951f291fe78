"""What `redrive doctor` looks at: a list of checks, each of which returns what it found.

A new check is a function here, or in `redrive.cli.broker_checks` when it asks the broker, and a
line in `CHECKS`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from redrive.cli.broker_checks import BROKER_CHECKS, look_at_broker
from redrive.cli.findings import Check, DoctorFinding, Examined, FindingLevel, NoBroker
from redrive.cli.standstill_findings import judge_waits
from redrive.dead_letter.spool import Spool
from redrive.dead_letter.spool_count import SpoolCount
from redrive.errors import SettingsError
from redrive.graphs.checkpoint_file import look_at
from redrive.graphs.import_paths import import_function
from redrive.graphs.langgraph_json import FileNote, read_langgraph_json
from redrive.graphs.registry import GraphRegistry, GraphSource, LoadedGraph
from redrive.graphs.retry_amplification import stacked_retries
from redrive.graphs.tracing import tracing_in
from redrive.notify.channels import AppriseChannel
from redrive.notify.hook import Hook
from redrive.settings import Settings
from redrive.signatures import Require
from redrive.telemetry.metrics import WAITING, WAITING_FOR
from redrive.wiring.graphs import graph_sources, policy_of

__all__ = ["CHECKS", "examine"]

_ANSWERS_WITHIN_S = 3.0
_NO_START = "a worker does not start until this is fixed"


def examine(settings: Settings, langgraph_json: Path | None, *, offline: bool) -> Examined:
    """Load what a worker with these settings would load, one graph at a time; ask the broker.

    Args:
        settings: The worker's.
        langgraph_json: A file with further graphs.
        offline: Leave the broker out, and what graphs open when a worker starts.
    """
    given: Mapping[str, GraphSource] = {}
    notes: tuple[FileNote, ...] = ()
    graphs: list[LoadedGraph] = []
    refused: list[SettingsError] = []
    unopened: list[str] = []
    # What a module prints when it is imported is no finding.
    with redirect_stdout(sys.stderr):
        try:
            if langgraph_json is not None:
                file = read_langgraph_json(langgraph_json).apply()
                given, notes = file.graphs, file.notes
        except SettingsError as error:
            refused.append(error)
        for name, source in graph_sources(settings, given).items():
            try:
                registry = GraphRegistry({name: source})
                if not offline:
                    graphs += asyncio.run(_opened(registry, settings))
                    continue
                graphs += registry.graphs
                unopened += registry.unopened
            except SettingsError as error:
                refused.append(error)
    broker = NoBroker() if offline else look_at_broker(settings)
    return Examined(
        settings, tuple(graphs), tuple(refused), broker, notes=notes, unopened=tuple(unopened)
    )


async def _opened(registry: GraphRegistry, settings: Settings) -> tuple[LoadedGraph, ...]:
    """Open what the graphs open, as a worker does, and close it again."""
    await registry.open(limit_s=settings.worker.open_timeout.total_seconds())
    try:
        return registry.graphs
    finally:
        await registry.close()


def _graphs(examined: Examined) -> Iterator[DoctorFinding]:
    for error in examined.refused:
        yield DoctorFinding(FindingLevel.ERROR, str(error), _NO_START)
    for note in examined.notes:
        yield DoctorFinding(
            FindingLevel.WARNING, f"langgraph.json, {note.key} is not fully supported", note.why
        )
    for name in examined.unopened:
        yield DoctorFinding(
            FindingLevel.SKIPPED, f"graph {name!r}: resources of the event loop were not opened"
        )
    if not (examined.graphs or examined.refused or examined.unopened):
        yield DoctorFinding(
            FindingLevel.ERROR,
            "no graph is registered",
            "name one with --graph ID=module:attribute, graphs.<id>.target in redrive.toml, "
            "or --langgraph-json FILE",
        )


def _retries(examined: Examined) -> Iterator[DoctorFinding]:
    for loaded in examined.graphs:
        policy = policy_of(examined.settings, loaded).retry
        for found in stacked_retries(loaded, policy=policy):
            yield DoctorFinding(FindingLevel.WARNING, found.what, found.advice)


def _notify(examined: Examined) -> Iterator[DoctorFinding]:
    settings = examined.settings.notify
    for name in settings.urls:
        try:
            AppriseChannel(name, settings.url(name))
        except SettingsError as error:
            advice = f"{_NO_START}; then try: redrive notify test"
            yield DoctorFinding(FindingLevel.ERROR, str(error), advice)
    if settings.hook is None:
        return
    try:
        with redirect_stdout(sys.stderr):
            Hook(import_function(settings.hook, what="notify.hook"))
    except SettingsError as error:
        yield DoctorFinding(FindingLevel.ERROR, str(error), _NO_START)


def _checkpoints(examined: Examined) -> Iterator[DoctorFinding]:
    try:
        seen = look_at(examined.settings.checkpoints)
    except SettingsError as error:
        yield DoctorFinding(FindingLevel.ERROR, str(error), _NO_START)
        return
    if seen is None:
        yield DoctorFinding(
            FindingLevel.OK,
            "none are kept (checkpoints.url): each attempt starts from the beginning",
        )
    elif seen.there:
        yield DoctorFinding(FindingLevel.OK, f"{str(seen.path)!r} can be read and written")
    else:
        yield DoctorFinding(
            FindingLevel.OK, f"{str(seen.path)!r} does not exist yet, and can be created"
        )


def _spool(examined: Examined) -> Iterator[DoctorFinding]:
    letters = examined.settings.letters
    path = letters.spool_path
    if path is None:
        yield DoctorFinding(FindingLevel.OK, "there is none (letters.spool)")
        return
    if (problem := Spool(path, max_bytes=letters.spool_max).problem()) is not None:
        advice = "letters that Kafka does not accept wait in memory only: set another letters.spool"
        yield DoctorFinding(FindingLevel.WARNING, f"letters.spool: {problem}", advice)
        return
    try:
        count, _ = SpoolCount(path).now()
    except OSError as error:
        yield DoctorFinding(
            FindingLevel.WARNING, f"letters.spool: {error}", "make it readable, and run this again"
        )
        return
    if count:
        advice = f"store those that are missing: redrive dlq import {path}; then move the file away"
        yield DoctorFinding(FindingLevel.WARNING, f"{count} letters are in {str(path)!r}", advice)


def _worker(examined: Examined) -> Iterator[DoctorFinding]:
    """Ask the worker of these settings, if one runs on this host, what it waits for."""
    metrics = examined.settings.metrics
    if not metrics.port:
        yield DoctorFinding(FindingLevel.OK, "not asked: metrics.port is not set")
        return
    # A worker that listens on all addresses is asked on this host.
    host = "127.0.0.1" if metrics.host in ("0.0.0.0", "::", "") else metrics.host  # noqa: S104 - compared
    page = f"http://{host}:{metrics.port}"
    try:
        status, said = _get(host, metrics.port, "/readyz")
        counts, lasting_s = _waits_in(_get(host, metrics.port, "/metrics")[1])
    except (OSError, HTTPException, ValueError) as error:
        yield DoctorFinding(
            FindingLevel.SKIPPED, f"no worker answers at {page} (metrics.port): {error}"
        )
        return
    if status != HTTPStatus.OK:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"the worker at {page} is not ready: {said.strip()}",
            "its log says why; docs/alerts.md has what to do: RedriveNoWorkerReady",
        )
    waiting = list(judge_waits(counts, lasting_s))
    yield from waiting
    if status == HTTPStatus.OK and not waiting:
        yield DoctorFinding(
            FindingLevel.OK, f"the worker at {page} is ready, and nothing waits longer than planned"
        )


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(host, port, timeout=_ANSWERS_WITHIN_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def _waits_in(page: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return how much waits for what, and for how long, by a page of figures."""
    found: dict[str, dict[str, float]] = {WAITING.name: {}, WAITING_FOR.name: {}}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name][sample.labels.get("for", "")] = sample.value
    return found[WAITING.name], found[WAITING_FOR.name]


def _tracing(_: Examined) -> Iterator[DoctorFinding]:
    found = tracing_in(os.environ)
    if found is None:
        return
    yield DoctorFinding(
        FindingLevel.WARNING,
        f"payloads leave: {found.leaves} of each run go to {found.to}, as {found.by} is true",
        "unset it if they must not; LANGSMITH_HIDE_INPUTS and LANGSMITH_HIDE_OUTPUTS=true keep "
        "payloads here",
    )


def _payloads(examined: Examined) -> Iterator[DoctorFinding]:
    settings = examined.settings
    try:
        payloads = settings.security.payloads()
    except SettingsError as error:
        yield DoctorFinding(FindingLevel.ERROR, str(error), _NO_START)
        return
    if payloads.label is None:
        return
    yield DoctorFinding(FindingLevel.OK, f"payloads are encrypted as {payloads.label!r}")
    if settings.checkpoints.url != "none" and settings.checkpoints.encryption_key is None:
        yield DoctorFinding(
            FindingLevel.WARNING,
            "checkpoints are not encrypted, and contain the payloads",
            "set checkpoints.encryption_key as well",
        )


def _signatures(examined: Examined) -> Iterator[DoctorFinding]:
    settings = examined.settings.security
    if not settings.signing_keys:
        return
    try:
        trust = settings.trust(for_letters=True)
    except SettingsError as error:
        yield DoctorFinding(FindingLevel.ERROR, str(error), _NO_START)
        return
    assert trust.signer is not None  # noqa: S101 - there is a key
    told = {
        Require.OFF: "unsigned records are accepted",
        Require.WARN: "unsigned records are accepted and logged",
        Require.REFUSE: "only signed records are accepted",
    }[settings.require]
    keys = len(settings.signing_keys)
    yield DoctorFinding(
        FindingLevel.OK, f"signs with key {trust.signer.key!r}, verifies with {keys}: {told}"
    )


CHECKS: Mapping[str, Check] = {
    "graphs": _graphs,
    "retries": _retries,
    "notify": _notify,
    "checkpoints": _checkpoints,
    "spool": _spool,
    "worker": _worker,
    "tracing": _tracing,
    "payloads": _payloads,
    "signatures": _signatures,
    **BROKER_CHECKS,
}
"""All checks, by the name that is printed."""
