"""Deadlines, and delivery at least once: how runs end apart from success and failure."""

import time
from collections.abc import Callable

import pytest

from redrive.dead_letter.record import DeadLetter
from redrive.events import EventHeaders, WorkflowResultEvent
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic

DEADLINE = "redrive-deadline"


def in_s(seconds: float) -> dict[str, str]:
    headers = EventHeaders(deadline=round((time.time() + seconds) * 1000)).write()
    return {name: value.decode() for name, value in headers}


def the_result(env: KafkaEnv) -> WorkflowResultEvent:
    (record,) = read_topic(env.bootstrap_servers, env.topics.results)
    return WorkflowResultEvent.from_bytes(record.value)


@pytest.mark.invariant("P8")
def test_an_event_whose_deadline_has_passed_is_not_started(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    env.send([event({})], headers=in_s(-1))

    with env.worker("--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    info = the_result(env).error_info
    assert info is not None
    assert (info.reason.value, info.attempts, info.dlq_id) == ("expired", 0, None)
    assert read_topic(env.bootstrap_servers, env.topics.dlq) == []
    assert not (env.folder / "executions.log").exists()


@pytest.mark.invariant("P8", "P6")
def test_a_run_that_meets_its_deadline_ends_there_with_a_letter_that_names_the_node(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db")

    with env.worker("--graph", "*=fates:builder").running() as worker:
        worker.wait_for("partition.assigned")
        env.send([event({"fate": "sleep", "seconds": 60.0})], headers=in_s(3))
        begun = time.monotonic()
        env.wait_settled(timeout_s=60)
        took_s = time.monotonic() - begun
        assert worker.stop() == 0

    info = the_result(env).error_info
    assert info is not None
    assert (info.reason.value, info.kind.value, info.node) == ("deadline", "timeout", "work")
    assert took_s < 3 + 4
    (record,) = read_topic(env.bootstrap_servers, env.topics.dlq)
    letter = DeadLetter.model_validate_json(record.value or b"")
    assert (letter.dlq_id, letter.node) == (info.dlq_id, "work")
    assert letter.checkpoint is not None
    assert letter.deadline is not None


@pytest.mark.invariant("P1", "P3", "P6")
def test_at_least_once_loses_nothing_when_the_worker_is_killed(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_WORKER__DELIVERY="at_least_once", REDRIVE_CHECKPOINTS__URL="none")
    fates = ["permanent" if number % 10 == 0 else "success" for number in range(400)]
    env.send(event({"fate": fate}) for fate in fates)
    worker = env.worker("--worker-id", "w1", "--graph", "*=fates:builder")

    with worker.running():
        worker.wait_for("run.dead_lettered")
        worker.kill()
        worker.start()
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    doubles = [finding for finding in verdict.findings if "doubled" in finding or "2 l" in finding]
    assert verdict.findings == doubles
    assert verdict.results["success"] >= fates.count("success")
