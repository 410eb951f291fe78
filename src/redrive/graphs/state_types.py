"""Which types a checkpoint may become when it is read: an allow list, told by the graphs.

A checkpoint names the types of what it holds, and a serialiser calls them. Whoever can write to the
file could name any function of any module. So none is called that is not listed: what LangGraph
itself takes for safe, the types of the graphs' own schemas and those that their functions say they
return, data types of the modules that the graphs are made of, what clients of models answer with,
and those of `checkpoints.allowed_types`. [P15]
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import site
import sys
import sysconfig
import threading
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypeVar, get_args, get_origin

from langgraph.func import _TaskFunction
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from pydantic import BaseModel
from typing_extensions import TypeAliasType, is_typeddict

from redrive.graphs.loading import CompiledGraph

__all__ = ["NO_TYPES", "AllowedTypes", "GraphTypes", "TypeName", "types_of"]

TypeName = tuple[str, str]
"""A module, and a name in it."""

_MOST_TYPES = 5_000
# Those that LangGraph's own list leaves out, and agents keep in their states.
_DATA_OF_LIBRARIES: frozenset[TypeName] = frozenset(
    {
        ("pydantic.types", "SecretStr"),
        ("pydantic.types", "SecretBytes"),
        ("langchain_core.agents", "AgentAction"),
        ("langchain_core.agents", "AgentActionMessageLog"),
        ("langchain_core.agents", "AgentFinish"),
        ("langchain_core.agents", "AgentStep"),
        ("langchain_core.documents.base", "Blob"),
        ("langchain_core.outputs.chat_generation", "ChatGeneration"),
        ("langchain_core.outputs.chat_generation", "ChatGenerationChunk"),
        ("langchain_core.outputs.chat_result", "ChatResult"),
        ("langchain_core.outputs.generation", "Generation"),
        ("langchain_core.outputs.generation", "GenerationChunk"),
        ("langchain_core.outputs.llm_result", "LLMResult"),
        ("langchain_core.prompt_values", "ChatPromptValue"),
        ("langchain_core.prompt_values", "StringPromptValue"),
        ("langgraph.store.base", "SearchItem"),
    }
)
# What clients of models answer with, and graphs keep as it came: nothing but data.
_DATA_PACKAGES = (
    "anthropic.types",
    "google.genai.types",
    "groq.types",
    "mcp.types",
    "mcp_types",
    "openai.types",
)
# Modules that are nobody's own, though nodes and schemas come from them.
_LIBRARIES = frozenset({"pydantic", "redrive", "typing_extensions"}) | sys.stdlib_module_names
# Where everything that is installed lies side by side.
_LIBRARY_FOLDERS = frozenset(
    Path(folder).resolve() for folder in (*sysconfig.get_paths().values(), *site.getsitepackages())
)
_LIBRARY_PREFIXES = ("langchain", "langgraph")


@dataclass(frozen=True, slots=True)
class GraphTypes:
    """What one graph may keep in its state: types by name, and whose data types.

    `folders` are those that its code is imported from: modules beside it are its team's as well.
    """

    named: frozenset[TypeName] = frozenset()
    packages: frozenset[str] = frozenset()
    folders: frozenset[Path] = frozenset()


NO_TYPES = GraphTypes()
"""Of a graph that keeps what JSON has, and nothing else."""


def types_of(graph: CompiledGraph, *, made_in: Iterable[str] = ()) -> GraphTypes:
    """Look at the schemas of a graph and of its subgraphs, and at where their code lies.

    Args:
        graph: Compiled.
        made_in: Names of modules that the graph is made in.
    """
    named: set[TypeName] = set()
    modules = set(made_in)
    subgraphs = (inner for _, inner in graph.get_subgraphs(recurse=True))
    for one in (graph, *(inner for inner in subgraphs if isinstance(inner, Pregel))):
        functions = [*_functions_of(one)]
        modules |= {function.__module__ for function in functions}
        for kind in _classes_within(filter(None, map(_returned_by, functions))):
            if _is_data(kind):
                named.add((kind.__module__, kind.__name__))
        for kind in _classes_within(_schemas_of(one)):
            modules.add(kind.__module__)
            if _is_data(kind):
                named.add((kind.__module__, kind.__name__))
    own = {module for module in modules if module and not _is_library(module.partition(".")[0])}
    packages = frozenset(module.partition(".")[0] for module in own)
    folders = frozenset(folder for module in own if (folder := _folder_of(module)) is not None)
    return GraphTypes(frozenset(named), packages, folders)


class AllowedTypes(Collection[TypeName]):
    """The allow list of one process; grows with the graphs that it runs. Safe from any thread.

    Args:
        given: `module.Class`, or `package.*` for the data types (pydantic models, dataclasses,
            enums, named tuples) of a package.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        given = tuple(given)
        self._named: set[TypeName] = set(_DATA_OF_LIBRARIES)
        self._named |= {_split(name) for name in given if not name.endswith(".*")}
        packages = (name[:-2] for name in given if name.endswith(".*"))
        self._packages = (*_DATA_PACKAGES, *packages)
        self._own: set[str] = set()
        self._folders: set[Path] = set()
        self._known: set[TypeName] = set()
        self._here = threading.local()

    def add(self, types: GraphTypes) -> None:
        """Allow what a graph may keep in its state."""
        self._named |= types.named
        self._own |= types.packages
        self._folders |= types.folders

    @contextlib.contextmanager
    def asked(self) -> Iterator[list[TypeName]]:
        """Note what is refused meanwhile, in this thread."""
        refused: list[TypeName] = []
        before = getattr(self._here, "refused", None)
        self._here.refused = refused
        try:
            yield refused
        finally:
            self._here.refused = before

    def __contains__(self, name: object) -> bool:
        """Say whether the type of this module and name may be made."""
        if not (isinstance(name, tuple) and [type(part) for part in name] == [str, str]):
            return False
        if name in self._known:
            return True
        if self._is_allowed(*name):
            self._known.add(name)
            return True
        refused = getattr(self._here, "refused", None)
        if refused is not None and name not in refused and not _is_gone(*name):
            refused.append(name)
        return False

    def __iter__(self) -> Iterator[TypeName]:
        """Give those that are listed by name."""
        return iter(sorted(self._named))

    def __len__(self) -> int:
        """Count them."""
        return len(self._named)

    def _is_allowed(self, module: str, name: str) -> bool:
        given = any(module == one or module.startswith(f"{one}.") for one in self._packages)
        if (module, name) in self._named or given:
            # Somebody has named it: it may be imported for that.
            with contextlib.suppress(Exception):
                importlib.import_module(module)
            kind = _loaded(module, name)
            return inspect.isclass(kind) and (not given or _is_data(kind))
        # What is not loaded is not imported: to import a module runs it.
        return _is_data(_loaded(module, name)) and (
            module.partition(".")[0] in self._own or _folder_of(module) in self._folders
        )


def _split(name: str) -> TypeName:
    module, _, kind = name.rpartition(".")
    return module, kind


def _loaded(module: str, name: str) -> object:
    return vars(sys.modules[module]).get(name) if module in sys.modules else None


def _folder_of(module: str) -> Path | None:
    """Return the folder that a module is imported from; None: it is one of libraries, or none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(file, str):
        return None
    path = Path(file).resolve()
    depth = module.count(".") + (path.name == "__init__.py")
    folder = path.parents[depth] if depth < len(path.parents) else None
    return None if folder is None or folder in _LIBRARY_FOLDERS else folder


def _is_gone(module: str, name: str) -> bool:
    """Say that there is no such type: a class inside of a function, or one that was renamed.

    LangGraph gives back what it was made of, and logs it; `checkpoints.verify` sees it coming.
    """
    return module in sys.modules and name not in vars(sys.modules[module])


def _is_data(kind: object) -> bool:
    """Say whether this is a class of data, whose instances its fields make."""
    if not inspect.isclass(kind):
        return False
    if issubclass(kind, BaseModel | Enum) or dataclasses.is_dataclass(kind):
        return True
    old_model = sys.modules.get("pydantic.v1.main")
    is_old = old_model is not None and issubclass(kind, old_model.BaseModel)
    return is_old or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def _is_library(package: str) -> bool:
    return package in _LIBRARIES or package.startswith(_LIBRARY_PREFIXES)


def _schemas_of(graph: CompiledGraph) -> Iterator[object]:
    if isinstance(graph, CompiledStateGraph):
        builder = graph.builder
        yield from (builder.state_schema, builder.input_schema, builder.output_schema)
        yield from (node.input_schema for node in builder.nodes.values())
        for branches in builder.branches.values():
            yield from (branch.input_schema for branch in branches.values())
    for channel in graph.channels.values():
        for name in ("ValueType", "UpdateType"):
            with contextlib.suppress(Exception):  # someone's own channel may not tell
                yield getattr(channel, name)


def _functions_of(graph: CompiledGraph) -> Iterator[Callable[..., object]]:
    left: list[Any] = [node.bound for node in graph.nodes.values()]
    seen: set[Callable[..., object]] = set()
    for _ in range(_MOST_TYPES):
        if not left:
            return
        found = left.pop()
        if inspect.isfunction(found):
            function = inspect.unwrap(found)
            if function not in seen:
                seen.add(function)
                yield function
                left += _tasks_of(function)
            continue
        left += [
            part
            for name in ("func", "afunc", "bound", "__func__", "__wrapped__")
            if (part := getattr(found, name, None)) is not None and not isinstance(part, str)
        ]
        left += getattr(found, "steps", ())


def _tasks_of(function: Callable[..., object]) -> list[object]:
    """Return the functions with `@task` that a function names: what they return is stored."""
    try:
        named = inspect.getclosurevars(function)
    except (TypeError, ValueError):  # a cell that is empty yet
        return []
    values = (*named.globals.values(), *named.nonlocals.values())
    # By its type: what a graph's own code holds may raise whatever is asked of it.
    return [value.func for value in values if issubclass(type(value), _TaskFunction)]


def _returned_by(function: Callable[..., object]) -> object:
    """Return the type that a function of the graph's own code says that it returns."""
    if _is_library(function.__module__.partition(".")[0]):
        return None
    try:
        return typing.get_type_hints(function, include_extras=True).get("return")
    except Exception:  # noqa: BLE001 - a name that is not there at run time
        return None


def _classes_within(roots: Iterable[object]) -> Iterator[type]:
    """Give every class that the types are made of, at any depth, each once."""
    left: list[Any] = list(roots)
    seen: dict[int, object] = {}
    while left and len(seen) < _MOST_TYPES:
        found = left.pop()
        if found is None or id(found) in seen:
            continue
        seen[id(found)] = found
        left += _parts(found)
        if inspect.isclass(found) and get_origin(found) is None:
            yield found


def _parts(found: Any) -> list[object]:  # noqa: ANN401 - any type
    parts: list[object] = []
    origin, arguments = get_origin(found), get_args(found)
    if origin is Annotated:
        parts = [arguments[0]]
    elif origin is Literal:
        parts = [type(argument) for argument in arguments]
    elif origin is not None:
        parts = [origin, *(one for one in arguments if not isinstance(one, list))]
    elif isinstance(found, TypeAliasType):
        parts = [found.__value__]
    elif isinstance(found, TypeVar):
        parts = [found.__bound__, *found.__constraints__]
    elif isinstance(found, NewType):
        parts = [found.__supertype__]
    elif inspect.isclass(found) and (_is_data(found) or is_typeddict(found)):
        parts = _fields_of(found)
    return parts


def _fields_of(kind: type) -> list[object]:
    try:
        # Names of its module, and of the class itself.
        names = {**vars(sys.modules.get(kind.__module__, typing)), kind.__name__: kind}
        return list(typing.get_type_hints(kind, globalns=names, include_extras=True).values())
    except Exception:  # noqa: BLE001 - a name that is not there at run time
        fields = getattr(kind, "model_fields", {}).values()
        annotations = getattr(kind, "__annotations__", {}).values()
        return [*(field.annotation for field in fields), *annotations]
