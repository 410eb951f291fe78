"""A broker that comes after its clients, or goes and comes back in the middle of what they ask."""

from __future__ import annotations

import os
import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from redrive.clock import SystemClock
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.topic_admin import verify_topics
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

AGENTS = Path(__file__).parent / "agents"


class RestartsTheBroker(SystemClock):
    """Stops the broker at the first wait, and brings it back at the second."""

    def __init__(self, broker: LocalBroker) -> None:
        self._steps = [broker.stop, broker.start]

    def block(self, seconds: float) -> None:
        if self._steps:
            self._steps.pop(0)()
        super().block(seconds)


def test_a_worker_that_starts_before_the_broker_waits_for_it_with_a_line_per_step(
    breakable: LocalBroker, tmp_path: Path
) -> None:
    shutil.copy(AGENTS / "fates.py", tmp_path)
    env = KafkaEnv(
        breakable.bootstrap_servers, create_topics(breakable.bootstrap_servers), tmp_path
    )
    env.send([event({"fate": "success"})])
    breakable.stop()
    environ = {"REDRIVE_KAFKA__STARTUP_TIMEOUT": "2m", "REDRIVE_CHECKPOINTS__URL": "none"}

    with env.worker("--graph", "*=fates:builder", environ=environ).running() as worker:
        wait_until(
            lambda: len(list(worker.events("broker.waiting"))) >= 2,
            timeout_s=60,
            what="two steps of waiting",
        )
        breakable.start()
        worker.wait_for("worker.ready", timeout_s=60)
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    steps = list(worker.events("broker.waiting"))
    assert [step["attempt"] for step in steps] == list(range(1, len(steps) + 1))
    assert {step["servers"] for step in steps} == {breakable.bootstrap_servers}
    assert {step["of_s"] for step in steps} == {120.0}
    waited = [float(str(step["waited_s"])) for step in steps]
    assert waited == sorted(waited)
    assert "Connection refused" in str(steps[0]["error"])


@pytest.mark.invariant("P1", "P12")
@pytest.mark.parametrize("how", ["asked", "left by its parent"])
def test_a_worker_that_waits_for_a_broker_ends_at_once(how: str, tmp_path: Path) -> None:
    shutil.copy(AGENTS / "fates.py", tmp_path)
    environ = {
        "REDRIVE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "REDRIVE_KAFKA__STARTUP_TIMEOUT": "10m",
        "REDRIVE_CHECKPOINTS__URL": "none",
    }
    supervised = WorkerProcess(
        tmp_path, environ=environ, arguments=("--graph", "*=fates:builder"), supervised=True
    )

    with supervised.running() as worker:
        worker.wait_for("broker.waiting")
        child = worker.child_pid
        if how == "asked":
            assert worker.stop() == 0
        else:
            worker.kill()
        wait_until(lambda: not is_running(child), timeout_s=20, what="the end of the worker")

    assert len(list(worker.events("worker.stopped"))) == 1
    assert list(worker.events("worker.nodes_left_behind")) == []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


def test_topics_are_verified_though_the_broker_restarts_in_the_middle(
    breakable: LocalBroker, tmp_path: Path
) -> None:
    topics = create_topics(breakable.bootstrap_servers)
    settings = KafkaEnv(breakable.bootstrap_servers, topics, tmp_path).kafka_settings()
    # What is missing is looked for again, after a wait: there the broker goes.
    patient = {"dlq_topic": "missing", "startup_timeout": timedelta(minutes=2)}
    lacking = settings.model_copy(update=patient)
    clock = RestartsTheBroker(breakable)

    with structlog.testing.capture_logs() as logs:
        report = verify_topics(lacking, clock=clock)

    assert [(finding.topic, finding.found) for finding in report.findings] == [
        ("missing", "missing")
    ]
    assert "kafka.asked_again" in [line["event"] for line in logs]


def test_where_results_end_is_found_once_the_broker_is_there(
    breakable: LocalBroker, tmp_path: Path
) -> None:
    topics = create_topics(breakable.bootstrap_servers, partitions=2)
    settings = KafkaEnv(breakable.bootstrap_servers, topics, tmp_path).kafka_settings()
    breakable.stop()
    start = threading.Timer(2.0, breakable.start)
    start.start()

    ends = end_offsets(settings, timeout=timedelta(minutes=1))
    start.join(60)

    assert ends == {0: 0, 1: 0}
