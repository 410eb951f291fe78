"""From what was imported to a compiled graph. Nothing here knows which workflow it serves."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from redrive.errors import SettingsError
from redrive.graphs.import_paths import first_line

__all__ = ["CompiledGraph", "GraphObject", "as_compiled", "copy_of"]

CompiledGraph = Pregel[Any, Any, Any, Any]
Factory = Callable[[], object]
GraphObject = StateGraph[Any, Any, Any, Any] | CompiledGraph | Factory
"""A graph, compiled or not, or a function (also `async`) that takes nothing and returns one."""


def as_compiled(found: object, *, what: str, target: str) -> CompiledGraph:
    """Compile a `StateGraph`, take a compiled graph as it is, call a factory once.

    Raises:
        SettingsError: It is none of these, or it raised.
    """
    built = found if isinstance(found, StateGraph | Pregel) else _made(found, what, target)
    if isinstance(built, StateGraph):
        try:
            return built.compile()
        except Exception as error:
            raise SettingsError(
                f"{what}: {target} does not compile ({first_line(error)}): mend the graph"
            ) from error
    if isinstance(built, Pregel):
        return built
    raise SettingsError(
        f"{what}: {target} is a {type(built).__name__}, not a graph: "
        "name a StateGraph, a compiled graph, or a function that takes nothing and returns one"
    )


def copy_of(graph: CompiledGraph, **update: object) -> CompiledGraph:
    """Return a copy of the graph with other attributes, that reads its state back as it does.

    LangGraph's own copy forgets the types which that may become (`LANGGRAPH_STRICT_MSGPACK`):
    models and enums would come back as dicts and text.
    """
    copied = graph.copy(update=update)
    copied._serde_allowlist = graph._serde_allowlist  # noqa: SLF001 - nothing public carries it over
    return copied


def _made(factory: object, what: str, target: str) -> object:
    if not callable(factory):
        return factory
    try:
        inspect.signature(factory).bind()
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{what}: {target} cannot be called without arguments ({error}): "
            "name a graph, or a function that takes nothing and returns one"
        ) from error
    try:
        made = factory()
        if not inspect.isawaitable(made):
            return made
        # A thread of its own: the caller may, or may not, be inside an event loop.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _awaited(made)).result()
    except Exception as error:
        raise SettingsError(
            f"{what}: {target} raised when it was called ({first_line(error)}): mend it"
        ) from error


async def _awaited(made: Awaitable[object]) -> object:
    return await made
