"""What a run is given by its event: context, configurable, metadata, tags; what traces see."""

from __future__ import annotations

import contextlib
import operator
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given as drawn
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from langgraph._internal._config import _PROPAGATE_TO_METADATA  # to learn of new names
from langgraph._internal._constants import RESERVED  # as above
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel
from tests.rows import rows

from redrive.errors import PermanentError, SettingsError, TransientError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    CheckpointSettings,
    Ended,
    Failed,
    GraphRegistry,
    GraphSettings,
    Lease,
    RunEnd,
    WorkflowProcessor,
)
from redrive.graphs.reserved_names import is_reserved
from redrive.graphs.run_config import RunGiven, run_given
from redrive.retry import classify
from redrive.retry.kinds import Kind
from redrive.settings import load_settings
from redrive.testing import event


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@dataclass
class User:
    user_id: str
    roles: list[str] = field(default_factory=list)


class Model(BaseModel):
    user_id: str
    level: int = 1


class Plain(TypedDict):
    user_id: str


Graph = Any  # LangGraph's own type depends on its state's


def asked(
    metadata: Mapping[str, object] | None = None, config: object = None, **more: object
) -> WorkflowEvent:
    made = event({"log": []}, workflow_id="work").model_dump()
    payload = made["payload"] if config is None else {**made["payload"], "config": config}
    return WorkflowEvent.model_validate(
        {**made, "payload": payload, "metadata": metadata or {}, **more}
    )


async def run(
    graph: object,
    given: WorkflowEvent,
    kept: Checkpoints | None = None,
    **options: Any,
) -> RunEnd:
    processor = WorkflowProcessor({"work": graph}, kept)  # type: ignore[dict-item]  # any graph
    return await processor.run(given, thread_id=f"{given.event_id}/0/0", lease=Lease(), **options)


class Seen:
    """A graph whose node, and whose subgraph's node, note the context that they are given."""

    def __init__(self, schema: type | None, *, failures: int = 0) -> None:
        self.contexts: list[Any] = []
        self.configs: list[RunnableConfig] = []
        self.failures = failures
        inner: Graph = StateGraph(Log, context_schema=schema)
        inner.add_node("inner", self.node).add_edge(START, "inner")
        self.graph: Graph = StateGraph(Log, context_schema=schema)
        self.graph.add_node("outer", inner.compile()).add_edge(START, "outer")

    def node(self, _: Log, config: RunnableConfig, runtime: Runtime[Any]) -> Log:
        self.contexts.append(runtime.context)
        self.configs.append(config)
        if self.failures:
            self.failures -= 1
            raise TransientError("again")
        return {"log": []}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (User, User("u1", ["a"])),
        (Model, Model(user_id="u1")),
        (Plain, {"user_id": "u1", "roles": ["a"]}),
    ],
    ids=["dataclass", "pydantic", "TypedDict"],
)
@pytest.mark.parametrize("place", ["langgraph", "context"])
async def test_the_context_of_an_event_reaches_the_nodes(
    schema: type, expected: object, place: str
) -> None:
    seen, context = Seen(schema), {"user_id": "u1", "roles": ["a"]}
    metadata = {"context": context} if place == "context" else {"langgraph": {"context": context}}

    end = await run(seen.graph, asked(metadata))

    assert isinstance(end, Ended)
    assert seen.contexts == [expected]


async def test_without_a_context_there_is_none_as_in_langgraph() -> None:
    seen, unasked = Seen(User), Seen(None)

    await run(seen.graph, asked({"langgraph": "1.2", "context": None}))
    await run(unasked.graph, asked({"context": {"of": "somebody else"}}))

    assert [*seen.contexts, *unasked.contexts] == [None, None]


BAD: list[tuple[type, dict[str, object], str]] = [
    (User, {"context": {}}, "the event's metadata.context does not fit User"),
    (User, {"context": {"user_id": "u", "self": 1}}, "does not fit User"),
    (User, {"context": "u1"}, "metadata.context is of type str, not an object"),
    (User, {"langgraph": {"context": ["u1"]}}, "metadata.langgraph.context is of type list"),
    (Model, {"context": {"user_id": "secret-value", "level": "high"}}, "does not fit Model: level"),
    (Plain, {"context": {"user": "u"}}, "does not fit Plain: missing ['user_id']"),
    (User, {"langgraph": {"tags": "x"}}, "metadata.langgraph.tags is not a list of text"),
    (User, {"langgraph": {"tags": [1]}}, "metadata.langgraph.tags is not a list of text"),
    (User, {"langgraph": {"metadata": 7}}, "metadata.langgraph.metadata is of type int"),
    (User, {"langgraph": {"metadata": {"run_id": "x"}}}, "sets 'run_id'"),
    (User, {"langgraph": {"metadata": {"attempt": 9}}}, "sets 'attempt'"),
    (User, {"langgraph": {"metadata": {"langgraph_step": 9}}}, "sets 'langgraph_step'"),
]


@pytest.mark.parametrize("row", BAD, ids=[row[2] for row in BAD])
async def test_what_does_not_fit_is_a_permanent_failure_in_words(
    row: tuple[type, dict[str, object], str],
) -> None:
    schema, metadata, words = row
    seen = Seen(schema)

    end = await run(seen.graph, asked(metadata))

    assert isinstance(end, Failed)
    assert isinstance(end.error, PermanentError)
    assert words in str(end.error)
    assert "secret-value" not in str(end.error)
    assert classify(end.error).kind is Kind.PERMANENT
    assert seen.contexts == []


FUNCTIONS = """
import operator
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph

class S(TypedDict):
    log: Annotated[list[str], operator.add]

seen = []

def node(state, runtime, config):
    own = {k: v for k, v in config["configurable"].items() if "__" not in k}
    own = {k: own[k] for k in own if not k.startswith(("thread", "checkpoint"))}
    seen.append((runtime.context, own))
    return {"log": []}

graph = StateGraph(S)
graph.add_node("node", node)
graph.add_edge(START, "node")

def context(event):
    return {"who": event.metadata["who"]}

async def acontext(event):
    return {"who": event.metadata["who"], "how": "async"}

def leaves(event):
    raise SystemExit(3)
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module that can be imported, one for each test."""
    name = f"given_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def seen_of(module: str) -> list[tuple[object, dict[str, object]]]:
    found: list[tuple[object, dict[str, object]]] = __import__(module).seen
    return found


@pytest.mark.parametrize(
    ("function", "expected"),
    [("context", {"who": "me"}), ("acontext", {"who": "me", "how": "async"})],
)
async def test_a_function_of_the_settings_makes_the_context(
    functions: str, function: str, expected: object
) -> None:
    settings = GraphSettings(target=f"{functions}:graph", context=f"{functions}:{function}")

    end = await run(settings, asked({"who": "me", "langgraph": {"context": {"who": "else"}}}))

    assert isinstance(end, Ended)
    assert seen_of(functions) == [(expected, {})]


async def test_what_a_context_function_raises_ends_its_run_only(functions: str) -> None:
    settings = GraphSettings(target=f"{functions}:graph", context=f"{functions}:leaves")
    broken = settings.model_copy(update={"context": f"{functions}:context"})

    left, missing = await run(settings, asked()), await run(broken, asked())

    assert isinstance(left, Failed)
    assert isinstance(missing, Failed)
    assert classify(left.error).kind is classify(missing.error).kind is Kind.PERMANENT


async def test_only_allowed_names_of_payload_config_pass(functions: str) -> None:
    settings = GraphSettings(
        target=f"{functions}:graph", configurable=("user_id", "model", "depth", "absent")
    )
    config = {
        "user_id": "u1",
        "thread_id": "another's",
        "checkpoint_id": "x",
        "__pregel_runtime": "x",
        "secret": "x",
        "recursion_limit": 1,
        "configurable": {"model": "m", "user_id": "less", "checkpoint_ns": "x"},
    }
    metadata = {"langgraph": {"configurable": {"depth": 3, "thread_id": "x"}}}

    end = await run(settings, asked(metadata, config))

    assert isinstance(end, Ended)
    assert seen_of(functions) == [(None, {"user_id": "u1", "model": "m", "depth": 3})]


@pytest.mark.parametrize("config", ["u1", ["user_id"], {"configurable": "u1"}])
async def test_a_config_that_is_no_object_fails_in_words(functions: str, config: object) -> None:
    settings = GraphSettings(target=f"{functions}:graph", configurable=("user_id",))

    refused = await run(settings, asked(config=config))
    passed_by = await run(f"{functions}:graph", asked(config=config))

    assert isinstance(refused, Failed)
    assert "payload.config" in str(refused.error)
    assert isinstance(passed_by, Ended)


@rows(
    "name",
    [
        "thread_id",
        "checkpoint_id",
        "checkpoint_ns",
        "checkpoint_map",
        "run_id",
        "task_id",
        "assistant_id",
        "graph_id",
        "__pregel_runtime",
        "__anything",
        "langgraph_auth_user",
        "redrive_run",
        "",
    ],
)
def test_names_of_langgraph_and_ours_are_refused_when_settings_load(name: str) -> None:
    overrides = {"graphs.work.target": "m:g", "graphs.work.configurable": ["fine", name]}

    with pytest.raises(SettingsError, match=r"configurable"):
        load_settings(overrides=overrides, environ={})


def test_the_environment_names_them_in_a_line() -> None:
    environ = {
        "REDRIVE_GRAPHS__WORK__TARGET": "m:g",
        "REDRIVE_GRAPHS__WORK__CONFIGURABLE": "user_id, model",
    }

    assert load_settings(environ=environ).graphs["work"].configurable == ("user_id", "model")


def test_every_name_that_langgraph_reserves_is_reserved_here() -> None:
    # Of the others two are separators, one a tag, and one the dict that the names stand in.
    names = {name for name in RESERVED if name.isidentifier() and name != "configurable"}

    assert [name for name in names | _PROPAGATE_TO_METADATA if not is_reserved(name)] == []


async def test_each_attempt_and_redrive_is_given_the_same(checkpoints: Checkpoints) -> None:
    seen, context = Seen(User, failures=2), {"user_id": "u1", "roles": ["a"]}
    given = asked({"langgraph": {"context": context, "tags": ["t"], "metadata": {"deep": [1]}}})
    ends = []

    for count in (0, 0, 1):
        ends.append(await run(seen.graph, given, checkpoints, redrive_count=count))
        # As a node may.
        seen.contexts[-1].roles.append("changed")
        seen.configs[-1]["metadata"]["deep"].append(2)

    assert isinstance(ends[-1], Ended)
    assert [found.roles for found in seen.contexts] == [["a", "changed"]] * 3
    assert [config["metadata"]["deep"] for config in seen.configs] == [[1, 2]] * 3
    assert all("t" in config["tags"] for config in seen.configs)
    assert given.metadata["langgraph"]["context"] == {"user_id": "u1", "roles": ["a"]}


async def test_what_a_node_does_to_its_input_is_not_the_next_attempts_input() -> None:
    class Items(TypedDict):
        items: list[list[int]]

    seen = []

    def node(state: Items) -> Items:
        seen.append([list(item) for item in state["items"]])
        state["items"][0].append(2)
        state["items"].append([])
        raise TransientError("again")

    graph: Graph = StateGraph(Items)
    graph.add_node("node", node).add_edge(START, "node")
    given = event({"items": [[1]]}, workflow_id="work")

    for _ in range(2):
        await run(graph, given)

    assert seen == [[[1]], [[1]]]


class Tracer(BaseTracer):
    """Keeps the runs that it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)


@pytest.mark.parametrize("kept", ["none", "sqlite"])
async def test_a_trace_can_be_found_by_its_event(kept: str, tmp_path: Path) -> None:
    tracer, seen = Tracer(), Seen(None, failures=1)
    graph = seen.graph.compile().with_config({"callbacks": [tracer], "metadata": {"team": "blue"}})
    given = asked(
        {
            "dag_id": "questions",
            "task_id": "ask",
            "langgraph": {"metadata": {"tenant": "t1"}, "tags": ["night"]},
        },
        workflow_run_id="scheduled__1",
    )
    url = "none" if kept == "none" else f"sqlite:///{tmp_path}/checkpoints.db"

    async with Checkpoints(CheckpointSettings(url=url)) as checkpoints:
        for number in (1, 2):
            await run(graph, given, checkpoints, number=number)

    expected = {
        "event_id": given.event_id,
        "workflow_id": "work",
        "workflow_run_id": "scheduled__1",
        "dag_id": "questions",
        "airflow_task_id": "ask",
        "tenant": "t1",
        "team": "blue",
    }
    for number, root in enumerate(tracer.roots, 1):
        metadata = (root.extra or {})["metadata"]
        assert {name: metadata.get(name) for name in expected} == expected
        assert (metadata["attempt"], root.name, root.tags) == (number, "work", ["night"])
    assert len(tracer.roots) == 2


async def test_what_traces_are_told_is_not_stored_with_each_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"
    seen = Seen(None)
    graph = seen.graph.compile().with_config({"metadata": {"team": "blue"}})
    given = asked({"dag_id": "questions", "langgraph": {"metadata": {"tenant": "t1"}}})

    async with Checkpoints(CheckpointSettings(url=f"sqlite:///{path}")) as checkpoints:
        await run(graph, given, checkpoints)

    with sqlite3.connect(path) as connection:
        stored = [row[0] for row in connection.execute("SELECT metadata FROM checkpoints")]
    connection.close()
    assert len(stored) > 3
    for metadata in stored:
        assert b"redrive_run" in metadata
        assert b"team" in metadata
        for name in (b"dag_id", b"attempt", b"event_id", b"workflow_id", b"tenant"):
            assert name not in metadata


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["context", "configurable", "metadata", "tags", "user_id", "roles"])
LOADED = GraphRegistry({"work": Seen(User).graph}).find("work")
SECTIONS = st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON)) | JSON


@drawn(SECTIONS, JSON, SECTIONS)
@hypothesis_settings(max_examples=60, deadline=None)
async def test_no_event_can_do_more_than_end_its_own_run(
    section: object, context: object, config: object
) -> None:
    hostile = asked({"langgraph": section, "context": context}, config)

    found = RunGiven()
    with contextlib.suppress(PermanentError):
        found = await run_given(hostile, LOADED)

    assert found.context is None or isinstance(found.context, User)
    assert found.configurable == {}
    assert not any(is_reserved(name) for name in found.names)
