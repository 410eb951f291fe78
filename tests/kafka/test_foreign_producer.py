"""Events as other producers of this integration write them, through a foreign client, both ways."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypedDict

import pytest
from aiokafka import (  # type: ignore[import-untyped]  # no stubs
    AIOKafkaConsumer,
    AIOKafkaProducer,
)
from langgraph.graph import END, START, StateGraph

from redrive.graphs.graph_settings import CheckpointSettings
from redrive.settings import Settings
from redrive.testing.kafka_env import KafkaEnv
from redrive.wiring import LangGraphKafkaConsumer

WORK_S = 0.5
SIDE_BY_SIDE = 8
ANSWERED_WITHIN_S = 30.0

Answer = dict[str, Any]


class State(TypedDict, total=False):
    task: str
    data: dict[str, Any]
    answer: str


async def research(state: State) -> State:
    await asyncio.sleep(WORK_S)
    return {"answer": f"{state['task']}: {state['data']['question']}"}


BUILDER = StateGraph(State)
BUILDER.add_node("research", research)
BUILDER.add_edge(START, "research")
BUILDER.add_edge("research", END)


@pytest.fixture
async def env(make_stage: Callable[..., KafkaEnv]) -> AsyncIterator[KafkaEnv]:
    env = make_stage()
    settings = Settings(kafka=env.kafka_settings(), checkpoints=CheckpointSettings(url="none"))
    async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
        yield env


def _foreign_event(number: int = 0) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": "workflow.triggered",
        "timestamp": datetime.now().isoformat(),  # noqa: DTZ005 - naive, as they write it
        "source": "fastapi",
        "workflow_id": "research-workflow",
        "workflow_run_id": f"run-{number}",
        "payload": {
            "data": {"task": "research", "data": {"question": f"why {number}?", "depth": 3}},
            "priority": "high",
        },
        "metadata": {"environment": "production", "version": "1.0.0", "user_id": None},
        "schema": "v1",
        "tenant": {"name": "acme"},
    }


@pytest.mark.parametrize("key", [b"research-workflow", None], ids=["workflow id", "none"])
async def test_a_foreign_event_runs_and_a_foreign_reader_finds_its_result_whatever_its_key_is(
    key: bytes | None, env: KafkaEnv
) -> None:
    event = _foreign_event()

    await _publish(env, [event], key)

    (answer,) = await _answers(env, {event["event_id"]})
    assert answer["correlation_id"] == event["event_id"]
    assert answer["status"] == "success"
    assert answer["error"] is None
    assert answer["workflow_id"] == "research-workflow"
    assert answer["workflow_run_id"] == "run-0"
    assert answer["result"]["answer"] == "research: why 0?"


@pytest.mark.invariant("P7")
async def test_events_with_one_key_run_side_by_side(env: KafkaEnv) -> None:
    events = [_foreign_event(number) for number in range(SIDE_BY_SIDE)]

    await _publish(env, events, b"research-workflow")

    answers = await _answers(env, {event["event_id"] for event in events})
    assert [answer["status"] for answer in answers] == ["success"] * SIDE_BY_SIDE
    started = [datetime.fromisoformat(answer["run"]["started_at"]) for answer in answers]
    finished = [datetime.fromisoformat(answer["run"]["finished_at"]) for answer in answers]
    # There was a moment at which all of them ran.
    assert max(started) < min(finished)


async def _publish(env: KafkaEnv, events: list[dict[str, Any]], key: bytes | None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=env.bootstrap_servers) as producer:
        for event in events:
            await producer.send_and_wait(env.topics.events, json.dumps(event).encode(), key=key)


async def _answers(env: KafkaEnv, wanted: set[str]) -> list[Answer]:
    """Return the first answers to `wanted`, as a reader finds them that knows nothing of ours."""
    found: dict[str, Answer] = {}
    consumer = AIOKafkaConsumer(
        env.topics.results,
        bootstrap_servers=env.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with asyncio.timeout(ANSWERED_WITHIN_S), consumer:
        async for record in consumer:
            answer = json.loads(record.value)
            if answer["correlation_id"] in wanted:
                found.setdefault(answer["correlation_id"], answer)
            if len(found) == len(wanted):
                return list(found.values())
    raise AssertionError("the reader ended by itself")
