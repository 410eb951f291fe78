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
from redrive.kafka.options import GroupProtocol
from redrive.testing.journal import read_journal
from redrive.testing.judging import gather, judge
from redrive.testing.reading import read_topic
from redrive.testing.stage import Stage, event
from redrive.testing.worker import WorkerProcess, wait_until

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
def stage(make_stage: Callable[..., Stage], request: pytest.FixtureRequest) -> Stage:
    stage = make_stage(
        partitions=1,
        REDRIVE_KAFKA__GROUP_PROTOCOL=request.param,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_KAFKA__SESSION_TIMEOUT="6s",
        REDRIVE_KAFKA__TRANSACTION_TIMEOUT="60s",
    )
    set_session(stage)
    return stage


@pytest.mark.invariant("P2", "P4")
def test_a_worker_that_wakes_in_a_node_writes_nothing_more(stage: Stage) -> None:
    stage.send(event({"fate": fate, "seconds": SLOW_S}) for fate in ("sleep", "permanent") * RUNS)
    zombie, heir = (stage.worker(*GRAPH, name=name) for name in ("zombie", "heir"))

    with zombie.running():
        wait_until(
            lambda: executions(stage)["work"] == 2 * RUNS, timeout_s=60, what="all runs at work"
        )
        zombie.signal(signal.SIGSTOP)
        with heir.running():
            stage.wait_settled(timeout_s=SETTLES_WITHIN_S)
            left = checkpoints(stage)
            zombie.signal(signal.SIGCONT)
            wait_until(lambda: has_noticed(zombie), timeout_s=60, what="a loss that was noticed")
            by_heir = f":{heir.pid}"
            assert zombie.stop() == heir.stop() == 0

    judged(stage, {"success": RUNS, "error": RUNS}, {"permanent": RUNS})
    assert all(name.endswith(by_heir) for name in answered_by(stage))
    assert checkpoints(stage) == left
    # What it was doing when it froze is done again by the other; it does nothing more itself.
    assert executions(stage) == {"plan": 2 * RUNS, "work": 4 * RUNS, "write": RUNS}


@pytest.mark.invariant("P2", "P4")
def test_a_worker_that_wakes_before_it_has_sent_its_offsets_is_refused(stage: Stage) -> None:
    stage.send(event({"fate": "success"}) for _ in range(RUNS))
    zombie, heir = frozen_at("produce", stage), stage.worker(*GRAPH, name="heir")

    with zombie.running():
        pid = frozen_pid(stage)
        with heir.running():
            stage.wait_settled(timeout_s=SETTLES_WITHIN_S)
            os.kill(pid, signal.SIGCONT)
            zombie.wait_for("settle.refused")
            wait_until(lambda: has_noticed(zombie), timeout_s=60, what="a loss that was noticed")
            assert zombie.stop() == heir.stop() == 0

    judged(stage, {"success": RUNS}, {})
    assert executions(stage) == {"plan": RUNS, "work": RUNS, "write": RUNS}


@pytest.mark.invariant("P2", "P4")
def test_what_a_frozen_worker_may_yet_commit_is_waited_for(stage: Stage) -> None:
    stage.send(event({"fate": "success"}) for _ in range(RUNS))
    zombie, heir = frozen_at("send_offsets", stage), stage.worker(*GRAPH, name="heir")

    with zombie.running():
        pid = frozen_pid(stage)
        with heir.running():
            heir.wait_for("partition.waiting_for_offsets")
            os.kill(pid, signal.SIGCONT)
            stage.wait_settled(timeout_s=SETTLES_WITHIN_S)
            assert zombie.stop() == heir.stop() == 0

    judged(stage, {"success": RUNS}, {})
    assert executions(stage) == {"plan": RUNS, "work": RUNS, "write": RUNS}


def frozen_at(step: str, stage: Stage) -> WorkerProcess:
    """Return a worker that freezes at a step of settling."""
    shutil.copy(CUT, stage.folder)
    environ = {"CUTS": f"{step}:1", "CUT_BY": "SIGSTOP"}
    return stage.worker(*GRAPH, name="zombie", environ=environ, program=("cut.py",))


def frozen_pid(stage: Stage) -> int:
    """Return the process that has frozen, once it has."""
    told = stage.folder / "frozen"
    wait_until(lambda: told.exists() and told.read_text(), timeout_s=60, what="a frozen worker")
    return int(told.read_text())


def has_noticed(zombie: WorkerProcess) -> bool:
    """Say whether it knows that it has slept too long: by itself, or because it was told so."""
    noticed = ("partition.overslept", "partition.gone")
    return any(logged["event"] in noticed for logged in zombie.events())


def judged(stage: Stage, results: dict[str, int], letters: dict[str, int]) -> None:
    verdict = judge(gather(stage.bootstrap_servers, stage.topics))
    assert verdict.findings == []
    assert (verdict.results, verdict.letters) == (results, letters)


def executions(stage: Stage) -> Counter[str]:
    return Counter(each.node for each in read_journal(stage.folder / "executions.log"))


def checkpoints(stage: Stage) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(stage.folder / "checkpoints.db")) as database:
        stored = database.execute("SELECT thread_id, checkpoint_id FROM checkpoints")
        written = database.execute("SELECT thread_id, checkpoint_id, task_id, idx FROM writes")
        return sorted([*stored, *written])


def answered_by(stage: Stage) -> set[str]:
    records = read_topic(stage.bootstrap_servers, stage.topics.results)
    answers = (WorkflowResultEvent.from_bytes(record.value) for record in records)
    return {answer.run.worker for answer in answers if answer.run is not None}
