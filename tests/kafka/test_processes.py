"""Several workers under one parent: they share the work, and each is replaced by itself."""

import os
import signal
from collections import Counter
from collections.abc import Callable

import pytest
from tests.kafka.seen_from_outside import Outside, Said, free_port

from redrive.events import WorkflowResultEvent
from redrive.testing.journal import read_journal
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess, wait_until

TWO = ("--processes", "2", "--worker-id", "w", "--graph", "*=fates:builder")
FAST = {"REDRIVE_RETRY__INITIAL_DELAY": "50ms", "REDRIVE_RETRY__JITTER": "false"}
READY = Said(200, "working")


@pytest.fixture
def outside() -> Outside:
    return Outside(free_port())


def wait_until_ready(outside: Outside) -> None:
    ready = lambda: outside.probe("/readyz") == READY  # noqa: E731
    wait_until(ready, timeout_s=90, what="both workers are ready")


def results(env: KafkaEnv) -> dict[str, WorkflowResultEvent]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    found = [WorkflowResultEvent.from_bytes(record.value) for record in records]
    return {result.correlation_id: result for result in found}


def answered_by(result: WorkflowResultEvent) -> tuple[str, int]:
    """Return who answered, and with how many attempts."""
    assert result.run is not None
    return str(result.run.worker), result.run.attempts


def executed(env: KafkaEnv, node: str) -> Counter[str]:
    """Count the executions of a node by event."""
    journal = read_journal(env.folder / "executions.log")
    return Counter(each.thread.partition("/")[0] for each in journal if each.node == node)


def deaths(worker: WorkerProcess) -> list[tuple[object, object]]:
    return [(one["worker"], one["how"]) for one in worker.events("supervisor.child_died")]


@pytest.mark.invariant("P1", "P2", "P14")
def test_one_of_two_workers_is_killed_and_only_it_is_replaced(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=4, REDRIVE_CHECKPOINTS__URL="none", **FAST)
    fates = Counter(success=30, transient=6, permanent=4)

    def told(endings: int) -> bool:
        return outside.metric("redrive_runs_total") == endings

    with env.worker(*TWO, environ=outside.environ, supervised=True).running() as worker:
        wait_until_ready(outside)
        env.send(event({"fate": fate}) for fate in fates.elements())
        wait_until(lambda: told(40), timeout_s=60, what="all endings are told")
        before = worker.child_pids
        shared = {answered_by(result)[0] for result in results(env).values()}
        # Nothing ends from here on until one is dead: what it has counted, its parent knows.
        sleeping = [event({"fate": "sleep", "seconds": 4.0}) for _ in range(16)]
        env.send(sleeping)
        asleep = {sent.event_id for sent in sleeping}
        begun = lambda: executed(env, "work").keys() >= asleep  # noqa: E731
        wait_until(begun, timeout_s=60, what="all runs are under way")

        os.kill(before["w-1"], signal.SIGKILL)

        env.wait_settled(timeout_s=90)
        wait_until(lambda: told(56), timeout_s=60, what="all endings are told")
        runs = outside.metrics("redrive_runs_total", "ending")
        crashes = outside.metric("redrive_crashes_total")
        wait_until_ready(outside)
        held = outside.metric("redrive_partitions_held")
        after = worker.child_pids
        assert worker.stop() == 0
        stopped = list(worker.events("worker.stopped"))

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    answers = results(env)
    ran = executed(env, "work")
    cut = {one for one in asleep if ran[one] == 2}
    assert verdict.findings == []
    assert shared == {"w-0", "w-1"}
    assert (before["w-0"], before["w-1"] != after["w-1"]) == (after["w-0"], True)
    assert deaths(worker) == [("w-1", "killed by SIGKILL (possibly out of memory)")]
    assert {one["worker"] for one in stopped} == {"w-0", "w-1"}
    assert runs["succeeded",] == verdict.results["success"] == 52
    assert runs["dead_lettered",] == sum(verdict.letters.values()) == 4
    # The new one has run again what was cut, and nothing else was run twice.
    assert {one for one in asleep if answered_by(answers[one])[0] == "w-1"} == cut
    assert 0 < crashes == len(cut) < 16
    assert all(ran[one] == 1 for one in asleep - cut)
    assert held == 4


@pytest.mark.invariant("P7", "P8")
def test_a_node_that_does_not_end_costs_only_the_worker_that_it_is_in(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(
        partitions=2,
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_WORKER__GRACE="5s",
        REDRIVE_GRAPHS__STUCK__TARGET="fates:builder",
        REDRIVE_GRAPHS__STUCK__ATTEMPT_TIMEOUT="1s",
    )
    stuck = event({"fate": "stuck", "seconds": 600.0}, workflow_id="stuck")
    beside = event({"fate": "sleep", "seconds": 12.0})

    with env.worker(*TWO, environ=outside.environ, supervised=True).running() as worker:
        wait_until_ready(outside)
        before = worker.child_pids
        env.send([beside], partition=0)
        env.send([stuck], partition=1)
        died = worker.wait_for("supervisor.child_died", timeout_s=60)
        env.wait_settled(timeout_s=60)
        wait_until_ready(outside)
        after = worker.child_pids
        assert worker.stop() == 0

    answers = results(env)
    guilty, other = str(died["worker"]), {"w-0": "w-1", "w-1": "w-0"}[str(died["worker"])]
    assert (died["how"], died["restart_in_s"]) == ("exit code 75", 0.0)
    assert len(deaths(worker)) == 1
    assert (before[other], before[guilty] != after[guilty]) == (after[other], True)
    assert answered_by(answers[beside.event_id]) == (other, 1)
    assert executed(env, "work")[beside.event_id] == 1
    assert answers[stuck.event_id].status == "error"
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.invariant("P2")
def test_of_a_worker_and_a_stranger_with_its_name_one_ends_with_4_and_all_of_its_parent(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL="none")
    stranger = ("--worker-id", "w-1", "--graph", "*=fates:builder")

    with env.worker(*TWO, supervised=True).running() as worker:
        ready = lambda: len(list(worker.events("partition.assigned"))) >= 4  # noqa: E731
        wait_until(ready, timeout_s=90, what="both workers are at work")
        with env.worker(*stranger, name="stranger").running() as other:
            # Both have joined a moment ago: either may be the one that gives way.
            over = lambda: not (worker.running_now and other.running_now)  # noqa: E731
            wait_until(over, timeout_s=120, what="one of the two ends")
            ended, stays = (worker, other) if other.running_now else (other, worker)
            code = ended.wait(timeout_s=10)
            env.send(event({}) for _ in range(10))
            env.wait_settled(timeout_s=60)
            assert stays.stop() == 0

    all_stop = [(one["worker"], one["code"]) for one in worker.events("supervisor.stopping_all")]
    assert code == 4
    assert all_stop == ([("w-1", 4)] if ended is worker else [])
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.invariant("P12")
def test_workers_without_a_name_drain_together_and_leave_at_once(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=2, REDRIVE_CHECKPOINTS__URL="none")
    unnamed = ("--processes", "2", "--graph", "*=fates:builder")
    sleeping = [event({"fate": "sleep", "seconds": 2.0}) for _ in range(20)]
    asleep = {sent.event_id for sent in sleeping}

    with env.worker(*unnamed, environ=outside.environ, supervised=True).running() as worker:
        wait_until_ready(outside)
        # Who joins later makes the first one unready for a moment: both, at one time.
        wait_until(
            lambda: outside.metrics("redrive_worker_ready", "process") == {("0",): 1, ("1",): 1},
            timeout_s=90,
            what="both workers are ready",
        )
        names = outside.metrics("redrive_worker_info", "worker")
        env.send(sleeping)
        begun = lambda: executed(env, "work").keys() >= asleep  # noqa: E731
        wait_until(begun, timeout_s=60, what="all runs are under way")
        assert worker.stop() == 0
        drained = {one["worker"]: one for one in worker.events("worker.drained")}
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    with env.worker("--graph", "*=fates:builder", name="next").running() as after:
        after.wait_for("worker.ready", timeout_s=60)
        # Far less than the session timeout: nobody has kept a seat.
        after.wait_for("partition.assigned", timeout_s=25)

    workers = worker.child_pids.keys()
    assert names == Counter({(name,): 1 for name in workers})
    assert drained.keys() == workers
    assert {answered_by(result)[0] for result in results(env).values()} == workers
    assert (verdict.findings, verdict.results["success"]) == ([], 20)
