"""Which ending writes a result, a letter, or both; and a retry that would come too late."""

import asyncio
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings, GraphSettings
from redrive.settings import RetrySettings, Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.wiring import LangGraphKafkaConsumer

LONG_S = 60.0
UNREADABLE_ID = "5e0cc1a8-5ad6-4a3c-8bb3-4e38f0d4c9b0"
RESEARCH = "research-*"


class State(TypedDict, total=False):
    fate: str
    steps: list[str]


async def work(state: State) -> State:
    match state["fate"]:
        case "sleep":
            await asyncio.sleep(LONG_S)
        case "ask":
            interrupt("may I?")
        case "permanent":
            raise ValueError("the prompt has no question")
        case "transient":
            raise ConnectionError("the model's service closed the connection")
    return {"steps": ["work"]}


BUILDER = StateGraph(State)
BUILDER.add_node("work", work)
BUILDER.add_edge(START, "work")
BUILDER.add_edge("work", END)

REFUSING = textwrap.dedent(
    """
    from langgraph.graph import END, START, StateGraph

    from redrive.graphs import GraphFailed


    def refuse(state):
        return GraphFailed("the answer has no source", state)


    builder = StateGraph(dict)
    builder.add_node("work", lambda state: {"answer": 42})
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    """
)


def _settings(env: KafkaEnv, **retry: object) -> Settings:
    return Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url=f"sqlite:///{env.folder}/checkpoints.db"),
        retry=RetrySettings.model_validate({"jitter": False, **retry}),
    )


def _deadline_in(seconds: float) -> dict[str, str]:
    moment = SYSTEM.now() + timedelta(seconds=seconds)
    return {"redrive-deadline": str(round(moment.timestamp() * 1000))}


@pytest.mark.invariant("P1", "P2", "P6")
async def test_each_ending_writes_the_records_that_belong_to_it(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_stage()
    (tmp_path / "refusing.py").write_text(REFUSING)
    monkeypatch.syspath_prepend(tmp_path)
    settings = _settings(env, initial_delay="100ms", max_retries=1).model_copy(
        update={
            "graphs": {
                "refusing": GraphSettings(target="refusing:builder", output="refusing:refuse")
            }
        }
    )
    runs = {
        "success": _run("success"),
        "the graph says that it failed": _run("", workflow_id="refusing"),
        "interrupt": _run("ask"),
        "permanent": _run("permanent"),
        "retries used up": _run("transient"),
        "no such workflow": _run("", workflow_id="unheard of"),
    }
    late, meets_it = _run("success"), _run("sleep")
    env.send(runs.values())
    env.send([late], headers=_deadline_in(-60))
    env.send([b"{not JSON", f'{{"event_id": "{UNREADABLE_ID}"}}'.encode()])

    async with LangGraphKafkaConsumer(settings, {RESEARCH: BUILDER}):
        env.send([meets_it], headers=_deadline_in(2))
        await asyncio.to_thread(env.wait_settled, timeout_s=LONG_S / 2)

    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []
    letters = _letters(env)
    names = {sent.event_id: name for name, sent in runs.items()}
    names |= {
        late.event_id: "came too late",
        meets_it.event_id: "deadline passed",
        UNREADABLE_ID: "unreadable",
    }
    told = {names[answer.correlation_id]: _told(answer, letters) for answer in _answers(env)}
    assert told == {
        "success": ("success", None, False),
        "the graph says that it failed": ("failure", "graph_failed", False),
        "interrupt": ("failure", "interrupt", False),
        "permanent": ("error", "permanent", True),
        "retries used up": ("error", "retries_exhausted", True),
        "no such workflow": ("error", "unknown_workflow", True),
        "came too late": ("error", "expired", False),
        "deadline passed": ("error", "deadline", True),
        "unreadable": ("error", "unreadable", True),
    }
    # The one whose id cannot be read either has a letter, and nobody to answer to.
    assert len(letters) == sum(has_letter for _, _, has_letter in told.values()) + 1


@pytest.mark.invariant("P8")
async def test_nothing_is_retried_that_cannot_end_in_time(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage()
    settings = _settings(env, initial_delay="20s")

    async with LangGraphKafkaConsumer(settings, {RESEARCH: BUILDER}):
        deadline = SYSTEM.now() + timedelta(seconds=15)
        env.send([_run("transient")], headers=_deadline_in(15))
        await asyncio.to_thread(env.wait_settled, timeout_s=30)

    (answer,), (letter,) = _answers(env), _letters(env).values()
    assert letter.reason == "deadline"
    assert len(letter.attempts) == 1
    assert answer.timestamp < deadline


def _run(fate: str, *, workflow_id: str = "research-1") -> WorkflowEvent:
    return event({"fate": fate}, workflow_id=workflow_id)


def _told(
    answer: WorkflowResultEvent, letters: dict[str, DeadLetter]
) -> tuple[str, str | None, bool]:
    info = answer.error_info
    if info is None:
        return answer.status.value, None, False
    return answer.status.value, info.reason.value, info.dlq_id in letters


def _answers(env: KafkaEnv) -> list[WorkflowResultEvent]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    return [WorkflowResultEvent.from_bytes(record.value) for record in records]


def _letters(env: KafkaEnv) -> dict[str, DeadLetter]:
    records = read_topic(env.bootstrap_servers, env.topics.dlq)
    letters = [DeadLetter.model_validate_json(record.value or b"") for record in records]
    return {letter.dlq_id: letter for letter in letters}
