"""Sessions end because the broker stood still: nobody died, so nobody is suspected of a death."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from redrive.clock import SYSTEM
from redrive.events import WorkflowEvent
from redrive.testing.broker import LocalBroker
from redrive.testing.broker_config import FREEZABLE
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

AGENTS = Path(__file__).parent / "agents"
SESSION_S = 2
RUNS = 4


@pytest.mark.timeout(900)
@pytest.mark.invariant("P5")
@pytest.mark.parametrize(
    ("times", "checkpoints"),
    [
        pytest.param(1, "none", id="once"),
        pytest.param(3, "sqlite:///checkpoints.db", id="three-times", marks=pytest.mark.nightly),
        pytest.param(20, "none", id="twenty-times", marks=pytest.mark.nightly),
    ],
)
def test_a_broker_that_stands_still_condemns_nobody(
    times: int, checkpoints: str, broker_tools: None, tmp_path: Path
) -> None:
    del broker_tools  # they are there
    shutil.copy(AGENTS / "fates.py", tmp_path)
    short = {"group.min.session.timeout.ms": "1000"}
    with LocalBroker({**FREEZABLE, **short}) as broker:
        servers = broker.bootstrap_servers
        settings = {
            "EXECUTIONS": str(tmp_path / "executions.log"),
            "REDRIVE_CHECKPOINTS__URL": checkpoints,
            "REDRIVE_KAFKA__SESSION_TIMEOUT": f"{SESSION_S}s",
        }
        # Three workers and two partitions: one of them has none, and lives all the same.
        env = KafkaEnv(servers, create_topics(servers, partitions=2), tmp_path, settings)
        workers = [env.worker("--graph", "*=fates:builder", name=f"w{n}") for n in range(3)]
        with workers[0].running(), workers[1].running(), workers[2].running():
            for worker in workers:
                worker.wait_for("worker.ready")
            wait_until(lambda: _assigned(workers) >= 2, timeout_s=60, what="all is assigned")
            log = tmp_path / "executions.log"
            for freeze in range(times):
                runs = [event({"fate": "sleep", "seconds": 10}) for _ in range(RUNS)]
                env.send(runs)
                wait_until(
                    partial(_have_begun, log, runs),
                    timeout_s=90,
                    what=f"the runs of freeze {freeze} have begun",
                )
                before = _assigned(workers)
                broker.pause()
                # Real time: the broker's own clock ends the sessions.
                SYSTEM.block(2 * SESSION_S)
                broker.resume()
                wait_until(
                    partial(_are_dealt, workers, before + 2),
                    timeout_s=90,
                    what=f"all is assigned after freeze {freeze}",
                )
            suspects = [
                line["suspects"] for each in workers for line in each.events("partition.assigned")
            ]
            env.wait_settled(timeout_s=300)

    assert not any(suspects)


def _have_begun(log: Path, runs: list[WorkflowEvent]) -> bool:
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return all(f"{run.event_id}/" in text for run in runs)


def _are_dealt(workers: list[WorkerProcess], times: int) -> bool:
    return _assigned(workers) >= times


def _assigned(workers: list[WorkerProcess]) -> int:
    return sum(
        1
        for worker in workers
        for line in worker.events()
        if line.get("event") in ("partition.assigned", "partition.back")
    )
