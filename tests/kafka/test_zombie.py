"""A frozen worker loses its partition, another one ends its runs, it wakes: nothing of it counts.

Frozen with SIGSTOP for longer than the session lasts: in the middle of a node, and in the middle of
settling. Both workers have no id and share their checkpoints.
"""

import os
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.kafka.holding import set_session

from redrive.events import WorkflowResultEvent
from redrive.kafka.kafka_settings import GroupProtocol
from redrive.testing.journal import read_journal
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess, wait_until

CUT = Path(__file__).parent / "agents" / "cut.py"
GRAPH = ("--graph", "*=fates:builder")
RUNS = 4
SLOW_S = 3.0
SETTLES_WITHIN_S = 60


@pytest.fixture(
    params=[
        GroupProtocol.CLASSIC,
        pytest.param(GroupProtocol.CONSUMER, marks=pytest.mark.nightly),
    ]
)
def env(make_stage: Callable[..., KafkaEnv], request: pytest.FixtureRequest) -> KafkaEnv:
    env = make_stage(
        partitions=1,
        REDRIVE_KAFKA__GROUP_PROTOCOL=request.param,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_KAFKA__SESSION_TIMEOUT="6s",
        REDRIVE_KAFKA__TRANSACTION_TIMEOUT="60s",
    )
    set_session(env)
    return env


@pytest.mark.invariant("P2", "P4")
def test_a_worker_that_wakes_in_a_node_writes_nothing_more(env: KafkaEnv) -> None:
    env.send(event({"fate": fate, "seconds": SLOW_S}) for fate in ("sleep", "permanent") * RUNS)
    zombie, heir = (env.worker(*GRAPH, name=name) for name in ("zombie", "heir"))

    with zombie.running():
        wait_until(
            lambda: executions(env)["work"] == 2 * RUNS, timeout_s=60, what="all runs at work"
        )
        zombie.signal(signal.SIGSTOP)
        with heir.running():
            env.wait_settled(timeout_s=SETTLES_WITHIN_S)
            left = checkpoints(env)
            zombie.signal(signal.SIGCONT)
            wait_until(lambda: has_noticed(zombie), timeout_s=60, what="a loss that was noticed")
            by_heir = f":{heir.pid}"
            assert zombie.stop() == heir.stop() == 0

    judged(env, {"success": RUNS, "error": RUNS}, {"permanent": RUNS})
    assert all(name.endswith(by_heir) for name in answered_by(env))
    assert checkpoints(env) == left
    # What it was doing when it froze is done again by the other; it does nothing more itself.
    assert executions(env) == {"plan": 2 * RUNS, "work": 4 * RUNS, "write": RUNS}


@pytest.mark.invariant("P2", "P4")
def test_a_worker_that_wakes_before_it_has_sent_its_offsets_is_refused(env: KafkaEnv) -> None:
    env.send(event({"fate": "success"}) for _ in range(RUNS))
    zombie, heir = frozen_at("produce", env), env.worker(*GRAPH, name="heir")

    with zombie.running():
        pid = frozen_pid(env)
        with heir.running():
            env.wait_settled(timeout_s=SETTLES_WITHIN_S)
            os.kill(pid, signal.SIGCONT)
            zombie.wait_for("settle.refused")
            wait_until(lambda: has_noticed(zombie), timeout_s=60, what="a loss that was noticed")
            assert zombie.stop() == heir.stop() == 0

    judged(env, {"success": RUNS}, {})
    assert executions(env) == {"plan": RUNS, "work": RUNS, "write": RUNS}


@pytest.mark.invariant("P2", "P4")
def test_what_a_frozen_worker_may_yet_commit_is_waited_for(env: KafkaEnv) -> None:
    env.send(event({"fate": "success"}) for _ in range(RUNS))
    zombie, heir = frozen_at("send_offsets", env), env.worker(*GRAPH, name="heir")

    with zombie.running():
        pid = frozen_pid(env)
        with heir.running():
            heir.wait_for("partition.waiting_for_offsets")
            os.kill(pid, signal.SIGCONT)
            env.wait_settled(timeout_s=SETTLES_WITHIN_S)
            assert zombie.stop() == heir.stop() == 0

    judged(env, {"success": RUNS}, {})
    assert executions(env) == {"plan": RUNS, "work": RUNS, "write": RUNS}


def frozen_at(step: str, env: KafkaEnv) -> WorkerProcess:
    """Return a worker that freezes at a step of settling."""
    shutil.copy(CUT, env.folder)
    environ = {"CUTS": f"{step}:1", "CUT_BY": "SIGSTOP"}
    return env.worker(*GRAPH, name="zombie", environ=environ, program=("cut.py",))


def frozen_pid(env: KafkaEnv) -> int:
    """Return the process that has frozen, once it has."""
    told = env.folder / "frozen"
    wait_until(lambda: told.exists() and told.read_text(), timeout_s=60, what="a frozen worker")
    return int(told.read_text())


def has_noticed(zombie: WorkerProcess) -> bool:
    """Say whether it knows that it has slept too long: by itself, or because it was told so."""
    noticed = ("partition.overslept", "partition.gone")
    return any(logged["event"] in noticed for logged in zombie.events())


def judged(env: KafkaEnv, results: dict[str, int], letters: dict[str, int]) -> None:
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert (verdict.results, verdict.letters) == (results, letters)


def executions(env: KafkaEnv) -> Counter[str]:
    return Counter(each.node for each in read_journal(env.folder / "executions.log"))


def checkpoints(env: KafkaEnv) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(env.folder / "checkpoints.db")) as database:
        stored = database.execute("SELECT thread_id, checkpoint_id FROM checkpoints")
        written = database.execute("SELECT thread_id, checkpoint_id, task_id, idx FROM writes")
        return sorted([*stored, *written])


def answered_by(env: KafkaEnv) -> set[str]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    answers = (WorkflowResultEvent.from_bytes(record.value) for record in records)
    return {answer.run.worker for answer in answers if answer.run is not None}
