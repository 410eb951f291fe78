"""The worker against raw loops of the same client: N2, N3, N4, N10.

Prints one JSON line per figure, as a ratio taken in one run. Usage: python benchmarks/worker.py
[--events N]. Needs Java and Maven (it starts a broker of its own); takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import structlog
from confluent_kafka import Consumer, TopicPartition
from langgraph.graph import END, START, StateGraph

from redrive.consumer.runner import Processor
from redrive.consumer.worker_lifecycle import Worker
from redrive.consumer.worker_settings import DeliveryGuarantee, WorkerSettings
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs import Checkpoints, CheckpointSettings, WorkflowProcessor
from redrive.graphs.attempt_ends import Ended, Failed, RunEnd
from redrive.kafka.client import consumer_config, producer_config, reader_config
from redrive.kafka.connect import make_consumer, make_producer
from redrive.kafka.topic_admin import verify_topics
from redrive.settings import Settings
from redrive.telemetry.metrics import Metrics
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.wiring import build_worker

PARTITIONS = 8
FILLER = "x" * 600


class State(TypedDict, total=False):
    text: str


async def node(state: State) -> State:
    return {"text": state["text"][:10]}


def one_node() -> StateGraph[State, None, State, State]:
    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph


class NoOp:
    """Answers at once, in the place of a graph."""

    def new_control(self) -> None:
        return None

    async def run(self, event: WorkflowEvent, **_: object) -> RunEnd:
        return Ended(result={"id": event.event_id}, resumed=False)

    async def give_up(self, event: WorkflowEvent, error: Exception, **_: object) -> Failed:
        raise AssertionError(f"{event.event_id} never starts, so it cannot fail") from error


def settings_of(
    env: KafkaEnv, delivery: DeliveryGuarantee = DeliveryGuarantee.EXACTLY_ONCE
) -> Settings:
    return Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url="none"),
        worker=WorkerSettings(id="bench", in_flight=64, delivery=delivery),
    )


def stage_with(servers: str, events: int) -> KafkaEnv:
    env = KafkaEnv(servers, create_topics(servers, partitions=PARTITIONS), folder=Path())
    env.send(event({"text": FILLER}) for _ in range(events))
    return env


def worker_of(
    settings: Settings, processor: Processor, *, metrics: Metrics | None = None
) -> Worker:
    return build_worker(
        settings,
        processor,
        Checkpoints(settings.checkpoints),
        report=verify_topics(settings.kafka),
        name="bench",
        metrics=metrics,
    )


async def worker_rate(
    env: KafkaEnv,
    processor: Processor,
    events: int,
    delivery: DeliveryGuarantee,
    *,
    metrics: Metrics | None = None,
) -> float:
    """Return events per second, from the first ending to the last."""
    worker = worker_of(settings_of(env, delivery), processor, metrics=metrics)
    await worker.start()
    while not sum(worker.endings.values()):
        await asyncio.sleep(0.001)
    first, start = sum(worker.endings.values()), time.perf_counter()
    while sum(worker.endings.values()) < events:
        await asyncio.sleep(0.005)
    rate = (events - first) / (time.perf_counter() - start)
    await worker.stop()
    return rate


def raw_rate(env: KafkaEnv, events: int) -> float:
    """Consume, produce a result, commit, in transactions of 500: no parsing, no handler."""
    kafka = env.kafka_settings()
    consumer = make_consumer(consumer_config(kafka, member="raw"))
    producer = make_producer(producer_config(kafka, transactional_id="raw"))
    producer.init_transactions(10)
    consumer.subscribe([kafka.events_topic])
    value = json.dumps({"result": FILLER[:300]}).encode()
    done, first, start = 0, 0, 0.0
    while done < events:
        messages = consumer.consume(500, 0.05)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(kafka.results_topic, value, message.key())
        position = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 10)
        producer.commit_transaction(10)
        done += len(messages)
        if not first:
            first, start = done, time.perf_counter()
    rate = (done - first) / (time.perf_counter() - start)
    consumer.close()
    return rate


async def bare_rate(events: int) -> float:
    """Run the graph without Kafka, 64 at a time."""
    graph = one_node().compile()
    slots = asyncio.Semaphore(64)

    async def one() -> None:
        async with slots:
            await graph.ainvoke({"text": FILLER})

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(events)))
    return events / (time.perf_counter() - start)


async def idle_latency_ms(servers: str, rounds: int = 100) -> float:
    """Return the median from before publishing to the result in a reader's hands."""
    env = stage_with(servers, 0)
    worker = worker_of(settings_of(env), NoOp())
    await worker.start()
    kafka = env.kafka_settings()
    producer = make_producer(producer_config(kafka))
    reader = make_consumer({**reader_config(kafka), "fetch.wait.max.ms": 10})
    reader.assign([TopicPartition(kafka.results_topic, n, 0) for n in range(PARTITIONS)])
    took = []
    for _ in range(rounds):
        sent = event({"text": "x"})
        start = time.perf_counter()
        producer.produce(kafka.events_topic, sent.to_bytes(), sent.event_id)
        producer.flush(10)
        await asyncio.to_thread(_wait_for, reader, sent.event_id)
        took.append((time.perf_counter() - start) * 1000)
    reader.close()
    await worker.stop()
    # The first ones pay for joining the group.
    return statistics.median(took[10:])


def _wait_for(reader: Consumer, event_id: str) -> None:
    while True:
        message = reader.poll(1)
        if message is not None and message.error() is None:
            answer = WorkflowResultEvent.from_bytes(message.value())
            if answer.correlation_id == event_id:
                return


def show(figure: str, what: str, value: float, goal: str, **facts: float) -> None:
    line: Mapping[str, object] = {
        "figure": figure,
        "what": what,
        "value": round(value, 2),
        "goal": goal,
        **{name: round(number) for name, number in facts.items()},
    }
    print(json.dumps(line), flush=True)


async def main(events: int) -> None:
    print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), "events": events}))
    with LocalBroker() as broker:
        servers = broker.bootstrap_servers
        few = max(events // 10, 500)
        raw = await asyncio.to_thread(raw_rate, stage_with(servers, events), events)
        once = await worker_rate(
            stage_with(servers, events), NoOp(), events, DeliveryGuarantee.EXACTLY_ONCE
        )
        seen = await worker_rate(
            stage_with(servers, events),
            NoOp(),
            events,
            DeliveryGuarantee.EXACTLY_ONCE,
            metrics=Metrics(),
        )
        least = await worker_rate(
            stage_with(servers, events), NoOp(), events, DeliveryGuarantee.AT_LEAST_ONCE
        )
        bare = await bare_rate(few)
        graph = WorkflowProcessor({"fates": one_node()})
        run = await worker_rate(
            stage_with(servers, few), graph, few, DeliveryGuarantee.EXACTLY_ONCE
        )
        show("N3", "no-op worker / raw loop", once / raw, ">= 0.35", worker=once, raw=raw)
        show("N3", "with figures / without", seen / once, ">= 0.95", seen=seen, unseen=once)
        show("N4", "exactly once / at least once", once / least, ">= 0.7", once=once, least=least)
        show("N2", "one-node graph / bare ainvoke", run / bare, ">= 0.85", worker=run, bare=bare)
        idle_ms = await idle_latency_ms(servers)
        show("N10", "publish to result, idle broker, p50, ms", idle_ms, "<= 15")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=30_000)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    warnings.filterwarnings("ignore", message="`durability` has no effect")
    sys.exit(asyncio.run(main(arguments.parse_args().events)))
