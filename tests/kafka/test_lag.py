"""The lag by offsets falls to nothing, also behind the ends of transactions."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from tests.kafka.test_redriving import Story, drive, ends, settled, worker

from redrive.kafka.log import TopicPartition
from redrive.testing.reading import committed_offsets, high_watermarks
from redrive.testing.stage import Stage, event
from redrive.testing.worker import wait_until


@pytest.mark.invariant("P14")
async def test_nothing_is_left_of_the_lag_once_all_is_done(
    make_stage: Callable[..., Stage],
) -> None:
    stage, story = make_stage(partitions=1), Story("work")
    async with worker(stage, story.graph()):
        stage.send([event({"text": "hello"})])
        await settled(stage)
        story.failing.clear()

        # Behind what a redrive sends lies the end of its transaction, which takes an offset.
        report = await drive(stage)
        assert [one.succeeded for one in await ends(stage, report)] == [True]
        await no_lag(stage, at_least=3)
        await asyncio.to_thread(abort_one, stage)
        await no_lag(stage, at_least=5)

    # And who comes to a partition where there is nothing else makes up for it.
    await asyncio.to_thread(abort_one, stage)
    async with worker(stage, story.graph()):
        await no_lag(stage, at_least=7)
        stage.send([event({"text": "hello again"})])
        await no_lag(stage, at_least=8)
    assert story.ran["write"] == 2


def abort_one(stage: Stage) -> None:
    producer = Producer(
        {"bootstrap.servers": stage.bootstrap_servers, "transactional.id": str(uuid4())}
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(stage.topics.events, event({}).to_bytes(), partition=0)
    producer.flush(60)
    producer.abort_transaction(60)


async def no_lag(stage: Stage, *, at_least: int) -> None:
    """Return once the group has committed up to the end, which is at this offset or beyond."""
    servers, topics = stage.bootstrap_servers, stage.topics
    tp = TopicPartition(topics.events, 0)

    def lag() -> int | None:
        end = high_watermarks(servers, topics.events)[tp]
        committed = committed_offsets(servers, topics.events, topics.group)[tp].offset or 0
        return end - committed if end >= at_least else None

    await asyncio.to_thread(
        wait_until, lambda: lag() == 0, timeout_s=30, what="a commit at the end", progress=lag
    )
