"""The SQLite checkpointer with grouped commits against LangGraph's own, in one run, same file kind.

Prints one JSON line: runs per second of a three-node graph, 64 at a time, each node's checkpoint
durable before the next node starts. Usage: python benchmarks/checkpoints.py [--runs N]. Needs no
broker; takes about ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph

from redrive.graphs import Checkpoints, CheckpointSettings, WorkflowProcessor
from redrive.testing.kafka_env import event

AT_A_TIME = 64


class State(TypedDict, total=False):
    text: str


async def node(state: State) -> State:
    return {"text": state["text"] + "."}


def three_nodes() -> StateGraph[State, Any, State, State]:
    graph: StateGraph[State, Any, State, State] = StateGraph(State)
    for before, name in zip((START, "one", "two"), ("one", "two", "three"), strict=True):
        graph.add_node(name, node)
        graph.add_edge(before, name)
    return graph


async def runs_per_second(processor: WorkflowProcessor, runs: int) -> float:
    slots = asyncio.Semaphore(AT_A_TIME)

    async def one() -> None:
        async with slots:
            answer = await processor.process_workflow_event(event({"text": "x"}))
            assert answer.status == "success", answer.error  # noqa: S101 - a rate of failures is none

    await one()
    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(runs)))
    return runs / (time.perf_counter() - start)


async def grouped(folder: Path, runs: int) -> float:
    settings = CheckpointSettings(url=f"sqlite:///{folder}/grouped.db")
    async with Checkpoints(settings) as checkpoints:
        return await runs_per_second(WorkflowProcessor({"fates": three_nodes()}, checkpoints), runs)


async def langgraphs_own(folder: Path, runs: int) -> float:
    async with AsyncSqliteSaver.from_conn_string(f"{folder}/own.db") as saver:
        await saver.setup()
        # What ours is set to; it sets WAL itself.
        await saver.conn.execute("PRAGMA synchronous=NORMAL")
        return await runs_per_second(WorkflowProcessor({"fates": three_nodes()}, saver), runs)


async def main(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="redrive-checkpoints-") as name:
        ours = await grouped(Path(name), runs)
        theirs = await langgraphs_own(Path(name), runs)
    line = {
        "figure": "checkpoints",
        "what": "grouped commits / AsyncSqliteSaver, three nodes, 64 at a time, runs/s",
        "value": round(ours / theirs, 2),
        "grouped": round(ours),
        "langgraph": round(theirs),
        "cores": os.cpu_count(),
        "runs": runs,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=500)
    sys.exit(asyncio.run(main(arguments.parse_args().runs)))
