"""Many partitions: a worker that is killed among 300, and an idle one that holds 1,000.

Prints two JSON lines. The first: 3,000 events on 300 partitions, once undisturbed and once with a
kill -9 when a third is answered; seconds from the kill to the next life's first result, and the
time for all as a multiple of the undisturbed one. The second: the CPU that an idle worker takes
with 1,000 partitions and with 10, in percent of one core. Supervised worker with a template,
classic static membership, SQLite checkpoints, a one-node graph that sleeps 0.2 s. Usage:
python benchmarks/partitions.py. Needs Linux, Java and Maven (it starts a broker of its own); takes
four minutes.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

GRAPH = """
import asyncio
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    text: str


async def work(state: State) -> State:
    await asyncio.sleep(0.2)
    return {"text": "done"}


builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
"""
MANY, EVENTS = 300, 3000
IDLE, FEW = 1000, 10
WATCHED_S = 30.0


@contextmanager
def working(
    servers: str, folder: Path, partitions: int, name: str
) -> Iterator[tuple[KafkaEnv, WorkerProcess]]:
    """Run a worker that holds so many partitions."""
    topics = create_topics(servers, partitions=partitions)
    env = KafkaEnv(
        servers, topics, folder, {"REDRIVE_CHECKPOINTS__URL": f"sqlite:///{folder / name}.db"}
    )
    graph = ("--worker-id", name, "--graph", "*=slow_graph:builder")
    worker = env.worker(*graph, name=name, supervised=True, own_interpreter=True)
    with worker.running():
        wait_until(
            lambda: len(list(worker.events("partition.assigned"))) >= partitions,
            timeout_s=120,
            what="all partitions are assigned",
        )
        yield env, worker
        worker.stop()


class Results:
    """Counts the records of a results topic as they come."""

    def __init__(self, env: KafkaEnv) -> None:
        self._topic = env.topics.results
        self._consumer = Consumer(
            {
                "bootstrap.servers": env.bootstrap_servers,
                "group.id": "nobody",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        found = self._consumer.list_topics(self._topic, timeout=30.0).topics[self._topic]
        begin = [TopicPartition(self._topic, number, 0) for number in found.partitions]
        self._consumer.assign(begin)
        self.count = 0

    def take(self) -> int:
        """Count what has come; return how many those are."""
        came = sum(message.error() is None for message in self._consumer.consume(1000, 0.02))
        self.count += came
        return came

    def wait_for(self, count: int, *, timeout_s: float) -> None:
        """Return once so many have come."""

        def have() -> bool:
            self.take()
            return self.count >= count

        wait_until(have, timeout_s=timeout_s, what=f"{count} results", every_s=0.0)


def through(env: KafkaEnv, worker: WorkerProcess, *, kill: bool) -> dict[str, float]:
    """Send the events; return how long the results took, in seconds."""
    results, took = Results(env), dict[str, float]()
    began = time.monotonic()
    env.send(event({"text": str(n)}) for n in range(EVENTS))
    if kill:
        results.wait_for(EVENTS // 3, timeout_s=300)
        dead, killed = worker.child_pid, time.monotonic()
        os.kill(dead, signal.SIGKILL)
        # What the dead one had committed comes first.
        while results.take() or worker.child_pid == dead:
            pass
        results.wait_for(results.count + 1, timeout_s=120)
        took["first_s"] = time.monotonic() - killed
    results.wait_for(EVENTS, timeout_s=600)
    return {**took, "all_s": time.monotonic() - began}


def idle_percent(servers: str, folder: Path, partitions: int) -> float:
    """Return the CPU that a worker takes that has nothing to do, in percent of a core."""
    with working(servers, folder, partitions, f"idle{partitions}") as (env, worker):
        env.send(event({"text": str(n)}) for n in range(partitions))
        Results(env).wait_for(partitions, timeout_s=300)
        time.sleep(5.0)
        before, began = cpu_s(worker.child_pid), time.monotonic()
        time.sleep(WATCHED_S)
        return 100 * (cpu_s(worker.child_pid) - before) / (time.monotonic() - began)


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has taken, of user and system."""
    # Behind the name, which may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    with LocalBroker() as broker, tempfile.TemporaryDirectory() as name:
        folder, servers = Path(name), broker.bootstrap_servers
        (folder / "slow_graph.py").write_text(GRAPH, encoding="utf-8")
        took = {}
        for kill in (False, True):
            with working(servers, folder, MANY, f"killed-{kill}") as (env, worker):
                took[kill] = through(env, worker, kill=kill)
        line = {
            "figure": "partitions",
            "what": f"{EVENTS} events on {MANY} partitions: with a kill -9 / undisturbed",
            "value": round(took[True]["all_s"] / took[False]["all_s"], 2),
            "goal": "<= 2, the first result within 5 s",
            "kill_to_first_result_s": round(took[True]["first_s"], 2),
            "all_s": round(took[True]["all_s"], 1),
            "undisturbed_s": round(took[False]["all_s"], 1),
        }
        print(json.dumps(line), flush=True)
        idle = {partitions: idle_percent(servers, folder, partitions) for partitions in (FEW, IDLE)}
        line = {
            "figure": "idle partitions",
            "what": f"CPU of an idle worker: with {IDLE} partitions / with {FEW}",
            "value": round(idle[IDLE] / idle[FEW], 1),
            **{f"{count}_partitions_percent": round(used, 1) for count, used in idle.items()},
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
