"""SIGTERM while runs are under way: they stop at a checkpoint, or end, and nothing is lost."""

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until

EVENTS = 40
STOPPED_AT_ONCE = 130


@pytest.mark.invariant("P4", "P12")
def test_runs_stop_at_their_next_checkpoint_and_go_on_in_the_next_worker(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db")
    executions = env.folder / "executions.log"
    env.send(event({"fate": "sleep", "seconds": 2.0}) for _ in range(EVENTS))
    graph = ("--worker-id", "w1", "--graph", "*=fates:builder")

    with env.worker(*graph, name="first").running() as first:
        _wait_for(executions, " work", EVENTS)
        assert first.stop(timeout_s=20) == 0
        drained = len(list(first.events("run.drained")))
    written = executions.read_text().count(" write")
    with env.worker(*graph, name="second").running() as second:
        env.wait_settled(timeout_s=60)
        assert second.stop() == 0

    assert drained > 0
    assert written < EVENTS
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []
    # Each node ran once: what was under way at the signal ended, and was kept.
    assert set(Counter(executions.read_text().splitlines()).values()) == {1}


@pytest.mark.invariant("P12")
def test_without_checkpoints_runs_are_given_the_grace_to_end(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    env.send(event({"fate": "sleep", "seconds": 3.0}) for _ in range(EVENTS))

    with env.worker("--graph", "*=fates:builder").running() as worker:
        _wait_for(env.folder / "executions.log", " work", EVENTS)
        assert worker.stop(timeout_s=20) == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS


@pytest.mark.invariant("P1", "P12")
def test_a_second_signal_ends_the_worker_at_once_and_loses_nothing(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none", REDRIVE_KAFKA__SESSION_TIMEOUT="6s")
    env.send(event({"fate": "sleep", "seconds": 4.0}) for _ in range(EVENTS))

    with env.worker("--graph", "*=fates:builder", name="first").running() as first:
        _wait_for(env.folder / "executions.log", " work", EVENTS)
        first.signal(signal.SIGTERM)
        first.wait_for("worker.draining")
        first.signal(signal.SIGTERM)
        assert first.wait(timeout_s=5) == STOPPED_AT_ONCE
    with env.worker("--graph", "*=fates:builder", name="second").running() as second:
        env.wait_settled(timeout_s=60)
        assert second.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS


def _wait_for(executions: Path, what: str, count: int) -> None:
    def reached() -> bool:
        return executions.exists() and executions.read_text().count(what) >= count

    wait_until(reached, timeout_s=60, what=f"{count} times{what}")
