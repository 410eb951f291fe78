"""Two workers of different names share the work; one dies and comes back, and nothing moves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.events import WorkflowResultEvent
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess, wait_until

EVENTS = 600
SHARE = 150


@pytest.mark.invariant("P1", "P2", "P3")
def test_a_named_worker_that_dies_and_comes_back_moves_none_of_the_others_partitions(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none", REDRIVE_WORKER__IN_FLIGHT="8")
    executions = env.folder / "executions.log"
    one, two = (
        env.worker("--worker-id", name, "--graph", "*=fates:builder", name=name)
        for name in ("w1", "w2")
    )

    with one.running(), two.running():
        wait_until(lambda: _hold_two_each(one, two), timeout_s=60, what="two partitions each")
        moved = _gone(two)
        env.send(event({"fate": "sleep", "seconds": 0.2}) for _ in range(EVENTS))
        _wait_for_runs(executions, SHARE)
        one.kill()
        assert not env.settled()
        one.start()
        env.wait_settled(timeout_s=60)
        assert _gone(two) == moved
        assert one.stop() == two.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": EVENTS}
    assert _answered_by(env) == {"w1", "w2"}


def _hold_two_each(*workers: WorkerProcess) -> bool:
    return all(len(_held(worker)) == 2 for worker in workers)


def _held(worker: WorkerProcess) -> set[object]:
    held: set[object] = set()
    for logged in worker.events():
        if logged["event"] in ("partition.assigned", "partition.back"):
            held.add(logged["partition"])
        elif logged["event"] in ("partition.away", "partition.gone"):
            held.discard(logged["partition"])
    return held


def _gone(worker: WorkerProcess) -> int:
    return len([*worker.events("partition.away"), *worker.events("partition.gone")])


def _wait_for_runs(executions: Path, count: int) -> None:
    def reached() -> bool:
        return executions.exists() and executions.read_text().count(" write") >= count

    wait_until(reached, timeout_s=60, what=f"{count} runs")


def _answered_by(env: KafkaEnv) -> set[str]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    answers = (WorkflowResultEvent.from_bytes(record.value) for record in records)
    return {answer.run.worker for answer in answers if answer.run is not None}
