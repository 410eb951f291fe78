"""Workers join, leave and die while events run: partitions move, each event is answered once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until

EVENTS = 900
IN_FLIGHT = 16


@pytest.mark.invariant("P1", "P2", "P3", "P4")
def test_workers_that_come_and_go_answer_each_event_once(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_KAFKA__SESSION_TIMEOUT="6s",
        REDRIVE_WORKER__IN_FLIGHT=str(IN_FLIGHT),
    )
    executions = env.folder / "executions.log"
    env.send(event({"fate": "sleep", "seconds": 0.2}) for _ in range(EVENTS))
    one, two, three = (
        env.worker("--graph", "*=fates:builder", name=name) for name in ("one", "two", "three")
    )

    with one.running(), two.running():
        two.wait_for("partition.assigned", timeout_s=120)
        _wait_for_runs(executions, EVENTS // 5)
        with three.running():
            three.wait_for("partition.assigned", timeout_s=120)
            _wait_for_runs(executions, 2 * EVENTS // 5)
            assert two.stop() == 0
            _wait_for_runs(executions, 3 * EVENTS // 5)
            three.kill()
        env.wait_settled(timeout_s=120)
        rebalances = len(list(one.events("partition.away")))
        assert one.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS
    # The other workers' coming and going was seen here, also where none of its partitions moved.
    assert rebalances > 0
    done = Counter(executions.read_text().splitlines())
    assert len(done) == 3 * EVENTS
    # At each move, and at the death, only nodes in flight may run twice.
    assert sum(done.values()) - len(done) <= 6 * 3 * IN_FLIGHT


def _wait_for_runs(executions: Path, count: int) -> None:
    def reached() -> bool:
        return executions.exists() and executions.read_text().count(" write") >= count

    wait_until(reached, timeout_s=180, what=f"{count} runs")
