"""The wall clock of a worker's host jumps by an hour: only events read after it are judged by it.

What is stamped on records by Kafka's client is not turned here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from redrive.clock import SYSTEM
from redrive.events import WorkflowResultEvent
from redrive.kafka.log import ConsumerRecord
from redrive.retry.kinds import Reason
from redrive.testing.journal import read_journal
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

PROGRAM = (str(Path(__file__).parent / "agents" / "clock_jumps.py"),)
HOUR_S = 3600
TEN_MINUTES_S = 600
HELD = {
    "REDRIVE_RETRY__INITIAL_DELAY": "10s",
    "REDRIVE_RETRY__JITTER": "false",
    "REDRIVE_TIMEOUTS__RUN": "10m",
    "REDRIVE_TIMEOUTS__ATTEMPT": "5m",
    "REDRIVE_TIMEOUTS__IDLE": "5m",
}


@pytest.mark.invariant("P8")
@pytest.mark.parametrize(
    "jump_s",
    [
        pytest.param(HOUR_S, id="ahead"),
        pytest.param(-HOUR_S, id="back", marks=pytest.mark.nightly),
    ],
)
def test_a_jump_of_the_wall_clock_touches_only_events_that_are_read_after_it(
    jump_s: int, make_stage: Callable[..., KafkaEnv]
) -> None:
    env = make_stage(partitions=1, **HELD)
    running, held = event({"fate": "sleep", "seconds": 15.0}), event({"fate": "transient"})
    # By the new clock the deadline of the first two has passed, or is an hour further away.
    late = event({})
    with env.worker("--graph", "*=fates:builder", program=PROGRAM).running() as worker:
        env.send([running, held], headers=_deadline(TEN_MINUTES_S))
        scheduled = worker.wait_for("run.retry_scheduled", timeout_s=120)
        wait_until(lambda: _works(env) == 2, timeout_s=60, what="both are at work")

        (env.folder / "jump").write_text(str(jump_s))
        # Ahead, it has expired by the new clock, which is wrong; back, it has by the true one.
        env.send([late], headers=_deadline(TEN_MINUTES_S if jump_s > 0 else -TEN_MINUTES_S))
        env.wait_settled(timeout_s=120)
        assert worker.stop() == 0

    evidence = gather(env.bootstrap_servers, env.topics)
    assert judge(evidence).findings == []
    assert evidence.letters == []
    answers = {record.key: record for record in evidence.results}
    of_running, of_held, of_late = (answers[one.event_id.encode()] for one in (running, held, late))
    assert _attempts(of_running) == ("success", 1)
    assert _attempts(of_held) == ("success", 2)
    _waited(worker, scheduled, of_held)
    if jump_s > 0:
        info = _read(of_late).error_info
        assert info is not None
        assert info.reason is Reason.EXPIRED
    else:
        assert _attempts(of_late) == ("success", 1)
    # Wall times are told as they were: their difference is not how long it took.
    run = _read(of_running).run
    assert run is not None
    assert run.started_at is not None
    assert abs((run.finished_at - run.started_at).total_seconds() - jump_s) < HOUR_S / 2


def _deadline(in_s: int) -> dict[str, str]:
    return {"redrive-deadline": str(round((SYSTEM.now().timestamp() + in_s) * 1000))}


def _works(env: KafkaEnv) -> int:
    executions = read_journal(env.folder / "executions.log")
    return sum(execution.node == "work" for execution in executions)


def _read(record: ConsumerRecord) -> WorkflowResultEvent:
    return WorkflowResultEvent.from_bytes(record.value)


def _attempts(record: ConsumerRecord) -> tuple[str, int]:
    answer = _read(record)
    assert answer.run is not None
    return answer.status.value, answer.run.attempts


def _waited(worker: WorkerProcess, scheduled: dict[str, object], answer: ConsumerRecord) -> None:
    """Compare the retry with what was told of it: by the log and by Kafka's client."""
    (other,) = worker.events("run.retry_scheduled")
    assert other == scheduled
    at = datetime.fromisoformat(str(scheduled["timestamp"])).timestamp()
    assert (answer.timestamp_ms or 0) / 1000 - at >= float(str(scheduled["after_s"])) - 0.1
