"""Two workers of one name, and a node that never returns: who ends, and how."""

from collections.abc import Callable

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until

FENCED = 4


@pytest.mark.invariant("P2")
def test_of_two_workers_with_one_name_one_ends_and_says_so(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    graph = ("--worker-id", "w1", "--graph", "*=fates:builder")
    env.send(event({"fate": "sleep", "seconds": 0.05}) for _ in range(300))

    with env.worker(*graph, name="older").running() as older:
        older.wait_for("partition.assigned")
        with env.worker(*graph, name="newer").running() as newer:
            newer.wait_for("worker.ready")
            env.send(event({}) for _ in range(50))
            both = (older, newer)
            # Each has just begun, and takes its first fence for an echo of its own joining: either
            # may be the last to join, and of both the producer may be fenced once more.
            wait_until(
                lambda: not all(one.running_now for one in both), timeout_s=60, what="a fence"
            )
            settles = lambda: not any(one.running_now for one in both) or env.settled()  # noqa: E731
            wait_until(settles, timeout_s=60, what="settled, or both ended")
            fenced = [one for one in both if not one.running_now]
            assert [one.wait(timeout_s=1) for one in fenced] == [FENCED] * len(fenced)
            assert all("another" in one.log_file.read_text() for one in fenced)
            # Whoever starts again is alone.
            if len(fenced) == len(both):
                newer.start()
            env.wait_settled(timeout_s=60)
            (survivor,) = (one for one in both if one.running_now)
            assert survivor.stop() == 0

    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.invariant("P2")
def test_a_worker_that_is_replaced_while_it_has_nothing_to_do_ends_too(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    graph = ("--worker-id", "w1", "--graph", "*=fates:builder")

    with env.worker(*graph, name="older").running() as older:
        older.wait_for("partition.assigned")
        with env.worker(*graph, name="newer").running() as newer:
            newer.wait_for("partition.assigned")
            # It hears of it with a heartbeat, each three seconds.
            assert older.wait(timeout_s=20) == FENCED
            assert newer.stop() == 0


@pytest.mark.invariant("P12", "P1")
def test_a_node_that_never_returns_does_not_keep_the_worker_from_stopping(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none", REDRIVE_WORKER__GRACE="10s")
    executions = env.folder / "executions.log"
    env.send([event({"fate": "stuck", "seconds": 300.0})])

    with env.worker("--graph", "*=fates:builder").running() as worker:
        wait_until(
            lambda: executions.exists() and " write" in executions.read_text(),
            timeout_s=60,
            what="the node",
        )
        assert worker.stop(timeout_s=14) == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    # Left as it is: not answered, and its offset not passed.
    assert len(verdict.findings) == 2
    assert any(finding.startswith(("lost", "stuck")) for finding in verdict.findings)
    assert any("is committed at 0" in finding for finding in verdict.findings)
