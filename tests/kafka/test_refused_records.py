"""Results that their topic does not take: told, with a letter; others go on undisturbed."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from structlog.testing import capture_logs

from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.wiring import LangGraphKafkaConsumer

OTHERS = 100
TWO_MB = 2 * 2**20


class State(TypedDict, total=False):
    fate: str
    text: str
    thing: Any


async def work(state: State) -> State:
    match state["fate"]:
        case "large":
            return {"text": "x" * TWO_MB}
        case "not JSON":
            return {"thing": threading.Lock()}
        case _:
            return {"text": "short"}


BUILDER = StateGraph(State)
BUILDER.add_node("work", work)
BUILDER.add_edge(START, "work")
BUILDER.add_edge("work", END)


def _settings(env: KafkaEnv) -> Settings:
    return Settings(kafka=env.kafka_settings(), checkpoints=CheckpointSettings(url="none"))


@pytest.mark.invariant("P2", "P6", "P7")
@pytest.mark.parametrize(
    ("fate", "reason"), [("large", "result_too_large"), ("not JSON", "result_not_json")]
)
async def test_a_result_that_cannot_be_published_is_told_and_others_are_not_disturbed(
    fate: str, reason: str, make_stage: Callable[..., KafkaEnv]
) -> None:
    env = make_stage()
    refused = event({"fate": fate})
    others = [event({"fate": "success"}) for _ in range(OTHERS)]
    env.send([*others[: OTHERS // 2], refused, *others[OTHERS // 2 :]])

    with capture_logs() as logs:
        async with LangGraphKafkaConsumer(_settings(env), {"*": BUILDER}):
            await asyncio.to_thread(env.wait_settled, timeout_s=30)

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": OTHERS, "error": 1}
    assert verdict.letters == {reason: 1}
    (answer,) = (a for a in _answers(env) if a.correlation_id == refused.event_id)
    assert answer.error_info is not None
    assert answer.error_info.reason == reason
    assert answer.error_info.dlq_id == _letters(env)[0].dlq_id
    # No batch was refused by the broker, so nothing of the others was sent twice.
    assert [log for log in logs if str(log["event"]).startswith("settle.")] == []


def _answers(env: KafkaEnv) -> list[WorkflowResultEvent]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    return [WorkflowResultEvent.from_bytes(record.value) for record in records]


def _letters(env: KafkaEnv) -> list[DeadLetter]:
    records = read_topic(env.bootstrap_servers, env.topics.dlq)
    return [DeadLetter.model_validate_json(record.value or b"") for record in records]
