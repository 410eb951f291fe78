"""From an import path to a compiled graph. Nothing here knows which workflow it serves."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from redrive.errors import SettingsError

__all__ = [
    "CompiledGraph",
    "GraphObject",
    "as_compiled",
    "import_file",
    "import_function",
    "import_target",
    "importable",
]

CompiledGraph = Pregel[Any, Any, Any, Any]
Factory = Callable[[], object]
GraphObject = StateGraph[Any, Any, Any, Any] | CompiledGraph | Factory
"""A graph, compiled or not, or a function (also `async`) that takes nothing and returns one."""


def importable(folder: Path) -> None:
    """Let modules of `folder` be imported, before others of the same name."""
    text = str(folder.resolve())
    if text not in sys.path:
        sys.path.insert(0, text)


def import_target(target: str, *, what: str) -> object:
    """Return what `package.module:attribute` names.

    Raises:
        SettingsError: There is no such thing; the message begins with `what`.
    """
    module_name, colon, attribute = target.partition(":")
    if not (colon and module_name and attribute):
        raise SettingsError(
            f"{what}: {target!r} is not an import path: write it as package.module:attribute"
        )
    return _attribute(_module(module_name, what=what, target=target), attribute, what, target)


def import_file(path: Path, attribute: str, *, root: Path, what: str) -> object:
    """Return an attribute of a Python file, imported under a name that other processes find too.

    A module's name is stored with the checkpoints of its types; so it is the path below `root`.

    Raises:
        SettingsError: The file or the attribute is missing, or the module's name is taken.
    """
    target = f"{path}:{attribute}"
    if not path.is_file():
        raise SettingsError(f"{what}: there is no file {str(path)!r}: mend the path in {root}")
    folder = root if path.is_relative_to(root) else path.parent
    importable(folder)
    parts = path.relative_to(folder).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise SettingsError(
            f"{what}: {'/'.join(parts)!r} cannot be imported: "
            "name its folders and the file with letters, digits and underscores"
        )
    module = _module(".".join(parts), what=what, target=target)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path.resolve():
        raise SettingsError(
            f"{what}: the module name {'.'.join(parts)!r} is taken by {found}: rename {str(path)!r}"
        )
    return _attribute(module, attribute, what, target)


def import_function(target: str, *, what: str) -> Callable[..., object]:
    """Return the function that `package.module:attribute` names.

    Raises:
        SettingsError: There is none.
    """
    found = import_target(target, what=what)
    if not callable(found):
        raise SettingsError(
            f"{what}: {target!r} is a {type(found).__name__}, which cannot be called: "
            "name a function"
        )
    return found


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
                f"{what}: {target} does not compile ({_say(error)}): mend the graph"
            ) from error
    if isinstance(built, Pregel):
        return built
    raise SettingsError(
        f"{what}: {target} is a {type(built).__name__}, not a graph: "
        "name a StateGraph, a compiled graph, or a function that takes nothing and returns one"
    )


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
            f"{what}: {target} raised when it was called ({_say(error)}): mend it"
        ) from error


async def _awaited(made: Awaitable[object]) -> object:
    return await made


def _module(name: str, *, what: str, target: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise SettingsError(
                f"{what}: there is no module {name!r} ({target}): "
                "start in the folder that holds it, or install its package"
            ) from error
        raise SettingsError(
            f"{what}: {target} cannot be imported ({error}): install what it imports"
        ) from error
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"{what}: {target} raised while it was imported ({_say(error)}): mend the module"
        ) from error


def _attribute(module: object, attribute: str, what: str, target: str) -> object:
    found = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise SettingsError(
                f"{what}: {target} does not exist ({error}): name what the module holds"
            ) from error
    return found


def _say(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
