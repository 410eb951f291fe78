"""The graphs as they are open on one event loop: their lifespans, stores and factories.

What two graphs name alike (a lifespan, the store of a `langgraph.json`) is opened once for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from langgraph.store.base import BaseStore

from redrive.clock import SYSTEM
from redrive.graphs.attempt_ends import GraphVersion
from redrive.graphs.graph_settings import GraphSettings
from redrive.graphs.holding import Held
from redrive.graphs.loading import CompiledGraph, Factory, GraphMaker, called, copy_of
from redrive.graphs.recursion import recursion_limit
from redrive.graphs.state_types import NO_TYPES, GraphTypes, types_of
from redrive.graphs.stores import StoreSource
from redrive.graphs.versions import version_of
from redrive.graphs.watched_nodes import watch_nodes

__all__ = ["LoadedGraph", "OpenGraphs", "Registered"]

_LEAST_S = 0.5


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph that is ready to run, with what turns events into input and states into results.

    `lifespan` is what its lifespan has yielded; None where it has none, or it is not open.
    """

    id: str
    compiled: CompiledGraph
    version: str
    input: Callable[..., object] | None = None
    output: Callable[..., object] | None = None
    context: Callable[..., object] | None = None
    recursion_limit: int = 100
    settings: GraphSettings | None = None
    lifespan: object = None
    state_types: GraphTypes = NO_TYPES

    @property
    def named(self) -> GraphVersion:
        """Its id and version, for those who do not run it."""
        return GraphVersion(name=self.id, version=self.version)

    @property
    def configurable(self) -> tuple[str, ...]:
        """The names in an event's config that a run gets."""
        return () if self.settings is None else self.settings.configurable

    @property
    def siblings_s(self) -> float:
        """How long parallel nodes have to end after one of them has failed."""
        settings = self.settings or GraphSettings()
        if settings.on_failure == "cancel":
            return 0.0
        return settings.sibling_timeout.total_seconds()

    @property
    def unkept(self) -> CompiledGraph:
        """The graph without any checkpointer, also of its own."""
        if self.compiled.checkpointer is None:
            return self.compiled
        return copy_of(self.compiled, checkpointer=None)


@dataclass(frozen=True, slots=True)
class Registered:
    """A graph as it was imported; `loaded` is None where it is made on the event loop.

    Args:
        id: The workflow's id, or a pattern.
        maker: The graph, or its factory.
        settings: Its own; None where it was given without any.
        input: Event -> the graph's input.
        output: Last state -> result.
        context: Event -> the run's context.
        lifespan: What is opened before it; None for nothing.
        store: What it gets where it has none of its own.
        loaded: The graph, where it needs no event loop.
    """

    id: str
    maker: GraphMaker
    settings: GraphSettings | None = None
    input: Callable[..., object] | None = None
    output: Callable[..., object] | None = None
    context: Callable[..., object] | None = None
    lifespan: Factory | None = None
    store: BaseStore | StoreSource | None = None
    loaded: LoadedGraph | None = None

    @property
    def needs_loop(self) -> bool:
        """Whether something of it is opened on the event loop that runs it."""
        return self.loaded is None or self.lifespan is not None or self._store_is_opened

    @property
    def _store_is_opened(self) -> bool:
        return isinstance(self.store, StoreSource)

    def load(self, compiled: CompiledGraph, *, lifespan: object = None) -> LoadedGraph:
        """Put the graph together with what belongs to it."""
        settings = self.settings
        if compiled.store is None and isinstance(self.store, BaseStore):
            compiled = copy_of(compiled, store=self.store)
        return LoadedGraph(
            id=self.id,
            compiled=watch_nodes(compiled, workflow=self.id),
            version=(settings and settings.version) or version_of(compiled),
            input=self.input,
            output=self.output,
            context=self.context,
            recursion_limit=recursion_limit(
                compiled, setting=None if settings is None else settings.recursion_limit
            ),
            settings=settings,
            lifespan=lifespan,
            state_types=types_of(compiled, made_in=self.maker.modules),
        )


@dataclass(frozen=True, slots=True)
class _Opened:
    """A graph, and what is held for it: by itself, and with others."""

    graph: LoadedGraph
    own: Held[Any] | None
    shared: tuple[Held[Any], ...]

    @property
    def lost(self) -> bool:
        return any(held.lost for held in (self.own, *self.shared) if held is not None)


class OpenGraphs:
    """The graphs that are open on one event loop, and what is held for them."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._held: list[Held[Any]] = []
        self._shared: dict[object, tuple[Held[Any], object]] = {}
        self._graphs: dict[str, _Opened] = {}

    def get(self, name: str) -> LoadedGraph | None:
        """Return the graph of this id, if it is open."""
        found = self._graphs.get(name)
        return None if found is None or found.lost else found.graph

    async def open(self, graph: Registered, *, limit_s: float | None) -> LoadedGraph:
        """Return the graph, opened if it was not, or if something of it was lost since.

        Raises:
            SettingsError: It cannot be opened, or not within `limit_s` seconds.
        """
        async with self._opening:
            loaded = self.get(graph.id)
            if loaded is not None:
                return loaded
            await self._forget(graph.id)
            opened = self._graphs[graph.id] = await self._open(graph, limit_s)
            return opened.graph

    async def _open(self, graph: Registered, limit_s: float | None) -> _Opened:
        shared: list[Held[Any]] = []
        value: object = None
        if graph.lifespan is not None:
            factory = graph.lifespan
            what = f"{factory.what}, {factory.target}"
            held, value = await self._share(
                what, factory.function, partial(called, factory), limit_s
            )
            shared.append(held)
        if isinstance(graph.store, StoreSource):
            what = f"the store {graph.store.path}"
            held, store = await self._share(what, graph.store, graph.store.opened, limit_s)
            shared.append(held)
            graph = replace(graph, store=store)
        if graph.loaded is not None:
            loaded = graph.load(graph.loaded.compiled, lifespan=value)
            return _Opened(loaded, None, tuple(shared))
        what = f"graph {graph.id!r}, {graph.maker.target}"
        own, compiled = await self._hold(what, partial(graph.maker.make, lifespan=value), limit_s)
        return _Opened(graph.load(compiled, lifespan=value), own, tuple(shared))

    async def _share(
        self,
        what: str,
        key: object,
        opened: Callable[[AsyncExitStack], Awaitable[Any]],
        limit_s: float | None,
    ) -> tuple[Held[Any], Any]:
        found = self._shared.get(key)
        if found is None or found[0].lost:
            found = self._shared[key] = await self._hold(what, opened, limit_s)
        return found

    async def _hold(
        self,
        what: str,
        opened: Callable[[AsyncExitStack], Awaitable[Any]],
        limit_s: float | None,
    ) -> tuple[Held[Any], Any]:
        held: Held[Any] = Held(what, opened)
        value = await held.open(limit_s=limit_s)
        self._held.append(held)
        return held, value

    async def _forget(self, name: str) -> None:
        """Close what a graph that lost a part of it had for itself."""
        found = self._graphs.pop(name, None)
        if found is not None and found.own is not None:
            await found.own.close(limit_s=_LEAST_S)
        own = None if found is None else found.own
        self._held = [held for held in self._held if held is not own and not held.lost]

    async def close(self, *, limit_s: float) -> None:
        """Close everything, the latest first, within so many seconds and a moment.

        What is just being opened is not waited for: it is closed when its loop ends.
        """
        deadline = SYSTEM.monotonic() + limit_s
        self._graphs.clear()
        self._shared.clear()
        while self._held and (left_s := deadline - SYSTEM.monotonic()) > 0:
            await self._held.pop().close(limit_s=left_s)
        rest, self._held = self._held, []
        await asyncio.gather(*(held.close(limit_s=_LEAST_S) for held in rest))
