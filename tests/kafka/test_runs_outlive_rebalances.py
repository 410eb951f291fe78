"""Others join the group and leave it while long runs are under way: what stays is not run again."""

from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer

from redrive.testing.journal import read_journal
from redrive.testing.judging import gather, judge
from redrive.testing.stage import Stage, event
from redrive.testing.worker import WorkerProcess, wait_until

EVENTS = 12
LONG_S = 10.0
JOINS = 3


@pytest.mark.invariant("P1", "P2", "P3", "P4")
def test_runs_on_partitions_that_stay_go_on_while_others_join_and_leave(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(REDRIVE_KAFKA__SESSION_TIMEOUT="6s")
    for number in range(EVENTS):
        stage.send([event({"fate": "sleep", "seconds": LONG_S})], partition=number % 4)
    begun = lambda: _executions(stage, "work").total() >= EVENTS  # noqa: E731

    with stage.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        wait_until(begun, timeout_s=40, what="all runs have begun")
        for _ in range(JOINS):
            _let_another_join_and_leave(stage, worker)
        stage.wait_settled(timeout_s=90)
        back = {line["partition"] for line in worker.events("partition.back")}
        gone = {line["partition"] for line in worker.events("partition.gone")}
        assert worker.stop() == 0

    verdict = judge(gather(stage.bootstrap_servers, stage.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS
    # Of the members of the group, w1 is the last one in the order of their names.
    assert gone == {0, 1}
    assert back >= {2, 3}
    for thread, times in _executions(stage, "work").items():
        stayed = int(thread.split("/")[1]) not in gone
        assert times == 1 if stayed else times > 1


def _let_another_join_and_leave(stage: Stage, worker: WorkerProcess) -> None:
    """Let somebody have two partitions, who does nothing; return once the worker has them again."""
    begun = _counts(worker)
    consumer = Consumer(
        {
            "bootstrap.servers": stage.bootstrap_servers,
            "group.id": stage.topics.group,
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([stage.topics.events])
    try:
        wait_until(lambda: _joined(consumer), timeout_s=30, what="the other one has joined")
        gone = lambda: _counts(worker)["partition.gone"] >= begun["partition.gone"] + 2  # noqa: E731
        wait_until(gone, timeout_s=20, what="the worker gave two partitions up")
    finally:
        consumer.close()
    wait_until(
        lambda: _counts(worker)["partition.assigned"] >= begun["partition.assigned"] + 2,
        timeout_s=20,
        what="the worker has them again",
    )


def _joined(consumer: Consumer) -> bool:
    consumer.poll(0.1)
    return len(consumer.assignment()) == 2


def _counts(worker: WorkerProcess) -> Counter[object]:
    return Counter(line["event"] for line in worker.events())


def _executions(stage: Stage, node: str) -> Counter[str]:
    """Count how often a node ran, by thread."""
    journal = read_journal(stage.folder / "executions.log")
    return Counter(each.thread for each in journal if each.node == node)
