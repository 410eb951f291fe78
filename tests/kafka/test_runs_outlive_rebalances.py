"""Others join the group and leave it while long runs are under way: what stays is not run again."""

from collections import Counter
from collections.abc import Callable

import pytest
from tests.kafka.holding import another_member, held

from redrive.kafka.kafka_settings import GroupProtocol
from redrive.testing.journal import read_journal
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until

EVENTS = 12
LONG_S = 10.0
JOINS = 3


@pytest.mark.invariant("P1", "P2", "P3", "P4")
def test_runs_on_partitions_that_stay_go_on_while_others_join_and_leave(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_KAFKA__SESSION_TIMEOUT="6s")
    for number in range(EVENTS):
        env.send([event({"fate": "sleep", "seconds": LONG_S})], partition=number % 4)
    begun = lambda: _executions(env, "work").total() >= EVENTS  # noqa: E731

    with env.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        wait_until(begun, timeout_s=120, what="all runs have begun")
        for _ in range(JOINS):
            with another_member(env, GroupProtocol.CLASSIC, having=2):
                wait_until(lambda: held(worker) == [2, 3], timeout_s=60, what="two are gone")
            wait_until(lambda: held(worker) == [0, 1, 2, 3], timeout_s=60, what="all are back")
        env.wait_settled(timeout_s=90)
        back = {line["partition"] for line in worker.events("partition.back")}
        gone = {line["partition"] for line in worker.events("partition.gone")}
        assert worker.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS
    # Of the members of the group, w1 is the last one in the order of their names.
    assert gone == {0, 1}
    assert back >= {2, 3}
    for thread, times in _executions(env, "work").items():
        stayed = int(thread.split("/")[1]) not in gone
        assert times == 1 if stayed else times > 1


def _executions(env: KafkaEnv, node: str) -> Counter[str]:
    """Count how often a node ran, by thread."""
    journal = read_journal(env.folder / "executions.log")
    return Counter(each.thread for each in journal if each.node == node)
