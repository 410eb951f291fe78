"""How many supersteps a run may take: the graph's own limit first, and who may raise it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

import pytest
import typer
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from structlog.testing import capture_logs
from tests.rows import rows

from redrive.cli.shared_flags import graph_settings
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    Failed,
    GraphRegistry,
    GraphSettings,
    Lease,
    RunEnd,
    WorkflowProcessor,
)
from redrive.graphs.registry import Configured, GraphSource
from redrive.retry import Kind, classify
from redrive.wiring.graphs import warn_of_limits

MANY = 150


def add(left: int, right: int) -> int:
    return left + right


class State(TypedDict, total=False):
    n: Annotated[int, add]


def counting(*, to: int, limit: int | None = None) -> Any:  # noqa: ANN401 - a compiled graph
    """Return a graph of one node that runs so many times."""
    graph = StateGraph(State)
    graph.add_node("count", lambda _: {"n": 1})
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", lambda s: END if s["n"] >= to else "count", ["count", END])
    compiled = graph.compile()
    return compiled if limit is None else compiled.with_config({"recursion_limit": limit})


def around(inner: Any) -> Any:  # noqa: ANN401 - a node, or a graph
    """Return a graph whose one node is this."""
    graph = StateGraph(State)
    graph.add_node("inner", inner)
    graph.add_edge(START, "inner")
    return graph


async def run(source: GraphSource, checkpoints: Checkpoints | None = None) -> RunEnd:
    event = WorkflowEvent.model_validate(
        {
            "event_id": "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e",
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {"n": 0}},
        }
    )
    processor = WorkflowProcessor({"work": source}, checkpoints)
    return await processor.run(event, thread_id="t", lease=Lease())


def test_the_graphs_own_limit_holds_then_the_setting_then_the_default() -> None:
    inner = counting(to=1, limit=9_999)

    async def passes_config(state: State, config: RunnableConfig) -> State:
        return {"n": (await inner.ainvoke(state, config))["n"]}

    set_to_50 = GraphSettings(recursion_limit=50)
    sources: dict[str, GraphSource] = {
        "its own": counting(to=1, limit=7),
        "its own, and a setting": Configured(counting(to=1, limit=7), set_to_50),
        "a setting": Configured(counting(to=1), set_to_50),
        "a setting, and a subgraph's own": Configured(around(inner), set_to_50),
        "a subgraph's own": around(inner),
        "a subgraph's smaller one": around(counting(to=1, limit=7)),
        "that of a graph which a node calls": around(passes_config),
        "the default": counting(to=1),
    }

    registry = GraphRegistry(sources)

    assert {name: registry.find(name).recursion_limit for name in sources} == {
        "its own": 7,
        "its own, and a setting": 7,
        "a setting": 50,
        "a setting, and a subgraph's own": 50,
        "a subgraph's own": 9_999,
        "a subgraph's smaller one": 100,
        "that of a graph which a node calls": 9_999,
        "the default": 100,
    }


def test_langgraphs_own_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_DEFAULT_RECURSION_LIMIT", "321")

    assert GraphRegistry({"work": counting(to=1)}).find("work").recursion_limit == 321


@pytest.mark.parametrize("nested", [False, True])
async def test_a_graph_with_a_limit_of_its_own_runs_as_long_as_that(
    nested: bool,  # noqa: FBT001 - pytest's way
    checkpoints: Checkpoints,
) -> None:
    agent = counting(to=MANY, limit=9_999)

    end = await run(around(agent) if nested else agent, checkpoints)

    assert not isinstance(end, Failed)


BY_SETTING = "raise graphs.work.recursion_limit, or start the worker with --recursion-limit work=N."
BY_ITSELF = "graph 'work' sets this limit itself, by with_config: raise it there."


@rows(
    ("source", "limit", "advice"),
    [
        (counting(to=MANY), 100, BY_SETTING),
        (Configured(counting(to=MANY), GraphSettings(recursion_limit=5)), 5, BY_SETTING),
        (counting(to=MANY, limit=7), 7, BY_ITSELF),
    ],
)
def test_the_error_names_what_can_be_raised(source: GraphSource, limit: int, advice: str) -> None:
    end = asyncio.run(run(source))

    assert isinstance(end, Failed)
    assert isinstance(end.error, GraphRecursionError)
    assert str(end.error) == (
        f"Recursion limit of {limit} reached without hitting a stop condition. If it is no "
        f"endless loop, {advice}"
    )
    assert classify(end.error).kind is Kind.PERMANENT


async def test_the_limit_of_a_graph_that_a_node_calls_with_another_is_left_alone() -> None:
    inner = counting(to=MANY)

    async def calls(state: State) -> State:
        return {"n": (await inner.ainvoke(state, {"recursion_limit": 3}))["n"]}

    end = await run(around(calls))

    assert isinstance(end, Failed)
    assert str(end.error).startswith("Recursion limit of 3 reached")
    assert "graphs.work" not in str(end.error)


def test_a_setting_that_does_not_count_is_said() -> None:
    asked = GraphSettings(recursion_limit=50)
    registry = GraphRegistry(
        {
            "loud": Configured(counting(to=1, limit=7), asked),
            "same": Configured(counting(to=1, limit=50), asked),
            "asked": Configured(counting(to=1), asked),
            "own": counting(to=1, limit=7),
        }
    )

    with capture_logs() as logs:
        warn_of_limits(registry)

    assert logs == [
        {
            "event": "graph.recursion_limit_unused",
            "log_level": "warning",
            "graph": "loud",
            "limit": 7,
            "setting": 50,
        }
    ]


def test_the_flags_become_settings_of_the_graph() -> None:
    found = graph_settings(["a=m:a", "b=m:b"], ["a=200", "of-a-file=9"])

    assert found == {
        "a": {"target": "m:a", "recursion_limit": 200},
        "b": {"target": "m:b"},
        "of-a-file": {"recursion_limit": 9},
    }
    assert graph_settings(None, None) is None


@rows("limit", ["a", "a=", "=5", "a=0", "a=-1", "a=many"])
def test_a_limit_that_is_no_number_is_refused(limit: str) -> None:
    with pytest.raises(typer.BadParameter):
        graph_settings(None, [limit])
