"""What is counted over the lives of workers: failures and deaths, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowResultEvent
from redrive.retry import Reason
from redrive.state.commit_metadata import decode
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import committed_offsets, read_topic
from redrive.testing.worker_process import wait_until

GRAPHS = ("--graph", "*=fates:builder")
ONE_CRASH = {"REDRIVE_RETRY__MAX_CRASHES": "1"}
"""So that one death that is counted wrongly condemns."""


def begun(executions: Path) -> int:
    return executions.read_text().count(" work\n") if executions.exists() else 0


def wait_for_another(executions: Path, before: int) -> None:
    wait_until(lambda: begun(executions) > before, timeout_s=60, what="the node begins again")


def the_answer(env: KafkaEnv) -> WorkflowResultEvent:
    (record,) = read_topic(env.bootstrap_servers, env.topics.results)
    return WorkflowResultEvent.from_bytes(record.value)


@pytest.fixture
def env(make_stage: Callable[..., KafkaEnv]) -> KafkaEnv:
    return make_stage(
        partitions=1,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_WORKER__GRACE="6s",
        REDRIVE_RETRY__INITIAL_DELAY="100ms",
    )


@pytest.mark.invariant("P5", "P12")
def test_a_run_that_is_cut_by_stops_is_not_condemned(env: KafkaEnv) -> None:
    executions = env.folder / "executions.log"
    env.send([event({"fate": "sleep", "seconds": 5.0})])
    worker = env.worker("--worker-id", "w1", *GRAPHS, environ=ONE_CRASH)

    try:
        for stops in range(2):
            worker.start()
            wait_for_another(executions, stops)
            assert worker.stop() == 0
        worker.start()
        env.wait_settled(timeout_s=60)
        (assigned,) = worker.events("partition.assigned")
    finally:
        worker.close()

    answer = the_answer(env)
    assert answer.status == "success"
    assert assigned["suspects"] == 0
    assert answer.run is not None
    assert answer.run.attempts == 1


@pytest.mark.invariant("P5")
def test_a_run_whose_partition_moves_is_not_condemned(env: KafkaEnv) -> None:
    executions = env.folder / "executions.log"
    env.send([event({"fate": "sleep", "seconds": 15.0})])
    # Dynamic members: each that joins or leaves makes the group share out its one partition anew.
    workers = [
        env.worker(*GRAPHS, environ=ONE_CRASH, name=f"worker{number}") for number in range(3)
    ]

    try:
        workers[0].start()
        wait_for_another(executions, 0)
        for stays, leaves in zip(workers[1:], workers, strict=False):
            before = begun(executions)
            stays.start()
            stays.wait_for("worker.ready")
            assert leaves.stop() == 0
            wait_for_another(executions, before)
        env.wait_settled(timeout_s=60)
    finally:
        for worker in workers:
            worker.close()

    assert the_answer(env).status == "success"


@pytest.mark.invariant("P5")
def test_attempts_go_on_being_counted_after_the_worker_is_killed(env: KafkaEnv) -> None:
    executions = env.folder / "executions.log"
    failing = event({"fate": "fail"})
    env.send([failing])
    worker = env.worker(
        "--worker-id", "w1", *GRAPHS, environ={"REDRIVE_RETRY__INITIAL_DELAY": "3s"}
    )

    try:
        for failures in range(2):
            worker.start()
            wait_for_another(executions, failures)
            worker.wait_for("run.retry_scheduled")
            _wait_until_noted(env, failures + 1)
            # It waits for its retry: not running, so the death is none of its business.
            worker.kill()
        worker.start()
        env.wait_settled(timeout_s=60)
    finally:
        worker.close()

    (record,) = read_topic(env.bootstrap_servers, env.topics.dlq)
    letter = DeadLetter.model_validate_json(record.value or b"")
    assert begun(executions) == 4
    assert (letter.reason, letter.retry_count) == (Reason.RETRIES_EXHAUSTED, 3)
    assert [attempt.number for attempt in letter.attempts] == [3, 4]


def _wait_until_noted(env: KafkaEnv, failures: int) -> None:
    def noted() -> bool:
        committed = committed_offsets(env.bootstrap_servers, env.topics.events, env.topics.group)
        all_metadata = [decode(found.metadata) for found in committed.values()]
        return any(
            metadata and any(e.failed == failures for e in metadata.entries.values())
            for metadata in all_metadata
        )

    wait_until(noted, timeout_s=60, what=f"{failures} failures are noted")
