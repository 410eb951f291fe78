"""The lag by offsets falls to nothing, also behind the ends of transactions."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from tests.kafka.test_redriving import Story, drive, ends, settled, worker

from redrive.kafka.log import TopicPartition
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import committed_offsets, high_watermarks
from redrive.testing.worker_process import wait_until


@pytest.mark.invariant("P14")
async def test_nothing_is_left_of_the_lag_once_all_is_done(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env, story = make_stage(partitions=1), Story("work")
    async with worker(env, story.graph()):
        env.send([event({"text": "hello"})])
        await settled(env)
        story.failing.clear()

        # Behind what a redrive sends lies the end of its transaction, which takes an offset.
        report = await drive(env)
        assert [one.succeeded for one in await ends(env, report)] == [True]
        await no_lag(env, at_least=3)
        await asyncio.to_thread(abort_one, env)
        await no_lag(env, at_least=5)

    # And who comes to a partition where there is nothing else makes up for it.
    await asyncio.to_thread(abort_one, env)
    async with worker(env, story.graph()):
        await no_lag(env, at_least=7)
        env.send([event({"text": "hello again"})])
        await no_lag(env, at_least=8)
    assert story.ran["write"] == 2


def abort_one(env: KafkaEnv) -> None:
    producer = Producer(
        {"bootstrap.servers": env.bootstrap_servers, "transactional.id": str(uuid4())}
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(env.topics.events, event({}).to_bytes(), partition=0)
    producer.flush(60)
    producer.abort_transaction(60)


async def no_lag(env: KafkaEnv, *, at_least: int) -> None:
    """Return once the group has committed up to the end, which is at this offset or beyond."""
    servers, topics = env.bootstrap_servers, env.topics
    tp = TopicPartition(topics.events, 0)

    def lag() -> int | None:
        end = high_watermarks(servers, topics.events)[tp]
        committed = committed_offsets(servers, topics.events, topics.group)[tp].offset or 0
        return end - committed if end >= at_least else None

    await asyncio.to_thread(
        wait_until, lambda: lag() == 0, timeout_s=30, what="a commit at the end", progress=lag
    )
