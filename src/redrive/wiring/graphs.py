"""The graphs of a worker, and the policy of each: from the settings, and from what code gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Protocol

import structlog

from redrive.consumer.policy import Policy
from redrive.consumer.shares import Shares
from redrive.errors import SettingsError, UnknownWorkflowError
from redrive.graphs import GraphRegistry
from redrive.graphs.graph_settings import GraphSettings
from redrive.graphs.recursion import own_limit
from redrive.graphs.registry import Configured, GraphSource
from redrive.graphs.retry_amplification import stacked_retries
from redrive.settings import Settings

__all__ = [
    "graph_sources",
    "policies",
    "policy_of",
    "registry_of",
    "shares_of",
    "warn_of_limits",
    "warn_of_stacked_retries",
]

log = structlog.get_logger("redrive.worker")

_MOST_WORKFLOWS = 1024


class NamedGraph(Protocol):
    """A graph, loaded or not."""

    @property
    def id(self) -> str:
        """Its workflow's id, or a pattern."""

    @property
    def settings(self) -> GraphSettings | None:
        """Its own."""


def registry_of(
    settings: Settings, graphs: GraphRegistry | Mapping[str, GraphSource] | None
) -> GraphRegistry:
    """Load the graphs.

    Raises:
        SettingsError: One cannot be loaded, or there is none.
    """
    if isinstance(graphs, GraphRegistry):
        return graphs
    sources = graph_sources(settings, graphs or {})
    if not sources:
        raise SettingsError(
            "no graph is registered: name one with --graph ID=module:attribute, "
            "graphs.<id>.target in redrive.toml, or --langgraph-json FILE"
        )
    return GraphRegistry(sources)


def graph_sources(
    settings: Settings, graphs: Mapping[str, GraphSource]
) -> Mapping[str, GraphSource]:
    """Return all graphs: those given, and those of the settings, which win.

    Settings without a target are those of the graph that was given under their id.
    """
    sources: dict[str, GraphSource] = {**graphs}
    for name, own in settings.graphs.items():
        given = sources.get(name)
        if own.target is not None or given is None or isinstance(given, GraphSettings | Configured):
            sources[name] = own
        else:
            sources[name] = Configured(given, own)
    return sources


def warn_of_limits(registry: GraphRegistry) -> None:
    """Log where a graph sets its recursion limit itself, and the setting does not count."""
    for loaded in registry.graphs:
        own, asked = own_limit(loaded.compiled), loaded.settings and loaded.settings.recursion_limit
        if own is not None and asked is not None and own != asked:
            log.warning("graph.recursion_limit_unused", graph=loaded.id, limit=own, setting=asked)


def warn_of_stacked_retries(registry: GraphRegistry, settings: Settings) -> None:
    """Log where the retries of a node, of a client and of the worker multiply."""
    for loaded in registry.graphs:
        for found in stacked_retries(loaded, policy=policy_of(settings, loaded).retry):
            log.warning(
                "graph.retries_multiply",
                graph=found.graph,
                node=found.node,
                calls=found.calls,
                advice=str(found),
            )


def policies(registry: GraphRegistry, settings: Settings) -> Callable[[str], Policy]:
    """Return what tells the policy of a workflow: that of the graph which serves it."""

    @lru_cache(_MOST_WORKFLOWS)
    def policy(workflow_id: str) -> Policy:
        try:
            return policy_of(settings, registry.serving(workflow_id))
        except UnknownWorkflowError:
            return policy_of(settings)

    return policy


def shares_of(registry: GraphRegistry, settings: Settings) -> Shares:
    """Return how many slots each graph and each workflow may have."""

    @lru_cache(_MOST_WORKFLOWS)
    def graph_of(workflow_id: str) -> str:
        try:
            return registry.serving(workflow_id).id
        except UnknownWorkflowError:
            return ""

    limits = {
        name: own.concurrency
        for name, own in settings.graphs.items()
        if own.concurrency is not None
    }
    return Shares(
        settings.worker.in_flight,
        graph_of=graph_of,
        graphs=registry.ids,
        of_many=set(registry.ids) - set(registry.exact_ids),
        limits=limits,
    )


def policy_of(settings: Settings, graph: NamedGraph | None = None) -> Policy:
    """Return the policy of a graph; without one, what holds for all."""
    own = None if graph is None else graph.settings or settings.graphs.get(graph.id)
    limits = settings.timeouts.of(own)
    return Policy(
        retry=(settings.retry if own is None else own.retry.over(settings.retry)).config(),
        run_s=_seconds(limits.run),
        attempt_s=_seconds(limits.attempt),
        idle_s=_seconds(limits.idle),
    )


def _seconds(limit: timedelta | None) -> float | None:
    return None if limit is None else limit.total_seconds()
