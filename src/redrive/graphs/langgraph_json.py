"""Reading a `langgraph.json` as LangGraph's command line does, for what a worker has use for.

That is `graphs`, `dependencies`, `env` and `store`. What is for building images is passed by; of
all the rest a note says that it is not honoured, and what holds instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import structlog
from dotenv import dotenv_values
from langgraph.store.base import BaseStore

from redrive.errors import SettingsError
from redrive.graphs.import_paths import importable
from redrive.graphs.stores import StoreSource, import_named, memory_store
from redrive.json_texts import parsed_json

__all__ = ["FileGraph", "FileNote", "LanggraphJson", "read_langgraph_json"]

log = structlog.get_logger("redrive.worker")

_FOR_IMAGES = frozenset(
    {
        "$schema",
        "_INTERNAL_docker_tag",
        "api_version",
        "base_image",
        "dockerfile_lines",
        "image_distro",
        "keep_pkg_tools",
        "node_version",
        "pip_config_file",
        "pip_installer",
        "python_version",
        "source",
    }
)
_OF_THE_SERVER = "it is for LangGraph's HTTP server, which does not run here"
_NOT_HONOURED = {
    "auth": _OF_THE_SERVER + ": who may write to the events topic is for Kafka's ACLs",
    "encryption": "checkpoints are not encrypted by it",
    "http": _OF_THE_SERVER,
    "priority": "events run in the order of their partitions",
    "ui": _OF_THE_SERVER,
    "ui_config": _OF_THE_SERVER,
    "webhooks": _OF_THE_SERVER + ": see notify.urls",
}
_OF_THE_CHECKPOINTER = {
    "path": "runs are kept where checkpoints.url says",
    "ttl": "checkpoints.ttl says how long those of a finished run are kept",
}
_KNOWN = {"checkpointer", "dependencies", "env", "graphs", "store", *_FOR_IMAGES, *_NOT_HONOURED}
# Read by redrive, or by LangGraph, before this file is.
_READ_EARLIER = ("REDRIVE_", "KAFKA_", "LANGGRAPH_")
_REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NO_MODULES = frozenset({"__init__", "conftest", "setup", "tests"})


@dataclass(frozen=True, slots=True)
class FileGraph:
    """A graph that a `langgraph.json` names.

    Args:
        target: As it is written there.
        root: The folder of the file.
        store: What `runtime.store` is where the graph has none of its own.
    """

    target: str
    root: Path
    store: BaseStore | StoreSource | None = None

    def imported(self, *, what: str) -> object:
        """Return what the path names.

        Raises:
            SettingsError: There is no such thing.
        """
        return import_named(self.target, root=self.root, what=what)


@dataclass(frozen=True, slots=True)
class FileNote:
    """Something in the file that does not hold here, and what does."""

    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.key}: {self.why}"


@dataclass(frozen=True, slots=True)
class LanggraphJson:
    """What one file says; nothing of it holds before `apply`.

    Args:
        path: The file.
        graphs: Its graphs by id.
        folders: Where modules are imported from, the first one first.
        variables: What is set in the environment: the file's value replaces one that is there.
        store: Its key `store`.
        notes: What is not honoured.
        passed_by: The keys that are for building images.
    """

    path: Path
    graphs: Mapping[str, FileGraph]
    folders: tuple[Path, ...]
    variables: Mapping[str, str]
    store: Mapping[str, Any] | None
    notes: tuple[FileNote, ...]
    passed_by: tuple[str, ...]

    def apply(self) -> LanggraphJson:
        """Set the environment, let the folders be imported, and make the store.

        Comes before any graph is imported. Returns the file with what only this could find out.

        Raises:
            SettingsError: The store cannot be made.
        """
        os.environ.update(self.variables)
        importable(*self.folders)
        if self.store is None:
            return self
        root = self.path.parent
        notes = list(self.notes)
        store: BaseStore | StoreSource
        if path := self.store.get("path"):
            store = StoreSource(str(path), root)
        else:
            store, problem = memory_store(self.store.get("index"), root=root)
            notes.append(
                FileNote(
                    "store",
                    "it is in this worker's memory: other workers do not see it, and it ends with "
                    "the worker; name one that stays with store.path",
                )
            )
            if problem is not None:
                notes.append(FileNote("store.index", f"search finds without ranking: {problem}"))
        graphs = {name: replace(graph, store=store) for name, graph in self.graphs.items()}
        return replace(self, graphs=graphs, notes=tuple(notes))

    def log(self) -> None:
        """Log what was read, and what is not honoured."""
        log.info(
            "langgraph.file_read",
            file=str(self.path),
            graphs=sorted(self.graphs),
            variables=sorted(self.variables),
            only_for_images=self.passed_by,
        )
        for note in self.notes:
            log.warning(
                "langgraph.key_not_honoured", file=str(self.path), key=note.key, why=note.why
            )


def read_langgraph_json(path: Path) -> LanggraphJson:
    """Read the file; changes nothing.

    Raises:
        SettingsError: It cannot be read, or is not what a `langgraph.json` is.
    """
    path = path.absolute()
    root = path.resolve().parent
    parsed = _parsed(path)
    graphs = parsed.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        raise SettingsError(
            f'{path} names no graphs: give it "graphs": {{"my-graph": "./file.py:graph"}}'
        )
    dependencies = parsed.get("dependencies") or []
    if not isinstance(dependencies, list):
        raise SettingsError(f'{path}: "dependencies" is not a list: write it as ["."]')
    local = [name for name in dependencies if _is_local(name, root)]
    packages = [name for name in dependencies if isinstance(name, str) and name not in local]
    folders = tuple(dict.fromkeys([root, *_folders(local, root)]))
    variables, of_env = _variables(parsed.get("env"), path, root)
    notes = [
        *of_env,
        *_of_graphs(graphs),
        *_missing(local, packages, root),
        *_twice(folders),
        *_of_store(_table(parsed, "store", path)),
        *_of_checkpointer(_table(parsed, "checkpointer", path)),
        *(FileNote(key, why) for key, why in _NOT_HONOURED.items() if parsed.get(key)),
        *(FileNote(key, "LangGraph knows no such key") for key in sorted({*parsed} - _KNOWN)),
    ]
    return LanggraphJson(
        path=root / path.name,
        graphs={name: _graph(name, value, path, root) for name, value in graphs.items()},
        folders=folders,
        variables=variables,
        store=_table(parsed, "store", path),
        notes=tuple(notes),
        passed_by=tuple(sorted({*parsed} & _FOR_IMAGES)),
    )


def _parsed(path: Path) -> dict[str, Any]:
    try:
        parsed = parsed_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"cannot read {path} ({error.strerror}): name a langgraph.json that exists"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON ({error}): correct it") from error
    if not isinstance(parsed, dict):
        raise SettingsError(f'{path} is not an object: write it as {{"graphs": {{…}}}}')
    return parsed


def _table(parsed: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any] | None:
    found = parsed.get(key)
    if found is not None and not isinstance(found, dict):
        raise SettingsError(f"{path}: {key!r} is not an object: write it as {{…}}, or leave it out")
    return found


def _graph(name: str, value: object, path: Path, root: Path) -> FileGraph:
    target = value.get("path") if isinstance(value, dict) else value
    if not isinstance(target, str):
        raise SettingsError(
            f"{path}, graph {name!r}: {value!r} is not a path: write it as ./file.py:graph"
        )
    return FileGraph(target, root)


def _of_graphs(graphs: Mapping[str, object]) -> Iterator[FileNote]:
    for name, value in graphs.items():
        for key in sorted({*value} - {"path", "description"}) if isinstance(value, dict) else ():
            yield FileNote(f"graphs.{name}.{key}", "LangGraph knows no such key")


def _is_local(name: object, root: Path) -> bool:
    return isinstance(name, str) and (name.startswith((".", "/")) or _is_dir(root / name))


def _is_dir(path: Path) -> bool:
    """Say whether there is such a folder; a name that no folder can have is none's."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _folders(local: list[str], root: Path) -> Iterator[Path]:
    """Give what each local dependency lets be imported, as if it were installed."""
    for name in local:
        if not _is_dir(root / name):
            continue
        folder = (root / name).resolve()
        if (folder / "__init__.py").is_file():
            yield folder.parent  # the folder is the package
        if any((folder / file).is_file() for file in ("pyproject.toml", "setup.py")):
            yield from (source for source in (folder / "src",) if source.is_dir())
        yield folder


def _missing(local: list[str], packages: list[str], root: Path) -> Iterator[FileNote]:
    for name in local:
        if not _is_dir(root / name):
            yield FileNote("dependencies", f"there is no folder {name!r}")
    for text in packages:
        named = _REQUIREMENT.match(text)
        # Of what stands at a URL the name is not known.
        if named is None or "://" in text:
            continue
        try:
            distribution(named[0])
        except PackageNotFoundError:
            yield FileNote(
                "dependencies",
                f"{text!r} is not installed: a worker installs nothing, so install it beside it",
            )


def _twice(folders: tuple[Path, ...]) -> Iterator[FileNote]:
    """Find names that two folders have: a process has one module of each name."""
    homes: dict[str, Path] = {}
    for folder in folders:
        # Modules of a package are imported with its name before theirs.
        is_package = (folder / "__init__.py").is_file()
        for name in () if is_package else sorted(_modules(folder)):
            home = homes.setdefault(name, folder)
            if home != folder:
                yield FileNote(
                    "dependencies",
                    f"{home} and {folder} both have a module {name!r}: `import {name}` gives that "
                    "of the first to all graphs; rename one of them",
                )


def _modules(folder: Path) -> set[str]:
    found = {file.stem for file in folder.glob("*.py")}
    found |= {file.parent.name for file in folder.glob("*/__init__.py")}
    return found - _NO_MODULES


def _variables(env: object, path: Path, root: Path) -> tuple[dict[str, str], list[FileNote]]:
    """Return what is to be set, and what has to be said of it; the file's values win."""
    if not env:
        return {}, []
    given: Mapping[str, object]
    if isinstance(env, dict):
        given = env
    elif isinstance(env, str):
        file = root / env
        try:
            if not file.is_file():
                return {}, [FileNote("env", f"there is no file {env!r}: nothing is set")]
            given = {k: v for k, v in dotenv_values(file).items() if v is not None}
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path}: cannot read its env {env!r} ({error})") from error
    else:
        raise SettingsError(f'{path}: "env" is neither a file nor an object: write it as ".env"')
    variables: dict[str, str] = {}
    notes: list[FileNote] = []
    for name, value in given.items():
        variables[name] = _settable(name, value, path)
        if os.environ.get(name, value) != value:
            notes.append(
                FileNote("env", f"{name} is also set in the environment: this file's value is used")
            )
        if name.startswith(_READ_EARLIER):
            notes.append(
                FileNote(
                    "env",
                    f"{name} is set too late for redrive and LangGraph: set it in the environment",
                )
            )
    return variables, notes


def _settable(name: str, value: object, path: Path) -> str:
    """Return the value of a variable, if the environment can hold it."""
    if not isinstance(value, str):
        raise SettingsError(f'{path}, "env": {name} is not text: write its value in quotes')
    try:
        can_be = bool(name) and "=" not in name and b"\0" not in os.fsencode(name + value)
    except UnicodeEncodeError:
        can_be = False
    if not can_be:
        raise SettingsError(
            f'{path}, "env": {name!r} cannot be set: a name has no "=", and neither that nor its '
            "value has null characters or halves of characters"
        )
    return value


def _of_store(store: Mapping[str, Any] | None) -> Iterator[FileNote]:
    for key in store or {}:
        if key == "path" or (key == "index" and not (store or {}).get("path")):
            continue
        if key == "index":
            yield FileNote("store.index", "the store of store.path has its own")
        elif key == "ttl":
            yield FileNote("store.ttl", "what is in the store does not expire")
        else:
            yield FileNote(f"store.{key}", "LangGraph knows no such key")


def _of_checkpointer(checkpointer: Mapping[str, Any] | None) -> Iterator[FileNote]:
    for key in checkpointer or {}:
        why = _OF_THE_CHECKPOINTER.get(key, "redrive keeps checkpoints itself: see checkpoints.url")
        yield FileNote(f"checkpointer.{key}", why)
