"""A worker in which nothing moves though the broker is there: it says so, ends, and is replaced."""

from collections.abc import Callable

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

STANDS_STILL = """
import pathlib
from fates import builder
from redrive.kafka.settle_thread import SettleThread
if not (first := pathlib.Path("stood still")).exists():
    first.touch()
    SettleThread.submit = lambda self, batch: None
"""


@pytest.mark.invariant("P1")
def test_a_worker_that_settles_nothing_is_replaced_within_the_stated_time(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_WORKER__STANDSTILL="5s",
        REDRIVE_WORKER__GRACE="3s",
    )
    (env.folder / "still.py").write_text(STANDS_STILL)
    env.send(event({"fate": "success"}) for _ in range(10))

    with env.worker(
        "--worker-id", "w1", "--graph", "*=still:builder", supervised=True
    ).running() as worker:
        env.wait_settled(timeout_s=60)
        (said,) = worker.events("worker.stands_still")
        (died,) = worker.events("supervisor.child_died")
        assert worker.stop() == 0

    assert (said["waits_for"], died["how"]) == ("settling", "exit code 75")
    assert "to be stored" in str(said["what"])
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == 10
