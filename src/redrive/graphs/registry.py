"""Which graph runs for which `workflow_id`: everything is imported and checked at start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from redrive.errors import SettingsError, UnknownWorkflowError
from redrive.events import WorkflowEvent
from redrive.graphs.import_paths import import_file, import_function, import_target, importable
from redrive.graphs.langgraph_json import FileGraph, read_langgraph_json
from redrive.graphs.loading import CompiledGraph, GraphObject, as_compiled, copy_of
from redrive.graphs.options import GraphSettings
from redrive.graphs.patterns import patterns_of
from redrive.graphs.runs import GraphVersion
from redrive.graphs.watched_nodes import watch_nodes

__all__ = [
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
GraphSource = GraphObject | str | GraphSettings
"""A graph, a factory, an import path, or all settings of one graph."""

_DEFAULT_RECURSION_LIMIT = 100


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph that is ready to run, with what turns events into input and states into results."""

    id: str
    compiled: CompiledGraph
    version: str
    input: InputMapper | None = None
    output: OutputMapper | None = None
    context: ContextMapper | None = None
    configurable: tuple[str, ...] = ()
    recursion_limit: int = _DEFAULT_RECURSION_LIMIT
    settings: GraphSettings | None = None

    @property
    def named(self) -> GraphVersion:
        """Its id and version, for those who do not run it."""
        return GraphVersion(name=self.id, version=self.version)

    @property
    def finishes_siblings(self) -> bool:
        """Whether parallel nodes may end after one of them has failed."""
        return self.settings is None or self.settings.on_failure == "finish_siblings"

    @property
    def unkept(self) -> CompiledGraph:
        """The graph without any checkpointer, also of its own."""
        if self.compiled.checkpointer is None:
            return self.compiled
        return copy_of(self.compiled, checkpointer=None)


class GraphRegistry:
    """The graphs of a worker, found by `workflow_id`.

    An id with `*`, `?` or `[` is a pattern: `team-*` serves all workflows whose id begins so, `*`
    serves those that no other serves.

    Raises:
        SettingsError: One cannot be loaded; names the graph, its target and what to do.
    """

    def __init__(self, graphs: Mapping[str, GraphSource | FileGraph]) -> None:
        importable(Path.cwd())
        self._graphs = {name: _load(name, source) for name, source in graphs.items()}
        self._patterns = patterns_of(self._graphs)

    @classmethod
    def from_settings(cls, graphs: Mapping[str, GraphSettings]) -> GraphRegistry:
        """Load the graphs of the settings `graphs.<id>.*`."""
        return cls(graphs)

    @classmethod
    def from_langgraph_json(cls, path: Path) -> GraphRegistry:
        """Load the graphs that a `langgraph.json` names."""
        return cls(read_langgraph_json(path))

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
        """All graphs, sorted by id."""
        return tuple(self._graphs[name] for name in self.ids)

    def find(self, workflow_id: str) -> LoadedGraph:
        """Return the graph of exactly this id, else of the most specific pattern that fits.

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


def _load(name: str, source: GraphSource | FileGraph) -> LoadedGraph:
    what = f"graph {name!r}"
    match source:
        case GraphSettings():
            return _configured(name, source)
        case FileGraph():
            found = import_file(source.path, source.attribute, root=source.root, what=what)
            target = f"{source.path}:{source.attribute}"
        case str():
            return _configured(name, GraphSettings(target=source))
        case _:
            found, target = source, "the object given"
    compiled = as_compiled(found, what=what, target=target)
    return LoadedGraph(
        id=name,
        compiled=watch_nodes(compiled, workflow=name),
        version=_drawn(compiled, what),
    )


def _configured(name: str, settings: GraphSettings) -> LoadedGraph:
    what = f"graph {name!r}"
    found = import_target(settings.target, what=what)
    compiled = as_compiled(found, what=what, target=settings.target)
    return LoadedGraph(
        id=name,
        compiled=watch_nodes(compiled, workflow=name),
        version=settings.version or _drawn(compiled, what),
        input=_mapper(settings.input, f"{what}, its input"),
        output=_mapper(settings.output, f"{what}, its output"),
        context=_mapper(settings.context, f"{what}, its context"),
        configurable=settings.configurable,
        recursion_limit=settings.recursion_limit,
        settings=settings,
    )


def _mapper(target: str | None, what: str) -> Callable[..., object] | None:
    return None if target is None else import_function(target, what=what)


def _drawn(compiled: CompiledGraph, what: str) -> str:
    """Hash what the graph looks like: names and edges, in an order that every process shares."""
    try:
        drawing = compiled.get_graph(xray=True)
    except Exception as error:
        raise SettingsError(
            f"{what}: it cannot be drawn ({error}): mend its edges, or give it a `version`"
        ) from error
    edges = [(e.source, e.target, e.conditional, str(e.data)) for e in drawing.edges]
    shape = json.dumps([sorted(drawing.nodes), sorted(edges)])
    return hashlib.sha256(shape.encode()).hexdigest()[:12]
