"""Checkpoints become the types that are allowed, and no other: a row in the file runs no code."""

from __future__ import annotations

import importlib
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel, SecretStr
from tests.rows import rows
from typing_extensions import TypeAliasType

from redrive.errors import StateTypeError
from redrive.graphs import Checkpoints, CheckpointSettings, Ended, Failed, Lease, WorkflowProcessor
from redrive.graphs.attempt_ends import RunEnd
from redrive.graphs.serializers import StrictSerializer
from redrive.graphs.state_types import AllowedTypes, GraphTypes, types_of
from redrive.testing.kafka_env import event

EVENT = event({})
RAN: list[object] = []

FOREIGN = """
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from pydantic import BaseModel

class Invoice(BaseModel):
    number: int

@dataclass
class Line:
    text: str

class Color(Enum):
    RED = "red"

class Pair(NamedTuple):
    left: int
    right: int

class Client:
    def __init__(self, *given: object) -> None:
        raise AssertionError("made")
"""


def note(*given: object) -> None:
    RAN.append(given)


@pytest.fixture(autouse=True)
def foreign() -> Iterator[Any]:
    """Give a module of a library, which no graph is in."""
    module = ModuleType("a_library.models")
    sys.modules |= {"a_library": ModuleType("a_library"), module.__name__: module}
    exec(FOREIGN, vars(module))  # noqa: S102 - a module
    RAN.clear()
    yield module
    del sys.modules["a_library"], sys.modules[module.__name__]


class State(TypedDict, total=False):
    value: Any
    seen: list[str]


def holding(value: Any, *, fails: list[bool]) -> Any:  # noqa: ANN401 - a graph
    async def make(_: State) -> State:
        return {"value": value}

    async def look(state: State) -> State:
        if fails.pop():
            raise ConnectionResetError
        return {"seen": [f"{type(state['value']).__module__}.{type(state['value']).__name__}"]}

    async def done(_: State) -> State:
        return {"value": None}

    graph: Any = StateGraph(State)
    graph.add_node("make", make).add_edge(START, "make")
    graph.add_node("look", look).add_edge("make", "look")
    return graph.add_node("done", done).add_edge("look", "done")


async def run(graph: Any, folder: Path, **settings: object) -> RunEnd:  # noqa: ANN401 - a graph
    kept = CheckpointSettings.model_validate({"url": f"sqlite:///{folder}/kept.db", **settings})
    async with Checkpoints(kept) as checkpoints:
        return await WorkflowProcessor({"*": graph}, checkpoints).run(
            EVENT, thread_id=f"{EVENT.event_id}/0/0", lease=Lease()
        )


async def run_as_before(graph: Any, folder: Path) -> RunEnd:  # noqa: ANN401 - a graph
    """Run as the version before did: LangGraph's own serialiser, that makes any type."""
    return await run(
        graph, folder, serializer="langgraph.checkpoint.serde.jsonplus:JsonPlusSerializer"
    )


def packed(code: int, *parts: object) -> ormsgpack.Ext:
    return ormsgpack.Ext(code, ormsgpack.packb(parts, option=ormsgpack.OPT_NON_STR_KEYS))


def hostile(module: str, name: str, argument: object) -> list[ormsgpack.Ext]:
    return [
        packed(0, module, name, argument),
        packed(1, module, name, [argument]),
        packed(2, module, name, {"given": argument}),
        packed(4, module, name, {"given": argument}),
        packed(5, module, name, {"given": argument}, "model_validate_json"),
    ]


CALLS: list[tuple[str, str, object]] = [
    (__name__, "note", "x"),
    (__name__, "RAN", "x"),
    ("os", "system", "touch /tmp/never"),
    ("posix", "system", "touch /tmp/never"),
    ("subprocess", "Popen", ["touch", "/tmp/never"]),  # noqa: S108 - never made
    ("subprocess", "check_output", ["touch", "/tmp/never"]),  # noqa: S108 - never made
    ("builtins", "eval", "1"),
    ("builtins", "exec", "1"),
    ("builtins", "__import__", "this"),
    ("importlib", "import_module", "this"),
    ("pickle", "loads", b"cos\nsystem\n(S'x'\ntR."),
    ("a_library.models", "Client", "x"),
    ("a_library.models", "Invoice", 1),
    ("redrive.graphs.import_paths", "import_target", "os:system"),
    ("runs_when_imported", "Model", 1),
    ("tests.runs_when_imported", "Model", 1),
]


@pytest.mark.invariant("P15")
@rows("module, name, argument", CALLS, ids=lambda row: f"{row[0]}.{row[1]}")
def test_a_row_that_names_what_is_not_allowed_runs_nothing_and_is_refused(
    module: str, name: str, argument: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("imported")
    (folder / "runs_when_imported.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    allowed = AllowedTypes()
    allowed.add(GraphTypes(packages=frozenset({"tests"})))
    serializer = StrictSerializer(allowed)
    inside = JsonPlusSerializer().dumps_typed({"channel_values": {"k": 1}})[1]
    assert serializer.loads_typed(("msgpack", inside)) == {"channel_values": {"k": 1}}

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for value in hostile(module, name, argument):
            nested = packed(0, "builtins", "set", [1, value])
            for held in (value, nested):
                data = ormsgpack.packb({"channel_values": {"k": [held]}})
                with pytest.raises(StateTypeError) as refused:
                    serializer.loads_typed(("msgpack", data))
                assert refused.value.types == (f"{module}.{name}",)
                assert refused.value.place == "state['k']"
                assert "checkpoints.allowed_types" in str(refused.value)

    assert RAN == []
    assert not (folder / "ran").exists()


def test_nothing_is_unpickled() -> None:
    with pytest.raises(NotImplementedError):
        StrictSerializer(AllowedTypes()).loads_typed(("pickle", b"cos\nsystem\n(S'true'\ntR."))


def test_a_method_of_a_type_is_not_called() -> None:
    data = ormsgpack.packb(packed(3, __name__, "RAN", "x", "append"))

    assert StrictSerializer(AllowedTypes()).loads_typed(("msgpack", data)) == "x"
    assert RAN == []


async def test_a_row_that_was_put_into_the_file_is_a_letter(tmp_path: Path) -> None:
    graph = holding("text", fails=[False, True])
    await run(graph, tmp_path)
    hostile_row = packed(0, "os", "system", f"touch {tmp_path}/ran")
    with closing(sqlite3.connect(tmp_path / "kept.db")) as file:
        (checkpoint,) = file.execute(
            "SELECT checkpoint FROM checkpoints ORDER BY checkpoint_id DESC LIMIT 1"
        ).fetchone()
        tree = ormsgpack.unpackb(checkpoint)
        tree["channel_values"]["value"] = hostile_row
        file.execute(
            "UPDATE checkpoints SET checkpoint = ?"
            " WHERE checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints)",
            (ormsgpack.packb(tree),),
        )
        file.commit()

    end = await run(graph, tmp_path)

    assert isinstance(end, Failed)
    assert isinstance(end.error, StateTypeError)
    assert "state['value'] is of type os.system" in str(end.error)
    assert not (tmp_path / "ran").exists()


class Shade(Enum):
    DARK = 1


class Point(NamedTuple):
    x: int


class Inner(BaseModel):
    shade: Shade


@dataclass
class Outer:
    parts: Sequence[Inner]
    by_name: Mapping[str, Point]


T = TypeVar("T", bound=BaseModel)


class Boxed(BaseModel, Generic[T]):
    held: T


Alias = TypeAliasType("Alias", "list[Outer]")  # as `type Alias = …` makes one


class Leaf(BaseModel):
    leaf: int


class Deep(TypedDict):
    leaf: Annotated[Leaf | None, "a reducer, say"]


class Known(TypedDict):
    outer: Outer
    box: Boxed[Inner]
    flag: Literal[Shade.DARK]
    deep: dict[str, tuple[Deep, ...]]


def test_every_type_of_a_schema_is_found_at_any_depth() -> None:
    graph: Any = StateGraph(Known)
    graph.add_node("a", note).add_edge(START, "a")

    found = types_of(graph.compile())

    names = {name for module, name in found.named if module == __name__}
    assert {"Outer", "Inner", "Point", "Shade", "Boxed[Inner]", "Leaf"} <= names
    assert found.packages == {"tests"}


KEPT: dict[str, Any] = {
    "a model": Inner(shade=Shade.DARK),
    "a dataclass": Outer([Inner(shade=Shade.DARK)], {"a": Point(1)}),
    "a named tuple": Point(2),
    "an enum": Shade.DARK,
    "a secret": SecretStr("x"),
}


@pytest.mark.parametrize("name", KEPT)
async def test_data_types_of_the_graphs_own_package_come_back(name: str, tmp_path: Path) -> None:
    graph = holding(KEPT[name], fails=[False, True])

    first = await run(graph, tmp_path)
    second = await run(graph, tmp_path)

    kind = type(KEPT[name])
    assert isinstance(first, Failed)
    assert isinstance(first.error, ConnectionResetError)
    assert isinstance(second, Ended)
    assert second.resumed
    assert second.result["seen"] == [f"{kind.__module__}.{kind.__name__}"]  # type: ignore[index]


async def test_data_types_of_a_module_beside_the_graph_come_back_and_those_installed_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_models.py").write_text(FOREIGN)
    (tmp_path / "beside_graph.py").write_text(
        "def node(state):\n    return {}\n"  # its module is what counts
    )
    monkeypatch.syspath_prepend(tmp_path)
    models, code = (importlib.import_module(f"beside_{name}") for name in ("models", "graph"))
    graph: Any = StateGraph(State)
    graph.add_node("node", code.node).add_edge(START, "node")
    allowed = AllowedTypes()

    before = ("beside_models", "Invoice") in allowed
    allowed.add(types_of(graph.compile()))

    assert not before
    assert ("beside_models", "Invoice") in allowed
    assert ("beside_models", "Client") not in allowed
    assert ("pydantic.fields", "FieldInfo") not in allowed
    assert ("structlog._config", "_Configuration") not in allowed
    assert models.Invoice(number=1) == StrictSerializer(allowed).loads_typed(
        StrictSerializer(allowed).dumps_typed(models.Invoice(number=1))
    )


def test_what_functions_of_the_graph_say_that_they_return_may_be_stored(foreign: Any) -> None:  # noqa: ANN401 - a module
    @task
    async def ask() -> dict[str, foreign.Invoice]:
        return {}

    @task
    async def ask_in_turn() -> foreign.Color:
        await ask()
        return foreign.Color.RED

    @entrypoint()
    async def flow(_: dict[str, object]) -> list[foreign.Line]:
        await ask_in_turn()
        return []

    async def node(_: State) -> foreign.Client:
        return foreign.Client()

    bound: Any = flow.nodes["flow"].bound
    for function in (ask.func, ask_in_turn.func, bound.afunc, node):
        # As if annotations were no text.
        function.__annotations__["return"] = eval(  # noqa: S307 - as written above
            function.__annotations__["return"], {"foreign": foreign}
        )
    graph: Any = StateGraph(State)
    graph.add_node("node", node).add_edge(START, "node")
    allowed = AllowedTypes()
    allowed.add(types_of(flow))
    allowed.add(types_of(graph.compile()))

    names = ("Invoice", "Color", "Line", "Client", "Pair")
    found = [name for name in names if ("a_library.models", name) in allowed]
    assert found == ["Invoice", "Color", "Line"]


async def test_what_a_client_of_a_model_answers_with_is_kept_as_it_came(tmp_path: Path) -> None:
    answer = ChatCompletionMessage(role="assistant", content="yes")
    graph = holding(answer, fails=[False, True])

    first = await run(graph, tmp_path)
    second = await run(graph, tmp_path)

    assert isinstance(first, Failed)
    assert isinstance(first.error, ConnectionResetError)
    assert isinstance(second, Ended)
    assert second.result["seen"] == [f"{ChatCompletionMessage.__module__}.ChatCompletionMessage"]  # type: ignore[index]
    assert ("openai", "OpenAI") not in AllowedTypes()


FOREIGN_VALUES: dict[str, dict[str, object]] = {
    "Invoice": {"number": 1},
    "Line": {"text": "a"},
    "Color": {"value": "red"},
    "Pair": {"left": 1, "right": 2},
}


@pytest.mark.invariant("P15")
@pytest.mark.parametrize("name", FOREIGN_VALUES)
async def test_another_type_is_refused_before_it_is_stored_until_the_setting_names_it(
    name: str,
    tmp_path: Path,
    foreign: Any,  # noqa: ANN401 - a module
) -> None:
    value = getattr(foreign, name)(**FOREIGN_VALUES[name])
    graph = holding({"deep": [value]}, fails=[False, False, False])

    refused = await run(graph, tmp_path)
    allowed = await run(graph, tmp_path, allowed_types=[f"a_library.models.{name}"])

    assert isinstance(refused, Failed)
    assert isinstance(refused.error, StateTypeError)
    assert refused.node == "make"
    assert str(refused.error).startswith("state['value']['deep'][0] of node 'make' cannot be")
    assert f"checkpoints.allowed_types = ['a_library.models.{name}']" in str(refused.error)
    assert isinstance(allowed, Ended)
    assert allowed.resumed


@rows(
    "given, name, is_allowed",
    [
        ("a_library.*", "Invoice", True),
        ("a_library.models.*", "Color", True),
        ("a_library.models.*", "Client", False),
        ("a_lib.*", "Invoice", False),
        ("a_library.models.Line", "Invoice", False),
        ("a_library.models.Client", "Client", True),
    ],
)
def test_the_setting_names_a_type_or_the_data_of_a_package(
    *, given: str, name: str, is_allowed: bool
) -> None:
    assert (("a_library.models", name) in AllowedTypes([given])) is is_allowed


async def test_checkpoints_of_the_version_before_are_gone_on_from(
    tmp_path: Path,
    foreign: Any,  # noqa: ANN401 - a module
) -> None:
    own = holding(Inner(shade=Shade.DARK), fails=[False, True])
    library = holding(foreign.Invoice(number=1), fails=[False, True])
    (tmp_path / "own").mkdir()
    (tmp_path / "library").mkdir()
    await run_as_before(own, tmp_path / "own")
    await run_as_before(library, tmp_path / "library")

    resumed = await run(own, tmp_path / "own")
    refused = await run(library, tmp_path / "library")
    then = await run(library, tmp_path / "library", allowed_types=["a_library.*"])

    assert isinstance(resumed, Ended)
    assert resumed.resumed
    assert isinstance(refused, Failed)
    assert "in a checkpoint state['value'] is of type a_library.models.Invoice" in str(
        refused.error
    )
    assert isinstance(then, Ended)
    assert then.resumed


async def test_what_is_stored_now_is_read_by_the_version_before(tmp_path: Path) -> None:
    graph = holding(Inner(shade=Shade.DARK), fails=[False, True])
    await run(graph, tmp_path)

    end = await run_as_before(graph, tmp_path)

    assert isinstance(end, Ended)
    assert end.resumed


async def test_encrypted_checkpoints_are_as_strict(
    tmp_path: Path,
    foreign: Any,  # noqa: ANN401 - a module
) -> None:
    graph = holding(foreign.Line("a"), fails=[False])

    end = await run(graph, tmp_path, encryption_key="k" * 32)

    assert isinstance(end, Failed)
    assert isinstance(end.error, StateTypeError)


async def test_a_key_is_rotated_and_a_lost_one_is_told(tmp_path: Path) -> None:
    graph = holding("text", fails=[False, True, True])
    await run(graph, tmp_path, encryption_key="a" * 32)

    without = await run(graph, tmp_path, encryption_key="b" * 16)
    resumed = await run(
        graph, tmp_path, encryption_key="b" * 16, old_encryption_keys=["c" * 24, "a" * 32]
    )

    assert isinstance(without, Failed)
    assert "checkpoints.old_encryption_keys" in str(without.error)
    assert isinstance(resumed, Failed)
    assert isinstance(resumed.error, ConnectionResetError)
    assert resumed.resumed
