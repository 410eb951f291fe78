"""Work longer than the poll interval, and a node that blocks the event loop: no second run."""

from collections.abc import Callable

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event


@pytest.mark.invariant("P7")
@pytest.mark.parametrize(
    ("fate", "seconds"), [pytest.param("sleep", 30.0, marks=pytest.mark.nightly), ("block", 15.0)]
)
def test_long_work_keeps_its_partition(
    fate: str, seconds: float, make_stage: Callable[..., KafkaEnv]
) -> None:
    env = make_stage(
        REDRIVE_KAFKA__MAX_POLL_INTERVAL="10s",
        REDRIVE_KAFKA__SESSION_TIMEOUT="6s",
        REDRIVE_CHECKPOINTS__URL="none",
    )
    env.send([event({"fate": fate, "seconds": seconds})])

    with env.worker("--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=seconds + 30)
        assigned = list(worker.events("partition.assigned"))
        gone = [*worker.events("partition.away"), *worker.events("partition.gone")]
        assert worker.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == 1
    assert len(assigned) == 4
    assert gone == []
    executions = (env.folder / "executions.log").read_text().splitlines()
    assert len(executions) == len(set(executions)) == 3
