"""Two workers under one parent against one, with a node that computes: N7.

Prints one JSON line, the ratio taken in one run. Usage: python benchmarks/processes.py
[--events N]. Needs Java and Maven (it starts a broker of its own) and two idle cores, else the
ratio says how busy they are; takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections import defaultdict
from pathlib import Path

from redrive.events import WorkflowResultEvent
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess, wait_until

PARTITIONS = 8
GRAPH = """
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    rounds: int
    sum: int


async def compute(state: State) -> State:
    return {"sum": sum(number * number for number in range(state["rounds"]))}


builder = StateGraph(State)
builder.add_node("compute", compute)
builder.add_edge(START, "compute")
builder.add_edge("compute", END)
"""
ROUNDS = 100_000


def rate(servers: str, folder: Path, *, processes: int, events: int) -> float:
    """Return runs per second, from the first end to the last."""
    settings = {"REDRIVE_CHECKPOINTS__URL": "none"}
    env = KafkaEnv(servers, create_topics(servers, partitions=PARTITIONS), folder, settings)
    workers = ("--processes", str(processes), "--worker-id", "w", "--graph", "*=computing:builder")
    equal = [PARTITIONS // processes] * processes
    with env.worker(*workers, name=f"of-{processes}", supervised=True).running() as worker:
        wait_until(lambda: held(worker) == equal, timeout_s=120, what="equal shares")
        for number in range(PARTITIONS):
            some = (event({"rounds": ROUNDS}) for _ in range(events // PARTITIONS))
            env.send(some, partition=number)
        env.wait_settled(timeout_s=900)
        worker.stop()
    ends = sorted(ended(record.value) for record in read_topic(servers, env.topics.results))
    return (len(ends) - 1) / (ends[-1] - ends[0])


def held(worker: WorkerProcess) -> list[int]:
    """Return how many partitions each worker of this parent has."""
    partitions: defaultdict[object, set[object]] = defaultdict(set)
    for line in worker.events():
        if line["event"] == "partition.assigned":
            partitions[line.get("worker")].add(line["partition"])
        elif line["event"] in {"partition.away", "partition.gone"}:
            partitions[line.get("worker")].discard(line["partition"])
    return [len(those) for those in partitions.values()]


def ended(value: bytes | None) -> float:
    run = WorkflowResultEvent.from_bytes(value).run
    if run is None:
        raise ValueError("a result of no run")
    return run.finished_at.timestamp()


def main(events: int) -> None:
    print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), "events": events}))
    with LocalBroker() as broker, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "computing.py").write_text(GRAPH, encoding="utf-8")
        one, two = (
            rate(broker.bootstrap_servers, folder, processes=processes, events=events)
            for processes in (1, 2)
        )
    line = {
        "figure": "N7",
        "what": "two processes / one, a node that computes",
        "value": round(two / one, 2),
        "goal": ">= 1.8",
        "one": round(one),
        "two": round(two),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=4_000)
    main(arguments.parse_args().events)
