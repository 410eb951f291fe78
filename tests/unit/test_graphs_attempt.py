"""How one attempt ends: by a failure, a limit, a drain or a cancellation."""

from __future__ import annotations

import asyncio
import operator
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph

from redrive.errors import DeadlineError, UnknownWorkflowError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Checkpoints,
    Drained,
    Ended,
    Failed,
    GraphRegistry,
    GraphSettings,
    GraphVersion,
    Lease,
    RunEnd,
    TimeLimits,
    WorkflowProcessor,
)
from redrive.graphs.registry import GraphSource

EVENT_ID = "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e"
THREAD = f"{EVENT_ID}/0/0"


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


Graph = StateGraph[Log, Any, Log, Log]


class Line:
    """A graph of nodes in a row; each is noted when it runs, and does first what it is told to."""

    def __init__(self, *names: str) -> None:
        self.ran: list[str] = []
        self.first: dict[str, Callable[[], object]] = {}
        self.graph: Graph = StateGraph(Log)
        for index, name in enumerate(names):
            self.graph.add_node(name, lambda state, name=name: self._run(name, state))
            self.graph.add_edge(names[index - 1] if index else START, name)

    def _run(self, name: str, _: Log) -> Log:
        self.ran.append(name)
        self.first.get(name, lambda: None)()
        return {"log": [name]}

    def fail(self, name: str, error: BaseException) -> None:
        def throw() -> None:
            raise error

        self.first[name] = throw


def event(data: dict[str, object] | None = None) -> WorkflowEvent:
    return WorkflowEvent.model_validate(
        {
            "event_id": EVENT_ID,
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {"log": ["in"]} if data is None else data},
        }
    )


async def run(
    graph: GraphSource, checkpoints: Checkpoints | None, given: WorkflowEvent | None = None
) -> RunEnd:
    processor = WorkflowProcessor({"work": graph}, checkpoints)
    return await processor.run(given or event(), thread_id=THREAD, lease=Lease())


async def test_each_checkpoint_carries_count_and_version(checkpoints: Checkpoints) -> None:
    registry = GraphRegistry({"work": Line("one").graph})
    processor = WorkflowProcessor(registry, checkpoints)

    await processor.run(event(), thread_id=THREAD, lease=Lease(), redrive_count=2)

    assert checkpoints.saver is not None
    config: RunnableConfig = {"configurable": {"thread_id": THREAD}}
    stored: list[dict[str, object]] = [
        {**found.metadata} async for found in checkpoints.saver.alist(config)
    ]
    assert len(stored) == 3
    for metadata in stored:
        assert metadata["redrive_count"] == 2
        assert metadata["graph_version"] == registry.find("work").version


async def test_the_recursion_limit_is_always_set(checkpoints: Checkpoints) -> None:
    line = Line("again")
    line.graph.add_conditional_edges("again", lambda _: "again", ["again", END])

    end = await run(line.graph, checkpoints)

    assert isinstance(end, Failed)
    assert isinstance(end.error, GraphRecursionError)
    assert (end.node, len(line.ran)) == (None, 100)


async def test_the_recursion_limit_comes_from_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "looping_graph.py").write_text(
        "from typing import TypedDict\n"
        "from langgraph.graph import START, StateGraph\n"
        "class S(TypedDict):\n    x: int\n"
        "graph = StateGraph(S)\n"
        "graph.add_node('n', lambda s: {'x': s['x'] + 1})\n"
        "graph.add_edge(START, 'n')\n"
        "graph.add_conditional_edges('n', lambda s: 'n', ['n'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = GraphRegistry.from_settings(
        {"work": GraphSettings(target="looping_graph:graph", recursion_limit=7)}
    )

    end = await WorkflowProcessor(registry).run(event({"x": 0}), thread_id=THREAD, lease=Lease())

    assert isinstance(end, Failed)
    assert isinstance(end.error, GraphRecursionError)
    assert "7" in str(end.error)


@pytest.mark.invariant("P4", "P12")
async def test_a_drained_run_goes_on_where_it_stopped(checkpoints: Checkpoints) -> None:
    line = Line("one", "two", "three")
    processor = WorkflowProcessor({"work": line.graph}, checkpoints)
    control = processor.new_control()
    assert control is not None
    line.first["two"] = control.request_drain

    first = await processor.run(event(), thread_id=THREAD, lease=Lease(), control=control)
    second = await processor.run(
        event(), thread_id=THREAD, lease=Lease(), control=processor.new_control()
    )

    assert first == Drained()
    assert second == Ended(result={"log": ["in", "one", "two", "three"]}, resumed=True)
    assert line.ran == ["one", "two", "three"]


async def test_a_drain_in_the_last_node_is_an_end(checkpoints: Checkpoints) -> None:
    line = Line("one")
    processor = WorkflowProcessor({"work": line.graph}, checkpoints)
    control = processor.new_control()
    assert control is not None
    line.first["one"] = control.request_drain

    end = await processor.run(event(), thread_id=THREAD, lease=Lease(), control=control)

    assert isinstance(end, Ended)


async def test_a_run_without_checkpoints_is_never_drained(checkpoints: Checkpoints) -> None:
    control = WorkflowProcessor({}, checkpoints).new_control()
    assert control is not None
    line = Line("one", "two")
    line.first["one"] = control.request_drain
    processor = WorkflowProcessor({"work": line.graph})

    end = await processor.run(event(), thread_id=THREAD, lease=Lease(), control=control)

    assert end == Ended(result={"log": ["in", "one", "two"]}, resumed=False)
    assert (processor.drainable, processor.new_control()) == (False, None)


async def test_without_checkpoints_each_attempt_starts_anew() -> None:
    line = Line("one", "two")
    line.fail("two", RuntimeError("not today"))
    first = await run(line.graph, None)
    line.first.clear()

    second = await run(line.graph, None)

    assert isinstance(first, Failed)
    assert (first.node, first.position) == ("two", None)
    assert second == Ended(result={"log": ["in", "one", "two"]}, resumed=False)
    assert line.ran == ["one", "two", "one", "two"]


async def test_a_failure_names_the_graph_and_its_version() -> None:
    line = Line("one")
    line.fail("one", RuntimeError("not today"))
    registry = GraphRegistry({"wo*": line.graph})

    end = await WorkflowProcessor(registry).run(event(), thread_id=THREAD, lease=Lease())

    assert isinstance(end, Failed)
    assert end.graph == GraphVersion("wo*", registry.find("work").version)


@pytest.mark.invariant("P8")
async def test_an_attempt_that_runs_out_of_time_resumes_in_the_next(
    checkpoints: Checkpoints,
) -> None:
    line = Line("one")
    patient = [False]

    async def slow(state: Log) -> Log:
        if not patient[0]:
            await asyncio.Event().wait()
        return {"log": [f"after {len(state['log'])}"]}

    line.graph.add_node("slow", slow)
    line.graph.add_edge("one", "slow")
    processor = WorkflowProcessor({"work": line.graph}, checkpoints)

    first = await processor.run(
        event(), thread_id=THREAD, lease=Lease(), limits=TimeLimits(deadline_s=0.5)
    )
    patient[0] = True
    second = await processor.run(
        event(), thread_id=THREAD, lease=Lease(), limits=TimeLimits(deadline_s=60)
    )

    assert isinstance(first, Failed)
    assert isinstance(first.error, DeadlineError)
    assert first.position is not None
    assert first.position.next == ("slow",)
    assert second == Ended(result={"log": ["in", "one", "after 2"]}, resumed=True)
    assert line.ran == ["one"]


async def test_an_unknown_workflow_is_a_failure_and_not_an_exception() -> None:
    processor = WorkflowProcessor({"other": Line("one").graph})

    end = await processor.run(event(), thread_id=THREAD, lease=Lease())

    assert isinstance(end, Failed)
    assert isinstance(end.error, UnknownWorkflowError)


async def test_what_is_no_exception_is_data_too(checkpoints: Checkpoints) -> None:
    class Stop(BaseException):
        pass

    line = Line("one")
    line.fail("one", Stop("of its own kind"))

    end = await run(line.graph, checkpoints)

    assert isinstance(end, Failed)
    assert isinstance(end.error, Stop)


@pytest.mark.invariant("P4", "P8")
async def test_a_cancelled_run_is_cancelled_and_resumes(checkpoints: Checkpoints) -> None:
    line = Line("one")
    inside = asyncio.Event()

    async def hang(state: Log) -> Log:
        if not inside.is_set():
            inside.set()
            await asyncio.Event().wait()
        return {"log": [f"after {len(state['log'])}"]}

    line.graph.add_node("hang", hang)
    line.graph.add_edge("one", "hang")
    task = asyncio.create_task(run(line.graph, checkpoints))
    await inside.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = await run(line.graph, checkpoints)

    assert end == Ended(result={"log": ["in", "one", "after 2"]}, resumed=True)
    assert line.ran == ["one"]


_KILLED_IN_TWO = """
import asyncio, os, signal, sys
from typing import TypedDict
from langgraph.graph import START, StateGraph
from redrive.events import WorkflowEvent
from redrive.graphs import Checkpoints, CheckpointSettings, Lease, WorkflowProcessor

class S(TypedDict):
    ran: list[str]

def node(name):
    def run(state):
        with open("ran", "a") as file:
            file.write(name + " ")
        if name == "two" and sys.argv[1] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"ran": [*state["ran"], name]}
    return run

graph = StateGraph(S)
before = START
for name in ("one", "two", "three"):
    graph.add_node(name, node(name))
    graph.add_edge(before, name)
    before = name

async def main():
    event = WorkflowEvent.from_bytes(sys.argv[2].encode())
    async with Checkpoints(CheckpointSettings(url="sqlite:///c.db")) as checkpoints:
        processor = WorkflowProcessor({"work": graph}, checkpoints)
        print(await processor.run(event, thread_id=f"{event.event_id}/0/0", lease=Lease()))

asyncio.run(main())
"""


@pytest.mark.invariant("P4")
def test_after_kill_9_only_the_node_in_flight_runs_twice(tmp_path: Path) -> None:
    def start(how: str) -> subprocess.CompletedProcess[str]:
        given = event({"ran": []}).to_bytes().decode()
        return subprocess.run(
            [sys.executable, "-c", _KILLED_IN_TWO, how, given],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )

    killed = start("die")
    after = start("live")

    assert killed.returncode == -signal.SIGKILL
    assert "Ended(result={'ran': ['one', 'two', 'three']}, resumed=True" in after.stdout
    assert (tmp_path / "ran").read_text().split() == ["one", "two", "two", "three"]


async def test_a_node_that_cancels_itself_has_failed(checkpoints: Checkpoints) -> None:
    line = Line("one")
    line.fail("one", asyncio.CancelledError())

    end = await run(line.graph, checkpoints)

    assert isinstance(end, Failed)


async def test_a_state_that_cannot_be_stored_is_a_failure(checkpoints: Checkpoints) -> None:
    class Held(TypedDict):
        lock: object

    graph = StateGraph(Held)
    graph.add_node("one", lambda _: {"lock": object()})
    graph.add_edge(START, "one")

    end = await run(graph, checkpoints, event({"lock": None}))

    assert isinstance(end, Failed)
    assert isinstance(end.error, TypeError)
