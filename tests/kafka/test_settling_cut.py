"""A worker killed with -9 at every step of settling: each event ends once, no node runs twice.

What is killed is a real worker on a real broker. `agents/cut.py` kills it, once while it commits
what may start, and once while it settles runs that have ended.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from redrive.testing.journal import Execution, read_journal, went_back
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

CUT = Path(__file__).parent / "agents" / "cut.py"
STEPS = ("init", "nothing", "begin", "produce", "send_offsets", "flush", "committing", "commit")
NODES = ("plan", "work", "write")
FATES = ("transient", "permanent", "success", "success", "success")
EVENTS = 60


@pytest.mark.invariant("P1", "P2", "P3", "P4", "P6")
def test_a_worker_killed_at_any_step_of_settling_ends_each_run_once(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    cuts = [f"{step}:{batch}" for batch in (1, 3) for step in STEPS]

    kills = judged(make_stage, cuts, "--worker-id", "w1")

    assert any(kill.about_to_settle for kill in kills)


@pytest.mark.invariant("P1", "P2", "P3", "P4", "P6")
def test_what_a_nameless_worker_leaves_open_does_not_keep_the_next_one_from_settling(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    judged(make_stage, ["flush:3", "committing:3"])


class Kill(NamedTuple):
    """How many node executions had begun by then, and which runs were about to be settled."""

    begun: int
    about_to_settle: list[str]


def judged(make_stage: Callable[..., KafkaEnv], cuts: Sequence[str], *named: str) -> list[Kill]:
    env = make_stage(
        partitions=2,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_KAFKA__SESSION_TIMEOUT="6s",
        REDRIVE_KAFKA__TRANSACTION_TIMEOUT="3s",
        REDRIVE_RETRY__INITIAL_DELAY="100ms",
        # Kills from outside cannot be told from guilt, and there are many.
        REDRIVE_RETRY__MAX_CRASHES="100",
        REDRIVE_WORKER__IN_FLIGHT="4",
        CUTS=",".join(cuts),
    )
    shutil.copy(CUT, env.folder)
    fates = [FATES[number % len(FATES)] for number in range(EVENTS)]
    env.send(event({"fate": fate}) for fate in fates)

    with env.worker(*named, "--graph", "*=fates:builder", program=("cut.py",)).running() as lives:
        env.wait_settled(timeout_s=100)
        assert lives.stop() == 0

    proofs = [proof.read_text().split() for proof in env.folder.glob("killed.*")]
    kills = [Kill(int(begun), about_to_settle) for begun, *about_to_settle in proofs]
    assert len(kills) == len(cuts)
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    dead = fates.count("permanent")
    assert verdict.results == {"success": EVENTS - dead, "error": dead}
    assert verdict.letters == {"permanent": dead}
    journal = read_journal(env.folder / "executions.log")
    assert went_back(journal, NODES) + ended_twice(journal, kills) == []
    return kills


def ended_twice(journal: Sequence[Execution], kills: Sequence[Kill]) -> list[str]:
    """Say which runs did their last node after they had ended."""
    return [
        f"{event_id}: 'write' again after it had ended"
        for kill in kills
        for event_id in kill.about_to_settle
        if any(e.node == "write" and e.thread.startswith(event_id) for e in journal[kill.begun :])
    ]
