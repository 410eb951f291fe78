"""Which graph serves which workflow, and what is said about those that cannot be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypedDict, cast

import pytest
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel

from redrive.errors import SettingsError, UnknownWorkflowError
from redrive.graphs import GraphRegistry, GraphSettings


class Number(TypedDict):
    n: int


def graph(name: str = "node") -> StateGraph[Number, None, Number, Number]:
    built = StateGraph(Number)
    built.add_node(name, lambda _: {"n": 1})
    built.add_edge(START, name)
    return built


MODULE = """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class S(TypedDict):
    n: int

graph = StateGraph(S)
graph.add_node("node", lambda state: {"n": 1})
graph.add_edge(START, "node")
compiled = graph.compile()
number = 7
calls = []

def factory():
    calls.append("factory")
    return graph

async def afactory():
    return compiled

def raises():
    raise OSError("no key")

def needs(key, secret):
    return graph

def gives_nothing():
    return None

class Held:
    graph = graph

unfinished = StateGraph(S)
unfinished.add_node("node", lambda state: {"n": 1})
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own to start in; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "some_graphs.py").write_text(MODULE)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.parametrize("target", ["graph", "compiled", "factory", "Held.graph"])
def test_an_import_path_may_name_a_graph_a_compiled_one_or_a_factory(target: str) -> None:
    registry = GraphRegistry.from_settings({"mine": GraphSettings(target=f"some_graphs:{target}")})

    found = registry.find("mine")

    assert found.id == "mine"
    assert set(found.compiled.nodes) == {"__start__", "node"}
    assert found.compiled.invoke({"n": 0}) == {"n": 1}


async def test_a_registry_may_be_loaded_inside_a_running_loop() -> None:
    registry = GraphRegistry({"mine": "some_graphs:afactory"})

    async with registry:
        found: Any = registry.find("mine").compiled

    assert found.builder is import_module("some_graphs").compiled.builder


def test_a_factory_is_called_once_at_load() -> None:
    registry = GraphRegistry({"mine": "some_graphs:factory"})

    first, second = registry.find("mine"), registry.find("mine")

    assert first.compiled is second.compiled
    assert import_module("some_graphs").calls == ["factory"]


def test_python_objects_are_taken_as_they_are() -> None:
    compiled = graph().compile()

    registry = GraphRegistry(
        {"a": graph(), "b": compiled, "c": graph, "d": "some_graphs:graph", "e": lambda: compiled}
    )

    assert registry.ids == ("a", "b", "c", "d", "e")
    builders = [cast("Any", registry.find(name).compiled).builder for name in ("b", "e")]
    assert all(builder is compiled.builder for builder in builders)
    assert isinstance(registry.find("a").compiled, Pregel)


@pytest.mark.parametrize(
    ("workflow_id", "expected"),
    [
        ("team-red", "team-red"),
        ("team-blue", "team-*"),
        ("team-red-2", "team-red-*"),
        ("team-red-x", "team-red-?"),
        ("anything", "*"),
        ("Team-blue", "*"),
    ],
)
def test_an_exact_id_comes_first_then_the_most_specific_pattern(
    workflow_id: str, expected: str
) -> None:
    names = ("*", "team-*", "team-red", "team-red-*", "team-red-?")
    registry = GraphRegistry(
        {name: graph() for name in names if not (name == "team-red-?" and workflow_id[-1] == "2")}
    )

    assert registry.find(workflow_id).id == expected


def test_an_unknown_workflow_names_what_is_registered() -> None:
    registry = GraphRegistry({"b": graph(), "a-*": graph()})

    with pytest.raises(UnknownWorkflowError, match=r"'other'; registered: a-\*, b\."):
        registry.find("other")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module:graph", "there is no module 'no_such_module'.*start in the folder"),
        ("no.such.module:graph", "there is no module 'no.such.module'"),
        ("imports_what_is_missing:graph", "No module named 'not_there_either'.*install"),
        ("raises_at_import:graph", "raised while it was imported .RuntimeError: no key.*fix"),
        ("exits_at_import:graph", "raised while it was imported .SystemExit: 3"),
        ("some_graphs:missing", "does not exist.*'missing'.*name what the module holds"),
        ("some_graphs:number", "is a int, not a graph: name a StateGraph"),
        ("some_graphs:gives_nothing", "is a NoneType, not a graph"),
        ("some_graphs:needs", "cannot be called: its parameter 'key' is required"),
        ("some_graphs:raises", "raised when it was called .OSError: no key"),
        ("some_graphs:unfinished", "does not compile .ValueError"),
        ("some_graphs", "is not an import path: write it as package.module:attribute"),
        ("some_graphs:", "is not an import path"),
    ],
)
def test_a_graph_that_cannot_be_loaded_is_named_with_what_to_do(
    folder: Path, target: str, says: str
) -> None:
    (folder / "imports_what_is_missing.py").write_text("import not_there_either")
    (folder / "raises_at_import.py").write_text("raise RuntimeError('no key\\nsecond line')")
    (folder / "exits_at_import.py").write_text("raise SystemExit(3)")

    with pytest.raises(SettingsError, match=f"^graph 'mine': .*{says}") as caught:
        GraphRegistry({"mine": target})

    assert target in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["input", "output"])
@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("some_graphs:nothing", "does not exist"),
        ("some_graphs:number", "is a int, which cannot be called: name a function"),
        ("nowhere:f", "there is no module 'nowhere'"),
    ],
)
def test_a_function_of_a_graph_that_is_missing_is_named(field: str, target: str, says: str) -> None:
    settings = GraphSettings.model_validate({"target": "some_graphs:graph", field: target})

    with pytest.raises(SettingsError, match=f"^graph 'mine', its {field}: .*{says}"):
        GraphRegistry.from_settings({"mine": settings})


def test_a_bad_object_given_in_python_is_named() -> None:
    with pytest.raises(SettingsError, match="graph 'mine': the object given is a int, not a graph"):
        GraphRegistry({"mine": 7})  # type: ignore[dict-item]  # that is the point


def test_a_version_is_the_setting_or_a_hash_of_the_drawing() -> None:
    settings = GraphSettings(target="some_graphs:graph", version="2026-01", recursion_limit=9)

    registry = GraphRegistry(
        {"set": settings, "a": graph("x"), "same": graph("x").compile(), "other": graph("y")}
    )

    assert (registry.find("set").version, registry.find("set").recursion_limit) == ("2026-01", 9)
    assert registry.find("a").version == registry.find("same").version
    assert registry.find("a").version != registry.find("other").version
    assert registry.find("a").recursion_limit == 100


_PRINT_VERSION = """
from redrive.graphs import GraphRegistry
print(GraphRegistry({"a": "branching:graph"}).find("a").version)
"""


def test_a_version_is_the_same_in_every_process(folder: Path) -> None:
    (folder / "branching.py").write_text(
        "from some_graphs import S\n"
        "from langgraph.graph import START, StateGraph\n"
        "graph = StateGraph(S)\n"
        "for name in ('a', 'b', 'c', 'd'):\n"
        "    graph.add_node(name, lambda s: s)\n"
        "graph.add_conditional_edges(START, lambda s: 'a', {'a', 'b', 'c', 'd'})\n"
    )

    versions = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_VERSION],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(versions) == 1


def write_json(folder: Path, content: object) -> Path:
    path = folder / "langgraph.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_langgraph_json_names_files_and_modules(folder: Path) -> None:
    (folder / "src" / "agent").mkdir(parents=True)
    (folder / "src" / "agent" / "team.py").write_text("from helpers_of_src import graph\n")
    (folder / "src" / "helpers_of_src.py").write_text("from some_graphs import graph\n")
    path = write_json(
        folder,
        {
            "dependencies": ["./src", "langchain-openai"],
            "graphs": {
                "file": "./some_graphs.py:graph",
                "deep": "./src/agent/team.py:graph",
                "object": {"path": "./some_graphs.py:factory", "description": "…"},
                "module": "some_graphs:compiled",
            },
            "env": ".env",
        },
    )

    registry = GraphRegistry.from_langgraph_json(path)

    assert registry.ids == ("deep", "file", "module", "object")
    assert all("node" in registry.find(name).compiled.nodes for name in registry.ids)
    # The name under which the types of a state are stored must be found by another process.
    assert "src.agent.team" in sys.modules


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ([], "is not an object"),
        ({}, "names no graphs"),
        ({"graphs": {}}, "names no graphs"),
        ({"graphs": {"a": 7}}, "graph 'a': 7 is not a path"),
        ({"graphs": {"a": "x:y"}, "dependencies": "."}, "is not a list"),
        ({"graphs": {"a": "./gone.py:graph"}}, "graph 'a': there is no file .*gone.py"),
        ({"graphs": {"a": "./some_graphs.py:gone"}}, "graph 'a': .*does not exist"),
        ({"graphs": {"a": "./some_graphs.py"}}, "graph 'a': .*not an import path"),
    ],
)
def test_a_langgraph_json_that_cannot_work_says_why(
    folder: Path, content: object, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        GraphRegistry.from_langgraph_json(write_json(folder, content))


def test_a_langgraph_json_that_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*gone\.json .No such file"):
        GraphRegistry.from_langgraph_json(folder / "gone.json")
