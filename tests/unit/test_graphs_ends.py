"""What a run that ended says: results, interrupts, failures of its own, and the answer record."""

from __future__ import annotations

import asyncio
import operator
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from redrive.errors import ResultError
from redrive.events import ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.graphs import (
    Checkpoints,
    Ended,
    Failed,
    GraphFailed,
    GraphSettings,
    Lease,
    TimeLimits,
    WorkflowProcessor,
)
from redrive.retry.classifier import Classifier
from redrive.retry.kinds import Kind, Reason
from redrive.retry.rule import Rule
from redrive.testing.manual_clock import ManualClock

EVENT_ID = "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e"
THREAD = f"{EVENT_ID}/0/0"


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def event(data: dict[str, object] | None = None, workflow_id: str = "work") -> WorkflowEvent:
    return WorkflowEvent.model_validate(
        {
            "event_id": EVENT_ID,
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": workflow_id,
            "workflow_run_id": "run",
            "payload": {"data": {"log": ["in"]} if data is None else data},
        }
    )


def one_node(node: Any, state: type = Log) -> StateGraph[Any, Any, Any, Any]:  # noqa: ANN401 - any node
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


MAPPERS = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from redrive.graphs import GraphFailed

class S(TypedDict):
    n: int

runs = []

def work(state):
    runs.append(state["n"])
    return {"n": state["n"] + 1}

graph = StateGraph(S)
graph.add_node("work", work)
graph.add_edge(START, "work")

def given(event):
    return {"n": event.payload.data["number"]}

async def agiven(event):
    return given(event)

def result(state):
    return {"answer": state["n"]}

def gave_up(state):
    return GraphFailed("no source found", {"tried": state["n"]})

broken = True

def sometimes(state):
    if broken:
        raise ValueError("cannot read it")
    return state["n"]
"""


@pytest.fixture
def mappers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mapped_graph.py").write_text(MAPPERS)
    monkeypatch.syspath_prepend(tmp_path)
    # A module is imported once for all tests: each gets a fresh one.
    monkeypatch.delitem(sys.modules, "mapped_graph", raising=False)
    return "mapped_graph"


@pytest.mark.parametrize("given", ["given", "agiven"])
async def test_input_and_output_functions_stand_between_event_and_graph(
    mappers: str, given: str
) -> None:
    settings = GraphSettings(
        target=f"{mappers}:graph", input=f"{mappers}:{given}", output=f"{mappers}:result"
    )

    end = await WorkflowProcessor({"work": settings}).run(
        event({"number": 4}), thread_id=THREAD, lease=Lease()
    )

    assert end == Ended(result={"answer": 5}, resumed=False)


async def test_a_graph_that_says_it_failed_has_ended(mappers: str) -> None:
    settings = GraphSettings(target=f"{mappers}:graph", output=f"{mappers}:gave_up")

    end = await WorkflowProcessor({"work": settings}).run(
        event({"n": 1}), thread_id=THREAD, lease=Lease()
    )

    assert end == Ended(
        result={"tried": 2}, resumed=False, reason=Reason.GRAPH_FAILED, error="no source found"
    )


@pytest.mark.invariant("P4")
async def test_an_output_function_that_raised_is_called_again_and_the_graph_is_not(
    mappers: str, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = GraphSettings(target=f"{mappers}:graph", output=f"{mappers}:sometimes")
    processor = WorkflowProcessor({"work": settings}, checkpoints)
    first = await processor.run(event({"n": 1}), thread_id=THREAD, lease=Lease())
    module = import_module(mappers)
    monkeypatch.setattr(module, "broken", False)

    second = await processor.run(event({"n": 1}), thread_id=THREAD, lease=Lease())

    assert isinstance(first, Failed)
    assert (str(first.error), first.node) == ("cannot read it", None)
    assert second == Ended(result=2, resumed=True)
    assert module.runs == [1]


async def test_messages_are_a_result_that_can_be_published() -> None:
    graph = one_node(lambda _: {"messages": [AIMessage("hello", id="2")]}, MessagesState)

    answer = await WorkflowProcessor({"work": graph}).process_workflow_event(
        event({"messages": [{"role": "user", "content": "hi", "id": "1"}]})
    )

    read = WorkflowResultEvent.from_bytes(answer.to_bytes())
    assert read.status is ResultStatus.SUCCESS
    assert [(m["type"], m["content"]) for m in read.result["messages"]] == [
        ("human", "hi"),
        ("ai", "hello"),
    ]


async def test_a_result_that_is_not_json_fails_and_names_the_place() -> None:
    class Items(TypedDict):
        items: list[object]

    graph = one_node(lambda _: {"items": [1, {"lock": threading.Lock()}]}, Items)

    end = await WorkflowProcessor({"work": graph}).run(
        event({"items": []}), thread_id=THREAD, lease=Lease()
    )

    assert isinstance(end, Failed)
    assert isinstance(end.error, ResultError)
    assert end.error.__redrive_reason__ == Reason.RESULT_NOT_JSON
    assert "result.items[1].lock" in str(end.error)


async def test_a_graph_that_waits_for_a_person_has_ended_with_its_question(
    checkpoints: Checkpoints,
) -> None:
    asked: list[str] = []

    def node(_: Log) -> Log:
        asked.append("asked")
        return {"log": [interrupt({"question": "may I?"})]}

    processor = WorkflowProcessor({"work": one_node(node)}, checkpoints)

    first = await processor.run(event(), thread_id=THREAD, lease=Lease())
    second = await processor.run(event(), thread_id=THREAD, lease=Lease())

    assert isinstance(first, Ended)
    assert isinstance(second, Ended)
    assert first.reason is second.reason is Reason.INTERRUPT
    assert first.error is not None
    assert "waits for a person" in first.error
    assert isinstance(first.result, dict)
    assert first.result["log"] == ["in"]
    assert first.result["__interrupt__"][0]["value"] == {"question": "may I?"}
    assert first.result == second.result
    assert asked == ["asked"]


async def test_an_interrupt_needs_no_checkpoints() -> None:
    graph = one_node(lambda _: {"log": [interrupt("may I?")]})

    end = await WorkflowProcessor({"work": graph}).run(event(), thread_id=THREAD, lease=Lease())

    assert isinstance(end, Ended)
    assert end.reason is Reason.INTERRUPT


async def test_a_breakpoint_is_an_interrupt_too(checkpoints: Checkpoints) -> None:
    graph = one_node(lambda _: {"log": ["node"]})
    graph.add_node("after", lambda _: {"log": ["after"]})
    graph.add_edge("node", "after")
    compiled = graph.compile(interrupt_before=["after"])

    end = await WorkflowProcessor({"work": compiled}, checkpoints).run(
        event(), thread_id=THREAD, lease=Lease()
    )

    assert isinstance(end, Ended)
    assert end.reason is Reason.INTERRUPT
    assert end.result == {"log": ["in", "node"], "__interrupt__": []}


async def test_a_sibling_of_an_interrupt_that_failed_is_run_again(
    checkpoints: Checkpoints,
) -> None:
    failing = ["once"]
    asked = asyncio.Event()

    async def ask(_: Log) -> Log:
        asked.set()
        return {"log": [interrupt("may I?")]}

    async def work(state: Log) -> Log:
        await asked.wait()
        await asyncio.sleep(0)
        if failing:
            failing.clear()
            raise RuntimeError("not today")
        return {"log": [f"work after {state['log']}"]}

    graph = one_node(ask)
    graph.add_node("work", work)
    graph.add_edge(START, "work")
    processor = WorkflowProcessor({"work": graph}, checkpoints)

    first = await processor.run(event(), thread_id=THREAD, lease=Lease())
    second = await processor.run(event(), thread_id=THREAD, lease=Lease())

    assert isinstance(first, Failed)
    assert isinstance(second, Ended)
    assert second.reason is Reason.INTERRUPT
    assert failing == []


async def test_the_answer_to_a_success_says_how_the_run_went(checkpoints: Checkpoints) -> None:
    clock = ManualClock()

    def node(_: Log) -> Log:
        clock.advance(2)
        return {"log": ["node"]}

    processor = WorkflowProcessor({"work": one_node(node)}, checkpoints, clock=clock, worker="w1")

    answer = await processor.process_workflow_event(event())
    again = await processor.process_workflow_event(event())

    assert answer.status is ResultStatus.SUCCESS
    assert answer.result == again.result == {"log": ["in", "node"]}
    assert (answer.correlation_id, answer.workflow_id, answer.workflow_run_id) == (
        EVENT_ID,
        "work",
        "run",
    )
    assert (answer.error, answer.error_info) == (None, None)
    assert answer.run is not None
    assert again.run is not None
    assert (answer.run.attempts, answer.run.resumed, answer.run.worker) == (1, False, "w1")
    assert answer.run.started_at is not None
    assert (answer.run.finished_at - answer.run.started_at).total_seconds() == 2
    assert again.run.resumed


async def test_the_answer_to_a_failure_of_the_graph_is_failure(mappers: str) -> None:
    settings = GraphSettings(target=f"{mappers}:graph", output=f"{mappers}:gave_up")

    answer = await WorkflowProcessor({"work": settings}).process_workflow_event(event({"n": 1}))

    assert (answer.status, answer.error) == (ResultStatus.FAILURE, "no source found")
    assert answer.result == {"tried": 2}
    assert answer.error_info is not None
    assert answer.error_info.reason is Reason.GRAPH_FAILED


async def test_the_answer_to_what_was_raised_is_error() -> None:
    def node(_: Log) -> Log:
        raise ConnectionError("the model is away")

    answer = await WorkflowProcessor({"work": one_node(node)}).process_workflow_event(event())

    assert (answer.status, answer.result) == (ResultStatus.ERROR, None)
    assert answer.error == "ConnectionError: the model is away"
    info = answer.error_info
    assert info is not None
    assert (info.kind, info.type, info.node) == (Kind.TRANSIENT, "ConnectionError", "node")
    assert (info.reason, info.exhausted) == (Reason.RETRIES_EXHAUSTED, True)


async def test_run_directly_an_event_is_judged_and_limited_as_by_a_worker() -> None:
    async def node(state: Log) -> Log:
        if state["log"] == ["slow"]:
            await asyncio.Event().wait()
        raise KeyError("not there yet")

    rule = Rule(Kind.TRANSIENT, error=KeyError, name="ours")
    processor = WorkflowProcessor({"work": one_node(node)}, classifier=Classifier(rules=(rule,)))

    judged = await processor.process_workflow_event(event())
    limited = await processor.process_workflow_event(
        event({"log": ["slow"]}), limits=TimeLimits(attempt_s=0.1)
    )

    assert judged.error_info is not None
    assert limited.error_info is not None
    assert (judged.error_info.kind, limited.error_info.kind) == (Kind.TRANSIENT, Kind.TIMEOUT)


async def test_the_answer_to_an_unknown_workflow_names_what_is_known() -> None:
    processor = WorkflowProcessor({"other": one_node(lambda _: {})})

    answer = await processor.process_workflow_event(event(workflow_id="a_dag"))

    info = answer.error_info
    assert info is not None
    assert (info.kind, info.reason) == (Kind.PERMANENT, Reason.UNKNOWN_WORKFLOW)
    assert "'a_dag'" in info.message
    assert "other" in info.message


def test_a_failure_of_the_graph_is_a_fact() -> None:
    assert GraphFailed("x") == GraphFailed(error="x", result=None)
