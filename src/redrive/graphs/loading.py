"""From what was imported to a compiled graph. Nothing here knows which workflow it serves.

A graph, and a function that makes one, are loaded at once, in any thread. A coroutine function, a
context manager, and a function that takes what a lifespan yields are called on the event loop
that runs the graph: what they connect to belongs to that loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from redrive.errors import SettingsError
from redrive.graphs.holding import entered, must_be_opened
from redrive.graphs.import_paths import first_line

__all__ = [
    "CompiledGraph",
    "Factory",
    "GraphMaker",
    "GraphObject",
    "called",
    "copy_of",
    "factory_of",
]

CompiledGraph = Pregel[Any, Any, Any, Any]
GraphObject = StateGraph[Any, Any, Any, Any] | CompiledGraph | Callable[..., object]
"""A graph, compiled or not, or a function that makes one, also as an `async` one, and as a context
manager of `contextlib`. It may take a `RunnableConfig`, and `lifespan`."""

_WHAT_TO_NAME = "name a StateGraph, a compiled graph, or a function that returns one"


class FactoryArgument(Enum):
    """What a factory's parameter gets."""

    CONFIG = auto()
    LIFESPAN = auto()


@dataclass(frozen=True, slots=True)
class Factory:
    """A function that makes something, and what its parameters get.

    Args:
        function: The function.
        given: What each parameter gets that gets something.
        on_loop: Whether it is to be called on the event loop.
        what: Names who needs it, in messages.
        target: Its import path, as it was given.
    """

    function: Callable[..., object]
    given: Mapping[str, FactoryArgument]
    on_loop: bool
    what: str
    target: str

    @property
    def takes_lifespan(self) -> bool:
        """Whether it wants what the graph's lifespan yields."""
        return FactoryArgument.LIFESPAN in self.given.values()

    def call(self, lifespan: object = None) -> object:
        """Call it, with a config of its own."""
        bound = inspect.signature(self.function).bind_partial() if self.given else None
        if bound is None:
            return self.function()
        for name, given in self.given.items():
            bound.arguments[name] = _config() if given is FactoryArgument.CONFIG else lifespan
        return self.function(*bound.args, **bound.kwargs)

    def failed(self, error: BaseException) -> SettingsError:
        """Say that it raised."""
        advice = "fix it"
        if "no running event loop" in str(error):
            advice = "make it an async function: those are called on the event loop"
        return SettingsError(
            f"{self.what}: {self.target} raised when it was called ({first_line(error)}): {advice}"
        )


def factory_of(
    found: object, *, what: str, target: str, lifespan: bool = False, config: bool = True
) -> Factory:
    """Look at a function that makes something, without calling it.

    Args:
        found: What was imported.
        what: Names who needs it, in messages.
        target: Its import path.
        lifespan: Whether there is a lifespan whose value it may take.
        config: Whether it may take a `RunnableConfig`.

    Raises:
        SettingsError: It cannot be called with what there is to give.
    """
    if not callable(found):
        raise SettingsError(f"{what}: {target} is a {type(found).__name__}: name a function")
    if inspect.isasyncgenfunction(found) or inspect.isgeneratorfunction(found):
        kind = "asynccontextmanager" if inspect.isasyncgenfunction(found) else "contextmanager"
        raise SettingsError(f"{what}: {target} is a generator: decorate it with contextlib.{kind}")
    try:
        parameters = list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):
        parameters = []  # of a builtin: it is called without arguments
    given: dict[str, FactoryArgument] = {}
    unknown: list[inspect.Parameter] = []
    for parameter in parameters:
        wanted = _wanted(parameter)
        if (
            wanted is not None
            and {FactoryArgument.LIFESPAN: lifespan, FactoryArgument.CONFIG: config}[wanted]
        ):
            given[parameter.name] = wanted
        elif parameter.default is parameter.empty and parameter.kind not in _COLLECTING:
            unknown.append(parameter)
    # LangGraph's rule: the only parameter is the config, whatever its name.
    if config and len(unknown) == len(parameters) == 1 and _may_be_config(unknown[0]):
        given, unknown = {unknown[0].name: FactoryArgument.CONFIG}, []
    if unknown:
        raise SettingsError(_refusal(unknown[0], what, target, lifespan=lifespan, config=config))
    inner = _inner(found)
    on_loop = (
        inspect.iscoroutinefunction(inner)
        or inspect.iscoroutinefunction(inspect.getattr_static(type(inner), "__call__", None))
        or inspect.isasyncgenfunction(inner)
        or inspect.isgeneratorfunction(inner)
    )
    return Factory(found, given, on_loop, what, target)


async def called(factory: Factory, stack: AsyncExitStack, *, lifespan: object = None) -> object:
    """Call a factory on the running loop; await or enter what it returns.

    A function that is not a coroutine function is called in a thread: it may block.

    Raises:
        SettingsError: It raised.
    """
    try:
        if factory.on_loop:
            made = factory.call(lifespan)
        else:
            made = await asyncio.to_thread(factory.call, lifespan)
        return made if isinstance(made, StateGraph | Pregel) else await entered(made, stack)
    except (Exception, SystemExit) as error:
        raise factory.failed(error) from error


@dataclass(frozen=True, slots=True)
class GraphMaker:
    """A graph, or what makes it, as it was imported.

    Args:
        found: The graph, or a factory.
        what: Names the graph, in messages.
        target: Its import path.
    """

    found: object
    what: str
    target: str

    @classmethod
    def of(cls, found: object, *, what: str, target: str, lifespan: bool) -> GraphMaker:
        """Look at what was imported; calls nothing.

        Raises:
            SettingsError: It is no graph, and cannot make one with what there is to give.
        """
        if not isinstance(found, StateGraph | Pregel) and callable(found):
            found = factory_of(found, what=what, target=target, lifespan=lifespan)
        return cls(found, what, target)

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the modules that it is made in, as far as they can be told."""
        if isinstance(self.found, Factory):
            return (str(getattr(_inner(self.found.function), "__module__", "")),)
        attribute = self.target.rpartition(":")[2].partition(".")[0]
        if not attribute.isidentifier():
            return ()  # it was given as an object
        modules = list(sys.modules.items())
        return tuple(name for name, module in modules if _vars(module).get(attribute) is self.found)

    def make_now(self) -> CompiledGraph | None:
        """Return the compiled graph, or None where it has to be made on the event loop.

        Raises:
            SettingsError: It is no graph, does not compile, or its factory raised.
        """
        if not isinstance(self.found, Factory):
            return self._compiled(self.found)
        if self.found.on_loop or self.found.takes_lifespan:
            return None
        try:
            made = self.found.call()
        except (Exception, SystemExit) as error:
            raise self.found.failed(error) from error
        if not isinstance(made, StateGraph | Pregel) and must_be_opened(made):
            # It is called again there; this one was only to be looked at.
            if inspect.iscoroutine(made):
                made.close()
            return None
        return self._compiled(made)

    async def make(self, stack: AsyncExitStack, *, lifespan: object) -> CompiledGraph:
        """Call the factory on the running loop, and compile what it gives.

        Raises:
            SettingsError: As `make_now`.
        """
        if not isinstance(self.found, Factory):
            return self._compiled(self.found)
        return self._compiled(await called(self.found, stack, lifespan=lifespan))

    def _compiled(self, built: object) -> CompiledGraph:
        if isinstance(built, StateGraph):
            try:
                return built.compile()
            except Exception as error:
                raise SettingsError(
                    f"{self.what}: {self.target} does not compile ({first_line(error)}): "
                    "fix the graph"
                ) from error
        if isinstance(built, Pregel):
            return built
        advice = _WHAT_TO_NAME
        if type(built).__name__ == "RemoteGraph":
            advice = "make it a node of a StateGraph, which is then run and kept here"
        raise SettingsError(
            f"{self.what}: {self.target} is a {type(built).__name__}, not a graph: {advice}"
        )


def _vars(module: object) -> Mapping[str, object]:
    found = getattr(module, "__dict__", None)
    return found if isinstance(found, dict) else {}


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _wanted(parameter: inspect.Parameter) -> FactoryArgument | None:
    if parameter.kind in _COLLECTING:
        return None
    if parameter.name == "lifespan":
        return FactoryArgument.LIFESPAN
    # As text: an annotation may be one, and its names need not be importable.
    if parameter.name == "config" or "RunnableConfig" in str(parameter.annotation):
        return FactoryArgument.CONFIG
    return None


def _may_be_config(parameter: inspect.Parameter) -> bool:
    return parameter.name != "lifespan" and "ServerRuntime" not in str(parameter.annotation)


def _refusal(
    parameter: inspect.Parameter, what: str, target: str, *, lifespan: bool, config: bool
) -> str:
    if parameter.name == "lifespan" and not lifespan:
        return (
            f"{what}: {target} takes `lifespan`, and the graph has none: set graphs.ID.lifespan "
            "to the async context manager that yields it"
        )
    known = [name for name, there in (("config", config), ("lifespan", lifespan)) if there]
    may = f"only {' and '.join(known)} can be given" if known else "nothing can be given"
    return (
        f"{what}: {target} cannot be called: its parameter {parameter.name!r} is required, and "
        f"{may}; give it a default"
    )


def copy_of(graph: CompiledGraph, **update: object) -> CompiledGraph:
    """Return a copy of the graph with other attributes, that reads its state back as it does.

    LangGraph's own copy forgets the types which that may become (`LANGGRAPH_STRICT_MSGPACK`):
    models and enums would come back as dicts and text.
    """
    copied = graph.copy(update=update)
    copied._serde_allowlist = graph._serde_allowlist  # noqa: SLF001 - nothing public carries it over
    return copied


def _inner(function: object) -> object:
    """Return the function that the caller wrote, inside of decorators and partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(function) if callable(function) else function


def _config() -> RunnableConfig:
    # Without a recursion limit: a factory may bind its config to the graph.
    return RunnableConfig(tags=[], metadata={}, configurable={})
