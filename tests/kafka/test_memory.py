"""Events that are large, and wait: what they hold in memory, and that it costs nobody else."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

import pytest
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient
from langgraph.graph import END, START, StateGraph

from redrive import RateLimitedError
from redrive.clock import SYSTEM
from redrive.consumer.outcome import Ending
from redrive.consumer.worker_settings import WorkerSettings
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.kafka.client import rereader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.rereading import Found, RecordReader
from redrive.settings import RetrySettings, Settings
from redrive.telemetry.instruments import Metric
from redrive.telemetry.metrics import BUFFERED_BYTES, LET_GO, Metrics
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until
from redrive.wiring import LangGraphKafkaConsumer

BUFFER_BYTES = 4 * 2**20
FETCH_BYTES = 4 * 2**20
SIZE = 400_000
RESTING, SHARE_A_THREAD = 24, 6


class State(TypedDict, total=False):
    number: int
    text: str


class Service:
    """Asks everyone to come back in a second, until it opens."""

    def __init__(self) -> None:
        self.is_open = False
        self.heard: list[tuple[int, int]] = []

    async def limited(self, state: State) -> State:
        if not self.is_open:
            raise RateLimitedError("429", retry_after=1.0)
        self.heard.append((state["number"], len(state["text"])))
        return {"text": ""}

    async def free(self, state: State) -> State:
        del state
        return {"text": "done"}

    def graphs(self) -> dict[str, StateGraph[State, None, State, State]]:
        limited, free = StateGraph(State), StateGraph(State)
        limited.add_node("node", self.limited)
        free.add_node("node", self.free)
        for builder in (limited, free):
            builder.add_edge(START, "node")
            builder.add_edge("node", END)
        return {"limited": limited, "free": free}


def metric(metrics: Metrics, wanted: Metric) -> float:
    return sum(sum(one.values.values()) for one in metrics.read() if one.metric is wanted)


@pytest.mark.invariant("P7", "P9", "P11")
async def test_what_rests_is_let_go_and_read_again_and_others_go_on(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    env, service, metrics = make_stage(partitions=2), Service(), Metrics()
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url=f"sqlite:///{tmp_path}/checkpoints.db"),
        retry=RetrySettings.model_validate({"max_retries": 1_000, "jitter": False}),
        worker=WorkerSettings.model_validate({"buffer": BUFFER_BYTES, "in_flight": 4}),
    )
    large = [
        event({"number": number, "text": "x" * SIZE}, workflow_id="limited")
        for number in range(RESTING)
    ]
    env.send(large[:SHARE_A_THREAD], headers={"redrive-thread": "talk"}, partition=0)
    env.send(large[SHARE_A_THREAD:], partition=0)
    env.send([event({}, workflow_id="free")], partition=0)
    env.send([event({}, workflow_id="free")], partition=1)

    async with LangGraphKafkaConsumer(settings, service.graphs(), metrics=metrics) as worker:

        def free_ones_have_ended() -> bool:
            return worker.endings.get(Ending.SUCCEEDED, 0) == 2 and metric(metrics, LET_GO) > 0

        await asyncio.to_thread(wait_until, free_ones_have_ended, timeout_s=30, what="free ones")
        # One fetch, as it came and parsed, may go beyond it.
        assert metric(metrics, BUFFERED_BYTES) <= BUFFER_BYTES + 2 * FETCH_BYTES
        assert not service.heard
        service.is_open = True
        await asyncio.to_thread(env.wait_settled, timeout_s=30)
        nothing = partial(metric, metrics, LET_GO)
        await asyncio.to_thread(
            wait_until, lambda: nothing() == 0, timeout_s=10, what="nothing let go"
        )

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": RESTING + 2}
    assert sorted(service.heard) == [(number, SIZE) for number in range(RESTING)]
    talk = [number for number, _ in service.heard if number < SHARE_A_THREAD]
    assert talk == list(range(SHARE_A_THREAD))


def test_a_record_is_read_again_and_what_the_log_has_passed_by_is_told_to_be_gone(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1)
    tp, settings = TopicPartition(env.topics.events, 0), env.kafka_settings()
    env.send([f"value {number}".encode() for number in range(3_000)], partition=0)
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    for deleted in admin.delete_records([KafkaTopicPartition(*tp, 100)]).values():
        deleted.result()
    found: dict[int, ConsumerRecord | None] = {}

    def take(records: Found) -> None:
        found.update({offset: record for (_, offset), record in records.items()})

    reader = RecordReader(
        lambda: make_consumer(rereader_config(settings)), found=take, clock=SYSTEM
    )
    # The last one lies beyond the end for now.
    wanted = (7, 99, 100, 101, 2_999, 3_000)
    for offset in wanted:
        reader.ask(tp, offset)
    try:
        wait_until(lambda: len(found) == 5, timeout_s=20, what="what is there")
        env.send([b"value 3000"], partition=0)
        wait_until(lambda: len(found) == 6, timeout_s=20, what="what came later")
    finally:
        reader.close()
        reader.join()

    values = {offset: record and record.value for offset, record in found.items()}
    there = {offset: f"value {offset}".encode() for offset in (100, 101, 2_999, 3_000)}
    assert values == {7: None, 99: None, **there}
