"""Whose a thread is: of the workflow that began it, and of the event that asked for its run."""

from __future__ import annotations

import json
import operator
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from redrive.errors import OtherInputError, ProcessDiedError, ThreadOfAnotherError
from redrive.events import WorkflowEvent, said_by
from redrive.graphs import Checkpoints, CheckpointSettings, Ended, Failed, Lease, RunEnd
from redrive.graphs.access import INPUT_KEY, OWNER_KEY, RUN_KEY
from redrive.graphs.attempt_ends import Redriven
from redrive.graphs.checkpoint_file import read_only, stored_threads
from redrive.graphs.current import current
from redrive.graphs.processor import WorkflowProcessor
from redrive.retry.kinds import Reason

ID = "7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10"
OWN, NAMED = f"{ID}/0/0", "conversation-7"
THEIRS = "what the other one said"


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class Graph:
    """Two nodes, and what went through them; the second fails while it is told to."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails = False

    def builder(self) -> Any:  # noqa: ANN401 - LangGraph's type
        def plan(state: Log) -> Log:
            self.ran.append("plan")
            return {"log": [f"planned {len(state['log'])}"]}

        def work(state: Log) -> Log:
            del state
            self.ran.append("work")
            # What a node does to its event is no other input of the next attempt.
            current().event.payload.data["log"].append("changed")
            if self.fails:
                raise ValueError("no rights")
            return {"log": ["worked"]}

        built: Any = StateGraph(Log)
        built.add_node("plan", plan).add_node("work", work)
        return built.add_edge(START, "plan").add_edge("plan", "work")


def event(
    said: str = THEIRS, *, workflow: str = "chat", number: int | None = None, **more: object
) -> WorkflowEvent:
    event_id = ID if number is None else f"0b0f7a44-7a0e-4b5e-8f0a-{number:012d}"
    told = {
        "event_id": event_id,
        "timestamp": "2026-01-01T00:00:00Z",
        "workflow_id": workflow,
        "workflow_run_id": "run",
        "payload": {"data": {"log": [said]}},
    }
    return WorkflowEvent.from_bytes(json.dumps(told | more).encode())


class Runs:
    """A processor over checkpoints, and a thread to run events on."""

    def __init__(self, kept: Checkpoints | BaseCheckpointSaver[Any] | None) -> None:
        self.graph, self.kept = Graph(), kept

    async def run(
        self,
        given: WorkflowEvent,
        thread: str = OWN,
        *,
        shared: bool = False,
        **more: Any,
    ) -> RunEnd:
        processor = WorkflowProcessor({"*": self.graph.builder()}, self.kept, share_threads=shared)
        return await processor.run(given, thread_id=thread, lease=Lease(), **more)

    async def give_up(self, given: WorkflowEvent, thread: str) -> Failed:
        processor = WorkflowProcessor({"*": self.graph.builder()}, self.kept)
        error = ProcessDiedError(3, last=None)
        return await processor.give_up(given, error, thread_id=thread, lease=Lease())

    def stored(self, thread: str) -> list[Any]:
        saver = self.kept.saver if isinstance(self.kept, Checkpoints) else self.kept
        assert saver is not None
        found = list(saver.list({"configurable": {"thread_id": thread}}))
        return [(one.checkpoint["id"], one.metadata, one.pending_writes) for one in found]


@pytest.fixture(params=["sqlite", "memory"])
async def runs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Runs]:
    if request.param == "memory":
        yield Runs(InMemorySaver())
        return
    url = f"sqlite:///{tmp_path}/checkpoints.db"
    async with Checkpoints(CheckpointSettings(url=url)) as opened:
        yield Runs(opened)


def log_of(end: RunEnd) -> list[str]:
    assert isinstance(end, Ended), end
    assert isinstance(end.result, dict)
    found: list[str] = end.result["log"]
    return found


def refused(end: RunEnd, kind: type[Exception]) -> Failed:
    """Check that nothing of the thread is told."""
    assert isinstance(end, Failed)
    assert isinstance(end.error, kind)
    assert (end.position, end.node, end.resumed, end.unverified) == (None, None, False, None)
    assert THEIRS not in str(end.error)
    return end


@pytest.mark.invariant("P2", "P15")
async def test_another_event_of_the_same_id_gets_nothing_of_the_run() -> None:
    runs = Runs(InMemorySaver())
    log_of(await runs.run(event()))
    before, ran = runs.stored(OWN), list(runs.graph.ran)

    for other in (
        event("spy"),
        event(workflow="spy"),
        event(payload={"data": {"log": [THEIRS], "more": 1}}),
        event(payload={"data": {"log": [THEIRS]}, "config": {"model": "spy"}}),
        event(metadata={"context": {"user": "spy"}}),
        event(metadata={"langgraph": {"context": {"user": "spy"}}}),
        event(metadata={"langgraph": {"configurable": {"user": "spy"}}}),
    ):
        refused(await runs.run(other), OtherInputError)
        refused(await runs.run(other, redriven=Redriven(stopped_at="guessed")), OtherInputError)
        assert (await runs.give_up(other, OWN)).position is None

    assert runs.stored(OWN) == before
    assert runs.graph.ran == ran


@pytest.mark.invariant("P4", "P15")
async def test_nobody_resumes_the_run_of_another_and_its_own_event_goes_on(runs: Runs) -> None:
    runs.graph.fails = True
    failed = await runs.run(event())
    assert isinstance(failed, Failed)
    before = runs.stored(OWN)

    refused(await runs.run(event("spy")), OtherInputError)
    assert runs.stored(OWN) == before

    runs.graph.fails = False
    assert log_of(await runs.run(event())) == [THEIRS, "planned 1", "worked"]
    assert runs.graph.ran == ["plan", "work", "work"]


@pytest.mark.invariant("P2")
async def test_the_same_event_is_answered_equally_however_it_came_again() -> None:
    runs = Runs(InMemorySaver())
    first = log_of(await runs.run(event()))

    for again in (
        event(),
        event(timestamp="2026-02-01T00:00:00Z", workflow_run_id="later", source="other"),
        event(metadata={"try_number": 2, "langgraph": {"tags": ["again"], "metadata": {"n": 2}}}),
    ):
        assert log_of(await runs.run(again)) == first
    assert runs.graph.ran == ["plan", "work"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


def _turned(value: object) -> object:
    """Return the same JSON as another library would write it."""
    if isinstance(value, dict):
        return {name: _turned(value[name]) for name in reversed(list(value))}
    if isinstance(value, list):
        return [_turned(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@pytest.mark.invariant("P2")
@given(st.dictionaries(st.text(max_size=4), JSON))
def test_what_an_event_says_does_not_depend_on_how_it_is_written(data: dict[str, object]) -> None:
    one = event(payload={"data": data})
    told = json.loads(one.to_bytes()) | {"payload": {"data": _turned(data)}}
    other = WorkflowEvent.from_bytes(json.dumps(told, indent=1, ensure_ascii=False).encode())

    assert said_by(one) == said_by(other)
    assert said_by(event(payload={"data": {**data, "and": "more"}})) != said_by(one)


@pytest.mark.invariant("P15")
async def test_a_named_thread_belongs_to_the_workflow_that_began_it(runs: Runs) -> None:
    log_of(await runs.run(event(number=1), NAMED))
    before, ran = runs.stored(NAMED), list(runs.graph.ran)

    spying = event("spy", workflow="spy", number=2)
    error = refused(await runs.run(spying, NAMED), ThreadOfAnotherError).error
    assert "'chat'" not in str(error)
    refused(await runs.run(spying, NAMED, redriven=Redriven(stopped_at="x")), ThreadOfAnotherError)
    assert (await runs.give_up(spying, NAMED)).position is None
    assert (runs.stored(NAMED), runs.graph.ran) == (before, ran)

    assert len(log_of(await runs.run(event("next", number=3), NAMED))) == 6


async def test_a_named_thread_is_open_to_all_where_that_is_set(runs: Runs) -> None:
    log_of(await runs.run(event(number=1), NAMED))

    end = await runs.run(event("more", workflow="other", number=2), NAMED, shared=True)

    assert len(log_of(end)) == 6


async def test_a_named_thread_never_answers_another_event_of_the_same_id(runs: Runs) -> None:
    log_of(await runs.run(event(), NAMED))

    refused(await runs.run(event("spy"), NAMED), OtherInputError)

    log_of(await runs.run(event("next", number=2), NAMED))


async def test_an_edited_event_begins_anew_in_its_next_generation(runs: Runs) -> None:
    runs.graph.fails = True
    for thread in (OWN, NAMED):
        assert isinstance(await runs.run(event(), thread), Failed)
    runs.graph.fails = False

    own = await runs.run(event("edited"), f"{ID}/0/1", generation=1)
    named = await runs.run(event("edited"), NAMED, generation=1)

    assert log_of(own) == ["edited", "planned 1", "worked"]
    assert log_of(named)[-3:-2] == ["edited"]
    assert log_of(await runs.run(event("edited"), NAMED, generation=1)) == log_of(named)


class Forgetting(InMemorySaver):
    """Stores what the version before stored: the run, and neither its workflow nor its input."""

    forgets = True

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, versions: Any) -> Any:  # noqa: ANN401 - LangGraph's types
        if self.forgets:
            kept = {k: v for k, v in config["metadata"].items() if k not in (OWNER_KEY, INPUT_KEY)}
            config = {**config, "metadata": kept}
        return await super().aput(config, checkpoint, metadata, versions)


@pytest.mark.invariant("P4")
@pytest.mark.parametrize("thread", [OWN, NAMED])
async def test_a_thread_of_the_version_before_is_gone_on_with_as_it_is(thread: str) -> None:
    saver = Forgetting()
    runs = Runs(saver)
    runs.graph.fails = True
    assert isinstance(await runs.run(event(), thread), Failed)
    assert all(OWNER_KEY not in metadata for _, metadata, _ in runs.stored(thread))

    saver.forgets, runs.graph.fails = False, False
    assert log_of(await runs.run(event(), thread)) == [THEIRS, "planned 1", "worked"]
    assert runs.graph.ran == ["plan", "work", "work"]


async def test_a_named_thread_of_the_version_before_is_its_next_workflows() -> None:
    saver = Forgetting()
    runs = Runs(saver)
    log_of(await runs.run(event(number=1), NAMED))
    saver.forgets = False

    log_of(await runs.run(event("mine", workflow="first", number=2), NAMED))

    refused(await runs.run(event(number=3), NAMED), ThreadOfAnotherError)
    log_of(await runs.run(event("mine", workflow="first", number=4), NAMED))


@pytest.mark.parametrize("thread", [OWN, NAMED])
async def test_a_state_that_was_edited_from_outside_keeps_its_owner(
    runs: Runs, thread: str
) -> None:
    log_of(await runs.run(event(), thread))
    saver = runs.kept.saver if isinstance(runs.kept, Checkpoints) else runs.kept
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    compiled = runs.graph.builder().compile(checkpointer=saver)
    for text in ("edited", "again"):
        await compiled.aupdate_state(config, {"log": [text]})
    assert RUN_KEY not in runs.stored(thread)[0][1]

    spying = event("spy", workflow="spy")
    kind = OtherInputError if thread == OWN else ThreadOfAnotherError
    refused(await runs.run(spying, thread), kind)


async def test_a_workflow_of_any_name_owns_its_threads(runs: Runs) -> None:
    odd = 'a\0"b\\\n\u2028ü'
    log_of(await runs.run(event(workflow=odd, number=1), NAMED))

    log_of(await runs.run(event(workflow=odd, number=2), NAMED))
    for other in ('a"b\\\n\u2028ü', "a"):
        refused(await runs.run(event(workflow=other, number=3), NAMED), ThreadOfAnotherError)


async def test_without_checkpoints_nothing_is_compared() -> None:
    runs = Runs(None)

    for one in (event(), event("spy"), event(workflow="spy")):
        log_of(await runs.run(one))


async def test_the_error_answer_names_its_own_event_alone() -> None:
    processor = WorkflowProcessor({"*": Graph().builder()}, InMemorySaver())
    await processor.process_workflow_event(event())

    answer = await processor.process_workflow_event(event("spy"))

    assert answer.error_info is not None
    assert answer.error_info.reason is Reason.OTHER_INPUT
    assert (answer.result, answer.correlation_id) == (None, ID)
    assert THEIRS.encode() not in answer.to_bytes()


async def test_when_its_thread_is_deleted_an_id_is_anybodys_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/checkpoints.db"
    async with Checkpoints(CheckpointSettings(url=url)) as opened:
        runs = Runs(opened)
        log_of(await runs.run(event()))
        refused(await runs.run(event("changed")), OtherInputError)
        with closing(read_only(tmp_path / "checkpoints.db")) as connection:
            found = list(stored_threads(connection))

        deleted = await opened.delete(found)

        assert (deleted, [thread.workflow for thread in found]) == (1, ["chat"])
        assert log_of(await runs.run(event("changed"))) == ["changed", "planned 1", "worked"]
