"""Healthy events beside a workflow whose every failure holds hostile texts: N5.

One event in ten belongs to that workflow, and fails with 60,000 characters that take long to mask,
as message and as cause. Prints one JSON line: the healthy events' p99 from publishing to result,
with them to without, as the median of the rounds' ratios. Only an idle machine says anything.
Usage: python benchmarks/hostile.py [--events N] [--rounds N]. Needs a broker:
KAFKA_BOOTSTRAP_SERVERS, or Java and Maven; takes three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import NoReturn, TypedDict

sys.path.insert(0, str(Path(__file__).parents[1]))

import structlog
from confluent_kafka import TopicPartition
from langgraph.graph import END, START, StateGraph
from tests.secret_kinds import HOSTILE

from redrive.consumer.worker_settings import WorkerSettings
from redrive.errors import PermanentError
from redrive.events import WorkflowResultEvent
from redrive.graphs import Checkpoints, CheckpointSettings, WorkflowProcessor
from redrive.kafka.client import producer_config, reader_config
from redrive.kafka.connect import make_consumer, make_producer
from redrive.kafka.topic_admin import verify_topics
from redrive.settings import Settings
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.wiring import build_worker

PARTITIONS, EVERY_S, HOSTILE_CHARS, BAD_OF = 8, 0.05, 60_000, 10
WARM_UP = 20


class State(TypedDict, total=False):
    text: str


async def good(state: State) -> State:
    return {"text": state["text"][:10]}


async def bad(state: State) -> NoReturn:
    text = (state["text"] * HOSTILE_CHARS)[:HOSTILE_CHARS]
    raise PermanentError(text) from ValueError(f"{text} as well")


def graphs() -> WorkflowProcessor:
    each = {}
    for name, node in (("good", good), ("bad", bad)):
        graph = StateGraph(State)
        graph.add_node("node", node)
        each[name] = graph.add_edge(START, "node").add_edge("node", END)
    return WorkflowProcessor(each)


async def p99_ms(servers: str, events: int, *, hostile: bool) -> float:
    """Return it of healthy events that are published one every 50 ms, after the first few."""
    env = KafkaEnv(servers, create_topics(servers, partitions=PARTITIONS), folder=Path())
    kafka = env.kafka_settings()
    settings = Settings(
        kafka=kafka,
        checkpoints=CheckpointSettings(url="none"),
        worker=WorkerSettings(id="bench", in_flight=64),
    )
    worker = build_worker(
        settings,
        graphs(),
        Checkpoints(settings.checkpoints),
        report=verify_topics(kafka),
        name="bench",
        metrics=None,
    )
    await worker.start()
    sent: dict[str, float] = {}
    reading = asyncio.create_task(asyncio.to_thread(read, env, sent, events - events // BAD_OF))
    producer, pieces = make_producer(producer_config(kafka)), itertools.cycle(HOSTILE)
    for number in range(events):
        is_bad = number % BAD_OF == BAD_OF - 1
        if not is_bad or hostile:
            data = {"text": next(pieces) if is_bad else "x" * 600}
            one = event(data, workflow_id="bad" if is_bad else "good")
            if not is_bad:
                sent[one.event_id] = time.perf_counter()
            producer.produce(kafka.events_topic, one.to_bytes(), one.event_id)
            producer.poll(0)
        await asyncio.sleep(EVERY_S)
    producer.flush(10)
    took_ms = await reading
    await worker.stop()
    return statistics.quantiles(took_ms[WARM_UP:], n=100)[98]


def read(env: KafkaEnv, sent: dict[str, float], healthy: int) -> list[float]:
    kafka = env.kafka_settings()
    reader = make_consumer({**reader_config(kafka), "fetch.wait.max.ms": 10})
    reader.assign([TopicPartition(kafka.results_topic, n, 0) for n in range(PARTITIONS)])
    took_ms: list[float] = []
    while len(took_ms) < healthy:
        message = reader.poll(1)
        if message is None or message.error() is not None:
            continue
        began = sent.get(WorkflowResultEvent.from_bytes(message.value()).correlation_id or "")
        if began is not None:
            took_ms.append((time.perf_counter() - began) * 1e3)
    reader.close()
    return took_ms


async def main(events: int, rounds: int) -> None:
    without, beside = list[float](), list[float]()
    with contextlib.ExitStack() as stack:
        servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        servers = servers or stack.enter_context(LocalBroker()).bootstrap_servers
        for _ in range(rounds):
            without.append(await p99_ms(servers, events, hostile=False))
            beside.append(await p99_ms(servers, events, hostile=True))
    ratios = [one / other for one, other in zip(beside, without, strict=True)]
    line = {
        "figure": "N5",
        "what": "healthy p99, one event in ten fails with hostile texts / none",
        "value": round(statistics.median(ratios), 2),
        "goal": "<= 1.2",
        "with_ms": round(statistics.median(beside), 1),
        "without_ms": round(statistics.median(without), 1),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=500)
    arguments.add_argument("--rounds", type=int, default=3)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.filterwarnings("ignore", message="`durability` has no effect")
    given = arguments.parse_args()
    sys.exit(asyncio.run(main(given.events, given.rounds)))
