"""Which graph runs for which `workflow_id`: everything is imported and checked at start.

What belongs to an event loop (lifespans, factories that are coroutines or context managers, stores)
is opened there: by `open`, or else when the first event needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Self

from redrive.errors import SettingsError, UnknownWorkflowError
from redrive.events import WorkflowEvent
from redrive.graphs.graph_settings import GraphSettings
from redrive.graphs.import_paths import import_function, import_target, importable
from redrive.graphs.langgraph_json import FileGraph, read_langgraph_json
from redrive.graphs.loading import GraphMaker, GraphObject, factory_of
from redrive.graphs.open_graphs import LoadedGraph, OpenGraphs, Registered
from redrive.graphs.patterns import patterns_of

__all__ = [
    "Configured",
    "ContextMapper",
    "GraphRegistry",
    "GraphSource",
    "InputMapper",
    "LoadedGraph",
    "OutputMapper",
]

InputMapper = Callable[[WorkflowEvent], object]
"""Event -> the graph's input; may be `async`."""
ContextMapper = Callable[[WorkflowEvent], object]
"""Event -> the run's context; may be `async`."""
OutputMapper = Callable[..., object]
"""Last state -> result, or `GraphFailed`; may be `async`."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A graph that is given in Python or in a `langgraph.json`, and its settings."""

    source: GraphObject | FileGraph | str
    settings: GraphSettings


GraphSource = GraphObject | str | GraphSettings | FileGraph | Configured
"""A graph, a factory, an import path, all settings of one graph, or what a file names."""

_CLOSING_S = 10.0


class GraphRegistry:
    """The graphs of a worker, found by `workflow_id`.

    An id with `*`, `?` or `[` is a pattern: `team-*` serves all workflows whose id begins so, `*`
    serves those that no other serves.

    As an asynchronous context manager it opens all graphs and closes them; a worker does that
    itself. Without, each is opened on the event loop of the first event that needs it, and is
    closed when that loop ends its tasks, as `asyncio.run` does.

    Raises:
        SettingsError: One cannot be loaded; names the graph, its target and what to do.
    """

    def __init__(self, graphs: Mapping[str, GraphSource]) -> None:
        importable(Path.cwd())
        self._graphs = {name: _load(name, source) for name, source in graphs.items()}
        self._patterns = patterns_of(self._graphs)
        self._open: dict[asyncio.AbstractEventLoop, OpenGraphs] = {}
        self._limit_s: float | None = None

    @classmethod
    def from_settings(cls, graphs: Mapping[str, GraphSettings]) -> GraphRegistry:
        """Load the graphs of the settings `graphs.<id>.*`."""
        return cls(graphs)

    @classmethod
    def from_langgraph_json(cls, path: Path) -> GraphRegistry:
        """Load the graphs that a `langgraph.json` names; sets the environment as it says."""
        file = read_langgraph_json(path).apply()
        file.log()
        return cls(file.graphs)

    @property
    def ids(self) -> tuple[str, ...]:
        """What is registered, sorted."""
        return tuple(sorted(self._graphs))

    @property
    def exact_ids(self) -> tuple[str, ...]:
        """Those of them that are no patterns."""
        return tuple(name for name in self.ids if name not in self._patterns)

    @property
    def graphs(self) -> tuple[LoadedGraph, ...]:
        """All graphs that are loaded, sorted by id: not those that are yet to be opened."""
        found = (self._loaded(self._graphs[name]) for name in self.ids)
        return tuple(loaded for loaded in found if loaded is not None)

    @property
    def unopened(self) -> tuple[str, ...]:
        """The ids of graphs of which something is yet to be opened on this event loop, sorted."""
        opened = self._here()
        return tuple(
            name
            for name in self.ids
            if self._graphs[name].needs_loop and (opened is None or opened.get(name) is None)
        )

    def find(self, workflow_id: str) -> LoadedGraph:
        """Return the graph of exactly this id, else of the most specific pattern that fits.

        Raises:
            UnknownWorkflowError: There is none.
            SettingsError: It is made on the event loop, and was not opened there.
        """
        loaded = self._loaded(self.serving(workflow_id))
        if loaded is None:
            raise SettingsError(
                f"the graph of {workflow_id!r} is made on the event loop that runs it: "
                "use `async with registry:`"
            )
        return loaded

    def serving(self, workflow_id: str) -> Registered:
        """Return what was registered for this id, opened or not.

        Raises:
            UnknownWorkflowError: There is none.
        """
        exact = self._graphs.get(workflow_id)
        if exact is not None:
            return exact
        for pattern in self._patterns:
            if fnmatchcase(workflow_id, pattern):
                return self._graphs[pattern]
        raise UnknownWorkflowError(workflow_id, known=self.ids)

    def serves(self, workflow_id: str) -> bool:
        """Say whether there is a graph for this id."""
        try:
            self.serving(workflow_id)
        except UnknownWorkflowError:
            return False
        return True

    async def open(self, *, limit_s: float | None = None) -> None:
        """Open all graphs on this event loop; those that are open stay so.

        Args:
            limit_s: How long each part may take, also when it is opened again; None for no limit.

        Raises:
            SettingsError: One cannot be opened; what was opened is closed again.
        """
        self._limit_s = limit_s
        try:
            for name in self.ids:
                await self._opened(self._graphs[name])
        except BaseException:
            await self.close()
            raise

    async def open_for(self, workflow_id: str) -> LoadedGraph:
        """Return the graph that serves this id, opened on this event loop.

        Raises:
            UnknownWorkflowError: There is none.
            SettingsError: It cannot be opened.
        """
        return await self._opened(self.serving(workflow_id))

    async def close(self, *, limit_s: float = _CLOSING_S) -> None:
        """Close what is open on this event loop, within so many seconds; never raises for it."""
        opened = self._open.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.close(limit_s=limit_s)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _opened(self, graph: Registered) -> LoadedGraph:
        if graph.loaded is not None and not graph.needs_loop:
            return graph.loaded
        loop = asyncio.get_running_loop()
        opened = self._open.get(loop)
        if opened is None:
            # What was opened on a loop that has ended went with it.
            self._open = {known: its for known, its in self._open.items() if not known.is_closed()}
            opened = self._open[loop] = OpenGraphs()
        return await opened.open(graph, limit_s=self._limit_s)

    def _loaded(self, graph: Registered) -> LoadedGraph | None:
        opened = self._here() if graph.needs_loop else None
        return (None if opened is None else opened.get(graph.id)) or graph.loaded

    def _here(self) -> OpenGraphs | None:
        try:
            return self._open.get(asyncio.get_running_loop())
        except RuntimeError:  # no loop runs in this thread
            return None


def _load(name: str, source: GraphSource) -> Registered:
    what = f"graph {name!r}"
    match source:
        case Configured():
            return _configured(name, source.source, source.settings)
        case GraphSettings():
            if source.target is None:
                raise SettingsError(
                    f"graphs.{name}.target is missing: give the graph's import path, or name the "
                    "langgraph.json that has a graph of this id"
                )
            return _configured(name, source.target, source)
        case _:
            found, target = _imported(source, what)
    maker = GraphMaker.of(found, what=what, target=target, lifespan=False)
    return _made(Registered(name, maker), source)


def _configured(
    name: str, source: GraphObject | FileGraph | str, settings: GraphSettings
) -> Registered:
    what = f"graph {name!r}"
    found, target = _imported(source, what)
    lifespan = None
    if settings.lifespan is not None:
        its = f"{what}, its lifespan"
        lifespan = factory_of(
            import_target(settings.lifespan, what=its), what=its, target=settings.lifespan
        )
    graph = Registered(
        id=name,
        maker=GraphMaker.of(found, what=what, target=target, lifespan=lifespan is not None),
        settings=settings,
        input=_mapper(settings.input, f"{what}, its input"),
        output=_mapper(settings.output, f"{what}, its output"),
        context=_mapper(settings.context, f"{what}, its context"),
        lifespan=lifespan,
    )
    return _made(graph, source)


def _imported(source: GraphObject | FileGraph | str, what: str) -> tuple[object, str]:
    match source:
        case FileGraph():
            return source.imported(what=what), source.target
        case str():
            return import_target(source, what=what), source
        case _:
            return source, "the object given"


def _made(graph: Registered, source: object) -> Registered:
    """Load it, where that needs no event loop."""
    if isinstance(source, FileGraph):
        graph = replace(graph, store=source.store)
    compiled = graph.maker.make_now()
    return graph if compiled is None else replace(graph, loaded=graph.load(compiled))


def _mapper(target: str | None, what: str) -> Callable[..., object] | None:
    return None if target is None else import_function(target, what=what)
