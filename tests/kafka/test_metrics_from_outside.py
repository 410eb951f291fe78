"""What a worker counts against what the topics hold, and what it says of the work at hand."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import START, StateGraph
from prometheus_client import CollectorRegistry
from tests.kafka.seen_from_outside import Outside, free_port

from redrive import LangGraphKafkaConsumer, Settings
from redrive.clock import SYSTEM
from redrive.consumer.observing import AttemptEnd
from redrive.consumer.outcome import Account
from redrive.dead_letter.record import DeadLetter
from redrive.graphs import CheckpointSettings
from redrive.telemetry.exposition import MetricsCollector
from redrive.telemetry.metrics import Metrics
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until

GRAPHS = ("--worker-id", "w1", "--graph", "*=fates:builder")
FAST = {"REDRIVE_RETRY__INITIAL_DELAY": "50ms", "REDRIVE_RETRY__JITTER": "false"}


@pytest.fixture
def outside() -> Outside:
    return Outside(free_port())


@pytest.mark.invariant("P14")
def test_the_figures_agree_with_the_topics(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=2, REDRIVE_CHECKPOINTS__URL="none", **FAST)
    fates = Counter(success=30, transient=5, permanent=4, fail=2)
    env.send(event({"fate": fate}) for fate in fates.elements())
    other = event({"fate": "permanent"}, workflow_id="other")
    skipped = event({}).model_copy(update={"event_type": "workflow.completed"})
    env.send([b"{", other, skipped])
    past = round((SYSTEM.now().timestamp() - 60) * 1000)
    env.send([event({})], headers={"redrive-deadline": str(past)})

    with env.worker(*GRAPHS, environ=outside.environ, supervised=True).running() as worker:
        env.wait_settled(timeout_s=60)
        # The loop hears of an ending just after it is durable.
        told = lambda: outside.metric("redrive_runs_total") == 45  # noqa: E731
        wait_until(told, timeout_s=60, what="all endings are told")
        runs = outside.metrics("redrive_runs_total", "ending")
        letters = outside.metrics("redrive_letters_total", "reason")
        by_workflow = outside.metrics("redrive_letters_total", "workflow")
        attempts = outside.metrics("redrive_attempts_total", "kind", "number")
        ages = outside.metrics("redrive_event_to_end_seconds_count", "workflow")
        # Of a standstill is told twice a second, and five times a second to the parent.
        at_rest = lambda: not any(map(outside.metric, AT_REST))  # noqa: E731
        wait_until(at_rest, timeout_s=60, what="nothing is left")
        settles = outside.metrics("redrive_settles_total", "result")
        assert worker.stop() == 0

    evidence = gather(env.bootstrap_servers, env.topics)
    verdict = judge(evidence)
    assert verdict.findings == []
    assert runs["succeeded",] == verdict.results["success"] == 35
    # A record that cannot be read has a letter, and no result if it does not say whose it is.
    assert runs["expired",] + runs["dead_lettered",] == verdict.results["error"] + 1
    assert (runs["expired",], runs["skipped",]) == (1, 1)
    assert runs["dead_lettered",] == sum(verdict.letters.values())
    assert {reason: count for (reason,), count in letters.items()} == verdict.letters
    stored = [DeadLetter.model_validate_json(record.value or b"") for record in evidence.letters]
    of_workflows = Counter(letter.context.workflow_id or "" for letter in stored)
    assert {workflow: count for (workflow,), count in by_workflow.items()} == of_workflows
    assert attempts["none", "1"] == 30
    assert attempts["none", "2"] == 5
    assert attempts["permanent", "1"] == 5
    assert [attempts["transient", str(number)] for number in range(1, 6)] == [7, 2, 2, 2, 0]
    assert sum(ages.values()) == 43
    assert settles["stored",] >= 1


AT_REST = (
    "redrive_attempts_in_flight",
    "redrive_buffered_events",
    "redrive_buffered_bytes",
    "redrive_settles_waiting",
    "redrive_stuck_seconds",
    "redrive_oldest_unfinished_seconds",
    "redrive_observer_failures_total",
    "redrive_crashes_total",
    "redrive_spooled_letters",
)


def test_a_run_that_moves_is_old_but_not_stuck_and_one_that_does_not_is_both(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=2, **FAST)
    env.send([event({"fate": "sleep", "seconds": 60})], partition=0)
    env.send([event({"seconds": 60})], partition=1)
    env.folder.joinpath("moving.py").write_text(MOVING)
    graphs = ("--worker-id", "w1", "--graph", "*=moving:builder")

    def old() -> bool:
        ages = outside.metrics("redrive_oldest_unfinished_seconds", "partition")
        return len(ages) == 2 and min(ages.values()) > 4

    with env.worker(*graphs, environ=outside.environ).running() as worker:
        worker.wait_for("worker.ready")
        wait_until(old, timeout_s=60, what="both runs are old")
        stuck = outside.metrics("redrive_stuck_seconds", "partition")
        in_flight = outside.metric("redrive_attempts_in_flight")

    assert in_flight == 2
    assert stuck["0",] > 3
    assert stuck["1",] < 2


MOVING = """
import asyncio

import fates
from langchain_core.callbacks import adispatch_custom_event
from langgraph.graph import END, START, StateGraph


async def work(state: fates.State) -> fates.State:
    for _ in range(int(state["seconds"] * 10)):
        await asyncio.sleep(0.1)
        if state.get("fate") != "sleep":
            await adispatch_custom_event("beat", {})
    return {}


builder = StateGraph(fates.State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
"""


def test_a_held_retry_is_not_stuck_and_says_when_it_is_due(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=1, REDRIVE_RETRY__INITIAL_DELAY="50s", REDRIVE_RETRY__JITTER="0")
    env.send([event({"fate": "transient"})])

    with env.worker(*GRAPHS, environ=outside.environ).running() as worker:
        worker.wait_for("run.retry_scheduled")
        old = lambda: outside.metric("redrive_oldest_unfinished_seconds") > 2  # noqa: E731
        wait_until(old, timeout_s=60, what="the run is old")
        waiting = outside.metrics("redrive_waiting", "for")
        waited_s = outside.metrics("redrive_waiting_seconds", "for")
        due_s = outside.metric("redrive_retry_next_due_seconds")
        stuck_s = outside.metric("redrive_stuck_seconds")

    assert {wait: count for wait, count in waiting.items() if count} == {("retry",): 1}
    assert 0 < waited_s["retry",] < 50
    assert 30 < due_s < 50
    assert stuck_s == 0


def test_a_death_is_counted_by_the_next_life_and_a_spooled_letter_by_its_file(
    make_stage: Callable[..., KafkaEnv], outside: Outside, tmp_path: Path
) -> None:
    env = make_stage(partitions=1, **FAST)
    tmp_path.joinpath("redrive-letters.jsonl").write_text('{"dlq_id": "x"}\n')
    executions = tmp_path / "executions.log"
    begun = lambda: executions.exists() and "work" in executions.read_text()  # noqa: E731
    env.send([event({"fate": "sleep", "seconds": 3})])
    worker = env.worker(*GRAPHS, environ=outside.environ)

    try:
        worker.start()
        wait_until(begun, timeout_s=60, what="the run has begun")
        worker.kill()
        worker.start()
        env.wait_settled(timeout_s=60)
        crashes = outside.metric("redrive_crashes_total")
        spooled = outside.metric("redrive_spooled_letters")
        assigned = outside.metrics("redrive_rebalances_total", "change")["assigned",]
        (info,) = outside.metrics("redrive_worker_info", "worker", "group", "delivery")
    finally:
        worker.close()

    assert (crashes, spooled, assigned) == (1, 1, 1)
    assert info == ("w1", env.topics.group, "exactly_once")


def test_names_of_workflows_beyond_the_most_are_counted_together(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    env.send(event({}, workflow_id=f"w-{uuid.uuid4()}") for _ in range(70))

    with env.worker(*GRAPHS, environ=outside.environ).running():
        env.wait_settled(timeout_s=60)
        told = lambda: outside.metric("redrive_runs_total") == 70  # noqa: E731
        wait_until(told, timeout_s=60, what="all endings are told")
        names = outside.metrics("redrive_runs_total", "workflow")

    assert len(names) == 51  # fifty of them, and the rest
    assert names["other",] == 20


class State(TypedDict, total=False):
    text: str


class Diary:
    """Watches a worker, and has a bug."""

    def __init__(self) -> None:
        self.endings: list[Account] = []

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        raise ZeroDivisionError(attempt.number)

    def settled(self, accounts: Sequence[Account]) -> None:
        self.endings.extend(accounts)


async def test_a_worker_in_a_program_tells_its_own_registry_and_observer(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env, diary, metrics, registry = make_stage(), Diary(), Metrics(), CollectorRegistry()
    registry.register(MetricsCollector(metrics.read))
    settings = Settings(kafka=env.kafka_settings(), checkpoints=CheckpointSettings(url="none"))
    sent = event({})
    env.send([sent])

    async with LangGraphKafkaConsumer(
        settings, {"*": answering()}, observers=[diary], metrics=metrics
    ):
        async with asyncio.timeout(40):
            while not diary.endings:  # noqa: ASYNC110 - the worker runs on this loop
                await asyncio.sleep(0.05)

    (ending,) = diary.endings
    labels = {"workflow": "fates", "ending": "succeeded"}
    assert (ending.event_id, ending.ending, ending.attempts) == (sent.event_id, "succeeded", 1)
    assert ending.graph is not None
    assert registry.get_sample_value("redrive_runs_total", labels) == 1
    failed = registry.get_sample_value("redrive_observer_failures_total", {"observer": "Diary"})
    assert failed == 1


def answering() -> StateGraph[State, None, State, State]:
    graph = StateGraph(State)
    graph.add_node("answer", lambda state: state)
    graph.add_edge(START, "answer")
    return graph
