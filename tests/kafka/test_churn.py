"""Members join the group and leave it all the time, under load: what stays is not run again."""

from collections import Counter
from collections.abc import Callable

import pytest
from tests.kafka.holding import BOTH_PROTOCOLS, another_member, held, set_session
from tests.kafka.steady import sending

from redrive.events import WorkflowEvent
from redrive.kafka.kafka_settings import GroupProtocol
from redrive.testing.journal import read_journal, went_back
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

NODES = ("plan", "work", "write")
PARTITIONS = 6
A_SECOND = 8
NODE_S = 3.0
"""Longer than most members stay."""
COMINGS = 7


@BOTH_PROTOCOLS
@pytest.mark.invariant("P1", "P2", "P3", "P4")
def test_runs_on_partitions_that_stay_run_once_while_members_come_and_go(
    make_stage: Callable[..., KafkaEnv], protocol: GroupProtocol
) -> None:
    env = make_stage(
        partitions=PARTITIONS,
        REDRIVE_KAFKA__GROUP_PROTOCOL=protocol,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_KAFKA__SESSION_TIMEOUT="6s",
    )
    set_session(env)
    one, two = (
        env.worker("--worker-id", name, "--graph", "*=fates:builder", name=name)
        for name in ("w1", "w2")
    )
    with one.running(), two.running():
        wait_until(lambda: _all_are_shared(one, two), timeout_s=180, what="both have their share")
        before = _gone(one, two)
        with sending(env, _long, a_second=A_SECOND) as sent:
            for _ in range(COMINGS):
                with another_member(env, protocol, having=2):
                    wait_until(
                        lambda: len(held(one, two)) == PARTITIONS - 2, timeout_s=60, what="two gone"
                    )
                wait_until(lambda: _all_are_shared(one, two), timeout_s=60, what="all are back")
        env.wait_settled(timeout_s=120)
        gone = _gone(one, two) - before
        back = _partitions("partition.back", one, two)
        assert one.stop() == two.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": len(sent.at)}
    stayed = set(range(PARTITIONS)) - gone.keys()
    # Two are the other one's each time, and one goes from worker to worker to make room.
    assert len(stayed) == PARTITIONS - 3
    assert gone.total() >= 3 * COMINGS
    if protocol is GroupProtocol.CLASSIC:
        assert all(back[partition] >= COMINGS for partition in stayed)
    executed = read_journal(env.folder / "executions.log")
    assert went_back(executed, NODES) == []
    there = Counter(each for each in executed if int(each.thread.split("/")[1]) in stayed)
    assert set(there.values()) == {1}


def _long() -> WorkflowEvent:
    return event({"fate": "sleep", "seconds": NODE_S})


def _all_are_shared(one: WorkerProcess, two: WorkerProcess) -> bool:
    return held(one, two) == list(range(PARTITIONS)) and bool(held(one) and held(two))


def _gone(*workers: WorkerProcess) -> Counter[int]:
    """Return how often each partition went to another one."""
    return _partitions("partition.gone", *workers)


def _partitions(name: str, *workers: WorkerProcess) -> Counter[int]:
    return Counter(int(str(e["partition"])) for w in workers for e in w.events(name))
