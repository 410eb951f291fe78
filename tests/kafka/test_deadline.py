"""Deadlines, and which endings write a result, a letter, or both."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowResultEvent
from redrive.graphs.options import CheckpointSettings
from redrive.settings import RetrySettings, Settings
from redrive.testing.judging import gather, judge
from redrive.testing.reading import read_topic
from redrive.testing.stage import Stage, event
from redrive.wiring import LangGraphKafkaConsumer

LONG_S = 60.0
CLOSE = timedelta(seconds=2)


class State(TypedDict, total=False):
    fate: str
    steps: list[str]


def plan(_: State) -> State:
    return {"steps": ["plan"]}


async def work(state: State) -> State:
    match state.get("fate"):
        case "sleep":
            await asyncio.sleep(LONG_S)
        case "ask":
            interrupt("may I?")
        case "permanent":
            raise ValueError("the prompt has no question")
        case "transient":
            raise ConnectionError("the model's service closed the connection")
    return {"steps": [*state.get("steps", []), "work"]}


BUILDER = StateGraph(State)
BUILDER.add_node("plan", plan)
BUILDER.add_node("work", work)
BUILDER.add_edge(START, "plan")
BUILDER.add_edge("plan", "work")
BUILDER.add_edge("work", END)


def _settings(stage: Stage, *, max_retries: int = 1) -> Settings:
    return Settings(
        kafka=stage.kafka_settings(),
        checkpoints=CheckpointSettings(url=f"sqlite:///{stage.folder}/checkpoints.db"),
        retry=RetrySettings.model_validate(
            {"initial_delay": "100ms", "jitter": False, "max_retries": max_retries}
        ),
    )


def _at(moment: datetime) -> dict[str, str]:
    return {"redrive-deadline": str(round(moment.timestamp() * 1000))}


@pytest.mark.invariant("P8")
async def test_an_event_that_comes_too_late_is_not_started(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.send([event({})], headers=_at(SYSTEM.now() - timedelta(minutes=1)))

    async with LangGraphKafkaConsumer(_settings(stage), {"*": BUILDER}):
        await asyncio.to_thread(stage.wait_settled, timeout_s=30)

    (answer,) = _answers(stage)
    assert answer.status == "error"
    assert answer.error_info is not None
    assert answer.error_info.reason == "expired"
    assert answer.error_info.attempts == 0
    assert answer.error_info.dlq_id is None
    assert answer.run is not None
    assert answer.run.started_at is None
    assert _letters(stage) == []


@pytest.mark.invariant("P8")
async def test_a_run_ends_close_to_its_deadline_and_its_letter_names_the_node(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage()

    async with LangGraphKafkaConsumer(_settings(stage), {"*": BUILDER}):
        deadline = SYSTEM.now() + timedelta(seconds=3)
        stage.send([event({"fate": "sleep"})], headers=_at(deadline))
        await asyncio.to_thread(stage.wait_settled, timeout_s=LONG_S / 2)

    (answer,), (letter,) = _answers(stage), _letters(stage)
    assert answer.status == "error"
    assert answer.error_info is not None
    assert answer.error_info.reason == letter.reason == "deadline"
    assert answer.error_info.kind == letter.kind == "timeout"
    assert answer.error_info.attempts == 1
    assert answer.error_info.dlq_id == letter.dlq_id
    assert answer.error_info.node == letter.node == "work"
    assert letter.checkpoint is not None
    assert letter.checkpoint.checkpoint_id is not None
    assert letter.deadline is not None
    assert abs(letter.deadline - deadline) < timedelta(milliseconds=2)
    assert timedelta(0) <= answer.timestamp - deadline < CLOSE


@pytest.mark.invariant("P8")
async def test_nothing_is_retried_that_cannot_end_in_time(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    settings = _settings(stage).model_copy(
        update={"retry": RetrySettings.model_validate({"initial_delay": "20s", "jitter": False})}
    )

    async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
        deadline = SYSTEM.now() + timedelta(seconds=15)
        stage.send([event({"fate": "transient"})], headers=_at(deadline))
        await asyncio.to_thread(stage.wait_settled, timeout_s=30)

    (answer,), (letter,) = _answers(stage), _letters(stage)
    assert letter.reason == "deadline"
    assert len(letter.attempts) == 1
    assert answer.timestamp < deadline


@pytest.mark.invariant("P1", "P2", "P6")
async def test_each_ending_writes_the_records_that_it_should(
    make_stage: Callable[..., Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage()
    (tmp_path / "mappers.py").write_text(
        "from redrive.graphs import GraphFailed\n"
        "def refuse(state):\n"
        "    return GraphFailed('the answer has no source', state)\n"
        "def taken(event):\n"
        "    return {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = _settings(stage)
    refusing = {"target": f"{__name__}:BUILDER", "output": "mappers:refuse"}
    del refusing
    ids = {
        ending: event({"fate": fate}, workflow_id=workflow)
        for ending, fate, workflow in (
            ("success", "", "any"),
            ("interrupt", "ask", "any"),
            ("permanent", "permanent", "any"),
            ("retries_exhausted", "transient", "any"),
            ("unknown_workflow", "", "nobody's"),
        )
    }
    assert settings
    assert ids
