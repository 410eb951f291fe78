"""Results and letters that their topics do not take: told, or waited for; others go on."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from confluent_kafka.admin import AdminClient
from langgraph.graph import END, START, StateGraph
from structlog.testing import capture_logs

from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowResultEvent
from redrive.graphs.options import CheckpointSettings
from redrive.kafka.topics import create_topics
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.reading import read_topic
from redrive.testing.stage import Stage, event
from redrive.testing.worker import wait_until
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
        case "permanent":
            raise ValueError("the prompt has no question")
        case _:
            return {"text": "short"}


BUILDER = StateGraph(State)
BUILDER.add_node("work", work)
BUILDER.add_edge(START, "work")
BUILDER.add_edge("work", END)


def _settings(stage: Stage) -> Settings:
    return Settings(kafka=stage.kafka_settings(), checkpoints=CheckpointSettings(url="none"))


@pytest.mark.invariant("P2", "P6", "P7")
@pytest.mark.parametrize(
    ("fate", "reason"), [("large", "result_too_large"), ("not JSON", "result_not_json")]
)
async def test_a_result_that_cannot_be_published_is_told_and_others_are_not_disturbed(
    fate: str, reason: str, make_stage: Callable[..., Stage]
) -> None:
    stage = make_stage()
    refused = event({"fate": fate})
    others = [event({"fate": "success"}) for _ in range(OTHERS)]
    stage.send([*others[: OTHERS // 2], refused, *others[OTHERS // 2 :]])

    with capture_logs() as logs:
        async with LangGraphKafkaConsumer(_settings(stage), {"*": BUILDER}):
            await asyncio.to_thread(stage.wait_settled, timeout_s=30)

    verdict = judge(gather(stage.bootstrap_servers, stage.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": OTHERS, "error": 1}
    assert verdict.letters == {reason: 1}
    (answer,) = (a for a in _answers(stage) if a.correlation_id == refused.event_id)
    assert answer.error_info is not None
    assert answer.error_info.reason == reason
    assert answer.error_info.dlq_id == _letters(stage)[0].dlq_id
    # No batch was refused by the broker, so nothing of the others was sent twice.
    assert [log for log in logs if str(log["event"]).startswith("settle.")] == []


@pytest.mark.invariant("P6", "P7")
async def test_a_letter_whose_topic_is_gone_waits_for_it_and_others_are_answered(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(partitions=2)
    dead = event({"fate": "permanent"})

    async with LangGraphKafkaConsumer(_settings(stage), {"*": BUILDER}):
        await _answered(stage, [event({"fate": "success"})])
        await asyncio.to_thread(_delete, stage, stage.topics.dlq)
        stage.send([dead], partition=0)
        # On its own partition and on the other one, twice: before and after it was tried.
        for _ in range(2):
            others = [event({"fate": "success"}) for _ in range(20)]
            await _answered(stage, others)
        assert not await asyncio.to_thread(stage.settled)
        assert dead.event_id not in {a.correlation_id for a in _answers(stage)}
        await asyncio.to_thread(create_topics, stage.kafka_settings(), partitions=2)
        await asyncio.to_thread(stage.wait_settled, timeout_s=45)

    verdict = judge(gather(stage.bootstrap_servers, stage.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": 41, "error": 1}
    assert verdict.letters == {"permanent": 1}


async def _answered(stage: Stage, events: list[Any]) -> None:
    """Send events, and return once each has an answer."""
    stage.send(events)
    wanted = {e.event_id for e in events}

    def all_there() -> bool:
        return wanted <= {a.correlation_id for a in _answers(stage)}

    await asyncio.to_thread(
        wait_until, all_there, timeout_s=45, what="the others' answers", every_s=0.5
    )


def _answers(stage: Stage) -> list[WorkflowResultEvent]:
    records = read_topic(stage.bootstrap_servers, stage.topics.results)
    return [WorkflowResultEvent.from_bytes(record.value) for record in records]


def _letters(stage: Stage) -> list[DeadLetter]:
    records = read_topic(stage.bootstrap_servers, stage.topics.dlq)
    return [DeadLetter.model_validate_json(record.value or b"") for record in records]


def _delete(stage: Stage, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": stage.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(timeout=30)
    wait_until(
        lambda: topic not in admin.list_topics(timeout=10).topics,
        timeout_s=30,
        what=f"{topic} is gone",
        every_s=0.2,
    )
