"""A broker with a small `offset.metadata.max.bytes`: a slow event at the head stops nobody else."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from redrive.consumer.worker_settings import WorkerSettings
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.kafka import topic_admin as topics_module
from redrive.settings import Settings
from redrive.state.metadata_room import MetadataRoom
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until
from redrive.wiring import LangGraphKafkaConsumer

LIMIT_CHARS = 500
BEHIND, BESIDE = 3_000, 100


class State(TypedDict, total=False):
    waits: bool


@pytest.fixture(scope="module")
def small_notes(broker_tools: None) -> Iterator[LocalBroker]:
    del broker_tools
    with LocalBroker({"offset.metadata.max.bytes": str(LIMIT_CHARS)}) as broker:
        yield broker


@pytest.mark.invariant("P1", "P2", "P3", "P11")
@pytest.mark.parametrize(
    "told",
    [
        pytest.param(True, id="told", marks=pytest.mark.nightly),
        pytest.param(False, id="learned from refusals"),
    ],
)
async def test_a_slow_event_stops_nobody_where_notes_must_be_short(
    *,
    told: bool,
    small_notes: LocalBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = small_notes.bootstrap_servers
    env = KafkaEnv(servers, create_topics(servers, partitions=2), tmp_path)
    if not told:
        # As for who has no right to ask.
        monkeypatch.setattr(topics_module, "note_limit", lambda *_: None)
    gate = asyncio.Event()

    async def work(state: State) -> State:
        if state.get("waits"):
            await gate.wait()
        return {}

    graph = StateGraph(State).add_sequence([work])
    graph.add_edge(START, "work")
    graph.add_edge("work", END)
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url="none"),
        worker=WorkerSettings(grace=timedelta(seconds=1)),
    )
    env.send([event({"waits": True})], partition=0)
    env.send((event({}) for _ in range(BEHIND)), partition=0)
    within = MetadataRoom(LIMIT_CHARS).window - 1

    async with LangGraphKafkaConsumer(settings, {"*": graph}) as worker:
        await ended(worker, within)
        # Those of another partition go on, also when there is no more room beside the slow one.
        env.send((event({}) for _ in range(BESIDE)), partition=1)
        await ended(worker, within + BESIDE)
    gate.set()
    async with LangGraphKafkaConsumer(settings, {"*": graph}):
        await asyncio.to_thread(env.wait_settled, timeout_s=60)

    verdict = judge(gather(servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": 1 + BEHIND + BESIDE}


async def ended(worker: LangGraphKafkaConsumer, count: int) -> None:
    """Return once so many events have ended."""

    def so_far() -> int:
        return sum(worker.endings.values())

    await asyncio.to_thread(
        wait_until,
        lambda: so_far() >= count,
        timeout_s=30,
        what=f"{count} endings",
        progress=so_far,
    )
