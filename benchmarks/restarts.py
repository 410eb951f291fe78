"""A worker that is killed under its parent, until the next one starts an event: N15; and memory.

Prints two JSON lines: seconds from kill -9 to the first event that the next worker starts, with
the template process and without one, in turn; and what `--processes 4` takes, both ways. Classic
static membership, a one-node graph without checkpoints, events that come all the time. Usage:
python benchmarks/restarts.py [--rounds N]. Needs Linux, Java and Maven (it starts a broker of its
own); takes four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

GRAPH = """
import os, time
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    text: str


async def work(state: State) -> State:
    with open(os.environ["STARTED"], "a") as started:
        started.write(f"{time.monotonic()} {os.getpid()}\\n")
    return {"text": "done"}


builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
"""
WAYS = {"template": "true", "interpreters": "false"}
PROCESSES = 4
AT_WORK = 50


class Rounds:
    """Workers under a parent, each round with topics of its own."""

    def __init__(self, servers: str, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._number = 0
        (folder / "started_graph.py").write_text(GRAPH, encoding="utf-8")

    @contextmanager
    def worker(self, way: str, *flags: str) -> Iterator[tuple[KafkaEnv, WorkerProcess, Path]]:
        """Run a parent; yield it with the file of what its workers have started."""
        self._number += 1
        started = self._folder / f"started-{self._number}"
        started.touch()
        settings = {
            "REDRIVE_WORKER__TEMPLATE": WAYS[way],
            # With checkpoints, events whose node had ended are finished first, without a node.
            "REDRIVE_CHECKPOINTS__URL": "none",
            "STARTED": str(started),
        }
        env = KafkaEnv(self._servers, create_topics(self._servers), self._folder, settings)
        graph = ("--worker-id", "w", "--graph", "*=started_graph:builder")
        worker = env.worker(
            *graph,
            *flags,
            name=f"{way}-{self._number}",
            supervised=True,
            own_interpreter=True,
        )
        with worker.running():
            yield env, worker, started
            worker.stop()

    def restart_s(self, way: str) -> float:
        """Kill a worker that works; return the seconds until the next one starts an event."""
        with self.worker(way) as (env, worker, started), sending(env):
            wait_until(lambda: len(starts(started)) > AT_WORK, timeout_s=120, what="events start")
            killed, at = worker.child_pid, time.monotonic()
            os.kill(killed, signal.SIGKILL)
            again = lambda: any(pid != killed for _, pid in starts(started))  # noqa: E731
            wait_until(again, timeout_s=120, what="the next worker starts an event")
            return next(moment for moment, pid in starts(started) if pid != killed) - at

    def memory_mib(self, way: str) -> float:
        """Return what a parent and its workers take; pages that they share count once."""
        with self.worker(way, "--processes", str(PROCESSES)) as (_, worker, _started):
            ready = lambda: len(list(worker.events("worker.ready"))) == PROCESSES  # noqa: E731
            wait_until(ready, timeout_s=120, what="all workers are ready")
            return sum(pss_kib(pid) for pid in family(worker.pid)) / 1024


@contextmanager
def sending(env: KafkaEnv) -> Iterator[None]:
    """Send some two hundred events a second, all the time."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.02):
            env.send(event({"text": "x"}) for _ in range(4))

    thread = threading.Thread(target=send)
    thread.start()
    yield
    over.set()
    thread.join()


def starts(file: Path) -> list[tuple[float, int]]:
    pairs = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return [(float(pair[0]), int(pair[1])) for pair in pairs]


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(one for child in children for one in family(int(child)))]


def pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return {"p50_s": round(statistics.median(ordered), 2), "p95_s": round(p95, 2)}


def main(rounds: int) -> None:
    with LocalBroker() as broker, tempfile.TemporaryDirectory() as name:
        all_rounds = Rounds(broker.bootstrap_servers, Path(name))
        took: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                took[way].append(all_rounds.restart_s(way))
        memory = {way: all_rounds.memory_mib(way) for way in WAYS}
    p50 = {way: statistics.median(seconds) for way, seconds in took.items()}
    line = {
        "figure": "N15",
        "what": "kill -9 to the next worker's first event: with a template / without",
        "value": round(p50["template"] / p50["interpreters"], 2),
        "goal": "p50 <= 0.5 s",
        "rounds": rounds,
        **{way: spread(seconds) for way, seconds in took.items()},
    }
    print(json.dumps(line), flush=True)
    line = {
        "figure": "memory",
        "what": f"parent and {PROCESSES} workers, idle: with a template / without",
        "value": round(memory["template"] / memory["interpreters"], 2),
        **{f"{way}_mib": round(mib) for way, mib in memory.items()},
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    main(arguments.parse_args().rounds)
