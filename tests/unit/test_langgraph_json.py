"""What a `langgraph.json` says: what of it holds for a worker, and what is said not to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.rows import rows

from redrive.errors import SettingsError
from redrive.events import WorkflowEvent
from redrive.graphs import Ended, GraphRegistry, GraphSettings, Lease, WorkflowProcessor
from redrive.graphs.langgraph_json import read_langgraph_json
from redrive.settings import Settings
from redrive.wiring.graphs import registry_of

GRAPH = """
import os
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

class State(TypedDict, total=False):
    said: str

async def say(state: State, runtime: Runtime) -> State:
    store = runtime.store
    if store is not None:
        await store.aput(("said",), "key", {"text": "kept"})
        item = await store.aget(("said",), "key")
        found = await store.asearch(("said",), query="kept")
        return {"said": f"{item.value['text']} {found[0].score} in a {type(store).__name__}"}
    return {"said": os.environ.get("WORDS", "nothing")}

graph = StateGraph(State)
graph.add_node("say", say)
graph.add_edge(START, "say")
"""
STORES = """
from contextlib import asynccontextmanager
from langgraph.store.memory import InMemoryStore

class Kept(InMemoryStore):
    pass

told = []
kept = Kept()

def make():
    return Kept()

@asynccontextmanager
async def opened():
    told.append("opened")
    yield Kept()
    told.append("closed")

def wrong():
    return 7

def embed(texts):
    return [[1.0, 0.0] for _ in texts]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project; its modules and variables are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules, variables = set(sys.modules), dict(os.environ)
    write(tmp_path / "agent.py", GRAPH)
    write(tmp_path / "stores.py", STORES)
    yield tmp_path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(variables)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def project(folder: Path, **content: object) -> Path:
    path = folder / "langgraph.json"
    graphs = {"graphs": {"work": "./agent.py:graph"}}
    write(path, json.dumps({"dependencies": ["."], **graphs, **content}))
    return path


async def said(registry: GraphRegistry, workflow_id: str = "work") -> object:
    event = WorkflowEvent.model_validate(
        {
            "event_id": "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e",
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": workflow_id,
            "workflow_run_id": "run",
            "payload": {"data": {}},
        }
    )
    async with registry:
        end = await WorkflowProcessor(registry).run(event, thread_id="t", lease=Lease())
    assert isinstance(end, Ended)
    assert isinstance(end.result, dict)
    return end.result["said"]


def notes(path: Path) -> dict[str, str]:
    file = read_langgraph_json(path)
    return {note.key: note.why for note in file.apply().notes}


@rows(
    ("env", "expected"),
    [
        ({"WORDS": "from a mapping"}, "from a mapping"),
        (".env", "from a file"),
        ("deep/.env", "of a base"),
        ({}, "of the environment"),
        (None, "of the environment"),
        ("missing.env", "of the environment"),
    ],
)
def test_env_is_set_and_wins_over_the_environment_as_with_langgraph_dev(
    env: object, expected: str, folder: Path
) -> None:
    write(folder / ".env", "# a comment\nexport WORDS='from a file'\nNO_VALUE\n")
    write(folder / "deep" / ".env", "BASE=base\nWORDS=of a ${BASE}\n")
    os.environ["WORDS"] = "of the environment"

    registry = GraphRegistry.from_langgraph_json(project(folder, env=env))

    assert asyncio.run(said(registry)) == expected


def test_env_is_set_before_a_module_of_a_graph_is_imported(folder: Path) -> None:
    write(folder / "agent.py", f"import os\nKEY = os.environ['MY_API_KEY']\n{GRAPH}")

    GraphRegistry.from_langgraph_json(project(folder, env={"MY_API_KEY": "s3cret"}))

    assert import_module("agent").KEY == "s3cret"


def test_what_env_says_too_late_or_twice_is_said(folder: Path) -> None:
    os.environ["WORDS"] = "hush"
    path = project(folder, env={"WORDS": "x", "REDRIVE_WORKER__ID": "w"})

    found = [str(note) for note in read_langgraph_json(path).notes]

    assert found == [
        "env: WORDS is also set in the environment: this file's value is used",
        (
            "env: REDRIVE_WORKER__ID is set too late for redrive and LangGraph: set it in the "
            "environment"
        ),
    ]


def test_reading_a_file_changes_nothing(folder: Path) -> None:
    path = project(folder, env={"WORDS": "x"}, dependencies=["./lib"])

    read_langgraph_json(path)

    assert "WORDS" not in os.environ
    assert str(folder / "lib") not in sys.path


@rows(
    "place",
    [
        "my-agent/graph.py",
        "my-agent/src/the graph.py",
        "agents/graph.v2.py",
        "json.py",
        # An installed package of this name is found before the folder.
        "pytest/graph.py",
    ],
)
def test_a_file_is_loaded_whatever_its_folders_are_called(place: str, folder: Path) -> None:
    write(folder / place, GRAPH)
    path = project(folder, graphs={"work": f"./{place}:graph"})

    registry = GraphRegistry.from_langgraph_json(path)

    assert set(registry.find("work").compiled.nodes) == {"__start__", "say"}


def test_a_folder_with_hyphens_is_a_package_of_its_own(folder: Path) -> None:
    write(folder / "my-agent" / "graph.py", f"from .words import WORDS\n{GRAPH}")
    write(folder / "my-agent" / "words.py", "WORDS = 'ours'")
    path = project(folder, graphs={"work": "./my-agent/graph.py:graph"})

    GraphRegistry.from_langgraph_json(path)

    # The name under which types of a state are stored: another process imports it so.
    assert sys.modules["my-agent.graph"].WORDS == "ours"


def _built_by(registry: GraphRegistry) -> object:
    compiled: Any = registry.find("first").compiled
    return compiled.builder


def test_two_roots_may_have_a_module_of_one_name(folder: Path) -> None:
    for name in ("first", "second"):
        write(folder / name / "graph.py", f"{GRAPH}\ngraph = graph.compile(name={name!r})")
        write(folder / name / "langgraph.json", json.dumps({"graphs": {name: "./graph.py:graph"}}))
    outside = {"a": "../first/graph.py:graph", "b": "../second/graph.py:graph"}
    write(folder / "third" / "langgraph.json", json.dumps({"graphs": outside}))

    loaded = [
        GraphRegistry.from_langgraph_json(folder / name / "langgraph.json")
        for name in ("first", "second", "third", "first")
    ]

    names = [[graph.compiled.name for graph in registry.graphs] for registry in loaded]
    assert names == [["first"], ["second"], ["first", "second"], ["first"]]
    assert _built_by(loaded[0]) is _built_by(loaded[3])


def test_local_dependencies_are_imported_as_if_they_were_installed(folder: Path) -> None:
    write(folder / "flat" / "__init__.py", "WORDS = 'flat'")
    write(folder / "lib" / "pyproject.toml", "[project]\nname = 'lib'\nversion = '1'")
    write(folder / "lib" / "src" / "of_lib" / "__init__.py", "WORDS = 'of lib'")
    write(folder / "plain" / "of_plain.py", "WORDS = 'of plain'")
    write(
        folder / "agent.py",
        "import flat, of_lib, of_plain\n"
        f"ALL = [m.WORDS for m in (flat, of_lib, of_plain)]\n{GRAPH}",
    )
    path = project(folder, dependencies=["./flat", "./lib", "plain"])

    GraphRegistry.from_langgraph_json(path)

    assert import_module("agent").ALL == ["flat", "of lib", "of plain"]
    assert notes(path) == {}


def test_the_first_of_two_dependencies_wins_and_that_is_said(folder: Path) -> None:
    write(folder / "a" / "words.py", "WORDS = 'of a'")
    write(folder / "b" / "words.py", "WORDS = 'of b'")
    write(folder / "agent.py", f"from words import WORDS\n{GRAPH}")
    path = project(folder, dependencies=["./a", "./b"])

    GraphRegistry.from_langgraph_json(path)

    assert import_module("agent").WORDS == "of a"
    assert "both have a module 'words'" in notes(path)["dependencies"]


@rows(
    ("dependency", "says"),
    [
        ("pytest>=7", None),
        ("langchain_core", None),
        ("langgraph[all] ~= 1.0 ; python_version > '3'", None),
        ("git+https://example.com/x.git", None),
        ("no-such-package-at-all==1", "'no-such-package-at-all==1' is not installed"),
        ("./nowhere", "there is no folder './nowhere'"),
    ],
)
def test_a_dependency_that_is_not_there_is_said(
    dependency: str, says: str | None, folder: Path
) -> None:
    found = notes(project(folder, dependencies=[".", dependency])).get("dependencies")

    assert (found is None) if says is None else (found is not None and says in found)


@rows(
    ("store", "expected"),
    [
        ({}, "kept None in a InMemoryStore"),
        ({"index": {"embed": "./stores.py:embed", "dims": 2}}, "kept 1.0 in a InMemoryStore"),
        ({"index": {"embed": "nobody:knows", "dims": 2}}, "kept None in a InMemoryStore"),
        ({"path": "./stores.py:kept"}, "kept None in a Kept"),
        ({"path": "./stores.py:make"}, "kept None in a Kept"),
        ({"path": "stores:opened"}, "kept None in a Kept"),
        ({"path": "stores.opened"}, "kept None in a Kept"),
        (None, "nothing"),
    ],
)
def test_graphs_get_the_store_that_the_file_names(
    store: object, expected: str, folder: Path
) -> None:
    registry = GraphRegistry.from_langgraph_json(project(folder, store=store))

    assert asyncio.run(said(registry)) == expected


def test_a_store_that_is_opened_is_opened_once_for_all_graphs_and_closed(folder: Path) -> None:
    graphs = {"work": "./agent.py:graph", "other": {"path": "./agent.py:graph", "description": "…"}}
    path = project(folder, graphs=graphs, store={"path": "./stores.py:opened"})
    registry = GraphRegistry.from_langgraph_json(path)

    async def stores() -> list[object]:
        async with registry:
            return [graph.compiled.store for graph in registry.graphs]

    first, second = asyncio.run(stores())

    assert first is second
    assert import_module("stores").told == ["opened", "closed"]


def test_a_store_that_a_graph_was_compiled_with_stays(folder: Path) -> None:
    own = "from stores import Kept\ngraph = graph.compile(store=Kept())"
    write(folder / "agent.py", f"{GRAPH}\n{own}")

    registry = GraphRegistry.from_langgraph_json(project(folder, store={}))

    assert asyncio.run(said(registry)) == "kept None in a Kept"


@rows(
    ("path", "says"),
    [
        ("./stores.py:wrong", r"its store: \./stores\.py:wrong is a int: name a BaseStore"),
        ("./stores.py:nothing", "its store: .*does not exist"),
        ("./nowhere.py:store", "its store: there is no file"),
    ],
)
def test_a_store_that_cannot_be_opened_refuses_the_start(
    path: str, says: str, folder: Path
) -> None:
    registry = GraphRegistry.from_langgraph_json(project(folder, store={"path": path}))

    with pytest.raises(SettingsError, match=says):
        asyncio.run(registry.open())


@rows(
    ("content", "expected"),
    [
        (
            {"store": {"ttl": {"default_ttl": 5}}},
            {"store.ttl": "what is in the store does not expire", "store": "this worker's memory"},
        ),
        (
            {"store": {"index": {"embed": "nobody:knows", "dims": 2}}},
            {"store": "name one that stays with store.path", "store.index": "without ranking"},
        ),
        ({"store": {"path": "./stores.py:kept"}}, {}),
        ({"store": {"path": "./stores.py:kept", "index": {}}}, {"store.index": "has its own"}),
        (
            {"store": {"indices": 1}},
            {"store.indices": "no such key", "store": "this worker's memory"},
        ),
        (
            {"checkpointer": {"ttl": {"strategy": "delete"}}},
            {"checkpointer.ttl": "checkpoints.ttl"},
        ),
        ({"checkpointer": {"path": "./x.py:saver"}}, {"checkpointer.path": "checkpoints.url"}),
        ({"checkpointer": {"serde": {}}}, {"checkpointer.serde": "keeps checkpoints itself"}),
        ({"checkpointer": None, "store": None, "env": None}, {}),
        ({"encryption": {"path": "./x.py:e"}}, {"encryption": "not encrypted by it"}),
        ({"auth": {"path": "./x.py:a"}, "http": {"app": "x"}}, {"auth": "ACLs", "http": "HTTP"}),
        (
            {"graphs": {"work": {"path": "./agent.py:graph", "description": "…", "limit": 7}}},
            {"graphs.work.limit": "LangGraph knows no such key"},
        ),
        ({"grafs": {}}, {"grafs": "LangGraph knows no such key"}),
        ({"env": "gone.env"}, {"env": "there is no file 'gone.env': nothing is set"}),
        ({"python_version": "3.11", "image_distro": "wolfi", "dockerfile_lines": ["RUN x"]}, {}),
    ],
)
def test_what_is_not_honoured_is_said(
    content: dict[str, Any], expected: dict[str, str], folder: Path
) -> None:
    found = notes(project(folder, **content))

    assert found.keys() == expected.keys()
    assert all(text in found[key] for key, text in expected.items())


def test_what_was_read_and_what_is_not_honoured_is_logged(folder: Path) -> None:
    path = project(folder, env={"WORDS": "hush"}, python_version="3.11", checkpointer={"ttl": {}})

    with capture_logs() as logs:
        GraphRegistry.from_langgraph_json(path)

    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("langgraph.file_read", "info"),
        ("langgraph.key_not_honoured", "warning"),
    ]
    assert (logs[0]["graphs"], logs[0]["variables"]) == (["work"], ["WORDS"])
    assert logs[0]["only_for_images"] == ("python_version",)
    assert logs[1]["key"] == "checkpointer.ttl"
    assert "hush" not in str(logs)


@rows(
    ("content", "says"),
    [
        ({"env": {"PORT": 8000}}, '"env": PORT is not text: write its value in quotes'),
        ({"env": 7}, '"env" is neither a file nor an object'),
        ({"store": "memory"}, "'store' is not an object"),
        ({"checkpointer": []}, "'checkpointer' is not an object"),
        ({"graphs": {"a": "./agent.ts:graph"}}, "is not a Python file: only graphs in Python"),
    ],
)
def test_a_file_that_cannot_work_says_why(content: dict[str, Any], says: str, folder: Path) -> None:
    write(folder / "agent.ts", "export const graph = {}")

    with pytest.raises(SettingsError, match=says):
        GraphRegistry.from_langgraph_json(project(folder, **content))


def test_a_graph_of_the_file_has_the_settings_of_its_id(folder: Path) -> None:
    file = read_langgraph_json(project(folder)).apply()
    settings = Settings(graphs={"work": GraphSettings(version="v7", recursion_limit=7)})

    loaded = registry_of(settings, file.graphs).find("work")

    assert (loaded.version, loaded.recursion_limit) == ("v7", 7)
    assert set(loaded.compiled.nodes) == {"__start__", "say"}


def test_a_target_in_the_settings_replaces_the_graph_of_the_file(folder: Path) -> None:
    write(folder / "mine.py", f"{GRAPH}\ngraph = graph.compile(name='mine')")
    file = read_langgraph_json(project(folder)).apply()
    settings = Settings(graphs={"work": GraphSettings(target="mine:graph")})

    assert registry_of(settings, file.graphs).find("work").compiled.name == "mine"


def test_settings_without_a_graph_are_refused(folder: Path) -> None:
    file = read_langgraph_json(project(folder)).apply()
    settings = Settings(graphs={"other": GraphSettings(version="v7")})

    with pytest.raises(SettingsError, match=r"graphs\.other\.target is missing: .*langgraph\.json"):
        registry_of(settings, file.graphs)
