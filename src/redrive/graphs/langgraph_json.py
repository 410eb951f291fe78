"""Reading a `langgraph.json`: its graphs and local dependencies. The rest is not ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redrive.errors import SettingsError
from redrive.graphs.import_paths import importable

__all__ = ["FileGraph", "read_langgraph_json"]


@dataclass(frozen=True, slots=True)
class FileGraph:
    """A graph in a Python file; `root` is the folder of the `langgraph.json` that names it."""

    path: Path
    attribute: str
    root: Path


def read_langgraph_json(path: Path) -> dict[str, str | FileGraph]:
    """Return id -> import path or file, and let the file's local dependencies be imported.

    Raises:
        SettingsError: It cannot be read, or is not what a `langgraph.json` is.
    """
    root = path.resolve().parent
    parsed = _parsed(path)
    graphs = parsed.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        raise SettingsError(
            f'{path} names no graphs: give it "graphs": {{"my-graph": "./file.py:graph"}}'
        )
    dependencies = parsed.get("dependencies", [])
    if not isinstance(dependencies, list):
        raise SettingsError(f'{path}: "dependencies" is not a list: write it as ["."]')
    importable(root)
    for name in dependencies:
        # Others are packages for pip, which is not our work.
        if isinstance(name, str) and name.startswith(".") and (root / name).is_dir():
            importable(root / name)
    return {name: _source(name, value, path, root) for name, value in graphs.items()}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"cannot read {path} ({error.strerror}): name a langgraph.json that exists"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON ({error}): mend it") from error
    if not isinstance(parsed, dict):
        raise SettingsError(f'{path} is not an object: write it as {{"graphs": {{…}}}}')
    return parsed


def _source(name: str, value: object, path: Path, root: Path) -> str | FileGraph:
    target = value.get("path") if isinstance(value, dict) else value
    if not isinstance(target, str):
        raise SettingsError(
            f"{path}, graph {name!r}: {value!r} is not a path: write it as ./file.py:graph"
        )
    place, _, attribute = target.rpartition(":")
    if "/" not in place and not place.endswith(".py"):
        return target
    return FileGraph(path=(root / place).resolve(), attribute=attribute, root=root)
