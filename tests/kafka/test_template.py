"""Real workers that are forked from their parent's template: graphs are imported by each anew."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.events import WorkflowResultEvent
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic

GRAPH = """
import socket, threading
from langgraph.graph import START, StateGraph

VERSION = {version}
opened = socket.socket()
thread = threading.Thread(target=threading.Event().wait, daemon=True)
thread.start()


def work(state: dict) -> dict:
    return {{"version": VERSION, "thread": thread.is_alive(), "socket": opened.fileno() > 2}}


builder = StateGraph(dict)
builder.add_node("work", work)
builder.add_edge(START, "work")
"""
CHANGING = ("--worker-id", "w", "--graph", "*=changing:builder")


def answers(env: KafkaEnv) -> list[object]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    return [WorkflowResultEvent.from_bytes(record.value).result for record in records]


def write_graph(folder: Path, version: int) -> None:
    (folder / "changing.py").write_text(GRAPH.format(version=version))


@pytest.mark.invariant("P1")
def test_a_graph_that_starts_threads_and_changes_on_disk_is_read_anew_by_each_worker(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    write_graph(env.folder, 1)
    with env.worker(*CHANGING, supervised=True).running() as worker:
        env.send([event({})])
        env.wait_settled(timeout_s=60)

        write_graph(env.folder, 22)
        os.kill(worker.child_pid, signal.SIGKILL)
        env.send([event({})])
        env.wait_settled(timeout_s=60)
        templates = list(worker.events("supervisor.template_ready"))
        assert worker.stop() == 0

    alive = {"thread": True, "socket": True}
    assert answers(env) == [{"version": 1, **alive}, {"version": 22, **alive}]
    assert len(templates) == 1
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


def test_a_module_that_must_not_be_forked_is_named_and_workers_work_without_a_template(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(
        partitions=1,
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_WORKER__PRELOAD="json, changing",
    )
    write_graph(env.folder, 1)
    with env.worker(*CHANGING, supervised=True).running() as worker:
        env.send([event({})])
        env.wait_settled(timeout_s=60)
        unused = list(worker.events("supervisor.template_unused"))
        assert worker.stop() == 0

    (line,) = unused
    assert line["why"] == "the module 'changing' starts a thread while it is imported"
    assert [answer["version"] for answer in answers(env) if isinstance(answer, dict)] == [1]
