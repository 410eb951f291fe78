"""Limits of attempts and runs in a real worker; what goes on beyond them costs its process."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.redacted_text import SILENT
from redrive.events import EventHeaders, WorkflowResultEvent
from redrive.retry import Kind, Reason
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import wait_until

GRAPHS = ("--graph", "*=fates:builder")


def answers(env: KafkaEnv) -> dict[str, WorkflowResultEvent]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    results = [WorkflowResultEvent.from_bytes(record.value) for record in records]
    return {result.correlation_id: result for result in results}


def letters(env: KafkaEnv) -> list[DeadLetter]:
    records = read_topic(env.bootstrap_servers, env.topics.dlq)
    return [DeadLetter.model_validate_json(record.value or b"") for record in records]


@pytest.fixture
def slow_once(make_stage: Callable[..., KafkaEnv]) -> Callable[..., KafkaEnv]:
    def make(**settings: str) -> KafkaEnv:
        env = make_stage(
            BEGUN="begun", REDRIVE_RETRY__INITIAL_DELAY="100ms", partitions=1, **settings
        )
        shutil.copy(Path(__file__).parent / "agents" / "slow_once.py", env.folder)
        (env.folder / "begun").mkdir()
        return env

    return make


@pytest.mark.invariant("P8")
@pytest.mark.parametrize("limit", ["REDRIVE_TIMEOUTS__ATTEMPT", "REDRIVE_TIMEOUTS__IDLE"])
def test_an_attempt_that_takes_too_long_is_followed_by_another(
    slow_once: Callable[..., KafkaEnv], limit: str
) -> None:
    env = slow_once(**{limit: "1s", "REDRIVE_CHECKPOINTS__URL": "sqlite:///checkpoints.db"})
    slow = event({"name": "a", "seconds": 60.0})
    env.send([slow])

    with env.worker("--graph", "*=slow_once:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        (retried,) = worker.events("run.retry_scheduled")
        assert worker.stop() == 0

    result = answers(env)[slow.event_id]
    assert (retried["kind"], retried["attempt"], retried["node"]) == ("timeout", 1, "work")
    assert result.status == "success"
    assert result.run is not None
    assert result.run.attempts == 2


@pytest.mark.invariant("P8")
def test_a_run_ends_at_its_own_limit_whatever_its_attempts_do(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1, WORKFLOW_EXECUTION_TIMEOUT="2")
    long = event({"fate": "sleep", "seconds": 60.0})
    env.send([long])

    with env.worker(*GRAPHS).running() as worker:
        worker.wait_for("worker.ready")
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    result = answers(env)[long.event_id]
    assert result.error_info is not None
    assert (result.error_info.reason, result.error_info.node) == (Reason.DEADLINE, "work")
    assert "longer than its 2 s (timeouts.run" in result.error_info.message


@pytest.mark.invariant("P8")
def test_a_sync_node_that_outlives_its_timeout_is_settled_and_its_process_replaced(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(
        partitions=2,
        REDRIVE_WORKER__GRACE="8s",
        REDRIVE_GRAPHS__STUCK__TARGET="fates:builder",
        REDRIVE_GRAPHS__STUCK__ATTEMPT_TIMEOUT="1s",
    )
    stuck = event({"fate": "stuck", "seconds": 600.0}, workflow_id="stuck")
    # In flight when the worker is told to go: drained, and gone on with by the next process.
    beside = [event({"fate": "sleep", "seconds": 12.0}) for _ in range(4)]
    env.send([stuck, *beside])

    worker = env.worker("--worker-id", "w1", *GRAPHS, supervised=True)
    with worker.running():
        died = worker.wait_for("supervisor.child_died", timeout_s=60)
        later = event({"fate": "success"})
        env.send([later])
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    assert died["how"] == "exit code 75"
    results = answers(env)
    info = results[stuck.event_id].error_info
    assert info is not None
    assert (info.kind, info.reason, info.node) == (Kind.TIMEOUT, Reason.STUCK, "write")
    assert [letter.reason for letter in letters(env)] == [Reason.STUCK]
    assert all(results[sent.event_id].status == "success" for sent in (*beside, later))
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.nightly
@pytest.mark.invariant("P1", "P7", "P8")
def test_an_exception_that_never_says_what_it_is_costs_its_process_and_no_other_run(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=2, REDRIVE_WORKER__GRACE="2s", REDRIVE_RETRY__KINDS__UNKNOWN="0")
    silent, beside = event({"fate": "silent"}), [event({"fate": "success"}) for _ in range(20)]

    worker = env.worker("--worker-id", "w1", *GRAPHS, supervised=True)
    with worker.running():
        env.send([silent, *beside])
        told = worker.wait_for("run.failure_silent", timeout_s=60)
        died = worker.wait_for("supervisor.child_died", timeout_s=60)
        # Answered by the next process: only one that is there can be told to stop.
        beside.append(event({"fate": "success"}))
        env.send(beside[-1:])
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    assert (told["type"], died["how"]) == ("fates.SilentError", "exit code 75")
    results = answers(env)
    assert all(results[sent.event_id].status == "success" for sent in beside)
    (letter,) = letters(env)
    assert (letter.error.type, letter.error.message) == ("fates.SilentError", SILENT)
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.invariant("P8")
def test_who_waits_gets_the_answer_at_the_deadline_also_of_a_node_that_does_not_listen(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1, REDRIVE_WORKER__GRACE="7s")
    deaf = event({"fate": "stuck", "seconds": 600.0})

    with env.worker(*GRAPHS, supervised=True).running() as worker:
        worker.wait_for("partition.assigned")
        deadline = time.time() + 4.0
        headers = EventHeaders(deadline=round(deadline * 1000)).write()
        env.send([deaf], headers={name: value.decode() for name, value in headers})
        wait_until(lambda: answers(env), timeout_s=60, what="the answer", every_s=0.2)
        answered = time.time()
        worker.wait_for("worker.node_stuck", timeout_s=60)
        died = worker.wait_for("supervisor.child_died", timeout_s=60)

    info = answers(env)[deaf.event_id].error_info
    assert info is not None
    assert (info.kind, info.reason) == (Kind.TIMEOUT, Reason.DEADLINE)
    assert answered - deadline < 3.0
    assert died["how"] == "exit code 75"


@pytest.mark.invariant("P5", "P7", "P8")
def test_a_node_that_blocks_the_event_loop_for_ever_costs_its_process_and_is_condemned(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(
        partitions=2, REDRIVE_WORKER__LOOP_TIMEOUT="1s", REDRIVE_RETRY__MAX_CRASHES="2"
    )
    blocks = event({"fate": "block", "seconds": 600.0})
    others = [event({"fate": "success"}) for _ in range(20)]
    env.send([*others[:10], blocks, *others[10:]])

    with env.worker("--worker-id", "w1", *GRAPHS, supervised=True).running() as worker:
        env.wait_settled(timeout_s=90)
        blocked = list(worker.events("worker.loop_blocked"))

    assert len(blocked) == 2
    assert all("fates.py" in str(told["where"]) for told in blocked)
    results = answers(env)
    info = results[blocks.event_id].error_info
    assert info is not None
    assert (info.kind, info.reason) == (Kind.POISON, Reason.CRASHED)
    assert "exit code 75" in info.message
    assert all(results[sent.event_id].status == "success" for sent in others)
