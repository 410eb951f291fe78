"""Many events of mixed fate, and kills: one ending each, and every count agrees.

What a killed worker had counted is gone with it, as Prometheus knows; so each life is read just
before its death, and compared with what its results say of themselves.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from tests.kafka.dlq_commands import dlq
from tests.kafka.seen_from_outside import Outside, free_port

from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter
from redrive.events import ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.kafka.log import ConsumerRecord
from redrive.retry.kinds import Reason
from redrive.testing.judging import Evidence, gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

EVENTS, AT_NIGHT = 4_000, 20_000
SEED = 20_261_124
KILLS = 2
ENDED_BEFORE_A_KILL = 0.3
"""The share of the events that end in a life that is killed."""
SHARES = {
    "success": 85,
    "transient": 8,
    "permanent": 4,
    "expired": 1,
    "unreadable": 1,
    "skipped": 1,
}
# Between the writing of a record and its count lies the rest of its transaction.
COUNTED_WITHIN = timedelta(seconds=3)

UNREADABLE = (
    None,
    b"",
    b"\xff\xfe not UTF-8",
    b"{not JSON",
    b"[1, 2]",
    b'{"event_id": "5e0cc1a8-5ad6-4a3c-8bb3-4e38f0d4c9b0", "payload": 7}',
)


@dataclass(frozen=True)
class Life:
    """What one life of the worker had counted when it was asked last."""

    began: datetime
    asked: datetime
    endings: Counter[str]
    letters: Counter[str]


@pytest.mark.parametrize("events", [EVENTS, pytest.param(AT_NIGHT, marks=pytest.mark.nightly)])
@pytest.mark.invariant("P1", "P2", "P3", "P6", "P14")
def test_each_of_many_events_of_mixed_fate_ends_once_and_every_count_agrees(
    make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None], events: int
) -> None:
    env = make_stage(
        partitions=8, REDRIVE_CHECKPOINTS__URL="none", REDRIVE_RETRY__INITIAL_DELAY="100ms"
    )
    fates = _send(env, events)
    outside = Outside(free_port())
    graphs = ("--worker-id", "w1", "--graph", "*=fates:quick")
    worker = env.worker(*graphs, environ=outside.environ)
    lives = []
    try:
        for _ in range(KILLS):
            began = SYSTEM.now()
            worker.start()
            _wait_for_endings(worker, outside, round(events * ENDED_BEFORE_A_KILL))
            lives.append(_ask(outside, began))
            worker.kill()
        began = SYSTEM.now()
        worker.start()
        env.wait_settled(timeout_s=200)
        # The loop hears of an ending just after it is durable.
        idle = lambda: outside.metric("redrive_attempts_in_flight") == 0  # noqa: E731
        wait_until(idle, timeout_s=60, what="nothing runs")
        lives.append(_ask(outside, began))
        assert worker.stop() == 0
    finally:
        worker.close()

    evidence = gather(env.bootstrap_servers, env.topics)
    verdict = judge(evidence)
    assert verdict.findings == []
    assert verdict.results["success"] == fates["success"] + fates["transient"]
    reasons = {"permanent": fates["permanent"], "unreadable": fates["unreadable"]}
    assert verdict.letters == reasons
    assert _expired(evidence) == fates["expired"]
    _compare_lives(lives, evidence)
    command_at(env)
    _compare_commands(verdict.letters)


def _send(env: KafkaEnv, events: int) -> Counter[str]:
    dice = random.Random(SEED)
    fates = dice.choices(list(SHARES), list(SHARES.values()), k=events)
    late = [fate for fate in fates if fate == "expired"]
    past = str(round((SYSTEM.now().timestamp() - 60) * 1000))
    env.send((event({}) for _ in late), headers={"redrive-deadline": past})
    env.send(_value(fate, dice) for fate in fates if fate != "expired")
    return Counter(fates)


def _value(fate: str, dice: random.Random) -> WorkflowEvent | bytes | None:
    if fate == "unreadable":
        return dice.choice(UNREADABLE)
    if fate == "skipped":
        return event({}).model_copy(update={"event_type": "workflow.completed"})
    return event({"fate": fate})


def _wait_for_endings(worker: WorkerProcess, outside: Outside, goal: int) -> None:
    worker.wait_for("partition.assigned")
    wait_until(
        lambda: outside.metric("redrive_runs_total") >= goal,
        timeout_s=120,
        what=f"{goal} events have ended",
        every_s=0.3,
    )


def _ask(outside: Outside, began: datetime) -> Life:
    asked = SYSTEM.now()
    endings = outside.metrics("redrive_runs_total", "ending")
    letters = outside.metrics("redrive_letters_total", "reason")
    return Life(began, asked, _by_name(endings), _by_name(letters))


def _by_name(metrics: Counter[tuple[str, ...]]) -> Counter[str]:
    return Counter({name: int(count) for (name,), count in metrics.items()})


def _compare_lives(lives: list[Life], evidence: Evidence) -> None:
    ends = [*(life.began for life in lives[1:]), SYSTEM.now()]
    for life, end in zip(lives, ends, strict=True):
        last = life is lives[-1]
        _compare(life, end, evidence, surely=end if last else life.asked - COUNTED_WITHIN)


def _compare(life: Life, end: datetime, evidence: Evidence, *, surely: datetime) -> None:
    """Compare with what was written in this life: all until `surely` is counted, nothing else."""
    endings, sure_endings = Counter[str](), Counter[str]()
    letters, sure_letters = Counter[str](), Counter[str]()
    for record in _within(evidence.results, life.began, end):
        ending = _ending(WorkflowResultEvent.from_bytes(record.value))
        endings[ending] += 1
        sure_endings[ending] += _written(record) <= surely
    for record in _within(evidence.letters, life.began, end):
        reason = DeadLetter.model_validate_json(record.value or b"").reason.value
        letters[reason] += 1
        sure_letters[reason] += _written(record) <= surely
    # A record that cannot be read has a letter, and no result if it does not say whose it is.
    endings["dead_lettered"] = letters.total()
    sure_endings["dead_lettered"] = sure_letters.total()
    counted = Counter({name: n for name, n in life.endings.items() if name != "skipped"})
    assert sure_endings <= counted <= endings
    assert sure_letters <= life.letters <= letters


def _within(
    records: list[ConsumerRecord], began: datetime, end: datetime
) -> Iterator[ConsumerRecord]:
    return (record for record in records if began <= _written(record) < end)


def _written(record: ConsumerRecord) -> datetime:
    return datetime.fromtimestamp((record.timestamp_ms or 0) / 1000, UTC)


def _ending(result: WorkflowResultEvent) -> str:
    if result.status == ResultStatus.SUCCESS:
        return "succeeded"
    expired = result.error_info is not None and result.error_info.reason == Reason.EXPIRED
    return "expired" if expired else "dead_lettered"


def _expired(evidence: Evidence) -> int:
    results = (WorkflowResultEvent.from_bytes(record.value) for record in evidence.results)
    return sum(_ending(result) == "expired" for result in results)


def _compare_commands(letters: Counter[str]) -> None:
    told = json.loads(dlq("figures", "--json").output)
    assert told["open"] == letters.total()
    groups = json.loads(dlq("groups", "--json").output)
    assert sum(group["count"] for group in groups["groups"]) == letters.total()
    for reason, count in letters.items():
        assert json.loads(dlq("list", "--reason", reason, "--json").output)["total"] == count
