"""A real worker under its parent: replaced when it dies, stopped with it, never left alone.

The commands are started as a user starts them, and not forked from one that has imported all.
"""

import os
import signal
from collections.abc import Callable

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

GRAPH = ("--worker-id", "w1", "--graph", "*=fates:builder")
EVENTS = 20
READY_WITHIN_S = 30
SLOW_TO_LOAD = """
import pathlib
from fates import builder
from redrive.testing.worker_process import wait_until
pathlib.Path("loading").touch()
wait_until(pathlib.Path("go on").exists, timeout_s=60, what="leave to go on", every_s=0.01)
"""


def test_a_worker_that_is_killed_is_replaced_and_the_parent_ends_in_order(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    with env.worker(*GRAPH, supervised=True, own_interpreter=True).running() as worker:
        worker.wait_for("worker.ready")
        killed = worker.child_pid

        os.kill(killed, signal.SIGKILL)

        _wait_until_ready(worker, times=2)
        env.send(event({"fate": "success"}) for _ in range(EVENTS))
        env.wait_settled(timeout_s=60)
        assert worker.child_pid not in {killed, worker.pid}
        assert worker.stop() == 0
        died = list(worker.events("supervisor.child_died"))
        stopped = list(worker.events("worker.stopped"))

    assert [(one["how"], one["restart_in_s"]) for one in died] == [
        ("killed by SIGKILL (possibly out of memory)", 0.0)
    ]
    assert len(stopped) == 1
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS


def test_a_worker_whose_parent_was_killed_stops_by_itself(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    executions = env.folder / "executions.log"
    env.send(event({"fate": "sleep", "seconds": 2.0}) for _ in range(EVENTS))
    with env.worker(*GRAPH, supervised=True, own_interpreter=True).running() as worker:
        wait_until(
            lambda: executions.exists() and executions.read_text().count(" work") == EVENTS,
            timeout_s=READY_WITHIN_S,
            what="all runs under way",
        )

        worker.kill()

        _wait_until_stopped(worker)
    assert len(list(worker.events("worker.parent_gone"))) == 1
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS


def test_a_signal_to_parent_and_worker_while_the_graphs_load_still_ends_in_order(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    (env.folder / "slow.py").write_text(SLOW_TO_LOAD)
    with env.worker(
        "--graph", "*=slow:builder", supervised=True, own_interpreter=True
    ).running() as worker:
        wait_until((env.folder / "loading").exists, timeout_s=READY_WITHIN_S, what="loading")

        os.kill(worker.child_pid, signal.SIGTERM)
        worker.signal(signal.SIGTERM)
        worker.wait_for("supervisor.stopping")
        (env.folder / "go on").touch()

        assert worker.wait(timeout_s=READY_WITHIN_S) == 0
        assert len(list(worker.events("worker.stopped"))) == 1
        assert list(worker.events("worker.stopped_at_once")) == []


def _wait_until_ready(worker: WorkerProcess, *, times: int) -> None:
    wait_until(
        lambda: len(list(worker.events("worker.ready"))) == times,
        timeout_s=READY_WITHIN_S,
        what=f"ready {times} times",
    )


def _wait_until_stopped(worker: WorkerProcess) -> None:
    wait_until(
        lambda: any(True for _ in worker.events("worker.stopped")),
        timeout_s=READY_WITHIN_S,
        what="the end of the worker",
    )
