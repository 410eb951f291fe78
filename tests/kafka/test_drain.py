"""SIGTERM while runs take longer than the grace: they are cut, and the next worker runs them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import wait_until

AGENTS = Path(__file__).parent / "agents"
EVENTS = 20
FAR_LONGER_S = 600.0
GRACE_S = 7


@pytest.mark.invariant("P1", "P2", "P12")
def test_runs_that_outlast_the_grace_are_cut_and_run_again_by_the_next_worker(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    shutil.copy(AGENTS / "slow_once.py", tmp_path)
    begun = tmp_path / "begun"
    begun.mkdir()
    env = make_stage(
        BEGUN=str(begun),
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_WORKER__GRACE=f"{GRACE_S}s",
    )
    env.send(event({"name": f"e{n}", "seconds": FAR_LONGER_S}) for n in range(EVENTS))
    graph = ("--graph", "*=slow_once:builder")

    with env.worker(*graph, name="first").running() as first:
        wait_until(
            lambda: len(list(begun.iterdir())) == EVENTS, timeout_s=30, what="all are running"
        )
        # Its own grace, and a moment for the process to end.
        assert first.stop(timeout_s=GRACE_S + 3) == 0
        (drained,) = first.events("worker.drained")
    answered_by_then = read_topic(env.bootstrap_servers, env.topics.results)
    with env.worker(*graph, name="second").running() as second:
        env.wait_settled(timeout_s=60)
        assert second.stop() == 0

    assert drained["cut"] == EVENTS
    assert answered_by_then == []
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": EVENTS}
    # Once cut, once to the end, and not once more.
    executions = {f"e{number}.{time}" for number in range(EVENTS) for time in (1, 2)}
    assert {path.name for path in begun.iterdir()} == executions
