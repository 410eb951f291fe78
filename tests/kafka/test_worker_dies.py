"""The worker is killed with -9 again and again: one answer each, no finished node runs again."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

EVENTS = 600
KILLS = 5
IN_FLIGHT = 64


@pytest.mark.invariant("P1", "P2", "P3", "P4")
def test_a_worker_killed_five_times_answers_once_and_redoes_no_finished_node(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(
        partitions=8,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_WORKER__IN_FLIGHT=str(IN_FLIGHT),
    )
    executions = env.folder / "executions.log"
    fates = ["permanent" if number % 20 == 0 else "success" for number in range(EVENTS)]
    env.send(event({"fate": fate}) for fate in fates)
    worker = env.worker("--worker-id", "w1", "--graph", "*=fates:builder")

    try:
        worker.start()
        for kill in range(1, KILLS + 1):
            _wait_for_executions(executions, kill * EVENTS * 3 // (KILLS + 2))
            worker.kill()
            worker.start()
            _first_event_within(worker, executions, seconds=3.0)
        env.wait_settled(timeout_s=120)
        assert worker.stop() == 0
    finally:
        worker.close()

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.letters["permanent"] == fates.count("permanent")
    done = Counter(executions.read_text().splitlines())
    least = EVENTS * 3 - fates.count("permanent")
    assert len(done) == least
    # Only nodes in flight at a death may run twice.
    assert sum(done.values()) - least <= KILLS * IN_FLIGHT
    assert max(done.values()) <= KILLS + 1


def _wait_for_executions(executions: Path, count: int) -> None:
    wait_until(lambda: _count(executions) >= count, timeout_s=60, what=f"{count} node executions")


def _count(executions: Path) -> int:
    return executions.read_bytes().count(b"\n") if executions.exists() else 0


def _first_event_within(worker: WorkerProcess, executions: Path, *, seconds: float) -> None:
    worker.wait_for("worker.starting")
    before = _count(executions)
    wait_until(lambda: _count(executions) > before, timeout_s=seconds, what="the first event")
