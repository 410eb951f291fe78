"""A state that no checkpoint can hold: the error names node, key and place, and says what to do."""

from __future__ import annotations

import dataclasses
import re
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from pydantic import BaseModel, ConfigDict

from redrive.events import ResultStatus
from redrive.graphs import Checkpoints, Failed, Lease, WorkflowProcessor
from redrive.retry import classify
from redrive.retry.kinds import Kind
from redrive.testing import event

Graph = Any  # LangGraph's own type depends on its state's


class State(TypedDict, total=False):
    client: Any
    tools: Any


@dataclasses.dataclass
class Held:
    lock: Any


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    held: Any = None


def one(node: Any, name: str = "make") -> Graph:  # noqa: ANN401 - any node
    graph: Graph = StateGraph(State)
    return graph.add_node(name, node).add_edge(START, name)


def sending(arg: object, node: Any) -> Graph:  # noqa: ANN401 - any node
    graph: Graph = StateGraph(State)
    graph.add_node("plan", lambda _: {}).add_edge(START, "plan").add_node("work", node)
    return graph.add_conditional_edges("plan", lambda _: [Send("work", arg)], ["work"])


def lock() -> Any:  # noqa: ANN401 - no type has a name
    return threading.Lock()


@task
async def step() -> object:
    return [lock()]


@entrypoint()
async def flow(_: dict[str, object]) -> object:
    return await step()


CASES: dict[str, tuple[Graph, str, str | None]] = {
    "a key": (one(lambda _: {"client": lock()}), "state['client'] of node 'make'", "make"),
    "deep": (
        one(lambda _: {"tools": {"search": [1, {"c": lock()}]}}),
        "state['tools']['search'][1]['c'] of node 'make'",
        "make",
    ),
    "in a dataclass": (one(lambda _: {"client": Held(lock())}), "state['client'].lock", "make"),
    "in a model": (one(lambda _: {"client": Model(held=lock())}), "state['client'].held", "make"),
    "a branch": (
        sending({}, lambda _: {"client": lock()}),
        "state['client'] of node 'work'",
        "work",
    ),
    "the argument of a branch": (
        sending({"a": [lock()]}, lambda _: {}),
        "sends[0].arg['a'][0] of node 'plan'",
        "plan",
    ),
    "in a subgraph": (
        one(one(lambda _: {"client": lock()}).compile(), "outer"),
        "state['client'] of node 'make'",
        "outer/make",
    ),
    "a question": (one(lambda _: interrupt(lock())), "the value of the interrupt", "make"),
    "a function": (flow, "the returned value[0]", None),
    "a number": (one(lambda _: {"client": 2**70}), "state['client'] of node 'make'", "make"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("saver", ["sqlite", "memory"])
async def test_the_error_names_node_and_place(
    name: str, saver: str, checkpoints: Checkpoints
) -> None:
    graph, place, node = CASES[name]
    given = event({})
    kept = checkpoints if saver == "sqlite" else InMemorySaver()

    end = await WorkflowProcessor({"*": graph}, kept).run(
        given, thread_id=f"{given.event_id}/0/0", lease=Lease()
    )

    assert isinstance(end, Failed)
    assert isinstance(end.error, TypeError)
    assert str(end.error).startswith(place)
    assert re.search(r"cannot be stored in a checkpoint: it is of type \S+ \(", str(end.error))
    assert end.error.__cause__ is not None
    assert classify(end.error).kind is Kind.PERMANENT
    assert node is None or end.node == node


class Hidden(TypedDict, total=False):
    names: Annotated[list[str], lambda old, new: old + [type(one).__name__ for one in new]]


def hidden_by_its_reducer() -> Graph:
    graph: Graph = StateGraph(Hidden)
    graph.add_node("make", lambda _: {"names": [lock()]}).add_edge(START, "make")
    return graph.add_node("then", lambda _: {"names": [1]}).add_edge("make", "then")


@entrypoint()
async def flow_that_keeps_nothing(_: dict[str, object]) -> object:
    await step()
    return "done"


@pytest.mark.parametrize("graph", [hidden_by_its_reducer(), flow_that_keeps_nothing])
@pytest.mark.parametrize("saver", ["sqlite", "memory"])
@pytest.mark.invariant("P2")
async def test_what_no_checkpoint_could_hold_is_no_success_when_its_event_comes_again(
    graph: Graph, saver: str, checkpoints: Checkpoints
) -> None:
    """The value itself is in no checkpoint, so that the rest could be stored as if it had ended."""
    given = event({})
    kept = checkpoints if saver == "sqlite" else InMemorySaver()
    processor = WorkflowProcessor({"*": graph}, kept)

    answers = [await processor.process_workflow_event(given) for _ in range(2)]

    assert [answer.status for answer in answers] == [ResultStatus.ERROR] * 2
    assert answers[0].error == answers[1].error
    assert "cannot be stored in a checkpoint" in str(answers[0].error)
