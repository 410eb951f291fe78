"""What differs with KIP-848, `kafka.group_protocol = consumer`: whose seat it is, whose session."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kafka.holding import held, set_session

from redrive.testing.journal import read_journal, went_back
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until

AGENTS = Path(__file__).parent / "agents"
GRAPH = ("--graph", "*=fates:builder")
NODES = ("plan", "work", "write")
RUNS = 8


@pytest.fixture
def env(make_stage: Callable[..., KafkaEnv]) -> KafkaEnv:
    return make_stage(
        REDRIVE_KAFKA__GROUP_PROTOCOL="consumer",
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
    )


@pytest.mark.invariant("P1", "P2", "P3", "P4")
def test_a_killed_worker_waits_for_its_seat_until_its_old_session_has_ended(env: KafkaEnv) -> None:
    set_session(env)
    shutil.copy(AGENTS / "cut.py", env.folder)
    env.send(event({"fate": "success"}) for _ in range(RUNS))

    # The next life begins at once, while the session of the one before goes on.
    cut = {"CUTS": "flush:2"}
    named = ("--worker-id", "w1", *GRAPH)
    with env.worker(*named, environ=cut, program=("cut.py",)).running() as lives:
        lives.wait_for("kafka.waiting_for_seat", timeout_s=120)
        env.wait_settled(timeout_s=120)
        told = next(lives.events("group.session_shorter"))
        assert lives.stop() == 0

    assert (told["group_s"], told["ours_s"]) == (6.0, 30.0)
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": RUNS}
    assert went_back(read_journal(env.folder / "executions.log"), NODES) == []


def test_workers_change_from_one_protocol_to_the_other_one_by_one(env: KafkaEnv) -> None:
    classic = {"REDRIVE_KAFKA__GROUP_PROTOCOL": "classic"}
    old = env.worker(*GRAPH, name="old", environ=classic)
    new = env.worker(*GRAPH, name="new")
    everything = list(range(4))

    with old.running():
        wait_until(lambda: held(old) == everything, timeout_s=120, what="the old one has all")
        with new.running():
            shared = lambda: held(old, new) == everything and held(old) and held(new)  # noqa: E731
            wait_until(shared, timeout_s=120, what="both have a share")
            env.send(event({"fate": "success"}) for _ in range(RUNS))
            env.wait_settled(timeout_s=120)
            assert old.stop() == 0
            wait_until(lambda: held(new) == everything, timeout_s=120, what="the new one has all")
            assert new.stop() == 0

    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []
