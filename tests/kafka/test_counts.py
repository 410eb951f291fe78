"""What is counted over the lives of workers: failures and deaths, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowResultEvent
from redrive.retry import Reason
from redrive.state.offsets import decode
from redrive.testing.reading import committed_offsets, read_topic
from redrive.testing.stage import Stage, event
from redrive.testing.worker import wait_until

GRAPHS = ("--graph", "*=fates:builder")
ONE_CRASH = {"REDRIVE_RETRY__MAX_CRASHES": "1"}
"""So that one death that is counted wrongly condemns."""


def begun(executions: Path) -> int:
    return executions.read_text().count(" work\n") if executions.exists() else 0


def wait_for_another(executions: Path, before: int) -> None:
    wait_until(lambda: begun(executions) > before, timeout_s=60, what="the node begins again")


def the_answer(stage: Stage) -> WorkflowResultEvent:
    (record,) = read_topic(stage.bootstrap_servers, stage.topics.results)
    return WorkflowResultEvent.from_bytes(record.value)


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage(
        partitions=1,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_WORKER__GRACE="6s",
        REDRIVE_RETRY__INITIAL_DELAY="100ms",
    )


@pytest.mark.invariant("P5", "P12")
def test_a_run_that_is_cut_by_stops_is_not_condemned(stage: Stage) -> None:
    executions = stage.folder / "executions.log"
    stage.send([event({"fate": "sleep", "seconds": 5.0})])
    worker = stage.worker("--worker-id", "w1", *GRAPHS, environ=ONE_CRASH)

    try:
        for stops in range(2):
            worker.start()
            wait_for_another(executions, stops)
            assert worker.stop() == 0
        worker.start()
        stage.wait_settled(timeout_s=60)
        (assigned,) = worker.events("partition.assigned")
    finally:
        worker.close()

    answer = the_answer(stage)
    assert answer.status == "success"
    assert assigned["suspects"] == 0
    assert answer.run is not None
    assert answer.run.attempts == 1


@pytest.mark.invariant("P5")
def test_a_run_whose_partition_moves_is_not_condemned(stage: Stage) -> None:
    executions = stage.folder / "executions.log"
    stage.send([event({"fate": "sleep", "seconds": 15.0})])
    # Dynamic members: each that joins or leaves makes the group share out its one partition anew.
    workers = [
        stage.worker(*GRAPHS, environ=ONE_CRASH, name=f"worker{number}") for number in range(3)
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
        stage.wait_settled(timeout_s=60)
    finally:
        for worker in workers:
            worker.close()

    assert the_answer(stage).status == "success"


@pytest.mark.invariant("P5")
def test_attempts_go_on_being_counted_after_the_worker_is_killed(stage: Stage) -> None:
    executions = stage.folder / "executions.log"
    failing = event({"fate": "fail"})
    stage.send([failing])
    worker = stage.worker(
        "--worker-id", "w1", *GRAPHS, environ={"REDRIVE_RETRY__INITIAL_DELAY": "3s"}
    )

    try:
        for failures in range(2):
            worker.start()
            wait_for_another(executions, failures)
            worker.wait_for("run.retry_scheduled")
            _wait_until_noted(stage, failures + 1)
            # It waits for its retry: not running, so the death is none of its business.
            worker.kill()
        worker.start()
        stage.wait_settled(timeout_s=60)
    finally:
        worker.close()

    (record,) = read_topic(stage.bootstrap_servers, stage.topics.dlq)
    letter = DeadLetter.model_validate_json(record.value or b"")
    assert begun(executions) == 4
    assert (letter.reason, letter.retry_count) == (Reason.RETRIES_EXHAUSTED, 3)
    assert [attempt.number for attempt in letter.attempts] == [3, 4]


def _wait_until_noted(stage: Stage, failures: int) -> None:
    def noted() -> bool:
        committed = committed_offsets(
            stage.bootstrap_servers, stage.topics.events, stage.topics.group
        )
        notes = [decode(found.metadata) for found in committed.values()]
        return any(
            note and any(e.failed == failures for e in note.entries.values()) for note in notes
        )

    wait_until(noted, timeout_s=60, what=f"{failures} failures are noted")
