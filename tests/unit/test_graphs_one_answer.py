"""One event, one answer: the first is what every later delivery of the event is told."""

from __future__ import annotations

import collections
import dataclasses
import enum
import operator
import pathlib
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict

import pytest
from hypothesis import given as drawn
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels import EphemeralValue, UntrackedValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel, SecretStr

from redrive.errors import ResultError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs import Checkpoints, Ended, Failed, GraphSettings, Lease, RunEnd
from redrive.graphs.comes_back import comes_back
from redrive.graphs.processor import WorkflowProcessor
from redrive.graphs.registry import GraphRegistry
from redrive.testing import event

Graph = Any  # LangGraph's own type depends on its state's


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    secret: SecretStr = SecretStr("hidden")


@dataclasses.dataclass(init=False)
class Bare:
    n: int = 1


class Pair(NamedTuple):
    left: int
    right: tuple[int, ...]


class Free:
    pass


class Sub(dict[str, int]):
    pass


VALUES: dict[str, Callable[[], object]] = {
    "exception": lambda: ValueError("no"),
    "exceptions inside": lambda: [{"error": KeyError("no")}, ValueError("no")],
    "half a character": lambda: "a\ud800",
    "half a character as key": lambda: {"\ud800": 1},
    "nan": lambda: float("nan"),
    "infinite": lambda: [float("inf")],
    "large number": lambda: 2**70,
    "tuple": lambda: (1, (2,)),
    "set": lambda: {3, 1, 2},
    "deque": lambda: collections.deque([1, 2], maxlen=2),
    "counter": lambda: collections.Counter("aab"),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "subclass": lambda: Sub(a=1),
    "enum": lambda: Colour.RED,
    "enum as key": lambda: {Colour.RED: 1},
    "number as key": lambda: {1: "a", 2.5: "b", None: "c", False: "d"},
    "tuple as key": lambda: {(1, 2): "a"},
    "model": Model,
    "dataclass without init": Bare,
    "named tuple": lambda: Pair(1, (2,)),
    "bytes": lambda: bytearray(b"x"),
    "path": lambda: pathlib.PurePosixPath("a/b"),
    "pattern": lambda: re.compile("a"),
    "decimal": lambda: Decimal("1.10"),
    "uuid": lambda: uuid.UUID(int=1),
    "datetime": lambda: {datetime(2026, 1, 1, tzinfo=UTC): timedelta(seconds=1)},
    "free": Free,
    "function": lambda: print,
    "type": lambda: int,
}


class Stored(TypedDict, total=False):
    value: Any
    n: int


class Untracked(TypedDict, total=False):
    value: Annotated[Any, UntrackedValue]
    n: int


class Ephemeral(TypedDict, total=False):
    value: Annotated[Any, EphemeralValue]
    n: int


def writes(value: object, state: type = Stored) -> Graph:
    graph: Graph = StateGraph(state)
    return graph.add_node("make", lambda _: {"value": value, "n": 1}).add_edge(START, "make")


async def delivered(graph: object, kept: object, given: WorkflowEvent) -> RunEnd:
    processor = WorkflowProcessor({"*": graph}, kept)  # type: ignore[dict-item, arg-type]  # any of them
    return await processor.run(given, thread_id=f"{given.event_id}/0/0", lease=Lease())


def told(end: RunEnd) -> object:
    if isinstance(end, Failed):
        return type(end.error), str(end.error), end.node
    assert isinstance(end, Ended)
    return end.result, end.reason, end.error


@pytest.mark.parametrize("name", VALUES)
async def test_the_first_answer_is_that_of_every_later_delivery(
    name: str, checkpoints: Checkpoints
) -> None:
    graph, given = writes(VALUES[name]()), event({})

    first = await delivered(graph, checkpoints, given)
    again = await delivered(graph, checkpoints, given)

    assert told(again) == told(first)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ANY = st.recursive(
    PLAIN
    | st.sampled_from([made for name, made in VALUES.items() if name != "type"]).map(
        lambda make: make()
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=4,
)


@drawn(ANY)
@hypothesis_settings(max_examples=60, deadline=None)
async def test_whatever_a_graph_returns_its_answers_are_equal(value: object) -> None:
    graph, saver, given = writes(value), InMemorySaver(), event({})

    first = await delivered(graph, saver, given)
    again = await delivered(graph, saver, given)

    assert told(again) == told(first)


COMPILED = GraphRegistry({"*": writes(0)}).find("any").compiled
SERDE = InMemorySaver().serde


@drawn(ANY)
@hypothesis_settings(max_examples=200, deadline=None)
def test_what_comes_back_needs_no_look_at_the_checkpoint(value: object) -> None:
    state = {"value": value, "n": 1}
    if not comes_back(COMPILED, state):
        return

    try:
        stored = SERDE.dumps_typed(state)
    except TypeError:
        return  # a run with this state has failed before anything was answered
    found = SERDE.loads_typed(stored)

    assert repr(found) == repr(state)


def test_what_most_graphs_return_comes_back() -> None:
    state = {"value": {"a": [1, 2.5, "ü", None, True, {"b": []}]}, "n": 1}

    assert comes_back(COMPILED, state)


@pytest.mark.parametrize("state", [Untracked, Ephemeral])
async def test_channels_that_do_not_keep_their_value_are_answered_equally(
    state: type, checkpoints: Checkpoints
) -> None:
    graph, given = writes("a", state), event({})

    first = await delivered(graph, checkpoints, given)
    again = await delivered(graph, checkpoints, given)

    assert isinstance(first, Ended)
    assert told(again) == told(first)


async def test_questions_are_asked_equally(checkpoints: Checkpoints) -> None:
    class State(TypedDict, total=False):
        n: int
        hidden: int

    class Output(TypedDict, total=False):
        n: int

    graph: Graph = StateGraph(State, output_schema=Output)
    graph.add_node("ask", lambda _: {"n": interrupt({"why": ValueError("no")})})
    graph.add_node("also", lambda _: {"hidden": interrupt("and this?")})
    graph.add_edge(START, "ask").add_edge(START, "also")
    given = event({"n": 0, "hidden": 1})

    first = await delivered(graph, checkpoints, given)
    again = await delivered(graph, checkpoints, given)

    assert isinstance(first, Ended)
    assert set(first.result) == {"n", "__interrupt__"}  # type: ignore[call-overload]  # a dict
    assert told(again) == told(first)


async def test_functions_answer_equally(checkpoints: Checkpoints) -> None:
    @entrypoint()
    async def flow(_: dict[str, object]) -> object:
        return entrypoint.final(value={"error": ValueError("no")}, save={"another": 1})

    given = event({})

    first = await delivered(flow, checkpoints, given)
    again = await delivered(flow, checkpoints, given)

    assert isinstance(first, Ended)
    assert first.result == {"error": "ValueError('no')"}
    assert told(again) == told(first)


async def test_messages_are_answered_equally(checkpoints: Checkpoints) -> None:
    graph: Graph = StateGraph(MessagesState)
    reply = AIMessage("hi", tool_calls=[{"name": "t", "args": {"a": (1,)}, "id": "c"}])
    graph.add_node("reply", lambda _: {"messages": [HumanMessage("hello"), reply]})
    graph.add_edge(START, "reply")
    given = event({"messages": []})

    first = await delivered(graph, checkpoints, given)
    again = await delivered(graph, checkpoints, given)

    assert isinstance(first, Ended)
    assert told(again) == told(first)


async def test_an_output_function_is_given_the_same_state_each_time(
    checkpoints: Checkpoints, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"mapped_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(
        "from typing import Any, TypedDict\n"
        "from langgraph.graph import START, StateGraph\n"
        "class S(TypedDict):\n"
        "    value: Any\n"
        "graph = StateGraph(S)\n"
        "graph.add_node('make', lambda _: {'value': (1, 2)})\n"
        "graph.add_edge(START, 'make')\n"
        "def output(state):\n"
        "    return repr(state)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings, given = GraphSettings(target=f"{name}:graph", output=f"{name}:output"), event({})

    first = await delivered(settings, checkpoints, given)
    again = await delivered(settings, checkpoints, given)

    assert isinstance(first, Ended)
    assert told(again) == told(first)


async def test_run_directly_the_same_event_has_one_answer(checkpoints: Checkpoints) -> None:
    processor = WorkflowProcessor({"*": writes({"why": ValueError("no")})}, checkpoints)
    given = event({})

    def said(answer: WorkflowResultEvent) -> object:
        return answer.status, answer.result, answer.error

    first = await processor.process_workflow_event(given)
    again = await processor.process_workflow_event(given)

    assert said(again) == said(first)


async def test_without_checkpoints_what_is_no_json_is_a_failure() -> None:
    end = await delivered(writes(ValueError("no")), None, event({}))

    assert isinstance(end, Failed)
    assert isinstance(end.error, ResultError)


def test_reducers_keep_their_value() -> None:
    class Sum(TypedDict):
        n: Annotated[int, operator.add]

    graph: Graph = StateGraph(Sum)
    graph.add_node("one", lambda _: {"n": 1}).add_edge(START, "one")

    assert comes_back(GraphRegistry({"*": graph}).find("any").compiled, {"n": 1})
