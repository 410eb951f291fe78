"""A letters topic that is deleted while events run: its letters wait for it, others go on."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import pytest
from confluent_kafka.admin import AdminClient
from langgraph.graph import END, START, StateGraph
from structlog.testing import capture_logs

from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.kafka.topic_admin import create_topics
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import wait_until
from redrive.wiring import LangGraphKafkaConsumer

OTHERS = 20
TRIES = 4


class State(TypedDict, total=False):
    fate: str
    text: str


async def work(state: State) -> State:
    if state["fate"] == "permanent":
        raise ValueError("the prompt has no question")
    return {"text": "short"}


BUILDER = StateGraph(State)
BUILDER.add_node("work", work)
BUILDER.add_edge(START, "work")
BUILDER.add_edge("work", END)


@pytest.mark.invariant("P6", "P7")
async def test_a_letter_whose_topic_is_gone_waits_for_it_and_others_are_answered(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=2)
    settings = Settings(kafka=env.kafka_settings(), checkpoints=CheckpointSettings(url="none"))
    dead = event({"fate": "permanent"})

    with capture_logs() as logs:
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
            await _answered(env, [event({"fate": "success"})])
            await asyncio.to_thread(_delete, env, env.topics.dlq)
            env.send([dead], partition=0)
            # Between two tries of the letter, and after each, on its own partition and the other.
            for tries in range(TRIES):
                await asyncio.to_thread(_wait_for_refusals, logs, tries)
                await _answered(env, [event({"fate": "success"}) for _ in range(OTHERS)])
            assert not await asyncio.to_thread(env.settled)
            assert dead.event_id not in {a.correlation_id for a in _answers(env)}
            await asyncio.to_thread(create_topics, env.kafka_settings(), partitions=2)
            await asyncio.to_thread(env.wait_settled, timeout_s=30)

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": TRIES * OTHERS + 1, "error": 1}
    assert verdict.letters == {"permanent": 1}


async def _answered(env: KafkaEnv, events: list[WorkflowEvent]) -> None:
    """Send events, and return once each has an answer."""
    env.send(events)
    wanted = {e.event_id for e in events}

    def all_there() -> bool:
        return wanted <= {a.correlation_id for a in _answers(env)}

    await asyncio.to_thread(
        wait_until, all_there, timeout_s=45, what="the others' answers", every_s=0.5
    )


def _wait_for_refusals(logs: Sequence[Mapping[str, object]], count: int) -> None:
    def reached() -> bool:
        return sum(log["event"] == "settle.outcomes_wait" for log in logs) >= min(count, 1)

    wait_until(reached, timeout_s=60, what="the letter waits apart")


def _answers(env: KafkaEnv) -> list[WorkflowResultEvent]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    return [WorkflowResultEvent.from_bytes(record.value) for record in records]


def _delete(env: KafkaEnv, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(timeout=30)
    wait_until(
        lambda: topic not in admin.list_topics(timeout=10).topics,
        timeout_s=60,
        what=f"{topic} is gone",
        every_s=0.2,
    )
